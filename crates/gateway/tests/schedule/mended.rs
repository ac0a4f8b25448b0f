//! Jobs whose store loses an answer, whose answer is erased, and that change while they run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::reminders::{AskedBy, Reminders as _, Wanted};
use turnkeep_core::ports::schedule::{Claim, Ended, KeptJob, Put, ScheduleStore, Tick, TickState};
use turnkeep_core::ports::store::StoreError;
use turnkeep_core::schedule::{Job, Overlap};
use turnkeep_core::{Seq, SessionKey, Timestamp, Trust, TurnGroupId};
use turnkeep_gateway::{Gateway, ReminderDesk, Settings, clock};
use turnkeep_stores::MemoryStore;

use super::{Home, MINUTE, alice, job, news, reminder, sent, slow};
use crate::kit::{history, started};

type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// A store that claims and says that it did not.
struct Lossy {
    inner: MemoryStore,
    loses: AtomicBool,
}

impl ScheduleStore for Lossy {
    fn jobs(&self) -> Answer<'_, Vec<KeptJob>> {
        self.inner.jobs()
    }

    fn put_job(&self, job: Job, now: Timestamp) -> Answer<'_, Put> {
        self.inner.put_job(job, now)
    }

    fn configure_jobs(&self, jobs: Vec<Job>, now: Timestamp) -> Answer<'_, ()> {
        self.inner.configure_jobs(jobs, now)
    }

    fn drop_job(&self, tenant: &str, name: &str) -> Answer<'_, bool> {
        self.inner.drop_job(tenant, name)
    }

    fn hold_job(&self, tenant: &str, name: &str, held: bool, now: Timestamp) -> Answer<'_, bool> {
        self.inner.hold_job(tenant, name, held, now)
    }

    fn claim(&self, tenant: &str, name: &str, claim: Claim) -> Answer<'_, Vec<Timestamp>> {
        let claimed = self.inner.claim(tenant, name, claim);
        let lost = self.loses.swap(false, Ordering::SeqCst);
        Box::pin(async move {
            let claimed = claimed.await;
            if lost { Err(StoreError::Unavailable("the disk is away".into())) } else { claimed }
        })
    }

    fn submitted(
        &self,
        tick: (&str, &str, Timestamp),
        session: SessionKey,
        seq: Seq,
    ) -> Answer<'_, ()> {
        self.inner.submitted(tick, session, seq)
    }

    fn end_tick(&self, tick: (&str, &str, Timestamp), ended: Ended) -> Answer<'_, ()> {
        self.inner.end_tick(tick, ended)
    }

    fn ended_before(&self, tick: (&str, &str, Timestamp)) -> Answer<'_, Option<Tick>> {
        self.inner.ended_before(tick)
    }

    fn open_ticks(&self) -> Answer<'_, Vec<Tick>> {
        self.inner.open_ticks()
    }

    fn ticks(&self, tenant: &str, name: &str, limit: usize) -> Answer<'_, Vec<Tick>> {
        self.inner.ticks(tenant, name, limit)
    }
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_run() {
    let home = Home::new(news());
    let lossy = Arc::new(Lossy { inner: home.store.reopen(), loses: AtomicBool::new(false) });
    let mut parts = home.parts();
    parts.schedule = lossy.clone();
    let gateway = started(parts).await;
    let wanted = Job { overlap: Overlap::Queue, ..job("news") };
    let next = gateway.add_job(wanted).await.unwrap().next.unwrap();
    lossy.loses.store(true, Ordering::SeqCst);
    assert!(gateway.look_at_schedule(next).await.unwrap() < next + MINUTE);
    assert_eq!(gateway.job("default", "news").unwrap().open, 0);
    assert_eq!(gateway.look_at_schedule(next + 1000).await, Some(next + MINUTE));
    assert_eq!(home.settled(&gateway, "news", 1).await, [TickState::Delivered]);
    // Also one that somebody asked for.
    lossy.loses.store(true, Ordering::SeqCst);
    assert!(gateway.run_job("default", "news").await.is_err());
    gateway.look_at_schedule(next + 2000).await;
    assert_eq!(home.settled(&gateway, "news", 2).await, [TickState::Delivered; 2]);
    assert_eq!(home.left(2).await, ["news 1", "news 2"]);
}

/// Like the home's own, but nobody is called Alice any more.
async fn without_alice(home: &Home) -> Gateway {
    let mut parts = home.parts();
    parts.settings = Settings { routing: Arc::default(), ..parts.settings.clone() };
    started(parts).await
}

