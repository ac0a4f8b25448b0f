//! Taking possession of a data folder, and everything that can stand in the way.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use turnkeep_core::Epoch;

use super::schema;
use super::trouble::Trouble;
use crate::moving::mark::{self, Mark};

/// The database's file in the data folder.
pub(super) const DATABASE: &str = "turnkeep.db";
/// Locked for as long as a process uses the folder; holds its number for the others to name.
const LOCK: &str = "turnkeep.lock";
/// The first SQLite without the corruption that a reset of the log could cause.
const SQLITE_VERSION_MIN: i32 = 3_051_003;
/// Statements that one connection keeps prepared; more than there are.
const STATEMENTS_MAX: usize = 64;
/// How long a connection waits for another program's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a file that holds nothing is no backup.
pub(super) const EMPTY: &str = "is empty: it is no backup";

/// Why a data folder can't be opened, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "another Turnkeep{} uses {}: stop it, or give this one a --data-dir of its own",
        process.map_or(String::new(), |process| format!(" (process {process})")),
        dir.display()
    )]
    InUse {
        /// The data folder.
        dir: PathBuf,
        /// Which process, where that could be read.
        process: Option<u32>,
    },
    /// It can't be written to.
    #[error(
        "the data folder {} can't be written to: run as its owner, or choose another --data-dir",
        dir.display()
    )]
    ReadOnly {
        /// The data folder.
        dir: PathBuf,
    },
    /// The disk has no room left.
    #[error("the disk that holds {} is full: free some space and start again", dir.display())]
    Full {
        /// The data folder.
        dir: PathBuf,
    },
    /// The database is damaged.
    #[error(
        "the database {} is damaged ({detail}): restore a backup, or move the file away to begin \
         anew",
        file.display()
    )]
    Corrupt {
        /// The database.
        file: PathBuf,
        /// What SQLite says.
        detail: String,
    },
    /// The database was written by a newer version.
    #[error(
        "the database {} has format {found}, this Turnkeep knows up to {known}: install the newer \
         version again",
        file.display()
    )]
    Newer {
        /// The database.
        file: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this program knows.
        known: u32,
    },
    /// The file is another program's database.
    #[error("{} is another program's database: choose another --data-dir", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
    },
    /// A single file, like a backup, can't be used.
    #[error("{} {why}", file.display())]
    Unfit {
        /// Which.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// There is no database to read.
    #[error("there is no Turnkeep database in {}: check --data-dir", dir.display())]
    Missing {
        /// The data folder.
        dir: PathBuf,
    },
    /// What it holds moves to another store, or has moved, or comes from one.
    #[error("what {} holds {mark}", dir.display())]
    Moving {
        /// The data folder.
        dir: PathBuf,
        /// How.
        mark: Mark,
    },
    /// Anything else.
    #[error("the data folder {} can't be opened: {detail}", dir.display())]
    Other {
        /// The data folder.
        dir: PathBuf,
        /// What the system says.
        detail: String,
    },
}

/// The folder, ours until this is dropped.
#[derive(Debug)]
pub struct Folder {
    pub(super) dir: PathBuf,
    lock: File,
}

impl Folder {
    /// Leaves nothing in it that its owner can't open; says whose it is.
    pub(super) fn hand_over(&self) -> io::Result<fs::Metadata> {
        let folder = fs::metadata(&self.dir)?;
        belong_to(&self.lock, &folder)?;
        Ok(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Closing is not enough: a process that was just forked holds the file until it execs.
        // Where this fails, that moment is all that stands between us and the next owner.
        drop(self.lock.unlock());
    }
}

/// Creates the folder if need be and takes its lock.
pub fn take_folder(dir: &Path) -> Result<Folder, OpenError> {
    let io = |error| io_error(dir, &error);
    if !dir.exists() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
        // What the process's umask made of that is not what was asked for.
        fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(io)?;
    }
    let mut lock = open_private(&dir.join(LOCK)).map_err(io)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let process = lock.read_to_string(&mut text).ok();
            let process = process.and_then(|_| text.trim().parse().ok());
            return Err(OpenError::InUse { dir: dir.into(), process });
        }
        Err(TryLockError::Error(error)) => return Err(io(error)),
    }
    lock.set_len(0).map_err(io)?;
    lock.seek(SeekFrom::Start(0)).map_err(io)?;
    lock.write_all(format!("{}\n", std::process::id()).as_bytes()).map_err(io)?;
    Ok(Folder { dir: dir.into(), lock })
}

/// Opens the database for the first time in this process: creates or migrates it, draws an epoch.
pub(super) fn open_database(dir: &Path) -> Result<(Connection, Epoch), OpenError> {
    let connection = current_database(dir)?;
    let sqlite = |error: rusqlite::Error| sqlite_error(&dir.join(DATABASE), error.into());
    if let Some(mark) = Mark::read(&moving_notes(&connection).map_err(sqlite)?) {
        return Err(OpenError::Moving { dir: dir.into(), mark });
    }
    let epoch = draw_epoch(&connection).map_err(sqlite)?;
    Ok((connection, epoch))
}

