//! Jobs and their ticks in memory.

use std::collections::BTreeMap;
use std::future::ready;

use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::schedule::{
    Claim, ENDED_KEPT, Ended, JOBS_MAX, KeptJob, Put, ScheduleStore, Tick, TickState,
};
use turnkeep_core::ports::store::StoreError;
use turnkeep_core::schedule::{Job, MadeBy, When};
use turnkeep_core::{Seq, SessionKey, Timestamp};

use super::MemoryStore;

type Name = (String, String);

/// Jobs and ticks by tenant and name.
#[derive(Debug, Default)]
pub(super) struct ScheduleTables {
    jobs: BTreeMap<Name, KeptJob>,
    ticks: BTreeMap<(String, String, Timestamp), Tick>,
}

fn name(tenant: &str, job: &str) -> Name {
    (tenant.to_owned(), job.to_owned())
}

impl ScheduleTables {
    fn put(&mut self, job: Job, now: Timestamp) -> Put {
        let name = name(&job.tenant, &job.name);
        if let Some(kept) = self.jobs.get(&name) {
            return if kept.job == job { Put::Same } else { Put::Taken };
        }
        if self.jobs.keys().filter(|(tenant, _)| *tenant == job.tenant).count() >= JOBS_MAX {
            return Put::Full;
        }
        self.jobs.insert(name, KeptJob { job, made_at: now, handled: now, held: false });
        Put::Kept
    }

    pub(super) fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values().map(|kept| &kept.job)
    }

    fn configure(&mut self, jobs: Vec<Job>, now: Timestamp) {
        let wanted: BTreeMap<Name, Job> =
            jobs.into_iter().map(|job| (name(&job.tenant, &job.name), job)).collect();
        let gone = self.jobs.iter().filter(|(name, kept)| {
            kept.job.made_by == MadeBy::Configuration && !wanted.contains_key(*name)
        });
        for (tenant, name) in gone.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.forget(&tenant, &name);
        }
        for (name, job) in wanted {
            match self.jobs.get_mut(&name) {
                Some(kept) if goes_on(&kept.job, &job) => {
                    if kept.job.paused && !job.paused {
                        kept.handled = kept.handled.max(now);
                    }
                    kept.job = job;
                }
                _ => {
                    self.forget(&name.0, &name.1);
                    let kept = KeptJob { job, made_at: now, handled: now, held: false };
                    self.jobs.insert(name, kept);
                }
            }
        }
    }

    fn forget(&mut self, tenant: &str, job: &str) -> bool {
        self.ticks.retain(|(of, name, _), _| (&**of, &**name) != (tenant, job));
        self.jobs.remove(&name(tenant, job)).is_some()
    }

    fn hold(&mut self, tenant: &str, job: &str, held: bool, now: Timestamp) -> bool {
        let Some(kept) = self.jobs.get_mut(&name(tenant, job)) else { return false };
        if kept.held && !held && !kept.job.is_reminder() {
            kept.handled = kept.handled.max(now);
        }
        kept.held = held;
        true
    }

    fn claim(&mut self, tenant: &str, job: &str, claim: Claim) -> Vec<Timestamp> {
        let Some(kept) = self.jobs.get_mut(&name(tenant, job)) else { return Vec::new() };
        kept.handled = claim.handled.unwrap_or(kept.handled);
        let tick = |at, state, ended_at, note| Tick {
            tenant: tenant.to_owned(),
            job: job.to_owned(),
            at,
            state,
            claimed_at: claim.at,
            ended_at,
            session: None,
            seq: None,
            note,
        };
        let place = |at| (tenant.to_owned(), job.to_owned(), at);
        if let Some((at, why)) = claim.left_out {
            let skipped = tick(at, TickState::Skipped, Some(claim.at), Some(why));
            self.ticks.entry(place(at)).or_insert(skipped);
        }
        let mut new = Vec::new();
        for at in claim.run {
            // What was left out is run after all where the clock comes there again.
            let known = self.ticks.get(&place(at));
            if known.is_none_or(|known| known.state == TickState::Skipped) {
                self.ticks.insert(place(at), tick(at, TickState::Claimed, None, None));
                new.push(at);
            }
        }
        new
    }

    fn end(&mut self, (tenant, job, at): (&str, &str, Timestamp), ended: Ended) {
        if let Some(tick) = self.ticks.get_mut(&(tenant.to_owned(), job.to_owned(), at)) {
            (tick.state, tick.ended_at, tick.note) = (ended.state, Some(ended.at), ended.note);
        }
        let kept = self.jobs.get(&name(tenant, job));
        if ended.state.is_done() && kept.is_some_and(|kept| kept.job.when == When::Once(at)) {
            self.forget(tenant, job);
            return;
        }
        let over = |tick: &&Tick| tick.tenant == tenant && tick.job == job && !tick.state.is_open();
        let over: Vec<Timestamp> = self.ticks.values().filter(over).map(|tick| tick.at).collect();
        let last = self.ended_before((tenant, job, Timestamp::MAX)).map(|tick| tick.at);
        for at in over.iter().rev().skip(ENDED_KEPT).filter(|at| Some(**at) != last) {
            self.ticks.remove(&(tenant.to_owned(), job.to_owned(), *at));
        }
    }

    fn ended_before(&self, (tenant, job, at): (&str, &str, Timestamp)) -> Option<&Tick> {
        let of = |at| (tenant.to_owned(), job.to_owned(), at);
        let mut before = self.ticks.range(of(Timestamp::MIN)..of(at)).rev().map(|(_, tick)| tick);
        before.find(|tick| !tick.state.is_open() && tick.state != TickState::Skipped)
    }
}

