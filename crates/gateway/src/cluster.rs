//! Other nodes that have the same store open: what they did to sessions that somebody here cares
//! for, what nobody looks after any more, and what only one of all nodes does.
//!
//! Nothing is decided here. A look says to a session's task that what it knows is old; it loads the
//! session, and that load finds out whose it is. What nobody has is taken at the [`door`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use metrics::{Counter, Gauge, counter, gauge};
use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use turnkeep_core::SessionKey;
use turnkeep_core::ids::{Seq, Timestamp};
use turnkeep_core::ports::store::{Leased, StoreError};

use crate::mail::Mail;
use crate::service::Gateway;

mod door;
mod owned;
mod parting;

use door::Door;
pub(crate) use door::Taken;
use owned::Owned;

/// How often the store is asked what others did, where nobody tells sooner.
const LOOK: Duration = Duration::from_millis(250);
/// How often it is asked what nobody has, and what others have for all is asked for.
const ROUND: Duration = Duration::from_secs(10);
/// Sessions that one question names.
const PAGE: usize = 1000;

/// What only one node of all does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lead {
    /// Jobs and reminders.
    Schedule,
    /// Callbacks of the listeners.
    Listeners,
    /// The switchboard.
    Switchboard,
}

impl Lead {
    const ALL: [Self; 3] = [Self::Schedule, Self::Listeners, Self::Switchboard];

    /// The name of its lease.
    const fn name(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Listeners => "listeners",
            Self::Switchboard => "switchboard",
        }
    }
}

/// Why a session is looked at.
#[derive(Clone, Copy)]
enum Why {
    /// Another node wrote it that doesn't have it.
    Knock,
    /// Somebody here watches it, or waits for its end.
    Watched,
    /// It was found open, and nobody has it who lives and runs turns.
    Left,
}

/// When it is looked the next time for what nobody has: now and then, and where somebody came or went.
#[derive(Default)]
pub(crate) struct Rounds {
    last: Option<tokio::time::Instant>,
    /// Who was there then.
    nodes: Option<u64>,
}

impl Rounds {
    pub(crate) fn is_due(&self, nodes: Option<u64>) -> bool {
        self.nodes != nodes || self.last.is_none_or(|last| last.elapsed() >= ROUND)
    }

    pub(crate) fn is_over(&mut self, nodes: Option<u64>) {
        *self = Self { last: Some(tokio::time::Instant::now()), nodes };
    }
}

/// What is told of the cluster.
struct ClusterMetrics {
    /// Those that run turns, and those that don't.
    nodes: [Gauge; 2],
    leads: [Gauge; Lead::ALL.len()],
    /// By why.
    looks: [Counter; 3],
}

impl ClusterMetrics {
    fn new() -> Self {
        let looks = |why: &'static str| counter!("turnkeep_cluster_looks_total", "why" => why);
        Self {
            nodes: ["yes", "no"].map(|runs| gauge!("turnkeep_cluster_nodes", "runs" => runs)),
            leads: Lead::ALL.map(|lead| gauge!("turnkeep_cluster_leads", "lease" => lead.name())),
            looks: ["knock", "watched", "left"].map(looks),
        }
    }

    fn looked(&self, why: Why) {
        self.looks[why as usize].increment(1);
    }
}

/// What this node knows of the others.
pub(crate) struct Cluster {
    /// This node runs turns.
    runs: bool,
    /// It answers nobody, so what one does for all is left to those that do.
    leads_nothing: AtomicBool,
    metrics: ClusterMetrics,
    leads: [watch::Sender<bool>; Lead::ALL.len()],
    /// Sessions of other nodes whose endings are waited for here, and where they ended.
    followed: DashMap<SessionKey, Seq>,
    /// Knocks may be lost: nobody knows whether they were taken when the answer failed.
    doubts: AtomicBool,
    /// The node is ending, and lets go of everything.
    parted: AtomicBool,
    /// Somebody said that there is something to see.
    hinted: Notify,
    /// What nobody has.
    door: Arc<Door>,
    /// Channels that only one node hears.
    owned: Owned,
}

impl Cluster {
    pub(crate) fn new(runs: bool) -> Self {
        let leads = [(); Lead::ALL.len()].map(|()| watch::Sender::new(false));
        Self {
            runs,
            leads_nothing: AtomicBool::new(false),
            metrics: ClusterMetrics::new(),
            leads,
            followed: DashMap::new(),
            doubts: AtomicBool::new(false),
            parted: AtomicBool::new(false),
            hinted: Notify::new(),
            door: Door::new(),
            owned: Owned::new(),
        }
    }

