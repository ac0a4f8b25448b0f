//! What can come in the way of a backup or a restore: crashes, other files, other people, constant
//! writing, damage.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tempfile::TempDir;
use turnkeep_core::Seq;
use turnkeep_core::ports::care::{BackupError, BackupOrder, CareStore};
use turnkeep_core::ports::store::Store;
use turnkeep_stores::{
    RestoreError, RestoreOrder, Restored, SqliteOptions, SqliteReader, SqliteStore, backup, restore,
};

use crate::care::exchange;
use crate::child;
use crate::fixture::{Chat, key};

/// Four for each exchange.
const EVENTS: usize = 240;

fn open(dir: &Path) -> SqliteStore {
    SqliteStore::open(dir, SqliteOptions::default()).unwrap()
}

/// A folder with a used database that nobody has open, and a place for backups beside it.
struct Home(TempDir);

impl Home {
    async fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        fs::create_dir(home.place("")).unwrap();
        let store = open(&home.data());
        let mut chat = Chat::new("one");
        for number in 1..=EVENTS as u128 / 4 {
            exchange(&store, &mut chat, number, "words").await;
        }
        home
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn place(&self, name: &str) -> PathBuf {
        self.0.path().join("place").join(name)
    }

    /// What lies beside backups.
    fn names(&self) -> Vec<String> {
        names(&self.place(""))
    }

    fn back_up(&self, name: &str, replace: bool) -> Result<u64, BackupError> {
        self.back_up_while(name, replace, |_, _| true)
    }

    fn back_up_while(
        &self,
        name: &str,
        replace: bool,
        progress: impl FnMut(u64, u64) -> bool + Send + 'static,
    ) -> Result<u64, BackupError> {
        let order = BackupOrder { file: self.place(name), replace, progress: Box::new(progress) };
        backup(&self.data(), order)
    }

    fn restore(&self, name: &str, keep_as: Option<&str>) -> Result<Restored, RestoreError> {
        self.restore_while(name, keep_as, |_, _| true)
    }

    fn restore_while(
        &self,
        name: &str,
        keep_as: Option<&str>,
        progress: impl FnMut(u64, u64) -> bool + Send + 'static,
    ) -> Result<Restored, RestoreError> {
        restore(RestoreOrder {
            file: &self.place(name),
            dir: &self.data(),
            keep_as: keep_as.map(str::to_owned),
            progress: Box::new(progress),
        })
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    names
}

/// How many events of the session a file holds.
fn events(file: &Path) -> usize {
    let reader = SqliteReader::open_file(file).unwrap();
    assert_eq!(reader.findings().unwrap(), [] as [&str; 0]);
    reader.events(&key("one"), Seq(0), 10_000).unwrap().len()
}

#[tokio::test]
async fn what_a_crash_left_behind_is_used_again() {
    let home = Home::new().await;
    for left in ["copy.db.partial", "copy.db.partial-journal"] {
        fs::write(home.place(left), "half of something").unwrap();
    }
    home.back_up("copy.db", false).unwrap();
    assert_eq!(home.names(), ["copy.db"]);
    assert_eq!(events(&home.place("copy.db")), EVENTS);
}

#[tokio::test]
async fn a_crash_between_two_names_costs_no_backup() {
    let home = Home::new().await;
    home.back_up("copy.db", false).unwrap();
    // As if the process had ended after the file got its second name and before it lost the first.
    fs::hard_link(home.place("copy.db"), home.place("copy.db.partial")).unwrap();
    let stopped = home.back_up_while("copy.db", true, |_, _| false);
    assert_eq!(stopped, Err(BackupError::Stopped));
    assert_eq!(home.names(), ["copy.db"]);
    assert_eq!(events(&home.place("copy.db")), EVENTS);
}

#[tokio::test]
async fn two_never_write_the_same_file() {
    let home = Arc::new(Home::new().await);
    let (second, mut tried) = (Arc::clone(&home), None);
    let (told, hear) = std::sync::mpsc::channel();
    let first = home.back_up_while("copy.db", false, move |_, _| {
        let said = tried.get_or_insert_with(|| second.back_up("copy.db", true));
        told.send(said.clone()).is_ok()
    });
    first.unwrap();
    let refused = hear.recv().unwrap().unwrap_err().to_string();
    assert!(refused.contains("is being written by another one"), "{refused}");
    assert_eq!(events(&home.place("copy.db")), EVENTS);
}

#[tokio::test]
async fn names_that_would_do_harm_are_refused() {
    let home = Home::new().await;
    let check = |name: &str, why: &str| {
        let refused = home.back_up(name, true).unwrap_err();
        assert!(matches!(refused, BackupError::Unfit { .. }), "{refused}");
        assert!(refused.to_string().contains(why), "{refused}");
    };
    // SQLite would play these back into the copy.
    for log in ["copy.db-wal", "copy.db-journal"] {
        fs::write(home.place(log), "of an older copy").unwrap();
        check("copy.db", "would take");
        fs::remove_file(home.place(log)).unwrap();
    }
    // The data folder by another way.
    symlink(home.data(), home.place("way")).unwrap();
    check("way/turnkeep.db", "the server's own");
    check("way/turnkeep.db-wal", "the server's own");
    check("way", "it is a folder");
    // Somebody else's file under the name of the half copy.
    fs::write(home.place("precious"), "precious").unwrap();
    symlink(home.place("precious"), home.place("copy.db.partial")).unwrap();
    check("copy.db", "no plain file");
    assert_eq!(fs::read_to_string(home.place("precious")).unwrap(), "precious");
    check("precious/copy.db", "folder is not there");
}

#[test]
fn a_folder_without_a_database_has_no_backup() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("copy.db");
    let order = || BackupOrder {
        file: file.clone(),
        replace: false,
        progress: Box::new(|_: u64, _: u64| true),
    };
    let refused = backup(&dir.path().join("data"), order()).unwrap_err().to_string();
    assert!(refused.contains("there is no Turnkeep database"), "{refused}");
    fs::write(dir.path().join("turnkeep.db"), "something else, and rather long".repeat(40))
        .unwrap();
    let refused = backup(dir.path(), order()).unwrap_err().to_string();
    assert!(refused.contains("damaged"), "{refused}");
    assert!(!file.exists());
}

