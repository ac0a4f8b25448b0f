//! A message at the guard: what it is asked as, and what becomes of one that is refused.

use std::time::Instant;

use turnkeep_core::message::{CommandAct, Decision, Inbound, InboundKind};
use turnkeep_core::{Policy, SessionKey};

use super::admission::Question;
use super::rates::What;
use super::settings::GuardSettings;
use crate::service::{Gateway, Refusal};

impl Gateway {
    /// Refuses what the guard refuses. Where it may be a twin of what was accepted, it goes on with
    /// the refusal, because its session is asked that first.
    pub(crate) async fn guard(
        &self,
        key: &SessionKey,
        (policy, settings): (&Policy, &GuardSettings),
        inbound: &mut Inbound,
        since: Instant,
    ) -> Result<(), Refusal> {
        let question = Question {
            session_key: key.as_str(),
            tenant: &key.tenant(),
            customer: &inbound.body.sender,
            text: &inbound.body.text,
            policy,
            settings,
            named: inbound.is_named(),
            what: counted_as(&inbound.kind),
            now: crate::clock::now(),
        };
        let guard = &self.0.guard;
        let admitted = match self.0.hints.port() {
            None => guard.admit(&question),
            Some(others) => guard.admit_among(&question, &**others, self.salt()?).await,
        };
        let Err(refused) = admitted else { return Ok(()) };
        if let Some(restriction) = refused.restriction {
            self.record(restriction).await;
        }
        if refused.look_up {
            inbound.refused = Some(refused.rejection);
            return Ok(());
        }
        let decision = Decision::rejected(refused.rejection.clone());
        self.note_decision(key, &inbound.body, &decision, since);
        Err(Refusal::Rejected(refused.rejection))
    }
}

/// What rates count it as: whoever wants something to end is not made to wait, and what is said to
/// others in a group uses up nothing that one may say to us.
const fn counted_as(kind: &InboundKind) -> What {
    match kind {
        InboundKind::Context => What::Aside,
        InboundKind::Command(CommandAct::Stop { .. }) => What::Stop,
        _ => What::Sent,
    }
}
