//! What is told of sessions: where their turns stand and what of theirs waits, awake or asleep.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(dead_code, reason = "the kit is shared with tests that need more of it")]

mod kit;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kit::{Noted, Scripted, answered, parts, reply, says};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::sync::Notify;
use turnkeep_core::outbox::DeliveryOutcome;
use turnkeep_core::policy::channel_facts;
use turnkeep_core::session::Control;
use turnkeep_gateway::{Gateway, Parts};
use turnkeep_stores::MemoryStore;

/// Nothing here takes long; what does is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway whose numbers are its own.
struct Counted {
    gateway: Gateway,
    recorder: PrometheusHandle,
}

impl Counted {
    async fn started(parts: Parts) -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let gateway = metrics::with_local_recorder(&recorder, || Gateway::new(parts));
        gateway.start().await.unwrap();
        Self { gateway, recorder: handle }
    }

    /// The value of a metric with its labels; 0 where it is not told.
    fn told(&self, name: &str) -> f64 {
        let measured = self.gateway.measure();
        let text = self.recorder.render() + &measured;
        let found =
            text.lines().filter_map(|line| line.rsplit_once(' ')).find(|(one, _)| *one == name);
        found.map_or(0.0, |(_, value)| value.parse().unwrap())
    }

    async fn until(&self, name: &str, value: f64) {
        let waiting = async {
            while (self.told(name) - value).abs() > f64::EPSILON {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(waited.is_ok(), "{name} is {}, not {value}", self.told(name));
    }
}

/// A channel that takes nothing for the next ten minutes.
fn closed() -> Noted {
    let outcome = |_: &_| DeliveryOutcome::Failed {
        error: "closed".into(),
        retry: true,
        retry_after_ms: Some(600_000),
    };
    Noted { facts: *channel_facts("sms").unwrap(), sent: Arc::new(Mutex::default()), outcome }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_leaves_undelivered_counts_while_it_sleeps() {
    let store = Arc::new(MemoryStore::new());
    let made = || {
        let agent = Arc::new(Scripted(Box::new(|_| Box::pin(async { reply("later") }))));
        let mut parts = parts(Arc::clone(&store), agent, |policy| policy.window_ms = 0);
        parts.channels.insert("sms".to_owned(), Arc::new(closed()));
        parts
    };
    let counted = Counted::started(made()).await;
    for customer in ["anna", "bert"] {
        answered(&counted.gateway, says(customer, "sms", "hi")).await;
    }
    counted.until("turnkeep_outbox_parts", 2.0).await;
    counted.until("turnkeep_delivery_outcomes_total{outcome=\"failed\"}", 2.0).await;
    counted.until("turnkeep_sessions_active", 0.0).await;
    assert_eq!(counted.told("turnkeep_outbox_parts"), 2.0);
    // Whoever looks wakes it; it is counted once all the same, and again when it sleeps.
    let key = counted.gateway.submit(says("anna", "sms", "hello?"), false).await.unwrap().key;
    let watching = counted.gateway.subscribe(&key).unwrap();
    counted.until("turnkeep_watchers", 1.0).await;
    counted.until("turnkeep_outbox_parts", 3.0).await;
    counted.until("turnkeep_sessions_active", 0.0).await;
    assert_eq!(counted.told("turnkeep_outbox_parts"), 3.0);
    drop(watching);
    counted.until("turnkeep_watchers", 0.0).await;
    // It gets older with every look.
    let age = counted.told("turnkeep_outbox_oldest_seconds");
    let older = async {
        while counted.told("turnkeep_outbox_oldest_seconds") <= age {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, older).await.unwrap();
    counted.gateway.drain().await;
    assert_eq!(counted.told("turnkeep_draining"), 1.0);
    assert_eq!(counted.told("turnkeep_ready"), 0.0);
    // The next process takes up all open work, and so counts it anew.
    let counted = Counted::started(made()).await;
    counted.until("turnkeep_outbox_parts", 3.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_counted_where_it_stands() {
    let gate = Arc::new(Notify::new());
    let opened = Arc::clone(&gate);
    let agent = Arc::new(Scripted(Box::new(move |turn| {
        let gate = Arc::clone(&opened);
        Box::pin(async move {
            gate.notified().await;
            turn.handle.ask("really?").await.unwrap();
            turn.handle.commit_point().await.unwrap();
            gate.notified().await;
            reply("done")
        })
    })));
    let parts = parts(Arc::new(MemoryStore::new()), agent, |policy| {
        policy.window_mode = turnkeep_core::policy::WindowMode::Fixed;
        policy.window_ms = 60;
    });
    let counted = Counted::started(parts).await;
    let stage = |name: &str| format!("turnkeep_turns_open{{stage=\"{name}\"}}");
    let submitted = counted.gateway.submit(says("anna", "web", "go"), true).await.unwrap();
    counted.until(&stage("processing"), 1.0).await;
    assert_eq!(counted.told("turnkeep_runs_active"), 1.0);
    gate.notify_one();
    counted.until(&stage("waiting_for_input"), 1.0).await;
    counted.gateway.submit(says("anna", "web", "yes"), false).await.unwrap();
    counted.until(&stage("committed"), 1.0).await;
    assert_eq!(counted.told(&stage("processing")), 0.0);
    gate.notify_one();
    submitted.follow.unwrap().await.unwrap();
    for name in ["accumulating", "processing", "committed", "waiting_for_input"] {
        counted.until(&stage(name), 0.0).await;
    }
    assert_eq!(counted.told("turnkeep_turns_total{status=\"complete\"}"), 1.0);
    assert_eq!(counted.told("turn_gateway_decision_total{action=\"rejected\"}"), 0.0);

    // An operator who has nothing to do is counted, and so is what waits for them.
    let key = submitted.key;
    let pause = Control::Pause { by: "Olga".into(), take_over: false };
    counted.gateway.control(&key, pause).await.unwrap();
    counted.until("turnkeep_sessions_paused", 1.0).await;
    counted.gateway.submit(says("anna", "web", "hello?"), false).await.unwrap();
    counted.until(&stage("waiting_for_operator"), 1.0).await;
    counted.until("turnkeep_sessions_active", 0.0).await;
    assert_eq!(counted.told("turnkeep_sessions_paused"), 1.0);
    counted.gateway.control(&key, Control::Close).await.unwrap();
    counted.until("turnkeep_sessions_paused", 0.0).await;
    counted.until(&stage("waiting_for_operator"), 0.0).await;
}
