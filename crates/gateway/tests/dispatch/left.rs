//! What a gateway had open that is gone, where nobody runs turns: another one finds it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;
use turnkeep_agents::EchoAgent;
use turnkeep_core::SessionKey;
use turnkeep_core::outbox::DeliveryOutcome;
use turnkeep_core::policy::{ChannelFacts, channel_facts};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::channel::{Channel, Outgoing};
use turnkeep_core::ports::store::TurnStatus;
use turnkeep_core::session::{Control, Controlled};
use turnkeep_gateway::{Gateway, Parts, Submitted};
use turnkeep_stores::MemoryStore;

use super::{Heard, TIMEOUT, handing};
use crate::door::node::{Hall, Node};
use crate::kit::{answered, parts, says, started};

/// The parts of a node over this store.
fn over(store: MemoryStore) -> Parts {
    let agent = Arc::new(EchoAgent::default());
    parts(Arc::new(store), agent, |policy| policy.window_ms = 0)
}

/// A gateway that runs nothing, and forgets what it has handed over: as if it were gone by then.
async fn gone(parts: Parts) -> Gateway {
    started(Parts { runs: false, ..parts }).await
}

/// It took a message, and that is all.
async fn left_behind(store: MemoryStore) -> Submitted {
    gone(over(store)).await.submit(says("alice", "api", "hello"), false).await.unwrap()
}

/// A channel that says what it is sent.
struct Told(ChannelFacts, mpsc::UnboundedSender<String>);

impl Told {
    fn on(parts: Parts) -> (Parts, mpsc::UnboundedReceiver<String>) {
        let (says, told) = mpsc::unbounded_channel();
        let sms = Self(*channel_facts("sms").unwrap(), says);
        let channels = [("sms".to_owned(), Arc::new(sms) as _)].into();
        (Parts { channels, ..parts }, told)
    }
}

impl Channel for Told {
    fn facts(&self) -> &ChannelFacts {
        &self.0
    }

    fn send(&self, part: Outgoing) -> BoxFuture<'_, DeliveryOutcome> {
        self.1.send(part.text.to_string()).unwrap();
        Box::pin(async { DeliveryOutcome::Sent })
    }

    fn typing(&self, _: &SessionKey, _: bool) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// Something that nobody asked for waits to be sent.
