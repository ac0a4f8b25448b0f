//! Looks for times that came, and claims them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;
use turnkeep_core::Timestamp;
use turnkeep_core::ports::schedule::{Claim, TickState};
use turnkeep_core::schedule::{CLOCK_BACK_MS, Due, due};

use super::{Entry, Name, Open};
use crate::cluster::Lead;
use crate::service::Gateway;
use crate::{clock, killpoint};

/// The clock is looked at as often as this: it may have been put forth or back, and a machine that
/// was asleep woken.
const LOOK_MS: i64 = 5_000;
/// What the store refused is tried again after this.
const AGAIN_MS: i64 = 1_000;

impl Gateway {
    /// Runs jobs and reminders at their times, until `shutdown`.
    pub async fn keep_schedule(&self, shutdown: CancellationToken) {
        if !self.leads(Lead::Schedule) {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.led(Lead::Schedule) => {}
            }
            // Another node may have claimed some since the start.
            self.0.schedule.unsure.store(true, Ordering::SeqCst);
        }
        loop {
            let now = clock::now();
            let next = self.look_at_schedule(now).await;
            let wait_ms = next.map_or(LOOK_MS, |next| next.saturating_sub(now).clamp(1, LOOK_MS));
            // The claim took its time, in which the clock may have been put anywhere.
            let took_ms = clock::now().saturating_sub(now);
            let wait_ms = wait_ms.saturating_sub(took_ms).clamp(1, LOOK_MS);
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.0.schedule.woken.notified() => {}
                () = tokio::time::sleep(Duration::from_millis(wait_ms.unsigned_abs())) => {}
            }
        }
    }

    /// Claims what is due at this moment and has it worked on; says when there will be more. A
    /// server does so by itself ([`Gateway::keep_schedule`]).
    pub async fn look_at_schedule(&self, now: Timestamp) -> Option<Timestamp> {
        if self.readiness().is_err() {
            return Some(now.saturating_add(AGAIN_MS));
        }
        let schedule = &self.0.schedule;
        let alone = schedule.changing.lock().await;
        if schedule.unsure.load(Ordering::SeqCst)
            && let Err(error) = schedule.make_sure().await
        {
            tracing::warn!(%error, "what was claimed could not be read");
            return Some(now.saturating_add(AGAIN_MS));
        }
        let found: Vec<(Name, Due)> = {
            let table = schedule.table();
            let due = |(name, entry): (&Name, &Entry)| Some((name.clone(), entry.due(now)?));
            table.iter().filter_map(due).collect()
        };
        let claims = found.into_iter().map(|(name, due)| self.claim(name, due, now));
        let failed = join_all(claims).await.contains(&false);
        drop(alone);
        self.work_off();
        let next = schedule.table().values().filter_map(|entry| entry.next).min();
        if failed { Some(now.saturating_add(AGAIN_MS)) } else { next }
    }

    /// Makes what is decided durable; false where nobody knows whether it is.
    async fn claim(&self, name: Name, due: Due, now: Timestamp) -> bool {
        let schedule = &self.0.schedule;
        let why = if due.overlapped > 0 { "the one before was under way" } else { "it was missed" };
        let claim = Claim {
            run: due.run.clone(),
            left_out: due.left_out.map(|at| (at, why.to_owned())),
            handled: Some(due.handled),
            at: now,
        };
        killpoint::reached("schedule.claim.before");
        let new = match schedule.store.claim(&name.0, &name.1, claim).await {
            Ok(new) => new,
            Err(error) => {
                tracing::warn!(%error, job = name.1, "a time that came could not be claimed");
                schedule.unsure.store(true, Ordering::SeqCst);
                return false;
            }
        };
        killpoint::reached("schedule.claim.after");
        schedule.metrics.claimed.increment(new.len() as u64);
        schedule.metrics.ended(TickState::Skipped, due.missed + due.overlapped);
        if let Some(newest) = new.last() {
            #[expect(clippy::cast_precision_loss, reason = "a gauge is a float by its protocol")]
            schedule.metrics.lag.set(now.saturating_sub(*newest) as f64 / 1000.0);
        }
        if due.missed + due.overlapped > 0 {
            let (missed, overlapped) = (due.missed, due.overlapped);
            tracing::info!(job = name.1, missed, overlapped, "times of a job are left out");
        }
        let mut table = schedule.table();
        if let Some(entry) = table.get_mut(&name) {
            entry.kept.handled = due.handled;
            entry.open.extend(new.into_iter().map(|at| Open { at, place: None }));
            entry.plan();
        }
        schedule.metrics.count(&table);
        true
    }
}

impl Entry {
    /// What is to be done about it now. Its times are only asked for where one came.
    fn due(&self, now: Timestamp) -> Option<Due> {
        let came = self.next.is_some_and(|next| next <= now);
        let ahead = self.kept.handled.saturating_sub(now) > CLOCK_BACK_MS;
        if !came && !ahead {
            return None;
        }
        due(&self.kept.job, self.times.as_ref()?, &self.progress(), now)
    }
}
