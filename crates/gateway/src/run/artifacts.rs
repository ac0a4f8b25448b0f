//! What a run keeps for later attempts and takes of what earlier ones kept: the hashes that artifacts
//! are compared by, the bounds of what is kept, and the contents, which stand in the journal only.
//! Whether an artifact holds is the core's to say.

use std::collections::BTreeMap;
use std::sync::Arc;

use turnkeep_core::artifact::{ArtifactName, DEPENDS_MAX, Fingerprint, Kept, NewArtifact, Stale};
use turnkeep_core::ids::Seq;
use turnkeep_core::journal::EventBody;
use turnkeep_core::message::{MessageBody, Pending};
use turnkeep_core::ports::agent::{Artifact, Inputs, Recalled, Revoked};
use turnkeep_core::session::{AgentAnswer, AgentInput};

use super::tools::hash_of;
use super::{RunHandle, lock};

/// The longest name of an artifact, in bytes.
const NAME_BYTES_MAX: usize = 200;
/// The longest text among inputs.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// The longest content.
const CONTENT_BYTES_MAX: usize = 64 << 10;

/// What the messages of a turn say, by their places.
pub(super) type Given = BTreeMap<Seq, Arc<MessageBody>>;

pub(super) fn given(messages: &[Pending]) -> Given {
    messages.iter().map(|message| (message.seq, Arc::clone(&message.body))).collect()
}

impl RunHandle {
    pub(super) fn note_given(&self, messages: &[Pending]) {
        lock(&self.given).extend(given(messages));
    }

    pub(super) async fn keep_artifact(&self, artifact: Artifact) -> Result<Recalled, Revoked> {
        let Artifact { name, inputs, depends, content } = artifact;
        let inputs = match self.bounds(&name, &inputs, &depends, &content) {
            Ok(inputs) => inputs,
            Err(reason) => return Ok(self.refuse(reason)),
        };
        let new = Box::new(NewArtifact {
            name: name_of(&name),
            title: name,
            inputs,
            depends: depends.iter().map(|name| name_of(name)).collect(),
            fingerprint: fingerprint_of(&content),
            content: Arc::clone(&content),
        });
        match self.request(move |token| AgentInput::Keep(token, new)).await? {
            AgentAnswer::Recorded => Ok(Recalled::Kept(content)),
            AgentAnswer::NotAllowed(denied) => Ok(Recalled::Refused(denied.as_str())),
            _ => Err(Revoked),
        }
    }

    pub(super) async fn recall_artifact(
        &self,
        name: &str,
        inputs: &Inputs,
    ) -> Result<Recalled, Revoked> {
        let inputs = match self.bounds(name, inputs, &[], "") {
            Ok(inputs) => inputs,
            Err(reason) => return Ok(self.refuse(reason)),
        };
        let name = name_of(name);
        let found = self.request(move |token| AgentInput::LookUp(token, name, inputs)).await?;
        // On record as reused is only what can be: its content is there.
        let content = match found {
            AgentAnswer::Recalled(Ok(kept)) => match self.content_of(&kept).await {
                Some(content) => (kept.at, content),
                None => return Ok(Recalled::Stale(Stale::Missing)),
            },
            AgentAnswer::Recalled(Err(why)) => return Ok(Recalled::Stale(why)),
            _ => return Err(Revoked),
        };
        match self.request(move |token| AgentInput::Recall(token, name, inputs)).await? {
            AgentAnswer::Recalled(Ok(kept)) if kept.at == content.0 => {
                Ok(Recalled::Kept(content.1))
            }
            // The same run kept it anew meanwhile.
            AgentAnswer::Recalled(Ok(kept)) => Ok(self
                .content_of(&kept)
                .await
                .map_or(Recalled::Stale(Stale::Missing), Recalled::Kept)),
            AgentAnswer::Recalled(Err(why)) => Ok(Recalled::Stale(why)),
            _ => Err(Revoked),
        }
    }

    /// What it is; none if that was forgotten meanwhile, or can't be read now: it can be made again.
    async fn content_of(&self, kept: &Kept) -> Option<Arc<str>> {
        let before = Seq(kept.at.0.saturating_sub(1));
        let page = self.gateway.0.store.events(&self.key, before, 1).await.ok()?;
        match page.into_iter().next()?.body {
            EventBody::ArtifactKept { content, .. } => {
                (fingerprint_of(&content) == kept.fingerprint).then_some(content)
            }
            _ => None,
        }
    }

