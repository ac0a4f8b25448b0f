//! What must hold where several nodes have the store open.

use turnkeep_core::TurnId;
use turnkeep_core::ids::{Attempt, Token};
use turnkeep_core::journal::{Event, EventBody, SupersedeChoice};
use turnkeep_core::session::Controlled;

use crate::plan::{Act, StopAt};
use crate::world::World;

impl World<'_> {
    /// Takes part, and was not put out, whether it knows that or not.
    fn is_in(&self, process: usize) -> bool {
        self.store.nodes.is_in(self.processes[process].epoch)
    }

    /// Whether a session is this process's, by the store.
    pub(crate) fn has_session(&self, process: usize, seat: usize) -> bool {
        if !self.cluster.is_there() {
            return process + 1 == self.processes.len();
        }
        let written = self.store.rows[seat].session.epoch;
        let taken = &self.processes[process];
        let ours = written.node() == taken.epoch || taken.member.second == Some(written.node());
        ours && self.is_in(process)
    }

    /// Whoever was put out writes nothing any more.
    pub(crate) fn judge_writer(&mut self, process: usize, seat: usize) {
        if !self.is_in(process) {
            let what = format!("process {process} was put out, and writes session {seat}");
            self.judge.broken("I1", || what);
        }
    }

    /// The same turn runs nowhere else, but at a node that was put out and does not know it yet.
    pub(crate) fn judge_start(&mut self, process: usize, seat: usize, turn: TurnId) {
        if !self.cluster.is_there() {
            return;
        }
        self.judge_owner(process, seat, "starts a run");
        self.cluster.starts += 1;
        let member = &self.processes[process].member;
        if !(member.runs || member.stands_in) {
            self.judge.broken("I1", || format!("process {process} runs no turns, and starts one"));
        }
        let elsewhere = self.runs.iter().find(|run| {
            run.process != process
                && run.tag.turn == turn
                && run.is_live()
                && self.is_in(run.process)
        });
        if let Some(run) = elsewhere.filter(|_| self.is_in(process)) {
            let what = format!("turn {turn} starts at {process} while it runs at {}", run.process);
            self.judge.broken("I1", || what);
        }
    }

    /// What only the owner of a channel can do, nobody else does, but one that had it, was put out and
    /// does not know it yet.
    pub(crate) fn judge_owner(&mut self, process: usize, seat: usize, what: &str) {
        if !self.owners.has(seat) || self.owners.lets(self.processes[process].epoch) {
            return;
        }
        if self.is_in(process) || !self.processes[process].member.owns {
            let what = format!("process {process} {what} of session {seat}, and does not own it");
            self.judge.broken("I35", || what);
        }
    }

    /// Who stops a session is not told that nothing runs, where something did all the while.
    pub(crate) fn judge_nothing_runs(&mut self, token: Token, act: Act, told: &Controlled) {
        if !self.cluster.is_there() || *told != Controlled::NothingRuns {
            return;
        }
        let waiter = usize::try_from(token.0).ok().and_then(|at| self.waiters.get(at)).copied();
        let Some(waiter) = waiter.filter(|waiter| self.is_in(waiter.process)) else { return };
        let Some(turn) = &self.store.rows[waiter.seat].session.turn else { return };
        let begun = self.judge.sides[waiter.seat].turns.iter().find(|facts| facts.id == turn.id);
        let before = begun.is_some_and(|facts| facts.since < waiter.since);
        if before && matches!(act, Act::Stop(StopAt::Anything | StopAt::Open)) {
            let what = format!("{waiter:?} is told that nothing runs, and turn {} does", turn.id);
            self.judge.broken("I34", || what);
        }
    }

    /// Where nothing goes wrong each attempt has a reason, and none is begun twice.
    pub(crate) fn judge_attempts(&mut self, seat: usize) {
        if !self.cluster.is_there() || !self.plan.is_calm() {
            return;
        }
        let events = &self.store.rows[seat].events;
        if let Some(wasted) = wasted(events) {
            self.judge.broken("I33", || format!("session {seat}: {wasted}"));
        }
        let begun: usize = self.store.rows.iter().map(|row| attempts(&row.events)).sum();
        let starts = self.cluster.starts as usize;
        if begun != starts {
            self.judge.broken("I33", || format!("{starts} runs are started for {begun} attempts"));
        }
    }
}

fn attempts(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event.body, EventBody::TurnProcessing { .. })).count()
}

/// An attempt that a single process would not have needed.
fn wasted(events: &[Event]) -> Option<String> {
    let mut explained = false;
    for Event { seq, body, .. } in events {
        match body {
            EventBody::TurnRecovered { turn_id, .. } => {
                return Some(format!("turn {turn_id} is recovered at {seq}, and nobody died"));
            }
            EventBody::TurnProcessing { turn_id, attempt, .. } => {
                if *attempt > Attempt(1) && !explained {
                    return Some(format!("attempt {attempt} of turn {turn_id} has no reason"));
                }
                explained = false;
            }
            EventBody::TurnAnswered { .. }
            | EventBody::TurnRetrying { .. }
            | EventBody::TurnWaitingForOperator { .. }
            | EventBody::SessionHandedBack { .. }
            | EventBody::SupersedeDecided { choice: SupersedeChoice::AbsorbRestart, .. } => {
                explained = true;
            }
            _ => {}
        }
    }
    None
}
