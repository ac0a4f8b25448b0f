//! Tools of the world outside: they count what was really done, whatever anybody remembers of it. In
//! some schedules agents use them where they would only put something on record in others. They
//! draw from a source of their own, so a schedule without them is what it was before.

use std::sync::Arc;

use turnkeep_core::TurnId;
use turnkeep_core::ids::{Seq, TurnGroupId};
use turnkeep_core::journal::{Event, EventBody};
use turnkeep_core::session::{AgentInput, StartRun};
use turnkeep_core::tool::{Act, ActName, Intent, SideEffects, ToolOutcome};

use crate::agent::Run;
use crate::coverage::Kind;
use crate::rng::Rng;
use crate::world::World;

/// Tells its source from that of everything else. With this number no seed on record has tools, so
/// each of them still shows what it once showed.
const OWN: u64 = 1354 << 32;

/// What acts there are: a few, so that they are wanted again and again.
const ACTS: [SideEffects; 6] = [
    SideEffects::Pure,
    SideEffects::Idempotent,
    SideEffects::Compensatable,
    SideEffects::Irreversible,
    SideEffects::Irreversible,
    SideEffects::Irreversible,
];

/// What a run does with its tools.
#[derive(Debug, Default)]
pub(crate) struct Hands {
    /// What it asked for last.
    wanted: Option<u8>,
    /// A call that ended, and of which it has to tell.
    pub(crate) done: Option<(Seq, ToolOutcome)>,
}

/// Something that was really done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Deed {
    seat: usize,
    group: TurnGroupId,
    name: ActName,
}

/// All tools.
#[derive(Debug)]
pub(crate) struct Tools {
    rng: Rng,
    there: bool,
    /// Whatever can't be done twice without harm.
    deeds: Vec<Deed>,
}

impl Tools {
    pub(crate) const fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ OWN);
        let there = rng.permille(300);
        Self { rng, there, deeds: Vec::new() }
    }

    pub(crate) const fn are_there(&self) -> bool {
        self.there
    }
}

const fn name_of(number: u8) -> ActName {
    ActName([number; 16])
}

const fn effects_of(name: ActName) -> SideEffects {
    ACTS[name.0[0] as usize]
}

