//! A memory store as several nodes have it open: knocks, offers, and who may look now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use turnkeep_core::outbox::DeliveryState;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::store::{
    BITE_MIN, Bite, But, Commit, CommitOutcome, DeadLetter, Holder, Leased, Loaded,
    NumberedDeadLetter, Offer, Offered, PartPlace, PartRow, Store, StoreError, TurnRow,
};
use turnkeep_core::{Epoch, Event, Seq, SessionKey, Timestamp, TurnId};
use turnkeep_stores::MemoryStore;

type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// What all nodes share.
#[derive(Default)]
pub(crate) struct Hall {
    inner: Mutex<Inside>,
    passed: Notify,
}

#[derive(Default)]
struct Inside {
    /// The numbers of those that run turns, by their places.
    runners: Vec<Epoch>,
    offers: BTreeMap<SessionKey, Offer>,
    /// Whose look is next.
    next: usize,
    /// By node: how much was asked for, and of whom nothing.
    asked: [Vec<(usize, Vec<String>)>; 2],
    loses: bool,
    /// Whoever looks is answered at once, and not in turns.
    at_will: bool,
    /// At the doors of those that have them: sessions that others wrote.
    knocks: BTreeMap<Epoch, BTreeSet<SessionKey>>,
    /// What only one may have, and who has it, if that one is still there.
    leases: BTreeMap<String, Option<Epoch>>,
    /// Once somebody was told of a knock, its answer is lost; or the next load fails then.
    trouble: Option<Trouble>,
    /// So many loads fail.
    loads_fail: usize,
    /// How long a load takes of who runs no turns, and how many there were since that was said.
    slow: Option<(Duration, usize)>,
}

/// What goes wrong with the next knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    Answer,
    Load,
}

impl Hall {
    /// What this runner asked for while there was something.
    pub(crate) fn asked(&self, runner: usize) -> Vec<(usize, Vec<String>)> {
        self.inner.lock().unwrap().asked[runner].clone()
    }

    /// The next answer is lost on its way.
    pub(crate) fn lose_an_answer(&self) {
        self.inner.lock().unwrap().loses = true;
    }

    /// Each looks when it likes.
    pub(crate) fn at_will(&self) {
        self.inner.lock().unwrap().at_will = true;
    }

    /// From here on each load of who runs no turns takes so long.
    pub(crate) fn loads_take(&self, long: Duration) {
        self.inner.lock().unwrap().slow = Some((long, 0));
    }

    /// How many of these there were.
    pub(crate) fn slow_loads(&self) -> usize {
        self.inner.lock().unwrap().slow.map_or(0, |(_, count)| count)
    }

    /// This runner is put out.
    pub(crate) fn is_gone(&self, runner: usize) {
        let mut inside = self.inner.lock().unwrap();
        let gone = std::mem::take(&mut inside.runners[runner]);
        inside
            .leases
            .values_mut()
            .filter(|whose| **whose == Some(gone))
            .for_each(|whose| *whose = None);
    }

    /// Somebody had this once, and is gone.
    pub(crate) fn was_leased(&self, name: &str) {
        self.inner.lock().unwrap().leases.insert(name.to_owned(), None);
    }

    /// With the next knock something goes wrong.
    pub(crate) fn trouble(&self, trouble: Trouble) {
        self.inner.lock().unwrap().trouble = Some(trouble);
    }

    /// Of the loads that come so many fail; says how many still had to.
    pub(crate) fn fail_loads(&self, count: usize) -> usize {
        std::mem::replace(&mut self.inner.lock().unwrap().loads_fail, count)
    }

    /// Who is this number's is told of its sessions that others wrote.
    fn hear(&self, epoch: Epoch) -> Result<Vec<SessionKey>, StoreError> {
        let mut inside = self.inner.lock().unwrap();
        let Some(knocks) = inside.knocks.remove(&epoch) else { return Ok(Vec::new()) };
        match inside.trouble.take() {
            Some(Trouble::Answer) => return Err(StoreError::Unavailable("lost".to_owned())),
            Some(Trouble::Load) => inside.loads_fail = 1,
            None => {}
        }
        Ok(knocks.into_iter().collect())
    }

