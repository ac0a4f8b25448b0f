//! Several nodes of one database: whose a session is, who is told that it was written by another
//! one, and what nobody has.

use turnkeep_core::ports::store::{BITE_MIN, Bite, But, Holder, Offer, Offered, Store};
use turnkeep_core::{Epoch, SessionKey, SessionKind};
use turnkeep_stores::{PostgresSettings, PostgresStore};

use crate::fixture::{Chat, NOW};
use crate::postgres_kit::PgHome;

/// A node that runs no turns.
async fn open_to_accept(home: &PgHome, node: &str) -> PostgresStore {
    let settings = PostgresSettings { runs: false, ..home.settings(node) };
    PostgresStore::open(settings).await.unwrap()
}

/// A conversation with open work that this node has.
fn held_by(peer: &str, epoch: Epoch) -> Chat {
    let mut chat = Chat::new(peer);
    (chat.session.epoch, chat.wake_at) = (epoch, Some(NOW));
    chat.queue("hello");
    chat
}

const NINE: Bite = Bite { most: 9, parts: 1 };

/// What it takes of so many, in order, and how many are left.
async fn take(store: &PostgresStore, limit: usize) -> (Vec<(SessionKey, Offer)>, usize) {
    let bite = Bite { most: limit, parts: 1 };
    let mut offered = store.take_offered(&Offer::ALL, bite, But::default()).await.unwrap();
    offered.taken.sort_by_key(|(key, offer)| (*offer, key.clone()));
    (offered.taken, offered.waiting)
}

