//! Two gateways that give each other hints, through a hall that a test can close, or make forget.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use turnkeep_core::SessionKey;
use turnkeep_core::draft::Piece;
use turnkeep_core::guard::{Bucket, Rate};
use turnkeep_core::ids::{Epoch, RunTag};
use turnkeep_core::message::Rejection;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::agent::Agent;
use turnkeep_core::ports::hints::{
    Heard, Hints, HintsHealth, Limit, Listening, News, Wait, Watched, Watching, Without,
};
use turnkeep_gateway::{Gateway, Refusal, Subscription};
use turnkeep_stores::MemoryStore;

use crate::kit::{parts, reply, says, started};
use crate::scripted;

/// Any moment will do, as long as it stays.
const NOW: i64 = 1_750_000_000_000;

type Watchers = Vec<mpsc::UnboundedSender<Watched>>;

/// What all nodes share.
#[derive(Default)]
struct Hall {
    buckets: HashMap<String, Bucket>,
    /// What was asked, by what it has in common.
    asked: Vec<(String, Vec<String>)>,
    held: HashMap<SessionKey, (RunTag, Epoch)>,
    ears: HashMap<Epoch, mpsc::UnboundedSender<News>>,
    watchers: HashMap<SessionKey, Watchers>,
    /// Pieces that were shown, and whether it was all of the draft.
    shown: Vec<(String, bool)>,
    /// So many pieces are lost from now on.
    loses: usize,
    closed: bool,
}

/// The hall, as one node has it.
struct Node {
    hall: Arc<Mutex<Hall>>,
    own: Epoch,
    changed: Arc<Notify>,
}

impl Node {
    /// Does something in the hall, if it is open.
    fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Hall) -> T,
    ) -> BoxFuture<'_, Result<T, Without>> {
        let mut hall = self.hall.lock().unwrap();
        let done =
            if hall.closed { Err(Without("closed".to_owned())) } else { Ok(work(&mut hall)) };
        self.changed.notify_waiters();
        Box::pin(std::future::ready(done))
    }
}

struct Ear<T>(VecDeque<T>, mpsc::UnboundedReceiver<T>);

impl<T> Ear<T> {
    async fn heard(&mut self) -> T {
        match self.0.pop_front() {
            Some(first) => first,
            None => self.1.recv().await.unwrap(),
        }
    }
}

impl Listening for Ear<News> {
    fn next(&mut self) -> BoxFuture<'_, News> {
        Box::pin(self.heard())
    }
}

impl Watching for Ear<Watched> {
    fn next(&mut self) -> BoxFuture<'_, Watched> {
        Box::pin(self.heard())
    }
}

