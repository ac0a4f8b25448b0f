//! Everything that a file holds moves into a database and back, and nobody can tell.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::types::Value;
use turnkeep_core::ports::care::{CareStore, Forgot};
use turnkeep_core::ports::listeners::ListenerStore;
use turnkeep_core::ports::store::{Store, TurnStatus};
use turnkeep_core::usage::Sums;
use turnkeep_core::{Epoch, Seq, SessionKey, TurnId};
use turnkeep_stores::{
    MoveError, MoveOrder, Moving, OpenError, PostgresError, SqliteOptions, SqliteStore, Way,
    undo_database, undo_folder,
};

use crate::care::{exchange, failure, order, sweep};
use crate::fixture::{Chat, DAY_MS, NOW, first_of, key, not_seen, part_row, turn_id, turn_row};
use crate::postgres_kit::PgHome;

/// A file, a database, and a folder for what comes back.
struct Homes {
    dir: tempfile::TempDir,
    database: PgHome,
}

impl Homes {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), database: PgHome::default() }
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn order(&self, way: Way, folder: &str) -> MoveOrder {
        let (dir, database) = (self.folder(folder), self.database.settings("nobody"));
        MoveOrder { way, dir, database, rows: 3, kill_point: None }
    }

    async fn moves(&self, way: Way, folder: &str) -> Result<u64, MoveError> {
        let mut moving = Moving::begin(self.order(way, folder)).await?;
        moving.copy(&mut |_| ()).await?;
        let rows = moving.compare(&mut |_| ()).await?;
        moving.finish().await?;
        Ok(rows)
    }
}

fn open(dir: &Path) -> SqliteStore {
    SqliteStore::open(dir, SqliteOptions::default()).unwrap()
}

/// Copies a folder's database that nobody has open.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    std::fs::copy(from.join("turnkeep.db"), to.join("turnkeep.db")).unwrap();
}

/// Sessions in every state that their rows can be in.
async fn live(dir: &Path) {
    let store = open(dir);
    let mut long = Chat::new("long");
    long.session.epoch = Epoch(7);
    // Ids that don't grow, as from another machine's clock.
    for number in (1..=12).rev() {
        exchange(&store, &mut long, 100 + number, "said\0and \u{1}done").await;
    }
    let sums = Sums { requests: 1, input_tokens: 5, unpriced: 1, ..Sums::default() };
    long.used(turn_id(101), "mo\0del", sums);
    long.guard(not_seen(1, 5, &first_of(&long)));
    long.commit(&store).await;
    for (name, step) in [("swept", Some(100)), ("half", Some(1)), ("whole", None)] {
        let mut chat = Chat::new(name);
        let first = first_turn(name);
        for number in 0..4 {
            exchange(&store, &mut chat, first + number, name).await;
        }
        failure(&store, &mut chat, first + 9, "dead").await;
        let forget = order(&store, &chat.key, Seq(10), None).await;
        assert!(matches!(store.forget(forget).await.unwrap(), Forgot::Done(_)));
        if let Some(rows) = step {
            assert_eq!(store.sweep(rows).await.unwrap().more, rows == 1, "{name}");
        }
    }
    let mut erased = Chat::new("erased");
    exchange(&store, &mut erased, 501, "name").await;
    let forget = order(&store, &erased.key, Seq(4), Some("a1")).await;
    assert!(matches!(store.forget(forget).await.unwrap(), Forgot::Done(_)));
    let mut open = Chat::new("open");
    open.session.epoch = Epoch(9);
    open.queue("waits");
    let fleeting = open.accept_fleeting("goes", Some(60)).seq;
    open.guard(not_seen(2, 6, &first_of(&long)));
    open.turn(turn_row(turn_id(601), TurnStatus::Processing));
    open.part(part_row(fleeting.0, 0, "a\0part"));
    open.wake_at = Some(NOW + 5);
    open.commit(&store).await;
    store.close().await;
}

/// The number of a session's first turn; every session has others.
fn first_turn(name: &str) -> u128 {
    name.bytes().map(u128::from).sum::<u128>() * 100
}

/// Every turn that there was.
fn all_turns() -> impl Iterator<Item = TurnId> {
    let forgotten = ["swept", "half", "whole"].map(first_turn);
    let forgotten = forgotten.into_iter().flat_map(|first| first..first + 10);
    (101..=112).chain([501, 601]).chain(forgotten).map(turn_id)
}