/// What the database says of a move; nothing where it never was in one.
pub(super) fn moving_notes(connection: &Connection) -> rusqlite::Result<BTreeMap<String, String>> {
    let there = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1)";
    if !connection.query_row(there, [mark::TABLE], |row| row.get(0))? {
        return Ok(BTreeMap::new());
    }
    let mut notes = connection.prepare("SELECT name, value FROM moving")?;
    let notes = notes.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    notes.collect()
}

/// The database with the tables of today; nothing says yet that it is used.
pub(super) fn current_database(dir: &Path) -> Result<Connection, OpenError> {
    assert!(rusqlite::version_number() >= SQLITE_VERSION_MIN, "SQLite is too old");
    let file = dir.join(DATABASE);
    let io = |error| io_error(dir, &error);
    // Made before SQLite opens it, because the log beside it gets the same mode.
    let created = !file.exists();
    drop(open_private(&file).map_err(io)?);
    if created {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)?;
    }
    let sqlite = |error| sqlite_error(&file, error);
    let connection = connect_writer(dir).map_err(sqlite)?;
    let found = check_identity(&connection, &file)?;
    schema::migrate(&connection, found).map_err(|error| sqlite(error.into()))?;
    Ok(connection)
}

/// A connection that writes. No checkpoint ever happens inside a commit.
pub(super) fn connect_writer(dir: &Path) -> Result<Connection, Trouble> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(dir.join(DATABASE), flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.execute_batch("PRAGMA page_size = 4096; PRAGMA temp_store = MEMORY;")?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(Trouble::Corrupt(format!(
            "the file system gives no shared memory, so the journal mode is {mode}"
        )));
    }
    connection.execute_batch(
        "PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA secure_delete = ON;
         PRAGMA journal_size_limit = 268435456;
         PRAGMA cache_size = -65536;",
    )?;
    Ok(connection)
}

/// A connection that only reads; it works beside a running server and after a crash.
pub(super) fn connect_reader(dir: &Path) -> Result<Connection, Trouble> {
    connect_file(&dir.join(DATABASE))
}

fn connect_file(file: &Path) -> Result<Connection, Trouble> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.execute_batch(
        "PRAGMA query_only = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8192;",
    )?;
    Ok(connection)
}

/// Opens a folder that another process may be using, to read.
pub(super) fn open_to_read(dir: &Path) -> Result<Connection, OpenError> {
    let file = dir.join(DATABASE);
    if !is_there(&file)? {
        return Err(OpenError::Missing { dir: dir.into() });
    }
    match open_alone(&file)? {
        (_, 0) => Err(OpenError::Missing { dir: dir.into() }),
        (_, found) if found < schema::VERSION => Err(OpenError::Other {
            dir: dir.into(),
            detail: "its database is of an older format: start the server once".into(),
        }),
        (connection, _) => unless_half_moved(connection, &file),
    }
}

/// Opens any one file, like a backup, to read.
pub(super) fn open_file_to_read(file: &Path) -> Result<Connection, OpenError> {
    let unfit = |why: String| OpenError::Unfit { file: file.into(), why };
    check_file(file).map_err(unfit)?;
    match open_alone(file).map_err(|error| unfit(why_unfit(error)))? {
        (_, 0) => Err(unfit(EMPTY.into())),
        (_, found) if found < schema::VERSION => Err(unfit(
            "is of an older format: restore it into a folder of its own and start a server there \
             once"
                .into(),
        )),
        (connection, _) => unless_half_moved(connection, file),
    }
}

fn unless_half_moved(connection: Connection, file: &Path) -> Result<Connection, OpenError> {
    let notes = moving_notes(&connection);
    let notes = notes.map_err(|error| sqlite_error(file, error.into()))?;
    match Mark::read(&notes).filter(Mark::is_half) {
        Some(mark) => Err(OpenError::Moving { dir: file.parent().unwrap_or(file).into(), mark }),
        None => Ok(connection),
    }
}

/// Whether it is there; who may not look can't know.
pub(super) fn is_there(file: &Path) -> Result<bool, OpenError> {
    file.try_exists().map_err(|error| unopened(file, &error))
}

fn unopened(file: &Path, error: &io::Error) -> OpenError {
    OpenError::Other { dir: file.parent().unwrap_or(file).into(), detail: error.to_string() }
}

/// Whether it can be a backup at all; else why not, as the end of a sentence about it.
pub(super) fn check_file(file: &Path) -> Result<(), String> {
    match fs::metadata(file) {
        Ok(found) if found.is_file() => Ok(()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Err(format!("can't be read: {error}"))
        }
        Ok(_) | Err(_) => Err("is not there, or is no file".into()),
    }
}

