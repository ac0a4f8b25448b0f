//! The way in, without IO: checks a submission, routes it, and makes it an inbound message.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use smallvec::SmallVec;
use turnkeep_core::care::is_tombstone;
use turnkeep_core::ids::{QuestionId, Token};
use turnkeep_core::message::{Inbound, InboundKind, MessageBody, Seen};
use turnkeep_core::policy::{Policy, Trust};
use turnkeep_core::session_key::{SEGMENT_BYTES_MAX, SessionKey, SessionKeyError, SessionKind};
use turnkeep_core::trace::SpanContext;

mod operator;
mod unasked;

pub use operator::{AdmittedReply, OPERATOR_CHARS_MAX, OperatorReply, admit_reply, check_operator};
pub(crate) use unasked::scheduled_name;
pub use unasked::{AdmittedUnasked, admit_unasked};

/// What a caller hands in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Submission {
    /// Who owns the deployment slice; `default` if absent.
    pub tenant: Option<String>,
    /// Which agent answers; `default` if absent.
    pub agent: Option<String>,
    /// Who talks.
    pub customer: Option<String>,
    /// The way it came; `api` if absent.
    pub channel: Option<String>,
    /// An existing session instead of the parts above.
    pub session: Option<String>,
    /// The text.
    pub text: String,
    /// The channel's own id; one is made if absent.
    pub message_id: Option<String>,
    /// A name of the whole request, for callers without ids of their own. It counts for the whole
    /// tenant, or for `request_of` alone; whoever hands it in has checked its form.
    pub request_name: Option<String>,
    /// The customer who names requests and must not use up the names of the tenant's own programs.
    pub request_of: Option<String>,
    /// The question that it answers; it is taken as that or not at all.
    pub question: Option<QuestionId>,
    /// The span that it came with, for traces. Nothing is decided by it.
    pub trace: Option<SpanContext>,
    /// What an adapter knows of it; none for what a client hands in.
    pub heard: Option<Box<HeardAs>>,
}

/// What is known of a message that an adapter heard, and what no client may say of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeardAs {
    /// How far its sender is trusted there.
    pub trust: Trust,
    /// What sort of conversation it is of.
    pub kind: SessionKind,
    /// Whose that is: a person's or a group's.
    pub peer: String,
    /// Which of our accounts heard it.
    pub account: String,
    /// The provider's lasting name of its sender.
    pub person: String,
    /// The provider's id of it. It alone makes a twin: texts are made here, and a name that
    /// changed would make another one.
    pub id: String,
    /// What it is to its session.
    pub what: InboundKind,
    /// So many seconds after it came it shall be nowhere any more.
    pub disappears_s: Option<u32>,
}

/// A mistake in a submission, by field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct FieldError {
    /// Which field of the request.
    pub field: &'static str,
    /// What is wrong with it, and what is right.
    pub why: String,
}

impl FieldError {
    fn new(field: &'static str, why: impl Into<String>) -> Self {
        Self { field, why: why.into() }
    }
}

/// An admitted message, ready for its session.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// Where it goes.
    pub key: SessionKey,
    /// The numbers that session lives by.
    pub policy: Arc<Policy>,
    /// The message; its token is set by whoever waits.
    pub inbound: Inbound,
}

/// Resolves the policy of (tenant, agent, channel); the error names the part that is unknown.
pub trait Policies: Send + Sync + 'static {
    /// The policy, or which part is not configured.
    fn policy(&self, tenant: &str, agent: &str, channel: &str) -> Result<Arc<Policy>, UnknownPart>;

    /// The policy of a session that is there, though its agent may not be configured any more; none
    /// if there is no such channel.
    fn left_behind(&self, tenant: &str, agent: &str, channel: &str) -> Option<Arc<Policy>> {
        self.policy(tenant, agent, channel).ok()
    }
}

/// Which part of an address is not configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownPart {
    /// No such agent.
    Agent,
    /// No such channel.
    Channel,
}

/// The longest message id, in bytes.
pub const MESSAGE_ID_BYTES_MAX: usize = 256;