impl Hints for Node {
    fn take<'a>(
        &'a self,
        together: &'a str,
        limits: &'a [Limit<'a>],
    ) -> BoxFuture<'a, Result<Option<Wait>, Without>> {
        self.with(|hall| {
            let names = limits.iter().map(|limit| limit.name.to_owned()).collect();
            hall.asked.push((together.to_owned(), names));
            let name = |limit: &Limit<'_>| format!("{together} {} {:?}", limit.name, limit.rate);
            for (place, limit) in limits.iter().enumerate() {
                let bucket = hall.buckets.entry(name(limit)).or_default();
                if let Some(ms) = bucket.wait_ms(limit.rate, NOW) {
                    return Some(Wait { place, ms });
                }
            }
            for limit in limits {
                hall.buckets.entry(name(limit)).or_default().spend(limit.rate, NOW);
            }
            None
        })
    }

    fn tell(&self, node: Epoch, news: News) -> BoxFuture<'_, Result<Heard, Without>> {
        self.with(|hall| match hall.ears.get(&node).map(|ear| ear.send(news)) {
            Some(Ok(())) => Heard::Somebody,
            _ => Heard::Nobody,
        })
    }

    fn tell_all(&self, _: News) -> BoxFuture<'_, Result<Heard, Without>> {
        self.with(|_| Heard::Nobody)
    }

    fn listen(&self) -> Result<Box<dyn Listening>, Without> {
        let (ear, heard) = mpsc::unbounded_channel();
        self.hall.lock().unwrap().ears.insert(self.own, ear);
        Ok(Box::new(Ear([News::Missed].into(), heard)))
    }

    fn show<'a>(
        &'a self,
        session: &'a SessionKey,
        piece: &'a Piece,
    ) -> BoxFuture<'a, Result<Heard, Without>> {
        self.with(|hall| {
            hall.shown.push((piece.text.clone(), piece.whole));
            let watchers = hall.watchers.entry(session.clone()).or_default();
            watchers.retain(|watcher| !watcher.is_closed());
            if watchers.is_empty() {
                return Heard::Nobody;
            }
            match hall.loses.checked_sub(1) {
                Some(left) => hall.loses = left,
                None => watchers.iter().for_each(|watcher| {
                    watcher.send(Watched::Piece(piece.clone())).unwrap();
                }),
            }
            Heard::Somebody
        })
    }

    fn watch(&self, session: &SessionKey) -> Result<Box<dyn Watching>, Without> {
        let (ear, heard) = mpsc::unbounded_channel();
        let mut hall = self.hall.lock().unwrap();
        hall.watchers.entry(session.clone()).or_default().push(ear);
        self.changed.notify_waiters();
        Ok(Box::new(Ear([Watched::Missed].into(), heard)))
    }

    fn hold<'a>(
        &'a self,
        session: &'a SessionKey,
        run: RunTag,
    ) -> BoxFuture<'a, Result<bool, Without>> {
        self.with(|hall| hall.held.insert(session.clone(), (run, self.own)).is_none_or(|_| true))
    }

    fn release<'a>(
        &'a self,
        session: &'a SessionKey,
        run: RunTag,
    ) -> BoxFuture<'a, Result<(), Without>> {
        self.with(|hall| hall.held.retain(|key, held| key != session || held.0 != run))
    }

    fn active<'a>(
        &'a self,
        session: &'a SessionKey,
    ) -> BoxFuture<'a, Result<Option<Epoch>, Without>> {
        self.with(|hall| hall.held.get(session).map(|(_, node)| *node))
    }

    fn health(&self) -> Option<HintsHealth> {
        Some(HintsHealth::default())
    }
}

/// The hall, and what is told of each change in it.
#[derive(Clone, Default)]
struct Place {
    hall: Arc<Mutex<Hall>>,
    changed: Arc<Notify>,
}

impl Place {
    /// A gateway that is the node of this number in the hall. Its store is its own, so it may have
    /// drawn any small one.
    async fn gateway(&self, number: u64, agent: Arc<dyn Agent>, rate: Rate) -> Gateway {
        let (hall, changed) = (Arc::clone(&self.hall), Arc::clone(&self.changed));
        let node = Node { hall, own: Epoch(number), changed };
        let mut parts = parts(Arc::new(MemoryStore::new()), agent, |policy| {
            policy.window_ms = 0;
            policy.tenant_rate = Rate::new(60, 60);
        });
        parts.hints = Arc::new(node);
        parts.guard.settings.rate_limiting = true;
        parts.guard.settings.global_rate = rate;
        let gateway = started(parts).await;
        let sweeper = gateway.clone();
        tokio::spawn(async move { sweeper.sweep(CancellationToken::new()).await });
        gateway
    }

    fn with<T>(&self, work: impl FnOnce(&mut Hall) -> T) -> T {
        work(&mut self.hall.lock().unwrap())
    }

    /// Waits until something is so.
    async fn until(&self, is_so: impl Fn(&Hall) -> bool) {
        loop {
            let changed = self.changed.notified();
            if self.with(|hall| is_so(hall)) {
                return;
            }
            changed.await;
        }
    }
}

