//! Spans while they are open: where they begin, what is noted of them, and that each is told once,
//! at its end. Nothing of this exists unless somebody collects spans.
//!
//! What anybody said never becomes part of a span, and neither do errors in the words of others,
//! because these may quote it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use turnkeep_core::message::Action;
use turnkeep_core::ports::trace::{Span, SpanEvent, SpanKind, Tracer, Value};
use turnkeep_core::trace::{SpanContext, SpanId, TraceId};

use crate::ingress::Admitted;
use crate::service::{Gateway, Refusal, Submitted};

/// Names of attributes. Those that no convention names begin with our own.
pub(crate) mod names {
    pub(crate) const SESSION_KEY: &str = "turnkeep.session_key";
    pub(crate) const MESSAGE_ID: &str = "turnkeep.message_id";
    pub(crate) const TURN_ID: &str = "turnkeep.turn_id";
    pub(crate) const ACTION: &str = "turnkeep.action";
    pub(crate) const REASON: &str = "turnkeep.reason";
    pub(crate) const DUPLICATE: &str = "turnkeep.duplicate";
    pub(crate) const QUEUE_POSITION: &str = "turnkeep.queue_position";
    pub(crate) const AGENT: &str = "turnkeep.agent";
    pub(crate) const ATTEMPT: &str = "turnkeep.attempt";
    pub(crate) const ATTEMPTS: &str = "turnkeep.attempts";
    pub(crate) const MESSAGES: &str = "turnkeep.messages";
    pub(crate) const STATUS: &str = "turnkeep.status";
    pub(crate) const RESUMED: &str = "turnkeep.resumed";
    pub(crate) const OUTCOME: &str = "turnkeep.outcome";
    pub(crate) const CHANNEL: &str = "turnkeep.channel";
    pub(crate) const PART: &str = "turnkeep.part";
    pub(crate) const TOOL: &str = "turnkeep.tool";
}

/// Messages and replies whose spans are remembered for what comes of them, in all sessions.
const KEPT_MAX: usize = 100_000;
/// Links of one span.
const LINKS_MAX: usize = 128;
/// Events of one span.
const EVENTS_MAX: usize = 128;

/// Begins spans.
pub(crate) struct Spans {
    tracer: Arc<dyn Tracer>,
    kept: Arc<AtomicUsize>,
}

/// A span's context, remembered within the bound.
pub(crate) struct Kept {
    pub(crate) context: SpanContext,
    count: Arc<AtomicUsize>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A span under way. It ends when it is dropped, so that one whose work is given up is told too.
pub(crate) struct OpenSpan {
    context: SpanContext,
    /// None of what is not recorded.
    record: Option<Box<Record>>,
}

struct Record {
    span: Span,
    since: Instant,
    tracer: Arc<dyn Tracer>,
}

impl Record {
    /// By the clock that never steps back.
    fn now_ns(&self) -> u64 {
        let elapsed = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.span.started_ns.saturating_add(elapsed)
    }
}

impl Spans {
    pub(crate) fn new(tracer: Arc<dyn Tracer>) -> Self {
        Self { tracer, kept: Arc::default() }
    }

    /// Begins a span, as part of `parent` or of a new trace. None if the system has no randomness
    /// for its name.
    pub(crate) fn begin(
        &self,
        name: &'static str,
        kind: SpanKind,
        parent: Option<&SpanContext>,
    ) -> Option<OpenSpan> {
        let mut random = [0; 24];
        getrandom::fill(&mut random).ok()?;
        let (trace, span) = random.split_first_chunk::<16>()?;
        let span = SpanId::new(span.try_into().ok()?)?;
        let context = match parent {
            Some(parent) => SpanContext { span, ..parent.clone() },
            None => {
                let trace = TraceId::new(*trace)?;
                let sampled = self.tracer.samples(trace);
                SpanContext { trace, span, sampled, state: None }
            }
        };
        let record = context.sampled.then(|| {
            let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let started_ns = u64::try_from(started.as_nanos()).unwrap_or(u64::MAX);
            let span = Span {
                name,
                kind,
                context: context.clone(),
                parent: parent.map(|parent| parent.span),
                parent_is_remote: kind == SpanKind::Server && parent.is_some(),
                started_ns,
                ended_ns: started_ns,
                attributes: Vec::with_capacity(8),
                events: Vec::new(),
                links: Vec::new(),
                links_dropped: 0,
                failed: None,
            };
            Box::new(Record { span, since: Instant::now(), tracer: Arc::clone(&self.tracer) })
        });
        Some(OpenSpan { context, record })
    }

    /// Remembers a span for what comes of it; none where too many are remembered.
    pub(crate) fn keep(&self, context: &SpanContext) -> Option<Kept> {
        let more = |before: usize| (before < KEPT_MAX).then_some(before + 1);
        self.kept.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Kept { context: context.clone(), count: Arc::clone(&self.kept) })
    }

    /// The span of a message, from its admission to the decision that is durable.
    pub(crate) fn decide(
        &self,
        parent: Option<&SpanContext>,
        admitted: &Admitted,
    ) -> Option<OpenSpan> {
        let mut span = self.begin("decide", SpanKind::Internal, parent)?;
        span.set(names::SESSION_KEY, || admitted.key.as_str().to_owned().into());
        span.set(names::MESSAGE_ID, || admitted.inbound.body.message_id.to_string().into());
        Some(span)
    }
}

