//! The spans of a session's turns: made of what its commits say, so they tell what is durable.
//!
//! What a turn has to do with the messages before it and the deliveries after it is remembered
//! here, and only here. A process that ends forgets it, and so does a session that went to sleep in
//! between: what goes on then begins a new trace, with the same turn id in it.

use std::collections::VecDeque;

use turnkeep_core::SessionKey;
use turnkeep_core::ids::{RunTag, Seq, Seqs, TurnId};
use turnkeep_core::journal::{Event, EventBody};
use turnkeep_core::outbox::Delivery;
use turnkeep_core::ports::trace::SpanKind;
use turnkeep_core::session::Effect;
use turnkeep_core::trace::SpanContext;

use super::{SessionTask, Waiter};
use crate::driver::Outcome;
use crate::trace::{Kept, OpenSpan, Spans, names};

/// Messages of one session that are remembered until their turn ended.
const MESSAGES_MAX: usize = 256;
/// Replies of one session that are remembered for their deliveries.
const REPLIES_MAX: usize = 16;

/// What is remembered of one session.
#[derive(Default)]
pub(super) struct TurnSpans {
    messages: Vec<(Seq, Kept)>,
    turn: Option<OpenTurn>,
    replies: VecDeque<(Seq, TurnId, Kept)>,
}

struct OpenTurn {
    id: TurnId,
    messages: Seqs,
    attempts: u32,
    span: OpenSpan,
}

/// What a journal entry says of a turn or of its messages, without what anybody said.
pub(super) enum Traced {
    Started {
        turn: TurnId,
        messages: Seqs,
        supersedes: Option<TurnId>,
    },
    /// The turn has these messages too.
    Has {
        turn: TurnId,
        messages: Seqs,
        name: Option<&'static str>,
    },
    Attempt {
        turn: TurnId,
        messages: Seqs,
    },
    Happened {
        turn: TurnId,
        name: &'static str,
    },
    /// The user is told something in the middle of the turn.
    Asked {
        turn: TurnId,
        at: Seq,
    },
    Superseded {
        turn: TurnId,
    },
    Ended {
        turn: TurnId,
        at: Seq,
        status: &'static str,
        failed: Option<&'static str>,
    },
    /// The user is told something that is no agent's reply.
    Notice {
        at: Seq,
    },
    /// Messages ended without a turn.
    Gone {
        messages: Seqs,
    },
}

impl Traced {
    pub(super) fn of(event: &Event) -> Option<Self> {
        let at = event.seq;
        let happened = |turn: &TurnId, name| Some(Self::Happened { turn: *turn, name });
        let ended =
            |turn: &TurnId, status, failed| Some(Self::Ended { turn: *turn, at, status, failed });
        let gone = |messages: &[Seq]| Some(Self::Gone { messages: messages.into() });
        match &event.body {
            EventBody::TurnStarted { turn_id, messages, supersedes, .. } => {
                let (turn, messages) = (*turn_id, messages.clone());
                Some(Self::Started { turn, messages, supersedes: *supersedes })
            }
            EventBody::TurnProcessing { turn_id, messages, .. } => {
                Some(Self::Attempt { turn: *turn_id, messages: messages.clone() })
            }
            EventBody::TurnMessageAbsorbed { turn_id, messages } => {
                let name = Some("messages absorbed");
                Some(Self::Has { turn: *turn_id, messages: messages.clone(), name })
            }
            EventBody::TurnAnswered { turn_id, message, .. } => {
                let messages = Seqs::from_slice(&[*message]);
                Some(Self::Has { turn: *turn_id, messages, name: Some("answered by the user") })
            }
            EventBody::TurnWaitingForInput { turn_id, .. } => {
                Some(Self::Asked { turn: *turn_id, at })
            }
            EventBody::TurnWaitingForOperator { turn_id, .. } => {
                happened(turn_id, "waits for an operator")
            }
            EventBody::TurnRetrying { turn_id, .. } => happened(turn_id, "to be tried again"),
            EventBody::TurnRecovered { turn_id, .. } => happened(turn_id, "taken up again"),
            EventBody::CommitReached { turn_id, .. } => happened(turn_id, "commit point reached"),
            EventBody::TurnSuperseded { turn_id, .. } => Some(Self::Superseded { turn: *turn_id }),
            EventBody::TurnCompleted { turn_id, .. } => ended(turn_id, "complete", None),
            EventBody::TurnCancelled { turn_id, .. } => ended(turn_id, "cancelled", None),
            EventBody::TurnFailed { turn_id, reason, .. } => {
                ended(turn_id, "failed", Some(reason.as_str()))
            }
            EventBody::MessageCancelled { messages, .. }
            | EventBody::MessageExpired { messages } => gone(messages),
            EventBody::MessageDiscarded { message } | EventBody::GuardRefused { message, .. } => {
                gone(&[*message])
            }
            EventBody::SessionNotice { .. } => Some(Self::Notice { at }),
            _ => None,
        }
    }
}

