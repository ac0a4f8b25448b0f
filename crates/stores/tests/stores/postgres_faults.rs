//! Faults: connections that end at the worst places, a server that dies, a database that only
//! reads, a process that is killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_postgres::Client;
use turnkeep_core::ports::store::{CommitOutcome, Store, StoreError};
use turnkeep_core::{EventBody, Seq};
use turnkeep_stores::{PostgresSettings, PostgresStore};

use crate::child::{self, Running};
use crate::fixture::{Chat, first_of, key, not_seen};
use crate::postgres_kit::{PgHome, Server};
use crate::postgres_order::{GATE, somebody_waits};

/// Ends the connections of the node that stand in a transaction, or all of them.
async fn end_connections(client: &Client, node: &str, only_waiting: bool) -> i64 {
    let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE application_name = 'turnkeep-' || $1 AND (NOT $2 OR wait_event_type = 'Lock')";
    client.query_one(sql, &[&node, &only_waiting]).await.unwrap().get(0)
}

/// Commits until it goes well, as whoever reloads after an error does.
async fn commit_until_taken(store: &PostgresStore, chat: &mut Chat, text: &str) {
    loop {
        if let Ok(loaded) = store.load(&chat.key).await {
            chat.version = loaded.as_ref().map_or(chat.version, |loaded| loaded.version);
            let session = loaded.map(|loaded| (*loaded.session).clone());
            chat.session = session.unwrap_or_else(|| chat.session.clone());
            let mut next = chat.clone();
            next.note(text);
            if let Ok(CommitOutcome::Committed(version)) = store.commit(next.draft()).await {
                next.version = version;
                *chat = next;
                return;
            }
        }
        tokio::task::yield_now().await;
    }
}

fn texts(events: Vec<turnkeep_core::Event>) -> Vec<String> {
    let text = |event: turnkeep_core::Event| match event.body {
        EventBody::SessionNotice { text, .. } => text.to_string(),
        other => panic!("{other:?}"),
    };
    events.into_iter().map(text).collect()
}

