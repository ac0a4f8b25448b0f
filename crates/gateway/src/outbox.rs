//! Sends what the rules want sent. Nobody else calls [`Channel::send`].

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::mpsc::UnboundedSender;
use turnkeep_core::SessionKey;
use turnkeep_core::outbox::{Delivery, DeliveryOutcome};
use turnkeep_core::ports::channel::{Channel, Outgoing};

use crate::killpoint;
use crate::mail::{Delivered, Mail};
use crate::run::panic_text;
use crate::service::Gateway;
use crate::trace::{OpenSpan, names};

/// How long one call of a channel may take.
const SEND_LIMIT: Duration = Duration::from_secs(60);

/// Sends one part in a task of its own; its `sending` is durable already.
pub(crate) fn deliver(
    gateway: &Gateway,
    key: &SessionKey,
    task: &UnboundedSender<Mail>,
    (delivery, span): (Delivery, Option<OpenSpan>),
) {
    let channel = gateway.setup().channels.get(&key.channel()).cloned();
    let (gateway, key, task) = (gateway.clone(), key.clone(), task.clone());
    gateway.0.metrics.deliveries.increment(1);
    tokio::spawn(async move {
        let Delivery { reply, part, attempt, text } = delivery;
        let outgoing = Outgoing {
            idempotency_key: format!("{key}/{reply}/{part}"),
            session: key,
            attempt,
            text,
        };
        killpoint::reached("deliver.before");
        let outcome = send(channel, outgoing).await;
        killpoint::reached("deliver.after");
        told(span, &outcome);
        gateway.0.metrics.delivered(&outcome);
        let _ = task.send(Mail::Delivered(Box::new(Delivered { reply, part, attempt, outcome })));
    });
}

/// Ends the span of a delivery. What the channel said stays out of it: it may quote the text.
fn told(span: Option<OpenSpan>, outcome: &DeliveryOutcome) {
    let Some(mut span) = span else { return };
    let outcome = match outcome {
        DeliveryOutcome::Sent => "sent",
        DeliveryOutcome::Failed { .. } => {
            span.fail("the channel failed");
            "failed"
        }
        DeliveryOutcome::Unknown { .. } => {
            span.fail("nobody knows whether it went out");
            "unknown"
        }
    };
    span.set(names::OUTCOME, || outcome.into());
}

async fn send(channel: Option<Arc<dyn Channel>>, outgoing: Outgoing) -> DeliveryOutcome {
    let Some(channel) = channel else {
        let error = "no adapter is configured for this channel".into();
        return DeliveryOutcome::Failed { error, retry: true, retry_after_ms: Some(60_000) };
    };
    let sending = AssertUnwindSafe(channel.send(outgoing)).catch_unwind();
    match tokio::time::timeout(SEND_LIMIT, sending).await {
        Ok(Ok(outcome)) => outcome,
        // Whether the request went out before the panic is anybody's guess.
        Ok(Err(panic)) => DeliveryOutcome::Unknown { error: panic_text(&*panic).into() },
        Err(_) => DeliveryOutcome::Unknown { error: "the channel did not answer in time".into() },
    }
}

/// Shows "typing" on a channel that is pushed to, again and again, until it is dropped.
pub(crate) struct Typing(tokio::task::JoinHandle<()>, Arc<dyn Channel>, SessionKey);

impl Typing {
    pub(crate) fn start(gateway: &Gateway, key: &SessionKey) -> Option<Self> {
        let channel = gateway.setup().channels.get(&key.channel()).cloned()?;
        if !channel.facts().typing {
            return None;
        }
        let (shown, session) = (Arc::clone(&channel), key.clone());
        let refresh = tokio::spawn(async move {
            let mut beat = tokio::time::interval(Duration::from_millis(shown.typing_refresh_ms()));
            loop {
                beat.tick().await;
                shown.typing(&session, true).await;
            }
        });
        Some(Self(refresh, channel, key.clone()))
    }
}

impl Drop for Typing {
    fn drop(&mut self) {
        self.0.abort();
        let (channel, key) = (Arc::clone(&self.1), self.2.clone());
        tokio::spawn(async move { channel.typing(&key, false).await });
    }
}
