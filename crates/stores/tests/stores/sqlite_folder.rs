//! The data folder: whose it is, who may read it, and what is refused with which words.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rusqlite::Connection;
use tempfile::TempDir;
use turnkeep_core::Seq;
use turnkeep_core::ports::store::{Store, StoreError};
use turnkeep_stores::{OpenError, SqliteOptions, SqliteStore};

use crate::child::{self, Running};
use crate::fixture::Chat;

fn open(dir: &Path) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(dir, SqliteOptions::default())
}

fn refusal(dir: &Path) -> OpenError {
    open(dir).map(drop).unwrap_err()
}

/// A folder with a database that was used and closed.
fn used() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    dir
}

fn tamper(dir: &Path, sql: &str) {
    Connection::open(dir.join("turnkeep.db")).unwrap().execute_batch(sql).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn only_its_owner_may_read_it() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("deep/data");
    let store = open(&dir).unwrap();
    let mut chat = Chat::new("one");
    chat.queue("secret");
    chat.commit(&store).await;
    store.load(&chat.key).await.unwrap();
    assert_eq!(mode(&dir), 0o700);
    let files = ["turnkeep.db", "turnkeep.db-wal", "turnkeep.db-shm", "turnkeep.lock"];
    assert_eq!(files.map(|file| mode(&dir.join(file))), [0o600; 4]);
    drop(store);
    // A backup that was restored with everybody's rights.
    fs::set_permissions(dir.join("turnkeep.db"), Permissions::from_mode(0o644)).unwrap();
    let _store = open(&dir).unwrap();
    assert_eq!(files.map(|file| mode(&dir.join(file))), [0o600; 4]);
}

#[test]
fn a_strict_umask_changes_nothing() {
    const NAME: &str = "sqlite_folder::a_strict_umask_changes_nothing";
    if let Some(dir) = child::told() {
        let store = open(Path::new(&dir)).unwrap();
        return drop(store);
    }
    let home = tempfile::tempdir().unwrap();
    for umask in ["0000", "0277"] {
        let dir = home.path().join(umask);
        let shell = format!("umask {umask}");
        let command = child::command_after(&shell, NAME, dir.to_str().unwrap());
        assert!(Running::start(command).end().success(), "{umask}");
        assert_eq!(mode(&dir), 0o700, "{umask}");
        assert_eq!(mode(&dir.join("turnkeep.db")), 0o600, "{umask}");
    }
}

#[test]
fn a_second_store_in_this_process_is_refused() {
    let dir = used();
    let _first = open(dir.path()).unwrap();
    let own = std::process::id();
    assert_eq!(
        refusal(dir.path()).to_string(),
        format!(
            "another Turnkeep (process {own}) uses {}: stop it, or give this one a --data-dir of \
             its own",
            dir.path().display()
        )
    );
}

#[test]
fn a_second_process_is_refused_until_the_first_has_ended() {
    const NAME: &str = "sqlite_folder::a_second_process_is_refused_until_the_first_has_ended";
    if let Some(dir) = child::told() {
        let _store = open(Path::new(&dir)).unwrap();
        child::say("open");
        return child::wait();
    }
    let dir = used();
    let mut other = Running::start(child::command(NAME, dir.path().to_str().unwrap()));
    assert_eq!(other.hear().as_deref(), Some("open"));
    let refused = refusal(dir.path());
    let process = other.id();
    assert!(
        matches!(refused, OpenError::InUse { process: Some(found), .. } if found == process),
        "{refused}"
    );
    other.go_on();
    assert!(other.end().success());
    open(dir.path()).unwrap();
}

#[test]
fn a_newer_database_is_refused_and_left_alone() {
    let dir = used();
    let database = Connection::open(dir.path().join("turnkeep.db")).unwrap();
    let own: i64 = database.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    drop(database);
    tamper(dir.path(), "PRAGMA user_version = 1000");
    let refused = refusal(dir.path());
    assert!(matches!(refused, OpenError::Newer { found: 1000, .. }), "{refused}");
    assert!(refused.to_string().ends_with("install the newer version again"), "{refused}");
    tamper(dir.path(), &format!("PRAGMA user_version = {own}"));
    open(dir.path()).unwrap();
}

#[test]
fn another_programs_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    tamper(dir.path(), "CREATE TABLE songs (name TEXT)");
    let refused = refusal(dir.path());
    assert!(matches!(refused, OpenError::Foreign { .. }), "{refused}");
    let dir = used();
    tamper(dir.path(), "PRAGMA application_id = 77");
    assert!(matches!(refusal(dir.path()), OpenError::Foreign { .. }));
}

#[test]
fn a_damaged_database_is_refused() {
    let check = |damage: fn(&mut Vec<u8>)| {
        let dir = used();
        let file = dir.path().join("turnkeep.db");
        let mut bytes = fs::read(&file).unwrap();
        damage(&mut bytes);
        fs::write(&file, bytes).unwrap();
        let refused = refusal(dir.path());
        assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused}");
        assert!(refused.to_string().contains("restore a backup"), "{refused}");
    };
    check(|bytes| bytes[..16].copy_from_slice(b"not a database!!"));
    check(|bytes| bytes[100..4096].fill(0xa5));
    check(|bytes| {
        *bytes = b"shopping list: milk, eggs, and a great deal of other things".repeat(20)
    });
}