/// A node named by the test, since all tests share the server.
async fn open(home: &PgHome, node: &str, lock_timeout: Duration) -> Arc<PostgresStore> {
    let settings = PostgresSettings { lock_timeout, ..home.settings(node) };
    Arc::new(PostgresStore::open(settings).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_ended_is_replaced_unnoticed() {
    let home = PgHome::default();
    let store = open(&home, "replaced", Duration::from_secs(2)).await;
    let client = home.client().await;
    let mut chat = Chat::new("one");
    for text in ["1", "2", "3"] {
        chat.note(text);
        chat.commit(&*store).await;
        assert!(end_connections(&client, "replaced", false).await >= 1);
    }
    assert_eq!((store.health(), store.stats().failures), (Ok(()), 0));
    assert_eq!(store.load(&chat.key).await.unwrap(), Some(chat.loaded()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_ends_before_the_commit_is_sent_costs_nothing() {
    let home = PgHome::default();
    let store = open(&home, "before", Duration::from_secs(20)).await;
    let mut chat = Chat::new("one");
    chat.note("1");
    chat.commit(&*store).await;
    let client = home.client().await;
    client.batch_execute("BEGIN; SELECT 1 FROM sessions FOR UPDATE").await.unwrap();
    chat.note("2");
    let (other, draft) = (Arc::clone(&store), chat.draft());
    let commit = tokio::spawn(async move { other.commit(draft).await });
    somebody_waits(&client, "transactionid").await;
    assert_eq!(end_connections(&client, "before", true).await, 1);
    client.batch_execute("ROLLBACK").await.unwrap();
    let version = chat.version.next();
    assert_eq!(commit.await.unwrap(), Ok(CommitOutcome::Committed(version)));
    let stats = store.stats();
    assert_eq!((stats.failures, stats.retries_lost, stats.retries_held), (0, 1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_ends_behind_the_commit_leaves_it_unknown() {
    let home = PgHome::default();
    let store = open(&home, "behind", Duration::from_secs(20)).await;
    let mut chat = Chat::new("one");
    chat.note("1");
    chat.commit(&*store).await;
    let client = home.client().await;
    client.batch_execute(&format!("BEGIN; {GATE}")).await.unwrap();
    let mut next = chat.clone();
    next.note("nobody knows");
    let (other, draft) = (Arc::clone(&store), next.draft());
    let commit = tokio::spawn(async move { other.commit(draft).await });
    somebody_waits(&client, "advisory").await;
    assert_eq!(end_connections(&client, "behind", true).await, 1);
    // It is told at once, while the gate is still held, and the store says that it can't write.
    client.batch_execute("ROLLBACK").await.unwrap();
    let unknown = commit.await.unwrap();
    assert!(matches!(unknown, Err(StoreError::Unavailable(_))), "{unknown:?}");
    assert_eq!(store.stats().failures, 1);
    // It did not happen here, and whoever reloads goes on.
    assert_eq!(store.load(&chat.key).await.unwrap(), Some(chat.loaded()));
    commit_until_taken(&store, &mut chat, "after").await;
    let events = store.events(&chat.key, Seq(0), 9).await.unwrap();
    assert_eq!(texts(events), ["1", "after"]);
    assert_eq!(store.health(), Ok(()));
    let probe = "SELECT value FROM meta WHERE name = 'probe'";
    let probes: i64 = client.query_one(probe, &[]).await.unwrap().get(0);
    assert!(probes >= 1, "nothing is called healthy before a write was committed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_nobody_opens_is_waited_for_so_long() {
    let home = PgHome::default();
    let store = open(&home, "gate", Duration::from_millis(100)).await;
    let client = home.client().await;
    client.batch_execute(&format!("BEGIN; {GATE}")).await.unwrap();
    let mut chat = Chat::new("one");
    let mut refused = chat.clone();
    refused.note("never");
    let outcome = store.commit(refused.draft()).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    let reason = store.health().unwrap_err();
    assert!(reason.starts_with("the store can't write: the database was held up"), "{reason}");
    // Two more times than once.
    assert_eq!((store.stats().retries_held, store.stats().retries_lost), (2, 0));
    assert_eq!(store.load(&chat.key).await.unwrap(), None, "reads go on");
    client.batch_execute("ROLLBACK").await.unwrap();
    commit_until_taken(&store, &mut chat, "after").await;
    assert_eq!(texts(store.events(&chat.key, Seq(0), 9).await.unwrap()), ["after"]);
    assert_eq!(store.health(), Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_somebody_holds_is_waited_for_so_long() {
    let home = PgHome::default();
    let store = open(&home, "table", Duration::from_millis(100)).await;
    let client = home.client().await;
    client.batch_execute("BEGIN; LOCK TABLE seen IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut tasks = JoinSet::new();
    for number in 0..100 {
        let store = Arc::clone(&store);
        let mut chat = Chat::new(&format!("peer {number}"));
        chat.guard(not_seen(number, 1, &first_of(&chat)));
        chat.note("never");
        tasks.spawn(async move { store.commit(chat.draft()).await });
    }
    for outcome in tasks.join_all().await {
        assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    }
    client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(store.sessions(None, None, 10).await.unwrap(), []);
    let mut chat = Chat::new("peer 0");
    chat.guard(not_seen(0, 1, &first_of(&chat)));
    commit_until_taken(&store, &mut chat, "after").await;
    assert_eq!(texts(store.events(&chat.key, Seq(0), 9).await.unwrap()), ["after"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_gone_is_said() {
    let home = PgHome::default();
    let store = open(&home, "foreign", Duration::from_secs(2)).await;
    let client = home.client().await;
    client.batch_execute("ALTER TABLE journal RENAME TO elsewhere").await.unwrap();
    let mut chat = Chat::new("one");
    let mut refused = chat.clone();
    refused.note("never");
    let outcome = store.commit(refused.draft()).await;
    let Err(StoreError::Unavailable(why)) = outcome else { panic!("{outcome:?}") };
    assert!(why.contains("not ours any more"), "{why}");
    client.batch_execute("ALTER TABLE elsewhere RENAME TO journal").await.unwrap();
    commit_until_taken(&store, &mut chat, "after").await;
    assert_eq!(texts(store.events(&chat.key, Seq(0), 9).await.unwrap()), ["after"]);
}

/// Eight sessions commit and reload whenever they are told that nobody knows, until it is over; what
/// was acknowledged.
async fn commit_through(
    store: &Arc<PostgresStore>,
    over: &Arc<AtomicBool>,
) -> Vec<(Chat, Vec<String>)> {
    let mut tasks = JoinSet::new();
    for number in 0..8 {
        let (store, over) = (Arc::clone(store), Arc::clone(over));
        tasks.spawn(async move {
            let mut chat = Chat::new(&format!("peer {number}"));
            let mut acknowledged = Vec::new();
            while !over.load(Relaxed) {
                let text = format!("{number} {}", acknowledged.len());
                commit_until_taken(&store, &mut chat, &text).await;
                acknowledged.push(text);
            }
            (chat, acknowledged)
        });
    }
    tasks.join_all().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_loses_nothing_that_was_acknowledged() {
    let server = Server::start("");
    let home = PgHome::at(server.url());
    let store = open(&home, "survivor", Duration::from_secs(2)).await;
    let over = Arc::new(AtomicBool::new(false));
    let writing = {
        let (store, over) = (Arc::clone(&store), Arc::clone(&over));
        tokio::spawn(async move { commit_through(&store, &over).await })
    };
    for round in 1..=2 {
        // In the midst of it, without a word to anybody.
        while store.stats().commits < 100 * round {
            tokio::task::yield_now().await;
        }
        tokio::task::block_in_place(|| server.restart());
    }
    over.store(true, Relaxed);
    for (chat, acknowledged) in writing.await.unwrap() {
        let stored = texts(store.events(&chat.key, Seq(0), 10_000).await.unwrap());
        // One that nobody knew of may stand there as well, and was said again then.
        let mut rest = stored.iter();
        for text in &acknowledged {
            assert!(rest.any(|stored| stored == text), "{text} is gone: {stored:?}");
        }
        let loaded = store.load(&chat.key).await.unwrap().unwrap();
        assert_eq!(loaded.version.0, stored.len() as u64);
    }
    assert_eq!(store.health(), Ok(()));
    assert!(store.stats().failures >= 1, "{:?}", store.stats());

    // A database that only reads is said to, and written to again as soon as it can be.
    let client = home.client().await;
    let set = async |value: &str| {
        let sql = format!("ALTER SYSTEM SET default_transaction_read_only = {value}");
        client.batch_execute(&sql).await.unwrap();
        client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        let is = "SELECT setting FROM pg_settings WHERE name = 'default_transaction_read_only'";
        while client.query_one(is, &[]).await.unwrap().get::<_, &str>(0) != value {
            tokio::task::yield_now().await;
        }
        end_connections(&client, "survivor", false).await;
    };
    set("on").await;
    let mut chat = Chat::new("late");
    let mut refused = chat.clone();
    refused.note("never");
    let outcome = store.commit(refused.draft()).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    assert!(store.health().is_err());
    set("off").await;
    commit_until_taken(&store, &mut chat, "after").await;
    assert_eq!(store.health(), Ok(()));
}

/// The child's half: eight sessions commit until the process dies, telling what was acknowledged.
async fn commit_until_killed(home: &PgHome, kill_point: fn(&'static str)) {
    let settings = PostgresSettings { kill_point: Some(kill_point), ..home.settings("killed") };
    let store = Arc::new(PostgresStore::open(settings).await.unwrap());
    child::kill_the(20);
    let mut tasks = JoinSet::new();
    for number in 0..8 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let mut chat = Chat::new(&number.to_string());
            loop {
                chat.note("an event");
                chat.commit(&*store).await;
                child::say(&format!("{number} {}", chat.session.last_seq));
            }
        });
    }
    // None of them ends but by a failure.
    tasks.join_next().await.unwrap().unwrap()
}

async fn check_kill(name: &str, kill_point: fn(&'static str)) {
    if let Some(told) = child::told() {
        let (schema, url) = told.split_once(' ').unwrap();
        let home = PgHome { url: url.to_owned(), schema: schema.to_owned() };
        return commit_until_killed(&home, kill_point).await;
    }
    let home = PgHome::default();
    let told = format!("{} {}", home.schema, home.url);
    let mut other = Running::start(child::command(name, &told));
    let mut acknowledged = [0; 8];
    while let Some(said) = other.hear() {
        let (number, seq) = said.split_once(' ').unwrap();
        acknowledged[number.parse::<usize>().unwrap()] = seq.parse().unwrap();
    }
    assert!(!other.end().success(), "it was not killed");

    // The same name again: its ghost is put out, and whatever it left is over before we read.
    let store = home.open_as("killed").await.unwrap();
    for (number, acknowledged) in acknowledged.into_iter().enumerate() {
        let key = key(&number.to_string());
        let events = store.events(&key, Seq(0), 1000).await.unwrap();
        // What was acknowledged, and at most the one that was on its way.
        let stored = events.last().map_or(0, |event| event.seq.0);
        assert!(stored == acknowledged || stored == acknowledged + 1, "{stored} {acknowledged}");
        let version = store.load(&key).await.unwrap().map_or(0, |loaded| loaded.version.0);
        assert_eq!((version, events.len() as u64), (stored, stored));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_a_commit() {
    check_kill("postgres_faults::killed_before_a_commit", child::kill_before_commit).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_a_commit() {
    check_kill("postgres_faults::killed_after_a_commit", child::kill_after_commit).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_two_answers() {
    check_kill("postgres_faults::killed_between_two_answers", child::kill_at_answer).await;
}