    /// The next look of this runner, after the other one's; nothing where nothing is offered.
    fn look(
        &self,
        runner: usize,
        Bite { most, parts }: Bite,
        but: But<'_>,
    ) -> Option<Result<Offered, StoreError>> {
        let mut inside = self.inner.lock().unwrap();
        if inside.offers.is_empty() {
            return Some(Ok(Offered::default()));
        }
        if inside.next != runner && !inside.at_will {
            return None;
        }
        inside.next = (runner + 1) % inside.runners.len();
        inside.asked[runner].push((most, but.agents.to_vec()));
        let free = inside.offers.iter().filter(|(key, _)| {
            !but.agents.contains(&key.agent()) && !but.channels.contains(&&*key.channel())
        });
        let part = inside.offers.len().div_ceil(parts).max(BITE_MIN);
        let taken: Vec<_> =
            free.take(part.min(most)).map(|(key, offer)| (key.clone(), *offer)).collect();
        inside.offers.retain(|key, _| taken.iter().all(|(taken, _)| taken != key));
        let waiting = inside.offers.len();
        Some(if std::mem::take(&mut inside.loses) {
            Err(StoreError::Unavailable("lost".to_owned()))
        } else {
            Ok(Offered { taken, waiting })
        })
    }
}

/// One of them.
pub(crate) struct Node {
    store: MemoryStore,
    hall: Arc<Hall>,
    /// Its place among those that run turns.
    runner: Option<usize>,
}

impl Node {
    pub(crate) fn open(record: &MemoryStore, hall: &Arc<Hall>, runner: Option<usize>) -> Self {
        let store = record.reopen();
        if runner.is_some() {
            hall.inner.lock().unwrap().runners.push(store.epoch());
        }
        Self { store, hall: Arc::clone(hall), runner }
    }

    fn has_runner(&self, epoch: Epoch) -> bool {
        self.hall.inner.lock().unwrap().runners.contains(&epoch.node())
    }

    fn offer(&self, key: SessionKey, offer: Offer) {
        self.hall.inner.lock().unwrap().offers.entry(key).or_insert(offer);
    }
}

impl Store for Node {
    fn epoch(&self) -> Epoch {
        self.store.epoch()
    }

    fn holder(&self, epoch: Epoch) -> Holder {
        match self.has_runner(epoch) {
            _ if epoch.node() == self.epoch() => Holder::Us,
            true => Holder::Another,
            false => Holder::Nobody,
        }
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn lease<'a>(&'a self, name: &'a str) -> Answer<'a, bool> {
        let mut inside = self.hall.inner.lock().unwrap();
        let whose = inside.leases.entry(name.to_owned()).or_default();
        let ours = *whose.get_or_insert(self.epoch()) == self.epoch();
        Box::pin(async move { Ok(ours) })
    }

    fn leased(&self, name: &str) -> Leased {
        match self.hall.inner.lock().unwrap().leases.get(name) {
            None => Leased::Never,
            Some(None) => Leased::Free,
            Some(Some(node)) => Leased::By(node.to_string().into()),
        }
    }

    fn last_seqs<'a>(&'a self, keys: &'a [SessionKey]) -> Answer<'a, Vec<(SessionKey, Seq)>> {
        Box::pin(async move {
            let mut ends = Vec::new();
            for key in keys {
                let loaded = self.store.load(key).await?;
                ends.extend(loaded.map(|loaded| (key.clone(), loaded.session.last_seq)));
            }
            Ok(ends)
        })
    }

    fn neighbours(&self) -> [usize; 2] {
        [1, 1]
    }

    fn offer_left(&self, limit: usize) -> Answer<'_, usize> {
        Box::pin(async move {
            let mut offered = 0;
            for (_, key) in self.store.open_work(Timestamp::MAX, None, limit).await? {
                let Some(loaded) = self.store.load(&key).await? else { continue };
                if !self.has_runner(loaded.session.epoch) {
                    self.offer(key, Offer::Left);
                    offered += 1;
                }
            }
            Ok(offered)
        })
    }

