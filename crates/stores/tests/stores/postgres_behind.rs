//! A database that is put back to an older state under a node that works: the node notices, and
//! writes nothing of what it remembers.

use std::time::Duration;

use tokio_postgres::Client;
use turnkeep_core::ports::store::{Store, StoreError};
use turnkeep_stores::{NodeOut, PostgresStore};

use crate::fixture::Chat;
use crate::postgres_kit::PgHome;

/// Nothing here takes anywhere near as long; it ends a test that would never end.
const LIMIT: Duration = Duration::from_secs(60);
const BACK: &str = "the database was put back to an older state under this node";

/// Asks until it is so.
async fn until(client: &Client, so: &str) {
    let asking = async {
        while client.query_opt(so, &[]).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, asking).await.expect(so);
}

async fn tables(client: &Client) -> Vec<String> {
    let sql = "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()";
    client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// A copy of everything, as a backup is.
async fn back_up(home: &PgHome, client: &Client) {
    let copies = format!("{}_backup", home.schema);
    let mut sql = format!("BEGIN ISOLATION LEVEL REPEATABLE READ; CREATE SCHEMA {copies};");
    for table in tables(client).await {
        sql.push_str(&format!("CREATE TABLE {copies}.{table} AS TABLE {table};"));
    }
    client.batch_execute(&(sql + "COMMIT")).await.unwrap();
}

/// Everything as it was then, from one moment to the next.
async fn put_back(home: &PgHome, client: &Client) {
    let mut sql = "BEGIN;".to_owned();
    for table in tables(client).await {
        let copy = format!("{}_backup.{table}", home.schema);
        sql.push_str(&format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM {copy};"));
    }
    client.batch_execute(&(sql + "COMMIT")).await.unwrap();
}

async fn put_out(store: &PostgresStore) -> NodeOut {
    tokio::time::timeout(LIMIT, store.put_out()).await.expect("it never notices")
}

/// That nothing is taken, not even what no version of a session stands against.
async fn refuses(store: &PostgresStore, peer: &str) {
    let mut late = Chat::new(peer);
    late.note("late");
    let refused = store.commit(late.draft()).await;
    let Err(StoreError::Unavailable(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains(BACK), "{why}");
    let reason = store.health().unwrap_err();
    assert!(reason.contains(BACK), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_works_while_the_database_is_put_back_is_out() {
    let home = PgHome::default();
    let (busy, idle) = (home.open_as("busy").await.unwrap(), home.open_as("idle").await.unwrap());
    let client = home.client().await;
    let mut chat = Chat::new("ann");
    chat.note("kept");
    chat.commit(&busy).await;
    back_up(&home, &client).await;
    let kept = chat.clone();
    chat.note("lost");
    chat.commit(&busy).await;
    let later = "SELECT 1 FROM nodes n JOIN {}_backup.nodes b USING (epoch)
                 WHERE n.beat > b.beat HAVING count(*) = 2";
    until(&client, &later.replace("{}", &home.schema)).await;
    put_back(&home, &client).await;
    // Who comes now goes on from what was put back, and fills up what was lost of the journal.
    let next = home.open_as("next").await.unwrap();
    assert_eq!(next.load(&kept.key).await.unwrap(), Some(kept.loaded()));
    let mut chat = kept;
    for text in ["after", "and more"] {
        chat.note(text);
        chat.commit(&next).await;
    }
    refuses(&busy, "bob").await;
    for node in [&busy, &idle] {
        assert_eq!(put_out(node).await, NodeOut::WentBack);
    }
    assert_eq!(next.load(&Chat::new("bob").key).await.unwrap(), None, "nothing was written");
    assert_eq!(next.load(&chat.key).await.unwrap(), Some(chat.loaded()));
    assert_eq!(next.health(), Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_went_back_by_less_than_a_beat_the_journal_tells() {
    let home = PgHome::default();
    let (store, other) = (home.open_as("a").await.unwrap(), home.open_as("b").await.unwrap());
    let client = home.client().await;
    for peer in ["ann", "bob"] {
        let mut chat = Chat::new(peer);
        chat.note("one");
        chat.commit(&store).await;
    }
    client.batch_execute("DELETE FROM journal WHERE place = 2").await.unwrap();
    refuses(&store, "carol").await;
    assert_eq!(put_out(&store).await, NodeOut::WentBack);
    // Who was told less has nothing against it.
    let mut chat = Chat::new("dora");
    chat.note("one");
    chat.commit(&other).await;
    assert_eq!(other.health(), Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_came_after_the_backup_is_not_known_to_it() {
    let home = PgHome::default();
    let store = home.open_as("a").await.unwrap();
    let client = home.client().await;
    client.batch_execute("DELETE FROM nodes").await.unwrap();
    refuses(&store, "ann").await;
    assert_eq!(put_out(&store).await, NodeOut::WentBack);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_has_more_than_was_told_has_not_gone_back() {
    let home = PgHome::default();
    let store = home.open_as("a").await.unwrap();
    let client = home.client().await;
    let mut chat = Chat::new("ann");
    chat.note("one");
    chat.commit(&store).await;
    // A beat whose answer was lost, and a person who had the end of the journal forgotten.
    client
        .batch_execute(
            "UPDATE nodes SET beat = beat + 100;
             BEGIN; UPDATE meta SET value = 1 WHERE name = 'journal'; DELETE FROM journal; COMMIT",
        )
        .await
        .unwrap();
    until(&client, "SELECT 1 FROM nodes WHERE beat > 101").await;
    let mut other = Chat::new("bob");
    other.note("one");
    other.commit(&store).await;
    assert_eq!(store.health(), Ok(()));
}
