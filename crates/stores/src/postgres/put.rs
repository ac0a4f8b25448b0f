//! The second round trip of a batch: undo what was refused, write the rest, go through the gate,
//! append to the journal, commit.
//!
//! The gate is the last lock that is taken and nothing waits behind it but the journal's rows and
//! the commit, which are sent with it. Whoever comes next reads the last place only when this
//! transaction can be seen, so places have no gap and are never out of order for any reader.

use std::borrow::Cow;

use tokio_postgres::types::ToSql;
use turnkeep_core::outbox::DeliveryState;
use turnkeep_core::ports::store::{Guard, UsageRow};
use turnkeep_core::usage::{Day, SUM_MAX, Sums, customer_of};
use turnkeep_core::{Epoch, SessionKey};
use uuid::Uuid;

use super::batch::Job;
use super::decide::{self, Found, Held, Verdict};
use super::gate::Pass;
use super::pipeline::Pipeline;
use super::statements::Link;
use super::text;
use super::trouble::Result;
use crate::check::{MODELS_MAX, OTHER_MODELS};
use crate::encode::EncodedCommit;

/// The door of all who run turns. No node has this number, and what one lets go stands under it.
pub(super) const ANYBODY: i64 = Epoch::NOBODY.0.cast_signed();

/// Who writes.
#[derive(Clone, Copy)]
pub(super) struct Writes {
    /// Its number.
    pub(super) node: Epoch,
    /// The other one, under which it runs turns in the place of others.
    pub(super) second: Option<Epoch>,
    /// Whether it runs turns under its own.
    pub(super) runs: bool,
}

/// A column of byte strings.
type Blobs<'a> = Vec<&'a [u8]>;

/// Everything that a batch writes, by columns.
#[derive(Default)]
pub(super) struct Columns<'a> {
    undo_messages: Vec<Uuid>,
    undo_sessions: Vec<i64>,
    turns: (Vec<Uuid>, Vec<i64>, Blobs<'a>),
    parts: Parts<'a>,
    letters: (Vec<i64>, Vec<i64>, Blobs<'a>),
    taken_letters: (Vec<i64>, Vec<i64>),
    disappearing: (Vec<i64>, Vec<i64>, Vec<i64>, Vec<i64>),
    usage: Vec<Used<'a>>,
    sessions: Sessions<'a>,
    open: (Vec<i64>, Vec<i64>),
    idle: Vec<i64>,
    journal: Journal<'a>,
    /// Who is told, and of which session.
    knocks: (Vec<i64>, Vec<i64>),
}

#[derive(Default)]
struct Parts<'a> {
    sessions: Vec<i64>,
    replies: Vec<i64>,
    parts: Vec<i64>,
    states: Vec<i16>,
    bodies: Blobs<'a>,
    said: Blobs<'a>,
}

#[derive(Default)]
struct Sessions<'a> {
    ids: Vec<i64>,
    versions: Vec<i64>,
    epochs: Vec<i64>,
    last_seqs: Vec<i64>,
    snapshots: Blobs<'a>,
}

#[derive(Default)]
struct Journal<'a> {
    sessions: Vec<i64>,
    firsts: Vec<i64>,
    lasts: Vec<i64>,
    events: Blobs<'a>,
}

/// What one request used, and where it is added.
struct Used<'a> {
    turn: Uuid,
    session: i64,
    day: i64,
    agent: Cow<'a, str>,
    model: Cow<'a, str>,
    tenant: Cow<'a, str>,
    customer: Option<Cow<'a, str>>,
    counts: [i64; 7],
}

impl<'a> Columns<'a> {
    /// What the accepted commits write, and what the others have left.
    pub(super) fn of(jobs: &'a [Job], verdicts: &[Verdict], found: &Found, writes: Writes) -> Self {
        let mut columns = Self::default();
        for (job, verdict) in jobs.iter().zip(verdicts) {
            match verdict {
                Verdict::Accepted(held) => {
                    columns.put(&job.commit, *held);
                    columns.knock(&job.commit, *held, writes);
                }
                Verdict::Answered(_) | Verdict::Again => columns.undo(&job.commit, found),
            }
        }
        columns
    }

    fn undo(&mut self, commit: &EncodedCommit, found: &Found) {
        let made = found.sessions.get(commit.key.as_str()).filter(|held| held.made);
        self.undo_sessions.extend(made.map(|held| held.id));
        for guard in &commit.guards {
            if let Guard::NotSeen { seen, .. } = guard {
                let name = decide::name_of(seen);
                self.undo_messages.extend(found.claimed.get(&name));
            }
        }
    }

