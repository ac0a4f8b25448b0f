//! One commit inside the open transaction: look, then write.
//!
//! Everything that can refuse a commit (version, gap, guards) is looked at before its first write,
//! so a refused commit leaves nothing to undo and needs no savepoint. The exception that proves it:
//! a single `NotSeen` guard is the first write itself, and it writes nothing where it is refused.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};
use turnkeep_core::message::Seen;
use turnkeep_core::outbox::DeliveryState;
use turnkeep_core::ports::store::{CommitOutcome, FirstDecision, Guard, StoreError};
use turnkeep_core::{Seq, SessionKey, TurnId, Version};

use super::read::uuid_of;
use super::schema;
use super::trouble::{Result, Trouble};
use super::usage::UsageStatements;
use crate::check;
use crate::encode::{self, EncodedCommit, EncodedEvents};

/// Sessions that one generation of the cache holds; two generations are alive.
const CACHED_SESSIONS_MAX: usize = 65_536;

/// What the writer has to know of a session before it writes to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    id: i64,
    version: u64,
    last_seq: u64,
    /// The journal row written last; 0 for none.
    journal_head: i64,
    turn_head: Option<TurnId>,
}

/// The writer's own knowledge of the database. Right only while every transaction commits: after
/// any error it is thrown away with the connection.
#[derive(Debug)]
pub(super) struct Places {
    young: HashMap<SessionKey, Place>,
    old: HashMap<SessionKey, Place>,
    next_session: i64,
    next_journal: i64,
}

impl Places {
    /// Starts from what stands in the database.
    pub(super) fn read(connection: &Connection) -> Result<Self> {
        let next = |sql: &str| connection.query_row(sql, [], |row| row.get(0));
        Ok(Self {
            young: HashMap::new(),
            old: HashMap::new(),
            next_session: next("SELECT coalesce(max(id), 0) + 1 FROM sessions")?,
            next_journal: next(
                "SELECT max(value, (SELECT coalesce(max(id), 0) FROM journal)) + 1
                 FROM meta WHERE name = 'journal'",
            )?,
        })
    }

    /// Somebody else changed the session's row: it has to be read again.
    pub(super) fn drop(&mut self, key: &SessionKey) {
        self.young.remove(key);
        self.old.remove(key);
    }

    fn find(&mut self, key: &SessionKey, statements: &mut Statements<'_>) -> Result<Option<Place>> {
        if let Some(place) = self.young.get(key) {
            return Ok(Some(*place));
        }
        let place = match self.old.get(key) {
            Some(place) => Some(*place),
            None => statements.place(key)?,
        };
        if let Some(place) = place {
            self.remember(key.clone(), place);
        }
        Ok(place)
    }

    fn remember(&mut self, key: SessionKey, place: Place) {
        if self.young.len() >= CACHED_SESSIONS_MAX && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, place);
    }
}

/// Every statement of the write path, taken out of the connection's cache once a batch.
pub(super) struct Statements<'connection> {
    begin: CachedStatement<'connection>,
    commit: CachedStatement<'connection>,
    find_session: CachedStatement<'connection>,
    insert_session: CachedStatement<'connection>,
    update_session: CachedStatement<'connection>,
    insert_journal: CachedStatement<'connection>,
    insert_journal_index: CachedStatement<'connection>,
    insert_turn: CachedStatement<'connection>,
    update_turn: CachedStatement<'connection>,
    put_part: CachedStatement<'connection>,
    find_part: CachedStatement<'connection>,
    insert_letter: CachedStatement<'connection>,
    find_letter: CachedStatement<'connection>,
    delete_letter: CachedStatement<'connection>,
    put_seen: CachedStatement<'connection>,
    find_seen: CachedStatement<'connection>,
    insert_disappearing: CachedStatement<'connection>,
    usage: UsageStatements<'connection>,
}

