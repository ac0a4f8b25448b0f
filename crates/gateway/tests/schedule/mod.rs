//! Jobs and reminders through the gateway: the clock is the test's, for what is looked at is looked
//! at a moment that it names.

mod mended;
mod reminders;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use turnkeep_core::journal::{EventBody, NoticeSource};
use turnkeep_core::outbox::DeliveryOutcome;
use turnkeep_core::policy::{Trust, channel_facts};
use turnkeep_core::ports::channel::Outgoing;
use turnkeep_core::ports::schedule::{ScheduleStore, TickState};
use turnkeep_core::schedule::{Job, MadeBy, Misfire, Overlap, Target, Task, When};
use turnkeep_core::session::Finished;
use turnkeep_core::{SessionKey, SessionKind, Timestamp};
use turnkeep_gateway::intake::routing::{Routing, User};
use turnkeep_gateway::{Gateway, Parts, ScheduleError, Settings, clock};
use turnkeep_stores::MemoryStore;

use crate::kit::{Noted, Scripted, answered, failure, history, parts, reply, says, started};

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;
/// How often it is looked whether something came about, and how long at most.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(60);

fn alice() -> SessionKey {
    SessionKey::new("default", "default", "signal", SessionKind::Dm, "uuid-a").unwrap()
}

fn job(name: &str) -> Job {
    Job {
        tenant: "default".to_owned(),
        name: name.to_owned(),
        when: When::Cron { schedule: "* * * * *".to_owned(), zone: "UTC".to_owned() },
        task: Task::Prompt("what is new?".to_owned()),
        agent: "default".to_owned(),
        to: Target::User { name: "alice".to_owned(), channel: None },
        misfire: Misfire::Once,
        overlap: Overlap::Skip,
        paused: false,
        trust: Trust::Owner,
        made_by: MadeBy::Api,
    }
}

fn reminder(at: Timestamp) -> Job {
    Job { when: When::Once(at), task: Task::Text("the oven".to_owned()), ..job("oven") }
}

/// What left on Signal, in order.
type Sent = Arc<Mutex<Vec<Outgoing>>>;

fn sent(sent: &Sent) -> Vec<String> {
    sent.lock().unwrap().iter().map(|part| part.text.to_string()).collect()
}

struct Home {
    store: MemoryStore,
    sent: Sent,
    agent: Arc<Scripted>,
}

impl Home {
    fn new(agent: Scripted) -> Self {
        Self { store: MemoryStore::new(), sent: Sent::default(), agent: Arc::new(agent) }
    }

    fn parts(&self) -> Parts {
        let store = Arc::new(self.store.reopen());
        let facts = *channel_facts("signal").unwrap();
        let noted = Noted { facts, sent: self.sent.clone(), outcome: |_| DeliveryOutcome::Sent };
        let user = User {
            name: "alice".into(),
            tenant: "default".into(),
            trust: Trust::Owner,
            agent: None,
            ids: vec![("signal".into(), "uuid-a".into()), ("signal".into(), "+49*".into())],
        };
        let base = parts(store.clone(), self.agent.clone(), |_| {});
        Parts {
            schedule: store,
            channels: [("signal".to_owned(), Arc::new(noted) as _)].into(),
            settings: Settings {
                routing: Arc::new(Routing::new(Vec::new(), vec![user], Vec::new())),
                ..base.settings.clone()
            },
            ..base
        }
    }

    async fn gateway(&self) -> Gateway {
        started(self.parts()).await
    }

    /// Waits until nothing of the job is open, and until it has `ticks`.
    async fn settled(&self, gateway: &Gateway, name: &str, ticks: usize) -> Vec<TickState> {
        let rest = looked(async || {
            let found = self.store.ticks("default", name, 100).await.unwrap();
            let open = gateway.job("default", name).map_or(0, |job| job.open);
            (open == 0 && found.len() >= ticks)
                .then(|| found.iter().rev().map(|tick| tick.state).collect())
        });
        match rest.await {
            Some(states) => states,
            None => panic!("{name}: {:?}", self.store.ticks("default", name, 100).await),
        }
    }

