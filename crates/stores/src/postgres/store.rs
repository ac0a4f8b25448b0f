//! The port of sessions: commits go to the writer, everything else to a connection of the pool.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::oneshot;
use turnkeep_core::outbox::DeliveryState;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::store::{
    Bite, But, Commit, CommitOutcome, DeadLetter, Holder, Leased, Loaded, NumberedDeadLetter,
    Offer, Offered, PartPlace, PartRow, Store, StoreError, StoreStats, TurnRow,
};
use turnkeep_core::{Epoch, Event, Seq, SessionKey, Timestamp, TurnId};

use super::ask::{limit_of, run};
use super::batch::Job;
use super::writer::{CLOSED, Order};
use super::{PostgresStore, Shared, nodes, read, shared};
use crate::encode;

/// Commits that may wait for the writer; more are refused at once.
const WAITING_MAX: u64 = 65_536;

/// Forgets messages whose time is over. Those that somebody looks at just now are left.
const FORGET_SEEN: &str = "DELETE FROM seen WHERE key = ANY(ARRAY(
    SELECT key FROM seen WHERE until < $1 ORDER BY until LIMIT $2 FOR UPDATE SKIP LOCKED))";

type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

impl PostgresStore {
    /// Hands a commit to the writer and waits for its answer.
    async fn write(&self, commit: Commit) -> Result<CommitOutcome, StoreError> {
        let commit = Box::new(encode::encode(commit)?);
        let closed = || StoreError::Unavailable(CLOSED.into());
        let waiting = &self.shared.counters.waiting;
        if waiting.fetch_add(1, Relaxed) >= WAITING_MAX {
            waiting.fetch_sub(1, Relaxed);
            return Err(StoreError::Unavailable("too many commits wait already".into()));
        }
        let (answer, outcome) = oneshot::channel();
        if self.orders.send(Order::Commit(Job { commit, answer })).is_err() {
            waiting.fetch_sub(1, Relaxed);
            return Err(closed());
        }
        outcome.await.unwrap_or_else(|_| Err(closed()))
    }
}

impl Store for PostgresStore {
    fn epoch(&self) -> Epoch {
        self.shared.gate.epoch
    }

    fn holder(&self, epoch: Epoch) -> Holder {
        let Shared { gate, nodes, .. } = &*self.shared;
        if nodes.is_out() {
            return Holder::Later;
        }
        let whose = Some(epoch.node());
        let ours = whose == Some(gate.epoch) || whose == nodes.stand_in.epoch();
        if ours { Holder::Us } else { nodes.holder(epoch) }
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn neighbours(&self) -> [usize; 2] {
        let others = self.others();
        let runners = others.iter().filter(|other| other.runs).count();
        [runners, others.len() - runners]
    }

    fn knocks(&self, limit: usize) -> Answer<'_, Vec<SessionKey>> {
        Box::pin(self.answer_knocks(limit))
    }

    fn last_seqs<'a>(&'a self, keys: &'a [SessionKey]) -> Answer<'a, Vec<(SessionKey, Seq)>> {
        if keys.is_empty() {
            return Box::pin(std::future::ready(Ok(Vec::new())));
        }
        let keys = keys.to_vec();
        Box::pin(self.look(move |on| {
            let keys = keys.clone();
            async move { shared::last_seqs(&*on, &keys).await }
        }))
    }