async fn tell(gateway: &Gateway) {
    let key: SessionKey = "default:default:sms:dm:alice".parse().unwrap();
    gateway.control(&key, Control::OptIn(true)).await.unwrap();
    let told = gateway.notify(says("alice", "sms", "news")).await.unwrap().told;
    assert!(matches!(told, Controlled::Noticed { waits: false, .. }), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_gateway_had_that_died_is_run_by_another_one() {
    let store = MemoryStore::new();
    let later = store.reopen();
    let submitted = left_behind(store).await;
    let (gateway, _engine, mut heard) = handing(over(later), true).await;
    // Nobody writes to that session again. Whom the engine knows has the usual time to take it.
    let handed = tokio::time::timeout(TIMEOUT, heard.recv()).await;
    let Ok(Some(Heard::Handed(errand))) = handed else { panic!("nobody found it: {handed:?}") };
    assert_eq!((&errand.session, Some(errand.turn)), (&submitted.key, submitted.decision.turn));
    assert_eq!(gateway.dispatch_view().unwrap().awaiting.ran_here, 0);
    assert_eq!(heard.recv().await, Some(Heard::Cancelled(errand.clone())));
    let settled = gateway.follow(submitted.key, submitted.decision.seq.unwrap()).await.unwrap();
    assert_eq!(settled.reply.as_deref(), Some("echo: hello"));
    let (_, row) = gateway.store().turn(errand.turn).await.unwrap().unwrap();
    assert_eq!((row.status, row.epoch), (TurnStatus::Complete, gateway.store().epoch()));
}

#[tokio::test(start_paused = true)]
async fn without_a_fallback_it_is_left_to_whoever_runs_turns() {
    let store = MemoryStore::new();
    let later = store.reopen();
    left_behind(store).await;
    let (_gateway, _engine, mut heard) = handing(over(later), false).await;
    tokio::time::timeout(TIMEOUT * 6, heard.recv()).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn where_somebody_runs_turns_it_is_left_to_them() {
    let (store, hall) = (MemoryStore::new(), Arc::<Hall>::default());
    left_behind(store.clone()).await;
    let later = Arc::new(Node::open(&store, &hall, None));
    let (gateway, _engine, mut heard) = handing(Parts { store: later, ..over(store) }, true).await;
    assert_eq!(gateway.store().neighbours()[0], 1);
    tokio::time::timeout(TIMEOUT * 6, heard.recv()).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn what_another_one_hears_is_neither_handed_over_nor_run_here() {
    let (store, hall) = (MemoryStore::new(), Arc::<Hall>::default());
    hall.was_leased("channel signal");
    let shared = Arc::new(Node::open(&store, &hall, None));
    let (gateway, _engine, mut heard) = handing(Parts { store: shared, ..over(store) }, true).await;
    gateway.submit(says("anna", "signal", "hello"), false).await.unwrap();
    tokio::time::timeout(TIMEOUT * 6, heard.recv()).await.unwrap_err();
    gateway.submit(says("anna", "api", "hello"), false).await.unwrap();
    assert!(matches!(heard.recv().await, Some(Heard::Handed(_))), "anything else is");
    assert_eq!(gateway.dispatch_view().unwrap().awaiting.ran_here, 0);
}

#[tokio::test(start_paused = true)]
async fn what_waits_to_be_sent_is_sent_by_the_gateway() {
    let store = MemoryStore::new();
    let later = store.reopen();
    tell(&gone(over(store)).await).await;
    let (parts, mut told) = Told::on(over(later));
    let (gateway, _engine, mut heard) = handing(parts, true).await;
    let sent = async |told: &mut mpsc::UnboundedReceiver<String>| {
        tokio::time::timeout(TIMEOUT * 6, told.recv()).await.ok().flatten()
    };
    assert_eq!(sent(&mut told).await.as_deref(), Some("news"), "one that another one left");
    tell(&gateway).await;
    assert_eq!(sent(&mut told).await.as_deref(), Some("news"), "its own");
    assert!(heard.try_recv().is_err(), "no engine is asked");
}

#[tokio::test(start_paused = true)]
async fn while_the_engine_is_not_trusted_it_waits_for_nobody() {
    let (parts, mut told) = Told::on(over(MemoryStore::new()));
    let (gateway, engine, _heard) = handing(parts, true).await;
    engine.away.store(true, Ordering::Release);
    for customer in ["anna", "bob", "carl"] {
        answered(&gateway, says(customer, "api", "hello")).await;
    }
    assert!(gateway.dispatch_view().unwrap().awaiting.open);
    tell(&gateway).await;
    let sent = tokio::time::timeout(TIMEOUT / 2, told.recv()).await;
    assert_eq!(sent.unwrap().as_deref(), Some("news"));
}

#[tokio::test(start_paused = true)]
async fn who_is_erased_is_awaited_no_more() {
    let store = MemoryStore::new();
    let later = store.reopen();
    let (gateway, _engine, mut heard) = handing(over(store), false).await;
    gateway.submit(says("alice", "api", "hello"), false).await.unwrap();
    let Some(Heard::Handed(errand)) = heard.recv().await else { panic!("it is handed over") };
    // The other one does it all by itself.
    gone(over(later)).await.erase("default", "alice", &|_| {}).await.unwrap();
    assert_eq!(heard.recv().await, Some(Heard::Cancelled(errand)));
    let awaiting = gateway.dispatch_view().unwrap().awaiting;
    assert_eq!((awaiting.turns, awaiting.failed, awaiting.open), (0, 0, false));
    tokio::time::timeout(TIMEOUT * 6, heard.recv()).await.unwrap_err();
}
