//! The way in of what adapters hear: who said it, to whom it goes, and what it is to them.
//!
//! Routing is a lookup ([`routing`]) and asks nobody; whoever is unknown is met in [`strangers`].
//! What was said becomes a text ([`words`]), a command ([`commands`]) or something that was not for
//! us ([`trigger`]), and goes the way of every message. Nothing here waits for an agent, so one
//! listener never waits for more than the store.

pub mod routing;

mod answers;
pub(crate) mod commands;
mod judge;
mod lately;
mod strangers;
mod trigger;
pub(crate) mod words;

use std::sync::Arc;

use turnkeep_core::ids::{QuestionId, Seq, Timestamp};
use turnkeep_core::journal::EventBody;
use turnkeep_core::message::{Inbound, InboundKind, MessageBody, Rejection};
use turnkeep_core::moderation::Trigger as Asked;
use turnkeep_core::policy::Trust;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::intake::{Chat, Heard, Intake, Person, Said, Taken};
use turnkeep_core::session::Stage;
use turnkeep_core::session_key::SessionKind;
use turnkeep_core::{Event, SessionKey};

use crate::clock;
use crate::ingress::{Admitted, HeardAs, Submission, heard_name, is_blank};
use crate::mail::{Mail, Submit};
use crate::people::People;
use crate::service::{Gateway, Refusal};
use lately::Lately;
use routing::{Account, Group, Known, Routing, Strangers, Trigger};
use trigger::{Addressed, addressed, without_mention};

/// How long somebody may take to say whether a message in a group is for us.
const TRIGGER_TIMEOUT_MS: u64 = 15_000;
/// So many entries back the open question is looked for.
const QUESTION_WITHIN: usize = 256;
const HOUR_MS: i64 = 3_600_000;

/// What is remembered of what was heard; nothing depends on it across a restart.
pub(crate) struct Desk {
    /// Wrong codes: five an hour of each, fifty of all.
    tries: Lately,
    /// Strangers who were asked who they are, or noted in the log.
    greeted: Lately,
    /// Sessions that were told of a refusal.
    refused: Lately,
    /// Groups that nobody listed.
    unlisted: Lately,
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            tries: Lately::new(HOUR_MS, 50, 5),
            greeted: Lately::new(HOUR_MS, 50, 1),
            refused: Lately::new(60_000, 1000, 1),
            unlisted: Lately::new(24 * HOUR_MS, 1000, 1),
        }
    }
}

/// Where something goes, and as whose it counts.
struct Here {
    tenant: Arc<str>,
    agent: Arc<str>,
    channel: &'static str,
    account: Arc<str>,
    kind: SessionKind,
    peer: Arc<str>,
    /// The canonical name of who says it.
    sender: Arc<str>,
    trust: Trust,
}

impl Here {
    /// A direct chat.
    fn alone(account: &Account, known: Option<&Known>, heard: &Heard) -> Self {
        let agent = known.and_then(|known| known.agent.as_ref()).unwrap_or(&account.agent);
        let name = known.and_then(|known| known.name.as_ref()).unwrap_or(&heard.sender.id);
        Self {
            tenant: Arc::clone(&account.tenant),
            agent: Arc::clone(agent),
            channel: heard.channel,
            account: Arc::clone(&account.name),
            kind: SessionKind::Dm,
            peer: Arc::clone(
                known.and_then(|known| known.peer.as_ref()).unwrap_or(&heard.sender.id),
            ),
            sender: Arc::clone(name),
            trust: known.map_or(Trust::Public, |known| known.trust),
        }
    }

    /// A group; nobody is trusted more there than it allows.
    fn together(account: &Account, known: Option<&Known>, group: &Group, heard: &Heard) -> Self {
        let alone = Self::alone(account, known, heard);
        Self {
            agent: Arc::clone(group.agent.as_ref().unwrap_or(&account.agent)),
            kind: SessionKind::Group,
            peer: Arc::clone(&group.id),
            trust: alone.trust.min(group.ceiling),
            ..alone
        }
    }

    fn key(&self) -> Option<SessionKey> {
        SessionKey::new(&self.tenant, &self.agent, self.channel, self.kind, &self.peer).ok()
    }
}

impl Intake for Gateway {
    fn may_store(&self, channel: &str, account: &str, chat: &Chat, sender: &Person) -> bool {
        let routing = Arc::clone(&self.setup().settings.routing);
        let Some(account) = routing.account(channel, account) else { return false };
        let known = self.known(&routing, account, channel, sender);
        let trust = known.map(|known| known.trust);
        let trust = match chat {
            Chat::Direct => {
                trust.or((account.strangers == Strangers::Public).then_some(Trust::Public))
            }
            Chat::Group { id, .. } => routing
                .group(&account.tenant, channel, id)
                .map(|group| trust.unwrap_or(Trust::Public).min(group.ceiling)),
        };
        trust.is_some_and(|trust| trust >= account.stores_from)
    }

