//! Who takes what is heard: remembers it, and answers as it is told to.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::intake::{Chat, Heard, Intake, Person, Said, Taken};

use crate::stand::until;

/// Takes everything, unless told otherwise.
pub(crate) struct Desk {
    heard: Mutex<Vec<Heard>>,
    answers: Mutex<VecDeque<Taken>>,
    open: watch::Sender<bool>,
    /// Of which account nothing is taken.
    shut: Mutex<Option<&'static str>>,
    pub(crate) stores: Mutex<bool>,
}

impl Desk {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            heard: Mutex::default(),
            answers: Mutex::default(),
            open: watch::Sender::new(true),
            shut: Mutex::default(),
            stores: Mutex::new(true),
        })
    }

    /// What the next ones are told; behind them, that they are accepted.
    pub(crate) fn answer(&self, answers: &[Taken]) {
        self.answers.lock().unwrap().extend(answers.iter().cloned());
    }

    /// While it is shut, whoever comes is written down and waits.
    pub(crate) fn open(&self, open: bool) {
        self.open.send_replace(open);
    }

    /// The same for one account.
    pub(crate) fn shut(&self, account: &'static str) {
        *self.shut.lock().unwrap() = Some(account);
    }

    pub(crate) fn all(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// Waits for so many.
    pub(crate) async fn heard(&self, count: usize) -> Vec<Heard> {
        until("heard", async || Some(self.all()).filter(|all| all.len() >= count)).await
    }

    /// Waits for so many messages; their texts.
    pub(crate) async fn texts(&self, count: usize) -> Vec<String> {
        self.heard(count).await.iter().map(text).collect()
    }
}

/// The text of a message.
pub(crate) fn text(heard: &Heard) -> String {
    match &heard.said {
        Said::Message { text, .. } => text.to_string(),
        other => format!("{other:?}"),
    }
}

impl Intake for Desk {
    fn may_store(&self, channel: &str, _account: &str, _chat: &Chat, _sender: &Person) -> bool {
        assert_eq!(channel, "signal");
        *self.stores.lock().unwrap()
    }

    fn take(&self, heard: Heard) -> BoxFuture<'_, Taken> {
        Box::pin(async move {
            assert_ne!(text(&heard), "panic", "as it was asked to");
            let is_shut =
                self.shut.lock().unwrap().is_some_and(|account| account == &*heard.account);
            self.heard.lock().unwrap().push(heard);
            if is_shut {
                std::future::pending::<()>().await;
            }
            self.open.subscribe().wait_for(|open| *open).await.unwrap();
            self.answers.lock().unwrap().pop_front().unwrap_or(Taken::Accepted)
        })
    }
}
