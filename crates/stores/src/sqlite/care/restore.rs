//! A backup in the place of a folder's database.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, OpenFlags};
use turnkeep_core::Epoch;

use super::super::open::{self, DATABASE, OpenError};
use super::super::trouble::Trouble;
use super::copy::{self, LOGS, Partial, Told};
use super::files::is_busy;

/// How long whoever reads the former database is waited for.
const READERS_WAIT: Duration = Duration::from_millis(500);

/// What is to be restored.
pub struct RestoreOrder<'a> {
    /// The backup.
    pub file: &'a Path,
    /// The data folder, which is made if need be.
    pub dir: &'a Path,
    /// What is put behind the name of a database that is there already; without it that refuses.
    pub keep_as: Option<String>,
    /// Told now and then how many bytes of about how many are copied; false ends it.
    pub progress: Box<dyn FnMut(u64, u64) -> bool + Send>,
}

impl std::fmt::Debug for RestoreOrder<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, dir, keep_as, .. } = self;
        let mut shown = formatter.debug_struct("RestoreOrder");
        shown.field("file", file).field("dir", dir).field("keep_as", keep_as);
        shown.finish_non_exhaustive()
    }
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Where the former database is now.
    pub kept: Option<PathBuf>,
    /// The epoch that was drawn.
    pub epoch: Epoch,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The file can't be used.
    #[error("{} {why}", file.display())]
    Unfit {
        /// Which.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The folder is somebody else's, or can't be written to.
    #[error(transparent)]
    Folder(#[from] OpenError),
    /// There is something to lose.
    #[error(
        "{} holds data already: choose another --data-dir, or say --force to keep it beside the \
         restored one",
        dir.display()
    )]
    HoldsData {
        /// The folder.
        dir: PathBuf,
    },
    /// Whoever asked for it stopped it.
    #[error("it was stopped; nothing has changed")]
    Stopped,
    /// The disk failed.
    #[error("the backup could not be restored: {0}")]
    Failed(String),
}

/// Puts the backup there. Until its last step, and after a crash before it, the folder is as it was;
/// only a log of a database that can't be read any more may have its new name already.
pub fn restore(order: RestoreOrder<'_>) -> Result<Restored, RestoreError> {
    let RestoreOrder { file, dir, keep_as, progress } = order;
    let io = |error: io::Error| RestoreError::Folder(open::io_error(dir, &error));
    // SQLite takes some relative names for something else than a file.
    let file = &std::path::absolute(file).map_err(io)?;
    let dir = &std::path::absolute(dir).map_err(io)?;
    check_backup(file)?;
    let folder = open::take_folder(dir)?;
    let owner = folder.hand_over().map_err(io)?;
    let there = holds_data(dir);
    if there && keep_as.is_none() {
        return Err(RestoreError::HoldsData { dir: dir.into() });
    }
    let target = dir.join(DATABASE);
    let partial = Partial::take(&target).map_err(io)?;
    partial.belong_to(&owner).map_err(io)?;
    let former = if there { former_epoch(dir) } else { Epoch(0) };
    let told = copy::told(progress);
    // Through SQLite, because the file may have a log beside it, and to see that all of it is
    // readable.
    copy::read_only(file)
        .and_then(|connection| copy::copy_into(connection, &partial, &told))
        .and_then(|()| prepare(&partial.path, former, &told))
        .map_err(|trouble| explain(file, trouble))?;
    let kept = match keep_as.filter(|_| there) {
        Some(suffix) => Some(keep(dir, &suffix)?),
        None => None,
    };
    partial.publish(&target, true).map_err(io)?;
    // As any start does: this takes it to today's format too.
    let (_, epoch) = open::open_database(dir)?;
    Ok(Restored { kept, epoch })
}

/// Looks at all of the copy, and has it know of every epoch that the folder had: the world may
/// remember those that were drawn after the backup.
fn prepare(copied: &Path, former: Epoch, told: &Told) -> Result<(), Trouble> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(copied, flags)?;
    let findings = copy::findings_unless_stopped(&mut connection, told)?;
    if let Some(first) = findings.first() {
        return Err(Trouble::Corrupt(format!("{first} ({} findings)", findings.len())));
    }
    let raise = "UPDATE meta SET value = max(value, ?1) WHERE name = 'epoch'";
    connection.execute(raise, [former.0.cast_signed()])?;
    Ok(())
}

