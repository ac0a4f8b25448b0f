//! Who takes part in a cluster: whoever gives no sign is put out, and what was theirs is free.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client;
use turnkeep_core::access::Key;
use turnkeep_core::ports::keys::{Added, KeyRow, Keys};
use turnkeep_core::ports::store::{Leased, Store};
use turnkeep_core::usage::Sums;
use turnkeep_core::{Epoch, Seq};
use turnkeep_stores::{PostgresReader, PostgresSettings, PostgresStore, Reads};

use crate::fixture::{Chat, NOW};
use crate::postgres_kit::PgHome;

/// A node that takes part and never gives a sign, as one that hangs.
async fn silent_node(client: &Client, epoch: i64) {
    let sql = "INSERT INTO nodes (epoch, token, name, version, schema_version)
               VALUES ($1, gen_random_uuid(), 'silent', '1', 4)";
    client.execute(sql, &[&epoch]).await.unwrap();
    let held = "INSERT INTO leases (name, epoch) VALUES ('schedule', $1)";
    client.execute(held, &[&epoch]).await.unwrap();
}

/// Asks until it is so.
async fn until(client: &Client, so: &str) {
    while client.query_opt(so, &[]).await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
}

/// A node that has no patience with others.
async fn impatient(home: &PgHome) -> PostgresStore {
    let node_timeout = Duration::from_millis(1);
    let settings = PostgresSettings { node_timeout, ..home.settings("a") };
    PostgresStore::open(settings).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gives_no_sign_is_put_out_and_what_was_theirs_is_free() {
    let home = PgHome::default();
    let patient = home.open_as("patient").await.unwrap();
    let client = home.client().await;
    silent_node(&client, 999).await;
    assert_eq!(patient.lease("schedule").await, Ok(false), "it is held by a node that takes part");
    // It would be put out as well, for its signs come too rarely for who has no patience at all.
    patient.close().await;
    let store = impatient(&home).await;
    until(&client, "SELECT 1 FROM nodes WHERE epoch = 999 AND gone_at IS NOT NULL").await;
    assert_eq!(store.lease("schedule").await, Ok(true));
    assert_eq!(store.lease("schedule").await, Ok(true), "it is ours already");
    let why = "SELECT gone_why FROM nodes WHERE epoch = 999";
    let why: String = client.query_one(why, &[]).await.unwrap().get(0);
    assert_eq!(why, "it gave no sign, says a");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_put_out_knows_it() {
    let home = PgHome::default();
    let store = home.open_as("a").await.unwrap();
    let mut chat = Chat::new("ann");
    chat.note("before");
    chat.commit(&store).await;
    let successor = home.open_as("a").await.unwrap();
    store.put_out().await;
    assert!(store.health().unwrap_err().contains("put out of the cluster"));
    assert_eq!(successor.health(), Ok(()), "the later one stays");
    assert!(successor.load(&chat.key).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_is_not_waited_for() {
    let home = PgHome::default();
    let (one, two) = (home.open_as("one").await.unwrap(), home.open_as("two").await.unwrap());
    assert_eq!(one.lease("listeners").await, Ok(true));
    assert_eq!(two.lease("listeners").await, Ok(false));
    one.close().await;
    assert_eq!(two.lease("listeners").await, Ok(true));
    assert!(one.lease("listeners").await.is_err(), "a closed store takes nothing");
    let three = home.open_as("three").await.unwrap();
    assert_eq!(three.leased("listeners"), Leased::By("two".into()));
    two.close().await;
    let four = home.open_as("four").await.unwrap();
    assert_eq!(four.leased("listeners"), Leased::Free);
    assert_eq!(four.leased("schedule"), Leased::Never);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_changes_the_others_hear_of() {
    let home = PgHome::default();
    let (one, two) = (home.open_as("one").await.unwrap(), home.open_as("two").await.unwrap());
    let key = Key {
        id: "k".into(),
        tenant: None,
        scopes: "read".parse().unwrap(),
        label: None,
        created_at: NOW,
        expires_at: None,
        revoked_at: None,
    };
    assert_eq!(one.add_key(KeyRow { key, secret: [1; 32] }).await, Ok(Added::Done));
    let heard = async {
        while two.marks().get("keys") != Some(&1) || two.others().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    heard.await;
    assert_eq!(two.marks().get("people"), Some(&0));
    let names: Vec<String> = two.others().into_iter().map(|other| other.name).collect();
    assert_eq!(names, ["one"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_sees_one_moment_and_takes_no_part() {
    let home = PgHome::default();
    let settings = home.settings("reader");
    let empty = tokio::task::spawn_blocking({
        let settings = settings.clone();
        move || PostgresReader::open(&settings).map(drop)
    });
    let empty = empty.await.unwrap().unwrap_err().to_string();
    assert!(empty.contains("start a server on it once"), "{empty}");
    let store = Arc::new(home.open_as("a").await.unwrap());
    let mut chat = Chat::new("ann");
    chat.note("one");
    chat.commit(&*store).await;
    let runtime = tokio::runtime::Handle::current();
    let writer = Arc::clone(&store);
    let read = tokio::task::spawn_blocking(move || {
        let reader = PostgresReader::open(&settings).unwrap();
        let mut counted = Vec::new();
        reader
            .moment(&mut |reader| {
                let count = |reader: &dyn Reads| reader.sessions(None, None, 10).unwrap().len();
                counted.push(count(reader));
                runtime.block_on(async {
                    let mut other = Chat::new("bob");
                    other.note("meanwhile");
                    other.commit(&*writer).await;
                });
                counted.push(count(reader));
                assert_eq!(reader.wrong().unwrap(), Vec::<String>::new());
                let used = reader.usage_of_session(&chat.key).unwrap();
                assert_eq!(used, Sums::default(), "nothing was used");
                assert!(reader.forgotten(&chat.key).unwrap().is_none());
                assert_eq!(reader.events(&chat.key, Seq(0), 10).unwrap().len(), 1);
                assert_eq!(reader.load(&chat.key).unwrap(), Some(chat.loaded()));
                assert_eq!(reader.dead_letters(0, 10).unwrap(), []);
            })
            .unwrap();
        counted.push(reader.sessions(None, None, 10).unwrap().len());
        counted
    });
    assert_eq!(read.await.unwrap(), [1, 1, 2]);
    let client = home.client().await;
    let nodes: i64 = client.query_one("SELECT count(*) FROM nodes", &[]).await.unwrap().get(0);
    assert_eq!(nodes, 1, "who only reads is no node");
    assert_eq!(store.epoch(), Epoch(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_was_put_together_from_two_is_told() {
    let home = PgHome::default();
    let store = home.open_as("a").await.unwrap();
    let mut chat = Chat::new("ann");
    for text in ["one", "two", "three"] {
        chat.note(text);
        chat.commit(&store).await;
    }
    let client = home.client().await;
    client
        .batch_execute("UPDATE sessions SET epoch = 7; DELETE FROM journal WHERE place = 2")
        .await
        .unwrap();
    let settings = home.settings("reader");
    let wrong = tokio::task::spawn_blocking(move || {
        PostgresReader::open(&settings).unwrap().wrong().unwrap()
    });
    assert_eq!(
        wrong.await.unwrap(),
        [
            "1 sessions are those of a node above 1, the last that came",
            "the journal has 1 gaps in its order, the first before place 3",
        ]
    );
}
