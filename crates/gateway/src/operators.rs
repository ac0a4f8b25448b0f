//! What operators say in the agent's place: checks it and hands it to its session, which decides.

use std::sync::Arc;

use turnkeep_core::SessionKey;
use turnkeep_core::session::{Control, Controlled};

use crate::ingress::{AdmittedReply, OperatorReply, admit_reply};
use crate::service::{Gateway, Refusal};

impl Gateway {
    /// Has an operator answer, or tell something where nothing waits for an answer. Says under which
    /// id it is known, and what its session said to it.
    pub async fn answer_as_operator(
        &self,
        key: &SessionKey,
        reply: OperatorReply,
    ) -> Result<(Arc<str>, Controlled), Refusal> {
        let setup = self.setup();
        let bytes_max = setup.settings.message_bytes_max;
        let made_id = || crate::clock::fresh_uuid().to_string();
        let admitted = admit_reply(key, reply, self.salt()?, bytes_max, made_id);
        let AdmittedReply { seen, body } = admitted.map_err(Refusal::Field)?;
        let message_id = Arc::clone(&body.message_id);
        let told = self.control(key, Control::OperatorReply { seen, body }).await?;
        let outcome = match &told {
            Controlled::Replied { duplicate: true, .. } => "duplicate",
            Controlled::Replied { turn: Some(_), .. } => "answered",
            Controlled::Replied { .. } => "told",
            Controlled::NotPaused => "not_paused",
            Controlled::NoticesFull => "queue_full",
            Controlled::NoticeReused => "message_id_reused",
            _ => "session_closed",
        };
        tracing::info!(session_key = %key, message_id = &*message_id, outcome, "gateway_operator");
        Ok((message_id, told))
    }
}
