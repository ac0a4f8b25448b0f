//! Somebody unknown writes to us alone: nothing is answered, or a code is asked for.
//!
//! What they write is no message: it goes to no agent and into no journal. What is told to them is
//! fixed, a notice in a session of their own, and told seldom, whoever writes and how often.

use std::sync::Arc;

use turnkeep_core::ports::intake::{Heard, Said, Taken};
use turnkeep_core::ports::people::PairedWith;

use super::routing::{Account, Known, Strangers};
use super::{Here, refused};
use crate::clock;
use crate::people::{Shown, code_of};
use crate::service::Gateway;

const WHO_ARE_YOU: &str =
    "I don't know you yet. Ask whoever runs this for a code, and send it here.";
const WRONG: &str = "This code is not right, or it is too old.";
const KNOWN_ALREADY: &str = "I know you already. This code still waits for somebody else.";
const DAY_MS: i64 = 86_400_000;

impl Gateway {
    /// A text that is a code of somebody's pairing; none if it is anything else. Whoever is known
    /// by no name of the configuration may become known by it.
    pub(super) async fn try_code(
        &self,
        account: &Account,
        known: Option<&Known>,
        heard: &Heard,
    ) -> Option<Taken> {
        let code = said(heard).and_then(code_of)?;
        let stranger = known.is_none();
        if stranger && account.strangers == Strangers::Deny {
            return None;
        }
        let who = format!("{}:{}", heard.channel, heard.sender.id);
        let routing = Arc::clone(&self.setup().settings.routing);
        let named = routing.exact(&account.tenant, heard.channel, &heard.sender).is_some();
        // Whoever may talk to us anyway also says what only looks like a code.
        let talks = !stranger || account.strangers == Strangers::Public;
        // A guess is counted before it is looked at.
        if !named && !self.0.desk.tries.take(&who, clock::now()) {
            tracing::warn!(
                channel = heard.channel,
                sender = &*heard.sender.id,
                "too many wrong codes"
            );
            return (!talks).then_some(Taken::Ignored("too many wrong codes"));
        }
        let Ok(hash) = self.code_hash(&code) else {
            return Some(Taken::Unavailable("the server is starting".into()));
        };
        let asked = (&*account.tenant, heard.channel, &heard.sender);
        let shown = self.0.people.shown(asked, hash, clock::now());
        let (hash, theirs) = match shown {
            Shown::Wrong if talks => return None,
            Shown::Wrong => {
                let here = Here::alone(account, known, heard);
                let why = "a wrong code";
                return Some(
                    self.answer(&here, heard, WRONG.into(), Taken::Refused(why.into())).await,
                );
            }
            Shown::Waits(hash) => (hash, None),
            Shown::Theirs(pairing) => (hash, Some(pairing)),
        };
        self.0.desk.tries.excuse(&who);
        if named {
            let here = Here::alone(account, known, heard);
            return Some(self.answer(&here, heard, KNOWN_ALREADY.into(), Taken::Accepted).await);
        }
        let (channel, person) = (Arc::from(heard.channel), Arc::clone(&heard.sender.id));
        let with = PairedWith { channel, person, at: clock::now() };
        let taken = match theirs {
            Some(pairing) => Ok(Some(pairing)),
            None => self.take_pairing(hash, with).await,
        };
        Some(match taken {
            Ok(Some(pairing)) => {
                tracing::info!(
                    channel = heard.channel,
                    user = &*pairing.user,
                    "somebody was paired"
                );
                let known = self.known(&routing, account, heard.channel, &heard.sender);
                let here = Here::alone(account, known.as_ref(), heard);
                let text =
                    format!("Hello {}, I know you now. What can I do for you?", pairing.user);
                self.answer(&here, heard, text.into(), Taken::Accepted).await
            }
            Ok(None) => Taken::Refused("a code that was taken meanwhile".into()),
            Err(error) => Taken::Unavailable(error.to_string().into()),
        })
    }

    /// Somebody unknown wrote something that is no code.
    pub(super) async fn stranger(&self, account: &Account, heard: &Heard) -> Taken {
        let now = clock::now();
        let who = format!("{}:{}", heard.channel, heard.sender.id);
        let wrote = matches!(heard.said, Said::Message { .. });
        if !wrote || !self.0.desk.greeted.take(&who, now) {
            return Taken::Ignored("from somebody unknown");
        }
        // So that whoever runs this can make them known.
        tracing::info!(
            channel = heard.channel,
            account = &*account.name,
            sender = &*heard.sender.id,
            "somebody unknown wrote; [users.NAME] ids or `turnkeep pair new` makes them known"
        );
        if account.strangers != Strangers::Pair {
            return Taken::Ignored("from somebody unknown");
        }
        let here = Here::alone(account, None, heard);
        let name = format!("stranger/{}", now.div_euclid(DAY_MS));
        match self.tell(&here, &name, WHO_ARE_YOU.into()).await {
            Ok(()) => Taken::Refused("from somebody unknown".into()),
            Err(refusal) => refused(&refusal),
        }
    }

    /// Answers what was heard, once, with something of our own.
    async fn answer(&self, here: &Here, heard: &Heard, text: Arc<str>, taken: Taken) -> Taken {
        match self.tell(here, &format!("code/{}", heard.message_id), text).await {
            Ok(()) => taken,
            Err(refusal) => refused(&refusal),
        }
    }
}

fn said(heard: &Heard) -> Option<&str> {
    match &heard.said {
        Said::Message { text, attachments, .. } if attachments.is_empty() => Some(text),
        _ => None,
    }
}
