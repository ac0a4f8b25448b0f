//! What the nodes of a cluster tell each other beside the record: hints.
//!
//! The record decides everything. Whatever is said here may be lost, come late or come twice, and
//! nothing of it is committed: a hint that is missing costs time, never a message. So every caller
//! has its way without it, and whoever gets [`Without`] goes on.
//!
//! Nodes are named by the numbers that they drew when they opened the store ([`Epoch::node`]).

use super::BoxFuture;
use crate::SessionKey;
use crate::draft::Piece;
use crate::guard::Rate;
use crate::ids::{Epoch, RunTag};

/// The most rates that one call of [`Hints::take`] asks.
pub const LIMITS_MAX: usize = 8;

/// A hint could not be had; why, for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Without(pub String);

/// What a node hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Some may have been missed: what they would have told stands in the record.
    Missed,
    /// A session that this node holds was written by another one.
    Mail(SessionKey),
    /// There is work that anybody who runs turns may take.
    Work,
    /// Somebody needs the whole draft of the run that this node has of the session.
    Resend(SessionKey),
}

/// Whether anybody was there to hear it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Somebody. Not that it was acted upon.
    Somebody,
    /// Nobody.
    Nobody,
}

/// What comes from a session that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watched {
    /// Some may have been missed: the whole draft has to be asked for.
    Missed,
    /// A piece of a draft.
    Piece(Piece),
}

/// One rate, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit<'a> {
    /// Whose, and of what: rates of one name and other numbers are counted apart.
    pub name: &'a str,
    /// How much is let through.
    pub rate: Rate,
}

/// Which of several rates has it wait longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Its place among those that were asked.
    pub place: usize,
    /// In how many milliseconds it would let one through.
    pub ms: u64,
}

/// How one connection stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// What it is for: one of [`CONNECTIONS`].
    pub purpose: &'static str,
    /// How it stands: one of [`STATES`].
    pub state: &'static str,
    /// The same for people.
    pub text: String,
}

/// What there may be connections for.
pub const CONNECTIONS: [&str; 2] = ["calls", "listening"];

/// How a connection may stand.
pub const STATES: [&str; 6] = ["starting", "up", "slow", "down", "refused", "foreign"];

/// How the hints are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HintsHealth {
    /// What the place is, for people.
    pub place: &'static str,
    /// The connections.
    pub connections: Vec<Connection>,
    /// Whether somebody else's things were met there a moment ago, in place of ours.
    pub strange: bool,
    /// What has happened since the start, by a word for it; they only grow.
    pub counts: Vec<(&'static str, u64)>,
}

impl HintsHealth {
    /// What is wrong, in words; none if nothing is.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let sick = |connection: &&Connection| connection.state != "up";
        // Both have the same reason nearly always.
        let mut told: Vec<&str> =
            self.connections.iter().filter(sick).map(|connection| &*connection.text).collect();
        told.dedup();
        if self.strange {
            told.push("keys of ours hold what somebody else wrote, the log names one");
        }
        (!told.is_empty()).then(|| format!("{}: {}", self.place, told.join("; ")))
    }
}

/// What is told to this node, until it is dropped.
pub trait Listening: Send {
    /// Waits for the next news. [`News::Missed`] comes first of all, and again whenever some may
    /// have been lost. Dropped before it answers, nothing is lost.
    fn next(&mut self) -> BoxFuture<'_, News>;
}

/// What is written in one session, until it is dropped.
pub trait Watching: Send {
    /// Waits for the next piece; the same holds.
    fn next(&mut self) -> BoxFuture<'_, Watched>;
}

