//! A backup in the place of a folder's database.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::wal::CheckpointMode;
use turnkeep_core::Epoch;

use super::super::open::{self, DATABASE, OpenError};
use super::super::trouble::Trouble;
use super::files::{self, Partial};

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

/// Puts the backup there. Until its last step, and after a crash before it, the folder is as it was.
pub fn restore(order: RestoreOrder<'_>) -> Result<Restored, RestoreError> {
    let RestoreOrder { file, dir, keep_as, progress } = order;
    check_backup(file)?;
    let folder = open::take_folder(dir)?;
    let target = folder.dir.join(DATABASE);
    let there = fs::metadata(&target).is_ok_and(|found| found.len() > 0);
    if there && keep_as.is_none() {
        return Err(RestoreError::HoldsData { dir: dir.into() });
    }
    let io = |error: io::Error| RestoreError::Folder(open::io_error(dir, &error));
    let partial = Partial::take(&target).map_err(io)?;
    // Through SQLite, because the file may have a log beside it, and to see that all of it is
    // readable.
    let copied = files::read_only(file)
        .and_then(|connection| files::copy_into(connection, &partial.path, progress));
    copied.map_err(|trouble| explain(file, trouble))?;
    let former = if there { former_epoch(dir) } else { Epoch(0) };
    let kept = match keep_as.filter(|_| there) {
        Some(suffix) => Some(keep(dir, &suffix).map_err(io)?),
        None => None,
    };
    partial.publish(&target, true).map_err(io)?;
    let epoch = draw_beyond(&folder.dir, former)?;
    Ok(Restored { kept, epoch })
}

/// A file of ours that this program understands.
fn check_backup(file: &Path) -> Result<(), RestoreError> {
    let unfit = |why: String| RestoreError::Unfit { file: file.into(), why };
    if !file.is_file() {
        return Err(unfit("is not there, or is no file".into()));
    }
    match open::open_file(file) {
        Ok((_, 0)) => Err(unfit("is empty: it is no backup".into())),
        Ok(_) => Ok(()),
        Err(OpenError::Foreign { .. }) => {
            Err(unfit("is another program's database, no backup of Turnkeep".into()))
        }
        Err(OpenError::Newer { found, known, .. }) => Err(unfit(format!(
            "has format {found}, this Turnkeep knows up to {known}: install the newer version"
        ))),
        Err(OpenError::Corrupt { detail, .. }) => {
            Err(unfit(format!("is no backup of Turnkeep, or it is damaged ({detail})")))
        }
        Err(OpenError::Other { detail, .. }) => Err(unfit(format!("can't be read: {detail}"))),
        Err(_) => Err(unfit("can't be read".into())),
    }
}

fn explain(file: &Path, trouble: Trouble) -> RestoreError {
    if let Trouble::Sqlite(error) = &trouble
        && error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted)
    {
        return RestoreError::Stopped;
    }
    if trouble.is_damage() {
        let why = format!("is damaged ({})", trouble.sentence());
        return RestoreError::Unfit { file: file.into(), why };
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

/// Gives the former database a second name; its first one is taken over in one step afterwards.
fn keep(dir: &Path, suffix: &str) -> io::Result<PathBuf> {
    // A log that stays behind would be taken for the restored one's. Where the former database is
    // damaged, it can't be moved into it, and goes with it.
    if let Ok(connection) = open::connect_writer(dir) {
        drop(connection.wal_checkpoint_v2(None::<&str>, CheckpointMode::TRUNCATE));
    }
    let own = |ending: &str| dir.join(format!("{DATABASE}{ending}"));
    let kept = |ending: &str| dir.join(format!("{DATABASE}.{suffix}{ending}"));
    if kept("").exists() {
        let why = format!("{} is there already", kept("").display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
    }
    if own("-wal").exists() {
        fs::rename(own("-wal"), kept("-wal"))?;
    }
    if own("-shm").exists() {
        fs::remove_file(own("-shm"))?;
    }
    if fs::hard_link(own(""), kept("")).is_err() {
        fs::rename(own(""), kept(""))?;
    }
    Ok(kept(""))
}

/// Opens it as any start does: takes it to this format and draws an epoch.
fn draw_beyond(dir: &Path, former: Epoch) -> Result<Epoch, OpenError> {
    let (connection, epoch) = open::open_database(dir)?;
    if epoch > former {
        return Ok(epoch);
    }
    let raise = "UPDATE meta SET value = ?1 WHERE name = 'epoch'";
    connection
        .execute(raise, [former.0.cast_signed()])
        .and_then(|_| open::draw_epoch(&connection))
        .map_err(|error| open::sqlite_error(&dir.join(DATABASE), error.into()))
}
