//! How messages come in by themselves: an adapter listens to its provider and hands over what it
//! heard. It decides nothing; whoever takes it makes it durable before it answers.

use std::future::ready;
use std::sync::Arc;

use super::BoxFuture;
use crate::ids::Timestamp;

/// Where something was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chat {
    /// Between one person and us.
    Direct,
    /// In a group.
    Group {
        /// The provider's own name of it.
        id: Arc<str>,
        /// What its members call it, if that is known.
        title: Option<Arc<str>>,
    },
}

/// Who said it, as the provider vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The provider's lasting name of them.
    pub id: Arc<str>,
    /// Other names that the provider vouches for, like a telephone number.
    pub also: Vec<Arc<str>>,
    /// What they call themselves: never believed, only shown.
    pub name: Option<Arc<str>>,
}

/// Something that came along with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// What its sender called it.
    pub name: Option<Arc<str>>,
    /// Its media type.
    pub media_type: Arc<str>,
    /// Its size in bytes, as far as it is known.
    pub bytes: u64,
    /// The hash of what was stored of it (SHA-256, in hex); none if it was not stored.
    pub hash: Option<Arc<str>>,
    /// Why it was not stored.
    pub left_out: Option<&'static str>,
}

/// What somebody refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// The id of the message.
    pub message_id: Arc<str>,
    /// Who wrote it.
    pub author: Arc<str>,
    /// What it said, as far as it was sent along.
    pub text: Arc<str>,
}

/// What was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A message.
    Message {
        /// Its text; mentions are spelt out. May be empty where something came along with it.
        text: Arc<str>,
        /// It names us.
        mentions_us: bool,
        /// What it refers to.
        quoted: Option<Quoted>,
        /// It refers to something that we said.
        quotes_us: bool,
        /// What came along with it.
        attachments: Vec<Attachment>,
    },
    /// An earlier message says something else now.
    Edit {
        /// Which.
        of: Arc<str>,
        /// What it says now.
        text: Arc<str>,
        /// It names us.
        mentions_us: bool,
    },
    /// A sign put to a message.
    Reaction {
        /// Which sign.
        sign: Arc<str>,
        /// To which message.
        of: Arc<str>,
        /// Who wrote that.
        author: Arc<str>,
        /// It was one of ours.
        to_us: bool,
        /// It was taken back.
        removed: bool,
    },
    /// Somebody is typing.
    Typing,
}

/// One thing that an adapter heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The channel's name.
    pub channel: &'static str,
    /// Which of our accounts heard it, by its configured name.
    pub account: Arc<str>,
    /// Where.
    pub chat: Chat,
    /// Who.
    pub sender: Person,
    /// The provider's id of it, unique for this sender in this chat.
    pub message_id: Arc<str>,
    /// When it was said, by the sender's own clock: for showing, never for deciding.
    pub sent_at: Timestamp,
    /// The chat's timer: so many seconds after it was read it shall be nowhere any more.
    pub disappears_s: Option<u32>,
    /// What.
    pub said: Said,
}

/// What became of what was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is durable: a message, a command, something to remember; now or before.
    Accepted,
    /// It was refused, and whoever said it was told, where that is owed to them.
    Refused(Arc<str>),
    /// It is not for us, for this reason.
    Ignored(&'static str),
    /// Nothing could be made durable just now: hand the same over again a little later.
    Unavailable(Arc<str>),
}

/// Takes what adapters hear. One listener hands over one thing after the other.
pub trait Intake: Send + Sync + 'static {
    /// Whether attachments of this person in this chat may be stored. Asked before they are fetched;
    /// it answers from memory.
    fn may_store(&self, channel: &str, account: &str, chat: &Chat, sender: &Person) -> bool;

    /// Makes it durable, or says why not.
    fn take(&self, heard: Heard) -> BoxFuture<'_, Taken>;
}

/// How one half of an account is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pulse {
    /// Not tried yet.
    Starting,
    /// Another node's to do: it has the account.
    Elsewhere,
    /// It works.
    Working,
    /// It does not, since when and why.
    Failing {
        /// Since when.
        since: Timestamp,
        /// Why, in words.
        why: Arc<str>,
    },
}

/// How one account is doing; sending may work while receiving is stuck, and the other way round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountHealth {
    /// Its configured name.
    pub account: Arc<str>,
    /// Whether messages come in.
    pub receiving: Pulse,
    /// Whether messages go out.
    pub sending: Pulse,
    /// How often the way to the provider broke and was made again.
    pub restarts: u64,
}

/// A group, as the provider tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownGroup {
    /// The provider's own name of it.
    pub id: Arc<str>,
    /// What its members call it.
    pub title: Option<Arc<str>>,
    /// How many members it has.
    pub members: usize,
    /// Whether we are one of them.
    pub member: bool,
    /// Whether we blocked it.
    pub blocked: bool,
}

/// Why an adapter did not do what a person asked of an account.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undone {
    /// Nobody knows the account, or can do this with it.
    #[error("{0}")]
    NoAccount(Arc<str>),
    /// The provider refused.
    #[error("{0}")]
    Refused(Arc<str>),
    /// The provider can't be reached just now.
    #[error("{0}")]
    Unreachable(Arc<str>),
}

/// The hearing half of an adapter.
pub trait Listener: Send + Sync + 'static {
    /// The channel's name.
    fn channel(&self) -> &'static str;

    /// Listens until it is dropped; mends what breaks by itself.
    fn listen(&self, intake: Arc<dyn Intake>) -> BoxFuture<'_, ()>;

    /// How each account is doing.
    fn health(&self) -> Vec<AccountHealth>;

    /// Has an account trust the key that somebody has now, after it changed: theirs with this safety
    /// number, else whatever it is.
    fn trust<'a>(
        &'a self,
        _account: &'a str,
        _who: &'a str,
        _safety_number: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), Undone>> {
        Box::pin(ready(Err(Undone::NoAccount("nothing has to be trusted there".into()))))
    }

    /// The groups of an account.
    fn groups<'a>(&'a self, _account: &'a str) -> BoxFuture<'a, Result<Vec<KnownGroup>, Undone>> {
        Box::pin(ready(Err(Undone::NoAccount("there are no groups to be told".into()))))
    }
}