impl<'connection> Statements<'connection> {
    pub(super) fn prepare(connection: &'connection Connection) -> Result<Self> {
        let prepare = |sql: &str| connection.prepare_cached(sql);
        Ok(Self {
            begin: prepare("BEGIN IMMEDIATE")?,
            commit: prepare("COMMIT")?,
            find_session: prepare(
                "SELECT id, version, last_seq, journal_head, turn_head FROM sessions WHERE key = ?1",
            )?,
            insert_session: prepare(
                "INSERT INTO sessions (version, last_seq, journal_head, turn_head, wake_at, snapshot, id, key)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?,
            update_session: prepare(
                "UPDATE sessions SET version = ?1, last_seq = ?2, journal_head = ?3, turn_head = ?4,
                 wake_at = ?5, snapshot = ?6 WHERE id = ?7 AND version = ?8",
            )?,
            insert_journal: prepare("INSERT INTO journal VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?,
            insert_journal_index: prepare("INSERT INTO journal_index VALUES (?1, ?2, ?3)")?,
            insert_turn: prepare("INSERT OR IGNORE INTO turns VALUES (?1, ?2, ?3, ?4)")?,
            update_turn: prepare("UPDATE turns SET body = ?2 WHERE id = ?1")?,
            put_part: prepare(
                "INSERT INTO parts VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (session_id, reply, part) DO UPDATE SET body = excluded.body,
                 text = iif(excluded.text = '', text, excluded.text)",
            )?,
            find_part: prepare(
                "SELECT body FROM parts
                 WHERE session_id = ?1 AND reply = ?2 AND part = ?3 AND text <> ''",
            )?,
            insert_letter: prepare(
                "INSERT INTO dead_letters (session_id, seq, body) VALUES (?1, ?2, ?3)",
            )?,
            find_letter: prepare("SELECT 1 FROM dead_letters WHERE session_id = ?1 AND seq = ?2")?,
            delete_letter: prepare("DELETE FROM dead_letters WHERE session_id = ?1 AND seq = ?2")?,
            put_seen: prepare(
                "INSERT INTO seen VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                 ON CONFLICT (key) DO UPDATE SET body_hash = excluded.body_hash,
                 until = excluded.until, session_id = excluded.session_id,
                 session = excluded.session, seq = excluded.seq, action = excluded.action,
                 turn = excluded.turn, queue_position = excluded.queue_position
                 WHERE until < ?10",
            )?,
            find_seen: prepare(
                "SELECT body_hash, coalesce(seen.session, sessions.key), seen.seq, action, turn,
                 queue_position
                 FROM seen LEFT JOIN sessions ON sessions.id = seen.session_id
                 WHERE seen.key = ?1 AND until >= ?2",
            )?,
            insert_disappearing: prepare("INSERT INTO disappearing VALUES (?1, ?2, ?3, ?4)")?,
            usage: UsageStatements::prepare(connection)?,
        })
    }

    pub(super) fn begin(&mut self) -> Result<()> {
        self.begin.execute([])?;
        Ok(())
    }

    pub(super) fn commit(&mut self) -> Result<()> {
        self.commit.execute([])?;
        Ok(())
    }

    fn place(&mut self, key: &SessionKey) -> Result<Option<Place>> {
        let place = self.find_session.query_row([key.as_str()], |row| {
            Ok(Place {
                id: row.get(0)?,
                version: row.get::<_, i64>(1)?.cast_unsigned(),
                last_seq: row.get::<_, i64>(2)?.cast_unsigned(),
                journal_head: row.get(3)?,
                turn_head: row.get::<_, Option<[u8; 16]>>(4)?.map(|bytes| TurnId(uuid_of(bytes))),
            })
        });
        Ok(place.optional()?)
    }

    /// The first decision on a message that is still remembered, and the hash of its body.
    fn first(&mut self, seen: &Seen, now: i64) -> Result<Option<(FirstDecision, u64)>> {
        let mut rows = self.find_seen.query(params![&seen.key[..], now])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let session: String = row.get(1)?;
        let session = session.parse().map_err(|error| Trouble::session(&session, error))?;
        let first = FirstDecision {
            session,
            seq: Seq(row.get::<_, i64>(2)?.cast_unsigned()),
            action: encode::action_of(row.get(3)?)?,
            turn: row.get::<_, Option<[u8; 16]>>(4)?.map(|bytes| TurnId(uuid_of(bytes))),
            queue_position: row.get(5)?,
        };
        Ok(Some((first, row.get::<_, i64>(0)?.cast_unsigned())))
    }

    /// Where a part stands whose text is there, and how often it was tried.
    fn part(
        &mut self,
        key: &SessionKey,
        session_id: i64,
        (reply, part): (Seq, u32),
    ) -> Result<Option<(DeliveryState, u32)>> {
        let mut rows = self.find_part.query(params![session_id, reply.0.cast_signed(), part])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let body = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
        let row = encode::decode_part(key, (reply, part), body, Arc::default())?;
        Ok(Some((row.state, row.tries)))
    }
}

/// Forgets dedupe keys whose time is over; says how many.
pub(super) fn forget_seen(connection: &Connection, now: i64, limit: usize) -> Result<usize> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut forget = connection.prepare_cached(
        "DELETE FROM seen WHERE key IN
                 (SELECT key FROM seen WHERE until < ?1 ORDER BY until LIMIT ?2)",
    )?;
    Ok(forget.execute(params![now, limit])?)
}

/// Runs one commit. An `Err` outside is the whole batch's, one inside only this commit's.
pub(super) fn apply(
    commit: &EncodedCommit,
    places: &mut Places,
    statements: &mut Statements<'_>,
) -> Result<std::result::Result<CommitOutcome, StoreError>> {
    let known = places.find(&commit.key, statements)?;
    if known.map_or(0, |place| place.version) != commit.expected.0 {
        return Ok(Ok(CommitOutcome::Conflict));
    }
    let mut place = known.unwrap_or(Place {
        id: places.next_session,
        version: 0,
        last_seq: 0,
        journal_head: 0,
        turn_head: None,
    });
    if let Some(journal) = commit.journal.first()
        && journal.first.0 != place.last_seq + 1
    {
        return Ok(Err(check::gap(&commit.key, Seq(place.last_seq + 1), journal.first)));
    }
    match take_guards(commit, place.id, statements) {
        Ok(None) => {}
        Ok(Some(refused)) => return Ok(Ok(refused)),
        // An unreadable guard is no other session's fault, and nothing is written yet.
        Err(Trouble::Corrupt(what)) => return Ok(Err(StoreError::Corrupt(what))),
        Err(error) => return Err(error),
    }
    if commit.asks_only {
        return Ok(Ok(CommitOutcome::Committed(commit.expected)));
    }
    for journal in &commit.journal {
        append_journal(journal, &mut place, places.next_journal, statements)?;
        places.next_journal += 1;
    }
    put_turns(commit, &mut place, statements)?;
    for part in &commit.parts {
        let (reply, text) = (part.reply.0.cast_signed(), part.text.as_ref());
        statements.put_part.execute(params![place.id, reply, part.part, part.body, text])?;
    }
    for (seq, body) in &commit.dead_letters {
        statements.insert_letter.execute(params![place.id, seq.0.cast_signed(), body])?;
    }
    for (seq, seconds, due_at) in &commit.disappearing {
        let seq = seq.0.cast_signed();
        statements.insert_disappearing.execute(params![place.id, seq, seconds, due_at])?;
    }
    statements.usage.put(&commit.key, place.id, &commit.usage)?;
    put_session(commit, &mut place, known.is_none(), statements)?;
    if known.is_none() {
        places.next_session += 1;
    }
    places.remember(commit.key.clone(), place);
    Ok(Ok(CommitOutcome::Committed(Version(place.version))))
}

fn append_journal(
    journal: &EncodedEvents,
    place: &mut Place,
    id: i64,
    statements: &mut Statements<'_>,
) -> Result<()> {
    let (first, last) = (journal.first.0, journal.last.0);
    let (first_seq, last_seq) = (first.cast_signed(), last.cast_signed());
    statements.insert_journal.execute(params![
        id,
        place.id,
        first_seq,
        last_seq,
        place.journal_head,
        journal.events
    ])?;
    if schema::is_indexed(first, last) {
        statements.insert_journal_index.execute(params![place.id, last_seq, id])?;
    }
    place.journal_head = id;
    place.last_seq = last;
    Ok(())
}

fn put_turns(
    commit: &EncodedCommit,
    place: &mut Place,
    statements: &mut Statements<'_>,
) -> Result<()> {
    for (id, body) in &commit.turns {
        let bytes = &id.0.as_bytes()[..];
        if place.turn_head != Some(*id) {
            let prev = place.turn_head.as_ref().map(|turn| &turn.0.as_bytes()[..]);
            if statements.insert_turn.execute(params![bytes, place.id, prev, body])? == 1 {
                place.turn_head = Some(*id);
                continue;
            }
        }
        statements.update_turn.execute(params![bytes, body])?;
    }
    Ok(())
}

fn put_session(
    commit: &EncodedCommit,
    place: &mut Place,
    new: bool,
    statements: &mut Statements<'_>,
) -> Result<()> {
    place.version += 1;
    let version = place.version.cast_signed();
    let last_seq = place.last_seq.cast_signed();
    let turn_head = place.turn_head.as_ref().map(|turn| &turn.0.as_bytes()[..]);
    let (journal_head, wake_at, snapshot) = (place.journal_head, commit.wake_at, &commit.snapshot);
    let changed = if new {
        statements.insert_session.execute(params![
            version,
            last_seq,
            journal_head,
            turn_head,
            wake_at,
            snapshot,
            place.id,
            commit.key.as_str()
        ])?
    } else {
        statements.update_session.execute(params![
            version,
            last_seq,
            journal_head,
            turn_head,
            wake_at,
            snapshot,
            place.id,
            version - 1
        ])?
    };
    if changed == 1 {
        return Ok(());
    }
    // Only a second writer can bring this about, and the lock keeps those out.
    Err(Trouble::session(commit.key.as_str(), "its version changed behind the writer's back"))
}

/// Takes every guard, or writes nothing and says which one does not hold.
fn take_guards(
    commit: &EncodedCommit,
    session_id: i64,
    statements: &mut Statements<'_>,
) -> Result<Option<CommitOutcome>> {
    if let [Guard::NotSeen { seen, .. }] = &commit.guards[..]
        && !commit.asks_only
    {
        if put_seen(commit, &commit.guards[0], session_id, statements)? {
            return Ok(None);
        }
        let first = statements.first(seen, commit.now)?;
        return Ok(Some(refused(0, first, seen)));
    }
    for (index, guard) in commit.guards.iter().enumerate() {
        let earlier = &commit.guards[..index];
        match guard {
            Guard::NotSeen { seen, .. } => {
                let first = statements.first(seen, commit.now)?;
                if let Some(first) = first.or_else(|| check::twin_in(earlier, seen)) {
                    return Ok(Some(refused(index, Some(first), seen)));
                }
            }
            Guard::TakeDeadLetter(seq) => {
                let place = params![session_id, seq.0.cast_signed()];
                if earlier.contains(guard) || !statements.find_letter.exists(place)? {
                    return Ok(Some(CommitOutcome::Refused { guard: index, first: None }));
                }
            }
            Guard::Parked { reply, part, state, tries } => {
                let stands = statements.part(&commit.key, session_id, (*reply, *part))?;
                if earlier.contains(guard) || stands != Some((*state, *tries)) {
                    return Ok(Some(CommitOutcome::Refused { guard: index, first: None }));
                }
            }
        }
    }
    if commit.asks_only {
        return Ok(None);
    }
    for guard in &commit.guards {
        match guard {
            Guard::NotSeen { .. } => {
                put_seen(commit, guard, session_id, statements)?;
            }
            Guard::TakeDeadLetter(seq) => {
                statements.delete_letter.execute(params![session_id, seq.0.cast_signed()])?;
            }
            Guard::Parked { .. } => {}
        }
    }
    Ok(None)
}

fn refused(guard: usize, first: Option<(FirstDecision, u64)>, seen: &Seen) -> CommitOutcome {
    let first = first.map(|(first, body_hash)| (first, body_hash == seen.body_hash));
    CommitOutcome::Refused { guard, first }
}

/// Remembers a message unless it is remembered already; says whether it did.
fn put_seen(
    commit: &EncodedCommit,
    guard: &Guard,
    session_id: i64,
    statements: &mut Statements<'_>,
) -> Result<bool> {
    let Guard::NotSeen { seen, first, until } = guard else { return Ok(false) };
    // The key is wider than a session, but nearly always the decision was taken in this one.
    let elsewhere = Some(&first.session).filter(|session| **session != commit.key);
    let changed = statements.put_seen.execute(params![
        &seen.key[..],
        seen.body_hash.cast_signed(),
        until,
        session_id,
        elsewhere.map(SessionKey::as_str),
        first.seq.0.cast_signed(),
        encode::action_number(first.action),
        first.turn.as_ref().map(|turn| &turn.0.as_bytes()[..]),
        first.queue_position,
        commit.now,
    ])?;
    Ok(changed == 1)
}
