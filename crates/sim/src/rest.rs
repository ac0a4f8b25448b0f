//! A seat at rest: its next deadline, late timers, and the one place for suspect turns.

use turnkeep_core::ids::TurnId;
use turnkeep_core::session::{Input, Stage, Wake};
use turnkeep_gateway::driver::Driver;

use crate::coverage::Kind;
use crate::world::{What, World};

impl World<'_> {
    /// Everything is stepped: arms the next deadline and gives back what is no longer used.
    pub(crate) fn settle(&mut self, process: usize, seat: usize) {
        let wall = self.wall_of(process);
        let now = self.now;
        let Some(driver) = &self.processes[process].seats[seat].driver else { return };
        let wake = driver.next_wait(wall).map(|(wait, wake)| (now + wait, wake));
        if driver.session().is_none() {
            return;
        }
        self.judge_place(process, seat);
        self.give_back(process, seat);
        let taken = &mut self.processes[process].seats[seat];
        match (wake, taken.armed) {
            // The same deadline keeps the moment at which it was first armed.
            (Some((at, wake)), Some((armed_at, armed))) if wake == armed && at >= armed_at => {}
            (Some((at, wake)), _) => {
                taken.armed = Some((at, wake));
                taken.timer_serial += 1;
                let serial = taken.timer_serial;
                self.schedule(at - now, What::Timer(process, seat, serial, wake));
            }
            (None, _) => taken.armed = None,
        }
        if let Some(driver) = &mut self.processes[process].seats[seat].driver {
            driver.step_back();
        }
    }

    /// A timer fires; now and then one that nobody waits for any more does, too.
    pub(crate) fn timer(&mut self, process: usize, seat: usize, serial: u32, wake: Wake) {
        let taken = &mut self.processes[process].seats[seat];
        let current =
            taken.timer_serial == serial && taken.armed.is_some_and(|(_, armed)| armed == wake);
        if current {
            taken.armed = None;
        }
        let late = !current && self.rng.permille(150);
        let process_taken = &self.processes[process];
        if !process_taken.alive || process_taken.draining || !(current || late) {
            return;
        }
        let kind = if wake == Wake::QueueExpiry { Kind::QueueExpiry } else { Kind::Timer };
        self.push(process, seat, kind, Input::Timer(wake));
    }

    /// The place for suspect turns is free again once its turn neither runs nor is being granted.
    pub(crate) fn give_back(&mut self, process: usize, seat: usize) {
        let taken = &self.processes[process];
        let Some((holder, turn)) = taken.place else { return };
        if holder != seat || taken.seats[seat].granting {
            return;
        }
        let session = taken.seats[seat].driver.as_ref().and_then(Driver::session);
        let runs = session.and_then(|session| session.turn.as_ref()).is_some_and(|open| {
            open.id == turn
                && matches!(open.stage, Stage::Processing | Stage::Waiting { live: true, .. })
        });
        if !runs {
            self.processes[process].place = None;
            self.next_in_line(process);
        }
    }

    pub(crate) fn next_in_line(&mut self, process: usize) {
        let taken = &mut self.processes[process];
        if taken.place.is_some() {
            return;
        }
        if let Some((seat, turn)) = taken.place_line.pop_front() {
            taken.place = Some((seat, turn));
            taken.seats[seat].granting = true;
            let after = self.rng.below(20);
            self.schedule(after, What::Grant(process, seat, turn));
        }
    }

    pub(crate) fn granted(&mut self, process: usize, seat: usize, turn: TurnId) {
        if self.processes[process].alive {
            self.processes[process].seats[seat].granting = false;
            self.driver(process, seat);
            if self.processes[process].seats[seat].of_others {
                // Whoever asked for it left memory since, and what runs elsewhere needs none here.
                self.processes[process].place = None;
                return self.next_in_line(process);
            }
            self.push(process, seat, Kind::Grant, Input::QuarantineGranted(turn));
        }
    }
}