    fn take(&self, heard: Heard) -> BoxFuture<'_, Taken> {
        Box::pin(self.take_in(heard))
    }
}

impl Gateway {
    /// The way in for adapters.
    #[must_use]
    pub fn intake(&self) -> Arc<dyn Intake> {
        Arc::new(self.clone())
    }

    async fn take_in(&self, heard: Heard) -> Taken {
        if let Err(why) = self.readiness() {
            return Taken::Unavailable(why.into());
        }
        let routing = Arc::clone(&self.setup().settings.routing);
        let Some(account) = routing.account(heard.channel, &heard.account) else {
            return Taken::Ignored("no such account is configured");
        };
        let known = self.known(&routing, account, heard.channel, &heard.sender);
        let Chat::Group { id, title } = &heard.chat else {
            if let Some(taken) = self.try_code(account, known.as_ref(), &heard).await {
                return taken;
            }
            if known.is_none() && account.strangers != Strangers::Public {
                return self.stranger(account, &heard).await;
            }
            let here = Here::alone(account, known.as_ref(), &heard);
            return self.said(&here, None, &heard).await;
        };
        let Some(group) = routing.group(&account.tenant, heard.channel, id) else {
            let title = title.as_deref().and_then(words::name);
            self.unlisted(account, &heard, id, title.as_deref());
            return Taken::Ignored("from a group that is not listed");
        };
        let here = Here::together(account, known.as_ref(), group, &heard);
        let name = name_in_group(&routing, &self.0.people, account, known.as_ref(), &heard.sender);
        self.said(&here, Some((group, &name)), &heard).await
    }

    /// Who somebody is on one of our accounts.
    fn known(
        &self,
        routing: &Routing,
        account: &Account,
        channel: &str,
        person: &Person,
    ) -> Option<Known> {
        let paired = self.0.people.paired(&account.tenant, channel, person);
        routing.known(&account.tenant, channel, person, paired)
    }

    /// Once, so that whoever wants us there finds the group's name.
    fn unlisted(&self, account: &Account, heard: &Heard, id: &str, title: Option<&str>) {
        if self.0.desk.unlisted.take(&format!("{}:{id}", heard.channel), clock::now()) {
            tracing::info!(
                channel = heard.channel,
                account = &*account.name,
                group = format!("{}:{id}", heard.channel),
                title,
                "this group is not listed, so what is said there is ignored; [groups.NAME] id lists it"
            );
        }
    }

    /// A message of a client that is a command as a whole.
    pub(crate) async fn recognised(&self, mut admitted: Admitted) -> Admitted {
        let Admitted { key, inbound, .. } = &mut admitted;
        if inbound.kind == InboundKind::Message
            && let Some(command) = commands::parse(&inbound.body.text)
            && commands::has_commands(&key.channel())
        {
            // Whoever a client says that it is may be anybody.
            let act = self.act_of(command, key, None).await;
            inbound.kind = InboundKind::Command(act);
        }
        admitted
    }

    async fn said(&self, here: &Here, group: Option<(&Group, &str)>, heard: &Heard) -> Taken {
        let Some(key) = here.key() else {
            return Taken::Ignored("its sender or its group has no usable name");
        };
        match &heard.said {
            Said::Typing if group.is_none() => {
                self.user_typing(&key);
                Taken::Ignored("typing")
            }
            // Others' typing says nothing of whoever wrote.
            Said::Typing => Taken::Ignored("typing in a group"),
            Said::Message { text, mentions_us, quoted, quotes_us, attachments } => {
                let raw = words::text(text);
                let whole = words::message(text, quoted.as_ref(), attachments);
                let typed = group
                    .map_or(raw.trim(), |(group, _)| without_mention(group, &raw, *mentions_us));
                if let Some(command) = commands::parse(typed).filter(|_| attachments.is_empty()) {
                    let act = self.act_of(command, &key, Some(&here.sender)).await;
                    return self
                        .hand_in(here, group, heard, whole, InboundKind::Command(act))
                        .await;
                }
                let what = of_group(group, &raw, *mentions_us, *quotes_us);
                self.hand_in(here, group, heard, whole, what).await
            }
            Said::Edit { text, mentions_us, .. } => {
                let what = of_group(group, text, *mentions_us, false);
                self.hand_in(here, group, heard, words::edit(text), what).await
            }
            Said::Reaction { removed: true, .. } => {
                Taken::Ignored("a reaction that was taken back")
            }
            Said::Reaction { to_us: false, .. } => Taken::Ignored("a reaction to somebody else"),
            Said::Reaction { sign, of, .. } => {
                let answer = words::yes_or_no(sign);
                if let Some(yes) = answer
                    && self.waits_for(&key, here.trust, of).await
                {
                    // As it is: nothing else is read as leave to do what was asked about.
                    let text = if yes { "yes" } else { "no" };
                    let what = InboundKind::Message;
                    return self.hand_in(here, None, heard, text.to_owned(), what).await;
                }
                let text = words::reaction(sign, of);
                self.hand_in(here, group, heard, text, InboundKind::Context).await
            }
        }
    }