/// Whether a job of the configuration is the same one, with other words perhaps.
fn goes_on(kept: &Job, wanted: &Job) -> bool {
    kept.made_by == MadeBy::Configuration && kept.when == wanted.when
}

impl ScheduleStore for MemoryStore {
    fn jobs(&self) -> BoxFuture<'_, Result<Vec<KeptJob>, StoreError>> {
        self.read(|tables| tables.schedule.jobs.values().cloned().collect())
    }

    fn put_job(&self, job: Job, now: Timestamp) -> BoxFuture<'_, Result<Put, StoreError>> {
        Box::pin(ready(Ok(self.tables().schedule.put(job, now))))
    }

    fn configure_jobs(
        &self,
        jobs: Vec<Job>,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.tables().schedule.configure(jobs, now);
        Box::pin(ready(Ok(())))
    }

    fn drop_job(&self, tenant: &str, name: &str) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(ready(Ok(self.tables().schedule.forget(tenant, name))))
    }

    fn hold_job(
        &self,
        tenant: &str,
        name: &str,
        held: bool,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(ready(Ok(self.tables().schedule.hold(tenant, name, held, now))))
    }

    fn claim(
        &self,
        tenant: &str,
        name: &str,
        claim: Claim,
    ) -> BoxFuture<'_, Result<Vec<Timestamp>, StoreError>> {
        Box::pin(ready(Ok(self.tables().schedule.claim(tenant, name, claim))))
    }

    fn submitted(
        &self,
        (tenant, job, at): (&str, &str, Timestamp),
        session: SessionKey,
        seq: Seq,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let place = (tenant.to_owned(), job.to_owned(), at);
        if let Some(tick) = self.tables().schedule.ticks.get_mut(&place)
            && tick.state.is_open()
        {
            tick.state = TickState::Submitted;
            (tick.session, tick.seq) = (Some(session), Some(seq));
        }
        Box::pin(ready(Ok(())))
    }

    fn end_tick(
        &self,
        tick: (&str, &str, Timestamp),
        ended: Ended,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.tables().schedule.end(tick, ended);
        Box::pin(ready(Ok(())))
    }

    fn ended_before(
        &self,
        tick: (&str, &str, Timestamp),
    ) -> BoxFuture<'_, Result<Option<Tick>, StoreError>> {
        self.read(|tables| tables.schedule.ended_before(tick).cloned())
    }

    fn open_ticks(&self) -> BoxFuture<'_, Result<Vec<Tick>, StoreError>> {
        self.read(|tables| {
            let ticks = tables.schedule.ticks.values();
            ticks.filter(|tick| tick.state.is_open()).cloned().collect()
        })
    }

    fn ticks(
        &self,
        tenant: &str,
        name: &str,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Tick>, StoreError>> {
        let of = |at| (tenant.to_owned(), name.to_owned(), at);
        self.read(|tables| {
            let ticks = tables.schedule.ticks.range(of(Timestamp::MIN)..=of(Timestamp::MAX));
            ticks.rev().take(limit).map(|(_, tick)| tick.clone()).collect()
        })
    }
}
