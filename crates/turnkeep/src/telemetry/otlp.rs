//! Spans as OTLP says it in JSON: ids in hexadecimal, numbers of 64 bits as texts
//! (<https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>).

use std::fmt::Display;

use serde::{Deserialize, Serialize, Serializer};
use turnkeep_core::ports::trace::{Span, SpanEvent, SpanKind, Value};
use turnkeep_core::trace::{SpanContext, SpanId, TraceId};

/// Who made the spans, among all that one service may be made of.
const SCOPE: Scope = Scope { name: "turnkeep", version: env!("CARGO_PKG_VERSION") };
/// Bits of a span's flags: it was decided to record it, it is known where its parent is, and that
/// is another program.
const FLAG_SAMPLED: u32 = 1;
const FLAG_PLACE_KNOWN: u32 = 0x100;
const FLAG_REMOTE: u32 = 0x200;
/// The codes of what is known of a span's success.
const STATUS_UNSET: u8 = 0;
const STATUS_ERROR: u8 = 2;

/// The body of a request.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: Resource<'a>,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Serialize)]
struct Resource<'a> {
    attributes: [Attribute<'a>; 2],
}

#[derive(Serialize)]
struct ScopeSpans<'a> {
    scope: Scope,
    spans: Vec<SpanShape<'a>>,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SpanShape<'a> {
    #[serde(serialize_with = "text")]
    trace_id: TraceId,
    #[serde(serialize_with = "text")]
    span_id: SpanId,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_state: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_text")]
    parent_span_id: Option<SpanId>,
    flags: u32,
    name: &'static str,
    kind: u8,
    #[serde(serialize_with = "text")]
    start_time_unix_nano: u64,
    #[serde(serialize_with = "text")]
    end_time_unix_nano: u64,
    attributes: Vec<Attribute<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    events: Vec<EventShape<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<LinkShape<'a>>,
    dropped_links_count: u32,
    status: Status,
}

#[derive(Serialize)]
struct Attribute<'a> {
    key: &'static str,
    value: AnyValue<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::enum_variant_names, reason = "the names are the protocol's")]
enum AnyValue<'a> {
    StringValue(&'a str),
    #[serde(serialize_with = "text")]
    IntValue(i64),
    BoolValue(bool),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventShape<'a> {
    #[serde(serialize_with = "text")]
    time_unix_nano: u64,
    name: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attributes: Vec<Attribute<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LinkShape<'a> {
    #[serde(serialize_with = "text")]
    trace_id: TraceId,
    #[serde(serialize_with = "text")]
    span_id: SpanId,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_state: Option<&'a str>,
    flags: u32,
}

#[derive(Serialize)]
struct Status {
    code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'static str>,
}

fn text<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[expect(clippy::ref_option, reason = "serde wants a reference")]
fn optional_text<S: Serializer>(
    value: &Option<impl Display>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

impl<'a> SpanShape<'a> {
    fn new(span: &'a Span) -> Self {
        let remote = if span.parent_is_remote { FLAG_REMOTE } else { 0 };
        Self {
            trace_id: span.context.trace,
            span_id: span.context.span,
            trace_state: span.context.state.as_deref(),
            parent_span_id: span.parent,
            flags: sampled(&span.context) | FLAG_PLACE_KNOWN | remote,
            name: span.name,
            kind: kind(span.kind),
            start_time_unix_nano: span.started_ns,
            end_time_unix_nano: span.ended_ns,
            attributes: attributes(&span.attributes),
            events: span.events.iter().map(event).collect(),
            links: span.links.iter().map(link).collect(),
            dropped_links_count: span.links_dropped,
            status: Status {
                code: if span.failed.is_some() { STATUS_ERROR } else { STATUS_UNSET },
                message: span.failed,
            },
        }
    }
}

fn sampled(context: &SpanContext) -> u32 {
    if context.sampled { FLAG_SAMPLED } else { 0 }
}

const fn kind(kind: SpanKind) -> u8 {
    match kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Producer => 4,
    }
}

fn attribute<'a>(key: &'static str, value: &'a Value) -> Attribute<'a> {
    let value = match value {
        Value::Text(text) => AnyValue::StringValue(text),
        Value::Number(number) => AnyValue::IntValue(*number),
        Value::Flag(flag) => AnyValue::BoolValue(*flag),
    };
    Attribute { key, value }
}

fn attributes<'a>(known: &'a [(&'static str, Value)]) -> Vec<Attribute<'a>> {
    known.iter().map(|(key, value)| attribute(key, value)).collect()
}

fn event(event: &SpanEvent) -> EventShape<'_> {
    let attributes = attributes(&event.attributes);
    EventShape { time_unix_nano: event.at_ns, name: event.name, attributes }
}

fn link(to: &SpanContext) -> LinkShape<'_> {
    LinkShape {
        trace_id: to.trace,
        span_id: to.span,
        trace_state: to.state.as_deref(),
        // Whether it is another program's is not kept: nearly always it is our own.
        flags: sampled(to),
    }
}