/// Why a single file can't be used, as the end of a sentence about it.
pub(super) fn why_unfit(error: OpenError) -> String {
    match error {
        OpenError::Missing { .. } => EMPTY.into(),
        OpenError::Foreign { .. } => "is another program's database, no backup of Turnkeep".into(),
        OpenError::Newer { found, known, .. } => {
            format!(
                "has format {found}, this Turnkeep knows up to {known}: install the newer version"
            )
        }
        OpenError::Corrupt { detail, .. } => {
            format!("is no backup of Turnkeep, or it is damaged ({detail})")
        }
        OpenError::Other { detail, .. } => format!("can't be read: {detail}"),
        OpenError::Unfit { why, .. } => why,
        OpenError::InUse { .. }
        | OpenError::ReadOnly { .. }
        | OpenError::Full { .. }
        | OpenError::Moving { .. } => "can't be read".into(),
    }
}

/// Opens a file of which this process has no connection yet: closing one by hand would end the locks
/// of the others. Where SQLite only says that it can't open it, the system says why.
pub(super) fn open_alone(file: &Path) -> Result<(Connection, usize), OpenError> {
    open_file(file).map_err(|error| match File::open(file) {
        Err(reason) => unopened(file, &reason),
        Ok(_) => error,
    })
}

/// Opens any one file, of whatever older format; says which, 0 for an empty one.
pub(super) fn open_file(file: &Path) -> Result<(Connection, usize), OpenError> {
    let connection = connect_file(file).map_err(|error| sqlite_error(file, error))?;
    let found = check_identity(&connection, file)?;
    Ok((connection, found))
}

/// Whether the file is a Turnkeep database of a format that this program knows; which one.
fn check_identity(connection: &Connection, file: &Path) -> Result<usize, OpenError> {
    let ask = |sql: &str| -> Result<i64, OpenError> {
        let answer = connection.query_row(sql, [], |row| row.get(0));
        answer.map_err(|error| sqlite_error(file, error.into()))
    };
    let application = ask("PRAGMA application_id")?;
    let version = ask("PRAGMA user_version")?;
    let tables = ask("SELECT count(*) FROM sqlite_schema")?;
    if application == 0 && version == 0 && tables == 0 {
        return Ok(0);
    }
    if application != i64::from(schema::APPLICATION_ID) {
        return Err(OpenError::Foreign { file: file.into() });
    }
    let found = usize::try_from(version).unwrap_or(usize::MAX);
    if found > schema::VERSION {
        return Err(OpenError::Newer {
            file: file.into(),
            found: u32::try_from(version).unwrap_or(u32::MAX),
            known: u32::try_from(schema::VERSION).unwrap_or(u32::MAX),
        });
    }
    Ok(found)
}

/// Gives the file to the owner of its folder, who is to open it: whoever made it may be root.
pub(super) fn belong_to(file: &File, folder: &fs::Metadata) -> io::Result<()> {
    if file.metadata()?.uid() == folder.uid() {
        return Ok(());
    }
    fchown(file, Some(folder.uid()), Some(folder.gid()))
}

fn draw_epoch(connection: &Connection) -> rusqlite::Result<Epoch> {
    let sql = "UPDATE meta SET value = value + 1 WHERE name = 'epoch' RETURNING value";
    // By itself the statement would be made durable only when it is let go of, and nobody would hear
    // that it was not: the next owner would draw the same one.
    let transaction = connection.unchecked_transaction()?;
    let epoch =
        transaction.query_row(sql, [], |row| Ok(Epoch(row.get::<_, i64>(0)?.cast_unsigned())))?;
    transaction.commit()?;
    Ok(epoch)
}

/// Opens a file that nobody else may read, whatever the umask or a restored backup made of it.
pub(super) fn open_private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    if file.metadata()?.permissions().mode() & 0o777 != 0o600 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

pub(super) fn io_error(dir: &Path, error: &io::Error) -> OpenError {
    let dir = dir.to_path_buf();
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => OpenError::ReadOnly { dir },
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => OpenError::Full { dir },
        _ => OpenError::Other { dir, detail: error.to_string() },
    }
}

pub(super) fn sqlite_error(file: &Path, trouble: Trouble) -> OpenError {
    let (file, dir) = (file.to_path_buf(), file.parent().unwrap_or(file).to_path_buf());
    let code = match &trouble {
        Trouble::Sqlite(error) => error.sqlite_error_code(),
        Trouble::Corrupt(_) => None,
    };
    match code {
        Some(ErrorCode::DiskFull) => OpenError::Full { dir },
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => OpenError::ReadOnly { dir },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            let Trouble::Sqlite(error) = trouble else { return OpenError::ReadOnly { dir } };
            OpenError::Corrupt { file, detail: error.to_string() }
        }
        _ => OpenError::Other { dir, detail: trouble.sentence() },
    }
}
