//! What must hold once everything came to rest.

use turnkeep_core::journal::{DeadReason, EventBody};
use turnkeep_core::{Seq, Session};

use super::{Judge, accepted, accepted_at};
use crate::plan::{Act, Curse, Fault};
use crate::stock::SESSIONS;
use crate::store::is_settled;
use crate::world::World;

impl World<'_> {
    /// Everything came to rest: what is still open was forgotten.
    pub(crate) fn judge_the_end(&mut self) {
        if self.judge.has_given_up() {
            return;
        }
        for seat in 0..SESSIONS {
            self.judge_session(seat);
            self.judge_bill(seat);
            self.judge_attempts(seat);
        }
        let wrong = self.answers.at_the_end(|seat| &self.store.rows[seat]);
        wrong.into_iter().for_each(|what| self.judge.complain(what));
        let forgotten =
            self.waiters.iter().find(|waiter| waiter.open && self.processes[waiter.process].alive);
        if let Some(waiter) = forgotten.copied() {
            self.judge.broken("I8", || format!("{waiter:?} is never told anything"));
        }
        if let Some(run) = self.runs.iter().find(|run| run.is_live()) {
            let what = format!("a run is left behind: {run:?}");
            self.judge.broken("I8", || what);
        }
        for process in self.processes.iter().filter(|process| process.alive) {
            if process.place.is_some() || !process.place_line.is_empty() {
                self.judge
                    .violations
                    .push("I21: the place for suspect turns is never given back".into());
            }
            if process.seats.iter().any(|seat| seat.typing && !seat.lost) {
                self.judge.violations.push("I8: it still shows as typing".into());
            }
        }
        let longest = self.plan.policies.iter().map(|policy| policy.input_ms).max().unwrap_or(0);
        let bound = 2 * longest + 3 * 3_600_000;
        if self.now > bound {
            let now = self.now;
            self.judge.broken("I8", || format!("it took {now} ms to come to rest"));
        }
    }

    fn judge_session(&mut self, seat: usize) {
        let row = &self.store.rows[seat];
        let session: &Session = &row.session;
        let Judge { sides, violations } = &mut self.judge;
        let side = &mut sides[seat];
        side.checker.finish(session);
        violations
            .extend(side.checker.violations().iter().map(|one| format!("session {seat}: {one}")));
        if session.has_open_work() {
            violations.push(format!("I8: session {seat} stays open: {session:?}"));
        }
        let mut dead: Vec<Seq> = self
            .store
            .dead
            .iter()
            .filter(|(owner, _)| *owner == seat)
            .map(|(_, one)| one.seq)
            .collect();
        let mut told = side.checker.dead().to_vec();
        dead.sort_unstable();
        told.sort_unstable();
        if dead != told {
            violations
                .push(format!("I2: dead letters by the journal {told:?}, by the store {dead:?}"));
        }
        if let Some(part) = row.parts.iter().find(|part| !is_settled(part.state)) {
            violations.push(format!("I8: a part is never settled: {part:?}"));
        }
        for ack in &side.acks {
            if accepted_at(row, ack.seq).is_none() {
                violations.push(format!("I15: {ack:?} was acknowledged and is gone"));
            }
        }
        for facts in &side.turns {
            let stored = row.turns.iter().find(|turn| turn.id == facts.id);
            if stored.is_none_or(|turn| turn.status != facts.status || turn.ended_at.is_none()) {
                violations
                    .push(format!("I2: the row of a turn is {stored:?}, not {:?}", facts.status));
            }
        }
        let said =
            [self.unasked.end(seat, row), self.desk.end(seat, row), self.aside.end(seat, row)];
        for what in said.into_iter().flatten() {
            violations.push(format!("session {seat}: {what}"));
        }
        self.judge_twins(seat);
        self.judge_innocents(seat);
    }

    /// A named message is accepted once, however often it came.
    fn judge_twins(&mut self, seat: usize) {
        let mut known = [false; crate::stock::MESSAGES];
        let events = &self.store.rows[seat].events;
        for found in events.iter().filter_map(accepted).filter(|found| !found.retried) {
            let Some(number) = found.number else { continue };
            if std::mem::replace(&mut known[number], true)
                && !self.plan.acts.contains_unnamed(seat, number)
            {
                self.judge.violations.push(format!("I11: message {number} is accepted twice"));
            }
        }
    }

    /// Whoever kills the process takes nobody else's messages along.
    fn judge_innocents(&mut self, seat: usize) {
        let Curse::Poisoned(at, poison) = self.plan.curse else { return };
        let odds = self.plan.odds;
        // A person who retries the poison starts its count anew, and with few recoveries allowed
        // others run out of theirs meanwhile.
        let retried = self.plan.acts.iter().any(|(_, _, act)| *act == Act::Retry);
        let otherwise = retried
            || odds.commit_crash + odds.effect_crash > 0
            || self.plan.faults.iter().any(|(_, fault)| !matches!(fault, Fault::Jump(_)));
        // Sent once without a name and once with one, the poison kills twice as often as one message
        // may.
        let events = &self.store.rows[at].events;
        let doses = events.iter().filter_map(accepted).filter(|one| one.number == Some(poison));
        if otherwise || doses.count() > 1 {
            return;
        }
        let row = &self.store.rows[seat];
        for event in &row.events {
            if let EventBody::TurnFailed { reason: DeadReason::CrashLoop, messages, .. } =
                &event.body
            {
                let guilty = at == seat
                    && messages.iter().any(|seq| {
                        accepted_at(row, *seq).is_some_and(|found| found.number == Some(poison))
                    });
                if !guilty {
                    self.judge.violations.push("I21: an innocent message is given up".into());
                }
            }
        }
    }
}

trait ContainsUnnamed {
    fn contains_unnamed(&self, seat: usize, number: usize) -> bool;
}

impl ContainsUnnamed for Vec<(u64, usize, Act)> {
    fn contains_unnamed(&self, seat: usize, number: usize) -> bool {
        self.iter().any(|(_, at, act)| (*at, *act) == (seat, Act::Unnamed(number)))
    }
}