    /// Waits until so much has left.
    async fn left(&self, count: usize) -> Vec<String> {
        let left = looked(async || Some(sent(&self.sent)).filter(|sent| sent.len() >= count));
        left.await.unwrap_or_else(|| panic!("{count} never left: {:?}", sent(&self.sent)))
    }
}

/// Looks until there is something; none if there never is.
async fn looked<T>(look: impl AsyncFn() -> Option<T>) -> Option<T> {
    let mut again = tokio::time::interval(LOOK_AGAIN);
    let looking = async {
        loop {
            again.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.ok()
}

fn news() -> Scripted {
    let count = AtomicUsize::new(0);
    Scripted(Box::new(move |turn| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        let is_news = turn.messages.iter().any(|pending| &*pending.body.text == "what is new?");
        Box::pin(async move {
            if is_news { reply(&format!("news {number}")) } else { reply("hello yourself") }
        })
    }))
}

#[tokio::test]
async fn a_job_asks_in_its_own_session_and_tells_its_target() {
    let home = Home::new(news());
    let gateway = home.gateway().await;
    let view = gateway.add_job(job("news")).await.unwrap();
    let next = view.next.unwrap();
    assert_eq!(gateway.add_job(job("news")).await.unwrap(), view);
    assert_eq!(gateway.look_at_schedule(next - 1).await, Some(next));
    assert_eq!(gateway.look_at_schedule(next).await, Some(next + MINUTE));
    assert_eq!(home.settled(&gateway, "news", 1).await, [TickState::Delivered]);
    assert_eq!(home.left(1).await, ["news 1"]);
    let name = job("news").tick_name(next);
    let asked = history(&gateway, &job("news").session().unwrap()).await;
    let EventBody::MessageAccepted { message_id, text, trust, .. } = &asked[0].body else {
        panic!("{asked:?}")
    };
    assert_eq!((&**message_id, &**text, *trust), (&*name, "what is new?", Trust::Owner));
    let told = history(&gateway, &alice()).await;
    let EventBody::SessionNotice { text, source, message_id, .. } = &told[0].body else {
        panic!("{told:?}")
    };
    assert_eq!((&**text, *source), ("news 1", NoticeSource::Scheduled));
    assert_eq!(message_id.as_deref(), Some(&*name));
    // The same moment again, and one before it: nothing.
    gateway.look_at_schedule(next).await;
    gateway.look_at_schedule(next - 30 * MINUTE).await;
    assert_eq!(gateway.job("default", "news").unwrap().open, 0);
    // What the user asks next knows of it, and no session of the job's.
    let settled = answered(&gateway, says("uuid-a", "signal", "hi")).await;
    assert_eq!(settled.reply.as_deref(), Some("hello yourself"));
    history(&gateway, &alice()).await;
}

#[tokio::test]
async fn a_reminder_is_told_once_and_forgotten() {
    let home =
        Home::new(Scripted(Box::new(|_| Box::pin(async { failure("nobody asked", false) }))));
    let gateway = home.gateway().await;
    let at = clock::now() + 90 * MINUTE;
    gateway.add_job(reminder(at)).await.unwrap();
    assert_eq!(gateway.look_at_schedule(at - 1).await, Some(at));
    // However late.
    assert_eq!(gateway.look_at_schedule(at + 999 * MINUTE).await, None);
    assert_eq!(home.left(1).await, ["the oven"]);
    home.settled(&gateway, "oven", 0).await;
    assert_eq!((gateway.jobs(None), home.store.jobs().await.unwrap()), (vec![], vec![]));
    let past = gateway.add_job(reminder(clock::now() - 1)).await;
    let Err(ScheduleError::Field(wrong)) = past else { panic!("{past:?}") };
    assert_eq!(wrong.field, "at");
}

#[tokio::test]
async fn what_is_wrong_with_a_job_is_said_by_field() {
    let home = Home::new(news());
    let gateway = home.gateway().await;
    let check = |change: fn(&mut Job), field: &str| {
        let mut job = job("news");
        change(&mut job);
        assert_eq!(gateway.check_job(&job, clock::now()).unwrap_err().field, field, "{job:?}");
    };
    check(|job| job.name = "a/b".to_owned(), "name");
    check(|job| job.agent = "nobody".to_owned(), "agent_id");
    check(|job| job.task = Task::Prompt(" ".to_owned()), "prompt");
    check(|job| job.task = Task::Text("x\u{7}".to_owned()), "text");
    check(|job| job.to = Target::User { name: "bob".to_owned(), channel: None }, "to");
    check(
        |job| job.to = Target::User { name: "alice".to_owned(), channel: Some("web".to_owned()) },
        "to",
    );
    check(|job| job.to = Target::Session(job.session().unwrap()), "session");
    check(
        |job| {
            let key = SessionKey::new("other", "default", "web", SessionKind::Dm, "x").unwrap();
            job.to = Target::Session(key);
        },
        "session",
    );
    let cron = |schedule: &str, zone: &str| Job {
        when: When::Cron { schedule: schedule.to_owned(), zone: zone.to_owned() },
        ..job("news")
    };
    for (job, field) in [(cron("* *", "UTC"), "schedule"), (cron("* * * * *", "Mars"), "zone")] {
        assert_eq!(gateway.check_job(&job, clock::now()).unwrap_err().field, field);
    }
    assert_eq!(gateway.check_job(&job("news"), clock::now()), Ok(()));
}

#[tokio::test]
async fn silence_tells_nobody_and_a_failure_is_told_once() {
    let count = AtomicUsize::new(0);
    let home = Home::new(Scripted(Box::new(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            match number {
                0 => Ok(Finished::default()),
                1 | 2 => failure("the provider is away", false),
                3 => reply("back"),
                _ => failure("again", false),
            }
        })
    })));
    let gateway = home.gateway().await;
    let mut next = gateway.add_job(job("news")).await.unwrap().next.unwrap();
    for ticks in 1..=5 {
        gateway.look_at_schedule(next).await;
        home.settled(&gateway, "news", ticks).await;
        next += MINUTE;
    }
    let states = home.settled(&gateway, "news", 5).await;
    let (failed, delivered) = (TickState::Failed, TickState::Delivered);
    assert_eq!(states, [TickState::Silent, failed, failed, delivered, failed]);
    let failure = "The scheduled job \"news\" failed.";
    assert_eq!(home.left(3).await, [failure, "back", failure]);
    let ticks = gateway.job_ticks("default", "news", 1).await.unwrap();
    assert_eq!(ticks[0].note.as_deref(), Some("again"));
}