#[tokio::test]
async fn damage_found_later_is_told_and_not_retried() {
    let dir = used();
    let mut chat = Chat::new("one");
    {
        let store = open(dir.path()).unwrap();
        chat.queue("kept");
        chat.commit(&store).await;
    }
    // Every page but the first, which is all that an open looks at beside the numbers in `meta`.
    let page = |name: &str| -> usize {
        let connection = Connection::open(dir.path().join("turnkeep.db")).unwrap();
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
        connection.query_row(sql, [name], |row| row.get::<_, i64>(0)).unwrap().cast_unsigned()
            as usize
    };
    let root = page("sqlite_autoindex_sessions_1");
    let file = dir.path().join("turnkeep.db");
    let mut bytes = fs::read(&file).unwrap();
    bytes[(root - 1) * 4096..root * 4096].fill(0xa5);
    fs::write(&file, bytes).unwrap();

    let store = open(dir.path()).unwrap();
    let loaded = store.load(&chat.key).await;
    assert!(matches!(loaded, Err(StoreError::Corrupt(_))), "{loaded:?}");
    let mut next = chat.clone();
    next.queue("never");
    let outcome = store.commit(next.draft()).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    let reason = store.health().unwrap_err();
    assert!(reason.contains("damaged") && reason.contains("restore a backup"), "{reason}");
    let outcome = store.commit(next.draft()).await;
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    store.close().await;
}

#[tokio::test]
async fn a_newer_snapshot_names_its_session() {
    let dir = used();
    let (mut chat, mut fine) = (Chat::new("one"), Chat::new("fine"));
    {
        let store = open(dir.path()).unwrap();
        for chat in [&mut chat, &mut fine] {
            chat.queue("a message");
            chat.commit(&store).await;
        }
    }
    tamper(
        dir.path(),
        "UPDATE sessions SET snapshot = CAST(x'09' || substr(snapshot, 2) AS BLOB)
         WHERE key LIKE '%:one'",
    );
    let store = open(dir.path()).unwrap();
    let expect = format!(
        "session {}: written in format 9 by a newer Turnkeep; this one knows up to 1",
        chat.key
    );
    assert_eq!(store.load(&chat.key).await, Err(StoreError::Corrupt(expect)));
    assert_eq!(store.load(&fine.key).await.unwrap(), Some(fine.loaded()));
    assert_eq!(store.health(), Ok(()));
}

#[tokio::test]
async fn a_hole_in_the_journal_is_found() {
    let dir = used();
    let mut chat = Chat::new("one");
    {
        let store = open(dir.path()).unwrap();
        for _ in 0..10 {
            chat.note("an event");
            chat.commit(&store).await;
        }
    }
    tamper(dir.path(), "DELETE FROM journal WHERE first_seq = 5");
    let store = open(dir.path()).unwrap();
    assert_eq!(store.events(&chat.key, Seq(5), 10).await.unwrap().len(), 5);
    let found = store.events(&chat.key, Seq(3), 10).await;
    assert!(matches!(&found, Err(StoreError::Corrupt(what)) if what.contains(chat.key.as_str())));
}

#[tokio::test]
async fn an_old_page_does_not_need_the_newer_journal() {
    let dir = used();
    let mut chat = Chat::new("one");
    {
        let store = open(dir.path()).unwrap();
        for _ in 0..200 {
            chat.note("an event");
            chat.commit(&store).await;
        }
    }
    // A reader that went back from the head, or from an index row too far on, would fall in here.
    tamper(dir.path(), "DELETE FROM journal WHERE first_seq > 64");
    let store = open(dir.path()).unwrap();
    for after in [0, 20, 31, 32, 50] {
        assert_eq!(store.events(&chat.key, Seq(after), 14).await.unwrap().len(), 14, "{after}");
    }
}

#[test]
fn a_folder_that_cant_be_written_to_is_refused() {
    const NAME: &str = "sqlite_folder::a_folder_that_cant_be_written_to_is_refused";
    if let Some(dir) = child::told() {
        let refused = refusal(Path::new(&dir));
        assert!(matches!(refused, OpenError::ReadOnly { .. }), "{refused:?}");
        return child::say(&refused.to_string());
    }
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
    let check = |dir: &Path| {
        let told = dir.to_str().unwrap();
        // The administrator may write anywhere, so a user without rights has to try.
        let command = if child::is_root() {
            child::command_as_nobody(home.path(), NAME, told)
        } else {
            child::command(NAME, told)
        };
        let mut other = Running::start(command);
        let said = other.hear();
        assert!(other.end().success(), "{}", dir.display());
        let expect = format!(
            "the data folder {} can't be written to: run as its owner, or choose another \
             --data-dir",
            dir.display()
        );
        assert_eq!(said, Some(expect));
    };
    let closed = home.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, Permissions::from_mode(0o555)).unwrap();
    check(&closed);
    check(&closed.join("new"));
}
