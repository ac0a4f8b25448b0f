//! Has held messages checked by whoever moderates. What follows from a ruling, and from none, is
//! decided by the session.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};
use turnkeep_core::SessionKey;
use turnkeep_core::ids::Seq;
use turnkeep_core::message::{MessageBody, Pending};
use turnkeep_core::moderation::{Check, Ruling, kept_reason};
use turnkeep_core::ports::moderator::{Checked, Checkup};

use crate::mail::{Mail, Ruled};
use crate::metrics::Metrics;
use crate::service::Gateway;

/// Checks under way at once; the others wait for a place, within their time.
const CHECKS_MAX: usize = 64;
/// The pause before a check that failed is tried again; doubled for each later one.
const PAUSE: Duration = Duration::from_millis(200);
/// The longest of these pauses.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The places for checks.
pub(crate) fn places() -> Semaphore {
    Semaphore::new(CHECKS_MAX)
}

impl Gateway {
    /// Has a message checked and tells its session what came of it, also that nothing did in time.
    pub(crate) fn check(&self, key: &SessionKey, message: &Pending, check: Check, wait_ms: u64) {
        let (gateway, key) = (self.clone(), key.clone());
        let (seq, body) = (message.seq, Arc::clone(&message.body));
        let until = Instant::now() + Duration::from_millis(wait_ms);
        tokio::spawn(async move {
            let asked = async {
                match &check {
                    Check::Moderation => gateway.checked(&key, seq, &body).await,
                    Check::Trigger(agent) => {
                        let _place = gateway.0.checks.acquire().await.ok()?;
                        gateway.judged(&key, agent, &body).await
                    }
                }
            };
            let checked = timeout_at(until, asked).await.ok().flatten();
            let outcome = match checked.as_ref().map(|checked| checked.ruling) {
                Some(Ruling::Allow) => "allow",
                Some(Ruling::Refuse) => "refuse",
                Some(Ruling::Addressed) => "addressed",
                Some(Ruling::Context) => "context",
                None => "overdue",
            };
            Metrics::guard(name_of(&check), outcome);
            let ruled = checked.map(|Checkup { ruling, reason }| {
                (ruling, reason.and_then(|reason| kept_reason(&reason)))
            });
            // Its task may be gone; whoever takes the session up next hears of it just the same.
            if let Some(policy) = gateway.policy_of_stored(&key) {
                gateway.send(&key, policy, Mail::Ruled(Box::new(Ruled { seq, ruled })));
            }
        });
    }

    /// Tries until there is an answer; none where nobody checks.
    async fn checked(&self, key: &SessionKey, seq: Seq, body: &MessageBody) -> Option<Checkup> {
        let (tenant, channel) = (key.tenant(), key.channel());
        let mut pause = PAUSE;
        loop {
            let moderator = self.setup().moderator.clone()?;
            let place = self.0.checks.acquire().await.ok()?;
            let message = Checked {
                text: &body.text,
                tenant: &tenant,
                channel: &channel,
                message_id: &body.message_id,
            };
            let error = match moderator.check(message).await {
                Ok(checkup) => return Some(checkup),
                Err(error) => error,
            };
            drop(place);
            Metrics::guard("moderation", "error");
            tracing::warn!(session_key = %key, %seq, error, "a message could not be checked");
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

const fn name_of(check: &Check) -> &'static str {
    match check {
        Check::Moderation => "moderation",
        Check::Trigger(_) => "trigger",
    }
}