    /// Whether the open turn asked a person something, and this message of ours is that question. No
    /// other is taken for it: what a sign was put to beside it is no leave.
    async fn waits_for(&self, key: &SessionKey, trust: Trust, of: &str) -> bool {
        let Some(session) = self.glance(key).await else { return false };
        let Some(turn) = session.turn.as_ref().filter(|turn| turn.trust == trust) else {
            return false;
        };
        let Stage::Waiting { question, .. } = turn.stage else { return false };
        let after = Seq(session.last_seq.0.saturating_sub(QUESTION_WITHIN as u64));
        let Ok(events) = self.store().events(key, after, QUESTION_WITHIN).await else {
            return false;
        };
        of.parse().is_ok_and(|sent_at| is_question(&events, question, sent_at))
    }

    /// Sends it the way of every message.
    async fn hand_in(
        &self,
        here: &Here,
        group: Option<(&Group, &str)>,
        heard: &Heard,
        text: String,
        what: InboundKind,
    ) -> Taken {
        if is_blank(&text) {
            return Taken::Ignored("nothing was said");
        }
        let text = match group {
            Some((_, name)) => words::said_by(name, &text),
            None => text,
        };
        // What is not for us is not refused aloud either.
        let for_us = what != InboundKind::Context;
        let bytes_max = self.setup().settings.message_bytes_max;
        if text.len() > bytes_max {
            let why = "it is too long";
            return match for_us {
                true => self.too_long(here, heard, text.len(), bytes_max).await,
                false => Taken::Refused(why.into()),
            };
        }
        let submission = Submission {
            tenant: Some(here.tenant.to_string()),
            agent: Some(here.agent.to_string()),
            customer: Some(here.sender.to_string()),
            channel: Some(here.channel.to_owned()),
            text,
            message_id: Some(message_id(here, heard)),
            heard: Some(Box::new(HeardAs {
                trust: here.trust,
                kind: here.kind,
                peer: here.peer.to_string(),
                account: here.account.to_string(),
                person: heard.sender.id.to_string(),
                id: heard.message_id.to_string(),
                what,
                disappears_s: heard.disappears_s,
            })),
            ..Submission::default()
        };
        match self.submit(submission, false).await {
            Ok(_) => Taken::Accepted,
            Err(refusal) => {
                if let Refusal::Field(error) = &refusal {
                    tracing::warn!(channel = here.channel, %error, "what was heard can't be taken");
                }
                if for_us {
                    self.tell_refusal(here, &refusal).await;
                }
                refused(&refusal)
            }
        }
    }

    async fn too_long(&self, here: &Here, heard: &Heard, bytes: usize, most: usize) -> Taken {
        let text = format!(
            "That message is too long for me: it has {bytes} bytes, and I can take {most}. Please \
             send it in parts."
        );
        match self.tell(here, &format!("long/{}", heard.message_id), text.into()).await {
            Ok(()) => Taken::Refused("it is too long".into()),
            Err(refusal) => refused(&refusal),
        }
    }

    /// Says what was refused where nobody else does, once a minute at most.
    async fn tell_refusal(&self, here: &Here, refusal: &Refusal) {
        let text = match refusal {
            Refusal::Rejected(Rejection::QueueFull) => {
                "Too many of your messages wait already. I did not take this one; please send it \
                 again later."
            }
            Refusal::Rejected(Rejection::SessionBusy) => {
                "I am busy and did not take this message. Please send it again later."
            }
            Refusal::Rejected(Rejection::RateLimited { .. }) => {
                "That was too much at once. I did not take this message; please send it again in a \
                 minute."
            }
            _ => return,
        };
        let now = clock::now();
        let Some(key) = here.key() else { return };
        if !self.0.desk.refused.take(key.as_str(), now) {
            return;
        }
        let name = format!("refused/{}", now.div_euclid(60_000));
        if let Err(refusal) = self.tell(here, &name, text.into()).await {
            tracing::warn!(session_key = %key, ?refusal, "a refusal could not be told");
        }
    }

