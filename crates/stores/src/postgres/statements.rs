//! The writer's statements, prepared once for each of its connections.
//!
//! A statement that is not prepared costs a round trip more, and in the middle of a pipeline it
//! would stop all that follow. Every one takes whole columns, so that a batch costs as many
//! statements as a single commit.

use tokio_postgres::{Client, Error, Statement};

use super::gate::ENTER;

/// Locks the rows of these sessions, in the order that everybody locks them in. What it gives is
/// what stands there once whoever wrote before has ended.
const LOCK_SESSIONS: &str = "SELECT key, id, version, epoch, last_seq FROM sessions
    WHERE key = ANY($1::text[]) ORDER BY key FOR NO KEY UPDATE";

/// Which of them nobody holds.
const FREE_SESSIONS: &str = "SELECT key FROM sessions
    WHERE key = ANY($1::text[]) ORDER BY key FOR NO KEY UPDATE SKIP LOCKED";

const NAMED_SESSIONS: &str = "SELECT key FROM sessions WHERE key = ANY($1::text[])";

/// Makes rows for sessions that must not exist yet.
const MAKE_SESSIONS: &str = "INSERT INTO sessions (key, version, epoch, last_seq, snapshot)
    SELECT n.key, 0, 0, 0, ''::bytea FROM unnest($1::text[]) AS n(key) ORDER BY n.key
    ON CONFLICT (key) DO NOTHING RETURNING key, id";

/// Remembers messages that nobody remembers.
const CLAIM_MESSAGES: &str = "INSERT INTO seen AS s
      (key, body_hash, until, session_id, session, seq, action, turn, queue_position)
    SELECT n.key, n.body_hash, n.until, c.id, n.session, n.seq, n.action, n.turn, n.queue_position
    FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::bigint[],
        $7::smallint[], $8::uuid[], $9::bigint[])
      AS n(key, body_hash, until, whose, session, seq, action, turn, queue_position)
    JOIN sessions c ON c.key = n.whose ORDER BY n.key
    ON CONFLICT (key) DO UPDATE SET body_hash = excluded.body_hash, until = excluded.until,
      session_id = excluded.session_id, session = excluded.session, seq = excluded.seq,
      action = excluded.action, turn = excluded.turn, queue_position = excluded.queue_position
    WHERE s.until < $10::bigint RETURNING s.key";

/// What others remember of these messages; what this transaction has claimed is left out.
const LOOK_AT_MESSAGES: &str = "SELECT s.key, s.body_hash, s.until, coalesce(s.session, c.key),
      s.seq, s.action, s.turn, s.queue_position
    FROM seen s LEFT JOIN sessions c ON c.id = s.session_id
    WHERE s.key = ANY($1::uuid[])
      AND s.xmin IS DISTINCT FROM pg_current_xact_id_if_assigned()::xid";

const LOOK_AT_LETTERS: &str = "SELECT c.id, d.seq
    FROM unnest($1::text[], $2::bigint[]) AS n(whose, seq) JOIN sessions c ON c.key = n.whose
    JOIN dead_letters d ON d.session_id = c.id AND d.seq = n.seq";

/// Parts whose texts are there.
const LOOK_AT_PARTS: &str = "SELECT c.id, p.reply, p.part, p.body
    FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS n(whose, reply, part)
    JOIN sessions c ON c.key = n.whose
    JOIN parts p ON p.session_id = c.id AND p.reply = n.reply AND p.part = n.part
    WHERE p.said <> ''::bytea";

const UNDO_MESSAGES: &str = "DELETE FROM seen WHERE key = ANY($1::uuid[])";

const UNDO_SESSIONS: &str = "DELETE FROM sessions WHERE id = ANY($1::bigint[])";

const PUT_TURNS: &str = "INSERT INTO turns (id, session_id, body)
    SELECT n.id, n.session_id, n.body FROM unnest($1::uuid[], $2::bigint[], $3::bytea[])
      WITH ORDINALITY AS n(id, session_id, body, place)
    ORDER BY n.place ON CONFLICT (id) DO UPDATE SET body = excluded.body";

