//! The way in of messages to a customer that nobody asked for.

use std::sync::Arc;

use turnkeep_core::message::{MessageBody, Seen};
use turnkeep_core::session_key::SessionKey;

use super::{
    FieldError, Policies, Submission, check_id, check_text, framed, half, policy_of, route,
};

/// A checked message to a customer, ready for its session.
#[derive(Clone, Debug)]
pub struct AdmittedUnasked {
    /// Where it goes.
    pub key: SessionKey,
    /// Its dedupe key, where its sender named it.
    pub seen: Option<Seen>,
    /// What it says; the sender is nobody.
    pub body: Arc<MessageBody>,
}

/// Checks and routes. `made_id` names the message if its sender did not.
pub fn admit_unasked(
    submission: Submission,
    policies: &dyn Policies,
    salt: &[u8],
    message_bytes_max: usize,
    made_id: impl FnOnce() -> String,
) -> Result<AdmittedUnasked, FieldError> {
    check_text("text", &submission.text, message_bytes_max)?;
    if submission.customer.is_none() {
        return Err(FieldError::new("customer_id", "is missing: whom is it for?"));
    }
    if submission.channel.is_none() {
        return Err(FieldError::new("channel", "is missing: which way shall it go?"));
    }
    let key = route(&submission)?;
    policy_of(&key, policies)?;
    let id = submission.message_id.map(check_id).transpose()?;
    let seen = id.as_deref().map(|id| seen(salt, &key, id, &submission.text));
    let message_id = id.unwrap_or_else(made_id).into();
    let body = MessageBody { message_id, sender: Arc::default(), text: submission.text.into() };
    Ok(AdmittedUnasked { key, seen, body: Arc::new(body) })
}

/// A namespace of its own: a customer's message under the same id is another one. So many parts has
/// no other key.
fn seen(salt: &[u8], key: &SessionKey, message_id: &str, text: &str) -> Seen {
    let parts = ["unasked", &key.tenant(), &key.agent(), &key.channel(), &key.peer(), message_id];
    Seen { key: half(&framed(salt, &parts)), body_hash: super::body_hash(&framed(salt, &[text])) }
}

/// The name of what a job has told. Where it is told does not count: who writes elsewhere meanwhile
/// is told once all the same. So many parts has no other key.
pub(crate) fn scheduled_name(salt: &[u8], tenant: &str, name: &str) -> Seen {
    Seen { key: half(&framed(salt, &["scheduled", tenant, name])), body_hash: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingress::UnknownPart;
    use turnkeep_core::Policy;
    use turnkeep_core::policy::channel_facts;

    struct BuiltIn;

    impl Policies for BuiltIn {
        fn policy(&self, _: &str, agent: &str, channel: &str) -> Result<Arc<Policy>, UnknownPart> {
            let facts = channel_facts(channel).ok_or(UnknownPart::Channel)?;
            let known = agent == "default";
            if known { Ok(Arc::new(Policy::built_in(*facts))) } else { Err(UnknownPart::Agent) }
        }
    }

    fn to(channel: &str, text: &str) -> Submission {
        Submission {
            customer: Some("ann".to_owned()),
            channel: Some(channel.to_owned()),
            text: text.to_owned(),
            message_id: Some("n-1".to_owned()),
            ..Submission::default()
        }
    }

    fn admitted(submission: Submission) -> Result<AdmittedUnasked, FieldError> {
        admit_unasked(submission, &BuiltIn, b"salt", 20, || "made".to_owned())
    }

    #[test]
    fn mistakes_name_their_field() {
        let check = |submission: Submission, field: &str| {
            assert_eq!(admitted(submission).unwrap_err().field, field);
        };
        check(to("web", " \u{200B}"), "text");
        check(to("web", "x\u{7}"), "text");
        check(to("web", "more than twenty bytes"), "text");
        check(to("pigeon", "x"), "channel");
        check(Submission { channel: None, ..to("web", "x") }, "channel");
        check(Submission { customer: None, ..to("web", "x") }, "customer_id");
        check(Submission { agent: Some("nobody".to_owned()), ..to("web", "x") }, "agent_id");
        check(Submission { message_id: Some(String::new()), ..to("web", "x") }, "id");
    }

    #[test]
    fn the_same_id_counts_for_one_session() {
        let key = |submission| admitted(submission).unwrap().seen.unwrap().key;
        let known = key(to("web", "hello"));
        assert_eq!(known, key(to("web", "other")));
        assert_ne!(known, key(to("api", "hello")));
        assert_ne!(
            known,
            key(Submission { customer: Some("ben".to_owned()), ..to("web", "hello") })
        );
        let asked =
            crate::ingress::admit(to("web", "hello"), &BuiltIn, b"salt", 20, String::new).unwrap();
        assert_ne!(known, asked.inbound.seen.unwrap().key);
        let unnamed = admitted(Submission { message_id: None, ..to("web", "hello") }).unwrap();
        assert_eq!((unnamed.seen, &*unnamed.body.message_id), (None, "made"));
    }
}
