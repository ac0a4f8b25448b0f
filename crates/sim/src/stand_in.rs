//! A node that runs no turns runs some in the place of those that do, because nobody took them in
//! time. It is drawn from a source of its own, so a schedule without it is what it was before.

use turnkeep_core::Epoch;
use turnkeep_core::ports::store::Holder;
use turnkeep_core::session::Stage;
use turnkeep_gateway::driver::Driver;

use crate::mutants::Wrapped;
use crate::rng::Rng;
use crate::world::{What, World, note};

/// Tells its source from that of everything else. With this number no seed on record has any of it.
const OWN: u64 = 35 << 36;
/// So long a turn waits for somebody who runs turns, at most.
const PATIENCE_MS: u64 = 600;
/// So long the number is kept, at most, if nothing is run under it.
const KEPT_MS: u64 = 15_000;
/// The pause before a store that was not reached is asked again.
const PAUSE_MS: u64 = 1000;

/// How often that happens.
#[derive(Debug)]
pub(crate) struct StandIns {
    rng: Rng,
    /// In a thousand turns that are handed over.
    odds: u64,
}

impl StandIns {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ OWN);
        let odds = rng.pick(&[0, 0, 300, 900]);
        Self { rng, odds }
    }
}

impl World<'_> {
    /// A node that runs nothing handed a session over: it may wait in vain.
    pub(crate) fn hand_over(&mut self, process: usize, seat: usize) {
        let StandIns { rng, odds } = &mut self.stand_ins;
        if *odds > 0 && rng.permille(*odds) {
            let after = rng.below(PATIENCE_MS);
            self.schedule(after, What::RunHere(process, seat));
        }
    }

    /// Nobody took it, as far as this node knows, so it runs the session's turns itself.
    pub(crate) fn runs_here(&mut self, process: usize, seat: usize) {
        let taken = &self.processes[process];
        let owned = self.is_owned(process, seat) && self.mistake != Some(Wrapped::StandInForOwner);
        if !taken.alive || taken.draining || taken.member.fenced || taken.member.runs || owned {
            return;
        }
        let session = &self.store.rows[seat].session;
        let waits = session
            .turn
            .as_ref()
            .is_some_and(|turn| !matches!(turn.stage, Stage::Operator | Stage::Waiting { .. }));
        let holder = self.holder(process, session.epoch);
        // Nor can an engine be given what waits to be sent, or to be let in.
        let owed = session.outbox.is_active() || !session.held.is_empty();
        if !(waits || owed) || matches!(holder, Holder::Another | Holder::Later) {
            return;
        }
        if self.is_cut(process) {
            return self.schedule(PAUSE_MS, What::RunHere(process, seat));
        }
        let Some(number) = self.second(process) else { return };
        note!(self, "process {process} runs {seat} itself, as {number}");
        self.processes[process].member.stands_in = true;
        self.driver(process, seat).run_here(number);
        self.drive(process, seat);
        let after = self.stand_ins.rng.below(KEPT_MS);
        self.schedule(after, What::StepBack(process));
    }

    /// The number under which a node runs turns that runs none.
    fn second(&mut self, process: usize) -> Option<Epoch> {
        let own = self.processes[process].epoch;
        if self.mistake == Some(Wrapped::StandInUncounted) {
            return Some(own);
        }
        let known = self.processes[process].member.second;
        if known.is_some() || self.is_turned_away(process) {
            return known;
        }
        let number = self.store.open();
        self.store.nodes.enter_again(number, own);
        self.processes[process].member.second = Some(number);
        self.others_change();
        Some(number)
    }

    /// A node leaves turns to others again, if none is left that it runs itself.
    pub(crate) fn steps_back(&mut self, process: usize) {
        let taken = &self.processes[process];
        let runs =
            taken.seats.iter().filter_map(|seat| seat.driver.as_ref()).any(Driver::stands_in);
        if !taken.alive || runs || self.is_cut(process) {
            return;
        }
        if let Some(number) = self.processes[process].member.second.take() {
            note!(self, "process {process} gives {number} back");
            self.store.nodes.give_back(number);
            self.others_change();
            self.rounds();
        }
    }
}
