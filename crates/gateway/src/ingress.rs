//! The way in, without IO: checks a submission, routes it, and makes it an inbound message.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use turnkeep_core::ids::Token;
use turnkeep_core::message::{Inbound, MessageBody, Seen};
use turnkeep_core::policy::{Policy, Trust};
use turnkeep_core::session_key::{SEGMENT_BYTES_MAX, SessionKey, SessionKeyError, SessionKind};

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

/// Checks and routes. `made_id` names the message if its sender did not.
pub fn admit(
    submission: Submission,
    policies: &dyn Policies,
    message_bytes_max: usize,
    made_id: impl FnOnce() -> String,
) -> Result<Admitted, FieldError> {
    check_text(&submission.text, message_bytes_max)?;
    let key = route(&submission)?;
    let (tenant, agent, channel) = (key.tenant(), key.agent(), key.channel());
    let policy = policies.policy(&tenant, &agent, &channel).map_err(|unknown| match unknown {
        UnknownPart::Agent => {
            FieldError::new("agent_id", format!("no agent {agent:?} is configured"))
        }
        UnknownPart::Channel => {
            FieldError::new("channel", format!("no channel {channel:?} is configured"))
        }
    })?;
    let sender = submission.customer.unwrap_or_else(|| key.peer());
    let named = submission.message_id.is_some();
    let message_id = match submission.message_id {
        Some(id) => check_id(id)?,
        None => made_id(),
    };
    let seen = named.then(|| seen(&key, &sender, &message_id, &submission.text));
    let body = MessageBody {
        message_id: message_id.into(),
        sender: sender.into(),
        text: submission.text.into(),
    };
    // Nobody is authenticated yet, so everybody is trusted alike.
    let inbound = Inbound { token: Token(0), body: Arc::new(body), trust: Trust::Public, seen };
    Ok(Admitted { key, policy, inbound })
}

fn check_text(text: &str, bytes_max: usize) -> Result<(), FieldError> {
    if text.trim().is_empty() {
        return Err(FieldError::new("message", "must not be empty"));
    }
    if text.len() > bytes_max {
        let length = text.len();
        return Err(FieldError::new(
            "message",
            format!("has {length} bytes; the limit is {bytes_max}"),
        ));
    }
    let bad = |character: &char| character.is_control() && !matches!(character, '\n' | '\r' | '\t');
    match text.chars().find(bad) {
        Some(character) => {
            let code = u32::from(character);
            Err(FieldError::new("message", format!("holds the control character U+{code:04X}")))
        }
        None => Ok(()),
    }
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
        if let Some(customer) = &submission.customer
            && customer.len() > SEGMENT_BYTES_MAX
        {
            let why = format!("is longer than {SEGMENT_BYTES_MAX} bytes");
            return Err(FieldError::new("customer_id", why));
        }
        return Ok(key);
    }
    let Some(customer) = &submission.customer else {
        return Err(FieldError::new("customer_id", "is missing: who is writing?"));
    };
    let tenant = submission.tenant.as_deref().unwrap_or("default");
    let agent = submission.agent.as_deref().unwrap_or("default");
    let channel = submission.channel.as_deref().unwrap_or("api");
    SessionKey::new(tenant, agent, channel, SessionKind::Dm, customer).map_err(|error| {
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

/// Same key means same (tenant, agent, channel, account, chat, sender, message id). Every part is
/// framed by its length, so that no two different lists hash the same bytes.
fn seen(key: &SessionKey, sender: &str, message_id: &str, text: &str) -> Seen {
    let (account, chat) = ("", key.peer());
    let parts =
        [&*key.tenant(), &*key.agent(), &*key.channel(), account, &*chat, sender, message_id];
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    let body = Sha256::digest(text.as_bytes());
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    let mut body_hash = [0; 8];
    body_hash.copy_from_slice(&body[..8]);
    Seen { key: short, body_hash: u64::from_le_bytes(body_hash) }
}