/// An agent that works until it is let go.
fn slow() -> (Scripted, Arc<Notify>, Arc<Notify>) {
    let (begun, gate) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begins, waits) = (begun.clone(), gate.clone());
    let agent = Scripted(Box::new(move |_| {
        let (begins, waits) = (begins.clone(), waits.clone());
        Box::pin(async move {
            begins.notify_one();
            waits.notified().await;
            reply("done")
        })
    }));
    (agent, begun, gate)
}

#[tokio::test]
async fn what_comes_too_soon_is_left_out_or_waits() {
    for (overlap, expect) in [(Overlap::Skip, 1), (Overlap::Queue, 3)] {
        let (agent, begun, gate) = slow();
        let home = Home::new(agent);
        let gateway = home.gateway().await;
        let next = gateway.add_job(Job { overlap, ..job("news") }).await.unwrap().next.unwrap();
        gateway.look_at_schedule(next).await;
        begun.notified().await;
        for minute in 1..=2 {
            gateway.look_at_schedule(next + minute * MINUTE).await;
        }
        assert_eq!(gateway.job("default", "news").unwrap().open, expect);
        let run = gateway.run_job("default", "news").await;
        assert_eq!(run.is_err(), overlap == Overlap::Skip, "{run:?}");
        let expect = if overlap == Overlap::Queue { expect + 1 } else { expect };
        gate.notify_one();
        for _ in 1..expect {
            begun.notified().await;
            gate.notify_one();
        }
        let states = home.settled(&gateway, "news", 1).await;
        let delivered = states.iter().filter(|state| **state == TickState::Delivered).count();
        assert_eq!(delivered, expect, "{states:?}");
        assert_eq!(home.left(expect).await, vec!["done"; expect]);
        // One turn for each: no two of them were answered as one.
        let events = history(&gateway, &job("news").session().unwrap()).await;
        let turns = events.iter().filter(|event| event.body.name() == "turn.completed").count();
        assert_eq!(turns, expect);
    }
}