/// Rows beside the sessions: each column that may be without a value is once, and texts hold what
/// one of the stores can't.
fn beside(dir: &Path) {
    let file = Connection::open(dir.join("turnkeep.db")).unwrap();
    let run =
        |sql: &str| file.execute_batch(&sql.replace("'z'", "'z' || char(0, 1) || 'z'")).unwrap();
    run("INSERT INTO keys VALUES ('k1', x'01', NULL, 'send', NULL, 1, NULL, NULL),
                                 ('k2', x'02', 't', 'send,read', 'z', 1, 2, 3)");
    run("INSERT INTO sign_ins VALUES (x'01', 'code', 't', 'z', NULL, NULL, 1),
                                     (x'02', 'visit', 't', 'c', 'a', 'k2', 2)");
    run("INSERT INTO restrictions VALUES (4, 't', 'z', 'high', 'block', 1, 2, 'z', 'z', 3, 4, 'z'),
                                         (9, 't', 'c', 'low', 'rate', 1, NULL, '', NULL, NULL, NULL, NULL)");
    run("DELETE FROM restrictions WHERE id = 9");
    run("INSERT INTO pairings VALUES ('p1', 't', 'z', 'familiar', 1, 2, x'05', NULL, NULL, NULL),
                                     ('p2', 't', 'u', 'inner', 1, 2, NULL, 'signal', 'z', 3)");
    run("INSERT INTO listeners VALUES ('z', 5, 1)");
    run("INSERT INTO callbacks VALUES (3, 'z', 1, 1, 'turn.started', 1, 'dead', 2, NULL, 'z'),
                                      (7, 'z', 2, 1, 'turn.started', 1, 'pending', 2, 9, '')");
    run("INSERT INTO jobs VALUES ('t', 'z', '{}', 1, 2, 1), ('t', 'b', '{}', 1, 2, 0)");
    run("INSERT INTO ticks VALUES ('t', 'z', 1, 'done', 1, 2, 't:a:api:dm:one', 3, 'z'),
                                  ('t', 'z', 2, 'claimed', 1, NULL, NULL, NULL, NULL)");
    run("INSERT INTO switchboard_sessions VALUES ('t:a:api:dm:one', 't', 1, 'z', 1, 2, 3),
                                                 ('t:a:api:dm:two', 't', 2, NULL, 1, 2, 3)");
    run("INSERT INTO switchboard_seats VALUES ('t', 'z', NULL, '[]', 1), ('t', 's', 'k', '[]', 1)");
    run("INSERT INTO switchboard_counters VALUES ('t', 5)");
    let empty: Vec<String> =
        tables(&file).into_iter().filter(|table| count(&file, table) == 0).collect();
    assert_eq!(empty, Vec::<String>::new(), "tables of which this test says nothing");
}

fn tables(file: &Connection) -> Vec<String> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'
               AND name <> 'moving' ORDER BY name";
    let mut names = file.prepare(sql).unwrap();
    names.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn count(file: &Connection, table: &str) -> i64 {
    file.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

/// All rows of all tables, but for what leads to rows that are gone.
fn dump(dir: &Path) -> BTreeMap<String, Vec<Vec<Value>>> {
    let file = Connection::open(dir.join("turnkeep.db")).unwrap();
    // Where a sweep has been, the chain of turns is whole again; reads tell its order.
    let turns = "SELECT id, session_id, body FROM turns ORDER BY id";
    let journal = "SELECT id, session_id, first_seq, last_seq,
                     coalesce((SELECT p.id FROM journal p WHERE p.id = j.prev), 0), events
                   FROM journal j ORDER BY id";
    let sessions = "SELECT id, key, version, last_seq, snapshot, wake_at,
                      (SELECT t.id FROM turns t WHERE t.id = turn_head),
                      coalesce((SELECT j.id FROM journal j WHERE j.id = journal_head), 0)
                    FROM sessions ORDER BY id";
    let forgotten = "SELECT session_id, through_seq, body, unswept, (SELECT j.id FROM journal j
                       WHERE j.id = journal_rest), (SELECT t.id FROM turns t WHERE t.id = turn_rest)
                     FROM forgotten ORDER BY session_id";
    let own =
        [("turns", turns), ("journal", journal), ("sessions", sessions), ("forgotten", forgotten)];
    // What is indexed of rows that were cut is nobody's business.
    let all = tables(&file).into_iter().filter(|table| table != "meta" && table != "journal_index");
    let rows = |table: String| {
        let own = own.iter().find(|(name, _)| **name == table).map(|(_, sql)| (*sql).to_owned());
        let mut rows = file.prepare(&own.unwrap_or(format!("SELECT * FROM {table}"))).unwrap();
        let columns = rows.column_count();
        let row = |row: &rusqlite::Row<'_>| (0..columns).map(|at| row.get(at)).collect();
        let rows = rows.query_map([], row).unwrap().map(Result::unwrap).collect();
        (table, rows)
    };
    all.map(rows).collect()
}

/// Holds two stores against each other, by everything that can be read of them.
async fn same(
    one: &(impl Store + CareStore + ListenerStore),
    other: &(impl Store + CareStore + ListenerStore),
) {
    let sessions = one.sessions(None, None, 100).await.unwrap();
    assert_eq!(sessions, other.sessions(None, None, 100).await.unwrap());
    assert!(sessions.len() >= 6);
    for (key, _) in &sessions {
        same_session(one, other, key).await;
    }
    let open = one.open_work(NOW + DAY_MS, None, 100).await.unwrap();
    assert_eq!(open, other.open_work(NOW + DAY_MS, None, 100).await.unwrap());
    let letters = one.dead_letters(0, 100).await.unwrap();
    assert_eq!(letters, other.dead_letters(0, 100).await.unwrap());
    assert_eq!(one.salt().await.unwrap(), other.salt().await.unwrap());
    assert_eq!(one.journal_end().await.unwrap(), other.journal_end().await.unwrap());
}

async fn same_session(
    one: &(impl Store + CareStore),
    other: &(impl Store + CareStore),
    key: &SessionKey,
) {
    let events = one.events(key, Seq(0), 1000).await.unwrap();
    assert_eq!(events, other.events(key, Seq(0), 1000).await.unwrap(), "{key}");
    let turns = one.turns(key, None, 100).await.unwrap();
    assert_eq!(turns, other.turns(key, None, 100).await.unwrap(), "{key}");
    for id in all_turns() {
        let found = one.turn(id).await.unwrap();
        assert_eq!(found, other.turn(id).await.unwrap(), "{key} {id}");
    }
    let parts = one.parts(key, (Seq(0), 0), 100).await.unwrap();
    assert_eq!(parts, other.parts(key, (Seq(0), 0), 100).await.unwrap(), "{key}");
    let forgotten = format!("{:?}", one.forgotten(key).await.unwrap());
    assert_eq!(forgotten, format!("{:?}", other.forgotten(key).await.unwrap()), "{key}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_goes_into_a_database_and_comes_back() {
    let homes = Homes::new();
    let (here, before, back) = (homes.folder("here"), homes.folder("before"), homes.folder("back"));
    live(&here).await;
    beside(&here);
    copy(&here, &before);
    let rows = homes.moves(Way::ToDatabase, "here").await.unwrap();
    assert_eq!(homes.moves(Way::ToFolder, "back").await.unwrap(), rows);
    let (mut was, mut is) = (dump(&before), dump(&back));
    for table in tables(&Connection::open(before.join("turnkeep.db")).unwrap()) {
        assert!(is.remove(&table) == was.remove(&table), "{table} came back otherwise");
    }
    let (one, two) = (open(&before), open(&back));
    assert!(two.epoch() > Epoch(9) && two.epoch() >= one.epoch(), "greater than any session's");
    same(&one, &two).await;
    undo_database(homes.database.settings("nobody")).await.unwrap();
    let three = homes.database.open_as("server").await.unwrap();
    assert!(three.epoch() > Epoch(9));
    same(&one, &three).await;
    // What was half removed is removed to its end, and everybody goes on from there.
    sweep(&one, 2).await;
    sweep(&two, 2).await;
    sweep(&three, 2).await;
    same(&one, &two).await;
    same(&one, &three).await;
    for peer in ["whole", "half", "swept", "long"] {
        let mut chat = Chat::new(peer);
        let loaded = one.load(&key(peer)).await.unwrap().unwrap();
        (chat.version, chat.session) = (loaded.version, (*loaded.session).clone());
        let mut twins = (chat.clone(), chat.clone());
        let number = 700 + u128::from(peer.as_bytes()[0]);
        exchange(&one, &mut chat, number, "on").await;
        exchange(&two, &mut twins.0, number, "on").await;
        exchange(&three, &mut twins.1, number, "on").await;
        failure(&one, &mut chat, number + 20_000, "dead").await;
        failure(&two, &mut twins.0, number + 20_000, "dead").await;
        failure(&three, &mut twins.1, number + 20_000, "dead").await;
    }
    same(&one, &two).await;
    same(&one, &three).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_that_were_given_out_are_not_given_out_again() {
    let homes = Homes::new();
    let here = homes.folder("here");
    live(&here).await;
    beside(&here);
    let file = Connection::open(here.join("turnkeep.db")).unwrap();
    // The epoch of a database that drew many.
    file.execute_batch("UPDATE meta SET value = 4611686018427387904 WHERE name = 'epoch'").unwrap();
    drop(file);
    homes.moves(Way::ToDatabase, "here").await.unwrap();
    let client = homes.database.client().await;
    let number = async |sql: &str| client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
    let next = |table: &str| format!("SELECT nextval(pg_get_serial_sequence('{table}', 'id'))");
    assert_eq!(number(&next("restrictions")).await, 10, "the last one's row is gone");
    assert_eq!(number(&next("callbacks")).await, 8);
    let sessions = number("SELECT max(id) FROM sessions").await;
    assert_eq!(number(&next("sessions")).await, sessions + 1);
    let epoch = number("SELECT value FROM meta WHERE name = 'epoch'").await;
    assert!((9..100).contains(&epoch), "of a session only what names a node counts: {epoch}");
    // Whoever takes sessions over there makes epochs that are more than a node's number.
    client.batch_execute("UPDATE sessions SET epoch = 268435456 * 3 + 12").await.unwrap();
    homes.moves(Way::ToFolder, "back").await.unwrap();
    let file = Connection::open(homes.folder("back").join("turnkeep.db")).unwrap();
    let number = |sql: &str| file.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(number("SELECT value FROM meta WHERE name = 'epoch'"), 268_435_456 * 3 + 12);
    assert_eq!(number("SELECT seq FROM sqlite_sequence WHERE name = 'restrictions'"), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_moves_is_nobodys() {
    let homes = Homes::new();
    let here = homes.folder("here");
    live(&here).await;
    let mut moving = Moving::begin(homes.order(Way::ToDatabase, "here")).await.unwrap();
    assert!(matches!(
        SqliteStore::open(&here, SqliteOptions::default()),
        Err(OpenError::InUse { .. })
    ));
    let refused = homes.database.open_as("server").await.unwrap_err();
    assert!(matches!(refused, PostgresError::Moving { .. }), "{refused}");
    moving.copy(&mut |_| ()).await.unwrap();
    // A row that came in otherwise.
    let client = homes.database.client().await;
    let spoil = "UPDATE parts SET said = said || '!' WHERE part = 0";
    assert!(client.execute(spoil, &[]).await.unwrap() > 0);
    let differs = moving.compare(&mut |_| ()).await.unwrap_err();
    assert!(matches!(differs, MoveError::Differs { table: "parts", .. }), "{differs}");
    moving.leave().await.unwrap();
    let refused = SqliteStore::open(&here, SqliteOptions::default()).unwrap_err();
    assert!(matches!(refused, OpenError::Moving { .. }), "{refused}");
    let mark = undo_folder(&here).await.unwrap();
    assert!(mark.other.contains("the schema "), "{}", mark.other);
    drop(open(&here));
    assert!(matches!(undo_folder(&here).await, Err(MoveError::NotMoving { .. })));
    // The target knows only half of what became of it.
    let settings = homes.database.settings("nobody");
    assert!(matches!(undo_database(settings).await, Err(MoveError::Marked { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_knows_how_to_move_stays_where_it_is() {
    let homes = Homes::new();
    let here = homes.folder("here");
    live(&here).await;
    drop(homes.database.open_as("server").await.unwrap());
    let client = homes.database.client().await;
    client.batch_execute("ALTER TABLE ticks ADD COLUMN mood text").await.unwrap();
    let unknown = homes.moves(Way::ToDatabase, "here").await.unwrap_err();
    let MoveError::Unknown { what, .. } = &unknown else { panic!("{unknown}") };
    assert_eq!(what, "ticks.mood");
    client.batch_execute("ALTER TABLE ticks DROP COLUMN mood").await.unwrap();
    client.batch_execute("INSERT INTO meta VALUES ('tides', 3)").await.unwrap();
    let unknown = homes.moves(Way::ToDatabase, "here").await.unwrap_err();
    let MoveError::Unknown { what, .. } = &unknown else { panic!("{unknown}") };
    assert_eq!(what, "meta.tides");
}