const PUT_PARTS: &str = "INSERT INTO parts (session_id, reply, part, state, body, said)
    SELECT n.session_id, n.reply, n.part, n.state, n.body, n.said
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::smallint[], $5::bytea[], $6::bytea[])
      AS n(session_id, reply, part, state, body, said)
    ON CONFLICT (session_id, reply, part) DO UPDATE SET state = excluded.state,
      body = excluded.body,
      said = CASE WHEN excluded.said = ''::bytea THEN parts.said ELSE excluded.said END";

const PUT_LETTERS: &str = "INSERT INTO dead_letters (session_id, seq, body)
    SELECT n.session_id, n.seq, n.body FROM unnest($1::bigint[], $2::bigint[], $3::bytea[])
      WITH ORDINALITY AS n(session_id, seq, body, place) ORDER BY n.place";

const TAKE_LETTERS: &str = "DELETE FROM dead_letters d
    USING unnest($1::bigint[], $2::bigint[]) AS n(session_id, seq)
    WHERE d.session_id = n.session_id AND d.seq = n.seq";

const PUT_DISAPPEARING: &str = "INSERT INTO disappearing (session_id, seq, seconds, due_at)
    SELECT n.session_id, n.seq, n.seconds, n.due_at
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
      AS n(session_id, seq, seconds, due_at)";

/// What is there already, `u`, and what is added; sums stop at the greatest number.
macro_rules! grown_sums {
    () => {
        "requests = least(u.requests, 9223372036854775807 - excluded.requests) + excluded.requests,
      input = least(u.input, 9223372036854775807 - excluded.input) + excluded.input,
      output = least(u.output, 9223372036854775807 - excluded.output) + excluded.output,
      cached = least(u.cached, 9223372036854775807 - excluded.cached) + excluded.cached,
      cache_write = least(u.cache_write, 9223372036854775807 - excluded.cache_write)
        + excluded.cache_write,
      cost = least(u.cost, 9223372036854775807 - excluded.cost) + excluded.cost,
      unpriced = least(u.unpriced, 9223372036854775807 - excluded.unpriced) + excluded.unpriced"
    };
}

/// Adds to the sums of a day. Only so many models of a session and day have sums of their own.
pub(super) const ADD_USAGE: &str = concat!(
    "INSERT INTO usage_days AS u (session_id, day, agent, model, tenant,
      customer, requests, input, output, cached, cache_write, cost, unpriced)
    SELECT $1::bigint, $2::bigint, $3::text,
      CASE WHEN EXISTS (SELECT 1 FROM usage_days k WHERE k.session_id = $1 AND k.day = $2
            AND k.agent = $3 AND k.model = $4)
          OR (SELECT count(*) FROM usage_days k WHERE k.session_id = $1 AND k.day = $2) < $14::bigint
        THEN $4::text ELSE $15::text END,
      $5::text, $6::text, $7::bigint, $8::bigint, $9::bigint, $10::bigint, $11::bigint,
      $12::bigint, $13::bigint
    ON CONFLICT (session_id, day, agent, model) DO UPDATE SET ",
    grown_sums!()
);

/// The same for a turn that has a row.
const ADD_USAGE_OF_TURN: &str = concat!(
    "INSERT INTO usage_turns AS u (turn, session_id, requests, input,
      output, cached, cache_write, cost, unpriced)
    SELECT $1::uuid, $2::bigint, $3::bigint, $4::bigint, $5::bigint, $6::bigint, $7::bigint,
      $8::bigint, $9::bigint
    WHERE EXISTS (SELECT 1 FROM turns WHERE id = $1)
    ON CONFLICT (turn) DO UPDATE SET ",
    grown_sums!()
);

const PUT_SESSIONS: &str = "UPDATE sessions s SET version = n.version, epoch = n.epoch,
      last_seq = n.last_seq, snapshot = n.snapshot
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bytea[])
      AS n(id, version, epoch, last_seq, snapshot)
    WHERE s.id = n.id";

