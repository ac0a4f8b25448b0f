//! What nodes tell each other: that a session has mail, that there is work, that somebody wants a
//! whole draft, and the pieces of drafts.
//!
//! What is published while nobody is connected is gone. So whoever listens is told
//! [`News::Missed`] first of all, and again after every new connection: then it looks into the
//! record. What it hears after that came after that.

use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use turnkeep_core::draft::Piece;
pub use turnkeep_core::ports::hints::{Heard, Watched};

use crate::hints::RedisHints;
use crate::hub::{Came, Hub, Inbox};
use crate::text;
use crate::trouble::Trouble;

/// What a node hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Some may have been missed: look for mail and work in the record.
    Missed,
    /// A session whose turn runs here has mail.
    Mail(String),
    /// A turn that runs here was cancelled, or is to stop: look at the session.
    Stop(String),
    /// Somebody needs the whole draft of this session's turn.
    Resend(String),
    /// There is work that anybody may take.
    Work,
}

impl News {
    fn write(&self) -> String {
        match self {
            Self::Missed => "missed".to_owned(),
            Self::Mail(session) => format!("mail {session}"),
            Self::Stop(session) => format!("stop {session}"),
            Self::Resend(session) => format!("resend {session}"),
            Self::Work => "work".to_owned(),
        }
    }

    fn read(said: &str) -> Option<Self> {
        match said.split_once(' ') {
            None if said == "work" => Some(Self::Work),
            Some(("mail", session)) => Some(Self::Mail(session.to_owned())),
            Some(("stop", session)) => Some(Self::Stop(session.to_owned())),
            Some(("resend", session)) => Some(Self::Resend(session.to_owned())),
            _ => None,
        }
    }
}

/// Somewhere that is listened to, until this is dropped.
struct Ear {
    hub: Arc<Hub>,
    channels: Vec<Arc<str>>,
    inbox: Arc<Inbox>,
}

impl Ear {
    fn open(hub: &Arc<Hub>, channels: Vec<Arc<str>>) -> Result<Self, Trouble> {
        let inbox = hub.join(&channels)?;
        Ok(Self { hub: Arc::clone(hub), channels, inbox })
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.hub.leave(&self.channels, &self.inbox);
    }
}

/// What is told to this node, until it is dropped.
pub struct Listening {
    ear: Ear,
    hints: RedisHints,
}

impl Listening {
    /// Waits for the next news. Dropped before it answers, nothing is lost.
    pub async fn next(&mut self) -> News {
        loop {
            match self.ear.inbox.next().await {
                Came::Missed => return News::Missed,
                Came::Said(said) => match News::read(&said) {
                    Some(news) => return news,
                    None => self.unreadable(),
                },
            }
        }
    }

    /// What came makes no sense.
    pub(crate) fn unreadable(&self) {
        self.hints.counts.unreadable.more();
    }
}

/// What is written in one session, until it is dropped.
pub struct Watching {
    ear: Ear,
    hints: RedisHints,
}

impl Watching {
    /// Waits for the next piece. Dropped before it answers, nothing is lost.
    pub async fn next(&mut self) -> Watched {
        loop {
            match self.ear.inbox.next().await {
                Came::Missed => return Watched::Missed,
                Came::Said(said) => match text::read(&said) {
                    Some(piece) => return Watched::Piece(piece),
                    None => self.hints.counts.unreadable.more(),
                },
            }
        }
    }
}

impl RedisHints {
    /// Hears what is told to this node and to everybody. Needs no connection yet.
    pub fn listen(&self) -> Result<Listening, Trouble> {
        let own = self.names.node(&self.settings.node)?;
        let channels = vec![Arc::from(own), Arc::from(self.names.everybody())];
        Ok(Listening { ear: Ear::open(&self.hub, channels)?, hints: self.clone() })
    }

    /// Hears what is written in a session. Needs no connection yet.
    pub fn watch(&self, session: &str) -> Result<Watching, Trouble> {
        let channels = vec![Arc::from(self.names.text(session)?)];
        Ok(Watching { ear: Ear::open(&self.hub, channels)?, hints: self.clone() })
    }

    /// Tells a node something.
    pub async fn tell(&self, node: &str, news: &News) -> Result<Heard, Trouble> {
        self.publish(self.names.node(node)?, news.write()).await
    }

    /// Tells it to every node, this one included.
    pub async fn tell_all(&self, news: &News) -> Result<Heard, Trouble> {
        self.publish(self.names.everybody(), news.write()).await
    }

    /// Shows a piece to whoever watches the session. Pieces of one run are shown one after the
    /// other: each is awaited before the next, or their order is not sure.
    pub async fn show(&self, session: &str, piece: &Piece) -> Result<Heard, Trouble> {
        let said = text::write(piece, self.settings.draft_bytes_max)?;
        self.publish(self.names.text(session)?, said).await
    }

    async fn publish(&self, channel: String, said: String) -> Result<Heard, Trouble> {
        let ask = async move |mut con: MultiplexedConnection| {
            redis::cmd("PUBLISH").arg(channel).arg(said).query_async::<u64>(&mut con).await
        };
        let heard = self.calls.call(self.settings.call_time, ask).await?;
        Ok(if heard == 0 { Heard::Nobody } else { Heard::Somebody })
    }
}
