//! What somebody was told is the gateway's: it stays where it was taken, and is not refused later.

use turnkeep_core::ids::Seq;
use turnkeep_core::session::Controlled;

/// Seat, number, place, when they were told.
pub(crate) type Ack = (usize, usize, Seq, u64);

/// Everything that somebody was told of.
#[derive(Debug, Default)]
pub(crate) struct Acks(Vec<Ack>);

impl Acks {
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Somebody who asked at `asked` is told of a place, or is refused; what is wrong with it.
    pub(crate) fn judge(
        &self,
        (seat, number): (usize, usize),
        asked: u64,
        place: Option<Seq>,
        told: &Controlled,
    ) -> Option<String> {
        let mut known = self.0.iter().filter(|ack| (ack.0, ack.1) == (seat, number));
        let Some(seq) = place else {
            let before = known.find(|ack| ack.3 < asked);
            return before
                .map(|ack| format!("I11: {ack:?} was taken, and is refused now: {told:?}"));
        };
        let elsewhere = known.find(|ack| ack.2 != seq);
        elsewhere.map(|ack| format!("I11: {ack:?} is taken again, at {seq}"))
    }

    pub(crate) fn take(&mut self, ack: Ack) {
        self.0.push(ack);
    }

    /// What is gone of a seat, where this says what is there.
    pub(crate) fn gone(&self, seat: usize, is_there: impl Fn(&Ack) -> bool) -> Option<String> {
        let gone = self.0.iter().find(|ack| ack.0 == seat && !is_there(ack));
        gone.map(|ack| format!("I15: {ack:?} is gone"))
    }
}