/// Commits without a pause, first in the one session and then in the other.
async fn write_on(store: &SqliteStore, until: &AtomicBool, written: &AtomicU64) {
    let (mut one, mut two) = (Chat::new("first"), Chat::new("second"));
    while !until.load(Ordering::SeqCst) {
        for chat in [&mut one, &mut two] {
            chat.note("words");
            chat.commit(store).await;
        }
        written.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_ends_under_constant_writing_and_is_of_one_moment() {
    let home = Home::new().await;
    let store = open(&home.data());
    let (over, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    // Each time it is asked, somebody has written since the last time.
    let (seen, mut last) = (Arc::clone(&written), 0);
    let progress = Box::new(move |_: u64, _: u64| {
        while seen.load(Ordering::SeqCst) == last {
            std::thread::yield_now();
        }
        last = seen.load(Ordering::SeqCst);
        true
    });
    let file = home.place("copy.db");
    let order = BackupOrder { file: file.clone(), replace: false, progress };
    let ((), done) = tokio::join!(write_on(&store, &over, &written), async {
        let done = store.backup(order).await;
        over.store(true, Ordering::SeqCst);
        done
    });
    done.unwrap();
    let copy = SqliteReader::open_file(&file).unwrap();
    let [one, two] =
        ["first", "second"].map(|name| copy.events(&key(name), Seq(0), 1_000_000).unwrap().len());
    assert!(one >= 1 && one - two <= 1, "{one} and {two}");
    assert!(written.load(Ordering::SeqCst) > two as u64, "nothing was written meanwhile");
    assert_eq!(events(&file), EVENTS);
}

#[tokio::test]
async fn a_log_alone_is_something_to_lose() {
    let home = Home::new().await;
    home.back_up("copy.db", false).unwrap();
    fs::remove_file(home.data().join("turnkeep.db")).unwrap();
    for log in ["turnkeep.db-wal", "turnkeep.db-journal"] {
        fs::write(home.data().join(log), "the newest commits").unwrap();
    }
    let refused = home.restore("copy.db", None).unwrap_err();
    assert!(matches!(refused, RestoreError::HoldsData { .. }), "{refused}");
    home.restore("copy.db", Some("old")).unwrap();
    assert_eq!(
        names(&home.data()),
        ["turnkeep.db", "turnkeep.db.old-journal", "turnkeep.db.old-wal", "turnkeep.lock"]
    );
    assert_eq!(events(&home.data().join("turnkeep.db")), EVENTS);
}

#[tokio::test]
async fn a_damaged_database_is_replaced_and_kept() {
    let home = Home::new().await;
    home.back_up("copy.db", false).unwrap();
    let (own, kept) = (home.data().join("turnkeep.db"), home.data().join("turnkeep.db.old"));
    fs::write(&own, "damaged beyond repair ".repeat(400)).unwrap();
    fs::write(home.data().join("turnkeep.db-wal"), "its log").unwrap();
    let done = home.restore("copy.db", Some("old")).unwrap();
    assert_eq!(done.kept.as_ref(), Some(&kept));
    assert!(fs::read_to_string(kept).unwrap().starts_with("damaged"));
    assert_eq!(open(&home.data()).events(&key("one"), Seq(0), 9000).await.unwrap().len(), EVENTS);
}

#[tokio::test]
async fn nothing_has_changed_after_a_restore_that_failed() {
    let home = Home::new().await;
    home.back_up("copy.db", false).unwrap();
    let whole = fs::read(home.place("copy.db")).unwrap();
    fs::write(home.place("short.db"), &whole[..whole.len() / 2]).unwrap();
    let mut bent = whole.clone();
    let page = bent.len() / 4096 / 2 * 4096;
    bent[page..page + 4096].fill(0x5a);
    fs::write(home.place("bent.db"), &bent).unwrap();
    fs::copy(home.place("copy.db"), home.place("copy.partial")).unwrap();
    // Every page can be read, and an index lacks a row that it should hold.
    fs::copy(home.place("copy.db"), home.place("index.db")).unwrap();
    let index = "PRAGMA writable_schema = ON; UPDATE sqlite_schema
                 SET sql = replace(sql, 'wake_at IS NOT NULL', 'wake_at IS NULL')
                 WHERE name = 'sessions_open'";
    rusqlite::Connection::open(home.place("index.db")).unwrap().execute_batch(index).unwrap();
    fs::write(home.data().join("turnkeep.db.taken"), "").unwrap();
    // Whoever only read leaves an empty log behind.
    let there = || {
        let mut names = names(&home.data());
        names.retain(|name| !name.ends_with("-wal") && !name.ends_with("-shm"));
        (names, fs::read(home.data().join("turnkeep.db")).unwrap())
    };
    let before = there();
    let check = |outcome: Result<Restored, RestoreError>, expect: &str| {
        let refused = outcome.unwrap_err().to_string();
        assert!(refused.contains(expect), "{refused}");
        let after = there();
        assert_eq!(after.0, before.0, "{expect}");
        assert!(after.1 == before.1, "{expect}: the database is another one");
    };
    check(home.restore("short.db", Some("old")), "damaged");
    check(home.restore("bent.db", Some("old")), "damaged");
    check(home.restore("index.db", Some("old")), "missing from index sessions_open");
    check(home.restore("copy.partial", Some("old")), "broken off");
    check(home.restore("copy.db", Some("taken")), "is there already");
    check(home.restore_while("copy.db", Some("old"), |_, _| false), "nothing has changed");
    // Stopped when all of it is there, and only its name is missing.
    let mut asked = 0;
    let late = home.restore_while("copy.db", Some("old"), move |done, of| {
        asked += usize::from(done == of);
        asked == 0
    });
    check(late, "nothing has changed");
}

#[tokio::test]
async fn a_start_removes_what_a_broken_restore_left() {
    let home = Home::new().await;
    for left in ["turnkeep.db.partial", "turnkeep.db.partial-journal"] {
        fs::write(home.data().join(left), "half of something").unwrap();
    }
    drop(open(&home.data()));
    assert_eq!(names(&home.data()), ["turnkeep.db", "turnkeep.lock"]);
}

#[tokio::test]
async fn who_reads_the_former_database_is_not_pulled_from_under() {
    let home = Home::new().await;
    home.back_up("copy.db", false).unwrap();
    let reader = SqliteReader::open(&home.data()).unwrap();
    let refused = reader.snapshot(|reader| {
        assert_eq!(reader.events(&key("one"), Seq(0), 9000).unwrap().len(), EVENTS);
        // The log holds more than the reader's moment, as after a kill.
        let writer = rusqlite::Connection::open(home.data().join("turnkeep.db")).unwrap();
        writer.execute("UPDATE meta SET value = 7 WHERE name = 'probe'", []).unwrap();
        home.restore("copy.db", Some("old")).unwrap_err()
    });
    let refused = refused.unwrap().to_string();
    assert!(refused.contains("another program reads"), "{refused}");
    assert!(!home.data().join("turnkeep.db.old").exists());
    home.restore("copy.db", Some("old")).unwrap();
}

#[tokio::test]
async fn the_folders_owner_gets_what_root_restored() {
    if !child::is_root() {
        return;
    }
    let home = Home::new().await;
    home.back_up("copy.db", false).unwrap();
    let owner = |name: &str| fs::metadata(home.data().join(name)).unwrap().uid();
    fs::remove_file(home.data().join("turnkeep.lock")).unwrap();
    chown(home.data(), Some(65_534), Some(65_534)).unwrap();
    home.restore("copy.db", Some("old")).unwrap();
    assert_eq!(["turnkeep.db", "turnkeep.lock"].map(owner), [65_534; 2]);
    assert_eq!(owner("turnkeep.db.old"), 0);
}