/// Whether there is anything to lose. A log counts alone: it holds the newest commits, and SQLite
/// would take it for the restored database's.
fn holds_data(dir: &Path) -> bool {
    let files = ["", LOGS[0], LOGS[1]].map(|ending| dir.join(format!("{DATABASE}{ending}")));
    files.iter().any(|file| fs::metadata(file).is_ok_and(|found| found.len() > 0))
}

/// A file of ours that this program understands.
fn check_backup(file: &Path) -> Result<(), RestoreError> {
    let unfit = |why: String| RestoreError::Unfit { file: file.into(), why };
    open::check_file(file).map_err(unfit)?;
    // It may also be the very file that is about to be written.
    if file.extension().is_some_and(|ending| ending == "partial") {
        return Err(unfit("is a copy that was broken off".into()));
    }
    match open::open_alone(file).map_err(|error| unfit(open::why_unfit(error)))? {
        (_, 0) => Err(unfit(open::EMPTY.into())),
        _ => Ok(()),
    }
}

fn explain(file: &Path, trouble: Trouble) -> RestoreError {
    if copy::is_stopped(&trouble) {
        return RestoreError::Stopped;
    }
    let what = match &trouble {
        Trouble::Sqlite(error) if trouble.is_damage() => Some(error.to_string()),
        Trouble::Corrupt(what) => Some(what.clone()),
        Trouble::Sqlite(_) => None,
    };
    if let Some(what) = what {
        return RestoreError::Unfit { file: file.into(), why: format!("is damaged ({what})") };
    }
    RestoreError::Failed(trouble.sentence())
}

/// What the former database drew last; the world may remember it.
fn former_epoch(dir: &Path) -> Epoch {
    let ask = |connection: Connection| -> rusqlite::Result<i64> {
        connection.query_row("SELECT value FROM meta WHERE name = 'epoch'", [], |row| row.get(0))
    };
    let epoch = open::connect_reader(dir).ok().and_then(|connection| ask(connection).ok());
    Epoch(epoch.unwrap_or(0).cast_unsigned())
}

/// Gives the former database a second name. Its first one is taken over in one step afterwards.
fn keep(dir: &Path, suffix: &str) -> Result<PathBuf, RestoreError> {
    // Where the former database is damaged its log can't be moved into it, and goes with it.
    if let Ok(connection) = open::connect_writer(dir)
        && connection.busy_timeout(READERS_WAIT).is_ok()
        && let Err(error) = connection.wal_checkpoint_v2(None::<&str>, CheckpointMode::TRUNCATE)
        && is_busy(&error)
    {
        let why = "another program reads the folder's database: try again when it has ended";
        return Err(RestoreError::Failed(why.into()));
    }
    let names = |ending: &str| {
        let [own, kept] = [DATABASE.to_owned(), format!("{DATABASE}.{suffix}")];
        [own, kept].map(|name| dir.join(name + ending))
    };
    let there = ["", LOGS[0], LOGS[1]].map(names);
    let there = there.iter().filter(|[own, _]| own.exists());
    let keep_all = || -> io::Result<()> {
        for [own, kept] in there.clone() {
            second_name(own, kept)?;
        }
        copy::sync_folder(dir)?;
        // A log that stayed behind would be taken for the restored one's.
        for log in LOGS.into_iter().chain(["-shm"]) {
            let [own, _] = names(log);
            if own.exists() {
                fs::remove_file(own)?;
            }
        }
        Ok(())
    };
    keep_all().map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => RestoreError::Failed(error.to_string()),
        _ => RestoreError::Folder(open::io_error(dir, &error)),
    })?;
    let [_, kept] = names("");
    Ok(kept)
}

/// A link, or a copy where the file system has no links; never over something that is there.
fn second_name(own: &Path, kept: &Path) -> io::Result<()> {
    if fs::symlink_metadata(kept).is_ok() {
        let why = format!("{} is there already", kept.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
    }
    if fs::hard_link(own, kept).is_err() {
        fs::copy(own, kept)?;
        fs::File::open(kept)?.sync_all()?;
    }
    Ok(())
}
