//! What commands are answered with that ask only: how a session stands, who answers, what there is.
//!
//! All of it is read from snapshots, within a limit, so whoever listens never waits for it long.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;
use turnkeep_core::ids::Seq;
use turnkeep_core::journal::EventBody;
use turnkeep_core::message::CommandAct;
use turnkeep_core::session::{Session, SessionStatus, Stage};
use turnkeep_core::session_key::SessionKind;
use turnkeep_core::{SessionKey, Timestamp};

use super::commands::{Command, policy_word};
use super::{QUESTION_WITHIN, words};
use crate::clock;
use crate::service::Gateway;

/// How long a look at what is stored may take.
const LOOK: Duration = Duration::from_millis(500);
/// So many sessions are looked for, and listed.
const SESSIONS_MAX: usize = 40;

const BUSY: &str = "I can't look just now. Please ask again in a moment.";
const HELP: &str = "\
/new begins a new conversation
/stop ends what I am doing
/status tells what I am doing
/queue WORD chooses what becomes of messages while I work: absorb, collect, queue, supersede, \
reject or default
/model tells who answers; with a name it chooses another model
/sessions lists your conversations
/help is this";
const QUEUE_HELP: &str = "/queue needs one of: absorb (I read it while I work), collect (I answer \
all that waited at once), queue (one after the other), supersede (I start again with it), reject \
(I don't take it), default.";
const ALONE: &str = "Please ask me that in a chat of ours alone.";

impl Gateway {
    /// What is done for a command in this session, and said.
    pub(crate) async fn act_of(
        &self,
        command: Command,
        key: &SessionKey,
        sender: Option<&str>,
    ) -> CommandAct {
        let text: Arc<str> = match command {
            Command::New => return CommandAct::New,
            Command::Stop => return CommandAct::Stop { shown: None },
            Command::Queue(policy) => return CommandAct::Queue(policy),
            Command::QueueHelp => self.queue_words(key).await.into(),
            Command::Status => self.status_words(key).await.into(),
            Command::Model(None) => self.model_words(key).await.into(),
            Command::Model(Some(name)) => return self.choose_model(key, &name),
            Command::Sessions if key.kind() == SessionKind::Group => ALONE.into(),
            Command::Sessions => self.sessions_words(key, sender).await.into(),
            Command::Help => HELP.into(),
        };
        CommandAct::Say(text)
    }

    /// A session as it was made durable last; none where nobody wrote in it, or it takes too long.
    pub(super) async fn glance(&self, key: &SessionKey) -> Option<Arc<Session>> {
        let loaded = timeout(LOOK, self.store().load(key)).await.ok()?.ok()??;
        Some(loaded.session)
    }

    /// The busy policy in force.
    fn busy_word(&self, key: &SessionKey, session: Option<&Session>) -> &'static str {
        let chosen = session.and_then(|session| session.busy);
        let policy = chosen.or_else(|| self.policy_of(key).map(|policy| policy.busy));
        policy.map_or("default", policy_word)
    }

    async fn queue_words(&self, key: &SessionKey) -> String {
        let session = self.glance(key).await;
        let word = self.busy_word(key, session.as_deref());
        let mut words = format!("{QUEUE_HELP}\nNow it is {word}.");
        if let Some(asked) = self.open_question(key, session.as_deref()).await {
            // A String takes everything.
            let _ = write!(words, "\n{}", waits_for(&asked));
        }
        words
    }

    /// What the open turn asked its user, as it can be shown; none where that is long ago.
    async fn open_question(&self, key: &SessionKey, session: Option<&Session>) -> Option<String> {
        let session = session?;
        let Stage::Waiting { question, .. } = session.turn.as_ref()?.stage else { return None };
        let after = Seq(session.last_seq.0.saturating_sub(QUESTION_WITHIN as u64));
        let events = timeout(LOOK, self.store().events(key, after, QUESTION_WITHIN)).await.ok()?;
        let text = events.ok()?.into_iter().find_map(|event| match event.body {
            EventBody::TurnWaitingForInput { question_id, text, .. } if question_id == question => {
                Some(text)
            }
            _ => None,
        });
        let shown = words::bare(&text?, false);
        (!shown.is_empty()).then_some(shown)
    }

    async fn status_words(&self, key: &SessionKey) -> String {
        let session = self.glance(key).await;
        let mut words = match session.as_deref() {
            Some(session) => {
                let asked = self.open_question(key, Some(session)).await;
                standing(session, asked.as_deref(), clock::now())
            }
            None => "Nothing was said here yet.".to_owned(),
        };
        let word = self.busy_word(key, session.as_deref());
        // A String takes everything.
        let _ = write!(words, "\nMessages while I work: {word}.");
        words
    }

    async fn model_words(&self, key: &SessionKey) -> String {
        let name = key.agent();
        let setup = self.setup();
        let Some(configured) = setup.agents.get(&name) else {
            return format!("The agent {name} answers here, but it is not configured any more.");
        };
        let mut words = format!("The agent {name} answers here ({}).", configured.agent.kind());
        let models = configured.agent.models();
        if !models.is_empty() {
            let chosen = self.glance(key).await.and_then(|session| session.model.clone());
            let _ = write!(words, "\nIts models: {}.", listed(models, chosen.as_deref()));
        }
        let turns = timeout(LOOK, self.store().turns(key, None, 5)).await;
        let turns = turns.ok().and_then(Result::ok).unwrap_or_default();
        if let Some(version) = turns.iter().find_map(|turn| turn.version.as_deref()) {
            let _ = write!(words, "\nThe last answer came from {version}.");
        }
        words
    }

    /// What `/model NAME` does: whether its sender may is decided where it is done.
    fn choose_model(&self, key: &SessionKey, name: &str) -> CommandAct {
        let setup = self.setup();
        let models = setup.agents.get(&key.agent()).map_or(&[][..], |one| one.agent.models());
        let found = models.iter().position(|(one, _)| one.eq_ignore_ascii_case(name));
        let told = match found.and_then(|at| models.get(at)) {
            Some((name, model)) => format!("From the next answer on it is {name} ({model})."),
            None if models.is_empty() => "There is no other model here.".to_owned(),
            None => {
                let names: Vec<&str> = models.iter().map(|(name, _)| &**name).collect();
                format!("There is no model {name:?} here, only {}.", names.join(", "))
            }
        };
        let told: Arc<str> = told.into();
        match found {
            // Its own one is the first, whatever it is configured to be later.
            Some(0) => CommandAct::Model { name: None, told },
            Some(at) => CommandAct::Model { name: Some(Arc::clone(&models[at].0)), told },
            None => CommandAct::Say(told),
        }
    }

    /// Somebody's own direct conversations: with every agent, under every name of theirs.
    async fn sessions_words(&self, key: &SessionKey, sender: Option<&str>) -> String {
        let setup = self.setup();
        let (tenant, channel) = (key.tenant(), key.channel());
        let mut names = vec![(channel, key.peer())];
        let user = sender.and_then(|sender| setup.settings.routing.user(sender));
        if let Some(user) = user.filter(|user| *user.tenant == tenant) {
            let exact = user.ids.iter().filter(|(_, id)| !id.ends_with('*'));
            let exact = exact.map(|(channel, id)| (channel.to_string(), id.to_string()));
            names.extend(exact.filter(|name| *name != names[0]).collect::<Vec<_>>());
        }
        let mut agents: Vec<&String> = setup.agents.keys().collect();
        agents.sort();
        let keys = names.iter().flat_map(|(channel, id)| {
            let tenant = &tenant;
            agents.iter().filter_map(move |agent| {
                SessionKey::new(tenant, agent, channel, SessionKind::Dm, id).ok()
            })
        });
        let keys: Vec<SessionKey> = keys.take(SESSIONS_MAX).collect();
        let looks = join_all(keys.iter().map(|key| self.store().load(key)));
        let Ok(loaded) = timeout(LOOK, looks).await else { return BUSY.to_owned() };
        let found = keys.iter().zip(loaded).filter_map(|(key, loaded)| {
            let session = loaded.ok()??.session;
            Some(format!(
                "{} on {}: {}",
                key.agent(),
                key.channel(),
                standing(&session, None, clock::now())
            ))
        });
        let lines: Vec<String> = found.collect();
        if lines.is_empty() {
            "You have no conversations yet.".to_owned()
        } else {
            lines.join("\n")
        }
    }
}

