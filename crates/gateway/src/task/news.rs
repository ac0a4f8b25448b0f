//! What of a commit's journal entries those outside are told once it is durable. Taken before the
//! commit, because the entries go to the store.

use std::sync::Arc;

use turnkeep_core::Event;
use turnkeep_core::ids::{Seq, Seqs, TurnId};
use turnkeep_core::journal::{DeadReason, EventBody};
use turnkeep_core::outbox::DeliveryState;
use turnkeep_core::switchboard::{Heard, Observed};
use turnkeep_core::tool::ToolOutcome;

use super::SessionTask;
use super::spans::Traced;
use crate::follow::{Asked, Settled, ending, question};
use crate::killpoint::{Kind, kinds_of};
use crate::metrics::Ending;
use crate::money::Booked;
use crate::recent::Entry;
use crate::switchboard::{observed, resources};

pub(super) struct News {
    /// For crash tests.
    pub(super) kinds: Vec<Kind>,
    /// The place before the first entry, and the last one's.
    span: Option<(Seq, Seq)>,
    /// What of it belongs to the conversation.
    said: Vec<Entry>,
    endings: Vec<Ending>,
    settled: Vec<(Seqs, Settled)>,
    /// What a turn asks its user.
    asked: Option<(TurnId, Asked)>,
    /// What came of calls of tools.
    returned: Vec<ToolOutcome>,
    /// Turns that gave up, for the log.
    failed: Vec<(TurnId, DeadReason, Arc<str>)>,
    /// Parts that did not reach the user, or may not have: for the log.
    undelivered: Vec<(Seq, DeliveryState)>,
    /// What matters to whoever watches many sessions.
    heard: Heard,
    /// What runs used.
    pub(super) booked: Vec<Booked>,
    /// For spans, where somebody collects them.
    pub(super) traced: Vec<Traced>,
}

impl News {
    pub(super) fn of(events: &[Event], traced: bool) -> Self {
        let settled = |event| ending(event).map(|(seqs, settled)| (Seqs::from(seqs), settled));
        Self {
            kinds: kinds_of(events),
            span: span_of(events),
            said: events.iter().filter_map(Entry::of).collect(),
            endings: events.iter().filter_map(Ending::of).collect(),
            settled: events.iter().filter_map(settled).collect(),
            asked: events.iter().rev().find_map(question),
            failed: events.iter().filter_map(failed_of).collect(),
            undelivered: events.iter().filter_map(undelivered_of).collect(),
            heard: Heard::of(events),
            booked: events.iter().filter_map(Booked::of).collect(),
            returned: events.iter().filter_map(outcome_of).collect(),
            traced: events.iter().filter(|_| traced).filter_map(Traced::of).collect(),
        }
    }
}

fn span_of(events: &[Event]) -> Option<(Seq, Seq)> {
    let (first, last) = (events.first()?, events.last()?);
    Some((Seq(first.seq.0.saturating_sub(1)), last.seq))
}

fn failed_of(event: &Event) -> Option<(TurnId, DeadReason, Arc<str>)> {
    match &event.body {
        EventBody::TurnFailed { turn_id, reason, error, .. } => {
            Some((*turn_id, *reason, Arc::clone(error)))
        }
        _ => None,
    }
}

const fn undelivered_of(event: &Event) -> Option<(Seq, DeliveryState)> {
    match event.body {
        EventBody::DeliverySettled {
            reply,
            state: state @ (DeliveryState::Dead | DeliveryState::Unknown),
            ..
        } => Some((reply, state)),
        _ => None,
    }
}

fn outcome_of(event: &Event) -> Option<ToolOutcome> {
    match event.body {
        EventBody::ToolReturned { outcome, .. } => Some(outcome),
        _ => None,
    }
}

impl SessionTask {
    /// Before the effects: a run that begins wants to know of its own beginning, and whoever is
    /// answered sees on the switchboard what the answer says.
    pub(super) fn remember(&mut self, news: &mut News) {
        if let Some((after, last)) = news.span {
            self.memory.add(after, last, std::mem::take(&mut news.said));
        }
        self.show(news);
    }

    /// Tells the switchboard of a commit.
    fn show(&self, news: &News) {
        if let Some(session) = self.driver.session() {
            let after = news.span.map_or(session.last_seq, |(after, _)| after);
            let seen = observed(session, &news.heard, after, resources(session, self.takes()));
            self.gateway.0.switchboard.observe(self.driver.key(), &seen);
        }
    }

    /// Tells it what the session is, which was read just now.
    pub(super) fn show_loaded(&self) {
        let Some(session) = self.driver.session() else { return };
        // One that nobody has written in yet is nothing to see.
        if session.last_seq > Seq(0) {
            let (heard, after) = (Heard::default(), session.last_seq);
            let seen = observed(session, &heard, after, resources(session, self.takes()));
            let seen = Observed { loaded: true, ..seen };
            self.gateway.0.switchboard.observe(self.driver.key(), &seen);
        }
    }

    /// Tells it what the session takes now.
    pub(super) fn weigh(&self) {
        if let Some(session) = self.driver.session() {
            let taken = resources(session, self.takes());
            self.gateway.0.switchboard.weigh(self.driver.key(), taken);
        }
    }

    /// What it keeps in memory: bytes, and messages.
    fn takes(&self) -> (usize, usize) {
        let (bytes, lines) = self.memory.kept();
        (bytes + self.run.as_ref().map_or(0, |run| run.draft_bytes()), lines)
    }

    pub(super) fn tell(&mut self, news: News) {
        for ending in news.endings {
            self.gateway.0.metrics.turn_ended(ending);
        }
        for outcome in news.returned {
            self.gateway.0.metrics.tool_returned(outcome);
        }
        for (turn_id, reason, error) in news.failed {
            // What an agent says of its trouble may hold what people said.
            let error = self.gateway.setup().settings.log_text.then_some(&*error);
            tracing::warn!(
                session_key = self.driver.key().as_str(), %turn_id, reason = reason.as_str(), error,
                "a turn failed; `turnkeep turns show` tells why"
            );
        }
        for (reply, state) in news.undelivered {
            let session_key = self.driver.key().as_str();
            tracing::warn!(
                session_key, %reply, ?state,
                "a part of a reply did not reach the user, or nobody knows whether it did; \
                 GET /v1/sessions/{{session}}/deliveries tells why, and sends it again"
            );
        }
        self.gateway.book(self.driver.key(), &news.booked);
        if let (Some(live), Some((_, last))) = (&self.live, news.span) {
            live.journal(last);
        }
        if news.span.is_some() {
            self.gateway.0.listeners.journal_grew();
        }
        if let Some((turn, asked)) = news.asked {
            let mut followers = std::mem::take(&mut self.followers);
            let waits = |(seq, _): &mut (Seq, _)| self.asked_for(*seq) == Some(asked.id);
            for (_, settle) in followers.extract_if(.., waits) {
                let _ = settle.send(Settled::asking(turn, asked.clone()));
            }
            self.followers = followers;
        }
        for (messages, settled) in news.settled {
            for (_, settle) in self.followers.extract_if(.., |(seq, _)| messages.contains(seq)) {
                let _ = settle.send(settled.clone());
            }
        }
    }
}
