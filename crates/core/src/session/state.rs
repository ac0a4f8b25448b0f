//! What a session remembers between two inputs; this is the durable snapshot.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::accumulation::{Deadline, Gaps, Hint};
use crate::artifact::ArtifactName;
use crate::ids::{
    Attempt, Epoch, Generation, QuestionId, RunTag, Seq, Seqs, TimerId, Timestamp, TurnGroupId,
    TurnId,
};
use crate::message::{MessageBody, Pending};
use crate::outbox::Outbox;
use crate::planted::{Planted, planted};
use crate::policy::{BusyPolicy, Policy, Trust};
use crate::session::{Answered, Done, Paused};
use crate::tool::Acts;
use crate::usage::Spent;

pub use held::{Held, HeldAs};

mod held;

/// A conversation's whole state. Every field may be absent in an older snapshot, and a reader
/// ignores fields it doesn't know, so that neighbouring versions can read each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Session {
    /// Who last wrote here as the owner.
    pub epoch: Epoch,
    /// Grows with `/new`.
    pub generation: Generation,
    /// The last journal place given out.
    pub last_seq: Seq,
    /// The last timer id given out.
    pub last_timer: TimerId,
    /// The last question id given out.
    pub last_question: QuestionId,
    /// Closed by a person; chat channels reopen it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub closed: bool,
    /// The last turn gave up.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
    /// The open turn: at most one, which is the first promise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn: Option<Box<Turn>>,
    /// Messages for later turns, in order of acceptance.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub queue: Vec<Pending>,
    /// Messages that wait for an external check, and those behind them, in order of acceptance.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<Held>,
    /// The customer takes messages that nobody asked for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub opted_in: bool,
    /// Such messages that wait for the open turn's end, in order of acceptance.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<Notice>,
    /// Replies on their way to a channel that is pushed to.
    #[serde(skip_serializing_if = "Outbox::is_empty")]
    pub outbox: Outbox,
    /// What tools did, so that none of it is done twice, and what agents keep meanwhile.
    #[serde(skip_serializing_if = "Acts::is_empty")]
    pub acts: Acts,
    /// What it cost so far; none while nobody reported anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spent: Option<Box<Spent>>,
    /// What the agent said of its last answer.
    pub hint: Hint,
    /// How fast the customer writes. It is theirs, so a new conversation keeps it.
    #[serde(skip_serializing_if = "Gaps::is_empty")]
    pub rhythm: Gaps,
    /// Set by `/queue`, over every other layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busy: Option<BusyPolicy>,
    /// Set by `/model`: which of the models that its agent offers answers, instead of the agent's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<Arc<str>>,
    /// An operator has the agent's place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// When the user was last told of a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noticed_at: Option<Timestamp>,
    /// When the user was last told that a message was not passed on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_at: Option<Timestamp>,
    /// The place of the last `/new`; history never reaches behind it.
    pub history_from: Seq,
    /// What stands up to here is gone, its dead letters too. Not in the snapshot: the store that
    /// forgot it fills it in on load, where acts are remembered.
    #[serde(skip)]
    pub forgotten: Seq,
    /// When anything last changed.
    pub updated_at: Timestamp,
}

/// Something to tell the user that waits for the open turn's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The journal place of its acceptance.
    pub seq: Seq,
    /// A job or a reminder has it told, so nobody has to opt in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub scheduled: bool,
    /// Not in the snapshot: the journal holds it, and the store fills it in on load.
    #[serde(skip)]
    pub body: Arc<MessageBody>,
}