impl TurnSpans {
    /// A message is ours; its span is remembered for the turn that answers it.
    fn accepted(&mut self, spans: &Spans, seq: Seq, context: &SpanContext) {
        // The places of a session that was erased are counted from 1 again.
        self.messages.retain(|(known, _)| *known < seq);
        if self.messages.len() < MESSAGES_MAX {
            self.messages.extend(spans.keep(context).map(|kept| (seq, kept)));
        }
    }

    fn observe(&mut self, spans: &Spans, key: &SessionKey, commit: Vec<Traced>) {
        // What the user is told of a turn that ended belongs to that turn.
        let mut last: Option<(TurnId, SpanContext)> = None;
        for traced in commit {
            match traced {
                Traced::Started { turn, messages, supersedes } => {
                    let old = last.take_if(|(id, _)| supersedes == Some(*id));
                    self.start(spans, key, (turn, messages), old.map(|(_, context)| context));
                }
                Traced::Attempt { turn, messages } => {
                    if let Some(open) = self.open(spans, key, turn) {
                        open.attempts += 1;
                        open.add(&messages);
                    }
                }
                Traced::Has { turn, messages, name } => {
                    if let Some(open) = self.open(spans, key, turn) {
                        open.add(&messages);
                        if let Some(name) = name {
                            open.span.event(name);
                        }
                    }
                }
                Traced::Happened { turn, name } => {
                    if let Some(open) = self.open(spans, key, turn) {
                        open.span.event(name);
                    }
                }
                Traced::Asked { turn, at } => {
                    if let Some(open) = self.open(spans, key, turn) {
                        open.span.event("waiting for input");
                        let context = open.span.context().clone();
                        self.told(spans, at, turn, &context);
                    }
                }
                Traced::Superseded { turn } => {
                    last = self.end(spans, key, turn, ("superseded", None));
                }
                Traced::Ended { turn, at, status, failed } => {
                    last = self.end(spans, key, turn, (status, failed));
                    if let Some((turn, context)) = &last {
                        self.told(spans, at, *turn, context);
                    }
                }
                Traced::Notice { at } => {
                    if let Some((turn, context)) = &last {
                        self.told(spans, at, *turn, context);
                    }
                }
                Traced::Gone { messages } => {
                    self.messages.retain(|(seq, _)| !messages.contains(seq));
                }
            }
        }
    }

    /// A turn begins, in the trace of its first message.
    fn start(
        &mut self,
        spans: &Spans,
        key: &SessionKey,
        (id, messages): (TurnId, Seqs),
        supersedes: Option<SpanContext>,
    ) {
        let first = self.messages.iter().find(|(seq, _)| messages.contains(seq));
        let parent = first.map(|(_, kept)| &kept.context);
        let Some(mut span) = spans.begin("turn", SpanKind::Internal, parent) else { return };
        span.set(names::TURN_ID, || id.to_string().into());
        span.set(names::SESSION_KEY, || key.as_str().to_owned().into());
        span.set(names::AGENT, || key.agent().into());
        // Until it is known better: this is what a process that ends leaves behind.
        span.set(names::STATUS, || "laid_down".into());
        if let Some(old) = &supersedes {
            span.link(old);
        }
        self.turn = Some(OpenTurn { id, messages, attempts: 0, span });
    }