    fn put(&mut self, commit: &'a EncodedCommit, held: Held) {
        let id = held.id;
        for (turn, body) in &commit.turns {
            self.turns.0.push(turn.0);
            self.turns.1.push(id);
            self.turns.2.push(body);
        }
        for part in &commit.parts {
            self.parts.sessions.push(id);
            self.parts.replies.push(part.reply.0.cast_signed());
            self.parts.parts.push(part.part.into());
            self.parts.states.push(state_number(part.state));
            self.parts.bodies.push(&part.body);
            self.parts.said.push(part.text.as_bytes());
        }
        for (seq, body) in &commit.dead_letters {
            self.letters.0.push(id);
            self.letters.1.push(seq.0.cast_signed());
            self.letters.2.push(body);
        }
        for guard in &commit.guards {
            if let Guard::TakeDeadLetter(seq) = guard {
                self.taken_letters.0.push(id);
                self.taken_letters.1.push(seq.0.cast_signed());
            }
        }
        for (seq, seconds, due_at) in &commit.disappearing {
            self.disappearing.0.push(id);
            self.disappearing.1.push(seq.0.cast_signed());
            self.disappearing.2.push((*seconds).into());
            self.disappearing.3.push(*due_at);
        }
        self.usage.extend(commit.usage.iter().map(|row| Used::of(&commit.key, id, row)));
        for row in &commit.journal {
            self.journal.sessions.push(id);
            self.journal.firsts.push(row.first.0.cast_signed());
            self.journal.lasts.push(row.last.0.cast_signed());
            self.journal.events.push(&row.events);
        }
        self.put_session(commit, held);
    }

    /// Who writes what another one has tells it; who runs nothing tells those who do.
    fn knock(&mut self, commit: &EncodedCommit, held: Held, writes: Writes) {
        let Writes { node, second, runs } = writes;
        let whose = commit.epoch.node();
        let door = if Some(whose) == second {
            return;
        } else if whose == Epoch::NOBODY || (whose == node && !runs) {
            if commit.wake_at.is_none() {
                return;
            }
            ANYBODY
        } else if whose != node {
            whose.0.cast_signed()
        } else {
            return;
        };
        self.knocks.0.push(door);
        self.knocks.1.push(held.id);
    }

    fn put_session(&mut self, commit: &'a EncodedCommit, held: Held) {
        let last_seq = commit.journal.last().map_or(held.last_seq, |row| row.last.0);
        self.sessions.ids.push(held.id);
        self.sessions.versions.push((held.version + 1).cast_signed());
        self.sessions.epochs.push(commit.epoch.0.cast_signed());
        self.sessions.last_seqs.push(last_seq.cast_signed());
        self.sessions.snapshots.push(&commit.snapshot);
        match commit.wake_at {
            Some(wake_at) => {
                self.open.0.push(held.id);
                self.open.1.push(wake_at);
            }
            None if held.made => {}
            None => self.idle.push(held.id),
        }
    }
}

impl<'a> Used<'a> {
    fn of(key: &SessionKey, session: i64, row: &'a UsageRow) -> Self {
        let owned = |text: String| Cow::Owned(text::put(&text).into_owned());
        Self {
            turn: row.turn.0,
            session,
            day: Day::of(row.at).0.into(),
            agent: row.agent.as_deref().map_or_else(|| owned(key.agent()), text::put),
            model: text::put(&row.model),
            tenant: owned(key.tenant()),
            customer: customer_of(key).map(owned),
            counts: counts_of(&row.sums),
        }
    }

    fn send(&'a self, link: &'a Link, pipeline: &mut Pipeline<'a>) {
        let Link { client, statements } = link;
        let [requests, input, output, cached, cache_write, cost, unpriced] = &self.counts;
        pipeline.push(async move {
            let values: [&(dyn ToSql + Sync); 15] = [
                &self.session,
                &self.day,
                &self.agent,
                &self.model,
                &self.tenant,
                &self.customer,
                requests,
                input,
                output,
                cached,
                cache_write,
                cost,
                unpriced,
                &MODELS_MAX,
                &OTHER_MODELS,
            ];
            client.query(&statements.add_usage, &values).await
        });
        pipeline.push(async move {
            let values: [&(dyn ToSql + Sync); 9] = [
                &self.turn,
                &self.session,
                requests,
                input,
                output,
                cached,
                cache_write,
                cost,
                unpriced,
            ];
            client.query(&statements.add_usage_of_turn, &values).await
        });
    }
}

