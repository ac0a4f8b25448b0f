//! Several nodes on one database: one order, one winner, and nothing from whoever was put out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::task::JoinSet;
use tokio_postgres::Client;
use turnkeep_core::ports::listeners::ListenerStore;
use turnkeep_core::ports::store::{CommitOutcome, Store, StoreError};
use turnkeep_core::{Epoch, Seq, Session, Version};
use turnkeep_stores::{PostgresSettings, PostgresStore};

use crate::fixture::{Chat, first_of, not_seen};
use crate::postgres_kit::PgHome;

/// The gate's lock, taken by hand.
pub(crate) const GATE: &str = "SELECT pg_advisory_xact_lock(1416983150,
    (('journal'::regclass)::oid::bigint & 2147483647)::int)";

/// Opens nodes of these names.
async fn nodes<const N: usize>(home: &PgHome, names: [&str; N]) -> [Arc<PostgresStore>; N] {
    let mut stores = Vec::new();
    for name in names {
        stores.push(Arc::new(home.open_as(name).await.unwrap()));
    }
    stores.try_into().unwrap()
}

/// Comes back once somebody of this schema waits for a lock of that kind.
pub(crate) async fn somebody_waits(client: &Client, kind: &str) {
    let sql = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
        WHERE NOT granted AND locktype = $1 AND application_name LIKE 'turnkeep-%'
        AND (locktype <> 'advisory'
          OR objid = (('journal'::regclass)::oid::bigint & 2147483647))";
    while client.query_one(sql, &[&kind]).await.unwrap().get::<_, i64>(0) == 0 {
        tokio::task::yield_now().await;
    }
}

