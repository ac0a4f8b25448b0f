//! A turn whose agent is not configured any more: it waits for it to come back.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use turnkeep_core::SessionKey;
use turnkeep_core::session::{AgentInput, Finished};

use super::{CANCELLED, Paused, RunShared, WINDING};
use crate::service::Gateway;
use crate::setup::Configured;

/// Waits until the agent is configured again: a turn is not lost because somebody took its agent
/// out of a file. The turn's time doesn't pass meanwhile. If it is over before, what the run says.
pub(super) async fn wait(
    gateway: &Gateway,
    key: &SessionKey,
    watch: &RunShared,
    place: &mut Option<OwnedSemaphorePermit>,
) -> Result<Configured, Option<AgentInput>> {
    // Others may use the place for suspect turns meanwhile.
    let suspect = place.take().is_some();
    let _paused = Paused::new(watch);
    let _waiting = Homeless::new(gateway);
    tracing::warn!(session_key = %key, "a turn waits: its agent is not configured any more");
    let comes = async {
        let found = gateway.agent(&key.agent()).await;
        if suspect {
            *place = Arc::clone(&gateway.0.quarantine).acquire_owned().await.ok();
        }
        found
    };
    tokio::select! {
        biased;
        () = watch.wait_for(CANCELLED) => Err(None),
        // It was stopped behind its commit point; nothing is in flight that would end it.
        () = watch.wait_for(WINDING) => Err(Some(AgentInput::Finished(Finished::default()))),
        found = comes => {
            tracing::info!(session_key = %key, "its agent is configured again; the turn goes on");
            Ok(found)
        }
    }
}

/// Counts a turn without an agent for as long as it waits.
struct Homeless(Gateway);

impl Homeless {
    fn new(gateway: &Gateway) -> Self {
        gateway.0.metrics.without_agent.increment(1);
        Self(gateway.clone())
    }
}

impl Drop for Homeless {
    fn drop(&mut self) {
        self.0.0.metrics.without_agent.decrement(1);
    }
}