    /// The open turn. One whose beginning was not seen is taken up in a trace of its own.
    fn open(&mut self, spans: &Spans, key: &SessionKey, id: TurnId) -> Option<&mut OpenTurn> {
        if self.turn.as_ref().is_none_or(|open| open.id != id) {
            self.turn = None;
            self.start(spans, key, (id, Seqs::new()), None);
            self.turn.as_mut()?.span.set(names::RESUMED, || true.into());
        }
        self.turn.as_mut()
    }

    fn end(
        &mut self,
        spans: &Spans,
        key: &SessionKey,
        id: TurnId,
        (status, failed): (&'static str, Option<&'static str>),
    ) -> Option<(TurnId, SpanContext)> {
        self.open(spans, key, id)?;
        let OpenTurn { messages, attempts, mut span, .. } = self.turn.take()?;
        span.set(names::STATUS, || status.into());
        span.set(names::ATTEMPTS, || attempts.into());
        let count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
        span.set(names::MESSAGES, || count.into());
        for (_, kept) in self.messages.iter().filter(|(seq, _)| messages.contains(seq)) {
            span.link(&kept.context);
        }
        // Another turn goes on with the messages of a superseded one.
        if status != "superseded" {
            self.messages.retain(|(seq, _)| !messages.contains(seq));
        }
        if let Some(failed) = failed {
            span.fail(failed);
        }
        Some((id, span.context().clone()))
    }

    /// What is told at this place of the journal will be delivered.
    fn told(&mut self, spans: &Spans, at: Seq, turn: TurnId, context: &SpanContext) {
        self.replies.retain(|(known, ..)| *known < at);
        if self.replies.len() == REPLIES_MAX {
            self.replies.pop_front();
        }
        self.replies.extend(spans.keep(context).map(|kept| (at, turn, kept)));
    }
}

impl OpenTurn {
    fn add(&mut self, messages: &[Seq]) {
        for seq in messages {
            if !self.messages.contains(seq) {
                self.messages.push(*seq);
            }
        }
    }
}

impl SessionTask {
    /// Notes what a commit says, before its effects run.
    pub(super) fn trace(&mut self, outcome: &Outcome, commit: Vec<Traced>) {
        let (Some(mine), Some(spans)) = (&mut self.spans, self.gateway.spans()) else { return };
        for effect in &outcome.effects {
            let Effect::Decided(token, decision) = effect else { continue };
            let waiter = self.waiters.iter().find(|(waiting, _)| waiting == token);
            if let (Some((_, Waiter::Submit(submit))), Some(seq)) = (waiter, decision.seq)
                && let Some(context) = &submit.trace
            {
                mine.accepted(spans, seq, context);
            }
        }
        mine.observe(spans, self.driver.key(), commit);
    }

    /// The span of an attempt that begins.
    pub(super) fn attempt_span(&mut self, tag: RunTag) -> Option<OpenSpan> {
        let (mine, spans) = (self.spans.as_mut()?, self.gateway.spans()?);
        let key = self.driver.key();
        let turn = mine.open(spans, key, tag.turn)?.span.context();
        let mut span = spans.begin("agent attempt", SpanKind::Internal, Some(turn))?;
        span.set(names::TURN_ID, || tag.turn.to_string().into());
        span.set(names::ATTEMPT, || tag.attempt.0.into());
        span.set(names::AGENT, || key.agent().into());
        // Nothing is said of a run that was cancelled.
        span.set(names::OUTCOME, || "cancelled".into());
        Some(span)
    }

    /// The span of a delivery that begins.
    pub(super) fn delivery_span(&self, delivery: &Delivery) -> Option<OpenSpan> {
        let (mine, spans) = (self.spans.as_ref()?, self.gateway.spans()?);
        let reply = mine.replies.iter().find(|(seq, ..)| *seq == delivery.reply);
        let parent = reply.map(|(_, _, kept)| &kept.context);
        let mut span = spans.begin("deliver", SpanKind::Producer, parent)?;
        let key = self.driver.key();
        span.set(names::SESSION_KEY, || key.as_str().to_owned().into());
        if let Some((_, turn, _)) = reply {
            span.set(names::TURN_ID, || turn.to_string().into());
        }
        span.set(names::CHANNEL, || key.channel().into());
        span.set(names::PART, || delivery.part.into());
        span.set(names::ATTEMPT, || delivery.attempt.into());
        Some(span)
    }
}
