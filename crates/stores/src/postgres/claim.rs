//! The first round trip of a batch: lock, make, claim, look. Nothing of it can be seen by anybody
//! before the second one commits.
//!
//! Everybody takes rows in one order: sessions by key, then new sessions by key, then messages. So
//! writers wait for one another, but never in a circle. Whatever fails here has not happened.

use std::collections::{HashMap, HashSet};

use tokio_postgres::Row;
use turnkeep_core::ports::store::Guard;
use turnkeep_core::{SessionKey, Timestamp};
use uuid::Uuid;

use super::batch::Job;
use super::decide::{self, Found, Held, Known};
use super::pipeline::Pipeline;
use super::statements::Link;
use super::trouble::Result;
use crate::encode::{self, EncodedCommit};

/// The columns that are sent.
#[derive(Default)]
struct Asked<'a> {
    keys: Vec<&'a str>,
    new: Vec<&'a str>,
    claims: Claims<'a>,
    /// Every message of the batch.
    messages: Vec<Uuid>,
    letters_of: Vec<&'a str>,
    letters: Vec<i64>,
    parts_of: Vec<&'a str>,
    replies: Vec<i64>,
    parts: Vec<i64>,
}

/// The columns of messages that are to be remembered.
#[derive(Default)]
struct Claims<'a> {
    /// The earliest time of all commits: what is over by it is over for each of them.
    now: Option<Timestamp>,
    keys: Vec<Uuid>,
    body_hashes: Vec<i64>,
    untils: Vec<i64>,
    whose: Vec<&'a str>,
    /// The key is wider than a session, but nearly always the decision was taken in this one.
    elsewhere: Vec<Option<&'a str>>,
    seqs: Vec<i64>,
    actions: Vec<i16>,
    turns: Vec<Option<Uuid>>,
    queue_positions: Vec<Option<i64>>,
}

impl<'a> Asked<'a> {
    fn of(jobs: &'a [Job]) -> Self {
        let mut asked = Self::default();
        for job in jobs {
            let commit = &*job.commit;
            asked.keys.push(commit.key.as_str());
            if commit.expected.0 == 0 && !commit.asks_only {
                asked.new.push(commit.key.as_str());
            }
            let claims = decide::claims(commit);
            for guard in &commit.guards {
                match guard {
                    Guard::NotSeen { seen, .. } => {
                        asked.messages.push(decide::name_of(seen));
                        if claims {
                            asked.claims.push(commit, guard);
                        }
                    }
                    Guard::TakeDeadLetter(seq) => {
                        asked.letters_of.push(commit.key.as_str());
                        asked.letters.push(seq.0.cast_signed());
                    }
                    Guard::Parked { reply, part, .. } => {
                        asked.parts_of.push(commit.key.as_str());
                        asked.replies.push(reply.0.cast_signed());
                        asked.parts.push((*part).into());
                    }
                }
            }
        }
        asked
    }
}

impl<'a> Claims<'a> {
    fn push(&mut self, commit: &'a EncodedCommit, guard: &'a Guard) {
        let Guard::NotSeen { seen, first, until } = guard else { return };
        self.now = Some(self.now.map_or(commit.now, |now| now.min(commit.now)));
        self.keys.push(decide::name_of(seen));
        self.body_hashes.push(seen.body_hash.cast_signed());
        self.untils.push(*until);
        self.whose.push(commit.key.as_str());
        let elsewhere = Some(&first.session).filter(|session| **session != commit.key);
        self.elsewhere.push(elsewhere.map(SessionKey::as_str));
        self.seqs.push(first.seq.0.cast_signed());
        let action = encode::action_number(first.action);
        self.actions.push(i16::try_from(action).unwrap_or(i16::MAX));
        self.turns.push(first.turn.map(|turn| turn.0));
        self.queue_positions.push(first.queue_position.map(i64::from));
    }
}

/// The places of the answers in the pipeline.
struct Places {
    locked: usize,
    made: Option<usize>,
    claimed: Option<usize>,
    known: Option<usize>,
    letters: Option<usize>,
    parts: Option<usize>,
}