impl OpenSpan {
    /// How others refer to it.
    pub(crate) const fn context(&self) -> &SpanContext {
        &self.context
    }

    /// Notes an attribute, in place of what was noted under this name.
    pub(crate) fn set(&mut self, name: &'static str, value: impl FnOnce() -> Value) {
        let Some(record) = &mut self.record else { return };
        let attributes = &mut record.span.attributes;
        match attributes.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value(),
            None => attributes.push((name, value())),
        }
    }

    /// Notes that something happens now.
    pub(crate) fn event(&mut self, name: &'static str) {
        self.event_with(name, Vec::new);
    }

    /// The same, with what is known of it.
    pub(crate) fn event_with(
        &mut self,
        name: &'static str,
        attributes: impl FnOnce() -> Vec<(&'static str, Value)>,
    ) {
        let Some(record) = &mut self.record else { return };
        let at_ns = record.now_ns();
        if record.span.events.len() < EVENTS_MAX {
            record.span.events.push(SpanEvent { name, at_ns, attributes: attributes() });
        }
    }

    /// Notes a span that led to it.
    pub(crate) fn link(&mut self, to: &SpanContext) {
        let Some(record) = &mut self.record else { return };
        if record.span.links.len() < LINKS_MAX {
            record.span.links.push(to.clone());
        } else {
            record.span.links_dropped += 1;
        }
    }

    /// Notes what went wrong; what was noted first stays.
    pub(crate) fn fail(&mut self, what: &'static str) {
        if let Some(record) = &mut self.record {
            record.span.failed = record.span.failed.or(Some(what));
        }
    }
}

impl Drop for OpenSpan {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take() {
            record.span.ended_ns = record.now_ns();
            record.tracer.ended(record.span);
        }
    }
}

/// Ends the span of a message with what became of it.
pub(crate) fn decided(span: Option<OpenSpan>, outcome: &Result<Submitted, Refusal>) {
    let Some(mut span) = span else { return };
    match outcome {
        Ok(Submitted { decision, .. }) => {
            span.set(names::ACTION, || decision.action.as_str().into());
            if let Some(turn) = decision.turn {
                span.set(names::TURN_ID, || turn.to_string().into());
            }
            if let Some(position) = decision.queue_position {
                span.set(names::QUEUE_POSITION, || position.into());
            }
            if decision.duplicate {
                span.set(names::DUPLICATE, || true.into());
            }
        }
        Err(Refusal::Rejected(rejection)) => refused(&mut span, rejection.as_str()),
        Err(Refusal::Overloaded) => refused(&mut span, "overloaded"),
        Err(Refusal::Field(_)) => refused(&mut span, "field"),
        Err(Refusal::Unavailable(_)) => span.fail("the decision could not be made durable"),
    }
}

/// A refusal is an answer, not an error.
fn refused(span: &mut OpenSpan, reason: &'static str) {
    span.set(names::ACTION, || Action::Rejected.as_str().into());
    span.set(names::REASON, || reason.into());
}

impl Gateway {
    /// Whoever begins spans; none unless they are collected.
    pub(crate) fn spans(&self) -> Option<&Spans> {
        self.0.spans.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Told(Mutex<Vec<Span>>);

    impl Tracer for Told {
        fn samples(&self, _: TraceId) -> bool {
            true
        }

        fn ended(&self, span: Span) {
            self.0.lock().unwrap().push(span);
        }
    }

    #[test]
    fn a_span_is_told_once_at_its_end_and_stays_within_its_bounds() {
        let told = Arc::new(Told::default());
        let spans = Spans::new(told.clone());
        let root = spans.begin("root", SpanKind::Internal, None).unwrap();
        let mut span = spans.begin("part", SpanKind::Internal, Some(root.context())).unwrap();
        for _ in 0..LINKS_MAX + 7 {
            span.link(root.context());
        }
        for _ in 0..EVENTS_MAX + 7 {
            span.event("again");
        }
        span.set(names::OUTCOME, || "one".into());
        span.set(names::OUTCOME, || "two".into());
        span.fail("first");
        span.fail("second");
        assert!(told.0.lock().unwrap().is_empty());
        let (root, part) = (root.context().clone(), span.context().clone());
        assert_eq!((part.trace, part.span == root.span), (root.trace, false));
        drop(span);
        let span = told.0.lock().unwrap().pop().unwrap();
        assert_eq!((span.context, span.parent), (part, Some(root.span)));
        assert_eq!((span.links.len(), span.links_dropped), (LINKS_MAX, 7));
        assert_eq!(span.events.len(), EVENTS_MAX);
        assert_eq!(span.attributes, [(names::OUTCOME, Value::from("two"))]);
        assert_eq!(span.failed, Some("first"));
        assert!(span.started_ns <= span.ended_ns);
    }

    #[test]
    fn no_more_is_remembered_than_the_bound_allows() {
        let spans = Spans::new(Arc::new(Told::default()));
        let span = spans.begin("message", SpanKind::Internal, None).unwrap();
        let mut kept: Vec<Kept> =
            std::iter::from_fn(|| spans.keep(span.context())).take(KEPT_MAX + 1).collect();
        assert_eq!(kept.len(), KEPT_MAX);
        kept.pop();
        let one_more = spans.keep(span.context());
        assert!(one_more.is_some() && spans.keep(span.context()).is_none());
    }
}