    fn take_offered<'a>(&'a self, _: &'a [Offer], bite: Bite, but: But<'a>) -> Answer<'a, Offered> {
        let runner = self.runner.unwrap();
        Box::pin(async move {
            loop {
                let passed = self.hall.passed.notified();
                if let Some(offered) = self.hall.look(runner, bite, but) {
                    self.hall.passed.notify_waiters();
                    return offered;
                }
                passed.await;
            }
        })
    }

    fn knocks(&self, _: usize) -> Answer<'_, Vec<SessionKey>> {
        Box::pin(async { self.hall.hear(self.epoch()) })
    }

    fn own_work(
        &self,
        before: Timestamp,
        after: Option<(Timestamp, SessionKey)>,
        limit: usize,
    ) -> Answer<'_, Vec<(Timestamp, SessionKey)>> {
        Box::pin(async move {
            let mut own = Vec::new();
            for due in self.store.open_work(before, after, limit).await? {
                let loaded = self.store.load(&due.1).await?;
                if loaded.is_some_and(|loaded| loaded.session.epoch.node() == self.epoch()) {
                    own.push(due);
                }
            }
            Ok(own)
        })
    }

    fn health(&self) -> Result<(), String> {
        self.store.health()
    }

    fn load(&self, key: &SessionKey) -> Answer<'_, Option<Loaded>> {
        let mut inside = self.hall.inner.lock().unwrap();
        if inside.loads_fail > 0 {
            inside.loads_fail -= 1;
            return Box::pin(async { Err(StoreError::Unavailable("lost".to_owned())) });
        }
        if let Some((long, count)) = inside.slow.as_mut().filter(|_| self.runner.is_none()) {
            *count += 1;
            let (long, key) = (*long, key.clone());
            return Box::pin(async move {
                tokio::time::sleep(long).await;
                self.store.load(&key).await
            });
        }
        self.store.load(key)
    }

    fn commit(&self, commit: Commit) -> Answer<'_, CommitOutcome> {
        let is_open = commit.wake_at.is_some();
        let whose = commit.session.epoch.node();
        let key = commit.key.clone();
        Box::pin(async move {
            let outcome = self.store.commit(commit).await;
            if !matches!(outcome, Ok(CommitOutcome::Committed(_))) {
                return outcome;
            }
            let is_offered = whose == Epoch(0) || self.runner.is_none() && is_open;
            if whose != self.epoch() && whose != Epoch(0) {
                let mut inside = self.hall.inner.lock().unwrap();
                inside.knocks.entry(whose).or_default().insert(key);
            } else if is_offered {
                self.offer(key, Offer::New);
            }
            outcome
        })
    }

    fn open_work(
        &self,
        before: Timestamp,
        after: Option<(Timestamp, SessionKey)>,
        limit: usize,
    ) -> Answer<'_, Vec<(Timestamp, SessionKey)>> {
        self.store.open_work(before, after, limit)
    }

    fn sessions(
        &self,
        tenant: Option<&str>,
        after: Option<&SessionKey>,
        limit: usize,
    ) -> Answer<'_, Vec<(SessionKey, Loaded)>> {
        self.store.sessions(tenant, after, limit)
    }

    fn events(&self, key: &SessionKey, after: Seq, limit: usize) -> Answer<'_, Vec<Event>> {
        self.store.events(key, after, limit)
    }

    fn turn(&self, id: TurnId) -> Answer<'_, Option<(SessionKey, TurnRow)>> {
        self.store.turn(id)
    }

    fn turns(
        &self,
        key: &SessionKey,
        before: Option<TurnId>,
        limit: usize,
    ) -> Answer<'_, Vec<TurnRow>> {
        self.store.turns(key, before, limit)
    }

    fn dead_letters(&self, after: u64, limit: usize) -> Answer<'_, Vec<NumberedDeadLetter>> {
        self.store.dead_letters(after, limit)
    }

    fn dead_letters_count(&self, max: usize) -> Answer<'_, u64> {
        self.store.dead_letters_count(max)
    }

    fn dead_letter(&self, id: u64) -> Answer<'_, Option<(SessionKey, DeadLetter)>> {
        self.store.dead_letter(id)
    }

    fn parts(&self, key: &SessionKey, after: (Seq, u32), limit: usize) -> Answer<'_, Vec<PartRow>> {
        self.store.parts(key, after, limit)
    }

    fn parked(
        &self,
        tenant: Option<&str>,
        state: Option<DeliveryState>,
        after: Option<&PartPlace>,
        limit: usize,
    ) -> Answer<'_, Vec<(SessionKey, PartRow)>> {
        self.store.parked(tenant, state, after, limit)
    }

    fn forget_seen(&self, now: Timestamp, limit: usize) -> Answer<'_, usize> {
        self.store.forget_seen(now, limit)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}
