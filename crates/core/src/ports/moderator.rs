//! Who checks messages from outside.

use super::BoxFuture;
use crate::moderation::Ruling;

/// A message to check.
#[derive(Clone, Copy, Debug)]
pub struct Checked<'a> {
    /// What it says.
    pub text: &'a str,
    /// Whose customer wrote it.
    pub tenant: &'a str,
    /// The way it came.
    pub channel: &'a str,
    /// Its id.
    pub message_id: &'a str,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkup {
    /// What becomes of the message.
    pub ruling: Ruling,
    /// Why, in its words.
    pub reason: Option<String>,
}

/// The port.
pub trait Moderator: Send + Sync + 'static {
    /// Checks a message, or says why it can't. The caller waits only so long and may ask again for
    /// the same message, also after a restart. The answer comes to its session whenever it comes;
    /// too late it changes nothing.
    fn check<'a>(&'a self, message: Checked<'a>) -> BoxFuture<'a, Result<Checkup, String>>;
}