    fn refuse(&self, reason: &'static str) -> Recalled {
        self.shared.heard();
        Recalled::Refused(reason)
    }

    /// The fingerprint of what something is made from, if all of it is within its bounds.
    fn bounds(
        &self,
        name: &str,
        inputs: &Inputs,
        depends: &[Arc<str>],
        content: &str,
    ) -> Result<Fingerprint, &'static str> {
        let named = |name: &str| (1..=NAME_BYTES_MAX).contains(&name.len());
        if !named(name) || !depends.iter().all(|name| named(name)) {
            Err("the name of an artifact has 1 to 200 bytes")
        } else if depends.len() > DEPENDS_MAX {
            Err("an artifact depends on at most 8 others")
        } else if inputs.text.len() > TEXT_BYTES_MAX {
            Err("the text of the inputs is longer than 65536 bytes")
        } else if content.len() > CONTENT_BYTES_MAX {
            Err("the content of an artifact is longer than 65536 bytes")
        } else {
            inputs_of(inputs, &lock(&self.given)).ok_or("the inputs name a message of another turn")
        }
    }
}

/// Names, fingerprints and inputs are stored: what is hashed must never change.
fn name_of(name: &str) -> ArtifactName {
    ArtifactName(hash_of(b"a", &[name]))
}

fn fingerprint_of(content: &str) -> Fingerprint {
    Fingerprint(hash_of(b"f", &[content]))
}

/// The same for the same words of the same senders, wherever they stand: a dead letter that is tried
/// again has another place. None if a message is not of this turn.
fn inputs_of(inputs: &Inputs, given: &Given) -> Option<Fingerprint> {
    let mut messages = inputs.messages.clone();
    messages.sort_unstable();
    messages.dedup();
    let mut parts: Vec<&str> = vec![&inputs.text];
    for message in &messages {
        let body = given.get(message)?;
        parts.extend([&*body.sender, &*body.text]);
    }
    Some(Fingerprint(hash_of(b"m", &parts)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given_to(lines: &[(u64, &str, &str)]) -> Given {
        let body = |sender: &str, text: &str| {
            Arc::new(MessageBody {
                message_id: "".into(),
                sender: sender.into(),
                text: text.into(),
            })
        };
        lines.iter().map(|(seq, sender, text)| (Seq(*seq), body(sender, text))).collect()
    }

    fn of(messages: &[u64], text: &str, given: &Given) -> Option<String> {
        let messages = messages.iter().copied().map(Seq).collect();
        let inputs = Inputs { messages, text: text.into() };
        inputs_of(&inputs, given).map(|inputs| format!("{inputs:?}"))
    }

    #[test]
    fn what_something_is_made_from_is_told_by_its_words() {
        let given = given_to(&[(3, "ann", "to Rome"), (5, "ann", "for two")]);
        let one = of(&[3, 5], "v1", &given);
        // These are in people's stores.
        assert_eq!(one.as_deref(), Some("73f273e6b7c2ca65e2fa3f45ae87c6d2"));
        assert_eq!(format!("{:?}", name_of("plan")), "003a3153af0993cc63b7a5a806255478");
        assert_eq!(format!("{:?}", fingerprint_of("plan")), "efc6ae8b203c438a6d1d252549bd0782");
        assert_eq!(of(&[5, 3, 3], "v1", &given), one);
        let later = given_to(&[(9, "ann", "to Rome"), (12, "ann", "for two")]);
        assert_eq!(of(&[9, 12], "v1", &later), one);
        for (messages, text) in [(&[3, 5][..], "v2"), (&[3], "v1"), (&[], "v1")] {
            assert_ne!(of(messages, text, &given), one, "{messages:?} {text}");
        }
        let other = given_to(&[(3, "ben", "to Rome"), (5, "ann", "for two")]);
        assert_ne!(of(&[3, 5], "v1", &other), one);
        assert_eq!(of(&[4], "v1", &given), None);
    }
}
