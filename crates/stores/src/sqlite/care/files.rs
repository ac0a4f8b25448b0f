//! Cleaning the files up after deletes, and what long work on files shares.

use std::path::Path;
use std::time::Duration;

use rusqlite::ErrorCode;
use rusqlite::wal::CheckpointMode;
use tokio::sync::oneshot;

use super::super::open;
use super::super::trouble::{Result, Trouble};

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

pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}
