//! What providers charge, by their own books: each request once, whatever becomes of the run that
//! made it. In some schedules agents report what they used at every step, also when they are
//! cancelled and talk on, and turns have a budget. They draw from a source of their own, so a
//! schedule without them is what it was before.

use std::sync::Arc;

use turnkeep_core::budget::{Budgets, Limit};
use turnkeep_core::ids::RunTag;
use turnkeep_core::journal::EventBody;
use turnkeep_core::ports::store::UsageRow;
use turnkeep_core::session::{AgentInput, Input, Report};
use turnkeep_core::usage::{Sums, Usage};
use turnkeep_core::{Policy, Seq};

use crate::agent::Run;
use crate::coverage::Kind;
use crate::rng::Rng;
use crate::store::Row;
use crate::world::World;

/// Tells its source from that of everything else. With this number no seed on record has a bill, so
/// each of them still shows what it once showed.
const OWN: u64 = 6560 << 32;

/// One request that was made.
#[derive(Clone, Copy, Debug)]
struct Charge {
    process: usize,
    seat: usize,
    tag: RunTag,
}

/// All of them. A request costs as many tokens as its number among all, so that no two are alike.
#[derive(Debug)]
pub(crate) struct Bill {
    rng: Rng,
    there: bool,
    charges: Vec<Charge>,
}

impl Bill {
    pub(crate) const fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ OWN);
        let there = rng.permille(300);
        Self { rng, there, charges: Vec::new() }
    }

    /// Gives turns a budget, in some schedules.
    pub(crate) fn limit(&mut self, policies: &mut [Arc<Policy>]) {
        if !self.there || !self.rng.permille(400) {
            return;
        }
        let tokens = self.rng.between(20, 400);
        for policy in policies {
            let turn = Limit { tokens, cost_micros: 0 };
            let budgets = Budgets { turn, degraded_text: "simpler".into(), ..Budgets::default() };
            Arc::make_mut(policy).budgets = Some(Arc::new(budgets));
        }
    }
}

fn tokens(sums: &Sums) -> u64 {
    sums.output_tokens
}

impl World<'_> {
    /// A run made a request, and says so. The session may have ended it, or its process, meanwhile.
    pub(crate) fn run_reports(&mut self, run: usize) {
        if !self.bill.there || !self.bill.rng.permille(600) {
            return;
        }
        let Run { process, seat, tag, .. } = self.runs[run];
        let before = self.bill.charges.iter().filter(|one| (one.seat, one.tag) == (seat, tag));
        let number = u32::try_from(before.count()).unwrap_or(u32::MAX) + 1;
        self.bill.charges.push(Charge { process, seat, tag });
        let usage = Usage {
            model: Arc::clone(&self.stock.record),
            output_tokens: self.bill.charges.len() as u64,
            ..Usage::default()
        };
        let report = Box::new(Report { number, agent: None, usage });
        self.push(process, seat, Kind::Used, Input::Agent(tag, AgentInput::Used(report)));
    }

    /// Every request is booked once, at its own turn; only what a process that died or lost the
    /// session knew alone may be missing.
    pub(crate) fn judge_bill(&mut self, seat: usize) {
        let Row { session, events, used, .. } = &self.store.rows[seat];
        let known = session.spent.as_ref().map_or_else(Sums::default, |spent| spent.sums);
        if *used != known {
            let what =
                format!("session {seat}: used by the sums: {used:?}, by the state: {known:?}");
            return self.judge.broken("I25", || what);
        }
        let mut booked: Vec<Option<Seq>> = vec![None; self.bill.charges.len()];
        let mut wrong = None;
        for event in events {
            let EventBody::UsageRecorded { turn_id, attempt, usage, .. } = &event.body else {
                continue;
            };
            let at = usize::try_from(tokens(&usage.sums())).unwrap_or(0).wrapping_sub(1);
            let charge = self.bill.charges.get(at);
            let same = charge.is_some_and(|charge| {
                (charge.seat, charge.tag.turn, charge.tag.attempt) == (seat, *turn_id, *attempt)
            });
            let twice = booked.get_mut(at).and_then(|place| place.replace(event.seq));
            if !same || twice.is_some() {
                wrong =
                    Some(format!("{charge:?} is booked at {}, and before at {twice:?}", event.seq));
            }
        }
        let missing = self.bill.charges.iter().zip(&booked).find(|(charge, place)| {
            let process = &self.processes[charge.process];
            let knows = process.alive && !process.seats[seat].lost;
            charge.seat == seat && place.is_none() && knows
        });
        let missing = missing.map(|(charge, _)| format!("{charge:?} is never booked"));
        if let Some(what) = wrong.or(missing) {
            self.judge.broken("I25", || what);
        }
    }
}

/// Adds what a commit tells of to a session's sums.
pub(crate) fn add(used: &mut Sums, rows: &mut Vec<UsageRow>) {
    rows.drain(..).for_each(|row| used.add(&row.sums));
}
