//! The files themselves: a copy of the database while commits go on, and cleaning up after deletes.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::oneshot;
use turnkeep_core::ports::care::{BackupError, BackupOrder};

use super::super::open::{self, DATABASE};
use super::super::trouble::{Result, Trouble};

/// Steps of SQLite's machine between two looks at the progress.
const PROGRESS_STEPS: i32 = 1000;
/// How long a scrub may hold up commits while readers are in its way; then it tries again later.
const SCRUB_HOLD: Duration = Duration::from_millis(50);
/// How often it tries, and the pause between.
const SCRUB_TRIES: u32 = 60;
const SCRUB_PAUSE: Duration = Duration::from_millis(500);

/// Runs long work on a thread of its own; the error says that there was none.
pub(super) async fn apart<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::result::Result<T, String> {
    let (sender, receiver) = oneshot::channel();
    let thread = std::thread::Builder::new().name(name.into());
    // Whoever asked may be gone.
    let started = thread.spawn(move || drop(sender.send(work())));
    started.map_err(|error| format!("no thread could be started: {error}"))?;
    receiver.await.map_err(|_| "the thread that did it has failed".to_owned())
}

/// Moves the log into the database and empties it, so that what was deleted stands in neither; false if readers kept it from doing so.
pub(super) fn empty_log(dir: &Path) -> Result<bool> {
    let connection = open::connect_writer(dir)?;
    connection.busy_timeout(SCRUB_HOLD)?;
    for attempt in 0..SCRUB_TRIES {
        if attempt > 0 {
            std::thread::sleep(SCRUB_PAUSE);
        }
        // The bulk first: this one lets commits through.
        let both = [CheckpointMode::PASSIVE, CheckpointMode::TRUNCATE].map(|mode| match connection
            .wal_checkpoint_v2(None::<&str>, mode)
        {
            Ok(_) => Ok(true),
            Err(error) if is_busy(&error) => Ok(false),
            Err(error) => Err(Trouble::from(error)),
        });
        let [_, emptied] = both;
        if emptied? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Copies the database of a folder, whoever owns that. One read of one moment: commits go on
/// meanwhile, only the log can't begin anew before it is done. What was deleted is not in the copy,
/// not even as leftovers.
pub fn backup(dir: &Path, order: BackupOrder) -> std::result::Result<u64, BackupError> {
    let BackupOrder { file, replace, progress } = order;
    check_name(dir, &file)?;
    let failed = |error: io::Error| BackupError::Failed(format!("{}: {error}", file.display()));
    if !replace && file.exists() {
        return Err(BackupError::Exists(file));
    }
    let partial = Partial::take(&file).map_err(failed)?;
    let connection = read_only(&dir.join(DATABASE)).map_err(explain)?;
    copy_into(connection, &partial.path, progress).map_err(explain)?;
    let bytes = partial.publish(&file, replace).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => BackupError::Exists(file.clone()),
        _ => failed(error),
    })?;
    Ok(bytes)
}

fn explain(trouble: Trouble) -> BackupError {
    match &trouble {
        Trouble::Sqlite(error)
            if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) =>
        {
            BackupError::Stopped
        }
        _ => BackupError::Failed(trouble.sentence()),
    }
}

/// The database that is running must not be replaced by its own copy.
fn check_name(dir: &Path, file: &Path) -> std::result::Result<(), BackupError> {
    let unfit = |why: &str| BackupError::Unfit { file: file.into(), why: why.into() };
    let Some(name) = file.file_name() else { return Err(unfit("it names no file")) };
    let folder = folder_of(file);
    let Ok(folder) = folder.canonicalize() else { return Err(unfit("its folder is not there")) };
    if file.is_dir() {
        return Err(unfit("it is a folder"));
    }
    let own = dir.canonicalize().is_ok_and(|dir| dir == folder);
    if own && name.to_string_lossy().starts_with("turnkeep.") {
        return Err(unfit("such files of the data folder are the server's own"));
    }
    Ok(())
}

pub(super) fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Reads only, but may write elsewhere, which a reader's connection must not.
pub(super) fn read_only(file: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.execute_batch("PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8192;")?;
    Ok(connection)
}

/// Writes a compact copy of what the connection sees now.
pub(super) fn copy_into(
    mut connection: Connection,
    file: &Path,
    mut progress: Box<dyn FnMut(u64, u64) -> bool + Send>,
) -> Result<()> {
    let ask = |sql: &str| -> Result<u64> {
        Ok(connection.query_row(sql, [], |row| row.get::<_, i64>(0))?.cast_unsigned())
    };
    let pages = ask("PRAGMA page_count")?.saturating_sub(ask("PRAGMA freelist_count")?);
    let total = pages.saturating_mul(ask("PRAGMA page_size")?);
    let name = file.to_str().ok_or_else(|| {
        Trouble::Corrupt(format!("{} is no name that SQLite can write to", file.display()))
    })?;
    let watched = file.to_path_buf();
    let mut stopped = move || {
        let done = fs::metadata(&watched).map_or(0, |metadata| metadata.len());
        !progress(done.min(total), total)
    };
    // A small copy is done before SQLite asks for the first time.
    if stopped() {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_INTERRUPT);
        return Err(rusqlite::Error::SqliteFailure(code, None).into());
    }
    connection.progress_handler(PROGRESS_STEPS, Some(stopped))?;
    connection.execute("VACUUM INTO ?1", [name])?;
    Ok(())
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
        let mut name = OsString::from(target.file_name().unwrap_or_default());
        name.push(".partial");
        let path = folder_of(target).join(name);
        let file = open::open_private(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let why = format!("{} is being written by another one", path.display());
                return Err(io::Error::new(ErrorKind::ResourceBusy, why));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        file.set_len(0)?;
        Ok(Self { path, file, published: false })
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
            Some(Err(_)) if target.exists() => return Err(ErrorKind::AlreadyExists.into()),
            _ => fs::rename(&self.path, target)?,
        }
        self.published = true;
        File::open(folder_of(target))?.sync_all()?;
        Ok(bytes)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.published {
            // Nobody reads it; the next one would use it again.
            drop(fs::remove_file(&self.path));
        }
    }
}