    /// Says something of our own in a chat; once, however often it is asked for under this name.
    /// It passes no guard: whoever is refused shall hear of it.
    async fn tell(&self, here: &Here, name: &str, text: Arc<str>) -> Result<(), Refusal> {
        let wrong = |why: &str| Refusal::Unavailable(why.to_owned());
        let key = here.key().ok_or_else(|| wrong("no session has this name"))?;
        let policy = self.policy_of(&key).ok_or_else(|| wrong("its agent is not configured"))?;
        let seen = heard_name(self.salt()?, &key, "", &here.sender, name);
        let body = MessageBody {
            message_id: name.into(),
            sender: Arc::clone(&here.sender),
            text: "(what was said is not kept)".into(),
        };
        let inbound = Inbound {
            token: turnkeep_core::ids::Token(0),
            body: Arc::new(body),
            trust: Trust::Public,
            seen: Some(seen),
            request: None,
            refused: None,
            kind: InboundKind::Command(turnkeep_core::message::CommandAct::Say(text)),
            answers: None,
            disappears_s: None,
        };
        let (reply, answer) = tokio::sync::oneshot::channel();
        let since = std::time::Instant::now();
        let submit = Submit { inbound, reply, settle: None, since, trace: None };
        self.send(&key, policy, Mail::Submit(Box::new(submit)));
        let answered = answer.await.map_err(|_| wrong("the session's task was interrupted"))?;
        answered.map(|_| ()).map_err(Refusal::Unavailable)
    }
}

/// Whether what was sent at this moment was the question. Parts of a session leave one after the other:
/// it was sent behind the end of whatever was sent before it, and before its own.
fn is_question(events: &[Event], question: QuestionId, sent_at: Timestamp) -> bool {
    let asked = events.iter().find_map(|event| match event.body {
        EventBody::TurnWaitingForInput { question_id, .. } if question_id == question => {
            Some((event.seq, event.at))
        }
        _ => None,
    });
    let Some((place, asked_at)) = asked else { return false };
    let (mut from, mut until) = (asked_at, None);
    for event in events {
        match event.body {
            EventBody::DeliverySettled { reply, .. } if reply == place => until = Some(event.at),
            EventBody::DeliverySettled { .. } if until.is_none() => from = from.max(event.at),
            _ => {}
        }
    }
    until.is_some_and(|until| from <= sent_at && sent_at <= until)
}

/// What a message is to the session; in a direct chat everything is for us.
fn of_group(
    group: Option<(&Group, &str)>,
    said: &str,
    mentions_us: bool,
    quotes_us: bool,
) -> InboundKind {
    let Some((group, _)) = group else { return InboundKind::Message };
    match (addressed(group, said, mentions_us, quotes_us), &group.trigger) {
        (Addressed::Yes, _) => InboundKind::Message,
        (Addressed::Perhaps, Trigger::Llm(agent)) => {
            InboundKind::Unclear(Asked { agent: Arc::clone(agent), timeout_ms: TRIGGER_TIMEOUT_MS })
        }
        (Addressed::No | Addressed::Perhaps, _) => InboundKind::Context,
    }
}

/// What somebody is called before what they say in a group. Nobody is called like a user who is
/// somebody else.
fn name_in_group(
    routing: &Routing,
    people: &People,
    account: &Account,
    known: Option<&Known>,
    person: &Person,
) -> String {
    if let Some(name) = known.and_then(|known| known.name.as_deref()) {
        return words::name(name).unwrap_or_else(|| name.to_owned());
    }
    let shown = person.name.as_deref().and_then(words::name);
    let shown = shown.or_else(|| words::name(&person.id)).unwrap_or_else(|| "somebody".to_owned());
    if routing.is_name(&account.tenant, &shown) || people.is_name(&account.tenant, &shown) {
        format!("{shown} (somebody else)")
    } else {
        shown
    }
}

/// In a group the provider's ids are unique for each sender only, so theirs goes along; and who a
/// reply quotes is read off it.
fn message_id(here: &Here, heard: &Heard) -> String {
    match here.kind {
        SessionKind::Group => format!("{}/{}", heard.message_id, heard.sender.id),
        _ => heard.message_id.to_string(),
    }
}

/// The two parts of such an id.
pub(crate) fn id_and_author(message_id: &str) -> Option<(&str, &str)> {
    message_id.split_once('/')
}

fn refused(refusal: &Refusal) -> Taken {
    match refusal {
        Refusal::Overloaded => Taken::Unavailable("too many messages wait to be decided".into()),
        Refusal::Unavailable(why) => Taken::Unavailable(why.as_str().into()),
        Refusal::Rejected(rejection) => Taken::Refused(rejection.as_str().into()),
        Refusal::Field(error) => Taken::Refused(error.to_string().into()),
    }
}
