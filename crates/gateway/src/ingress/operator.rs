//! The way in of what an operator says in the agent's place.

use std::sync::Arc;

use turnkeep_core::message::{MessageBody, Seen};
use turnkeep_core::session_key::SessionKey;

use super::{FieldError, check_id, check_text, framed, half};

/// The longest name of an operator.
pub const OPERATOR_CHARS_MAX: usize = 64;

/// What an operator wants to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorReply {
    /// Their name.
    pub by: Arc<str>,
    /// What.
    pub text: String,
    /// Their own id of it; what comes twice under the same id is said once.
    pub id: Option<String>,
}

/// A checked reply, ready for its session.
#[derive(Clone, Debug)]
pub struct AdmittedReply {
    /// Its dedupe key, where its sender named it.
    pub seen: Option<Seen>,
    /// What it says; the sender is the operator.
    pub body: Arc<MessageBody>,
}

/// Checks what an operator says. `made_id` names it if its sender did not.
pub fn admit_reply(
    key: &SessionKey,
    reply: OperatorReply,
    salt: &[u8],
    message_bytes_max: usize,
    made_id: impl FnOnce() -> String,
) -> Result<AdmittedReply, FieldError> {
    let OperatorReply { by, text, id } = reply;
    check_text("text", &text, message_bytes_max)?;
    let id = id.map(check_id).transpose()?;
    let seen = id.as_deref().map(|id| seen(salt, key, id, &text));
    let message_id = id.unwrap_or_else(made_id).into();
    let body = MessageBody { message_id, sender: by, text: text.into() };
    Ok(AdmittedReply { seen, body: Arc::new(body) })
}

/// Checks the name of an operator.
pub fn check_operator(name: &str) -> Result<(), FieldError> {
    let length = name.chars().count();
    let right = (1..=OPERATOR_CHARS_MAX).contains(&length) && !name.trim().is_empty();
    if right && !name.chars().any(char::is_control) {
        return Ok(());
    }
    let why = format!("must be 1 to {OPERATOR_CHARS_MAX} characters without control characters");
    Err(FieldError::new("by", why))
}

/// A namespace of its own: a customer's message under the same id is another one. So many parts has
/// no other key.
fn seen(salt: &[u8], key: &SessionKey, id: &str, text: &str) -> Seen {
    let parts = ["operator", key.as_str(), id];
    Seen { key: half(&framed(salt, &parts)), body_hash: super::body_hash(&framed(salt, &[text])) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(text: &str, id: Option<&str>) -> Result<AdmittedReply, FieldError> {
        let key: SessionKey = "t:a:web:dm:ann".parse().unwrap();
        let id = id.map(str::to_owned);
        let reply = OperatorReply { by: "Ann".into(), text: text.to_owned(), id };
        admit_reply(&key, reply, b"salt", 20, || "made".to_owned())
    }

    #[test]
    fn mistakes_name_their_field() {
        let field = |text, id| admitted(text, id).unwrap_err().field;
        assert_eq!(field(" ", None), "text");
        assert_eq!(field("more than twenty bytes", None), "text");
        assert_eq!(field("hello", Some("")), "id");
        for name in ["", " ", "a\nb", &"x".repeat(65)] {
            assert_eq!(check_operator(name).unwrap_err().field, "by");
        }
        assert_eq!(check_operator("Ann from support"), Ok(()));
    }

    #[test]
    fn an_id_names_one_reply_of_a_session() {
        let one = admitted("hello", Some("r-1")).unwrap();
        let other = admitted("bye", Some("r-1")).unwrap();
        let (one, other) = (one.seen.unwrap(), other.seen.unwrap());
        assert_eq!(one.key, other.key);
        assert_ne!(one.body_hash, other.body_hash);
        let unnamed = admitted("hello", None).unwrap();
        assert_eq!((unnamed.seen, &*unnamed.body.message_id), (None, "made"));
        assert_eq!(&*unnamed.body.sender, "Ann");
    }
}