    fn offer_left(&self, limit: usize) -> Answer<'_, usize> {
        Box::pin(self.offer_all_left(limit))
    }

    fn take_offered<'a>(
        &'a self,
        of: &'a [Offer],
        bite: Bite,
        but: But<'a>,
    ) -> Answer<'a, Offered> {
        Box::pin(self.take_some_offered(of, bite, but))
    }

    fn lease<'a>(&'a self, name: &'a str) -> Answer<'a, bool> {
        Box::pin(self.take_lease(name))
    }

    fn leased(&self, name: &str) -> Leased {
        self.shared.nodes.leased(name)
    }

    fn marks(&self) -> BTreeMap<&'static str, u64> {
        self.shared.nodes.marks()
    }

    fn stand_in(&self) -> Answer<'_, Epoch> {
        Box::pin(self.draw_second())
    }

    fn step_back(&self) -> Answer<'_, ()> {
        Box::pin(self.give_second_back())
    }

    fn health(&self) -> Result<(), String> {
        if let Some(out) = self.shared.nodes.out() {
            return Err(out.sentence().into());
        }
        self.shared.health.get()
    }

    fn stats(&self) -> StoreStats {
        self.shared.counters.stats()
    }

    fn waiting(&self) -> u64 {
        self.shared.counters.waiting.load(Relaxed)
    }

    fn load(&self, key: &SessionKey) -> Answer<'_, Option<Loaded>> {
        Box::pin(self.together.load(key.clone()))
    }

    fn commit(&self, commit: Commit) -> Answer<'_, CommitOutcome> {
        Box::pin(self.write(commit))
    }

    fn open_work(
        &self,
        before: Timestamp,
        after: Option<(Timestamp, SessionKey)>,
        limit: usize,
    ) -> Answer<'_, Vec<(Timestamp, SessionKey)>> {
        let own = self.shared.numbers();
        Box::pin(self.look(move |on| {
            let (after, own) = (after.clone(), Some(own.clone()));
            async move { read::open_work(&*on, before, after.as_ref(), limit, own).await }
        }))
    }

    fn own_work(
        &self,
        before: Timestamp,
        after: Option<(Timestamp, SessionKey)>,
        limit: usize,
    ) -> Answer<'_, Vec<(Timestamp, SessionKey)>> {
        let own = self.shared.numbers();
        Box::pin(self.look(move |on| {
            let (after, own) = (after.clone(), own.clone());
            async move { shared::own_work(&*on, before, after.as_ref(), limit, &own).await }
        }))
    }

    fn sessions(
        &self,
        tenant: Option<&str>,
        after: Option<&SessionKey>,
        limit: usize,
    ) -> Answer<'_, Vec<(SessionKey, Loaded)>> {
        let (tenant, after) = (tenant.map(str::to_owned), after.cloned());
        Box::pin(self.look(move |on| {
            let (tenant, after) = (tenant.clone(), after.clone());
            async move { read::sessions(&*on, tenant.as_deref(), after.as_ref(), limit).await }
        }))
    }

    fn events(&self, key: &SessionKey, after: Seq, limit: usize) -> Answer<'_, Vec<Event>> {
        Box::pin(self.together.events(key.clone(), after, limit))
    }

    fn turn(&self, id: TurnId) -> Answer<'_, Option<(SessionKey, TurnRow)>> {
        Box::pin(self.look(move |on| async move { read::turn(&*on, id).await }))
    }

    fn turns(
        &self,
        key: &SessionKey,
        before: Option<TurnId>,
        limit: usize,
    ) -> Answer<'_, Vec<TurnRow>> {
        let key = key.clone();
        Box::pin(self.look(move |on| {
            let key = key.clone();
            async move { read::turns(&*on, &key, before, limit).await }
        }))
    }

    fn dead_letters(&self, after: u64, limit: usize) -> Answer<'_, Vec<NumberedDeadLetter>> {
        Box::pin(self.look(move |on| async move { read::dead_letters(&*on, after, limit).await }))
    }

    fn dead_letters_count(&self, max: usize) -> Answer<'_, u64> {
        Box::pin(self.look(move |on| async move { read::dead_letters_count(&*on, max).await }))
    }

    fn dead_letter(&self, id: u64) -> Answer<'_, Option<(SessionKey, DeadLetter)>> {
        Box::pin(self.look(move |on| async move { read::dead_letter(&*on, id).await }))
    }

    fn parts(&self, key: &SessionKey, after: (Seq, u32), limit: usize) -> Answer<'_, Vec<PartRow>> {
        let key = key.clone();
        Box::pin(self.look(move |on| {
            let key = key.clone();
            async move { read::parts(&*on, &key, after, limit).await }
        }))
    }

    fn parked(
        &self,
        tenant: Option<&str>,
        state: Option<DeliveryState>,
        after: Option<&PartPlace>,
        limit: usize,
    ) -> Answer<'_, Vec<(SessionKey, PartRow)>> {
        let (tenant, after) = (tenant.map(str::to_owned), after.cloned());
        Box::pin(self.look(move |on| {
            let (tenant, after) = (tenant.clone(), after.clone());
            async move { read::parked(&*on, tenant.as_deref(), state, after.as_ref(), limit).await }
        }))
    }

    fn forget_seen(&self, now: Timestamp, limit: usize) -> Answer<'_, usize> {
        Box::pin(self.change("forget messages", move |transaction| {
            let limit = limit_of(limit);
            Box::pin(async move { run(transaction, FORGET_SEEN, &[&now, &limit]).await })
        }))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.shut();
            let (answer, ended) = oneshot::channel();
            if self.orders.send(Order::Close(answer)).is_ok() {
                // An error means that the writer has ended, which is what was asked for.
                drop(ended.await);
            }
            nodes::leave(&self.shared).await;
        })
    }
}
