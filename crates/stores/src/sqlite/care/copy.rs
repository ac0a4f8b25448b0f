//! A copy of the database while commits go on: into a file beside the one that is meant, which gets
//! its name when it is whole and durable.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use turnkeep_core::ports::care::{BackupError, BackupOrder};

use super::super::open::{self, DATABASE, OpenError};
use super::super::trouble::{Result, Trouble};

/// Steps of SQLite's machine between two looks at the progress.
const PROGRESS_STEPS: i32 = 1000;
/// After so many bytes the copy is synced. Once for all at its end, and commits would stand still for
/// as long as the disk takes.
const SYNC_BYTES: u64 = 8 * 1024 * 1024;
/// How often it is tried to have a file that others use and give up meanwhile.
const TAKE_TRIES: u32 = 8;
/// What a copy is called until it is whole.
const PARTIAL: &str = ".partial";
/// What SQLite takes for a part of a database if it lies beside it.
pub(super) const LOGS: [&str; 2] = ["-wal", "-journal"];
/// Findings that a look at the pages gives.
const FINDINGS_MAX: u32 = 10;

/// Who is told how far it is, and says whether it shall go on.
pub(super) type Told = Arc<Mutex<Box<dyn FnMut(u64, u64) -> bool + Send>>>;

pub(super) fn told(progress: Box<dyn FnMut(u64, u64) -> bool + Send>) -> Told {
    Arc::new(Mutex::new(progress))
}

fn goes_on(told: &Told, done: u64, of: u64) -> bool {
    told.lock().unwrap_or_else(PoisonError::into_inner)(done, of)
}

/// What SQLite says when it was stopped.
fn stopped() -> Trouble {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_INTERRUPT);
    rusqlite::Error::SqliteFailure(code, None).into()
}

pub(super) fn is_stopped(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::Sqlite(error)
        if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted))
}

/// Copies the database of a folder, whoever owns that. One read of one moment: commits go on
/// meanwhile, only the log can't begin anew before it is done. What was deleted is not in the copy,
/// not even as leftovers.
pub fn backup(dir: &Path, order: BackupOrder) -> std::result::Result<u64, BackupError> {
    let BackupOrder { file, replace, progress } = order;
    // SQLite takes some relative names for something else than a file.
    let file = std::path::absolute(&file).map_err(|error| refused(&file, &error))?;
    check_name(dir, &file)?;
    if !replace && fs::symlink_metadata(&file).is_ok() {
        return Err(BackupError::Exists(file));
    }
    let connection = source(dir).map_err(|error| BackupError::Failed(error.to_string()))?;
    let partial = Partial::take(&file).map_err(|error| refused(&file, &error))?;
    copy_into(connection, &partial, &told(progress)).map_err(|trouble| match &trouble {
        _ if is_stopped(&trouble) => BackupError::Stopped,
        Trouble::Sqlite(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
            BackupError::Full(file.clone())
        }
        _ => BackupError::Failed(trouble.sentence()),
    })?;
    partial.publish(&file, replace).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => BackupError::Exists(file.clone()),
        _ => refused(&file, &error),
    })
}

/// Cut by whom it concerns: whoever chose the name, or whoever keeps the disk.
fn refused(file: &Path, error: &io::Error) -> BackupError {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => BackupError::Full(file.into()),
        ErrorKind::PermissionDenied
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::NotFound
        | ErrorKind::NotADirectory
        | ErrorKind::InvalidInput
        | ErrorKind::InvalidFilename
        | ErrorKind::ResourceBusy => {
            BackupError::Unfit { file: file.into(), why: error.to_string() }
        }
        _ => BackupError::Failed(format!("{}: {error}", file.display())),
    }
}

/// What is running must not be replaced by its own copy, and nothing that lies beside the copy may
/// become a part of it.
fn check_name(dir: &Path, file: &Path) -> std::result::Result<(), BackupError> {
    let unfit = |why: String| BackupError::Unfit { file: file.into(), why };
    let Some(name) = file.file_name() else { return Err(unfit("it names no file".into())) };
    let folder = match fs::metadata(folder_of(file)) {
        Ok(folder) if folder.is_dir() => folder,
        _ => return Err(unfit("its folder is not there".into())),
    };
    if file.is_dir() {
        return Err(unfit("it is a folder".into()));
    }
    let own = fs::metadata(dir).is_ok_and(|dir| is_same(&dir, &folder));
    if own && name.to_string_lossy().starts_with("turnkeep.") {
        return Err(unfit("such files of the data folder are the server's own".into()));
    }
    for ending in LOGS {
        let log = beside(file, ending);
        if fs::symlink_metadata(&log).is_ok() {
            let log = log.display();
            return Err(unfit(format!("SQLite would take {log} for a part of it: move that away")));
        }
    }
    Ok(())
}

pub(super) fn is_same(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

fn folder_of(file: &Path) -> &Path {
    file.parent().unwrap_or(file)
}

/// The same place with more behind its name.
pub(super) fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(ending);
    name.into()
}

/// The folder's database, if it is one of ours.
fn source(dir: &Path) -> std::result::Result<Connection, OpenError> {
    let file = dir.join(DATABASE);
    if !open::is_there(&file)? || matches!(open::open_file(&file)?, (_, 0)) {
        return Err(OpenError::Missing { dir: dir.into() });
    }
    read_only(&file).map_err(|trouble| open::sqlite_error(&file, trouble))
}

/// Reads only, but may write elsewhere, which a reader's connection must not.
pub(super) fn read_only(file: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.execute_batch("PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8192;")?;
    Ok(connection)
}

