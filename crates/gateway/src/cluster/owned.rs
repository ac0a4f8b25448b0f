//! Channels with one ear: of all nodes one hears an account and can send by it, so the turns of such
//! a channel run there, too. Which one is a lease in the store; see [`Gateway::own`].
//!
//! The others decide on messages for it as whoever runs no turns does, and what they write is offered
//! to all and taken by that one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use metrics::gauge;
use turnkeep_core::SessionKey;
use turnkeep_core::policy::{CHANNELS, ChannelFacts, channel_facts};
use turnkeep_core::ports::store::Leased;

use crate::service::Gateway;

/// The pause before a lease is asked for again that another node has.
const AGAIN: Duration = Duration::from_secs(1);

/// Which of them are this node's.
pub(super) struct Owned([AtomicBool; CHANNELS.len()]);

impl Owned {
    pub(super) fn new() -> Self {
        Self([(); CHANNELS.len()].map(|()| AtomicBool::new(false)))
    }

    fn flags(&self) -> impl Iterator<Item = (&'static ChannelFacts, &AtomicBool)> {
        CHANNELS.iter().zip(&self.0).filter(|(facts, _)| facts.owned)
    }
}

fn lease_of(channel: &str) -> String {
    format!("channel {channel}")
}

impl Gateway {
    /// Whether only one node runs this session's turns, whichever that is. Where nobody ever heard the
    /// channel there is nobody to leave them to.
    pub(crate) fn is_owned(&self, key: &SessionKey) -> bool {
        let channel = key.channel();
        let has_one_ear = channel_facts(&channel).is_some_and(|facts| facts.owned);
        has_one_ear && self.is_leased(&channel)
    }

    /// Whether this node may run this session's turns, as far as nobody else has it.
    pub(crate) fn may_run(&self, key: &SessionKey) -> bool {
        self.runs_turns() && (!self.is_owned(key) || self.owns(&key.channel()))
    }

    /// Whether this node hears a channel, or would if there were an adapter: it is the only one that
    /// may.
    pub(crate) fn owns(&self, channel: &str) -> bool {
        let mut flags = self.0.cluster.owned.flags();
        flags.any(|(facts, ours)| facts.name == channel && ours.load(Ordering::Acquire))
    }

    /// Which node hears a channel.
    pub(crate) fn who_hears(&self, channel: &str) -> Leased {
        self.store().leased(&lease_of(channel))
    }

    /// Whether any node ever heard it.
    fn is_leased(&self, channel: &str) -> bool {
        self.who_hears(channel) != Leased::Never
    }

    /// What another node hears, or nobody any more.
    pub(super) fn channels_elsewhere(&self) -> Vec<&'static str> {
        let flags = self.0.cluster.owned.flags();
        let elsewhere = flags
            .filter(|(facts, ours)| !ours.load(Ordering::Acquire) && self.is_leased(facts.name));
        elsewhere.map(|(facts, _)| facts.name).collect()
    }

    /// Comes back once this node is the one that hears a channel, which it stays: from then on it takes
    /// the channel's turns, too.
    pub(crate) async fn own(&self, channel: &'static str) {
        let leads = gauge!("turnkeep_cluster_leads", "lease" => lease_of(channel));
        leads.set(0.0);
        loop {
            let gateway = self.clone();
            // Whoever waits for this may be gone before the answer is there, and the lease ours.
            let asked = tokio::spawn(async move { gateway.ask_to_own(channel).await });
            if asked.await.unwrap_or(false) {
                break;
            }
            // Another one that has it keeps it until it ends.
            tokio::time::sleep(AGAIN).await;
        }
        leads.set(1.0);
    }

    /// Whether it is.
    async fn ask_to_own(&self, channel: &'static str) -> bool {
        // A node that is ending takes nothing that it could not see to.
        if self.is_draining() || !matches!(self.store().lease(&lease_of(channel)).await, Ok(true)) {
            return false;
        }
        let mut flags = self.0.cluster.owned.flags();
        let Some((_, ours)) = flags.find(|(facts, _)| facts.name == channel) else { return true };
        if !ours.swap(true, Ordering::AcqRel) && self.store().is_shared() {
            tracing::info!(channel, "this node hears it now, and runs its turns");
            // What is open of it is offered, also what this node wrote for others.
            self.0.cluster.hint();
        }
        true
    }
}