#[tokio::test]
async fn a_reminder_that_could_not_be_told_stays_to_be_seen() {
    let home = Home::new(news());
    let at = clock::now() + 90 * MINUTE;
    let gateway = home.gateway().await;
    gateway.add_job(reminder(at)).await.unwrap();
    gateway.drain().await;
    let gateway = without_alice(&home).await;
    gateway.look_at_schedule(at).await;
    assert_eq!(home.settled(&gateway, "oven", 1).await, [TickState::Failed]);
    gateway.drain().await;
    // It comes no more, whoever is there.
    let gateway = home.gateway().await;
    assert_eq!(gateway.look_at_schedule(at + MINUTE).await, None);
    let view = gateway.job("default", "oven").unwrap();
    assert_eq!((view.next, view.open), (None, 0));
    let ticks = gateway.job_ticks("default", "oven", 5).await.unwrap();
    assert!(ticks[0].note.as_deref().unwrap().contains("alice"), "{ticks:?}");
    gateway.drop_job("default", "oven").await.unwrap();
    assert_eq!((gateway.jobs(None), sent(&home.sent)), (vec![], vec![]));
}

#[tokio::test]
async fn an_answer_that_was_erased_is_not_waited_for() {
    let home = Home::new(news());
    let at = clock::now() - MINUTE;
    let store = home.store.reopen();
    store.put_job(job("news"), at - MINUTE).await.unwrap();
    let claim = Claim { run: vec![at], handled: Some(clock::now()), at, ..Claim::default() };
    store.claim("default", "news", claim).await.unwrap();
    let session = job("news").session().unwrap();
    store.submitted(("default", "news", at), session, Seq(7)).await.unwrap();
    let gateway = home.gateway().await;
    gateway.look_at_schedule(clock::now()).await;
    let ticks = home.settled(&gateway, "news", 1).await;
    assert_eq!(ticks[0], TickState::Failed);
    let ticks = gateway.job_ticks("default", "news", 100).await.unwrap();
    let tick = ticks.iter().find(|tick| tick.at == at).unwrap();
    assert_eq!(tick.note.as_deref(), Some("its answer was forgotten"));
    // The next one goes its way.
    let next = gateway.job("default", "news").unwrap().next.unwrap();
    gateway.look_at_schedule(next).await;
    let states = home.settled(&gateway, "news", ticks.len() + 1).await;
    assert_eq!(states.last(), Some(&TickState::Delivered));
}

#[tokio::test]
async fn another_job_of_the_same_name_is_not_told_what_the_first_one_asked() {
    let (agent, begun, gate) = slow();
    let home = Home::new(agent);
    let gateway = home.gateway().await;
    let first = gateway.add_job(job("news")).await.unwrap();
    gateway.look_at_schedule(first.next.unwrap()).await;
    begun.notified().await;
    let ended = gateway.follow(job("news").session().unwrap(), Seq(1));
    gateway.drop_job("default", "news").await.unwrap();
    while clock::now() == first.kept.made_at {
        tokio::task::yield_now().await;
    }
    gateway.add_job(job("news")).await.unwrap();
    gate.notify_one();
    ended.await.unwrap();
    // What comes behind it is told, and nothing before.
    gateway.run_job("default", "news").await.unwrap();
    begun.notified().await;
    gate.notify_one();
    home.settled(&gateway, "news", 1).await;
    let told = history(&gateway, &alice()).await;
    let notices = told.iter().filter(|event| event.body.name() == "session.notice");
    assert_eq!(notices.count(), 1);
}

#[tokio::test]
async fn the_same_wish_of_the_same_turn_is_told_once() {
    let home = Home::new(news());
    let gateway = home.gateway().await;
    let desk = ReminderDesk::new("UTC".to_owned());
    desk.serve(&gateway);
    let group = TurnGroupId(uuid::Uuid::from_u128(1));
    let hers = AskedBy { session: alice(), group, trust: Trust::Inner };
    for _ in 0..2 {
        let wanted = Wanted::In("1m".to_owned());
        let made = desk.remind(&hers, wanted, None, "the oven".to_owned()).await.unwrap();
        gateway.look_at_schedule(clock::now() + 2 * MINUTE).await;
        home.settled(&gateway, &made.name, 0).await;
        assert_eq!(desk.reminders(&hers).unwrap().0, []);
    }
    assert_eq!(home.left(1).await, ["the oven"]);
    let told = history(&gateway, &alice()).await;
    let notices = told.iter().filter(|event| event.body.name() == "session.notice");
    assert_eq!(notices.count(), 1);
}
