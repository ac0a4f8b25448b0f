//! Tools of the world outside: they count what was really done, whatever anybody remembers of it. In
//! some schedules agents use them where they would only put something on record in others. They
//! draw from a source of their own, so a schedule without them is what it was before.

use std::sync::Arc;

use turnkeep_core::TurnId;
use turnkeep_core::ids::{Seq, TurnGroupId};
use turnkeep_core::journal::{Event, EventBody, SupersedeChoice};
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
const ACTS: [SideEffects; 7] = [
    SideEffects::Pure,
    SideEffects::Idempotent,
    SideEffects::Compensatable,
    SideEffects::Compensatable,
    SideEffects::Irreversible,
    SideEffects::Irreversible,
    SideEffects::Irreversible,
];

/// What a run does with its tools.
#[derive(Debug, Default)]
pub(crate) struct Hands {
    /// What it asked for last.
    wanted: Option<Wanted>,
    /// A call that ended, and of which it has to tell.
    pub(crate) done: Option<(Seq, ToolOutcome)>,
}

/// A call that is asked for.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    name: ActName,
    effects: SideEffects,
    /// The call that it undoes.
    undoes: Option<Seq>,
}

/// Something that was really done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Deed {
    seat: usize,
    group: TurnGroupId,
    name: ActName,
    call: Seq,
    /// It was really taken back.
    undone: bool,
}

impl Deed {
    fn is(&self, seat: usize, group: TurnGroupId, name: ActName) -> bool {
        (self.seat, self.group, self.name) == (seat, group, name)
    }
}

/// All tools.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) rng: Rng,
    there: bool,
    /// Whatever can't be done twice without harm.
    deeds: Vec<Deed>,
    /// Calls that were taken back, by session: what undoes a call also keeps it from happening later,
    /// by a process that stood still with its leave in hand.
    taken_back: Vec<(usize, Seq)>,
}

impl Tools {
    pub(crate) const fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ OWN);
        let there = rng.permille(300);
        Self { rng, there, deeds: Vec::new(), taken_back: Vec::new() }
    }

    pub(crate) const fn are_there(&self) -> bool {
        self.there
    }
}

const fn name_of(number: u8) -> ActName {
    ActName([number; 16])
}

const fn effects_of(number: u8) -> SideEffects {
    ACTS[number as usize]
}

/// What undoes a call, whatever it is, is one act.
fn undoing(call: Seq) -> ActName {
    let mut name = [255; 16];
    name[..8].copy_from_slice(&call.0.to_be_bytes());
    ActName(name)
}