/// Waits until the draft is this.
async fn shows(watching: &mut Subscription, text: &str) {
    loop {
        if watching.draft(None).is_some_and(|draft| draft.text == text) {
            return;
        }
        watching.changed().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_draft_is_seen_elsewhere_whoever_comes_late_and_whatever_is_lost() {
    let place = Place::default();
    let may_say = Arc::new(Semaphore::new(0));
    let goes_on = Arc::clone(&may_say);
    let agent = scripted(move |turn| {
        let goes_on = Arc::clone(&goes_on);
        async move {
            for word in ["one ", "two ", "three ", "four"] {
                turn.handle.say(word);
                goes_on.acquire().await.unwrap().forget();
            }
            reply("one two three four")
        }
    });
    let idle = scripted(|_| async { reply("not here") });
    let one = place.gateway(11, agent, Rate::UNLIMITED).await;
    let two = place.gateway(12, idle, Rate::UNLIMITED).await;
    let submitted = one.submit(says("anna", "web", "hello"), true).await.unwrap();
    let key = submitted.key;
    // Nobody watches, so it is said once and no more.
    place.until(|hall| hall.shown == [("one ".to_owned(), false)]).await;
    let mut watching = two.subscribe(&key).unwrap();
    shows(&mut watching, "one ").await;
    may_say.add_permits(1);
    shows(&mut watching, "one two ").await;
    place.with(|hall| hall.loses = 1);
    may_say.add_permits(1);
    place.until(|hall| hall.loses == 0).await;
    assert_eq!(watching.draft(None).unwrap().text, "one two ");
    may_say.add_permits(1);
    shows(&mut watching, "one two three four").await;
    let told = place.with(|hall| hall.shown.last().cloned());
    assert_eq!(told, Some(("one two three four".to_owned(), true)), "all of it was asked for");
    let draft = watching.draft(None).unwrap();
    assert_eq!(Some(draft.turn), submitted.decision.turn);
    place.with(|hall| assert!(hall.held.contains_key(&key)));
    may_say.add_permits(1);
    submitted.follow.unwrap().await.unwrap();
    place.until(|hall| hall.held.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn what_runs_here_is_not_heard_from_elsewhere() {
    let place = Place::default();
    let (gate, begun) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let agent = crate::gated(Arc::clone(&gate), Arc::clone(&begun));
    let gateway = place.gateway(1, agent, Rate::UNLIMITED).await;
    let key = SessionKey::new("default", "default", "web", turnkeep_core::SessionKind::Dm, "anna");
    let mut watching = gateway.subscribe(key.as_ref().unwrap()).unwrap();
    let watched =
        |hall: &Hall| hall.watchers.values().flatten().any(|watcher| !watcher.is_closed());
    place.until(watched).await;
    let submitted = gateway.submit(says("anna", "web", "hello"), true).await.unwrap();
    assert_eq!(&submitted.key, key.as_ref().unwrap());
    begun.notified().await;
    while place.with(|hall| watched(hall)) {
        watching.changed().await;
        tokio::task::yield_now().await;
    }
    gate.notify_one();
    submitted.follow.unwrap().await.unwrap();
    place.until(watched).await;
}

/// How long the gateway has a message wait; none if it took it.
async fn waits(gateway: &Gateway, customer: &str) -> Option<u64> {
    match gateway.submit(says(customer, "web", "hello"), false).await {
        Ok(_) => None,
        Err(Refusal::Rejected(Rejection::RateLimited { retry_after_ms })) => Some(retry_after_ms),
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn nodes_share_a_rate_and_each_has_its_own_without() {
    let place = Place::default();
    let agent = || scripted(|_| async { reply("well") });
    // One a day, three at once: what time passes in the test is nothing.
    let rate = Rate::new(1, 3);
    let (one, two) = (place.gateway(1, agent(), rate).await, place.gateway(2, agent(), rate).await);
    for gateway in [&one, &two, &one] {
        assert_eq!(waits(gateway, "anna").await, None);
    }
    assert_eq!(waits(&two, "ben").await, Some(60_000), "three are through, wherever");
    let asked = place.with(|hall| hall.asked.len());
    assert!(waits(&two, "ben").await.is_some_and(|ms| (1..=60_000).contains(&ms)));
    assert_eq!(place.with(|hall| hall.asked.len()), asked, "until then nobody is asked again");
    place.with(|hall| {
        let (together, names) = &hall.asked[0];
        assert_eq!(together, "default");
        assert!(names.iter().any(|name| name.starts_with("customer:")), "{names:?}");
        assert!(!names.concat().contains("anna"), "nobody's name stands there: {names:?}");
        assert_eq!(hall.asked[1], ("everybody".to_owned(), vec!["sent".to_owned()]));
        hall.closed = true;
    });
    // It counted two of the three itself.
    assert_eq!(waits(&one, "anna").await, None);
    assert!(waits(&one, "anna").await.is_some());
}