impl World<'_> {
    /// A run wants to use a tool.
    pub(crate) fn run_intends(&mut self, run: usize) {
        let number = self.tools.rng.pick(&[0_u8, 1, 2, 3, 4, 5]);
        self.runs[run].hands.wanted = Some(number);
        let name = name_of(number);
        let (tool, input) = (Arc::clone(&self.stock.record), Arc::clone(&self.stock.record));
        let intent = Box::new(Intent { tool, effects: effects_of(name), name, input });
        self.run_asks(run, Kind::Intend, |token| AgentInput::Intend(token, intent));
    }

    /// It may. What the tool does, and what is heard of it, are two things.
    pub(crate) fn call_tool(&mut self, run: usize, live: bool, call: Seq) {
        if !live {
            self.judge.broken("I18", || "a run that is over is let through to a tool".to_owned());
        }
        let Run { seat, group, .. } = self.runs[run];
        let Some(name) = self.runs[run].hands.wanted.take().map(name_of) else {
            return self.judge.broken("I20", || "a call that nobody wanted".to_owned());
        };
        self.judge_call(run, call, name);
        let (happens, heard) = match self.tools.rng.below(10) {
            0..=5 => (true, Some(ToolOutcome::Done)),
            6 => (false, Some(ToolOutcome::Failed)),
            7 => (true, Some(ToolOutcome::Unknown)),
            8 => (true, None),
            _ => (false, None),
        };
        if happens && effects_of(name) > SideEffects::Idempotent {
            let deed = Deed { seat, group, name };
            if self.tools.deeds.contains(&deed) {
                self.judge.broken("I20", || format!("session {seat}: act {name} is done twice"));
            }
            self.tools.deeds.push(deed);
        }
        self.runs[run].hands.done = heard.map(|outcome| (call, outcome));
    }

    /// The intent is durable before the call, and so is the commit point of what can't be undone,
    /// with all mail read.
    fn judge_call(&mut self, run: usize, call: Seq, name: ActName) {
        let Run { seat, tag, .. } = self.runs[run];
        let events = &self.store.rows[seat].events;
        let place = usize::try_from(call.0).unwrap_or(usize::MAX);
        let before = events.get(..place).unwrap_or_default();
        let intended = before.last().is_some_and(|last| {
            matches!(&last.body, EventBody::ToolIntended { turn_id, attempt, act, .. }
                if (*turn_id, *attempt, *act) == (tag.turn, tag.attempt, name))
        });
        if !intended {
            self.judge.broken("I20", || format!("call {call} is made before it is on record"));
        }
        if effects_of(name) != SideEffects::Irreversible {
            return;
        }
        let committed = before.iter().any(|event| {
            matches!(&event.body, EventBody::CommitReached { turn_id, .. } if *turn_id == tag.turn)
        });
        let unread = unread(before, tag.turn, self.plan.policies[seat].absorbed_max as usize);
        if !committed {
            self.judge.broken("I20", || format!("call {call} is made without a commit point"));
        }
        if let Some(unread) = unread {
            self.judge
                .broken("I20", || format!("call {call} is made before mail {unread} is read"));
        }
    }

    /// The run tells of the call.
    pub(crate) fn run_returns(&mut self, run: usize, call: Seq, outcome: ToolOutcome) {
        let output = Arc::clone(&self.stock.record);
        self.run_asks(run, Kind::Returned, |token| {
            AgentInput::Returned(token, call, outcome, output)
        });
    }

    /// It is told that this was done: so it was.
    pub(crate) fn judge_known(&mut self, run: usize, act: &Act) {
        let Run { seat, group, .. } = self.runs[run];
        let deed = Deed { seat, group, name: act.name };
        let counted = act.effects > SideEffects::Idempotent;
        if counted && act.outcome() == ToolOutcome::Done && !self.tools.deeds.contains(&deed) {
            let name = act.name;
            self.judge.broken("I20", || format!("act {name} counts as done, and was not"));
        }
    }

    /// An attempt begins with everything that was done for its group, or may have been. (One that
    /// was replaced before its effect ran knows less, and is let through to nothing.)
    pub(crate) fn judge_acts(&mut self, seat: usize, start: &StartRun) {
        let open = self.store.rows[seat].session.turn.as_ref();
        if open.is_none_or(|turn| turn.tag() != start.tag) {
            return;
        }
        let is_told = |deed: &Deed| {
            let mut acts = start.acts.iter();
            acts.any(|act| act.name == deed.name && act.outcome() != ToolOutcome::Failed)
        };
        let theirs = |deed: &&Deed| (deed.seat, deed.group) == (seat, start.group);
        let forgotten = self.tools.deeds.iter().filter(theirs).find(|deed| !is_told(deed));
        if let Some(Deed { name, .. }) = forgotten.copied() {
            self.judge.broken("I20", || format!("a run is not told that act {name} was done"));
        }
    }
}

/// A message that joined the running turn and that its agent was not given, if there is room for it.
fn unread(before: &[Event], turn: TurnId, absorbed_max: usize) -> Option<Seq> {
    let (mut unread, mut absorbed) = (Vec::new(), 0);
    for event in before {
        match &event.body {
            EventBody::MessageAccepted { turn_id, held: false, .. } if *turn_id == Some(turn) => {
                unread.push(event.seq);
            }
            EventBody::TurnMessageAbsorbed { turn_id, messages } if *turn_id == turn => {
                absorbed += messages.len();
                unread.retain(|seq| !messages.contains(seq));
            }
            EventBody::TurnAnswered { turn_id, message, .. } if *turn_id == turn => {
                absorbed += 1;
                unread.retain(|seq| seq != message);
            }
            EventBody::TurnStarted { messages, .. }
            | EventBody::TurnProcessing { messages, .. }
            | EventBody::MessageRequeued { messages } => {
                unread.retain(|seq| !messages.contains(seq));
            }
            _ => {}
        }
    }
    unread.first().copied().filter(|_| absorbed < absorbed_max)
}
