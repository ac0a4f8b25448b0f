//! Adapters that hear: who listens, who takes whose place, and one that falls over.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use turnkeep_agents::EchoAgent;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::intake::{AccountHealth, Intake, Listener, Pulse};
use turnkeep_stores::MemoryStore;

use crate::kit::{parts, started};

/// The one line that only one adapter may hold at a time.
#[derive(Default)]
struct Line {
    held: AtomicUsize,
    most: AtomicUsize,
    begun: Mutex<Vec<&'static str>>,
    changed: Notify,
}

impl Line {
    async fn until_begun(&self, expect: &[&str]) {
        loop {
            let changed = self.changed.notified();
            if *self.begun.lock().unwrap() == expect {
                return;
            }
            changed.await;
        }
    }
}

/// Holds the line for as long as it listens.
struct Holds<'a>(&'a Line);

impl Drop for Holds<'_> {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Falls over so many times first.
struct Ear {
    name: &'static str,
    line: Arc<Line>,
    panics: AtomicU32,
}

impl Ear {
    fn new(name: &'static str, line: &Arc<Line>, panics: u32) -> Arc<Self> {
        Arc::new(Self { name, line: Arc::clone(line), panics: AtomicU32::new(panics) })
    }
}

impl Listener for Ear {
    fn channel(&self) -> &'static str {
        "signal"
    }

    fn listen(&self, _: Arc<dyn Intake>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let held = self.line.held.fetch_add(1, Ordering::SeqCst) + 1;
            let _holds = Holds(&self.line);
            self.line.most.fetch_max(held, Ordering::SeqCst);
            self.line.begun.lock().unwrap().push(self.name);
            self.line.changed.notify_waiters();
            let left = self.panics.load(Ordering::SeqCst);
            if left > 0 {
                self.panics.store(left - 1, Ordering::SeqCst);
                panic!("somebody coughed");
            }
            std::future::pending().await
        })
    }

    fn health(&self) -> Vec<AccountHealth> {
        let account = self.name.into();
        let (receiving, sending) = (Pulse::Working, Pulse::Starting);
        vec![AccountHealth { account, receiving, sending, restarts: 0 }]
    }
}

async fn gateway() -> turnkeep_gateway::Gateway {
    let store = Arc::new(MemoryStore::new());
    started(parts(store, Arc::new(EchoAgent::default()), |_| {})).await
}

#[tokio::test]
async fn a_successor_listens_once_its_predecessor_has_let_go() {
    let (gateway, line) = (gateway().await, Arc::new(Line::default()));
    let (one, two) = (Ear::new("one", &line, 0), Ear::new("two", &line, 0));
    gateway.hear(vec![one.clone()]).await;
    line.until_begun(&["one"]).await;
    // The same goes on as it is.
    gateway.hear(vec![one]).await;
    gateway.hear(vec![two]).await;
    line.until_begun(&["one", "two"]).await;
    assert_eq!(line.most.load(Ordering::SeqCst), 1);
    let accounts = gateway.accounts("signal");
    assert_eq!(accounts.iter().map(|one| &*one.account).collect::<Vec<_>>(), ["two"]);
    assert_eq!(gateway.accounts("sms"), []);
    gateway.drain().await;
    assert_eq!(line.held.load(Ordering::SeqCst), 0);
    assert_eq!(gateway.accounts("signal"), []);
}

#[tokio::test(start_paused = true)]
async fn one_that_panics_is_listened_with_again() {
    let (gateway, line) = (gateway().await, Arc::new(Line::default()));
    gateway.hear(vec![Ear::new("one", &line, 2)]).await;
    line.until_begun(&["one", "one", "one"]).await;
    assert_eq!(line.held.load(Ordering::SeqCst), 1);
    gateway.drain().await;
    assert_eq!(line.held.load(Ordering::SeqCst), 0);
}
