//! What can go wrong between us and the database, cut by what follows from it.
//!
//! The one question that matters is whether a change that failed may have happened all the same.
//! An error that the server itself gives for a statement says no: the transaction is undone. A
//! lost connection says nothing, once the COMMIT is on its way.

use deadpool_postgres::PoolError;
use tokio_postgres::error::{DbError, Severity, SqlState};
use turnkeep_core::SessionKey;
use turnkeep_core::ports::store::StoreError;

use super::gate::Out;
use crate::encode::Unreadable;

/// What the gate says to a node that was put out.
pub(super) const FENCED: &str = "TK001";
/// What it says where the database has gone back.
pub(super) const BEHIND: &str = "TK002";

/// An error on the way.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The connection failed or gave no answer in time. Whether what was sent last has happened
    /// is not known.
    Lost(String),
    /// There was no connection to be had, so nothing was sent.
    Busy(String),
    /// The server refused a statement, and with it the whole transaction.
    Refused(Box<Refused>),
    /// What is stored makes no sense.
    Corrupt(String),
    /// The store takes no more changes.
    Closed,
}

/// What the server said.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(super) class: Class,
    pub(super) code: SqlState,
    pub(super) message: String,
}

impl Refused {
    fn out(&self) -> Option<Out> {
        match self.code.code() {
            FENCED => Some(Out::ByOthers),
            BEHIND => Some(Out::WentBack),
            _ => None,
        }
    }
}

/// What follows from a refusal. None of them was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// It may go well the next time: a deadlock, a lock that was held too long.
    Passing,
    /// What was to be written is at fault; nobody else's work is.
    Fault,
    /// The server can't write now: the disk is full, it only reads.
    Unable,
    /// The tables aren't ours, or not any more.
    Foreign,
    /// This node is out of the cluster, for ever.
    Fenced,
    /// The database is damaged.
    Damage,
    /// The server ended the connection; where a COMMIT was on its way, it may have happened.
    Ended,
}

pub(crate) type Result<T> = std::result::Result<T, Trouble>;

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(told) => Self::told(told),
            None if is_ours(&error) => {
                Self::Corrupt(format!("a row isn't as it has to be: {error}"))
            }
            None => Self::Lost(chain(&error)),
        }
    }
}

/// Whether the client could not make anything of a row, or nothing of what it was given; the
/// connection has nothing to do with it. Nothing but its words tells that.
fn is_ours(error: &tokio_postgres::Error) -> bool {
    let words = error.to_string();
    let ours = [
        "error serializing parameter",
        "error deserializing column",
        "invalid column",
        "query returned",
        "error encoding message",
        "expected ",
    ];
    ours.iter().any(|beginning| words.starts_with(beginning))
}

impl From<PoolError> for Trouble {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Timeout(_) => Self::Busy("all connections to it are busy".into()),
            PoolError::Backend(error) => match Self::from(error) {
                // Without a connection nothing was asked, so nothing can have happened.
                Self::Lost(what) => Self::Busy(what),
                other => other,
            },
            other => Self::Busy(other.to_string()),
        }
    }
}

impl From<Unreadable> for Trouble {
    fn from(Unreadable(what): Unreadable) -> Self {
        Self::Corrupt(what)
    }
}

/// Of rows that could not be made.
impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Corrupt(what) => Self::Corrupt(what),
            StoreError::Unavailable(what) => Self::Busy(what),
        }
    }
}

impl Trouble {
    fn told(told: &DbError) -> Self {
        let fatal = matches!(told.parsed_severity(), Some(Severity::Fatal | Severity::Panic));
        let class = class(told.code(), fatal);
        let (code, message) = (told.code().clone(), told.message().to_owned());
        Self::Refused(Box::new(Refused { class, code, message }))
    }

    /// Stored data of one session that can't be read.
    pub(crate) fn session(key: &str, what: impl std::fmt::Display) -> Self {
        Self::Corrupt(format!("session {key}: {what}"))
    }

    /// What follows from it, where the server said it.
    pub(crate) fn class(&self) -> Option<Class> {
        match self {
            Self::Refused(refused) => Some(refused.class),
            _ => None,
        }
    }

    /// Why this node is out, if it is.
    pub(super) fn out(&self) -> Option<Out> {
        match self {
            Self::Refused(refused) => refused.out(),
            _ => None,
        }
    }

    /// It is worth doing the same again at once.
    pub(crate) fn passes(&self) -> bool {
        self.class() == Some(Class::Passing)
    }