/// Spans of this service as the body of a request.
pub(super) fn body(service_name: &str, spans: &[Span]) -> serde_json::Result<Vec<u8>> {
    let named = |key, text| Attribute { key, value: AnyValue::StringValue(text) };
    let attributes = [named("service.name", service_name), named("service.version", SCOPE.version)];
    let spans = spans.iter().map(SpanShape::new).collect();
    let resource_spans = [ResourceSpans {
        resource: Resource { attributes },
        scope_spans: [ScopeSpans { scope: SCOPE, spans }],
    }];
    serde_json::to_vec(&Request { resource_spans })
}

/// How many spans the collector refused, by its answer. What can't be read refuses none: the status
/// was right.
pub(super) fn refused(answer: &[u8]) -> u64 {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Answer {
        partial_success: Option<Partial>,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Partial {
        rejected_spans: serde_json::Value,
    }
    let answer: Answer = serde_json::from_slice(answer).unwrap_or_default();
    let rejected = answer.partial_success.unwrap_or_default().rejected_spans;
    // A number of 64 bits is a text by the rules; not everybody knows.
    rejected.as_u64().or_else(|| rejected.as_str()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

    use super::*;

    pub(crate) fn span() -> Span {
        let context = SpanContext {
            trace: TraceId::new([0xab; 16]).unwrap(),
            span: SpanId::new([0xcd; 8]).unwrap(),
            sampled: true,
            state: Some(Arc::from("a=1")),
        };
        let other = SpanContext { state: None, ..context.clone() };
        Span {
            name: "turn",
            kind: SpanKind::Server,
            parent: SpanId::new([1; 8]),
            parent_is_remote: true,
            started_ns: 1_700_000_000_000_000_001,
            ended_ns: 1_700_000_000_000_000_002,
            attributes: vec![
                ("text", "word".into()),
                ("number", Value::Number(-7)),
                ("flag", true.into()),
            ],
            events: vec![SpanEvent {
                name: "event",
                at_ns: 3,
                attributes: vec![("turnkeep.tool", "refund".into())],
            }],
            links: vec![context.clone(), other],
            links_dropped: 5,
            failed: Some("broken"),
            context,
        }
    }

    /// What a collector would understand, by the types that are made of the protocol's own files.
    #[test]
    fn a_collector_understands_every_field() {
        let plain = Span {
            parent: None,
            parent_is_remote: false,
            events: Vec::new(),
            links: Vec::new(),
            failed: None,
            ..span()
        };
        let body = body("shop", &[span(), plain]).unwrap();
        let read: ExportTraceServiceRequest = serde_json::from_slice(&body).unwrap();
        let resource = read.resource_spans[0].resource.as_ref().unwrap();
        let shown = format!("{:?}", resource.attributes);
        assert!(shown.contains("service.name") && shown.contains("shop"), "{shown}");
        let [full, plain] = &read.resource_spans[0].scope_spans[0].spans[..] else { panic!() };
        assert_eq!((&full.trace_id[..], &full.span_id[..]), (&[0xab; 16][..], &[0xcd; 8][..]));
        assert_eq!((&*full.parent_span_id, &*full.trace_state), (&[1; 8][..], "a=1"));
        assert_eq!((full.flags, full.kind, &*full.name), (0x301, 2, "turn"));
        let times = (full.start_time_unix_nano, full.end_time_unix_nano);
        assert_eq!(times, (1_700_000_000_000_000_001, 1_700_000_000_000_000_002));
        let attributes = format!("{:?}", full.attributes);
        for value in ["StringValue(\"word\")", "IntValue(-7)", "BoolValue(true)"] {
            assert!(attributes.contains(value), "{attributes}");
        }
        assert_eq!((full.events[0].time_unix_nano, &*full.events[0].name), (3, "event"));
        let known = format!("{:?}", full.events[0].attributes);
        assert!(known.contains("turnkeep.tool") && known.contains("refund"), "{known}");
        assert_eq!((full.links.len(), &*full.links[0].trace_state), (2, "a=1"));
        assert_eq!((&*full.links[1].trace_state, full.dropped_links_count), ("", 5));
        let status = full.status.as_ref().unwrap();
        assert_eq!((status.code, &*status.message), (2, "broken"));
        assert!(plain.parent_span_id.is_empty() && plain.links.is_empty());
        assert_eq!((plain.flags, plain.status.as_ref().unwrap().code), (0x101, 0));
    }

    #[test]
    fn refused_spans_are_counted() {
        let check = |answer: &str, expect: u64| assert_eq!(refused(answer.as_bytes()), expect);
        check("{}", 0);
        check("", 0);
        check("<html>", 0);
        check("{\"partialSuccess\":{}}", 0);
        check("{\"partialSuccess\":{\"rejectedSpans\":\"3\",\"errorMessage\":\"no\"}}", 3);
        check("{\"partialSuccess\":{\"rejectedSpans\":4}}", 4);
        check("{\"partialSuccess\":null}", 0);
    }
}