#[tokio::test]
async fn who_rests_is_left_alone_and_goes_on_from_then() {
    let home = Home::new(news());
    let gateway = home.gateway().await;
    // Seldom, so that its time does not come while the clock of the machine is asked for the next one.
    let when = When::Cron { schedule: "0 0 * * *".to_owned(), zone: "UTC".to_owned() };
    let next = gateway.add_job(Job { when, ..job("news") }).await.unwrap().next.unwrap();
    assert_eq!(gateway.hold_job("default", "news", true).await.unwrap().next, None);
    assert_eq!(gateway.look_at_schedule(next + 5 * DAY).await, None);
    assert_eq!(home.store.ticks("default", "news", 10).await.unwrap(), []);
    // It may be run all the same, and its times are known.
    gateway.run_job("default", "news").await.unwrap();
    home.settled(&gateway, "news", 1).await;
    assert_eq!(gateway.next_times("default", "news", 2).unwrap(), [next, next + DAY]);
    assert_eq!(gateway.hold_job("default", "news", false).await.unwrap().next, Some(next));
    gateway.look_at_schedule(next).await;
    assert_eq!(home.settled(&gateway, "news", 2).await.len(), 2);
    assert_eq!(gateway.hold_job("default", "none", true).await, Err(ScheduleError::Unknown));
    gateway.drop_job("default", "news").await.unwrap();
    assert_eq!(gateway.drop_job("default", "news").await, Err(ScheduleError::Unknown));
    assert_eq!(gateway.jobs(Some("default")), []);
}

#[tokio::test]
async fn a_clock_that_is_put_forth_or_back_runs_nothing_twice() {
    let home = Home::new(news());
    let gateway = home.gateway().await;
    let next = gateway.add_job(job("news")).await.unwrap().next.unwrap();
    let hour = 60 * MINUTE;
    let at = |minutes: i64| next + minutes * MINUTE;
    gateway.look_at_schedule(at(0)).await;
    home.settled(&gateway, "news", 1).await;
    // Back by half an hour, and on again: the times up to then are done.
    for minutes in [-30, -20, -1, 0] {
        gateway.look_at_schedule(at(minutes)).await;
        assert_eq!(gateway.job("default", "news").unwrap().open, 0);
    }
    // Asleep for three hours: one run for all.
    gateway.look_at_schedule(at(180) + 61_000).await;
    let states = home.settled(&gateway, "news", 3).await;
    let delivered = |states: &[TickState]| {
        states.iter().filter(|state| **state == TickState::Delivered).count()
    };
    assert_eq!(delivered(&states), 2, "{states:?}");
    // Back by more than an hour: its times count again from there, but for those that were run.
    gateway.look_at_schedule(at(0) - 2 * hour + 500).await;
    let next = gateway.job("default", "news").unwrap().next.unwrap();
    assert_eq!(next, at(-119));
    gateway.look_at_schedule(at(-119)).await;
    let states = home.settled(&gateway, "news", 4).await;
    assert_eq!(delivered(&states), 3, "{states:?}");
    for minute in [-60, -2, -1, 0] {
        gateway.look_at_schedule(at(minute)).await;
        home.settled(&gateway, "news", 1).await;
    }
    let ticks = home.store.ticks("default", "news", 1000).await.unwrap();
    let again = ticks.iter().filter(|tick| tick.at == at(0)).count();
    assert_eq!(again, 1);
    let events = history(&gateway, &job("news").session().unwrap()).await;
    let name = job("news").tick_name(at(0));
    let asked = events.iter().filter(|event| {
        matches!(&event.body, EventBody::MessageAccepted { message_id, .. } if **message_id == *name)
    });
    assert_eq!(asked.count(), 1);
}

