//! What is older than its tenant keeps anything goes, a little at a time.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use turnkeep_core::SessionKey;
use turnkeep_core::care::{Reading, Why};
use turnkeep_core::ids::{Seq, Timestamp};
use turnkeep_core::ports::care::{Forget, Forgot};
use turnkeep_core::ports::store::StoreError;

use super::{STEP, TRIES_MAX};
use crate::clock;
use crate::service::Gateway;

/// Keys that are looked at together.
const PAGE: usize = 500;
/// The pause behind each page and each change, so that this never is what the store is busy with.
const PACE: Duration = Duration::from_millis(20);
/// The pause between two looks at everything.
const ROUND: Duration = Duration::from_secs(600);
const DAY_MS: i64 = 24 * 3_600_000;

/// What a look at everything came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aged {
    /// Sessions that lost a beginning.
    pub sessions: u64,
    /// Messages in it.
    pub messages: u64,
    /// Sessions that should have, but whose history an audit would complain about.
    pub broken: u64,
}

impl Gateway {
    /// Looks again and again for what is too old, until `shutdown`.
    pub async fn keep(&self, shutdown: CancellationToken) {
        let forget = async {
            let mut looked = None;
            loop {
                if self.readiness().is_ok() {
                    if let Err(error) = self.put_days_together(clock::now(), PACE).await
                        && !self.is_draining()
                    {
                        tracing::warn!(%error, "old days of use could not be put together");
                    }
                    match self.forget_old(clock::now(), PACE).await {
                        Ok(Aged { sessions: 0, broken: 0, .. }) => {}
                        Ok(Aged { sessions, messages, broken }) => {
                            let what = "what was too old is forgotten";
                            tracing::info!(sessions, messages, broken, "{what}");
                        }
                        // The store closes while the process ends; the next one goes on.
                        Err(_) if self.is_draining() => {}
                        Err(error) => {
                            tracing::warn!(%error, "what is too old could not be forgotten");
                        }
                    }
                    self.tidy_files(&mut looked, PACE).await;
                }
                tokio::time::sleep(ROUND).await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = forget => {}
            () = self.disappear_in_time() => {}
        }
    }

    /// One look at everything. It touches no session of a policy that keeps for ever, and ends early
    /// where the process ends.
    pub async fn forget_old(&self, now: Timestamp, pace: Duration) -> Result<Aged, StoreError> {
        let mut aged = Aged::default();
        // Whatever a former process left lying.
        self.sweep_paced(pace).await?;
        let mut after: Option<SessionKey> = None;
        loop {
            let page = self.care().keys(None, after.as_ref(), PAGE).await?;
            let full = page.len() == PAGE;
            after = page.last().cloned();
            for key in page {
                if let Some(before) = self.kept_from(&key, now) {
                    self.age(&key, before, now, pace, &mut aged).await?;
                }
            }
            if !full || self.is_draining() {
                return Ok(aged);
            }
            tokio::time::sleep(pace).await;
        }
    }

    /// The moment from which on this session's history is kept; none if it is kept for ever.
    fn kept_from(&self, key: &SessionKey, now: Timestamp) -> Option<Timestamp> {
        let days = self.policy_of_stored(key)?.retention_days;
        (days > 0).then(|| now.saturating_sub(i64::from(days) * DAY_MS))
    }

    /// Forgets what of one session is too old.
    async fn age(
        &self,
        key: &SessionKey,
        before: Timestamp,
        now: Timestamp,
        pace: Duration,
        aged: &mut Aged,
    ) -> Result<(), StoreError> {
        // Nearly always that is all there is to do.
        let first = self.store().events(key, Seq(0), 1).await?;
        if first.first().is_none_or(|first| first.at >= before) {
            return Ok(());
        }
        let (mut tries, mut messages, mut steps) = (0, 0, 0);
        while tries < TRIES_MAX && !self.is_draining() {
            let Some(loaded) = self.store().load(key).await? else { break };
            let known = self.care().forgotten(key).await?;
            let counted = known.as_ref().map_or(0, |known| known.by_retention);
            let mut reading = Reading::old(known, &loaded.session, before);
            let from = reading.after();
            let page = self.store().events(key, from, STEP).await?;
            let taken = page.iter().take_while(|event| reading.observe(event)).count();
            if taken == 0 {
                break;
            }
            if reading.is_broken() {
                tracing::warn!(session_key = %key, "is kept though it is old: run `turnkeep audit`");
                aged.broken += 1;
                break;
            }
            let forgotten = reading.forgotten(Why::Retention, now);
            let now_counted = forgotten.by_retention;
            let expected = loaded.version;
            let forget = Forget { key: key.clone(), expected, from, forgotten, bury_as: None };
            match self.forget(forget).await? {
                Forgot::Done(_) => {
                    messages += now_counted - counted;
                    steps += 1;
                }
                // Somebody writes there right now: its history is young at its end, and waits.
                Forgot::Changed => tries += 1,
                Forgot::Unswept => {}
            }
            self.sweep_paced(pace).await?;
            tokio::time::sleep(pace).await;
        }
        aged.sessions += u64::from(steps > 0);
        aged.messages += messages;
        self.0.metrics.forgotten(Why::Retention, messages);
        Ok(())
    }

    async fn sweep_paced(&self, pace: Duration) -> Result<(), StoreError> {
        while self.care().sweep(super::SWEEP_ROWS).await?.more {
            tokio::time::sleep(pace).await;
        }
        Ok(())
    }
}
