//! Sends what the rules want sent. Nobody else calls [`Channel::send`].

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use turnkeep_core::ids::Seq;
use turnkeep_core::journal::EventBody;
use turnkeep_core::outbox::{Delivery, DeliveryOutcome};
use turnkeep_core::ports::channel::{Channel, Outgoing};
use turnkeep_core::ports::intake::Quoted;
use turnkeep_core::{SessionKey, SessionKind};

use crate::intake::{id_and_author, words};
use crate::killpoint;
use crate::mail::{Delivered, Mail};
use crate::run::panic_text;
use crate::service::Gateway;
use crate::trace::{OpenSpan, names};

/// How long a look at what a reply answers may take; without it the reply quotes nothing.
const READ_LIMIT: Duration = Duration::from_secs(5);
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
        let quote = match (key.kind(), part) {
            (SessionKind::Group, 0) => gateway.quoted(&key, reply).await,
            _ => None,
        };
        let outgoing = Outgoing {
            idempotency_key: format!("{key}/{reply}/{part}"),
            session: key,
            attempt,
            text,
            quote,
        };
        killpoint::reached("deliver.before");
        let outcome = send(channel, outgoing).await;
        killpoint::reached("deliver.after");
        told(span, &outcome);
        gateway.0.metrics.delivered(&outcome);
        let _ = task.send(Mail::Delivered(Box::new(Delivered { reply, part, attempt, outcome })));
    });
}

impl Gateway {
    /// What a reply in a group answers: the last message of its turn. None for whatever is no
    /// reply, and where it can't be read soon.
    async fn quoted(&self, key: &SessionKey, reply: Seq) -> Option<Quoted> {
        let answered = match self.event_at(key, reply).await? {
            EventBody::TurnCompleted { messages, .. }
            | EventBody::TurnCancelled { messages, .. } => messages.iter().copied().max()?,
            _ => return None,
        };
        let EventBody::MessageAccepted { message_id, text, .. } =
            self.event_at(key, answered).await?
        else {
            return None;
        };
        let (id, author) = id_and_author(&message_id)?;
        let text = words::bare(&text, true).into();
        Some(Quoted { message_id: id.into(), author: author.into(), text })
    }

    async fn event_at(&self, key: &SessionKey, seq: Seq) -> Option<EventBody> {
        let read = self.store().events(key, Seq(seq.0.checked_sub(1)?), 1);
        let events = tokio::time::timeout(READ_LIMIT, read).await.ok()?.ok()?;
        events.into_iter().find(|event| event.seq == seq).map(|event| event.body)
    }
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

/// Shows "typing" on a channel that is pushed to, again and again, until it is dropped; then hides it.
///
/// One task does both, one after the other, and that of a later turn waits for it. So nothing is
/// hidden that was not shown, and nothing is shown behind its end.
pub(crate) struct Typing {
    /// Dropped where it is to end.
    _shown: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Typing {
    /// Shows it once whatever was shown before is hidden.
    pub(crate) fn start(
        gateway: &Gateway,
        key: &SessionKey,
        before: Option<JoinHandle<()>>,
    ) -> Option<Self> {
        let channel = gateway.setup().channels.get(&key.channel()).cloned()?;
        if !channel.facts().typing {
            return None;
        }
        let (shown, mut ended) = oneshot::channel::<()>();
        let session = key.clone();
        let task = gateway.0.typing.spawn(async move {
            if let Some(before) = before {
                // It has nothing to tell.
                let _ = before.await;
            }
            let mut beat =
                tokio::time::interval(Duration::from_millis(channel.typing_refresh_ms()));
            loop {
                tokio::select! {
                    biased;
                    _ = beat.tick() => channel.typing(&session, true).await,
                    _ = &mut ended => break,
                }
            }
            channel.typing(&session, false).await;
        });
        Some(Self { _shown: shown, task })
    }

    /// Hides it; whoever shows it next waits for that.
    pub(crate) fn end(self) -> JoinHandle<()> {
        self.task
    }
}
