//! Many idle sessions at once, to see how the gateway bears them.

use std::path::Path;

use rusqlite::params;
use turnkeep_core::ports::store::StoreError;
use turnkeep_core::{Session, SessionKey, SessionKind};

use super::open::{self, OpenError};
use super::{encode, trouble};

/// Sessions that one transaction writes.
const CHUNK: u64 = 50_000;

/// Writes `sessions` idle sessions into the folder, which nobody else may be using. Those that a
/// former call wrote stay. `progress` is told how many are done.
pub fn prefill(dir: &Path, sessions: u64, mut progress: impl FnMut(u64)) -> Result<(), OpenError> {
    let folder = open::take_folder(dir)?;
    let (connection, _) = open::open_database(&folder.dir)?;
    let other = |detail: String| OpenError::Other { dir: dir.into(), detail };
    let sqlite = |error: rusqlite::Error| other(trouble::Trouble::from(error).sentence());
    let store = |error: StoreError| other(error.to_string());
    let snapshot = encode::blob(&Session::new()).map_err(store)?;
    let mut done = 0;
    while done < sessions {
        let until = sessions.min(done + CHUNK);
        connection.execute_batch("BEGIN IMMEDIATE").map_err(sqlite)?;
        let mut insert = connection
            .prepare_cached(
                "INSERT OR IGNORE INTO sessions
                 (key, version, last_seq, journal_head, turn_head, wake_at, snapshot)
                 VALUES (?1, 1, 0, 0, NULL, NULL, ?2)",
            )
            .map_err(sqlite)?;
        for number in done..until {
            // Grows with the number, so that the keys' index is appended to as well.
            let peer = format!("prefill-{number:09}");
            let key = SessionKey::new("default", "default", "api", SessionKind::Dm, &peer);
            let key = key.map_err(|error| other(error.to_string()))?;
            insert.execute(params![key.as_str(), snapshot]).map_err(sqlite)?;
        }
        drop(insert);
        connection.execute_batch("COMMIT").map_err(sqlite)?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(sqlite)?;
        done = until;
        progress(done);
    }
    Ok(())
}
