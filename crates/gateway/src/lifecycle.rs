//! The process's life: taking up open work at the start, looking after it, and ending well.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use turnkeep_core::SessionKey;
use turnkeep_core::ids::Timestamp;
use turnkeep_core::ports::store::StoreError;

use crate::clock;
use crate::mail::Mail;
use crate::metrics::Counted;
use crate::service::{Gateway, Phase};

/// Sessions that one look at the index names.
const PAGE: usize = 1000;
/// Dedupe keys forgotten at once.
const FORGET: usize = 1000;
/// How long "typing" may take to be hidden at the end.
const HIDE: Duration = Duration::from_secs(2);

impl Gateway {
    /// Takes up everything open, and turns ready.
    pub async fn start(&self) -> Result<usize, StoreError> {
        // First, so that whoever listens hears of what the open work comes to.
        self.0.listeners.start().await?;
        self.load_restrictions().await?;
        self.load_salt().await?;
        self.load_people().await?;
        self.0.schedule.load(&self.setup().settings.jobs, clock::now()).await?;
        self.take_leads().await?;
        let taken = self.tend(Timestamp::MAX).await?;
        self.set_phase(Phase::Ready);
        Ok(taken)
    }

    /// Gives every session with open work until `before` a task; says how many got one. Where other
    /// nodes have the store open, only those that this one has: what nobody has is offered.
    async fn tend(&self, before: Timestamp) -> Result<usize, StoreError> {
        let mut taken = 0;
        self.each_own(before, |key| match self.policy_of_stored(&key) {
            Some(policy) => {
                taken += usize::from(!self.0.registry.has(&key));
                self.send(&key, policy, Mail::Tend);
            }
            None => tracing::warn!(
                session_key = %key,
                "has open work, but there is no such channel any more"
            ),
        })
        .await?;
        Ok(taken)
    }

    /// Names every session of this node with open work until `before`, a page at a time.
    pub(crate) async fn each_own(
        &self,
        before: Timestamp,
        mut name: impl FnMut(SessionKey) + Send,
    ) -> Result<(), StoreError> {
        if !(self.runs_turns() || self.stands_in()) {
            return Ok(());
        }
        let mut after: Option<(Timestamp, SessionKey)> = None;
        loop {
            let page = self.store().own_work(before, after.take(), PAGE).await?;
            let full = page.len() == PAGE;
            after = page.last().cloned();
            page.into_iter().for_each(|(_, key)| name(key));
            if !full {
                return Ok(());
            }
        }
    }

    /// Looks after open work nobody looks after, and tidies, until `shutdown`.
    pub async fn sweep(&self, shutdown: CancellationToken) {
        tokio::join!(
            self.tidy(&shutdown),
            self.look_out(&shutdown),
            self.attend_door(&shutdown),
            self.share_hints(&shutdown)
        );
    }

    async fn tidy(&self, shutdown: &CancellationToken) {
        let mut beat = tokio::time::interval(Duration::from_millis(self.setup().settings.sweep_ms));
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut counted = Counted::default();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = beat.tick() => {}
            }
            if self.readiness().is_err() {
                continue;
            }
            if let Err(error) = self.tend(clock::now()).await {
                tracing::warn!(%error, "the look for open work failed");
            }
            if let Err(error) = self.store().forget_seen(clock::now(), FORGET).await {
                tracing::warn!(%error, "old message ids could not be forgotten");
            }
            self.tidy_people(clock::now()).await;
            if self.0.guard.is_due(clock::now()) {
                self.tidy_guard(clock::now()).await;
            }
            self.0.lives.tidy();
            self.count_dead_letters(&mut counted).await;
            self.gauge();
        }
    }

    /// Stops taking messages; running turns may go on for the grace period, the rest is laid down
    /// uncounted, to be taken up by the next start.
    pub async fn drain(&self) {
        // What is heard from here on is not taken, and stays where it is.
        self.set_phase(Phase::Draining);
        let grace = Duration::from_millis(self.setup().settings.shutdown_grace_ms);
        if tokio::time::timeout(grace, self.quiet()).await.is_err() {
            tracing::info!("the grace period is over; what still runs is laid down");
        }
        // What comes from here on goes with the rest.
        self.0.cluster.part();
        // A task that has just begun may miss the word, so it is said until nobody is left.
        let gone = async {
            loop {
                self.0.registry.broadcast(|| Mail::Release);
                let left = self.0.registry.empty();
                if tokio::time::timeout(Duration::from_millis(200), left).await.is_ok() {
                    return;
                }
            }
        };
        if tokio::time::timeout(Duration::from_secs(5), gone).await.is_err() {
            tracing::warn!(
                "some sessions did not lay down in time; they recover at the next start"
            );
        }
        self.0.typing.close();
        let _ = tokio::time::timeout(HIDE, self.0.typing.wait()).await;
        // Only now: what hears brings the answers of what is sent, too.
        self.hear(Vec::new()).await;
        self.0.listeners.end().await;
        self.0.switchboard.write_all().await;
        self.store().close().await;
    }

    /// Resolves when no session has a turn under way here.
    async fn quiet(&self) {
        let mut beat = tokio::time::interval(Duration::from_millis(50));
        while self.0.running.load(Ordering::Acquire) > 0 {
            beat.tick().await;
        }
    }
}