impl World<'_> {
    /// A run wants to use a tool.
    pub(crate) fn run_intends(&mut self, run: usize) {
        match self.tools.rng.below(10) {
            0..=2 => return self.run_keeps(run),
            3..=4 => return self.run_recalls(run),
            _ => {}
        }
        let wanted = self.draw_undoing(run).unwrap_or_else(|| {
            let number = self.tools.rng.pick(&[0_u8, 1, 2, 3, 4, 5, 6]);
            Wanted { name: name_of(number), effects: effects_of(number), undoes: None }
        });
        self.runs[run].hands.wanted = Some(wanted);
        let Wanted { name, effects, undoes: compensates } = wanted;
        let (tool, input) = (Arc::clone(&self.stock.record), Arc::clone(&self.stock.record));
        let intent = Box::new(Intent { tool, effects, name, input, compensates });
        self.run_asks(run, Kind::Intend, |token| AgentInput::Intend(token, intent));
    }

    /// Now and then it undoes something, and sometimes what it may not.
    fn draw_undoing(&mut self, run: usize) -> Option<Wanted> {
        let Run { seat, group, .. } = self.runs[run];
        let acts = self.store.rows[seat].session.acts.of(group);
        let rng = &mut self.tools.rng;
        if acts.is_empty() || !rng.permille(350) {
            return None;
        }
        let act = acts[rng.index(acts.len())];
        let call = if rng.permille(20) { Seq(1) } else { act.call };
        let effects = rng.pick(&[
            SideEffects::Idempotent,
            SideEffects::Compensatable,
            SideEffects::Compensatable,
            SideEffects::Irreversible,
        ]);
        Some(Wanted { name: undoing(call), effects, undoes: Some(call) })
    }

    /// It may. What the tool does, and what is heard of it, are two things.
    pub(crate) fn call_tool(&mut self, run: usize, live: bool, call: Seq) {
        if !live {
            self.judge.broken("I18", || "a run that is over is let through to a tool".to_owned());
        }
        let Run { seat, group, .. } = self.runs[run];
        let Some(wanted) = self.runs[run].hands.wanted.take() else {
            return self.judge.broken("I20", || "a call that nobody wanted".to_owned());
        };
        let Wanted { name, effects, undoes } = wanted;
        self.judge_call(run, call, wanted);
        let (happens, heard) = match self.tools.rng.below(10) {
            0..=5 => (true, Some(ToolOutcome::Done)),
            6 => (false, Some(ToolOutcome::Failed)),
            7 => (true, Some(ToolOutcome::Unknown)),
            8 => (true, None),
            _ => (false, None),
        };
        let happens = happens && !self.tools.taken_back.contains(&(seat, call));
        if happens && effects > SideEffects::Idempotent {
            let twice = |deed: &&Deed| deed.is(seat, group, name) && !deed.undone;
            if self.tools.deeds.iter().any(|deed| twice(&deed)) {
                self.judge.broken("I20", || format!("session {seat}: act {name} is done twice"));
            }
            self.tools.deeds.push(Deed { seat, group, name, call, undone: false });
        }
        if let Some(undone) = undoes.filter(|_| happens) {
            self.undo(seat, group, undone);
        }
        self.runs[run].hands.done = heard.map(|outcome| (call, outcome));
    }

    /// Something is taken back, by its number, as far as it is there.
    fn undo(&mut self, seat: usize, group: TurnGroupId, undone: Seq) {
        self.tools.taken_back.push((seat, undone));
        let theirs = |deed: &&mut Deed| (deed.seat, deed.group, deed.call) == (seat, group, undone);
        self.tools.deeds.iter_mut().filter(theirs).for_each(|deed| deed.undone = true);
    }

    /// What may be undone, by what the journal says of it.
    fn judge_undoing(&mut self, before: &[Event], undone: Seq) {
        let place = usize::try_from(undone.0.saturating_sub(1)).unwrap_or(usize::MAX);
        let of = before.get(place).map(|event| &event.body);
        let may_be = matches!(of, Some(EventBody::ToolIntended { effects, compensates: None, .. })
            if *effects == SideEffects::Compensatable);
        let outcome = before.iter().find_map(|event| match &event.body {
            EventBody::ToolReturned { call, outcome, .. } if *call == undone => Some(*outcome),
            _ => None,
        });
        if !may_be || !matches!(outcome, Some(ToolOutcome::Done | ToolOutcome::Unknown)) {
            self.judge.broken("I26", || format!("call {undone} is undone, and may not be"));
        }
        if is_undone(before, undone) {
            self.judge.broken("I26", || format!("call {undone} is undone twice"));
        }
    }

    /// The intent is durable before the call, and so is the commit point of what can't be undone,
    /// with all mail read.
    fn judge_call(&mut self, run: usize, call: Seq, wanted: Wanted) {
        let events = std::mem::take(&mut self.store.rows[self.runs[run].seat].events);
        let place = usize::try_from(call.0).unwrap_or(usize::MAX);
        self.judge_call_after(run, call, wanted, events.get(..place).unwrap_or_default());
        self.store.rows[self.runs[run].seat].events = events;
    }

    fn judge_call_after(&mut self, run: usize, call: Seq, wanted: Wanted, before: &[Event]) {
        let Run { seat, tag, .. } = self.runs[run];
        let Wanted { name, effects, undoes } = wanted;
        let intended = before.last().is_some_and(|last| {
            matches!(&last.body, EventBody::ToolIntended { turn_id, attempt, act, .. }
                if (*turn_id, *attempt, *act) == (tag.turn, tag.attempt, name))
        });
        if !intended {
            self.judge.broken("I20", || format!("call {call} is made before it is on record"));
        }
        if finishes(before, tag.turn) {
            self.judge.broken("I28", || format!("call {call} is new work of a turn that finishes"));
        }
        if let Some(undone) = undoes {
            self.judge_undoing(before, undone);
        }
        if effects != SideEffects::Irreversible {
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
        let name = act.name;
        let counted = act.effects > SideEffects::Idempotent && act.outcome() == ToolOutcome::Done;
        if counted && !self.tools.deeds.iter().any(|deed| deed.is(seat, group, name)) {
            self.judge.broken("I20", || format!("act {name} counts as done, and was not"));
        }
        let open = self.store.rows[seat].session.turn.as_ref();
        let is_current = open.is_some_and(|turn| turn.tag() == self.runs[run].tag);
        if is_current && is_undone(&self.store.rows[seat].events, act.call) {
            self.judge.broken("I26", || format!("act {name} counts as done, and was undone"));
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
            acts.any(|act| {
                let stands = act.undone_by.is_none() && act.outcome() != ToolOutcome::Failed;
                act.name == deed.name && stands
            })
        };
        let theirs = |deed: &&Deed| (deed.seat, deed.group) == (seat, start.group) && !deed.undone;
        let forgotten = self.tools.deeds.iter().filter(theirs).find(|deed| !is_told(deed));
        if let Some(Deed { name, .. }) = forgotten.copied() {
            self.judge.broken("I20", || format!("a run is not told that act {name} was done"));
        }
    }
}

/// Somebody was told that this call is undone.
fn is_undone(events: &[Event], undone: Seq) -> bool {
    let by = |event: &&Event| matches!(event.body, EventBody::ToolIntended { compensates, .. } if compensates == Some(undone));
    events.iter().filter(by).any(|by| {
        events.iter().any(|event| {
            matches!(event.body, EventBody::ToolReturned { call, outcome: ToolOutcome::Done, .. }
                if call == by.seq)
        })
    })
}

/// Its agent chose that this turn finishes now.
fn finishes(before: &[Event], turn: TurnId) -> bool {
    let decided = before.iter().rev().find_map(|event| match &event.body {
        EventBody::SupersedeDecided { turn_id, choice, .. } if *turn_id == turn => match choice {
            SupersedeChoice::ForceComplete => Some(true),
            SupersedeChoice::AbsorbRestart => Some(false),
            _ => None,
        },
        // What is handed back begins anew.
        EventBody::TurnWaitingForOperator { turn_id, .. } if *turn_id == turn => Some(false),
        _ => None,
    });
    decided.unwrap_or(false)
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