async fn nodes(home: &PgHome) -> [PostgresStore; 2] {
    [home.open_as("one").await.unwrap(), home.open_as("two").await.unwrap()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_writes_what_another_one_has_knocks_there_and_nowhere_else() {
    let home = PgHome::default();
    let [one, two] = nodes(&home).await;
    let mut chat = held_by("ann", one.epoch());
    chat.commit(&one).await;
    assert_eq!(one.knocks(10).await.unwrap(), [], "it knows what it writes itself");
    for text in ["more", "and more"] {
        chat.queue(text);
        chat.commit(&two).await;
    }
    assert_eq!(two.knocks(10).await.unwrap(), []);
    assert_eq!(one.knocks(10).await.unwrap(), std::slice::from_ref(&chat.key));
    assert_eq!(one.knocks(10).await.unwrap(), [], "once is enough");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_that_runs_nothing_accepts_any_other_takes_up() {
    let home = PgHome::default();
    let [one, two] = nodes(&home).await;
    let accepts = open_to_accept(&home, "accepts").await;
    let mut chat = held_by("ann", accepts.epoch());
    chat.commit(&accepts).await;
    for node in [&accepts, &one, &two] {
        assert_eq!(node.knocks(10).await.unwrap(), [], "it is at nobody's own door");
    }
    assert_eq!(one.offer_left(10).await.unwrap(), 0, "it is offered already");
    assert_eq!(take(&two, 10).await, ([(chat.key.clone(), Offer::New)].into(), 0));
    assert_eq!(take(&one, 10).await, (vec![], 0), "one is enough");
    assert_eq!(one.offer_left(10).await.unwrap(), 1, "and should that one die, it is found");
    assert_eq!(two.offer_left(10).await.unwrap(), 0);
    assert_eq!(take(&one, 10).await, ([(chat.key.clone(), Offer::Left)].into(), 0));
    // Nothing is open any more, so there is nothing to take up.
    chat.session.queue.clear();
    chat.wake_at = None;
    chat.note("done");
    chat.commit(&accepts).await;
    assert_eq!(one.offer_left(10).await.unwrap(), 0);
    assert_eq!(take(&one, 10).await, (vec![], 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offers_are_taken_as_many_as_wanted_and_not_of_everybody() {
    let home = PgHome::default();
    let [one, two] = nodes(&home).await;
    let accepts = open_to_accept(&home, "accepts").await;
    let mut keys = Vec::new();
    for number in 0..6 {
        let mut chat = Chat::new(&format!("p{number}"));
        if number % 2 == 1 {
            let peer = number.to_string();
            chat.key = SessionKey::new("t", "other", "web", SessionKind::Dm, &peer).unwrap();
        }
        (chat.session.epoch, chat.wake_at) = (accepts.epoch(), Some(NOW));
        chat.commit(&accepts).await;
        keys.push(chat.key);
    }
    // Nobody lives who had it: it comes before what is new.
    let gone = home.open_as("gone").await.unwrap();
    let mut left = held_by("left", gone.epoch());
    left.commit(&gone).await;
    gone.close().await;
    assert_eq!(two.offer_left(10).await.unwrap(), 1);
    assert_eq!(take(&one, 0).await, (vec![], 7));
    let first = [(left.key.clone(), Offer::Left), (keys[0].clone(), Offer::New)];
    assert_eq!(take(&one, 2).await, (first.into(), 5));
    let of_left = one.take_offered(&[Offer::Left], NINE, But::default()).await.unwrap();
    assert_eq!(of_left, Offered::default(), "nothing else was left");
    let but = ["other".to_owned()];
    let mut others =
        two.take_offered(&Offer::ALL, NINE, But { agents: &but, channels: &[] }).await.unwrap();
    others.taken.sort();
    let expect = [2, 4].map(|place| (keys[place].clone(), Offer::New));
    assert_eq!((others.taken, others.waiting), (expect.into(), 3));
    let (rest, waiting) = take(&one, 9).await;
    assert_eq!((rest.len(), waiting), (3, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_may_not_run_is_offered_to_all_and_taken_by_who_may() {
    let home = PgHome::default();
    let [one, two] = nodes(&home).await;
    let mut chat = Chat::new("ann");
    chat.key = SessionKey::new("t", "a", "signal", SessionKind::Dm, "ann").unwrap();
    chat.session.epoch = Epoch::NOBODY;
    chat.note("known");
    chat.commit(&one).await;
    assert_eq!(take(&two, 10).await, (vec![], 0), "nothing of it is open");
    chat.wake_at = Some(NOW);
    chat.queue("hello");
    chat.commit(&one).await;
    let mut web = held_by("web", Epoch::NOBODY);
    let signal = But { agents: &[], channels: &["signal", "sms"] };
    for offers in [Offer::New, Offer::Left] {
        web.wake_at = Some(NOW);
        web.note("again");
        web.commit(&one).await;
        let bite = Bite { most: 1, parts: 1 };
        let offered = one.take_offered(&Offer::ALL, bite, signal).await.unwrap();
        let expect = vec![(web.key.clone(), Offer::New)];
        assert_eq!((offered.taken, offered.waiting), (expect, 0), "nobody waits behind it");
        web.wake_at = None;
        web.note("done");
        web.commit(&one).await;
        assert_eq!(take(&two, 10).await, ([(chat.key.clone(), offers)].into(), 0));
        // It died with it.
        assert_eq!(one.offer_left(10).await.unwrap(), 1);
    }
}

/// However many there are, nobody waits for those that come again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_came_first_is_taken_first_and_not_more_than_a_part() {
    let home = PgHome::default();
    let runs = home.open_as("runs").await.unwrap();
    let accepts = open_to_accept(&home, "accepts").await;
    let mut chats: Vec<Chat> =
        (0..40).map(|number| held_by(&format!("p{number:02}"), accepts.epoch())).collect();
    for chat in &mut chats {
        chat.commit(&accepts).await;
    }
    // Half of them, and the smallest part.
    for (parts, took) in [(2, 20), (2, BITE_MIN), (2, 4)] {
        let bite = Bite { most: 100, parts };
        let offered = runs.take_offered(&Offer::ALL, bite, But::default()).await.unwrap();
        assert_eq!(offered.taken.len(), took);
    }
    // The oldest session wrote last; that it writes once more doesn't put it behind anybody.
    chats.reverse();
    for chat in &mut chats {
        chat.note("again");
        chat.commit(&accepts).await;
    }
    chats[0].note("and again");
    chats[0].commit(&accepts).await;
    let (taken, waiting) = take(&runs, 3).await;
    let mut first = [0, 1, 2].map(|place| (chats[place].key.clone(), Offer::New));
    first.sort_by_key(|(key, _)| key.clone());
    assert_eq!((taken, waiting), (first.into(), 37));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_knock_that_comes_while_another_one_is_answered_is_heard() {
    let home = PgHome::default();
    let [one, two] = nodes(&home).await;
    let mut chat = held_by("ann", one.epoch());
    chat.commit(&two).await;
    // What comes with this one can't be seen before it commits.
    let client = home.client().await;
    client.batch_execute("BEGIN; UPDATE knocks SET times = times + 1").await.unwrap();
    assert_eq!(one.knocks(10).await.unwrap(), [], "it waits for its commit");
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!(one.knocks(10).await.unwrap(), [chat.key]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_had_is_nobodys_once_it_is_gone() {
    let home = PgHome::default();
    let [one, two] = nodes(&home).await;
    let mut chat = held_by("ann", one.epoch());
    chat.commit(&one).await;
    let taken = Epoch(5).taken_by(one.epoch());
    assert_eq!((two.holder(one.epoch()), two.holder(taken)), (Holder::Another, Holder::Another));
    assert_eq!((one.holder(one.epoch()), one.holder(taken)), (Holder::Us, Holder::Us));
    assert_eq!(two.offer_left(10).await.unwrap(), 0);
    let before = two.marks()["nodes"];
    one.close().await;
    assert_eq!(two.offer_left(10).await.unwrap(), 1);
    assert_eq!(take(&two, 10).await, ([(chat.key.clone(), Offer::Left)].into(), 0));
    while two.holder(taken) == Holder::Another {
        tokio::task::yield_now().await;
    }
    assert_eq!(two.holder(taken), Holder::Nobody);
    assert!(two.marks()["nodes"] > before, "who looks after what was left hears of it");
    // Under an epoch that is greater than every one before, and names who has it now.
    chat.session.epoch = taken.taken_by(two.epoch());
    chat.note("taken");
    chat.commit(&two).await;
    assert_eq!(two.offer_left(10).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_journals_end_is_told_of_those_that_are_there() {
    let home = PgHome::default();
    let [one, two] = nodes(&home).await;
    let (mut ann, mut bob) = (Chat::new("ann"), Chat::new("bob"));
    ann.note("one");
    ann.note("two");
    ann.commit(&one).await;
    bob.note("one");
    bob.commit(&two).await;
    let asked = [ann.key.clone(), bob.key.clone(), Chat::new("nobody").key];
    let mut ends = two.last_seqs(&asked).await.unwrap();
    ends.sort();
    assert_eq!(ends, [(ann.key, ann.session.last_seq), (bob.key, bob.session.last_seq)]);
    assert_eq!(two.last_seqs(&[]).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_lets_go_is_offered_to_all() {
    let home = PgHome::default();
    let [one, two] = nodes(&home).await;
    let mut chat = held_by("ann", one.epoch());
    chat.commit(&one).await;
    assert_eq!(take(&two, 9).await, (vec![], 0));
    // Under the number of nobody, and nothing else changes.
    chat.session.epoch = chat.session.epoch.taken_by(Epoch(0));
    chat.commit(&one).await;
    for node in [&one, &two] {
        assert_eq!(node.holder(chat.session.epoch), Holder::Nobody);
    }
    assert_eq!(take(&two, 9).await, (vec![(chat.key.clone(), Offer::New)], 0));
    chat.session.epoch = chat.session.epoch.taken_by(two.epoch());
    chat.queue("more");
    chat.commit(&two).await;
    assert_eq!(one.holder(chat.session.epoch), Holder::Another);
}
