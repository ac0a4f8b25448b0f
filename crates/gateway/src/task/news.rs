//! What of a commit's journal entries those outside are told once it is durable. Taken before the
//! commit, because the entries go to the store.

use std::sync::Arc;

use turnkeep_core::Event;
use turnkeep_core::ids::{Seq, Seqs, TurnId};
use turnkeep_core::journal::{DeadReason, EventBody};
use turnkeep_core::tool::ToolOutcome;

use super::SessionTask;
use super::spans::Traced;
use crate::follow::{Settled, ending};
use crate::killpoint::{Kind, kinds_of};
use crate::metrics::Ending;
use crate::money::Booked;

pub(super) struct News {
    /// For crash tests.
    pub(super) kinds: Vec<Kind>,
    last_seq: Option<Seq>,
    endings: Vec<Ending>,
    settled: Vec<(Seqs, Settled)>,
    /// What came of calls of tools.
    returned: Vec<ToolOutcome>,
    /// Turns that gave up, for the log.
    failed: Vec<(TurnId, DeadReason, Arc<str>)>,
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
            last_seq: events.last().map(|event| event.seq),
            endings: events.iter().filter_map(Ending::of).collect(),
            settled: events.iter().filter_map(settled).collect(),
            failed: events.iter().filter_map(failed_of).collect(),
            booked: events.iter().filter_map(Booked::of).collect(),
            returned: events.iter().filter_map(outcome_of).collect(),
            traced: events.iter().filter(|_| traced).filter_map(Traced::of).collect(),
        }
    }
}

fn failed_of(event: &Event) -> Option<(TurnId, DeadReason, Arc<str>)> {
    match &event.body {
        EventBody::TurnFailed { turn_id, reason, error, .. } => {
            Some((*turn_id, *reason, Arc::clone(error)))
        }
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
    pub(super) fn tell(&mut self, news: News) {
        for ending in news.endings {
            self.gateway.0.metrics.turn_ended(ending);
        }
        for outcome in news.returned {
            self.gateway.0.metrics.tool_returned(outcome);
        }
        for (turn_id, reason, error) in news.failed {
            // What an agent says of its trouble may hold what people said.
            let error = if self.gateway.setup().settings.log_text { &*error } else { "" };
            tracing::warn!(
                session_key = self.driver.key().as_str(), %turn_id, reason = reason.as_str(), error,
                "a turn failed; `turnkeep turns show` tells why"
            );
        }
        self.gateway.book(self.driver.key(), &news.booked);
        if let (Some(live), Some(last)) = (&self.live, news.last_seq) {
            live.journal(last);
        }
        if news.last_seq.is_some() {
            self.gateway.0.listeners.journal_grew();
        }
        for (messages, settled) in news.settled {
            for (_, settle) in self.followers.extract_if(.., |(seq, _)| messages.contains(seq)) {
                let _ = settle.send(settled.clone());
            }
        }
    }
}
