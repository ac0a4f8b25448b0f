//! What only a database can get wrong in forgetting: rows that stay behind, places that come
//! again, several who do it at once, and whoever still reads what is to be cleaned.

use tokio_postgres::Client;
use turnkeep_core::Seq;
use turnkeep_core::ports::care::{BackupError, BackupOrder, CareStore, Forgot, Redaction, Swept};
use turnkeep_core::ports::listeners::ListenerStore;
use turnkeep_core::ports::store::Store;
use turnkeep_core::ports::switchboard::{BoardChange, KeptRow, SwitchboardStore, Written};
use turnkeep_core::usage::Sums;

use crate::care::{exchange, failure, order, sweep};
use crate::fixture::{Chat, NOW, first_of, not_seen, turn_id};
use crate::postgres_kit::PgHome;

async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

/// The tables with a row that holds these words, as text or as bytes.
async fn holds(client: &Client, words: &str) -> Vec<String> {
    let sql = "SELECT table_name::text FROM information_schema.tables
               WHERE table_schema = current_schema() ORDER BY 1";
    let bytes: String = words.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut found = Vec::new();
    for table in client.query(sql, &[]).await.unwrap() {
        let table: String = table.get(0);
        let sql = format!(
            "SELECT count(*) FROM {table} t WHERE position($1 IN t::text) > 0
                           OR position($2 IN t::text) > 0"
        );
        let rows: i64 = client.query_one(&sql, &[&words, &bytes]).await.unwrap().get(0);
        if rows > 0 {
            found.push(table);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_what_was_erased_stays_in_the_tables() {
    let home = PgHome::default();
    let store = home.open_as("a").await.unwrap();
    let (mut chat, mut other) = (Chat::new("anna-unmistakable"), Chat::new("bob"));
    for place in 1..=4 {
        exchange(&store, &mut chat, place, "unmistakable secret").await;
        exchange(&store, &mut other, 100 + place, "harmless words").await;
        failure(&store, &mut chat, 50 + place, "unmistakable letter").await;
    }
    chat.accept_fleeting("unmistakable, and not for long", Some(5));
    let first = first_of(&chat);
    chat.used(turn_id(1), "m", Sums::default());
    chat.commit(&store).await;
    other.guard(not_seen(8, 1, &first));
    other.commit(&store).await;
    let key = chat.key.clone();
    let name = Some("an unmistakable name".into());
    let row = KeptRow { key, number: 7, name, created_at: NOW, touched_at: NOW, read_seq: Seq(2) };
    let board = BoardChange { tenant: "tenant".into(), rows: vec![row], ..BoardChange::default() };
    assert_eq!(store.write_board(board).await, Ok(Written::Done));
    let client = home.client().await;
    let before = holds(&client, "unmistakable").await;
    let expect = [
        "dead_letters",
        "journal",
        "parts",
        "seen",
        "sessions",
        "switchboard_sessions",
        "usage_days",
    ];
    assert_eq!(before, expect);
    let erase = order(&store, &chat.key, chat.session.last_seq, Some("x")).await;
    assert_eq!(store.forget(erase).await.unwrap(), Forgot::Done(4));
    sweep(&store, 7).await;
    assert_eq!(holds(&client, "unmistakable").await, [] as [&str; 0]);
    assert_eq!(holds(&client, "harmless words").await, ["journal", "parts"]);
    let sql = "SELECT count(*) FROM turns JOIN usage_turns ON turn = id";
    assert_eq!(
        (number(&client, sql).await, number(&client, "SELECT count(*) FROM disappearing").await),
        (0, 0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_of_the_journal_never_comes_again() {
    let home = PgHome::default();
    let store = home.open_as("a").await.unwrap();
    let mut chat = Chat::new("one");
    exchange(&store, &mut chat, 1, "words").await;
    let end = store.journal_end().await.unwrap();
    let forget = order(&store, &chat.key, Seq(4), None).await;
    store.forget(forget).await.unwrap();
    sweep(&store, 2).await;
    assert_eq!(number(&home.client().await, "SELECT count(*) FROM journal").await, 0);
    assert_eq!(store.journal_end().await.unwrap(), end);
    drop(store);
    let store = home.open_as("b").await.unwrap();
    exchange(&store, &mut chat, 2, "more words").await;
    let rows = store.journal_after(0, 100).await.unwrap();
    let positions: Vec<u64> = rows.iter().map(|row| row.position).collect();
    assert_eq!(positions, (end + 1..=end + 4).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_goes_on_wherever_it_was_left() {
    let home = PgHome::default();
    let store = home.open_as("a").await.unwrap();
    let mut chat = Chat::new("one");
    for place in 1..=20 {
        exchange(&store, &mut chat, place, "words").await;
    }
    let forget = order(&store, &chat.key, Seq(70), None).await;
    store.forget(forget).await.unwrap();
    assert!(store.sweep(11).await.unwrap().more);
    // The next step of forgetting waits for the rows of this one.
    let more = order(&store, &chat.key, Seq(71), None).await;
    assert_eq!(store.forget(more.clone()).await.unwrap(), Forgot::Unswept);
    drop(store);
    let store = home.open_as("b").await.unwrap();
    // 17 turns and parts, 70 rows of the journal, less what was done before.
    assert_eq!(sweep(&store, 30).await, 17 + 17 + 70 - 11);
    assert_eq!(store.forget(more).await.unwrap(), Forgot::Done(0));
    sweep(&store, 1000).await;
    let client = home.client().await;
    let mut left = Vec::new();
    for table in ["journal", "turns", "parts"] {
        left.push(number(&client, &format!("SELECT count(*) FROM {table}")).await);
    }
    assert_eq!(left, [9, 3, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sweeps_is_in_nobodys_way() {
    let home = PgHome::default();
    let store = home.open_as("a").await.unwrap();
    let mut chats = [Chat::new("one"), Chat::new("two")];
    for (place, chat) in (1..).zip(&mut chats) {
        exchange(&store, chat, place, "words").await;
        let forget = order(&store, &chat.key, Seq(4), None).await;
        store.forget(forget).await.unwrap();
    }
    // Somebody else is at the first one.
    let mut client = home.client().await;
    let held = client.transaction().await.unwrap();
    let sql = "SELECT session_id FROM forgotten ORDER BY session_id LIMIT 1 FOR UPDATE";
    held.query_one(sql, &[]).await.unwrap();
    assert_eq!(store.sweep(100).await.unwrap(), Swept { rows: 6, more: true });
    assert_eq!(store.sweep(100).await.unwrap(), Swept::default());
    held.rollback().await.unwrap();
    assert_eq!(store.sweep(100).await.unwrap(), Swept { rows: 6, more: false });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_forgets_waits_for_who_commits() {
    let home = PgHome::default();
    let store = home.open_as(&home.schema).await.unwrap();
    let mut chat = Chat::new("one");
    exchange(&store, &mut chat, 1, "words").await;
    let forget = order(&store, &chat.key, Seq(4), None).await;
    // Somebody is at the session, and moves it on before they are done.
    let mut client = home.client().await;
    let held = client.transaction().await.unwrap();
    held.batch_execute("UPDATE sessions SET version = version + 1").await.unwrap();
    let mut forgot = store.forget(forget);
    tokio::select! {
        biased;
        done = &mut forgot => panic!("{done:?}"),
        () = somebody_waits(&home) => {}
    }
    held.commit().await.unwrap();
    assert_eq!(forgot.await.unwrap(), Forgot::Changed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_forgotten_under_a_reader_is_gone_and_not_missing() {
    let home = PgHome::default();
    let store = home.open_as(&home.schema).await.unwrap();
    let mut chat = Chat::new("one");
    exchange(&store, &mut chat, 1, "words").await;
    // The reader has the turn already, and waits for its reply, which goes meanwhile.
    let mut client = home.client().await;
    let held = client.transaction().await.unwrap();
    held.batch_execute("LOCK TABLE journal IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut read = store.turn(turn_id(1));
    tokio::select! {
        biased;
        turn = &mut read => panic!("{turn:?}"),
        () = somebody_waits(&home) => {}
    }
    let gone = "DELETE FROM journal;
                INSERT INTO forgotten SELECT id, last_seq, NULL, '', false FROM sessions";
    held.batch_execute(gone).await.unwrap();
    held.commit().await.unwrap();
    assert_eq!(read.await.unwrap(), None);
}

/// Returns once a statement of this home's only node waits for a lock.
async fn somebody_waits(home: &PgHome) {
    let client = home.client().await;
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity
         WHERE application_name = 'turnkeep-{}' AND wait_event_type = 'Lock'",
        home.schema
    );
    while number(&client, &sql).await == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrub_waits_for_whoever_still_sees_it() {
    let home = PgHome::default();
    let store = home.open_as(&home.schema).await.unwrap();
    let mut chat = Chat::new("one");
    exchange(&store, &mut chat, 1, "a secret").await;
    let mut client = home.client().await;
    let begin =
        client.build_transaction().isolation_level(tokio_postgres::IsolationLevel::RepeatableRead);
    let reader = begin.start().await.unwrap();
    let rows = reader.query("SELECT events FROM journal", &[]).await.unwrap();
    assert_eq!(rows.len(), 4);
    let redaction = Redaction { key: chat.key.clone(), places: vec![Seq(1)], turns: Vec::new() };
    store.redact(redaction).await.unwrap();
    let mut scrub = store.scrub();
    // Commits get through while it waits.
    tokio::select! {
        biased;
        done = &mut scrub => panic!("{done:?}"),
        () = asked_again(&home) => {}
    }
    exchange(&store, &mut chat, 2, "in between").await;
    assert!(store.is_unscrubbed().await.unwrap());
    reader.rollback().await.unwrap();
    assert!(scrub.await.unwrap());
    assert!(!store.is_unscrubbed().await.unwrap());
    assert!(number(&client, CLEANED).await > 0);
}

const CLEANED: &str = "SELECT pg_stat_get_vacuum_count('journal'::regclass)";

/// Returns once a scrub of this home's only node has looked three times whether it may begin.
async fn asked_again(home: &PgHome) {
    let client = home.client().await;
    let sql = format!(
        "SELECT query_start::text FROM pg_stat_activity
         WHERE application_name = 'turnkeep-{}' AND query LIKE '%pg_prepared_xacts%'",
        home.schema
    );
    let mut times = std::collections::BTreeSet::new();
    while times.len() < 3 {
        let rows = client.query(&sql, &[]).await.unwrap();
        times.extend(rows.iter().map(|row| row.get::<_, String>(0)));
        assert_eq!(number(&client, CLEANED).await, 0, "somebody still sees it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_is_backed_up_by_its_own_tools() {
    let home = PgHome::default();
    let store = home.open_as("a").await.unwrap();
    let progress = Box::new(|_, _| true);
    let order = BackupOrder { file: "/nowhere/copy.db".into(), replace: false, progress };
    assert_eq!(store.backup(order).await.unwrap_err(), BackupError::NoFile);
    let salt = store.salt().await.unwrap();
    drop(store);
    let again = home.open_as("b").await.unwrap();
    assert_eq!((again.salt().await.unwrap(), salt.len()), (salt, 32));
}
