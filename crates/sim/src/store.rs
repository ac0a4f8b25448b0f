//! The store of the simulator: versions, guards and open work as the port promises them, and
//! everything it says is exactly what a reopened store would say.

use std::sync::Arc;

use turnkeep_core::journal::Event;
use turnkeep_core::message::{MessageBody, Seen};
use turnkeep_core::outbox::DeliveryState;
use turnkeep_core::ports::store::{
    Commit, CommitOutcome, DeadLetter, FirstDecision, Guard, Loaded, PartRow, Rows, TurnRow,
};
use turnkeep_core::session::SessionStatus;
use turnkeep_core::switchboard::may_become;
use turnkeep_core::usage::Sums;
use turnkeep_core::{Epoch, Seq, Session, Timestamp, Version};

use crate::keep::keep;
use crate::mutants::Wrapped;
use crate::nodes::Nodes;
use crate::stock::SESSIONS;

/// One session's rows.
#[derive(Debug, Default)]
pub struct Row {
    /// The state as of the last commit.
    pub session: Session,
    /// 0 while it does not exist.
    pub version: Version,
    /// When a node should look at it.
    pub wake_at: Option<Timestamp>,
    /// The journal.
    pub events: Vec<Event>,
    /// Turns in the order in which they began.
    pub turns: Vec<TurnRow>,
    /// Parts in the order in which they were added.
    pub parts: Vec<PartRow>,
    /// What runs used, in sums.
    pub used: Sums,
    /// The last commit made it something that the switchboard takes for impossible.
    pub leapt: Option<(SessionStatus, SessionStatus)>,
}

#[derive(Debug)]
struct SeenRow {
    seen: Seen,
    first: FirstDecision,
    until: Timestamp,
}

/// Everything durable.
#[derive(Debug, Default)]
pub struct SimStore {
    /// By session.
    pub rows: [Row; SESSIONS],
    /// Dead letters, oldest first.
    pub dead: Vec<(usize, DeadLetter)>,
    /// Who has it open, where several have.
    pub(crate) nodes: Nodes,
    seen: Vec<SeenRow>,
    last_epoch: Epoch,
    /// The planted mistake, if it is the store's.
    pub mistake: Option<Wrapped>,
}

impl SimStore {
    /// Forgets everything and keeps the room.
    pub fn clear(&mut self, mistake: Option<Wrapped>) {
        for row in &mut self.rows {
            row.session = Session::default();
            row.version = Version(0);
            row.wake_at = None;
            row.events.clear();
            row.turns.clear();
            row.parts.clear();
            row.used = Sums::default();
            row.leapt = None;
        }
        self.dead.clear();
        self.seen.clear();
        self.nodes.clear();
        self.last_epoch = Epoch(0);
        self.mistake = mistake;
    }

    /// Another process opens it: a new epoch.
    pub fn open(&mut self) -> Epoch {
        self.last_epoch = self.last_epoch.next();
        if self.mistake == Some(Wrapped::DedupeInMemory) {
            self.seen.clear();
        }
        self.last_epoch
    }

    /// A session as of its last commit, put together from its rows as a real store has to.
    pub fn load(&self, index: usize) -> Option<Loaded> {
        let row = &self.rows[index];
        if row.version == Version(0) {
            return None;
        }
        let mut session = row.session.clone();
        for (seq, body) in session.bodies_mut() {
            *body = body_at(&row.events, seq).unwrap_or_default();
        }
        for out in &mut session.outbox.parts {
            out.text = row
                .parts
                .iter()
                .find(|part| (part.reply, part.part) == (out.reply, out.part))
                .map(|part| Arc::clone(&part.text))
                .unwrap_or_default();
        }
        Some(Loaded { session: Arc::new(session), version: row.version })
    }

    /// Makes one step durable, or says why not.
    pub fn commit(&mut self, index: usize, commit: Box<Commit>) -> CommitOutcome {
        let checked = self.mistake != Some(Wrapped::VersionUnchecked);
        if checked && self.rows[index].version != commit.expected {
            return CommitOutcome::Conflict;
        }
        if let Some(refused) = self.refusal(index, &commit) {
            return refused;
        }
        if commit.rows.question.is_some() {
            return CommitOutcome::Committed(commit.expected);
        }
        CommitOutcome::Committed(self.apply(index, commit))
    }