/// Begins the transaction and finds out what the batch has to know.
pub(super) async fn claim(link: &Link, jobs: &[Job]) -> Result<Found> {
    let asked = Asked::of(jobs);
    let mut pipeline = Pipeline::default();
    let places = send(link, &asked, &mut pipeline);
    let mut answers = pipeline.run().await?;
    let mut rows = |place: Option<usize>| {
        place.and_then(|place| answers.get_mut(place)).map(std::mem::take).unwrap_or_default()
    };
    let mut sessions = HashMap::with_capacity(jobs.len());
    for row in rows(Some(places.locked)) {
        let (key, held) = locked(&row)?;
        sessions.insert(key, held);
    }
    for row in rows(places.made) {
        let held = Held { id: row.try_get(1)?, version: 0, epoch: 0, last_seq: 0, made: true };
        sessions.insert(row.try_get(0)?, held);
    }
    let mut claimed = HashSet::new();
    for row in rows(places.claimed) {
        claimed.insert(row.try_get(0)?);
    }
    let mut known = HashMap::new();
    for row in rows(places.known) {
        known.insert(row.try_get(0)?, known_of(&row)?);
    }
    let mut letters = HashSet::new();
    for row in rows(places.letters) {
        letters.insert((row.try_get(0)?, row.try_get::<_, i64>(1)?.cast_unsigned()));
    }
    let mut parts = HashMap::new();
    for row in rows(places.parts) {
        parts.insert(part_of(&row)?, row.try_get(3)?);
    }
    Ok(Found { sessions, claimed, known, letters, parts })
}

fn send<'a>(link: &'a Link, asked: &'a Asked<'a>, pipeline: &mut Pipeline<'a>) -> Places {
    let Link { client, statements } = link;
    pipeline.text(client, "BEGIN");
    let locked =
        pipeline.push(async move { client.query(&statements.lock_sessions, &[&asked.keys]).await });
    let made = (!asked.new.is_empty()).then(|| {
        pipeline.push(async move { client.query(&statements.make_sessions, &[&asked.new]).await })
    });
    let claims = &asked.claims;
    let claimed = claims.now.map(|now| {
        pipeline.push(async move {
            let columns: [&(dyn tokio_postgres::types::ToSql + Sync); 10] = [
                &claims.keys,
                &claims.body_hashes,
                &claims.untils,
                &claims.whose,
                &claims.elsewhere,
                &claims.seqs,
                &claims.actions,
                &claims.turns,
                &claims.queue_positions,
                &now,
            ];
            client.query(&statements.claim_messages, &columns).await
        })
    });
    let known = (!asked.messages.is_empty()).then(|| {
        pipeline.push(async move {
            client.query(&statements.look_at_messages, &[&asked.messages]).await
        })
    });
    let letters = (!asked.letters.is_empty()).then(|| {
        pipeline.push(async move {
            let columns = (&asked.letters_of, &asked.letters);
            client.query(&statements.look_at_letters, &[columns.0, columns.1]).await
        })
    });
    let parts = (!asked.parts.is_empty()).then(|| {
        pipeline.push(async move {
            let columns = (&asked.parts_of, &asked.replies, &asked.parts);
            client.query(&statements.look_at_parts, &[columns.0, columns.1, columns.2]).await
        })
    });
    Places { locked, made, claimed, known, letters, parts }
}

fn locked(row: &Row) -> Result<(String, Held)> {
    let number = |at: usize| row.try_get::<_, i64>(at).map(i64::cast_unsigned);
    let held = Held {
        id: row.try_get(1)?,
        version: number(2)?,
        epoch: number(3)?,
        last_seq: number(4)?,
        made: false,
    };
    Ok((row.try_get(0)?, held))
}

fn part_of(row: &Row) -> Result<(i64, u64, u32)> {
    let part = u32::try_from(row.try_get::<_, i64>(2)?).unwrap_or(u32::MAX);
    Ok((row.try_get(0)?, row.try_get::<_, i64>(1)?.cast_unsigned(), part))
}

fn known_of(row: &Row) -> Result<Known> {
    Ok(Known {
        body_hash: row.try_get::<_, i64>(1)?.cast_unsigned(),
        until: row.try_get(2)?,
        session: row.try_get(3)?,
        seq: row.try_get::<_, i64>(4)?.cast_unsigned(),
        action: i64::from(row.try_get::<_, i16>(5)?),
        turn: row.try_get(6)?,
        queue_position: row.try_get(7)?,
    })
}

/// Which of these sessions somebody else holds, so that the others need not wait for it.
pub(super) async fn held_by_others(link: &Link, jobs: &[Job]) -> Result<HashSet<String>> {
    let Link { client, statements } = link;
    let keys: Vec<&str> = jobs.iter().map(|job| job.commit.key.as_str()).collect();
    let keys = &keys;
    let mut pipeline = Pipeline::default();
    pipeline.text(client, "BEGIN");
    let named =
        pipeline.push(async move { client.query(&statements.named_sessions, &[keys]).await });
    let free = pipeline.push(async move { client.query(&statements.free_sessions, &[keys]).await });
    pipeline.text(client, "ROLLBACK");
    let answers = pipeline.run().await?;
    let keys_at = |place: usize| {
        let rows = answers.get(place).into_iter().flatten();
        rows.map(|row| row.try_get(0)).collect::<std::result::Result<HashSet<String>, _>>()
    };
    let free = keys_at(free)?;
    Ok(keys_at(named)?.into_iter().filter(|key| !free.contains(key)).collect())
}
