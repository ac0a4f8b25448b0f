//! One short change that says where a history begins from now on, or that a session is erased.

use deadpool_postgres::GenericClient;
use turnkeep_core::care::{Forgotten, tombstone};
use turnkeep_core::ports::care::{Forget, Forgot};
use turnkeep_core::{Event, Seq, Session, SessionKey, Version};

use super::super::ask::{row, rows, run};
use super::super::journal::{self, Wanted};
use super::super::read::seq_of;
use super::super::switchboard;
use super::super::trouble::{Result, Trouble};
use super::disappear;
use crate::encode;

/// What has to be known of the session.
struct Head {
    id: i64,
    version: Version,
    last_seq: Seq,
    open: bool,
    snapshot: Vec<u8>,
    /// The last place that is gone.
    through: Seq,
    /// Rows of what is gone still stand there.
    unswept: bool,
}

/// Looks at everything before its first write, so that a refusal leaves nothing to undo.
pub(super) async fn forget(on: &impl GenericClient, forget: Forget) -> Result<Forgot> {
    let Forget { key, expected, from, mut forgotten, bury_as } = forget;
    let Some(head) = head(on, &key).await? else { return Ok(Forgot::Changed) };
    let whole = forgotten.through == head.last_seq;
    let unfit = bury_as.is_some() && (head.open || !whole);
    if head.version != expected
        || head.through != from
        || forgotten.through > head.last_seq
        || unfit
    {
        return Ok(Forgot::Changed);
    }
    if head.unswept {
        return Ok(Forgot::Unswept);
    }
    let moves = forgotten.through > from;
    if moves {
        cut(on, &key, head.id, forgotten.through).await?;
    }
    let letters = take_letters(on, head.id, forgotten.through).await?;
    forgotten.bury(&letters);
    disappear::forget(on, head.id, forgotten.through).await?;
    put(on, head.id, &forgotten, moves).await?;
    if let Some(name) = bury_as {
        bury(on, &key, &head, &name).await?;
    }
    Ok(Forgot::Done(letters.len() as u64))
}

/// Holds the session: nobody commits to it before this is over.
async fn head(on: &impl GenericClient, key: &SessionKey) -> Result<Option<Head>> {
    let sql = "SELECT id, version, last_seq, snapshot FROM sessions WHERE key = $1 FOR UPDATE";
    let Some(held) = row(on, sql, &[&key.as_str()]).await? else { return Ok(None) };
    let id: i64 = held.try_get("id")?;
    // Only now, for these are not looked at again after a wait for the lock.
    let sql = "SELECT EXISTS (SELECT 1 FROM open_work WHERE session_id = $1) AS open,
               coalesce((SELECT through_seq FROM forgotten WHERE session_id = $1), 0) AS through,
               coalesce((SELECT unswept FROM forgotten WHERE session_id = $1), false) AS unswept";
    let Some(beside) = row(on, sql, &[&id]).await? else { return Ok(None) };
    Ok(Some(Head {
        id,
        version: Version(held.try_get::<_, i64>("version")?.cast_unsigned()),
        last_seq: seq_of(&held, "last_seq")?,
        snapshot: held.try_get("snapshot")?,
        open: beside.try_get("open")?,
        through: seq_of(&beside, "through")?,
        unswept: beside.try_get("unswept")?,
    }))
}

/// The row that holds the last place that goes keeps what it holds of later ones.
async fn cut(on: &impl GenericClient, key: &SessionKey, id: i64, through: Seq) -> Result<()> {
    let entry = journal::covering_one(on, Wanted { key, id, seq: through }).await?;
    if entry.last == through.0 {
        return Ok(());
    }
    let mut events: Vec<Event> = entry.decode(key)?;
    events.retain(|event| event.seq > through);
    let first = events.first().map_or(0, |event| event.seq.0.cast_signed());
    let sql = "UPDATE journal SET first_seq = $2, events = $3 WHERE place = $1";
    run(on, sql, &[&entry.place, &first, &encode::blob(&events[..])?]).await.map(drop)
}

/// Dead letters go with their places at once: a person could still take one otherwise.
async fn take_letters(on: &impl GenericClient, id: i64, through: Seq) -> Result<Vec<Seq>> {
    let sql = "DELETE FROM dead_letters WHERE session_id = $1 AND seq <= $2 RETURNING seq";
    let taken = rows(on, sql, &[&id, &through.0.cast_signed()]).await?;
    taken.iter().map(|row| seq_of(row, "seq")).collect()
}

/// Where the newest turn that is gone stood, or what was gone before where its row is gone as well.
async fn put(on: &impl GenericClient, id: i64, forgotten: &Forgotten, unswept: bool) -> Result<()> {
    let sql = "INSERT INTO forgotten AS f (session_id, through_seq, through_turn, body, unswept)
               VALUES ($1, $2, (SELECT ord FROM turns WHERE id = $3 AND session_id = $1), $4, $5)
               ON CONFLICT (session_id) DO UPDATE SET through_seq = excluded.through_seq,
               through_turn = coalesce(excluded.through_turn, f.through_turn),
               body = excluded.body, unswept = excluded.unswept";
    let (through, turn) = (forgotten.through.0.cast_signed(), forgotten.turn.map(|turn| turn.0));
    let body = encode::blob(forgotten)?;
    run(on, sql, &[&id, &through, &turn, &body, &unswept]).await.map(drop)
}

/// The session's row stays, for dedupe rows and the audit; it says no more who it was.
async fn bury(on: &impl GenericClient, key: &SessionKey, head: &Head, name: &str) -> Result<()> {
    let known: Session = encode::value(&head.snapshot, || format!("session {key}"))?;
    // Nobody can write there: there is no such agent.
    let alias = tombstone(&key.tenant(), name, head.id.cast_unsigned())
        .map_err(|error| Trouble::session(key.as_str(), error))?;
    let snapshot = encode::blob(&crate::check::buried(&known))?;
    let sql = "UPDATE sessions SET key = $2, version = version + 1, snapshot = $3 WHERE id = $1";
    run(on, sql, &[&head.id, &alias.as_str(), &snapshot]).await?;
    let sql = "UPDATE usage_days SET customer = NULL WHERE session_id = $1";
    run(on, sql, &[&head.id]).await?;
    // In the order in which commits take them.
    let sql = "UPDATE seen SET session = $2 FROM
                  (SELECT key FROM seen WHERE session = $1 ORDER BY key FOR UPDATE) held
               WHERE seen.key = held.key";
    run(on, sql, &[&key.as_str(), &alias.as_str()]).await?;
    switchboard::forget(on, key).await
}