    /// There is something to see: the next look is now.
    pub(crate) fn hint(&self) {
        self.hinted.notify_one();
        self.door.hint();
    }

    /// There is nothing to see any more.
    pub(crate) fn part(&self) {
        self.parted.store(true, Ordering::Release);
    }

    fn has_parted(&self) -> bool {
        self.parted.load(Ordering::Acquire)
    }

    /// Endings of this session, which another node has, are waited for, or are no longer.
    pub(crate) fn follow(&self, key: &SessionKey, last_seq: Seq, waited_for: bool) {
        if waited_for {
            self.followed.insert(key.clone(), last_seq);
        } else {
            self.unfollow(key);
        }
    }

    pub(crate) fn unfollow(&self, key: &SessionKey) {
        if !self.followed.is_empty() {
            self.followed.remove(key);
        }
    }
}

impl Gateway {
    /// Leaves what one node does for all to others. To be said before [`Gateway::start`], of a node
    /// that talks to nobody.
    pub fn lead_nothing(&self) {
        self.0.cluster.leads_nothing.store(true, Ordering::Release);
    }

    /// Brings the gauges up to date.
    pub(crate) fn gauge_cluster(&self) {
        let metrics = &self.0.cluster.metrics;
        for (gauge, count) in metrics.nodes.iter().zip(self.store().neighbours()) {
            gauge.set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
        }
        for (gauge, lead) in metrics.leads.iter().zip(Lead::ALL) {
            gauge.set(f64::from(u8::from(self.leads(lead))));
        }
    }

    /// Whether turns run on this node.
    pub(crate) fn runs_turns(&self) -> bool {
        self.0.cluster.runs
    }

    /// Whether it is this node that does it for all.
    pub(crate) fn leads(&self, lead: Lead) -> bool {
        *self.0.cluster.leads[lead as usize].borrow()
    }

    /// Who does it for all, as it was seen last.
    pub(crate) fn leader(&self, lead: Lead) -> Leased {
        self.store().leased(lead.name())
    }

    /// Comes back once it is this node that does it for all, which it stays.
    pub(crate) async fn led(&self, lead: Lead) {
        let mut leads = self.0.cluster.leads[lead as usize].subscribe();
        // The sender lives as long as this handle, so waiting can't fail.
        let _ = leads.wait_for(|ours| *ours).await;
    }

    /// Asks for what only one node does, as far as nobody else has it.
    pub(crate) async fn take_leads(&self) -> Result<(), StoreError> {
        if self.0.cluster.leads_nothing.load(Ordering::Acquire) {
            return Ok(());
        }
        for lead in Lead::ALL {
            if self.leads(lead) || !self.store().lease(lead.name()).await? {
                continue;
            }
            match lead {
                // It was read at the start, and whoever waits for the lease reads it again.
                Lead::Schedule => {}
                Lead::Listeners => self.0.listeners.lead(),
                Lead::Switchboard => {
                    self.0.switchboard.load().await?;
                    self.0.switchboard.keep();
                }
            }
            self.0.cluster.leads[lead as usize].send_replace(true);
            if self.store().is_shared() {
                tracing::info!(lease = lead.name(), "this node does it for all now");
            }
        }
        Ok(())
    }