    /// Nothing more comes over this connection.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self, Self::Lost(_)) || self.class() == Some(Class::Ended)
    }

    /// Why there is no connection, where it is said already that there is none.
    pub(super) fn bare(self) -> String {
        match self {
            Self::Lost(what) | Self::Busy(what) => what,
            Self::Refused(refused) => refused.message,
            other => other.sentence(),
        }
    }

    /// What happened, in a sentence for whoever runs the gateway. No address and no password
    /// stands in it, nor any text that was to be written.
    pub(crate) fn sentence(&self) -> String {
        let refused = match self {
            Self::Lost(what) => return format!("the connection to the database failed: {what}"),
            Self::Busy(what) => return format!("the database can't be asked: {what}"),
            Self::Corrupt(what) => return what.clone(),
            Self::Closed => return "the store is closed".into(),
            Self::Refused(refused) => refused,
        };
        let Refused { class, code, message } = &**refused;
        match class {
            Class::Unable if *code == SqlState::DISK_FULL => {
                "the database's disk is full: free some space".into()
            }
            Class::Unable if *code == SqlState::READ_ONLY_SQL_TRANSACTION => {
                "the database only reads: it is a standby, or was told to".into()
            }
            Class::Unable if code.code().starts_with("28") => {
                format!("the database refuses the user or the password of its address: {message}")
            }
            Class::Unable => format!("the database can't work: {message}"),
            Class::Passing => format!("the database was held up: {message}"),
            Class::Foreign => format!("the database's tables are not ours any more: {message}"),
            Class::Fenced => refused.out().unwrap_or(Out::ByOthers).sentence().into(),
            Class::Damage => format!("the database is damaged ({message}): restore a backup"),
            Class::Ended => format!("the database ended the connection: {message}"),
            Class::Fault => format!("the database refuses a row: {message} ({})", code.code()),
        }
    }
}

impl From<Trouble> for StoreError {
    fn from(trouble: Trouble) -> Self {
        let sentence = trouble.sentence();
        match trouble {
            Trouble::Corrupt(_) => Self::Corrupt(sentence),
            Trouble::Refused(refused) if matches!(refused.class, Class::Fault | Class::Damage) => {
                Self::Corrupt(sentence)
            }
            _ => Self::Unavailable(sentence),
        }
    }
}

/// What follows from a code. The classes of codes are those of the standard: the first two places.
fn class(code: &SqlState, fatal: bool) -> Class {
    match code.code() {
        FENCED | BEHIND => Class::Fenced,
        "28P01" | "28000" => Class::Unable,
        "XX001" | "XX002" => Class::Damage,
        "53100" | "53200" | "53300" | "53400" | "58030" | "25006" => Class::Unable,
        _ if fatal => Class::Ended,
        // 57014 is a statement that took too long.
        "40001" | "40P01" | "55P03" | "57014" => Class::Passing,
        "42501" | "42P01" | "42883" | "42703" | "3F000" => Class::Foreign,
        other if other.starts_with("57P") || other.starts_with("08") => Class::Ended,
        other if ["22", "23", "54"].iter().any(|class| other.starts_with(class)) => Class::Fault,
        _ => Class::Unable,
    }
}

/// The error and what led to it; the client's own words say little without that.
fn chain(error: &dyn std::error::Error) -> String {
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !sentence.ends_with(&more) {
            sentence = format!("{sentence}: {more}");
        }
        cause = error.source();
    }
    sentence
}

/// Turns "not there" into a sentence about the session.
pub(crate) fn missing(key: &SessionKey, what: &str) -> Trouble {
    Trouble::session(key.as_str(), format_args!("{what} is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: &str) -> Trouble {
        let code = SqlState::from_code(code);
        let class = class(&code, false);
        Trouble::Refused(Box::new(Refused { class, code, message: "why".into() }))
    }

    #[test]
    fn every_code_says_what_follows() {
        let check = |code: &str, expect: Class| {
            assert_eq!(refused(code).class(), Some(expect), "{code}");
        };
        check("40P01", Class::Passing);
        check("55P03", Class::Passing);
        check("23505", Class::Fault);
        check("22P05", Class::Fault);
        check("53100", Class::Unable);
        check("25006", Class::Unable);
        check("42P01", Class::Foreign);
        check("57P01", Class::Ended);
        check("TK001", Class::Fenced);
        check("TK002", Class::Fenced);
        check("XX001", Class::Damage);
        assert_eq!(class(&SqlState::T_R_DEADLOCK_DETECTED, true), Class::Ended);
        assert_eq!(class(&SqlState::INVALID_PASSWORD, true), Class::Unable);
    }

    #[test]
    fn only_what_a_person_has_to_look_at_is_corrupt() {
        let check = |trouble: Trouble, corrupt: bool| {
            let sentence = trouble.sentence();
            let error = StoreError::from(trouble);
            assert_eq!(matches!(error, StoreError::Corrupt(_)), corrupt, "{sentence}");
        };
        check(refused("23505"), true);
        check(refused("XX002"), true);
        check(Trouble::Corrupt("session a: odd".into()), true);
        check(refused("53100"), false);
        check(refused("TK001"), false);
        check(Trouble::Lost("reset".into()), false);
        check(Trouble::Busy("all busy".into()), false);
        check(Trouble::Closed, false);
    }

    #[test]
    fn sentences_say_what_to_do() {
        let check = |code: &str, expect: &str| {
            let sentence = refused(code).sentence();
            assert!(sentence.starts_with(expect), "{sentence}");
        };
        check("53100", "the database's disk is full: free some space");
        check("25006", "the database only reads: it is a standby");
        check("28P01", "the database refuses the user or the password");
        check("42501", "the database's tables are not ours any more: why");
        check("TK001", "this node was put out of the cluster");
        check("TK002", "the database was put back to an older state under this node");
    }
}
