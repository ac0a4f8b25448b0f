//! What the shell's tests share: a gateway over the memory store, with an agent that does what the
//! test tells it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use turnkeep_core::Policy;
use turnkeep_core::audit::Checker;
use turnkeep_core::ids::Seq;
use turnkeep_core::message::{Action, Pending};
use turnkeep_core::outbox::DeliveryOutcome;
use turnkeep_core::policy::{ChannelFacts, channel_facts};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::agent::{Agent, TurnContext};
use turnkeep_core::ports::care::CareStore;
use turnkeep_core::ports::channel::{Channel, Outgoing};
use turnkeep_core::ports::hints::NoHints;
use turnkeep_core::ports::store::Store;
use turnkeep_core::ports::usage::UsageStore;
use turnkeep_core::session::{Finished, RunFailure};
use turnkeep_core::{Event, SessionKey};
use turnkeep_gateway::guard::{GuardParts, GuardSettings};
use turnkeep_gateway::listeners::ListenerParts;
use turnkeep_gateway::{Gateway, Parts, Policies, Settings, Submission, Submitted, UnknownPart};
use turnkeep_stores::MemoryStore;

/// What a scripted run does.
pub(crate) type Script =
    Box<dyn Fn(TurnContext) -> BoxFuture<'static, Result<Finished, RunFailure>> + Send + Sync>;

/// An agent that does what the test says.
pub(crate) struct Scripted(pub(crate) Script);

impl Agent for Scripted {
    fn kind(&self) -> &'static str {
        "scripted"
    }

    fn run(&self, turn: TurnContext) -> BoxFuture<'_, Result<Finished, RunFailure>> {
        (self.0)(turn)
    }
}

/// The built-in policies, changed by the test.
pub(crate) struct Built(pub(crate) fn(&mut Policy));

impl Policies for Built {
    fn policy(&self, _: &str, agent: &str, channel: &str) -> Result<Arc<Policy>, UnknownPart> {
        if agent != "default" {
            return Err(UnknownPart::Agent);
        }
        let facts = channel_facts(channel).ok_or(UnknownPart::Channel)?;
        let mut policy = Policy::built_in(*facts);
        (self.0)(&mut policy);
        Ok(Arc::new(policy))
    }
}

/// A channel that writes down what it is sent and ends each call as it is told.
pub(crate) struct Noted {
    pub(crate) facts: ChannelFacts,
    pub(crate) sent: Arc<Mutex<Vec<Outgoing>>>,
    pub(crate) outcome: fn(&Outgoing) -> DeliveryOutcome,
}

impl Channel for Noted {
    fn facts(&self) -> &ChannelFacts {
        &self.facts
    }

    fn send(&self, part: Outgoing) -> BoxFuture<'_, DeliveryOutcome> {
        let outcome = (self.outcome)(&part);
        self.sent.lock().unwrap().push(part);
        Box::pin(async { outcome })
    }

    fn typing(&self, _: &SessionKey, _: bool) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

pub(crate) fn parts(
    store: Arc<impl Store + CareStore + UsageStore>,
    agent: Arc<dyn Agent>,
    change: fn(&mut Policy),
) -> Parts {
    Parts {
        store: store.clone(),
        care: store.clone(),
        usage: store,
        people: Arc::new(MemoryStore::new()),
        schedule: Arc::new(MemoryStore::new()),
        switchboard: Arc::new(MemoryStore::new()),
        agents: HashMap::from([("default".to_owned(), agent)]),
        channels: HashMap::new(),
        policies: Arc::new(Built(change)),
        listeners: ListenerParts::none(Arc::new(MemoryStore::new())),
        guard: GuardParts {
            settings: GuardSettings::default(),
            record: Arc::new(MemoryStore::new()),
        },
        moderator: None,
        tracer: None,
        hints: Arc::new(NoHints),
        runs: true,
        settings: Settings { idle_ms: 50, shutdown_grace_ms: 50, ..Settings::default() },
    }
}

pub(crate) async fn started(parts: Parts) -> Gateway {
    let gateway = Gateway::new(parts);
    gateway.start().await.unwrap();
    gateway
}

pub(crate) fn says(customer: &str, channel: &str, text: &str) -> Submission {
    Submission {
        customer: Some(customer.to_owned()),
        channel: Some(channel.to_owned()),
        text: text.to_owned(),
        ..Submission::default()
    }
}

/// Sends, and awaits the ending of the message.
pub(crate) async fn answered(
    gateway: &Gateway,
    submission: Submission,
) -> turnkeep_gateway::Settled {
    let submitted = gateway.submit(submission, true).await.unwrap();
    submitted.follow.unwrap().await.unwrap()
}

pub(crate) fn action(submitted: &Submitted) -> (Action, bool) {
    (submitted.decision.action, submitted.decision.duplicate)
}

/// The whole journal, after the checker read it together with the stored state.
pub(crate) async fn history(gateway: &Gateway, key: &SessionKey) -> Vec<Event> {
    let loaded = gateway.store().load(key).await.unwrap().unwrap();
    let mut events = gateway.store().events(key, Seq(0), 10_000).await.unwrap();
    // What came since belongs to a later state.
    events.retain(|event| event.seq <= loaded.session.last_seq);
    let mut checker = Checker::new();
    events.iter().for_each(|event| checker.observe(event));
    checker.finish(&loaded.session);
    assert_eq!(checker.violations(), [], "{events:#?}");
    events
}

pub(crate) fn names(events: &[Event]) -> Vec<&'static str> {
    events.iter().map(|event| event.body.name()).collect()
}

pub(crate) fn texts(messages: &[Pending]) -> Vec<&str> {
    messages.iter().map(|pending| &*pending.body.text).collect()
}

pub(crate) fn reply(text: &str) -> Result<Finished, RunFailure> {
    Ok(Finished { reply: Some(text.into()), ..Finished::default() })
}

pub(crate) fn failure(error: &str, retry: bool) -> Result<Finished, RunFailure> {
    Err(RunFailure { error: error.into(), retry, retry_after_ms: None })
}
