//! Messages to customers that nobody asked for: checks them and hands them to their session, which
//! decides.

use std::sync::Arc;

use turnkeep_core::SessionKey;
use turnkeep_core::session::{Control, Controlled};

use crate::guard::Steering;
use crate::ingress::{AdmittedUnasked, Submission, admit_unasked};
use crate::service::{Gateway, Refusal};

/// What a session said to a message that nobody asked for.
#[derive(Debug)]
pub struct Notified {
    /// Whose session it is.
    pub key: SessionKey,
    /// The message's id, which the gateway made if the sender did not.
    pub message_id: Arc<str>,
    /// What was decided.
    pub told: Controlled,
}

impl Gateway {
    /// Tells a customer something that nobody asked for, if the customer opted in.
    pub async fn notify(&self, submission: Submission) -> Result<Notified, Refusal> {
        let salt = self.salt()?;
        let setup = self.setup();
        let _undecided = self.enter(setup.settings.undecided_max)?;
        let bytes_max = setup.settings.message_bytes_max;
        let made_id = || crate::clock::fresh_uuid().to_string();
        let admitted = admit_unasked(submission, &*setup.policies, salt, bytes_max, made_id);
        let AdmittedUnasked { key, seen, body } = admitted.map_err(Refusal::Field)?;
        self.may_steer(&key, None, Steering::Other)?;
        let message_id = Arc::clone(&body.message_id);
        let told = self.control(&key, Control::Notify { seen, body, scheduled: false }).await?;
        let outcome = match &told {
            Controlled::Noticed { duplicate: true, .. } => "duplicate",
            Controlled::Noticed { waits: true, .. } => "waiting",
            Controlled::Noticed { .. } => "sent",
            Controlled::NotOptedIn => "not_opted_in",
            Controlled::NoticesFull => "queue_full",
            Controlled::NoticeReused => "message_id_reused",
            _ => "session_closed",
        };
        tracing::info!(session_key = %key, message_id = &*message_id, outcome, "gateway_notice");
        Ok(Notified { key, message_id, told })
    }
}
