//! The fake channel: logs every send by its key, and fails in all the ways that providers fail.

use turnkeep_core::Seq;
use turnkeep_core::outbox::{Delivery, DeliveryOutcome, DeliveryState};
use turnkeep_core::policy::AmbiguousDelivery;
use turnkeep_core::session::Input;

use crate::coverage::Kind;
use crate::world::{What, World};

/// A send under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    reply: Seq,
    part: u32,
    attempt: u32,
    serial: u32,
}

/// What the provider's own log says of one key.
#[derive(Clone, Copy, Debug)]
struct Line {
    session: usize,
    reply: Seq,
    part: u32,
    visible: u32,
    /// Times that a person asked for it to be sent again.
    resends: u32,
}

/// The provider's log.
#[derive(Debug, Default)]
pub(crate) struct Provider {
    lines: Vec<Line>,
}

impl Provider {
    pub(crate) fn clear(&mut self) {
        self.lines.clear();
    }

    fn line(&mut self, session: usize, reply: Seq, part: u32) -> &mut Line {
        let known = self
            .lines
            .iter()
            .position(|line| (line.session, line.reply, line.part) == (session, reply, part));
        let at = known.unwrap_or_else(|| {
            self.lines.push(Line { session, reply, part, visible: 0, resends: 0 });
            self.lines.len() - 1
        });
        &mut self.lines[at]
    }

    pub(crate) fn allow_resend(&mut self, session: usize, reply: Seq, part: u32) {
        self.line(session, reply, part).resends += 1;
    }
}

impl World<'_> {
    /// The outbox calls the channel.
    pub(crate) fn deliver(&mut self, process: usize, seat: usize, delivery: Delivery) {
        let Delivery { reply, part, attempt, .. } = delivery;
        self.judge_owner(process, seat, "sends a part");
        let row =
            self.store.rows[seat].parts.iter().find(|row| (row.reply, row.part) == (reply, part));
        let durable =
            row.is_some_and(|row| row.state == DeliveryState::Sending && row.tries == attempt);
        if !durable && self.has_session(process, seat) {
            self.judge.broken("I6", || {
                format!("part {part} of reply {reply} leaves before it is durably `sending`")
            });
        }
        let taken = &mut self.processes[process].seats[seat];
        if taken.call.is_some() {
            self.judge
                .broken("I6", || format!("part {part} of reply {reply} overtakes another one"));
        }
        taken.calls += 1;
        let serial = taken.calls;
        taken.call = Some(Call { reply, part, attempt, serial });
        let after = self.rng.between(1, 300);
        self.schedule(after, What::Sent(process, seat, serial));
    }

    /// The call ends, one way or another.
    pub(crate) fn delivery_ends(&mut self, process: usize, seat: usize, serial: u32) {
        let taken = &mut self.processes[process];
        let call = taken.seats[seat].call.take_if(|call| call.serial == serial);
        let Some(Call { reply, part, attempt, .. }) = call.filter(|_| taken.alive) else { return };
        let fails = self.strikes(self.plan.odds.delivery);
        let error = self.stock.error.clone();
        let (kind, outcome) = match if fails { self.rng.below(5) } else { 9 } {
            0..=1 => {
                let retry_after_ms = if self.rng.permille(300) { Some(2000) } else { None };
                let outcome = DeliveryOutcome::Failed { error, retry: true, retry_after_ms };
                (Kind::DeliveryFailed, outcome)
            }
            2 => {
                let outcome = DeliveryOutcome::Failed { error, retry: false, retry_after_ms: None };
                (Kind::DeliveryFailed, outcome)
            }
            3 => {
                self.shows(seat, reply, part);
                (Kind::DeliveryUnknown, DeliveryOutcome::Unknown { error })
            }
            4 => (Kind::DeliveryUnknown, DeliveryOutcome::Unknown { error }),
            _ => {
                self.shows(seat, reply, part);
                (Kind::Delivered, DeliveryOutcome::Sent)
            }
        };
        self.push(process, seat, kind, Input::Delivered { reply, part, attempt, outcome });
    }

    /// The process is gone; what it was sending arrived or did not.
    pub(crate) fn call_is_cut(&mut self, process: usize, seat: usize) {
        let call = self.processes[process].seats[seat].call.take();
        if let Some(call) = call
            && self.rng.permille(500)
        {
            self.shows(seat, call.reply, call.part);
        }
    }

    /// The recipient sees a part.
    fn shows(&mut self, session: usize, reply: Seq, part: u32) {
        let policy = &self.plan.policies[session];
        let deduplicates = policy.facts.deduplicates;
        let again = policy.ambiguous == AmbiguousDelivery::Resend;
        let line = self.provider.line(session, reply, part);
        if deduplicates && line.visible > 0 {
            return;
        }
        line.visible += 1;
        if line.visible > 1 + line.resends && !again {
            self.judge
                .broken("I6", || format!("part {part} of reply {reply} is seen more than once"));
        }
    }
}
