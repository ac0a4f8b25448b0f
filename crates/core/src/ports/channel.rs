//! A way messages go out. (They come in through the gateway's ingress.)

use std::sync::Arc;

use super::BoxFuture;
use super::intake::Quoted;
use crate::outbox::DeliveryOutcome;
use crate::policy::ChannelFacts;
use crate::session_key::SessionKey;

/// One part on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Whom it goes to.
    pub session: SessionKey,
    /// The same for every try of the same part.
    pub idempotency_key: String,
    /// Which try, from 1.
    pub attempt: u32,
    /// The text, already fitted.
    pub text: Arc<str>,
    /// What it answers, where that has to be shown.
    pub quote: Option<Quoted>,
}

/// The port.
pub trait Channel: Send + Sync + 'static {
    /// What it can do.
    fn facts(&self) -> &ChannelFacts;

    /// Sends one part. It must say `Unknown` when the request may have gone out.
    fn send(&self, part: Outgoing) -> BoxFuture<'_, DeliveryOutcome>;

    /// Shows or hides that the agent is typing; best effort.
    fn typing(&self, session: &SessionKey, on: bool) -> BoxFuture<'_, ()>;

    /// How often "typing" has to be repeated before the client's own expiry.
    fn typing_refresh_ms(&self) -> u64 {
        8000
    }
}
