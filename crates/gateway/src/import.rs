//! A conversation that was had elsewhere becomes the beginning of a new session here.

use std::sync::Arc;

use turnkeep_core::import::Import;
use turnkeep_core::session::{Control, Controlled};
use turnkeep_core::{SessionKey, SessionKind};

use crate::ingress::FieldError;
use crate::service::{Gateway, Refusal};

impl Gateway {
    /// Makes a session of its own for it, whole or not at all. Nothing of it is run, answered or
    /// sent again. Whoever is told that the store is not available may have got one all the same.
    pub async fn import(
        &self,
        tenant: &str,
        agent: &str,
        import: Import,
    ) -> Result<(SessionKey, u32), Refusal> {
        self.readiness().map_err(Refusal::Unavailable)?;
        let key = self.new_key(tenant, agent).map_err(Refusal::Field)?;
        let from = Arc::clone(&import.head.from);
        match self.control(&key, Control::Import(Arc::new(import))).await? {
            Controlled::Imported(lines) => {
                tracing::info!(session_key = %key, %from, lines, "a conversation was imported");
                Ok((key, lines))
            }
            // The key was made for it, so nobody can have written there.
            other => Err(Refusal::Unavailable(format!("the import was answered {other:?}"))),
        }
    }

    /// The longest message that is taken from a file for this agent, in bytes: what a user may send,
    /// or the agent may answer.
    pub(crate) fn import_text_bytes_max(&self, tenant: &str, agent: &str) -> usize {
        let sent = self.setup().settings.message_bytes_max;
        let policy = self.new_key(tenant, agent).ok().and_then(|key| self.policy_of(&key));
        let replied = policy.map_or(0, |policy| policy.reply_bytes_max as usize);
        sent.max(replied)
    }

    /// The key of a session that a person begins, which nobody else has.
    fn new_key(&self, tenant: &str, agent: &str) -> Result<SessionKey, FieldError> {
        let peer = crate::clock::fresh_uuid().simple().to_string();
        let key = SessionKey::new(tenant, agent, "terminal", SessionKind::Main, &peer);
        let key = key.map_err(|error| FieldError { field: "tenant", why: error.to_string() })?;
        match self.policy_of(&key) {
            Some(_) => Ok(key),
            None => {
                let why = format!("no agent {agent:?} is configured");
                Err(FieldError { field: "agent", why })
            }
        }
    }
}