/// A place for hints that all nodes of a cluster share. No call waits longer than its own limit,
/// and while the place is known to be away none waits at all.
pub trait Hints: Send + Sync {
    /// Asks all of these rates and charges them if none refuses; one that refuses costs nothing.
    /// `together` is what they have in common: a rate is always asked with the same one.
    fn take<'a>(
        &'a self,
        together: &'a str,
        limits: &'a [Limit<'a>],
    ) -> BoxFuture<'a, Result<Option<Wait>, Without>>;

    /// Tells a node something.
    fn tell(&self, node: Epoch, news: News) -> BoxFuture<'_, Result<Heard, Without>>;

    /// Tells it to every node, this one included.
    fn tell_all(&self, news: News) -> BoxFuture<'_, Result<Heard, Without>>;

    /// Hears what is told to this node and to everybody.
    fn listen(&self) -> Result<Box<dyn Listening>, Without>;

    /// Shows a piece to whoever watches the session. Each is awaited before the next one, or their
    /// order is not sure.
    fn show<'a>(
        &'a self,
        session: &'a SessionKey,
        piece: &'a Piece,
    ) -> BoxFuture<'a, Result<Heard, Without>>;

    /// Hears what is written in a session.
    fn watch(&self, session: &SessionKey) -> Result<Box<dyn Watching>, Without>;

    /// Says that the node that the epoch names has a run of the session, for a while: it is said
    /// again before that is over. False if somebody says so under an epoch that is not older.
    fn hold<'a>(
        &'a self,
        session: &'a SessionKey,
        run: RunTag,
    ) -> BoxFuture<'a, Result<bool, Without>>;

    /// It has no longer; says nothing of anybody else's run.
    fn release<'a>(
        &'a self,
        session: &'a SessionKey,
        run: RunTag,
    ) -> BoxFuture<'a, Result<(), Without>>;

    /// Which node has a run of the session, as far as is known.
    fn active<'a>(
        &'a self,
        session: &'a SessionKey,
    ) -> BoxFuture<'a, Result<Option<Epoch>, Without>>;

    /// How they are; none where there are none.
    fn health(&self) -> Option<HintsHealth>;
}

/// The hints of a node that is alone: there is nobody to tell anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHints;

/// What it answers.
fn alone<'a, T: Send + 'a>() -> BoxFuture<'a, Result<T, Without>> {
    Box::pin(std::future::ready(Err(nobody())))
}

fn nobody() -> Without {
    Without("there are no hints".to_owned())
}

impl Hints for NoHints {
    fn take<'a>(
        &'a self,
        _: &'a str,
        _: &'a [Limit<'a>],
    ) -> BoxFuture<'a, Result<Option<Wait>, Without>> {
        alone()
    }

    fn tell(&self, _: Epoch, _: News) -> BoxFuture<'_, Result<Heard, Without>> {
        alone()
    }

    fn tell_all(&self, _: News) -> BoxFuture<'_, Result<Heard, Without>> {
        alone()
    }

    fn listen(&self) -> Result<Box<dyn Listening>, Without> {
        Err(nobody())
    }

    fn show<'a>(
        &'a self,
        _: &'a SessionKey,
        _: &'a Piece,
    ) -> BoxFuture<'a, Result<Heard, Without>> {
        alone()
    }

    fn watch(&self, _: &SessionKey) -> Result<Box<dyn Watching>, Without> {
        Err(nobody())
    }

    fn hold<'a>(&'a self, _: &'a SessionKey, _: RunTag) -> BoxFuture<'a, Result<bool, Without>> {
        alone()
    }

    fn release<'a>(&'a self, _: &'a SessionKey, _: RunTag) -> BoxFuture<'a, Result<(), Without>> {
        alone()
    }

    fn active<'a>(&'a self, _: &'a SessionKey) -> BoxFuture<'a, Result<Option<Epoch>, Without>> {
        alone()
    }

    fn health(&self) -> Option<HintsHealth> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{CONNECTIONS, Connection, HintsHealth};

    #[test]
    fn what_is_wrong_is_told_once() {
        let of = |states: [&'static str; 2], texts: [&str; 2]| {
            let connection = |at: usize| Connection {
                purpose: CONNECTIONS[at],
                state: states[at],
                text: texts[at].to_owned(),
            };
            let connections = vec![connection(0), connection(1)];
            HintsHealth { place: "Hall", connections, strange: false, counts: Vec::new() }
        };
        assert_eq!(of(["up", "up"], ["up", "up"]).trouble(), None);
        let both = of(["down", "down"], ["down: gone", "down: gone"]);
        assert_eq!(both.trouble().as_deref(), Some("Hall: down: gone"));
        let one = of(["up", "slow"], ["up", "too slow"]);
        assert_eq!(one.trouble().as_deref(), Some("Hall: too slow"));
    }
}
