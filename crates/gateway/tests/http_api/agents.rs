//! Agents that do what a test needs, a channel that loses its first answer, and somebody who checks
//! messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Semaphore;
use turnkeep_core::SessionKey;
use turnkeep_core::message::Pending;
use turnkeep_core::moderation::Ruling;
use turnkeep_core::outbox::DeliveryOutcome;
use turnkeep_core::policy::{ChannelFacts, channel_facts};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::agent::{Agent, TurnContext};
use turnkeep_core::ports::channel::{Channel, Outgoing};
use turnkeep_core::ports::moderator::{Checked, Checkup, Moderator};
use turnkeep_core::ports::worktrees::{Removal, Worktree, WorktreeState, Worktrees};
use turnkeep_core::session::{Finished, RunFailure};

fn finished(text: String) -> Result<Finished, RunFailure> {
    Ok(Finished { reply: Some(text.into()), ..Finished::default() })
}

fn echo(messages: &[Pending]) -> String {
    let texts: Vec<&str> = messages.iter().map(|message| &*message.body.text).collect();
    format!("echo: {}", texts.join("\n"))
}

/// Shared by the agents that wait for the test.
pub(crate) struct Gate {
    started: Semaphore,
    opened: Semaphore,
}

impl Gate {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { started: Semaphore::new(0), opened: Semaphore::new(0) })
    }

    /// Resolves once one more run has begun.
    pub(crate) async fn begun(&self) {
        self.started.acquire().await.unwrap().forget();
    }

    /// Lets one run go on.
    pub(crate) fn open(&self) {
        self.opened.add_permits(1);
    }

    async fn pass(&self) {
        self.opened.acquire().await.unwrap().forget();
    }
}

/// Waits for the gate, then echoes everything, mail included.
pub(crate) struct Patient(pub(crate) Arc<Gate>);

impl Agent for Patient {
    fn kind(&self) -> &'static str {
        "patient"
    }

    fn run(&self, turn: TurnContext) -> BoxFuture<'_, Result<Finished, RunFailure>> {
        Box::pin(async move {
            self.0.started.add_permits(1);
            let TurnContext { mut messages, handle, .. } = turn;
            tokio::select! {
                () = self.0.pass() => {}
                () = handle.cancelled() => return finished(String::new()),
            }
            while handle.has_mail() {
                messages.extend(handle.mail().await.unwrap_or_default());
            }
            finished(echo(&messages))
        })
    }
}

/// Says `Hel`, waits, says `lo`, waits, and answers `Hello`.
pub(crate) struct Talker(pub(crate) Arc<Gate>);

impl Agent for Talker {
    fn kind(&self) -> &'static str {
        "talker"
    }

    fn run(&self, turn: TurnContext) -> BoxFuture<'_, Result<Finished, RunFailure>> {
        Box::pin(async move {
            turn.handle.say("Hel");
            self.0.started.add_permits(1);
            self.0.pass().await;
            turn.handle.say("lo");
            self.0.pass().await;
            finished("Hello".to_owned())
        })
    }
}

/// Fails at once the first time; from the second run on it waits for the gate and echoes.
pub(crate) struct Broken {
    pub(crate) runs: AtomicU32,
    pub(crate) gate: Arc<Gate>,
}

impl Agent for Broken {
    fn kind(&self) -> &'static str {
        "broken"
    }

    fn worktrees(&self) -> Option<&dyn Worktrees> {
        Some(self)
    }

    fn run(&self, turn: TurnContext) -> BoxFuture<'_, Result<Finished, RunFailure>> {
        let first = self.runs.fetch_add(1, Ordering::Relaxed) == 0;
        Box::pin(async move {
            if first {
                let error = "the model is on fire".into();
                return Err(RunFailure { error, retry: false, retry_after_ms: None });
            }
            self.gate.started.add_permits(1);
            self.gate.pass().await;
            finished(echo(&turn.messages))
        })
    }
}

/// Every session of it has a folder that stays.
impl Worktrees for Broken {
    fn list(&self) -> BoxFuture<'_, Result<Vec<Worktree>, String>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn remove(&self, _: &str, _: bool) -> BoxFuture<'_, Result<Removal, String>> {
        Box::pin(async { Ok(Removal::None) })
    }

    fn vacant(&self, _: &SessionKey) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn leave(&self, _: &SessionKey) -> BoxFuture<'_, Result<Removal, String>> {
        let worktree = Worktree {
            id: "0123456789ab".to_owned(),
            path: "/srv/secret/0123456789ab".to_owned(),
            branch: None,
            state: WorktreeState::Clean,
        };
        Box::pin(async { Ok(Removal::Kept(worktree, "it is new".to_owned())) })
    }
}

/// Asks which one, and answers with the answer.
pub(crate) struct Asker;

impl Agent for Asker {
    fn kind(&self) -> &'static str {
        "asker"
    }

    fn run(&self, turn: TurnContext) -> BoxFuture<'_, Result<Finished, RunFailure>> {
        Box::pin(async move {
            match turn.handle.ask("which one?").await {
                Ok(answer) => finished(format!("you said {}", answer.body.text)),
                Err(_) => finished(String::new()),
            }
        })
    }
}

/// Answers with the conversation as it gets it.
pub(crate) struct Reciter;

impl Agent for Reciter {
    fn kind(&self) -> &'static str {
        "reciter"
    }

    fn run(&self, turn: TurnContext) -> BoxFuture<'_, Result<Finished, RunFailure>> {
        Box::pin(async move {
            let history = turn.handle.history(100).await.unwrap_or_default();
            let lines = history.iter().map(|line| format!("{:?}: {}", line.role, line.text));
            finished(lines.collect::<Vec<_>>().join("\n"))
        })
    }
}

/// Nobody knows what became of the first part; the others arrive.
pub(crate) struct Forgetful {
    sends: AtomicU32,
}

impl Forgetful {
    pub(crate) fn new() -> Self {
        Self { sends: AtomicU32::new(0) }
    }
}

impl Channel for Forgetful {
    fn facts(&self) -> &ChannelFacts {
        channel_facts("sms").unwrap()
    }

    fn send(&self, _: Outgoing) -> BoxFuture<'_, DeliveryOutcome> {
        let first = self.sends.fetch_add(1, Ordering::Relaxed) == 0;
        Box::pin(async move {
            if first {
                return DeliveryOutcome::Unknown { error: "the line went dead".into() };
            }
            DeliveryOutcome::Sent
        })
    }

    fn typing(&self, _: &SessionKey, _: bool) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// Refuses what says `rude`, lets go what waits for the gate once it is open, fails where it is told
/// to, and allows everything else.
pub(crate) struct Watcher(pub(crate) Arc<Gate>);

impl Moderator for Watcher {
    fn check<'a>(&'a self, message: Checked<'a>) -> BoxFuture<'a, Result<Checkup, String>> {
        Box::pin(async move {
            if message.text.contains("slow") {
                self.0.started.add_permits(1);
                self.0.pass().await;
            }
            if message.text.contains("down") {
                return Err("nobody is there".to_owned());
            }
            let rude = message.text.contains("rude");
            let ruling = if rude { Ruling::Refuse } else { Ruling::Allow };
            Ok(Checkup { ruling, reason: rude.then(|| "bad language".to_owned()) })
        })
    }
}