/// Checks and routes. `salt` is the store's secret: without it no guess at names and texts finds what
/// is remembered of them. `made_id` names the message if its sender did not.
pub fn admit(
    submission: Submission,
    policies: &dyn Policies,
    salt: &[u8],
    message_bytes_max: usize,
    made_id: impl FnOnce() -> String,
) -> Result<Admitted, FieldError> {
    check_text("message", &submission.text, message_bytes_max)?;
    let key = route(&submission)?;
    let policy = policy_of(&key, policies)?;
    let named_by_peer = submission.heard.is_none() && key.kind() == SessionKind::Dm;
    let sender = sender(submission.customer, &key, named_by_peer)?;
    let id = submission.message_id.map(check_id).transpose()?;
    let heard = submission.heard;
    let seen = id.as_deref().map(|id| match &heard {
        Some(heard) => heard_name(salt, &key, &heard.account, &heard.person, &heard.id),
        None => seen(salt, &key, &sender, id, &submission.text),
    });
    let (request, derived) = match &submission.request_name {
        Some(name) => {
            let id = id.as_deref().unwrap_or("");
            let question = submission.question.map(|question| question.to_string());
            let asked = ["chat", key.as_str(), &sender, &submission.text, id];
            // Only where one is named: requests of before keep their hash.
            let asked: SmallVec<[&str; 6]> = asked.into_iter().chain(question.as_deref()).collect();
            let tenant = key.tenant();
            let whose = whose(&tenant, submission.request_of.as_deref());
            let (request, derived) = request(salt, &whose, name, &asked);
            (Some(request), Some(derived))
        }
        None => (None, None),
    };
    let message_id = id.or(derived).unwrap_or_else(made_id);
    let body = MessageBody {
        message_id: message_id.into(),
        sender: sender.into(),
        text: submission.text.into(),
    };
    // A key tells whose customers they are, not how far to trust them: so far, all alike.
    let client = (Trust::Public, InboundKind::Message, None);
    let (trust, kind, disappears_s) =
        heard.map_or(client, |heard| (heard.trust, heard.what, heard.disappears_s));
    let inbound = Inbound {
        token: Token(0),
        body: Arc::new(body),
        trust,
        seen,
        request,
        refused: None,
        kind,
        answers: submission.question,
        disappears_s,
    };
    Ok(Admitted { key, policy, inbound })
}

/// The policy of a session, or the field that names what is not configured.
fn policy_of(key: &SessionKey, policies: &dyn Policies) -> Result<Arc<Policy>, FieldError> {
    let (tenant, agent, channel) = (key.tenant(), key.agent(), key.channel());
    policies.policy(&tenant, &agent, &channel).map_err(|unknown| match unknown {
        UnknownPart::Agent => {
            FieldError::new("agent_id", format!("no agent {agent:?} is configured"))
        }
        UnknownPart::Channel => {
            FieldError::new("channel", format!("no channel {channel:?} is configured"))
        }
    })
}

pub(crate) fn check_text(
    field: &'static str,
    text: &str,
    bytes_max: usize,
) -> Result<(), FieldError> {
    if is_blank(text) {
        return Err(FieldError::new(field, "must not be empty"));
    }
    if text.len() > bytes_max {
        let length = text.len();
        return Err(FieldError::new(
            field,
            format!("has {length} bytes; the limit is {bytes_max}"),
        ));
    }
    let bad = |character: &char| character.is_control() && !matches!(character, '\n' | '\r' | '\t');
    match text.chars().find(bad) {
        Some(character) => {
            let code = u32::from(character);
            Err(FieldError::new(field, format!("holds the control character U+{code:04X}")))
        }
        None => Ok(()),
    }
}

/// Whether there is nothing to see in it: white space, and characters that take no room at all or
/// show as a gap.
pub(crate) fn is_blank(text: &str) -> bool {
    text.chars().all(|character| {
        character.is_whitespace()
            || matches!(character,
                '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}' | '\u{1160}' | '\u{180B}'..='\u{180F}'
                | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}'
                | '\u{2800}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}'
                | '\u{E0000}'..='\u{E0FFF}')
    })
}

/// Who writes: whoever is named, else the session's peer. A conversation of two that is `named_by_peer`
/// is nobody else's: what one says there would be shown to the other, and erased with the one.
fn sender(
    customer: Option<String>,
    key: &SessionKey,
    named_by_peer: bool,
) -> Result<String, FieldError> {
    let Some(customer) = customer else {
        let peer = key.peer();
        if is_blank(&peer) {
            return Err(FieldError::new("session", "its peer must not be blank"));
        }
        return Ok(peer);
    };
    let wrong = if is_blank(&customer) {
        "must not be empty".to_owned()
    } else if customer.len() > SEGMENT_BYTES_MAX {
        format!("is longer than {SEGMENT_BYTES_MAX} bytes")
    } else if customer.chars().any(char::is_control) {
        "holds a control character".to_owned()
    } else if named_by_peer && *customer != *key.peer() {
        format!("is {customer:?}, but the session's is {:?}", key.peer())
    } else {
        return Ok(customer);
    };
    Err(FieldError::new("customer_id", wrong))
}

fn check_id(id: String) -> Result<String, FieldError> {
    if id.is_empty() || id.len() > MESSAGE_ID_BYTES_MAX || id.chars().any(char::is_control) {
        let why = format!("must be 1 to {MESSAGE_ID_BYTES_MAX} bytes without control characters");
        return Err(FieldError::new("id", why));
    }
    Ok(id)
}