/// The open turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Which.
    pub id: TurnId,
    /// Its supersede chain.
    pub group: TurnGroupId,
    /// Fixed at its start: only equal trust joins.
    pub trust: Trust,
    /// Who runs it.
    pub epoch: Epoch,
    /// Runs begun so far.
    pub attempt: Attempt,
    /// Attempts that ended in an error.
    pub errors: u32,
    /// Times it was found running by a new owner.
    pub recoveries: u32,
    /// Turns that this chain cancelled before it.
    pub chain: u32,
    /// Past its commit point: never superseded, every retry resumes.
    pub committed: bool,
    /// Stop was asked for after the commit point; it ends at the next result.
    pub stopping: bool,
    /// When its first message came.
    pub started_at: Timestamp,
    /// Where it stands.
    pub stage: Stage,
    /// The messages it answers.
    pub messages: Burst,
    /// How many of them the current attempt began with.
    pub given: u32,
    /// How many it took from the mailbox, over all attempts.
    pub absorbed: u32,
    /// Messages that joined and that the agent has not taken yet.
    pub mailbox: Vec<Pending>,
    /// The question the agent is thinking about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<Query>,
    /// What the user answered while no run was there to hear it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Answered>,
    /// Calls that act and were under way when it was stopped: the user is told what came of them.
    #[serde(default, skip_serializing_if = "SmallVec::is_empty")]
    pub stopped_in: SmallVec<[Seq; 1]>,
    /// Calls of this attempt that have no result yet, by the places of their intents.
    #[serde(default, skip_serializing_if = "SmallVec::is_empty")]
    pub open_calls: SmallVec<[Seq; 1]>,
    /// A tool was called that is not pure.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub acted: bool,
    /// It finishes now, without new work, in whatever attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finishing: Option<FinishReason>,
    /// Artifacts that this attempt has taken or made.
    #[serde(default, skip_serializing_if = "SmallVec::is_empty")]
    pub held: SmallVec<[ArtifactName; 1]>,
    /// What this attempt put on record so far.
    #[serde(default, skip_serializing_if = "Done::is_nothing")]
    pub done: Done,
}

/// Why a turn finishes without new work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// Its agent chose so, for a message that waits.
    ForceComplete,
    /// It has cost what a turn may.
    Budget,
}

/// The messages of a turn; most have one.
pub type Burst = SmallVec<[Pending; 1]>;

/// What to do with new mail, put to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// Names it.
    pub id: QuestionId,
    /// The default is taken when this is over.
    pub deadline: Deadline,
}

/// Where an open turn stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "at")]
pub enum Stage {
    /// Gathering the burst.
    Accumulating {
        /// The window.
        window: Deadline,
    },
    /// An attempt was handed to the agent.
    Processing,
    /// Between two attempts.
    Backoff {
        /// When the next one starts.
        until: Deadline,
    },
    /// It may be what kills the process: waits for the one place where such turns run.
    Quarantined,
    /// Waits for the operator who has the agent's place.
    Operator,
    /// The agent asked the user something.
    Waiting {
        /// Which question.
        question: QuestionId,
        /// When it gives up.
        deadline: Deadline,
        /// The asking run is still there to be answered.
        live: bool,
    },
}

/// A session's state as the outside sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionStatus {
    /// Nothing to do.
    Idle,
    /// Gathering a burst.
    Accumulating,
    /// The agent works.
    Processing,
    /// The agent asked something.
    WaitingForInput,
    /// Messages wait for the operator who has the agent's place.
    WaitingForOperator,
    /// On disk only.
    Hibernated,
    /// Closed by a person.
    Closed,
    /// Idle, and the last turn gave up.
    Failed,
}

/// What a timer that fired is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// An armed deadline; stale unless it is still the one armed.
    Armed(TimerId),
    /// Something in the queue may have waited too long.
    QueueExpiry,
    /// The first of the held messages was ruled on.
    Held,
}

/// Something that happens without any input.
struct Due {
    at: Timestamp,
    duration_ms: u64,
    wake: Wake,
}

impl Session {
    /// A conversation nobody has written in yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The state as the outside sees it.
    #[must_use]
    pub fn status(&self) -> SessionStatus {
        match &self.turn {
            Some(turn) => match turn.stage {
                Stage::Accumulating { .. } => SessionStatus::Accumulating,
                Stage::Processing | Stage::Backoff { .. } | Stage::Quarantined => {
                    SessionStatus::Processing
                }
                Stage::Waiting { .. } => SessionStatus::WaitingForInput,
                Stage::Operator => SessionStatus::WaitingForOperator,
            },
            None if self.closed => SessionStatus::Closed,
            None if self.failed => SessionStatus::Failed,
            None => SessionStatus::Idle,
        }
    }

    /// Whether a node must look after this session.
    #[must_use]
    pub fn has_open_work(&self) -> bool {
        let queued = !self.queue.is_empty() || !self.held.is_empty();
        let owed = !self.notices.is_empty() || self.outbox.is_active();
        self.turn.is_some() || queued || owed || self.paused.is_some()
    }

