//! A channel that only one of several nodes hears: its turns run there, whoever was written to.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use turnkeep_core::SessionKey;
use turnkeep_core::outbox::DeliveryOutcome;
use turnkeep_core::policy::{ChannelFacts, channel_facts};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::agent::{Agent, TurnContext};
use turnkeep_core::ports::channel::{Channel, Outgoing};
use turnkeep_core::ports::intake::{AccountHealth, Intake, Listener, Pulse};
use turnkeep_core::session::{Finished, RunFailure};
use turnkeep_gateway::{Gateway, Parts};
use turnkeep_stores::MemoryStore;

use crate::door::node::{Hall, Node};
use crate::kit::{parts, reply, says, texts};

/// What happened on which node.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Begun(usize, String),
    Hears(usize),
    Sent(usize, String),
}

/// An agent that says on which node it began with what, and goes on at once unless it is told to stay.
struct Telling {
    node: usize,
    told: mpsc::UnboundedSender<Told>,
}

impl Agent for Telling {
    fn kind(&self) -> &'static str {
        "telling"
    }

    fn run(&self, turn: TurnContext) -> BoxFuture<'_, Result<Finished, RunFailure>> {
        Box::pin(async move {
            let said = texts(&turn.messages).join("|");
            self.told.send(Told::Begun(self.node, said.clone())).unwrap();
            if said == "stay" {
                std::future::pending::<()>().await;
            }
            reply(&said)
        })
    }
}

/// A channel that one node hears.
struct Phone {
    node: usize,
    told: mpsc::UnboundedSender<Told>,
}

impl Listener for Phone {
    fn channel(&self) -> &'static str {
        "signal"
    }

    fn listen(&self, _: Arc<dyn Intake>) -> BoxFuture<'_, ()> {
        self.told.send(Told::Hears(self.node)).unwrap();
        Box::pin(std::future::pending())
    }

    fn health(&self) -> Vec<AccountHealth> {
        let (receiving, sending) = (Pulse::Working, Pulse::Working);
        vec![AccountHealth { account: "home".into(), receiving, sending, restarts: 0 }]
    }
}

impl Channel for Phone {
    fn facts(&self) -> &ChannelFacts {
        channel_facts("signal").unwrap()
    }

    fn send(&self, part: Outgoing) -> BoxFuture<'_, DeliveryOutcome> {
        self.told.send(Told::Sent(self.node, part.text.to_string())).unwrap();
        Box::pin(async { DeliveryOutcome::Sent })
    }

    fn typing(&self, _: &SessionKey, _: bool) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

struct Member {
    gateway: Gateway,
    phone: Arc<Phone>,
    stop: CancellationToken,
}

impl Member {
    async fn open(
        record: &MemoryStore,
        hall: &Arc<Hall>,
        number: Option<usize>,
        told: &mpsc::UnboundedSender<Told>,
    ) -> Self {
        let node = number.unwrap_or(9);
        let store = Node::open(record, hall, number);
        let agent = Arc::new(Telling { node, told: told.clone() });
        let phone = Arc::new(Phone { node, told: told.clone() });
        let mut parts = parts(Arc::new(record.clone()), agent, |policy| policy.window_ms = 0);
        parts.channels.insert("signal".to_owned(), phone.clone());
        parts.settings.shutdown_grace_ms = 3_600_000;
        let runs = number.is_some();
        let gateway = Gateway::new(Parts { store: Arc::new(store), runs, ..parts });
        gateway.start().await.unwrap();
        let stop = CancellationToken::new();
        let (looking, until) = (gateway.clone(), stop.clone());
        tokio::spawn(async move { looking.sweep(until).await });
        Self { gateway, phone, stop }
    }

    async fn hear(&self) {
        self.gateway.hear(vec![self.phone.clone()]).await;
    }

    async fn say(&self, who: &str, channel: &str, text: &str) {
        self.gateway.submit(says(who, channel, text), false).await.unwrap();
    }
}

/// One that runs no turns, and two that do.
struct House {
    hall: Arc<Hall>,
    gateway: Member,
    runners: [Member; 2],
    told: mpsc::UnboundedReceiver<Told>,
}

