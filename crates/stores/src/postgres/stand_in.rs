//! A node that runs no turns runs some in the place of those that do: under a second number.
//!
//! To everybody else that number is a node which runs turns, so they leave to it what stands under
//! it, and go on taking what stands under the node's own. Both have one name, give signs together
//! and end together. A number that was drawn and not heard of gives none, and is put out by others.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_postgres::Client;
use turnkeep_core::Epoch;
use turnkeep_core::ports::store::StoreError;
use uuid::Uuid;

use super::ask::run;
use super::nodes::Other;
use super::open::enlist;
use super::trouble::{Result, Trouble};
use super::{PostgresStore, Shared};

/// Shows that it lives.
const BEAT: &str = "UPDATE nodes SET beat = beat + 1
                    WHERE epoch = $1 AND token = $2 AND gone_at IS NULL";

/// The second number of this node, while it has one.
#[derive(Debug, Default)]
pub(super) struct StandIn {
    second: Mutex<Option<Second>>,
    /// One at a time draws or gives back.
    changing: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Second {
    epoch: Epoch,
    token: Uuid,
}

impl StandIn {
    fn second(&self) -> MutexGuard<'_, Option<Second>> {
        self.second.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number.
    pub(super) fn epoch(&self) -> Option<Epoch> {
        self.second().map(|second| second.epoch)
    }

    /// The token of its row.
    pub(super) fn token(&self) -> Option<Uuid> {
        self.second().map(|second| second.token)
    }

    /// Shows that it lives, too; false if others have put it out.
    pub(super) async fn beat(&self, client: &Client) -> Result<bool> {
        let Some(second) = *self.second() else { return Ok(true) };
        let Second { epoch, token } = second;
        let beaten = client.execute(BEAT, &[&epoch.0.cast_signed(), &token]).await?;
        // It may have been given back meanwhile.
        Ok(beaten > 0 || *self.second() != Some(second))
    }
}

impl Shared {
    /// The numbers of this node.
    pub(super) fn numbers(&self) -> Vec<i64> {
        let second = self.nodes.stand_in.epoch();
        [self.gate.epoch].into_iter().chain(second).map(|epoch| epoch.0.cast_signed()).collect()
    }
}

/// Each node once: with two numbers it runs turns, if only in the place of others.
pub(super) fn one_each(all: impl Iterator<Item = Other>) -> Vec<Other> {
    let mut each: Vec<Other> = Vec::new();
    for other in all {
        match each.iter_mut().find(|known| known.name == other.name) {
            Some(known) => known.runs |= other.runs,
            None => each.push(other),
        }
    }
    each
}

impl PostgresStore {
    /// See the port.
    pub(super) async fn draw_second(&self) -> std::result::Result<Epoch, StoreError> {
        let shared = &self.shared;
        if shared.settings.runs {
            return Ok(shared.gate.epoch);
        }
        let stand_in = &shared.nodes.stand_in;
        let _changing = stand_in.changing.lock().await;
        if let Some(epoch) = stand_in.epoch() {
            return Ok(epoch);
        }
        let (gate, node, token) =
            (shared.gate.clone(), shared.settings.node.clone(), Uuid::now_v7());
        let epoch = self.change("draw a second number", move |tx| {
            let (gate, node) = (gate.clone(), node.clone());
            Box::pin(async move {
                gate.enter(tx).await?;
                // One that was drawn and not heard of.
                let unheard = "UPDATE nodes SET gone_at = now(), gone_why = 'it was not heard of'
                               WHERE name = $1 AND epoch <> $2 AND gone_at IS NULL";
                run(tx, unheard, &[&node, &gate.epoch.0.cast_signed()]).await?;
                let drawn = enlist(tx, (&node, token), true).await?;
                drawn.ok_or_else(|| Trouble::Busy("no number for a node is left".into()))
            })
        });
        let epoch = epoch.await?;
        *stand_in.second() = Some(Second { epoch, token });
        Ok(epoch)
    }

    /// See the port.
    pub(super) async fn give_second_back(&self) -> std::result::Result<(), StoreError> {
        let stand_in = &self.shared.nodes.stand_in;
        let _changing = stand_in.changing.lock().await;
        // Before anybody else hears of it: nothing is taken under it any more.
        let Some(second) = stand_in.second().take() else { return Ok(()) };
        self.change("give the second number back", move |tx| {
            let Second { epoch, token } = second;
            Box::pin(async move {
                let back = "UPDATE nodes SET gone_at = now(), gone_why = 'it stepped back'
                            WHERE epoch = $1 AND token = $2 AND gone_at IS NULL";
                run(tx, back, &[&epoch.0.cast_signed(), &token]).await.map(drop)
            })
        })
        .await
    }
}
