//! Reads that wait for each other: what they share, and what nobody suffers for another one.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use turnkeep_core::ports::store::{Store, StoreError};
use turnkeep_core::{Event, Seq};
use turnkeep_stores::{PostgresSettings, PostgresStore};

use crate::fixture::Chat;
use crate::postgres_kit::{PgHome, Server};

/// What holds every page of a journal up, and no session.
const HOLD: &str = "BEGIN; LOCK TABLE journal IN ACCESS EXCLUSIVE MODE";
/// So many questions for pages are under way at the same time.
const LANES: i64 = 2;

type Read = JoinHandle<Result<Vec<Event>, StoreError>>;

/// A node that is patient with others' locks, named by its test, since all share the server.
async fn open(home: &PgHome, statement_timeout: Duration) -> Arc<PostgresStore> {
    let lock_timeout = Duration::from_secs(60);
    let settings = home.settings(&home.schema);
    let settings = PostgresSettings { lock_timeout, statement_timeout, pool: 8, ..settings };
    Arc::new(PostgresStore::open(settings).await.unwrap())
}

/// Conversations of these names, each with one entry of so many letters.
async fn written(store: &PostgresStore, names: &[&str], letters: usize) -> Vec<Chat> {
    let mut chats = Vec::new();
    for name in names {
        let mut chat = Chat::new(name);
        chat.note(&format!("{name}{}", "-".repeat(letters)));
        chat.commit(store).await;
        chats.push(chat);
    }
    chats
}

/// Asks for its journal; that stands in line when this comes back.
async fn ask(store: &Arc<PostgresStore>, chat: &Chat) -> Read {
    let (store, key) = (Arc::clone(store), chat.key.clone());
    let (stands, in_line) = oneshot::channel();
    let task = tokio::spawn(async move {
        let mut read = store.events(&key, Seq(0), 9);
        // Whatever is looked at once stands there.
        let looked = poll_fn(|context| Poll::Ready(read.as_mut().poll(context))).await;
        stands.send(()).unwrap();
        match looked {
            Poll::Ready(given) => given,
            Poll::Pending => read.await,
        }
    });
    in_line.await.unwrap();
    task
}

/// How many statements of the store wait for somebody's lock.
async fn held(client: &Client, home: &PgHome) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity
               WHERE application_name = $1 AND wait_event_type = 'Lock'";
    client.query_one(sql, &[&format!("turnkeep-{}", home.schema)]).await.unwrap().get(0)
}

/// Asks until every lane is taken by a page that is held up: what comes now goes together.
async fn fill(store: &Arc<PostgresStore>, chat: &Chat, home: &PgHome) -> Vec<Read> {
    let client = home.client().await;
    let mut reads = Vec::new();
    for lane in 1..=LANES {
        reads.push(ask(store, chat).await);
        while held(&client, home).await < lane {
            tokio::task::yield_now().await;
        }
    }
    reads
}

