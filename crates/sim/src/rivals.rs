//! Rivals: in some schedules two people read at the same time that a part is parked, and both have it
//! sent again, one of them a while later and at whichever node listens then. Neither knows of the
//! other. It is drawn from a source of its own, so a schedule without them is what it was before.

use std::sync::Arc;

use turnkeep_core::ids::{Seq, Timestamp, Token};
use turnkeep_core::outbox::DeliveryState;
use turnkeep_core::ports::store::PartRow;
use turnkeep_core::session::{Control, Controlled, Input};

use crate::coverage::Kind;
use crate::plan::Act;
use crate::rng::Rng;
use crate::shell::Who;
use crate::world::{What, World, note};

/// Tells its source from that of everything else. With this number no seed on record has any of
/// it, so each of them still shows what it once showed.
const OWN: u64 = 527 << 35;
/// So long a rival takes to act on what they read, at most.
const SLOW_MS: [u64; 3] = [1, 400, 3000];

/// A part as somebody read it. The same part is parked like this once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    seat: usize,
    reply: Seq,
    part: u32,
    state: DeliveryState,
    tries: u32,
    at: Timestamp,
    text: Arc<str>,
}

impl Reading {
    fn of(seat: usize, row: &PartRow) -> Self {
        let PartRow { reply, part, state, tries, at, .. } = *row;
        Self { seat, reply, part, state, tries, at, text: Arc::clone(&row.text) }
    }
}

/// Who asks for what somebody else may ask for, too.
#[derive(Debug)]
pub(crate) struct Rivals {
    rng: Rng,
    are_there: bool,
    slow_ms: u64,
    /// What those read who are going to act on it.
    read: Vec<Reading>,
    /// Who asked, having read what.
    asked: Vec<(Token, Reading)>,
    /// What somebody was told goes out again.
    granted: Vec<Reading>,
}

impl Rivals {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ OWN);
        let are_there = rng.permille(300);
        let slow_ms = rng.pick(&SLOW_MS);
        let (read, asked, granted) = (Vec::new(), Vec::new(), Vec::new());
        Self { rng, are_there, slow_ms, read, asked, granted }
    }
}

impl World<'_> {
    /// Somebody has a parked part sent again, as soon as there is one.
    pub(crate) fn resends(&mut self, process: usize, seat: usize) {
        let mut parts = self.store.rows[seat].parts.iter();
        let parked =
            parts.find(|row| matches!(row.state, DeliveryState::Unknown | DeliveryState::Dead));
        let Some(reading) = parked.map(|row| Reading::of(seat, row)) else {
            if self.is_wild() {
                let after = self.rng.between(500, 4000);
                self.schedule(after, What::Act(seat, Act::Resend));
            }
            return;
        };
        if self.rivals.are_there && self.rivals.rng.permille(700) {
            self.rivals.read.push(reading.clone());
            let after = self.rivals.rng.below(self.rivals.slow_ms);
            self.rival_comes(after, self.rivals.read.len() - 1);
        }
        self.asks_again(process, reading);
    }

    fn rival_comes(&mut self, after: u64, index: usize) {
        let order = self.rivals.rng.next();
        self.foresee(after, order, What::Rival(index));
    }

    /// Somebody acts on what they read a while ago.
    pub(crate) fn rival_acts(&mut self, index: usize) {
        match self.spoken_to() {
            Some(process) => self.asks_again(process, self.rivals.read[index].clone()),
            None => {
                let after = self.rivals.rng.between(100, 2000);
                self.rival_comes(after, index);
            }
        }
    }

    fn asks_again(&mut self, process: usize, reading: Reading) {
        let Reading { seat, reply, part, state, tries, at: _, text } = reading.clone();
        note!(self, "  asks at {process} for part {part} of reply {reply}, {state:?} by then");
        // However many ask, it is seen once more.
        if !self.rivals.asked.iter().any(|(_, other)| *other == reading) {
            self.provider.allow_resend(seat, reply, part);
        }
        let token = self.token(process, seat, Who::Person(Act::Resend));
        self.rivals.asked.push((token, reading));
        let control = Control::Resend { reply, part, state, tries, text };
        self.push(process, seat, Kind::Resend, Input::Control(token, control));
    }

    /// Who asked is told the truth: one that it goes out again, the others that somebody was first.
    pub(crate) fn judge_resend(&mut self, token: Token, told: &Controlled) {
        let asked = self.rivals.asked.iter().find(|(asked, _)| *asked == token);
        let Some((_, reading)) = asked.cloned() else { return };
        let Reading { seat, reply, part, .. } = reading;
        match told {
            Controlled::Done if self.rivals.granted.contains(&reading) => {
                let what = format!("part {part} of reply {reply} goes out again for two");
                self.judge.broken("I6", || what);
            }
            Controlled::Done => self.rivals.granted.push(reading),
            Controlled::Gone => {
                let mut parts = self.store.rows[seat].parts.iter();
                let stands = parts.any(|row| Reading::of(seat, row) == reading);
                // A process that was replaced where there is only one says what it knows.
                let at = usize::try_from(token.0).ok().and_then(|at| self.waiters.get(at));
                let newest = at.is_some_and(|one| one.process + 1 == self.processes.len());
                if stands && (newest || self.cluster.is_there()) {
                    let what = format!("part {part} of reply {reply} stands as it was read");
                    self.judge.broken("I8", || what);
                }
            }
            other => {
                let what = format!("who sends a part again is told {other:?}");
                self.judge.broken("I8", || what);
            }
        }
    }
}
