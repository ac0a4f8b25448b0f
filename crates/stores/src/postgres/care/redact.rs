//! Blanks texts in a history that stays: somebody's messages in a session that is not theirs.

use deadpool_postgres::GenericClient;
use turnkeep_core::care::blank;
use turnkeep_core::outbox::DeliveryState;
use turnkeep_core::ports::care::Redaction;
use turnkeep_core::ports::store::PartRow;
use turnkeep_core::{Seq, SessionKey, TurnId};
use uuid::Uuid;

use super::super::ask::{row, rows, run, strange};
use super::super::journal::{self, Wanted};
use super::super::read::seq_of;
use super::super::trouble::{Result, missing};
use crate::encode;

/// Rows that a journal holds are changed here and where a history is cut, and nowhere else.
pub(super) async fn redact(on: &impl GenericClient, redaction: &Redaction) -> Result<()> {
    let Redaction { key, places, turns } = redaction;
    let sql = "SELECT id, last_seq FROM sessions WHERE key = $1 FOR NO KEY UPDATE";
    let held = row(on, sql, &[&key.as_str()]).await?;
    if let Some(held) = held {
        let id: i64 = held.try_get("id")?;
        let last = seq_of(&held, "last_seq")?;
        let through = through(on, id).await?;
        let there = places.iter().filter(|seq| **seq > through && **seq <= last);
        let mut there: Vec<Seq> = there.copied().collect();
        there.sort_unstable();
        there.dedup();
        entries(on, key, id, &there).await?;
        parts(on, key, id, &there).await?;
        blank_turns(on, id, turns).await?;
    }
    super::scrub::note(on).await
}

/// The last place that is gone; asked for when the session is held, and not before.
async fn through(on: &impl GenericClient, id: i64) -> Result<Seq> {
    let sql = "SELECT through_seq FROM forgotten WHERE session_id = $1";
    row(on, sql, &[&id]).await?.map_or(Ok(Seq(0)), |row| seq_of(&row, "through_seq"))
}

async fn entries(on: &impl GenericClient, key: &SessionKey, id: i64, places: &[Seq]) -> Result<()> {
    let wanted: Vec<_> = places.iter().map(|seq| Wanted { key, id, seq: *seq }).collect();
    let (mut rows, mut bodies) = (Vec::new(), Vec::new());
    let mut blanked = 0;
    for entry in journal::covering(on, &wanted).await? {
        let mut events = entry.decode(key)?;
        for event in &mut events {
            if places.binary_search(&event.seq).is_ok() {
                blank(event);
                blanked += 1;
            }
        }
        rows.push(entry.place);
        bodies.push(encode::blob(&events[..])?);
    }
    if blanked < places.len() {
        return Err(missing(key, "an event of its journal"));
    }
    let sql = "UPDATE journal j SET events = n.events
               FROM unnest($1::bigint[], $2::bytea[]) AS n(place, events) WHERE j.place = n.place";
    run(on, sql, &[&rows, &bodies]).await.map(drop)
}

/// The parts of replies; one that is still on its way keeps its text until it is there.
async fn parts(on: &impl GenericClient, key: &SessionKey, id: i64, replies: &[Seq]) -> Result<()> {
    let places: Vec<i64> = replies.iter().map(|reply| reply.0.cast_signed()).collect();
    let sql = "SELECT reply, part, body FROM parts WHERE session_id = $1 AND reply = ANY($2)";
    let (mut replies, mut numbers, mut bodies) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows(on, sql, &[&id, &places]).await? {
        let (reply, number) = (seq_of(&row, "reply")?, row.try_get::<_, i64>("part")?);
        let odd = |_| strange(format_args!("session {key}: reply {reply} has a part {number}"));
        let place = (reply, u32::try_from(number).map_err(odd)?);
        let part = encode::decode_part(key, place, row.try_get("body")?, "".into())?;
        if !matches!(part.state, DeliveryState::Pending | DeliveryState::Sending) {
            // What the channel said of it may quote it.
            bodies.push(encode::part_body(&PartRow { detail: None, ..part })?);
            replies.push(reply.0.cast_signed());
            numbers.push(number);
        }
    }
    let sql = "UPDATE parts p SET said = ''::bytea, body = n.body
               FROM unnest($2::bigint[], $3::bigint[], $4::bytea[]) AS n(reply, part, body)
               WHERE p.session_id = $1 AND p.reply = n.reply AND p.part = n.part";
    run(on, sql, &[&id, &replies, &numbers, &bodies]).await.map(drop)
}

/// Only those of this session. They are held before they are read: another session may write a turn
/// of this one.
async fn blank_turns(on: &impl GenericClient, id: i64, turns: &[TurnId]) -> Result<()> {
    let turns: Vec<Uuid> = turns.iter().map(|turn| turn.0).collect();
    let sql = "SELECT id, body FROM turns WHERE session_id = $1 AND id = ANY($2)
               ORDER BY id FOR NO KEY UPDATE";
    let (mut ids, mut bodies) = (Vec::new(), Vec::new());
    for row in rows(on, sql, &[&id, &turns]).await? {
        let turn: Uuid = row.try_get("id")?;
        bodies.push(encode::blank_turn(TurnId(turn), row.try_get("body")?)?);
        ids.push(turn);
    }
    let sql = "UPDATE turns t SET body = n.body
               FROM unnest($1::uuid[], $2::bytea[]) AS n(id, body) WHERE t.id = n.id";
    run(on, sql, &[&ids, &bodies]).await.map(drop)
}