    /// Looks at what other nodes do, until `shutdown`.
    pub(crate) async fn look_out(&self, shutdown: &CancellationToken) {
        if !self.store().is_shared() {
            return;
        }
        let mut beat = tokio::time::interval(LOOK);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut round = Instant::now();
        // What moved since the start was read is read once more.
        let mut known = BTreeMap::new();
        let (mut failing, mut parting, mut seen) = (false, BTreeSet::new(), HashMap::new());
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = beat.tick() => {}
                () = self.0.cluster.hinted.notified() => {}
            }
            if self.0.cluster.has_parted() {
                return;
            }
            if !self.sees_others() {
                continue;
            }
            if round.elapsed() >= ROUND {
                // Whatever became of it.
                seen.clear();
            }
            let marks = self.store().marks();
            let moved = marks.iter().filter(|(name, number)| known.get(*name) != Some(*number));
            let moved: Vec<&'static str> = moved.map(|(name, _)| *name).collect();
            let due = moved.contains(&"nodes") || round.elapsed() >= ROUND;
            let looked = if self.is_draining() {
                self.look_when_ending(&mut parting, &mut seen).await
            } else {
                self.look(due, &moved, &mut seen).await
            };
            match looked {
                Ok(()) => {
                    known = marks;
                    round = if due { Instant::now() } else { round };
                }
                Err(ref error) if !failing && !self.0.cluster.has_parted() => {
                    tracing::warn!(%error, "what other nodes do can't be seen");
                }
                Err(_) => {}
            }
            failing = looked.is_err();
        }
    }

    /// Whether it is known by now what this node has, and the store answers. A node that is ending
    /// answers nobody any more, but hears of what runs here.
    fn sees_others(&self) -> bool {
        if self.is_draining() { self.store().health().is_ok() } else { self.readiness().is_ok() }
    }

    async fn look(
        &self,
        due: bool,
        moved: &[&'static str],
        seen: &mut HashMap<SessionKey, Seq>,
    ) -> Result<(), StoreError> {
        self.answer_knocks().await?;
        self.look_at_watched(seen).await?;
        if self.leads(Lead::Listeners) {
            self.0.listeners.journal_grew();
        }
        self.read_again(moved).await?;
        if due {
            // Others count, too: whoever asks for a sum next reads it.
            self.0.ledger.read_again();
            self.take_leads().await?;
        }
        Ok(())
    }

    /// What others wrote into sessions that this node has.
    async fn answer_knocks(&self) -> Result<(), StoreError> {
        self.each_knock(|key| self.answer_knock(&key)).await?;
        if self.is_draining() {
            // It began meanwhile, and whoever had no task was not told.
            self.0.cluster.doubts.store(true, Ordering::Release);
            return Ok(());
        }
        if self.0.cluster.doubts.load(Ordering::Acquire) {
            // Nobody is going to name those sessions again.
            self.0.registry.broadcast(|| Mail::Look);
            self.each_own(Timestamp::MAX, |key| {
                if !self.0.registry.has(&key) {
                    self.look_at(&key);
                }
            })
            .await?;
            self.0.cluster.doubts.store(false, Ordering::Release);
        }
        Ok(())
    }

    /// Takes what others knocked for, a page at a time.
    async fn each_knock(&self, mut name: impl FnMut(SessionKey) + Send) -> Result<(), StoreError> {
        loop {
            let knocks = self.store().knocks(PAGE).await;
            if knocks.is_err() {
                self.0.cluster.doubts.store(true, Ordering::Release);
            }
            let keys = knocks?;
            let full = keys.len() == PAGE;
            for key in keys {
                self.0.cluster.metrics.looked(Why::Knock);
                name(key);
            }
            if !full {
                return Ok(());
            }
        }
    }

    /// What others wrote into sessions that somebody here watches or waits for. Each place in a journal
    /// is looked at once: `seen` says up to where that was done, whether it is read by now or on its way.
    async fn look_at_watched(&self, seen: &mut HashMap<SessionKey, Seq>) -> Result<(), StoreError> {
        let mut known: BTreeMap<SessionKey, Seq> = self.0.lives.ends();
        let followed = &self.0.cluster.followed;
        known.extend(followed.iter().map(|entry| (entry.key().clone(), *entry.value())));
        seen.retain(|key, _| known.contains_key(key));
        let keys: Vec<SessionKey> = known.keys().cloned().collect();
        for page in keys.chunks(PAGE) {
            for (key, last_seq) in self.store().last_seqs(page).await? {
                if known.get(&key) != Some(&last_seq) && seen.get(&key) != Some(&last_seq) {
                    self.0.cluster.metrics.looked(Why::Watched);
                    self.look_at(&key);
                    seen.insert(key, last_seq);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn look_at(&self, key: &SessionKey) {
        match self.policy_of_stored(key) {
            Some(policy) => self.send(key, policy, Mail::Look),
            None => warn_without_channel(key),
        }
    }

    /// Reads again what others changed.
    async fn read_again(&self, moved: &[&'static str]) -> Result<(), StoreError> {
        for name in moved {
            match *name {
                "restrictions" => self.load_restrictions().await?,
                "people" => self.load_people().await?,
                "jobs" => self.0.schedule.load_again().await?,
                // The keys are read by who asks for them; of the boards there is one keeper.
                _ => {}
            }
        }
        Ok(())
    }
}

fn warn_without_channel(key: &SessionKey) {
    tracing::warn!(session_key = %key, "was written elsewhere, but has no channel here");
}
