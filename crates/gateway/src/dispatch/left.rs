//! What is open in the store and nobody has, where nobody but this node could run it.
//!
//! Whoever runs turns looks for that at the door. Where none does, a node that may run them itself
//! looks here: for what another one had that died, either handed over or in the place of others, and
//! for what it had itself before it was started. What it finds waits on the board like what it hands
//! over itself, so whoever comes to run turns meanwhile has the same time to take it.

use futures_util::StreamExt;
use std::sync::Arc;
use tokio::task::JoinHandle;
use turnkeep_core::SessionKey;
use turnkeep_core::ids::Timestamp;
use turnkeep_core::ports::store::{Holder, StoreError};

use super::Desk;
use crate::cluster::Rounds;
use crate::mail::Mail;
use crate::service::Gateway;

/// Sessions that one question names.
const PAGE: usize = 1000;
/// Sessions that are read at once.
const READS_MAX: usize = 32;

/// When it is looked.
#[derive(Default)]
pub(super) struct Looks {
    rounds: Rounds,
    /// The last one, which may take its time.
    under_way: Option<JoinHandle<()>>,
}

impl Looks {
    fn is_due(&self, nodes: Option<u64>) -> bool {
        self.under_way.as_ref().is_none_or(JoinHandle::is_finished) && self.rounds.is_due(nodes)
    }
}

impl Gateway {
    /// Whether what nobody has is for this node to run in the end. Others who run turns see to it
    /// themselves: at the door, or like this if they stand in, too. As long as this node stands in it
    /// is one of those for the others, so it looks whoever else is there.
    pub(super) fn is_left_to_us(&self, desk: &Desk) -> bool {
        let [others, _] = self.store().neighbours();
        (others == 0 || self.stands_in()) && desk.fallback
    }

    /// Looks for what is left to this node, if it is time for that.
    pub(super) fn look_for_left(&self, desk: &Arc<Desk>, looks: &mut Looks) {
        let nodes = self.store().marks().get("nodes").copied();
        if !looks.is_due(nodes) || !self.is_left_to_us(desk) || self.readiness().is_err() {
            return;
        }
        let (gateway, desk) = (self.clone(), Arc::clone(desk));
        let look = tokio::spawn(async move {
            if let Err(error) = gateway.find_left(&desk).await {
                tracing::warn!(%error, "the look for what nobody runs failed");
            }
        });
        looks.rounds.is_over(nodes);
        looks.under_way = Some(look);
    }

    async fn find_left(&self, desk: &Desk) -> Result<(), StoreError> {
        let mut after: Option<(Timestamp, SessionKey)> = None;
        loop {
            let page = self.store().open_work(Timestamp::MAX, after.take(), PAGE).await?;
            let full = page.len() == PAGE;
            after = page.last().cloned();
            // What rests with an operator waits for nothing else.
            let open = page.into_iter().filter(|(at, _)| *at < Timestamp::MAX);
            let unknown = open.map(|(_, key)| key);
            let unknown = unknown.filter(|key| !self.is_owned(key) && !desk.board().has(key));
            let unknown: Vec<SessionKey> = unknown.collect();
            let mut reads = futures_util::stream::iter(unknown)
                .map(|key| async move { self.find_one_left(&key).await })
                .buffer_unordered(READS_MAX);
            while let Some(read) = reads.next().await {
                read?;
            }
            // The rest is found once there is room for it.
            if !full || desk.board().is_full() {
                return Ok(());
            }
        }
    }

    async fn find_one_left(&self, key: &SessionKey) -> Result<(), StoreError> {
        // Nobody can run what has no channel any more, so nothing is found out about the engine by it.
        let Some(policy) = self.policy_of_stored(key) else { return Ok(()) };
        if self.0.registry.has(key) {
            // Its task knows whether it is here, and says so.
            self.send(key, policy, Mail::Tend);
            return Ok(());
        }
        let Some(loaded) = self.store().load(key).await? else { return Ok(()) };
        let epoch = loaded.session.epoch;
        let left = match self.store().holder(epoch) {
            Holder::Nobody => true,
            // What stands under the second number is looked after when it is due.
            Holder::Us => epoch.node() == self.store().epoch().node(),
            Holder::Another | Holder::Later => false,
        };
        if left {
            self.stands(key, &loaded.session, false);
        }
        Ok(())
    }
}
