//! Messages that nobody asked for: in some schedules customers opt in and out, and somebody tells
//! them something. It is drawn from a source of its own, so a schedule without it is what it was
//! before.

use turnkeep_core::Seq;
use turnkeep_core::journal::{EventBody, NoticeSource};
use turnkeep_core::session::{Control, Controlled};

use crate::acks::{Ack, Acks};
use crate::plan::Act;
use crate::rng::Rng;
use crate::stock::{NOTICES, SESSIONS, Stock, number_in};
use crate::store::Row;

/// Tells its source from that of everything else. With this number no seed on record has any of
/// it, so each of them still shows what it once showed.
const OWN: u64 = 98 << 34;

/// Draws who does what, and when; the order among equals as well. Often nothing.
pub(crate) fn acts(seed: u64, mut act: impl FnMut(u64, u64, usize, Act)) {
    let mut rng = Rng::new(seed ^ OWN);
    if !rng.permille(200) {
        return;
    }
    for seat in 0..SESSIONS {
        if rng.permille(800) {
            act(rng.below(1500), rng.next(), seat, Act::OptIn(true));
        }
        for _ in 0..rng.between(1, 5) {
            let (at, number) = (rng.below(9000), rng.index(NOTICES));
            act(at, rng.next(), seat, Act::Notify(number));
            if rng.permille(250) {
                act(at + rng.below(1500), rng.next(), seat, Act::Notify(number));
            }
        }
        if rng.permille(300) {
            act(rng.below(9000), rng.next(), seat, Act::OptIn(false));
        }
    }
}

/// What somebody does, as the session hears it.
pub(crate) fn control(stock: &Stock, seat: usize, number: usize) -> Control {
    let prepared = &stock.notices[seat][number];
    // Some are told whether their customer opted in or not, because a job has them told.
    let scheduled = is_scheduled(number);
    Control::Notify { seen: prepared.seen, body: prepared.body.clone(), scheduled }
}

/// Whether a job has it told.
const fn is_scheduled(number: usize) -> bool {
    number % 4 == 3
}

/// Who was told that a notice is ours.
#[derive(Debug, Default)]
pub(crate) struct Book {
    acks: Acks,
}

impl Book {
    pub(crate) fn clear(&mut self) {
        self.acks.clear();
    }

    /// Somebody is told what became of a notice; what is wrong with it, in words.
    pub(crate) fn told(
        &mut self,
        (seat, number): (usize, usize),
        (asked, now): (u64, u64),
        told: &Controlled,
        row: &Row,
    ) -> Option<String> {
        let place = match told {
            Controlled::Noticed { seq, .. } => Some(*seq),
            _ => None,
        };
        if let Some(wrong) = self.acks.judge((seat, number), asked, place, told) {
            return Some(wrong);
        }
        let Controlled::Noticed { seq, .. } = told else { return None };
        if taken_at(row, *seq) != Some(number) {
            return Some(format!("I2: notice {number} is ours at {seq}, which says otherwise"));
        }
        self.acks.take((seat, number, *seq, now));
        None
    }

    /// What is wrong with a session that came to rest.
    pub(crate) fn end(&self, seat: usize, row: &Row) -> Option<String> {
        let is_there = |ack: &Ack| taken_at(row, ack.2) == Some(ack.1);
        if let Some(wrong) = self.acks.gone(seat, is_there) {
            return Some(wrong);
        }
        let mut taken = [false; NOTICES];
        for event in &row.events {
            let Some(number) = taken_in(&event.body) else { continue };
            if std::mem::replace(&mut taken[number], true) {
                return Some(format!("I11: notice {number} is taken twice"));
            }
        }
        None
    }
}

/// The number of the notice that is taken with this entry.
fn taken_in(body: &EventBody) -> Option<usize> {
    match body {
        EventBody::SessionNoticeAccepted { message_id, .. }
        | EventBody::SessionNotice {
            message_id: Some(message_id),
            source: NoticeSource::Unasked | NoticeSource::Scheduled,
            of: None,
            ..
        } => number_in(message_id),
        _ => None,
    }
}

fn taken_at(row: &Row, seq: Seq) -> Option<usize> {
    let at = usize::try_from(seq.0.checked_sub(1)?).ok()?;
    taken_in(&row.events.get(at)?.body)
}
