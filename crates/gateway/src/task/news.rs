//! What of a commit's journal entries those outside are told once it is durable. Taken before the
//! commit, because the entries go to the store.

use turnkeep_core::Event;
use turnkeep_core::ids::{Seq, Seqs};

use super::SessionTask;
use super::spans::Traced;
use crate::follow::{Settled, ending};
use crate::killpoint::{Kind, kinds_of};
use crate::metrics::Ending;

pub(super) struct News {
    /// For crash tests.
    pub(super) kinds: Vec<Kind>,
    last_seq: Option<Seq>,
    endings: Vec<Ending>,
    settled: Vec<(Seqs, Settled)>,
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
            traced: events.iter().filter(|_| traced).filter_map(Traced::of).collect(),
        }
    }
}

impl SessionTask {
    pub(super) fn tell(&mut self, news: News) {
        for ending in news.endings {
            self.gateway.0.metrics.turn_ended(ending);
        }
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
