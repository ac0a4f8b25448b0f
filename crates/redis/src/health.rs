//! How the connections to Redis stand, for readiness, for people, and for the circuit.

use std::fmt;

use crate::counts::Counts;

/// How one connection stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It was not connected yet.
    #[default]
    Starting,
    /// It answers.
    Up,
    /// It is connected and does not answer in time; nothing is asked until it does.
    Slow,
    /// It is not connected; why.
    Down(String),
    /// It is there and doesn't do what we need: a wrong password, no memory left, too old.
    Refused(String),
    /// The keys belong to this other cluster.
    Foreign(String),
}

impl State {
    /// It may be asked.
    #[must_use]
    pub fn is_up(&self) -> bool {
        *self == Self::Up
    }

    /// Why it can't be asked, where there is a reason.
    pub(crate) fn why(self) -> String {
        match self {
            Self::Down(why) | Self::Refused(why) => why,
            other => other.to_string(),
        }
    }

    /// One word, as a label of a metric.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Slow => "slow",
            Self::Down(_) => "down",
            Self::Refused(_) => "refused",
            Self::Foreign(_) => "foreign",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("not connected yet"),
            Self::Up => f.write_str("up"),
            Self::Slow => f.write_str("too slow"),
            Self::Down(why) => write!(f, "down: {why}"),
            Self::Refused(why) => write!(f, "refuses: {why}"),
            Self::Foreign(found) => {
                write!(f, "its keys belong to the cluster {found:?}")
            }
        }
    }
}

/// How everything stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The connection for calls.
    pub calls: State,
    /// The connection that hears what is published.
    pub listening: State,
    /// Under one of our names there was what somebody else wrote, a moment ago.
    pub strange: bool,
    /// What has happened since the start.
    pub counts: Counts,
}

impl Health {
    /// Both connections answer.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.calls.is_up() && self.listening.is_up()
    }
}
