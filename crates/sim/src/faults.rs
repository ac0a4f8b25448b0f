//! What goes wrong with processes and clocks.

use turnkeep_core::session::Input;

use crate::coverage::Kind;
use crate::plan::Fault;
use crate::shell::Who;
use crate::stock::SESSIONS;
use crate::world::{What, World, note};

impl World<'_> {
    pub(crate) fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Jump(by) => self.jump(by),
            Fault::Crash => {
                if let Some(process) = self.whoever() {
                    self.crash_now(process);
                }
            }
            Fault::Stall(millis, takeover) => {
                if let Some(process) = self.whoever() {
                    self.stall(process, self.now + millis);
                    if self.cluster.is_there() {
                        self.falls_silent(process);
                    } else if takeover {
                        self.boot();
                    }
                }
            }
            Fault::Drain => self.drain(),
            Fault::Evict => {
                for seat in 0..SESSIONS {
                    self.evict(seat);
                }
            }
        }
    }

    /// Whom something happens to.
    fn whoever(&mut self) -> Option<usize> {
        if self.cluster.is_there() { self.any_node() } else { self.listener() }
    }

    /// The process dies and another one follows.
    pub(crate) fn crash_now(&mut self, process: usize) {
        let lived = self.processes[process].alive;
        self.crash(process);
        if self.cluster.is_there() {
            if lived {
                self.comes_back(process);
            }
        } else if self.listener().is_none() {
            let after = self.rng.between(1, 3000);
            self.schedule(after, What::Boot);
        }
    }

    /// Everything that only this process knew is gone.
    pub(crate) fn crash(&mut self, process: usize) {
        if !std::mem::take(&mut self.processes[process].alive) {
            return;
        }
        note!(self, "process {process} is gone");
        if self.cluster.is_there() {
            self.falls_silent(process);
        } else if process + 1 < self.processes.len() {
            // It may have begun something after the next one looked through the open work.
            (0..SESSIONS).for_each(|seat| self.schedule(1000, What::Sweep(seat)));
        }
        for seat in 0..SESSIONS {
            self.call_is_cut(process, seat);
            self.processes[process].seats[seat].driver = None;
        }
        for run in self.runs.iter_mut().filter(|run| run.process == process) {
            run.ends();
        }
        for index in 0..self.waiters.len() {
            let waiter = &mut self.waiters[index];
            if waiter.process == process && std::mem::take(&mut waiter.open) {
                let (seat, who) = (waiter.seat, waiter.who);
                if let Who::Person(act) = who {
                    self.tries_again(seat, act);
                }
            }
        }
    }

    /// A clean end: nothing new is let in, runs are laid down, then the process leaves.
    fn drain(&mut self) {
        let Some(process) = self.whoever() else { return };
        self.processes[process].draining = true;
        for seat in 0..SESSIONS {
            if self.processes[process].seats[seat].driver.is_some() {
                self.push(process, seat, Kind::Release, Input::Release);
            }
        }
        let after = self.rng.between(1, 500);
        self.schedule(after, What::Exit(process));
        if !self.cluster.is_there() && self.listener().is_none() {
            self.schedule(after + 1, What::Boot);
        }
    }

    /// A session with nothing under way leaves memory; what it waits for is in the store.
    fn evict(&mut self, seat: usize) {
        if let Some(process) = self.whoever() {
            self.leaves_memory(process, seat);
        }
    }

    pub(crate) fn leaves_memory(&mut self, process: usize, seat: usize) {
        let wall = self.wall_of(process);
        let taken = &mut self.processes[process].seats[seat];
        let idle = taken.driver.as_ref().is_some_and(turnkeep_gateway::driver::Driver::is_idle);
        if !idle || taken.drive_queued || taken.call.is_some() || taken.is_awaiting() {
            return;
        }
        taken.leave();
        if let Some(at) = self.store.rows[seat].wake_at {
            let after = u64::try_from(at - wall).unwrap_or(0).min(60_000);
            self.schedule(after, What::Due(process, seat));
        }
    }
}