    fn refusal(&self, index: usize, commit: &Commit) -> Option<CommitOutcome> {
        let now = commit.now();
        for (guard, condition) in commit.rows.guards.iter().enumerate() {
            let earlier = &commit.rows.guards[..guard];
            match condition {
                Guard::NotSeen { seen, .. } => {
                    if let Some((first, body)) = self.first_of(seen, now, earlier) {
                        let first = Some((first.clone(), body == seen.body_hash));
                        return Some(CommitOutcome::Refused { guard, first });
                    }
                }
                Guard::TakeDeadLetter(seq) => {
                    let gone =
                        !self.dead.iter().any(|(owner, one)| (*owner, one.seq) == (index, *seq));
                    if gone || earlier.contains(condition) {
                        return Some(CommitOutcome::Refused { guard, first: None });
                    }
                }
                Guard::Parked { reply, part, state, tries } => {
                    let stands = |row: &PartRow| {
                        (row.reply, row.part, row.state, row.tries)
                            == (*reply, *part, *state, *tries)
                    };
                    let there = self.rows[index].parts.iter().any(stands);
                    if !there || earlier.contains(condition) {
                        return Some(CommitOutcome::Refused { guard, first: None });
                    }
                }
            }
        }
        None
    }

    fn first_of<'a>(
        &'a self,
        seen: &Seen,
        now: Timestamp,
        earlier: &'a [Guard],
    ) -> Option<(&'a FirstDecision, u64)> {
        let stored = self.seen.iter().find(|row| row.seen.key == seen.key && row.until >= now);
        stored.map(|row| (&row.first, row.seen.body_hash)).or_else(|| {
            earlier.iter().find_map(|guard| match guard {
                Guard::NotSeen { seen: other, first, .. } if other.key == seen.key => {
                    Some((first, other.body_hash))
                }
                _ => None,
            })
        })
    }

    fn apply(&mut self, index: usize, mut commit: Box<Commit>) -> Version {
        let Rows { events, turns, parts, dead_letters, guards, usage, .. } = &mut commit.rows;
        // Most commits have hardly any of these, and to see that takes less than to walk through none.
        if !guards.is_empty() {
            self.remember(index, guards.drain(..));
        }
        if !dead_letters.is_empty() {
            self.dead.extend(dead_letters.drain(..).map(|letter| (index, letter)));
        }
        let row = &mut self.rows[index];
        if self.mistake == Some(Wrapped::TornCommit) && events.len() > 3 {
            events.pop();
        }
        row.events.append(events);
        if !usage.is_empty() {
            crate::bill::add(&mut row.used, usage);
        }
        if !turns.is_empty() {
            turns.drain(..).for_each(|turn| put_turn(&mut row.turns, turn));
        }
        if !parts.is_empty() {
            parts.drain(..).for_each(|part| put_part(&mut row.parts, part));
        }
        let (from, to) = (row.session.status(), commit.session.status());
        row.leapt = (!may_become(from, to)).then_some((from, to));
        keep(&mut row.session, &commit.session);
        row.version = commit.expected.next();
        row.wake_at = commit.wake_at;
        row.version
    }

    /// What guards are there for has happened.
    fn remember(&mut self, index: usize, guards: impl Iterator<Item = Guard>) {
        for guard in guards {
            match guard {
                Guard::NotSeen { seen, first, until } => {
                    self.seen.retain(|row| row.seen.key != seen.key);
                    self.seen.push(SeenRow { seen, first, until });
                }
                Guard::TakeDeadLetter(seq) => {
                    self.dead.retain(|(owner, one)| (*owner, one.seq) != (index, seq));
                }
                Guard::Parked { .. } => {}
            }
        }
    }
}

fn put_turn(turns: &mut Vec<TurnRow>, turn: TurnRow) {
    // The one that changes is nearly always the last.
    match turns.iter_mut().rev().find(|known| known.id == turn.id) {
        Some(known) => *known = turn,
        None => turns.push(turn),
    }
}

fn put_part(parts: &mut Vec<PartRow>, part: PartRow) {
    let known =
        parts.iter_mut().rev().find(|known| (known.reply, known.part) == (part.reply, part.part));
    match known {
        Some(known) => {
            let text = if part.text.is_empty() { Arc::clone(&known.text) } else { part.text };
            *known = PartRow { text, ..part };
        }
        None => parts.push(part),
    }
}

/// What the journal holds of an accepted message or notice.
fn body_at(events: &[Event], seq: Seq) -> Option<Arc<MessageBody>> {
    let at = usize::try_from(seq.0.checked_sub(1)?).ok()?;
    events.get(at)?.body.accepted_body()
}

/// Whether a part waits for nobody any more.
#[must_use]
pub const fn is_settled(state: DeliveryState) -> bool {
    matches!(state, DeliveryState::Sent | DeliveryState::Unknown | DeliveryState::Dead)
}