/// Commits to a session that others write as well, until it went well so often.
async fn commit_shared(store: &PostgresStore, peer: &str, times: u32) {
    let mut done = 0;
    while done < times {
        let mut chat = Chat::new(peer);
        if let Some(loaded) = store.load(&chat.key).await.unwrap() {
            chat.version = loaded.version;
            chat.session = Session::clone(&loaded.session);
        }
        chat.note("shared");
        match store.commit(chat.draft()).await.unwrap() {
            CommitOutcome::Committed(version) => {
                assert_eq!(version, chat.version.next());
                done += 1;
            }
            CommitOutcome::Conflict => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Follows the journal until it is told that nothing more comes; how many rows there were.
async fn follow(store: &PostgresStore, over: &AtomicBool) -> u64 {
    let mut last = 0;
    loop {
        // Asked first: what comes after this answer is nobody's any more.
        let ends = over.load(Relaxed);
        let rows = store.journal_after(last, 100).await.unwrap();
        if rows.is_empty() && ends {
            return last;
        }
        for row in rows {
            assert_eq!(row.position, last + 1, "a place is missing or came late");
            assert!(row.content.is_ok(), "{:?}", row.content);
            last = row.position;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_skip_nothing_while_three_nodes_write() {
    const OWN: u32 = 20;
    const SHARED: u32 = 8;
    let home = PgHome::default();
    let stores = nodes(&home, ["a", "b", "c"]).await;
    let over = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for store in &stores {
        let (store, over) = (Arc::clone(store), Arc::clone(&over));
        readers.spawn(async move { follow(&store, &over).await });
    }
    let mut writers = JoinSet::new();
    for (node, store) in stores.iter().enumerate() {
        for number in 0..8 {
            let store = Arc::clone(store);
            writers.spawn(async move {
                let mut chat = Chat::new(&format!("{node} {number}"));
                for _ in 0..OWN {
                    chat.note("own");
                    chat.commit(&*store).await;
                }
                commit_shared(&store, &format!("shared {}", number % 4), SHARED).await;
            });
        }
    }
    writers.join_all().await;
    over.store(true, Relaxed);
    let commits = u64::from(3 * 8 * (OWN + SHARED));
    assert_eq!(readers.join_all().await, [commits; 3]);
    for number in 0..4 {
        let key = Chat::new(&format!("shared {number}")).key;
        let loaded = stores[0].load(&key).await.unwrap().unwrap();
        assert_eq!(loaded.version, Version(u64::from(3 * 2 * SHARED)));
    }
    let conflicts: u64 = stores.iter().map(|store| store.stats().conflicts).sum();
    let committed: u64 = stores.iter().map(|store| store.stats().commits).sum();
    assert_eq!(committed, commits, "{conflicts} conflicts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_undone_leaves_no_gap() {
    let home = PgHome::default();
    let [store] = nodes(&home, ["a"]).await;
    let client = home.client().await;
    // A commit that comes as far as the journal, and is refused there.
    client.batch_execute("ALTER TABLE journal ADD CHECK (last_seq <> 2)").await.unwrap();
    let mut chat = Chat::new("one");
    chat.note("1");
    chat.commit(&*store).await;
    let mut other = chat.clone();
    other.note("2");
    let refused = store.commit(other.draft()).await;
    assert!(matches!(refused, Err(StoreError::Corrupt(_))), "{refused:?}");
    assert_eq!(store.load(&chat.key).await.unwrap(), Some(chat.loaded()));
    let mut next = Chat::new("two");
    next.note("1");
    next.commit(&*store).await;
    let places = store.journal_after(0, 10).await.unwrap();
    assert_eq!(places.iter().map(|row| row.position).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((store.health(), store.stats().failures), (Ok(()), 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_with_one_version_one_commits() {
    let home = PgHome::default();
    let stores = nodes(&home, ["a", "b"]).await;
    let mut chat = Chat::new("one");
    for round in 0..20 {
        let mut racers = JoinSet::new();
        for store in &stores {
            let (store, mut chat) = (Arc::clone(store), chat.clone());
            chat.note(&format!("round {round}"));
            racers.spawn(async move { store.commit(chat.draft()).await.unwrap() });
        }
        let mut outcomes = racers.join_all().await;
        outcomes.sort_by_key(|outcome| *outcome == CommitOutcome::Conflict);
        let next = CommitOutcome::Committed(chat.version.next());
        assert_eq!(outcomes, [next, CommitOutcome::Conflict], "{round}");
        chat.version = chat.version.next();
        chat.session.last_seq = chat.session.last_seq.next();
    }
    assert_eq!(stores[0].events(&chat.key, Seq(0), 100).await.unwrap().len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_twins_on_two_nodes_one_commits() {
    let home = PgHome::default();
    let stores = nodes(&home, ["a", "b"]).await;
    for round in 0..20_u8 {
        let mut twins = JoinSet::new();
        for (node, store) in stores.iter().enumerate() {
            let store = Arc::clone(store);
            let mut chat = Chat::new(&format!("{node} {round}"));
            chat.note("a message");
            let first = first_of(&chat);
            chat.guard(not_seen(round, 1, &first));
            twins.spawn(async move { (store.commit(chat.draft()).await.unwrap(), first) });
        }
        let mut outcomes = twins.join_all().await;
        outcomes.sort_by_key(|(outcome, _)| *outcome != CommitOutcome::Committed(Version(1)));
        let [(committed, first), (refused, _)] = &outcomes[..] else { panic!("{outcomes:?}") };
        assert_eq!(*committed, CommitOutcome::Committed(Version(1)));
        let expect = CommitOutcome::Refused { guard: 0, first: Some((first.clone(), true)) };
        assert_eq!(*refused, expect, "{round}");
    }
    assert_eq!(stores[0].sessions(None, None, 100).await.unwrap().len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_of_an_older_epoch_is_refused() {
    let home = PgHome::default();
    let [store] = nodes(&home, ["a"]).await;
    let mut chat = Chat::new("one");
    chat.session.epoch = Epoch(5);
    chat.note("1");
    chat.commit(&*store).await;
    let mut older = chat.clone();
    older.session.epoch = Epoch(4);
    older.note("2");
    assert_eq!(store.commit(older.draft()).await.unwrap(), CommitOutcome::Conflict);
    assert_eq!(store.load(&chat.key).await.unwrap(), Some(chat.loaded()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_somebody_holds_disturbs_no_other() {
    let home = PgHome::default();
    // The neighbours wait for each other, too, and for the disk.
    let lock_timeout = std::time::Duration::from_secs(1);
    let settings = PostgresSettings { lock_timeout, ..home.settings("a") };
    let store = Arc::new(PostgresStore::open(settings).await.unwrap());
    let mut held = Chat::new("held");
    held.note("1");
    held.commit(&*store).await;
    let client = home.client().await;
    client.batch_execute("BEGIN; SELECT 1 FROM sessions FOR UPDATE").await.unwrap();
    let mut tasks = JoinSet::new();
    for number in 0..200 {
        let store = Arc::clone(&store);
        let mut chat = Chat::new(&format!("neighbour {number}"));
        if number == 77 {
            chat = held.clone();
        }
        chat.note("a message");
        tasks.spawn(async move { (number, store.commit(chat.draft()).await) });
    }
    for (number, outcome) in tasks.join_all().await {
        if number == 77 {
            assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
        } else {
            assert_eq!(outcome, Ok(CommitOutcome::Committed(Version(1))), "{number}");
        }
    }
    client.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!((store.health(), store.stats().failures), (Ok(()), 0));
    held.note("it goes on");
    held.commit(&*store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_at_fault_is_found_among_its_neighbours() {
    let home = PgHome::default();
    let [store] = nodes(&home, ["a"]).await;
    let client = home.client().await;
    client.batch_execute("ALTER TABLE journal ADD CHECK (first_seq <> 13)").await.unwrap();
    // All of them wait behind the first one's gate, so that they are one batch.
    client.batch_execute(&format!("BEGIN; {GATE}")).await.unwrap();
    let mut tasks = JoinSet::new();
    for number in 0..50 {
        let store = Arc::clone(&store);
        let mut chat = Chat::new(&format!("neighbour {number}"));
        if number == 31 {
            // The entry at fault stands in a row of its own.
            for _ in 0..12 {
                chat.note("before");
            }
        }
        tasks.spawn(async move {
            if number == 31 {
                chat.commit(&*store).await;
            }
            chat.note("a message");
            (number, store.commit(chat.draft()).await)
        });
    }
    let watcher = home.client().await;
    somebody_waits(&watcher, "advisory").await;
    client.batch_execute("ROLLBACK").await.unwrap();
    for (number, outcome) in tasks.join_all().await {
        if number == 31 {
            assert!(matches!(outcome, Err(StoreError::Corrupt(_))), "{outcome:?}");
        } else {
            assert_eq!(outcome, Ok(CommitOutcome::Committed(Version(1))), "{number}");
        }
    }
    assert_eq!((store.health(), store.stats().failures), (Ok(()), 0));
    assert_eq!(store.journal_end().await.unwrap(), 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_put_out_writes_nothing_any_more() {
    let home = PgHome::default();
    let [a, b] = nodes(&home, ["a", "b"]).await;
    let mut chat = Chat::new("one");
    chat.note("1");
    chat.commit(&*a).await;
    let client = home.client().await;
    let out = "UPDATE nodes SET gone_at = now(), gone_why = 'a test' WHERE name = 'a'";
    client.execute(out, &[]).await.unwrap();
    for peer in ["one", "two"] {
        let mut late = if peer == "one" { chat.clone() } else { Chat::new(peer) };
        late.guard(not_seen(1, 1, &first_of(&late)));
        late.note("late");
        let refused = a.commit(late.draft()).await;
        let Err(StoreError::Unavailable(why)) = refused else { panic!("{refused:?}") };
        assert!(why.contains("put out of the cluster"), "{why}");
    }
    let reason = a.health().unwrap_err();
    assert!(reason.contains("put out of the cluster"), "{reason}");
    assert_eq!(b.load(&chat.key).await.unwrap(), Some(chat.loaded()));
    assert_eq!(b.load(&Chat::new("two").key).await.unwrap(), None);
    // Not even what a guard remembers; and the others go on.
    chat.guard(not_seen(1, 1, &first_of(&chat)));
    chat.note("2");
    chat.commit(&*b).await;
    assert_eq!(b.health(), Ok(()));
    a.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_put_out_while_it_waits_writes_nothing() {
    let home = PgHome::default();
    let [a, b] = nodes(&home, ["a", "b"]).await;
    let mut chat = Chat::new("one");
    chat.note("1");
    chat.commit(&*a).await;
    // Everything of the commit is written but for the journal when its node is put out.
    let client = home.client().await;
    client.batch_execute(&format!("BEGIN; {GATE}")).await.unwrap();
    let mut late = chat.clone();
    late.note("late");
    let (store, draft) = (Arc::clone(&a), late.draft());
    let commit = tokio::spawn(async move { store.commit(draft).await });
    somebody_waits(&client, "advisory").await;
    let out = "UPDATE nodes SET gone_at = now(), gone_why = 'a test' WHERE name = 'a'; COMMIT";
    client.batch_execute(out).await.unwrap();
    let refused = commit.await.unwrap();
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert_eq!(b.load(&chat.key).await.unwrap(), Some(chat.loaded()));
    assert_eq!(b.events(&chat.key, Seq(0), 9).await.unwrap().len(), 1);
    chat.note("taken over");
    chat.commit(&*b).await;
}