impl House {
    async fn new() -> Self {
        let (record, hall) = (MemoryStore::new(), Arc::<Hall>::default());
        hall.at_will();
        let (tell, told) = mpsc::unbounded_channel();
        let gateway = Member::open(&record, &hall, None, &tell).await;
        let one = Member::open(&record, &hall, Some(0), &tell).await;
        let runners = [one, Member::open(&record, &hall, Some(1), &tell).await];
        Self { hall, gateway, runners, told }
    }

    /// The next so many things, sorted.
    async fn told(&mut self, count: usize) -> Vec<Told> {
        let mut all = Vec::new();
        while all.len() < count {
            all.push(self.told.recv().await.unwrap());
        }
        all.sort();
        all
    }
}

fn begun_and_sent(node: usize, texts: &[&str]) -> Vec<Told> {
    let begun = texts.iter().map(|text| Told::Begun(node, (*text).to_owned()));
    let sent = texts.iter().map(|text| Told::Sent(node, (*text).to_owned()));
    let mut all: Vec<Told> = begun.chain(sent).collect();
    all.sort();
    all
}

#[tokio::test(start_paused = true)]
async fn only_who_hears_a_channel_runs_its_turns() {
    let mut house = House::new().await;
    house.hall.was_leased("channel signal");
    let [zero, one] = &house.runners;
    house.gateway.say("ann", "signal", "by a gateway").await;
    zero.say("bea", "signal", "by another").await;
    one.say("cat", "signal", "by itself").await;
    // A minute in which everybody looks for what nobody has, again and again.
    tokio::time::sleep(Duration::from_secs(60)).await;
    one.hear().await;
    assert_eq!(house.told(1).await, [Told::Hears(1)]);
    let all = begun_and_sent(1, &["by a gateway", "by another", "by itself"]);
    assert_eq!(house.told(6).await, all);
    // Whom it knows by now, and those it doesn't; not only once it is looked for what is left.
    let since = tokio::time::Instant::now();
    let people = ["ann", "bea", "dan", "eve", "fay", "gus"];
    for (place, who) in people.into_iter().enumerate() {
        let by = [&house.gateway, &house.runners[0], &house.runners[1]][place % 3];
        by.say(who, "signal", who).await;
    }
    assert_eq!(house.told(12).await, begun_and_sent(1, &people));
    assert!(since.elapsed() < Duration::from_secs(2));
    // Anything else runs anywhere.
    house.runners[0].say("ann", "api", "elsewhere").await;
    assert_eq!(house.told(1).await, [Told::Begun(0, "elsewhere".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn another_one_takes_it_over_with_what_is_open() {
    let mut house = House::new().await;
    for runner in &house.runners {
        runner.hear().await;
    }
    assert_eq!(house.told(1).await, [Told::Hears(0)], "the other one waits");
    house.gateway.say("ann", "signal", "stay").await;
    assert_eq!(house.told(1).await, [Told::Begun(0, "stay".to_owned())]);
    house.runners[1].say("ann", "signal", "and then").await;
    house.runners[0].stop.cancel();
    house.hall.is_gone(0);
    assert_eq!(house.told(1).await, [Told::Hears(1)]);
    house.gateway.say("bea", "signal", "hello").await;
    assert_eq!(house.told(4).await, begun_and_sent(1, &["hello", "stay|and then"]));
}

#[tokio::test(start_paused = true)]
async fn where_nobody_ever_heard_a_channel_anybody_runs_its_turns() {
    let mut house = House::new().await;
    house.runners[0].say("ann", "signal", "hello").await;
    assert_eq!(house.told(2).await, begun_and_sent(0, &["hello"]));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_ending_does_not_begin_to_hear() {
    let mut house = House::new().await;
    house.runners[1].hear().await;
    assert_eq!(house.told(1).await, [Told::Hears(1)]);
    house.runners[0].hear().await;
    house.runners[0].say("ann", "api", "stay").await;
    assert_eq!(house.told(1).await, [Told::Begun(0, "stay".to_owned())]);
    let ending = house.runners[0].gateway.clone();
    tokio::spawn(async move { ending.drain().await });
    // It waits for her turn.
    tokio::time::sleep(Duration::from_secs(1)).await;
    house.runners[1].stop.cancel();
    house.hall.is_gone(1);
    let heard = tokio::time::timeout(Duration::from_secs(5), house.told(1)).await;
    assert!(heard.is_err(), "{heard:?}");
}