#[tokio::test]
async fn a_tick_goes_on_where_it_was_after_a_restart() {
    // Claimed only; asked and not noted; noted; told and not acknowledged.
    for step in 0..4 {
        let home = Home::new(news());
        let next = {
            let gateway = home.gateway().await;
            let next = gateway.add_job(job("news")).await.unwrap().next.unwrap();
            if step == 3 {
                gateway.look_at_schedule(next).await;
                home.settled(&gateway, "news", 1).await;
            }
            gateway.drain().await;
            next
        };
        // Brought to where a process died.
        let claim = turnkeep_core::ports::schedule::Claim {
            run: vec![next],
            handled: Some(next),
            at: next,
            ..Default::default()
        };
        let store = home.store.reopen();
        if step < 3 {
            assert_eq!(store.claim("default", "news", claim).await.unwrap(), [next]);
        }
        if step == 1 || step == 2 {
            let gateway = home.gateway().await;
            gateway.look_at_schedule(next).await;
            home.settled(&gateway, "news", 1).await;
            gateway.drain().await;
        }
        let store = home.store.reopen();
        let [before] = &store.ticks("default", "news", 10).await.unwrap()[..] else { panic!() };
        let before = before.clone();
        if step > 0 {
            // As if the last words were never written.
            store.drop_job("default", "news").await.unwrap();
            store.put_job(job("news"), next - MINUTE).await.unwrap();
            let again = turnkeep_core::ports::schedule::Claim {
                run: vec![next],
                handled: Some(next),
                at: next,
                ..Default::default()
            };
            store.claim("default", "news", again).await.unwrap();
        }
        if step == 2 {
            let (session, seq) = (before.session.unwrap(), before.seq.unwrap());
            store.submitted(("default", "news", next), session, seq).await.unwrap();
        }
        let gateway = home.gateway().await;
        gateway.look_at_schedule(next).await;
        assert_eq!(home.settled(&gateway, "news", 1).await, [TickState::Delivered], "{step}");
        assert_eq!(home.left(1).await, ["news 1"], "{step}");
        let told = history(&gateway, &alice()).await;
        let notices = told.iter().filter(|event| event.body.name() == "session.notice");
        assert_eq!(notices.count(), 1, "{step}");
        let asked = history(&gateway, &job("news").session().unwrap()).await;
        let asked = asked.iter().filter(|event| event.body.name() == "message.accepted");
        assert_eq!(asked.count(), 1, "{step}");
    }
}

#[tokio::test]
async fn the_configuration_comes_and_goes() {
    let home = Home::new(news());
    let configured = Job { made_by: MadeBy::Configuration, ..job("news") };
    let mut parts = home.parts();
    parts.settings.jobs = vec![configured.clone()].into();
    let gateway = started(parts).await;
    gateway.add_job(job("mine")).await.unwrap();
    assert_eq!(gateway.jobs(None).len(), 2);
    assert_eq!(gateway.drop_job("default", "news").await, Err(ScheduleError::Configured));
    assert!(gateway.hold_job("default", "news", true).await.unwrap().kept.held);
    // Rest survives a restart; what the file says of rest can't be lifted.
    let mut parts = home.parts();
    parts.settings.jobs = vec![Job { paused: true, ..configured }].into();
    let gateway = started(parts).await;
    let view = gateway.job("default", "news").unwrap();
    assert!(view.kept.held && view.kept.job.paused && view.next.is_none());
    assert_eq!(gateway.hold_job("default", "news", false).await, Err(ScheduleError::Configured));
    let gateway = home.gateway().await;
    assert_eq!(gateway.jobs(None).len(), 1);
}