/// Writes everything and commits; the last place of the journal that was given out for it, if any.
pub(super) async fn put(link: &Link, columns: &Columns<'_>, pass: &Pass) -> Result<Option<i64>> {
    let mut pipeline = Pipeline::default();
    undo(link, columns, &mut pipeline);
    rows(link, columns, &mut pipeline);
    for used in &columns.usage {
        used.send(link, &mut pipeline);
    }
    sessions(link, columns, &mut pipeline);
    knocks(link, columns, &mut pipeline);
    let Link { client, statements } = link;
    pipeline.push(async move { client.query(&statements.enter, &pass.values()).await });
    let Journal { sessions, firsts, lasts, events } = &columns.journal;
    let appended = (!sessions.is_empty()).then(|| {
        pipeline.push(async move {
            let append = &statements.append_journal;
            client.query(append, &[sessions, firsts, lasts, events]).await
        })
    });
    pipeline.text(client, "COMMIT");
    let answers = pipeline.run().await?;
    let last = appended.and_then(|place| answers.get(place)?.first());
    Ok(last.map(|row| row.try_get(0)).transpose()?.flatten())
}

fn undo<'a>(link: &'a Link, columns: &'a Columns<'a>, pipeline: &mut Pipeline<'a>) {
    let Link { client, statements } = link;
    let (messages, made) = (&columns.undo_messages, &columns.undo_sessions);
    if !messages.is_empty() {
        pipeline.push(async move { client.query(&statements.undo_messages, &[messages]).await });
    }
    if !made.is_empty() {
        pipeline.push(async move { client.query(&statements.undo_sessions, &[made]).await });
    }
}

fn rows<'a>(link: &'a Link, columns: &'a Columns<'a>, pipeline: &mut Pipeline<'a>) {
    let Link { client, statements } = link;
    let (ids, of, bodies) = &columns.turns;
    if !ids.is_empty() {
        pipeline.push(async move { client.query(&statements.put_turns, &[ids, of, bodies]).await });
    }
    let Parts { sessions, replies, parts, states, bodies, said } = &columns.parts;
    if !sessions.is_empty() {
        pipeline.push(async move {
            let values: [&(dyn ToSql + Sync); 6] = [sessions, replies, parts, states, bodies, said];
            client.query(&statements.put_parts, &values).await
        });
    }
    // Before those that come, for it may be the same place.
    let (of, seqs) = &columns.taken_letters;
    if !of.is_empty() {
        pipeline.push(async move { client.query(&statements.take_letters, &[of, seqs]).await });
    }
    let (of, seqs, bodies) = &columns.letters;
    if !of.is_empty() {
        pipeline
            .push(async move { client.query(&statements.put_letters, &[of, seqs, bodies]).await });
    }
    let (of, seqs, seconds, due) = &columns.disappearing;
    if !of.is_empty() {
        pipeline.push(async move {
            client.query(&statements.put_disappearing, &[of, seqs, seconds, due]).await
        });
    }
}

fn sessions<'a>(link: &'a Link, columns: &'a Columns<'a>, pipeline: &mut Pipeline<'a>) {
    let Link { client, statements } = link;
    let Sessions { ids, versions, epochs, last_seqs, snapshots } = &columns.sessions;
    pipeline.push(async move {
        let values: [&(dyn ToSql + Sync); 5] = [ids, versions, epochs, last_seqs, snapshots];
        client.query(&statements.put_sessions, &values).await
    });
    let (open, due) = &columns.open;
    if !open.is_empty() {
        pipeline.push(async move { client.query(&statements.open_work, &[open, due]).await });
    }
    let idle = &columns.idle;
    if !idle.is_empty() {
        pipeline.push(async move { client.query(&statements.end_work, &[idle]).await });
    }
}

fn knocks<'a>(link: &'a Link, columns: &'a Columns<'a>, pipeline: &mut Pipeline<'a>) {
    let Link { client, statements } = link;
    let (doors, sessions) = &columns.knocks;
    if !doors.is_empty() {
        pipeline.push(async move { client.query(&statements.knock, &[doors, sessions]).await });
    }
}

/// The state as its column holds it, by which parts that wait for a person are found.
pub(super) const fn state_number(state: DeliveryState) -> i16 {
    match state {
        DeliveryState::Pending => 0,
        DeliveryState::Sending => 1,
        DeliveryState::Sent => 2,
        DeliveryState::Unknown => 3,
        DeliveryState::Dead => 4,
    }
}

/// The counts in the order of the tables, as they hold them.
pub(super) fn counts_of(sums: &Sums) -> [i64; 7] {
    let Sums { requests, input_tokens, output_tokens, cached_tokens, .. } = *sums;
    let Sums { cache_write_tokens, cost_micros, unpriced, .. } = *sums;
    let first = [requests, input_tokens, output_tokens, cached_tokens];
    let signed = |count: u64| count.min(SUM_MAX).cast_signed();
    let [requests, input, output, cached] = first.map(signed);
    let [cache_write, cost, unpriced] = [cache_write_tokens, cost_micros, unpriced].map(signed);
    [requests, input, output, cached, cache_write, cost, unpriced]
}
