//! What can go wrong inside the SQLite store, before it is told to the caller in the port's words.

use rusqlite::ErrorCode;
use turnkeep_core::SessionKey;
use turnkeep_core::ports::store::StoreError;

use crate::encode::Unreadable;

/// An error on the way; cut by who is to be blamed.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// SQLite or the disk under it.
    Sqlite(rusqlite::Error),
    /// What is stored makes no sense.
    Corrupt(String),
}

pub(crate) type Result<T> = std::result::Result<T, Trouble>;

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Unreadable> for Trouble {
    fn from(Unreadable(what): Unreadable) -> Self {
        Self::Corrupt(what)
    }
}

impl Trouble {
    /// Stored data of one session that can't be read.
    pub(crate) fn session(key: &str, what: impl std::fmt::Display) -> Self {
        Self::Corrupt(format!("session {key}: {what}"))
    }

    /// The whole database is damaged, so that trying again can't help.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Sqlite(error)
                if matches!(code(error), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
        )
    }

    /// What happened, in a sentence for whoever runs the gateway.
    pub(crate) fn sentence(&self) -> String {
        let error = match self {
            Self::Corrupt(what) => return what.clone(),
            Self::Sqlite(error) => error,
        };
        match code(error) {
            Some(ErrorCode::DiskFull) => "the disk is full: free some space".into(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                format!("the database is damaged ({error}): stop, and restore a backup")
            }
            Some(ErrorCode::ReadOnly) => "the data folder can't be written to".into(),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                "another program holds a lock on the database".into()
            }
            // The extended code in it tells a failed fsync from a failed read.
            Some(ErrorCode::SystemIoFailure) => format!("the disk failed ({error})"),
            _ => error.to_string(),
        }
    }
}

impl From<Trouble> for StoreError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Corrupt(what) => Self::Corrupt(what),
            damage if damage.is_damage() => Self::Corrupt(damage.sentence()),
            other => Self::Unavailable(other.sentence()),
        }
    }
}

fn code(error: &rusqlite::Error) -> Option<ErrorCode> {
    error.sqlite_error_code()
}

/// Turns "not there" into a sentence about the session.
pub(crate) fn missing(key: &SessionKey, what: &str) -> Trouble {
    Trouble::session(key.as_str(), format_args!("{what} is missing"))
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn every_trouble_says_what_to_do_or_what_failed() {
        let check = |code: i32, expect: &str| {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            let sentence = Trouble::from(error).sentence();
            assert!(sentence.starts_with(expect), "{sentence}");
        };
        check(ffi::SQLITE_FULL, "the disk is full: free some space");
        check(ffi::SQLITE_READONLY, "the data folder can't be written to");
        check(ffi::SQLITE_BUSY, "another program holds a lock on the database");
        check(ffi::SQLITE_CORRUPT, "the database is damaged (");
        check(ffi::SQLITE_NOTADB, "the database is damaged (");
        check(ffi::SQLITE_IOERR_FSYNC, "the disk failed (Error code 1034: disk I/O error)");
    }

    #[test]
    fn only_damage_is_hopeless() {
        let check = |code: i32, expect: bool| {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            let trouble = Trouble::from(error);
            assert_eq!(trouble.is_damage(), expect);
            let corrupt = matches!(StoreError::from(trouble), StoreError::Corrupt(_));
            assert_eq!(corrupt, expect);
        };
        check(ffi::SQLITE_CORRUPT, true);
        check(ffi::SQLITE_NOTADB, true);
        check(ffi::SQLITE_FULL, false);
        check(ffi::SQLITE_IOERR_WRITE, false);
    }
}