const OPEN_WORK: &str = "INSERT INTO open_work (session_id, wake_at)
    SELECT n.session_id, n.wake_at FROM unnest($1::bigint[], $2::bigint[])
      AS n(session_id, wake_at)
    ON CONFLICT (session_id) DO UPDATE SET wake_at = excluded.wake_at
    WHERE open_work.wake_at <> excluded.wake_at";

const END_WORK: &str = "DELETE FROM open_work WHERE session_id = ANY($1::bigint[])";

/// Locks the row until the commit: who answers meanwhile must not miss what comes with it.
const KNOCK: &str = "INSERT INTO knocks AS k (node, session_id)
    SELECT n.node, n.session_id FROM unnest($1::bigint[], $2::bigint[]) AS n(node, session_id)
    ON CONFLICT (node, session_id) DO UPDATE SET times = k.times + 1";

/// Gives out the next places, and says the last of them. Right only behind the gate.
const APPEND_JOURNAL: &str = "WITH put AS (
    INSERT INTO journal (place, session_id, first_seq, last_seq, events)
    SELECT b.last + n.place, n.session_id, n.first_seq, n.last_seq, n.events
    FROM (SELECT greatest(coalesce((SELECT max(place) FROM journal), 0),
        (SELECT value FROM meta WHERE name = 'journal')) AS last) b,
      unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[])
        WITH ORDINALITY AS n(session_id, first_seq, last_seq, events, place)
    RETURNING place) SELECT max(place) FROM put";

/// The writer's connection with everything prepared on it.
pub(super) struct Link {
    pub(super) client: Client,
    pub(super) statements: Statements,
}

/// All of them, for one connection.
pub(super) struct Statements {
    pub(super) lock_sessions: Statement,
    pub(super) free_sessions: Statement,
    pub(super) named_sessions: Statement,
    pub(super) make_sessions: Statement,
    pub(super) claim_messages: Statement,
    pub(super) look_at_messages: Statement,
    pub(super) look_at_letters: Statement,
    pub(super) look_at_parts: Statement,
    pub(super) undo_messages: Statement,
    pub(super) undo_sessions: Statement,
    pub(super) put_turns: Statement,
    pub(super) put_parts: Statement,
    pub(super) put_letters: Statement,
    pub(super) take_letters: Statement,
    pub(super) put_disappearing: Statement,
    pub(super) add_usage: Statement,
    pub(super) add_usage_of_turn: Statement,
    pub(super) put_sessions: Statement,
    pub(super) open_work: Statement,
    pub(super) end_work: Statement,
    pub(super) knock: Statement,
    pub(super) enter: Statement,
    pub(super) append_journal: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            lock_sessions: client.prepare(LOCK_SESSIONS).await?,
            free_sessions: client.prepare(FREE_SESSIONS).await?,
            named_sessions: client.prepare(NAMED_SESSIONS).await?,
            make_sessions: client.prepare(MAKE_SESSIONS).await?,
            claim_messages: client.prepare(CLAIM_MESSAGES).await?,
            look_at_messages: client.prepare(LOOK_AT_MESSAGES).await?,
            look_at_letters: client.prepare(LOOK_AT_LETTERS).await?,
            look_at_parts: client.prepare(LOOK_AT_PARTS).await?,
            undo_messages: client.prepare(UNDO_MESSAGES).await?,
            undo_sessions: client.prepare(UNDO_SESSIONS).await?,
            put_turns: client.prepare(PUT_TURNS).await?,
            put_parts: client.prepare(PUT_PARTS).await?,
            put_letters: client.prepare(PUT_LETTERS).await?,
            take_letters: client.prepare(TAKE_LETTERS).await?,
            put_disappearing: client.prepare(PUT_DISAPPEARING).await?,
            add_usage: client.prepare(ADD_USAGE).await?,
            add_usage_of_turn: client.prepare(ADD_USAGE_OF_TURN).await?,
            put_sessions: client.prepare(PUT_SESSIONS).await?,
            open_work: client.prepare(OPEN_WORK).await?,
            end_work: client.prepare(END_WORK).await?,
            knock: client.prepare(KNOCK).await?,
            enter: client.prepare(ENTER).await?,
            append_journal: client.prepare(APPEND_JOURNAL).await?,
        })
    }
}