/// Models with what they are; one of them is in use.
fn listed(models: &[(Arc<str>, Arc<str>)], chosen: Option<&str>) -> String {
    let at = models.iter().position(|(name, _)| Some(&**name) == chosen).unwrap_or(0);
    let each = models.iter().enumerate().map(|(nth, (name, model))| {
        let used = if nth == at { ", in use" } else { "" };
        format!("{name} ({model}{used})")
    });
    each.collect::<Vec<_>>().join(", ")
}

/// How a session stands, in a sentence.
fn standing(session: &Session, asked: Option<&str>, now: Timestamp) -> String {
    let open = session.turn.as_ref().map(|turn| lasted(turn.started_at, now));
    let open = open.unwrap_or_default();
    let quiet = lasted(session.updated_at, now);
    let state = match session.status() {
        SessionStatus::Accumulating => "I am waiting whether you write more".to_owned(),
        SessionStatus::Processing => format!("I have been working for {open}"),
        SessionStatus::WaitingForInput => match asked {
            Some(asked) => format!("{} ({open} so far)", waits_for(asked)),
            None => format!("I asked something; it has been open for {open}"),
        },
        SessionStatus::WaitingForOperator => format!("A person has been asked; {open} so far"),
        SessionStatus::Closed => format!("Closed, for {quiet}"),
        SessionStatus::Failed => format!("The last answer failed, {quiet} ago"),
        SessionStatus::Idle | SessionStatus::Hibernated => format!("Idle, for {quiet}"),
    };
    let mailbox = session.turn.as_ref().map_or(0, |turn| turn.mailbox.len());
    match session.queue.len() + session.held.len() + mailbox {
        0 => format!("{state}."),
        1 => format!("{state}. One message waits."),
        more => format!("{state}. {more} messages wait."),
    }
}

fn waits_for(asked: &str) -> String {
    format!("The open turn waits for an answer to: {asked}")
}

/// How long something lasted, in one unit.
fn lasted(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.saturating_sub(since).max(0) / 1000;
    let (count, unit) = match seconds {
        0..120 => (seconds, "s"),
        120..7200 => (seconds / 60, "min"),
        7200..172_800 => (seconds / 3600, "h"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{count} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_one_unit() {
        let check = |seconds: i64, expect: &str| {
            assert_eq!(lasted(5_000, 5_000 + seconds * 1000), expect, "{seconds}");
        };
        check(-5, "0 s");
        check(40, "40 s");
        check(121, "2 min");
        check(7201, "2 h");
        check(200_000, "2 days");
    }

    #[test]
    fn a_session_stands_in_a_sentence() {
        let session = Session { updated_at: 1000, ..Session::new() };
        assert_eq!(standing(&session, None, 6000), "Idle, for 5 s.");
        let closed = Session { closed: true, ..session.clone() };
        assert_eq!(standing(&closed, None, 6000), "Closed, for 5 s.");
        let failed = Session { failed: true, ..session };
        assert_eq!(standing(&failed, None, 6000), "The last answer failed, 5 s ago.");
    }
}