/// The name of the conversation that was read.
fn read_name(given: &[Event]) -> String {
    let [event] = given else { panic!("{given:?}") };
    let text = format!("{:?}", event.body);
    let (_, rest) = text.split_once("text: \"").unwrap();
    rest.split(['-', '"']).next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_waits_for_nobodys_journal() {
    let home = PgHome::default();
    let store = open(&home, Duration::from_secs(60)).await;
    let chats = written(&store, &["one", "two", "three"], 0).await;
    let holder = home.client().await;
    holder.batch_execute(HOLD).await.unwrap();
    let mut reads = fill(&store, &chats[0], &home).await;
    reads.push(ask(&store, &chats[0]).await);
    for chat in &chats {
        assert_eq!(store.load(&chat.key).await.unwrap(), Some(chat.loaded()));
    }
    assert!(reads.iter().all(|read| !read.is_finished()), "the journal is held all the while");
    holder.batch_execute("ROLLBACK").await.unwrap();
    for read in reads {
        assert_eq!(read_name(&read.await.unwrap().unwrap()), "one");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_fails_for_a_page_that_cannot_be_read() {
    let home = PgHome::default();
    let store = open(&home, Duration::from_secs(60)).await;
    let names = ["first", "one", "spoilt", "two", "three", "spoilt too", "four"];
    let chats = written(&store, &names, 0).await;
    let holder = home.client().await;
    let spoil = "UPDATE journal SET events = '\\x01ff' WHERE session_id IN
                 (SELECT id FROM sessions WHERE key LIKE '%spoilt%')";
    holder.batch_execute(spoil).await.unwrap();
    holder.batch_execute(HOLD).await.unwrap();
    fill(&store, &chats[0], &home).await;
    let mut reads = Vec::new();
    for chat in &chats {
        reads.push(ask(&store, chat).await);
    }
    holder.batch_execute("ROLLBACK").await.unwrap();
    for (name, read) in names.into_iter().zip(reads) {
        match read.await.unwrap() {
            Ok(given) => assert_eq!(read_name(&given), name),
            Err(error) => {
                assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
                assert!(name.starts_with("spoilt"), "{name}: {error}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_fails_for_a_page_that_takes_too_long() {
    let home = PgHome::default();
    let patient = open(&home, Duration::from_secs(60)).await;
    let chats = written(&patient, &["slow", "one", "two", "three", "four", "five"], 0).await;
    patient.close().await;
    let store = open(&home, Duration::from_secs(2)).await;
    // One page waits for somebody who has no end.
    let slow = home.client().await;
    slow.batch_execute(
        "ALTER TABLE journal RENAME TO entries;
         CREATE FUNCTION slowly(bytea) RETURNS bytea LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN $1; END';
         CREATE VIEW journal AS SELECT place, session_id, first_seq, last_seq,
            CASE WHEN session_id = (SELECT min(id) FROM sessions) THEN slowly(events)
                 ELSE events END AS events FROM entries;
         SELECT pg_advisory_lock(4711)",
    )
    .await
    .unwrap();
    // It takes every lane at first, so that what follows goes together.
    let names = ["slow", "slow", "slow", "one", "two", "three", "four", "slow", "five"];
    let mut reads = Vec::new();
    for name in names {
        let chat = chats.iter().find(|chat| chat.key.peer() == name).unwrap();
        reads.push(ask(&store, chat).await);
    }
    for (name, read) in names.into_iter().zip(reads) {
        match read.await.unwrap() {
            Ok(given) => assert_eq!(read_name(&given), name),
            Err(error) => {
                assert!(error.to_string().contains("statement timeout"), "{error}");
                assert_eq!(name, "slow", "{error}");
            }
        }
    }
}

/// Whose pages the server was asked for together, question by question.
fn questions(server: &Server) -> Vec<Vec<String>> {
    let log = std::fs::read_to_string(server.folder().join("server.log")).unwrap();
    let asked = log.split("FROM unnest($1::text[], $2").skip(1);
    let names = asked.map(|said| {
        let (_, said) = said.split_once("parameters: $1 = '{").unwrap();
        let keys = said.split_once('}').unwrap().0.split(',');
        keys.map(|key| key.rsplit_once(':').unwrap().1.to_owned()).collect()
    });
    names.filter(|names: &Vec<_>| names.len() > 1).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_has_an_end_and_leaves_out_who_gave_up() {
    let server = Server::start("-c log_statement=all");
    let home = PgHome::at(server.url());
    let store = open(&home, Duration::from_secs(60)).await;
    let small = written(&store, &["one", "gone", "two", "three"], 0).await;
    let large = written(&store, &["large", "larger"], 3_000_000).await;
    let nobody = Chat::new("nobody");
    let holder = home.client().await;
    holder.batch_execute(HOLD).await.unwrap();
    let mut reads = fill(&store, &small[0], &home).await;
    let gone = ask(&store, &small[1]).await;
    let nothing = ask(&store, &nobody).await;
    for chat in [&small[2], &large[0], &large[1], &small[3]] {
        reads.push(ask(&store, chat).await);
    }
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    holder.batch_execute("ROLLBACK").await.unwrap();
    let names = ["one", "one", "two", "large", "larger", "three"];
    for (name, read) in names.into_iter().zip(reads) {
        assert_eq!(read_name(&read.await.unwrap().unwrap()), name);
    }
    assert_eq!(nothing.await.unwrap(), Ok(vec![]));
    // What one question could not hold was asked for in the next one.
    let all = ["nobody", "two", "large", "larger", "three"].as_slice();
    assert_eq!(questions(&server), [all, &["larger", "three"]]);
}
