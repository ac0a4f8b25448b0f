//! How a commit reaches the store, and what is said of it: at once or late, as it was or otherwise.

use turnkeep_core::Event;
use turnkeep_core::ports::store::{Commit, CommitOutcome, StoreError};

use crate::shell::{Operation, SWEEP_MS, unavailable};
use crate::world::{What, World, note};

/// A commit on its way.
pub(crate) struct Write {
    process: usize,
    seat: usize,
    commit: Box<Commit>,
    /// Whoever has the session was told of an earlier one when this began, and did not look yet.
    told: bool,
}

impl World<'_> {
    pub(crate) fn store_takes(&mut self, process: usize) -> u64 {
        let slow_ms = self.processes[process].member.slow_ms;
        let more = if slow_ms == 0 { 0 } else { self.cluster.rng.below(slow_ms) };
        more + if self.plan.store_ms == 0 { 0 } else { self.rng.below(self.plan.store_ms) }
    }

    /// Starts a commit; true if it is done already.
    pub(crate) fn issue_commit(
        &mut self,
        process: usize,
        seat: usize,
        commit: Box<Commit>,
    ) -> bool {
        let shared = self.cluster.is_there();
        let told = shared && self.stands_told(process, seat, commit.session.epoch);
        let write = Write { process, seat, commit, told };
        if self.strikes(self.plan.odds.commit_crash) {
            if self.rng.permille(500) {
                drop(self.land(write));
            }
            self.crash_now(process);
            return false;
        }
        if self.strikes(self.plan.odds.commit_error) {
            let lands = self.rng.below(4);
            note!(self, "commit of {seat} will be reported as failed ({lands})");
            match lands {
                0 => {}
                1 => {
                    let after = self.rng.below(2000);
                    self.late.push(Some(write));
                    self.schedule(after, What::LateCommit(self.late.len() - 1));
                }
                _ => drop(self.land(write)),
            }
            let result = Some(Err(unavailable()));
            return self.await_commit(process, seat, Operation::Commit { write: None, result });
        }
        if self.plan.store_ms == 0 && self.processes[process].member.slow_ms == 0 {
            let result = self.land(write);
            self.committed(process, seat, result);
            return true;
        }
        // It reaches the disk at once and the answer takes its time, or the other way round.
        let operation = if self.rng.permille(500) {
            let result = Some(self.land(write));
            Operation::Commit { write: None, result }
        } else {
            Operation::Commit { write: Some(write), result: None }
        };
        self.await_commit(process, seat, operation)
    }

    fn await_commit(&mut self, process: usize, seat: usize, operation: Operation) -> bool {
        self.processes[process].seats[seat].operation = Some(operation);
        let after = self.store_takes(process);
        self.schedule(after, What::Stored(process, seat));
        false
    }

    /// A commit reaches the store.
    pub(crate) fn land(&mut self, write: Write) -> Result<CommitOutcome, StoreError> {
        let Write { process, seat, commit, told } = write;
        let question = commit.rows.question.is_some();
        if self.is_cut(process) {
            return Err(unavailable());
        }
        let current = self.store.rows[seat].version == commit.expected;
        if current && !question && self.is_turned_away(process) {
            return Err(unavailable());
        }
        let outcome = self.store.commit(seat, commit);
        if matches!(outcome, CommitOutcome::Committed(_)) {
            let fresh: &[Event] = self.judge.unseen(seat, &self.store.rows[seat].events);
            if self.is_logging() {
                let lines: Vec<String> = fresh
                    .iter()
                    .map(|event| format!("  {seat}: {} {:?}", event.seq, event.body))
                    .collect();
                for line in lines {
                    self.log_line(&line);
                }
            }
            let calm = self.plan.is_steady() && self.cluster.is_steady();
            self.judge.landed(
                (seat, self.now, calm),
                &self.store.rows[seat],
                &self.plan.policies[seat],
                (&self.moderator, &self.aside),
            );
            if self.cluster.is_there() && !question {
                self.judge_writer(process, seat);
                self.knock(process, seat, told);
            }
        } else {
            note!(self, "  {seat}: {outcome:?}");
        }
        Ok(outcome)
    }

    pub(crate) fn land_late(&mut self, index: usize) {
        if let Some(write) = self.late[index].take() {
            let seat = write.seat;
            drop(self.land(write));
            self.schedule(SWEEP_MS, What::Sweep(seat));
        }
    }
}