fn route(submission: &Submission) -> Result<SessionKey, FieldError> {
    if let Some(text) = &submission.session {
        let key: SessionKey = text
            .parse()
            .map_err(|error: SessionKeyError| FieldError::new("session", error.to_string()))?;
        if is_tombstone(&key) {
            return Err(FieldError::new("session", "stands for one that was erased"));
        }
        let parts = [
            ("tenant_id", &submission.tenant, key.tenant()),
            ("agent_id", &submission.agent, key.agent()),
            ("channel", &submission.channel, key.channel()),
        ];
        for (field, given, of_session) in parts {
            if let Some(given) = given
                && **given != *of_session
            {
                let why = format!("is {given:?}, but the session's is {of_session:?}");
                return Err(FieldError::new(field, why));
            }
        }
        return Ok(key);
    }
    let Some(customer) = &submission.customer else {
        return Err(FieldError::new("customer_id", "is missing: who is writing?"));
    };
    let tenant = submission.tenant.as_deref().unwrap_or("default");
    let agent = submission.agent.as_deref().unwrap_or("default");
    let channel = submission.channel.as_deref().unwrap_or("api");
    let heard = submission.heard.as_ref();
    let (kind, peer) = heard.map_or((SessionKind::Dm, customer), |heard| (heard.kind, &heard.peer));
    SessionKey::new(tenant, agent, channel, kind, peer).map_err(|error| {
        let field = match &error {
            SessionKeyError::Empty(name)
            | SessionKeyError::TooLong(name)
            | SessionKeyError::Control(name)
            | SessionKeyError::Escape(name) => match *name {
                "peer" => "customer_id",
                other => other,
            },
            SessionKeyError::Parts(_) | SessionKeyError::Kind => "session",
        };
        let why = match &error {
            SessionKeyError::Empty(_) => "must not be empty".to_owned(),
            SessionKeyError::TooLong(_) => format!("is longer than {SEGMENT_BYTES_MAX} bytes"),
            SessionKeyError::Control(_) => "holds a control character".to_owned(),
            other => other.to_string(),
        };
        FieldError::new(field, why)
    })
}

/// Same key means same (tenant, agent, channel, account, chat, sender, message id).
fn seen(salt: &[u8], key: &SessionKey, sender: &str, message_id: &str, text: &str) -> Seen {
    let (account, chat) = ("", key.peer());
    let parts =
        [&*key.tenant(), &*key.agent(), &*key.channel(), account, &*chat, sender, message_id];
    Seen { key: half(&framed(salt, &parts)), body_hash: body_hash(&framed(salt, &[text])) }
}

/// The name of what an adapter heard. Which agent answers and what we call its sender may change
/// between it and its twin, so neither counts. So many parts has no other key.
pub(crate) fn heard_name(
    salt: &[u8],
    key: &SessionKey,
    account: &str,
    person: &str,
    id: &str,
) -> Seen {
    let (tenant, channel, chat) = (key.tenant(), key.channel(), key.peer());
    let kind = key.kind().as_str();
    let parts = ["heard", &tenant, &channel, kind, account, &chat, person, id];
    Seen { key: half(&framed(salt, &parts)), body_hash: 0 }
}

/// Whose name space a request's name is of: the tenant's, or one customer's own.
fn whose<'a>(tenant: &'a str, customer: Option<&'a str>) -> SmallVec<[&'a str; 2]> {
    std::iter::once(tenant).chain(customer).collect()
}

/// A named request, and the id of a message that has no other name. Same key means same (whose,
/// name), same body hash means that the same was asked for. The id follows from the name, so that
/// every twin knows it without asking.
fn request(salt: &[u8], whose: &[&str], name: &str, asked: &[&str]) -> (Seen, String) {
    // So many parts have no message's key, so the two kinds of names never meet.
    let framed_as = |what| framed(salt, &[&[what][..], whose, &[name][..]].concat());
    let request =
        Seen { key: half(&framed_as("request")), body_hash: body_hash(&framed(salt, asked)) };
    let rest = half(&framed_as("message"));
    (request, uuid::Builder::from_custom_bytes(rest).into_uuid().to_string())
}

/// Every part is framed by its length, so that no two different lists hash the same bytes. What is
/// stored of it outlives an erasure, so the store's secret goes first.
pub(crate) fn framed(salt: &[u8], parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in std::iter::once(salt).chain(parts.iter().map(|part| part.as_bytes())) {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn half(digest: &[u8; 32]) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    short
}

fn body_hash(digest: &[u8; 32]) -> u64 {
    let mut short = [0; 8];
    short.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(short)
}
