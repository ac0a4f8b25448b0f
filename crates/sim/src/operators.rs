//! Operators: in some schedules people take the agent's place, answer there, and hand back, at any
//! moment and in any order. It is drawn from a source of its own, so a schedule without them is what
//! it was before.

use std::sync::Arc;

use turnkeep_core::Policy;
use turnkeep_core::Seq;
use turnkeep_core::journal::{EventBody, NoticeSource};
use turnkeep_core::session::{Control, Controlled, Stage};
use turnkeep_gateway::driver::Driver;

use crate::acks::{Ack, Acks};
use crate::agent::Run;
use crate::plan::{Act, FAULTS_MS};
use crate::rng::Rng;
use crate::stock::{REPLIES, SESSIONS, Stock, number_in};
use crate::store::Row;
use crate::world::World;

/// Tells its source from that of everything else. With this number no seed on record has any of
/// it, so each of them still shows what it once showed.
const OWN: u64 = 85 << 37;
/// When the last of them hands back: long after the faults.
const HOME_MS: u64 = FAULTS_MS + 10_000;

/// Sometimes they have so long to do something, and the customer is told.
pub(crate) fn limits(seed: u64, policies: &mut [Arc<Policy>; SESSIONS], told: &Arc<str>) {
    let mut rng = Rng::new(seed ^ OWN ^ 1);
    for policy in policies {
        if rng.permille(100) {
            let policy = Arc::make_mut(policy);
            policy.operator_timeout_ms = rng.pick(&[300, 3000]);
            policy.operator_notice = rng.permille(500).then(|| Arc::clone(told));
        }
    }
}

/// Draws who does what, and when; the order among equals as well. Often nothing.
pub(crate) fn acts(seed: u64, mut act: impl FnMut(u64, u64, usize, Act)) {
    let mut rng = Rng::new(seed ^ OWN);
    if !rng.permille(200) {
        return;
    }
    for seat in 0..SESSIONS {
        let mut at = rng.below(2500);
        for _ in 0..rng.between(1, 3) {
            act(at, rng.next(), seat, Act::Pause(rng.index(2)));
            for _ in 0..rng.below(5) {
                at += rng.below(1200);
                let number = rng.index(REPLIES);
                act(at, rng.next(), seat, Act::Reply(number));
                if rng.permille(200) {
                    act(at + rng.below(1500), rng.next(), seat, Act::Reply(number));
                }
            }
            at += rng.below(2500);
            if rng.permille(700) {
                act(at, rng.next(), seat, Act::HandBack);
            }
            at += rng.below(1500);
        }
        act(HOME_MS, rng.next(), seat, Act::HandBack);
    }
}

/// What somebody does, as the session hears it.
pub(crate) fn control(stock: &Stock, seat: usize, act: Act) -> Control {
    match act {
        Act::Pause(who) => {
            let take_over = who.is_multiple_of(2);
            Control::Pause { by: Arc::clone(&stock.operators[who]), take_over }
        }
        Act::Reply(number) => {
            let prepared = &stock.operator_replies[seat][number];
            Control::OperatorReply { seen: prepared.seen, body: Arc::clone(&prepared.body) }
        }
        _ => Control::HandBack { by: Arc::clone(&stock.operators[0]) },
    }
}

/// Who was told that a reply is ours.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    acks: Acks,
}

impl Desk {
    pub(crate) fn clear(&mut self) {
        self.acks.clear();
    }

    /// An operator is told what became of a reply; what is wrong with it, in words.
    pub(crate) fn told(
        &mut self,
        (seat, number): (usize, usize),
        (asked, now): (u64, u64),
        told: &Controlled,
        row: &Row,
    ) -> Option<String> {
        let place = match told {
            Controlled::Replied { seq, .. } => Some(*seq),
            _ => None,
        };
        if let Some(wrong) = self.acks.judge((seat, number), asked, place, told) {
            return Some(wrong);
        }
        let Controlled::Replied { seq, turn, .. } = told else { return None };
        if said_at(row, *seq) != Some((number, turn.is_some())) {
            return Some(format!("I2: reply {number} is ours at {seq}, which says otherwise"));
        }
        self.acks.take((seat, number, *seq, now));
        None
    }

    /// What is wrong with a session that came to rest.
    pub(crate) fn end(&self, seat: usize, row: &Row) -> Option<String> {
        let is_there = |ack: &Ack| said_at(row, ack.2).is_some_and(|(number, _)| number == ack.1);
        if let Some(wrong) = self.acks.gone(seat, is_there) {
            return Some(wrong);
        }
        let mut said = [false; REPLIES];
        for (number, _) in row.events.iter().filter_map(|event| said_in(&event.body)) {
            if std::mem::replace(&mut said[number], true) {
                return Some(format!("I11: an operator's reply {number} is said twice"));
            }
        }
        None
    }
}

impl World<'_> {
    /// Nobody works beside an operator. A seat at rest ran all of its effects, so whoever was
    /// cancelled is gone.
    pub(crate) fn judge_place(&mut self, process: usize, seat: usize) {
        let driver = self.processes[process].seats[seat].driver.as_ref();
        let turn = driver.and_then(Driver::session).and_then(|session| session.turn.as_ref());
        if turn.is_none_or(|turn| turn.stage != Stage::Operator) {
            return;
        }
        let beside = |run: &&Run| (run.process, run.seat) == (process, seat) && run.is_live();
        if let Some(run) = self.runs.iter().find(beside) {
            let what = format!("{run:?} goes on beside an operator");
            self.judge.broken("I29", || what);
        }
    }
}

/// Which reply this entry holds, and whether it answers a turn. Its number stands in its text, for
/// what answers a turn has no other name there.
fn said_in(body: &EventBody) -> Option<(usize, bool)> {
    match body {
        EventBody::TurnCompleted { by: Some(_), reply: Some(text), .. } => {
            Some((number_in(text)?, true))
        }
        EventBody::SessionNotice { source: NoticeSource::Operator, text, .. } => {
            Some((number_in(text)?, false))
        }
        _ => None,
    }
}

fn said_at(row: &Row, seq: Seq) -> Option<(usize, bool)> {
    let at = usize::try_from(seq.0.checked_sub(1)?).ok()?;
    said_in(&row.events.get(at)?.body)
}