/// How long a compact copy of it is, about.
fn bytes(connection: &Connection) -> Result<u64> {
    let ask = |sql: &str| -> Result<u64> {
        Ok(connection.query_row(sql, [], |row| row.get::<_, i64>(0))?.cast_unsigned())
    };
    let pages = ask("PRAGMA page_count")?.saturating_sub(ask("PRAGMA freelist_count")?);
    Ok(pages.saturating_mul(ask("PRAGMA page_size")?))
}

/// Writes a compact copy of what the connection sees now.
pub(super) fn copy_into(mut connection: Connection, into: &Partial, told: &Told) -> Result<()> {
    let file = &into.path;
    let total = bytes(&connection)?;
    let name = file.to_str().ok_or_else(|| {
        Trouble::Corrupt(format!("{} is no name that SQLite can write to", file.display()))
    })?;
    // A small copy is done before SQLite asks for the first time.
    if !goes_on(told, 0, total) {
        return Err(stopped());
    }
    let asked = Arc::clone(told);
    let watched = into.file.try_clone().map_err(|error| Trouble::Corrupt(error.to_string()))?;
    let mut synced = 0;
    let stops = move || {
        let done = watched.metadata().map_or(0, |metadata| metadata.len());
        if done >= synced + SYNC_BYTES {
            // What fails here fails at the end too, where it counts.
            drop(watched.sync_data());
            synced = done;
        }
        !goes_on(&asked, done.min(total), total)
    };
    connection.progress_handler(PROGRESS_STEPS, Some(stops))?;
    connection.execute("VACUUM INTO ?1", [name])?;
    Ok(())
}

/// Looks at every page, and whether tables and indexes agree; says what is wrong.
pub(crate) fn findings(connection: &Connection) -> Result<Vec<String>> {
    let mut check = connection.prepare(&format!("PRAGMA integrity_check({FINDINGS_MAX})"))?;
    let said: Vec<String> =
        check.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok(if said == ["ok"] { Vec::new() } else { said })
}

/// The same, where it may be stopped.
pub(super) fn findings_unless_stopped(
    connection: &mut Connection,
    told: &Told,
) -> Result<Vec<String>> {
    let (asked, total) = (Arc::clone(told), bytes(connection)?);
    connection.progress_handler(PROGRESS_STEPS, Some(move || !goes_on(&asked, total, total)))?;
    let said = findings(connection);
    connection.progress_handler(0, None::<fn() -> bool>)?;
    if goes_on(told, total, total) { said } else { Err(stopped()) }
}

/// A file beside the one that is meant, until it is whole.
pub(super) struct Partial {
    pub(super) path: PathBuf,
    /// Locked against another one that writes there; one that was left behind is used again.
    file: File,
    published: bool,
}

impl Partial {
    pub(super) fn take(target: &Path) -> io::Result<Self> {
        let path = beside(target, PARTIAL);
        for _ in 0..TAKE_TRIES {
            let Some(file) = lock(&path)? else { continue };
            file.set_len(0)?;
            let partial = Self { path, file, published: false };
            partial.remove_log();
            return Ok(partial);
        }
        Err(busy(&path))
    }

    /// SQLite's own, which a crash may leave behind.
    fn remove_log(&self) {
        drop(fs::remove_file(beside(&self.path, "-journal")));
    }

    /// Gives it to the owner of the folder that it is for, who is to open it.
    pub(super) fn belong_to(&self, folder: &fs::Metadata) -> io::Result<()> {
        open::belong_to(&self.file, folder)
    }

    /// Makes it durable, then gives it its name; says how long it is.
    pub(super) fn publish(mut self, target: &Path, replace: bool) -> io::Result<u64> {
        self.file.sync_all()?;
        let bytes = self.file.metadata()?.len();
        // A link refuses to replace, a rename doesn't ask. Not every file system has links.
        let linked = if replace { None } else { Some(fs::hard_link(&self.path, target)) };
        match linked {
            Some(Ok(())) => fs::remove_file(&self.path)?,
            Some(Err(error)) if error.kind() == ErrorKind::AlreadyExists => return Err(error),
            Some(Err(_)) if fs::symlink_metadata(target).is_ok() => {
                return Err(ErrorKind::AlreadyExists.into());
            }
            _ => fs::rename(&self.path, target)?,
        }
        self.published = true;
        sync_folder(folder_of(target))?;
        Ok(bytes)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.published {
            // Nobody reads it; the next one would use it again.
            drop(fs::remove_file(&self.path));
            self.remove_log();
        }
    }
}

/// Removes what a restore left behind that a crash broke off: texts that nobody would look for there.
/// For whoever owns the folder. It does no harm where it fails.
pub(crate) fn forget_partial(target: &Path) {
    let partial = beside(target, PARTIAL);
    for left in [beside(&partial, "-journal"), partial] {
        drop(fs::remove_file(left));
    }
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn busy(path: &Path) -> io::Error {
    let why = format!("{} is being written by another one", path.display());
    io::Error::new(ErrorKind::ResourceBusy, why)
}

/// The file, ours to be overwritten; none if it turned out to be another one's, and is worth another
/// try.
fn lock(path: &Path) -> io::Result<Option<File>> {
    if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
        let why = format!("{} is no plain file: move it away", path.display());
        return Err(io::Error::new(ErrorKind::InvalidInput, why));
    }
    let file = open::open_private(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(busy(path)),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // Between opening and locking somebody else may have finished it, and it is their backup now.
    let held = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) if is_same(&named, &held) => {}
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    if held.nlink() > 1 {
        // A crash came between its two names: under the other one it is a whole backup.
        fs::remove_file(path)?;
        return Ok(None);
    }
    Ok(Some(file))
}