    /// Accepted messages that no running turn has taken: what the inbox bound counts.
    #[must_use]
    pub fn inbox_len(&self) -> usize {
        let turn = self.turn.as_ref().map_or(0, |turn| {
            let gathering = match turn.stage {
                Stage::Accumulating { .. } | Stage::Operator => turn.messages.len(),
                _ => 0,
            };
            gathering + turn.mailbox.len()
        });
        let held = if planted(Planted::HeldUncounted) { 0 } else { self.held.len() };
        turn + self.queue.len() + held
    }

    /// Which message of its burst the next one would be, if it came now; 1 is the first.
    #[must_use]
    pub fn next_of_burst(&self) -> u32 {
        let gathering = |turn: &&Turn| matches!(turn.stage, Stage::Accumulating { .. });
        let count = self.turn.as_deref().filter(gathering).map_or(0, |turn| turn.messages.len());
        u32::try_from(count).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// Turns ahead of a message that would be queued now, the open one included.
    #[must_use]
    pub fn turns_ahead(&self, alone: bool, trust: Trust) -> u32 {
        let mut ahead = u32::from(self.turn.is_some());
        let mut previous: Option<&Pending> = None;
        let held = self.held.iter().filter(|held| held.held_as != HeldAs::Context);
        for pending in self.queue.iter().chain(held.map(|held| &held.message)) {
            if !previous.is_some_and(|last| last.collects_with(pending)) {
                ahead += 1;
            }
            previous = Some(pending);
        }
        // It would share the last queued turn, which is then not ahead of it.
        let shares = previous.is_some_and(|last| {
            !last.alone && last.group.is_none() && !alone && last.trust == trust
        });
        ahead - u32::from(shares)
    }

    /// The message that was accepted last of those that have no ending yet.
    #[must_use]
    pub fn newest(&self) -> Option<&Pending> {
        let turn = self.turn.iter().flat_map(|turn| [turn.messages.last(), turn.mailbox.last()]);
        let held = self.held.last().map(|held| &held.message);
        turn.flatten().chain(self.queue.last()).chain(held).max_by_key(|pending| pending.seq)
    }

    /// Every accepted message that has no ending yet, in no particular order.
    pub fn pending(&self) -> impl Iterator<Item = &Pending> {
        let turn = self.turn.iter().flat_map(|turn| turn.messages.iter().chain(&turn.mailbox));
        turn.chain(&self.queue).chain(self.held.iter().map(|held| &held.message))
    }

    /// The places at which the journal holds the bodies that a snapshot leaves out.
    pub fn bodies(&self) -> impl Iterator<Item = Seq> {
        let pending = self.pending().map(|pending| pending.seq);
        pending.chain(self.notices.iter().map(|notice| notice.seq))
    }

    /// The same in the same order, to fill them in.
    pub fn bodies_mut(&mut self) -> impl Iterator<Item = (Seq, &mut Arc<MessageBody>)> {
        let turn =
            self.turn.iter_mut().flat_map(|turn| turn.messages.iter_mut().chain(&mut turn.mailbox));
        let held = self.held.iter_mut().map(|held| &mut held.message);
        let pending = turn.chain(&mut self.queue).chain(held).map(|one| (one.seq, &mut one.body));
        pending.chain(self.notices.iter_mut().map(|one| (one.seq, &mut one.body)))
    }

    /// The next moment at which something is due without any input.
    #[must_use]
    pub fn next_wake(&self, policy: &Policy) -> Option<(Timestamp, Wake)> {
        let mut next: Option<(Timestamp, Wake)> = None;
        self.each_due(policy, |due| {
            if next.is_none_or(|(at, _)| due.at < at) {
                next = Some((due.at, due.wake));
            }
        });
        next
    }

    /// How long until then, in milliseconds. Never longer than the deadline was when it was armed,
    /// so that a clock that stepped back leaves nobody waiting.
    #[must_use]
    pub fn next_wait(&self, policy: &Policy, now: Timestamp) -> Option<(u64, Wake)> {
        let mut next: Option<(u64, Wake)> = None;
        self.each_due(policy, |due| {
            let rest = due.at.saturating_sub(now).max(0).unsigned_abs();
            let longest = if planted(Planted::ClampForgotten) { u64::MAX } else { due.duration_ms };
            let wait_ms = rest.min(longest);
            if next.is_none_or(|(least, _)| wait_ms < least) {
                next = Some((wait_ms, due.wake));
            }
        });
        next
    }

    fn each_due(&self, policy: &Policy, mut hear: impl FnMut(Due)) {
        let stage = self.turn.as_ref().and_then(|turn| match turn.stage {
            Stage::Accumulating { window: deadline }
            | Stage::Backoff { until: deadline }
            | Stage::Waiting { deadline, .. } => Some(deadline),
            Stage::Processing | Stage::Quarantined | Stage::Operator => None,
        });
        let query = self.turn.as_ref().and_then(|turn| turn.query).map(|query| query.deadline);
        let operator = self.paused.as_ref().and_then(|paused| paused.until);
        let armed = [stage, query, self.outbox.next_deadline(), operator];
        for Deadline { id, at, duration_ms } in armed.into_iter().flatten() {
            hear(Due { at, duration_ms, wake: Wake::Armed(id) });
        }
        if let (1.., Some(oldest)) = (policy.queue_ttl_ms, self.queue.first()) {
            let duration_ms = policy.queue_ttl_ms;
            let at = oldest.at.saturating_add_unsigned(duration_ms);
            hear(Due { at, duration_ms, wake: Wake::QueueExpiry });
        }
        if let Some(first) = self.held.first()
            && !planted(Planted::CheckWithoutEnd)
        {
            let Deadline { id, at, duration_ms } = first.deadline;
            hear(match first.ruled {
                None => Due { at, duration_ms, wake: Wake::Armed(id) },
                Some(_) => Due { at: self.updated_at, duration_ms: 0, wake: Wake::Held },
            });
        }
    }

    /// When a node should look at this session if nobody did before; none while nothing is open.
    /// What stores index as open work.
    #[must_use]
    pub fn wake_at(&self, policy: &Policy) -> Option<Timestamp> {
        if !self.has_open_work() {
            return None;
        }
        let watched = if self.rests_with_operator() {
            // A person may take days, and nothing has to be looked after until then.
            Timestamp::MAX
        } else {
            self.updated_at.saturating_add_unsigned(policy.turn_ms)
        };
        Some(self.next_wake(policy).map_or(watched, |(at, _)| at.min(watched)))
    }

    /// Whatever is open waits for the operator.
    fn rests_with_operator(&self) -> bool {
        let theirs = self.turn.as_ref().is_none_or(|turn| turn.stage == Stage::Operator);
        self.paused.is_some() && theirs && self.held.is_empty() && !self.outbox.is_active()
    }

    /// Pulls every deadline back into reach after the clock may have jumped.
    pub fn clamp_deadlines(&mut self, now: Timestamp) {
        if planted(Planted::ClampForgotten) {
            return;
        }
        if let Some(turn) = &mut self.turn {
            match &mut turn.stage {
                Stage::Accumulating { window: deadline }
                | Stage::Backoff { until: deadline }
                | Stage::Waiting { deadline, .. } => deadline.clamp(now),
                Stage::Processing | Stage::Quarantined | Stage::Operator => {}
            }
            if let Some(query) = &mut turn.query {
                query.deadline.clamp(now);
            }
            // The limit of a burst counts from here.
            turn.started_at = turn.started_at.min(now);
        }
        self.held.iter_mut().for_each(|held| held.deadline.clamp(now));
        if let Some(until) = self.paused.as_mut().and_then(|paused| paused.until.as_mut()) {
            until.clamp(now);
        }
        self.outbox.clamp_deadlines(now);
    }
}

impl Turn {
    /// What its current run must show.
    #[must_use]
    pub const fn tag(&self) -> RunTag {
        RunTag { turn: self.id, epoch: self.epoch, attempt: self.attempt }
    }

    /// The places of its messages.
    #[must_use]
    pub fn seqs(&self) -> Seqs {
        self.messages.iter().map(|pending| pending.seq).collect()
    }
}

impl Pending {
    /// Whether one later turn answers both of two neighbours in the queue.
    #[must_use]
    pub fn collects_with(&self, next: &Self) -> bool {
        !self.alone
            && !next.alone
            && self.group.is_none()
            && next.group.is_none()
            && self.trust == next.trust
    }
}
