//! The span of a request that brings a message: continues the sender's trace, and says how the
//! request was answered.

use axum::response::Response;
use hyper::{HeaderMap, Request};
use turnkeep_core::ports::trace::{SpanKind, Value};
use turnkeep_core::trace::SpanContext;

use crate::Gateway;
use crate::trace::OpenSpan;

const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";

/// Begins it, and puts its context where whoever reads the request finds it.
pub(super) fn begin<B>(gateway: &Gateway, request: &mut Request<B>) -> Option<OpenSpan> {
    let spans = gateway.spans()?;
    let parent = parent(request.headers());
    let mut span = spans.begin("POST /v1/chat", SpanKind::Server, parent.as_ref())?;
    span.set("http.request.method", || "POST".into());
    span.set("http.route", || "/v1/chat".into());
    request.extensions_mut().insert(span.context().clone());
    Some(span)
}

/// Ends it. Without this it ends when the sender goes away, and then has no status.
pub(super) fn end(span: Option<OpenSpan>, response: &Response) {
    let Some(mut span) = span else { return };
    let status = response.status();
    span.set("http.response.status_code", || Value::Number(status.as_u16().into()));
    if status.is_server_error() {
        span.fail("answered with a server error");
    }
}

/// The sender's span. What can't be read, or comes twice, is as if it had not come.
fn parent(headers: &HeaderMap) -> Option<SpanContext> {
    let mut parents = headers.get_all(PARENT).iter();
    let parent = parents.next()?.to_str().ok()?;
    if parents.next().is_some() {
        return None;
    }
    let mut states = headers.get_all(STATE).iter();
    let state = match (states.next(), states.next()) {
        (None, _) => None,
        (Some(state), None) => state.to_str().ok().map(str::to_owned),
        // A list may be spread over several headers.
        _ => {
            let all = headers.get_all(STATE).iter().map(|state| state.to_str().ok());
            all.collect::<Option<Vec<_>>>().map(|states| states.join(","))
        }
    };
    SpanContext::read(parent, state.as_deref())
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    const SENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_senders_span_is_found() {
        let check = |sent: &[(&'static str, &'static str)], expect: Option<Option<&str>>| {
            let mut headers = HeaderMap::new();
            for (name, value) in sent {
                headers.append(*name, HeaderValue::from_static(value));
            }
            let found = parent(&headers);
            assert_eq!(found.as_ref().map(|found| found.state.as_deref()), expect, "{sent:?}");
        };
        check(&[], None);
        check(&[(STATE, "a=1")], None);
        check(&[(PARENT, SENT)], Some(None));
        check(&[(PARENT, SENT), (STATE, "a=1")], Some(Some("a=1")));
        check(&[(PARENT, SENT), (STATE, "a=1"), (STATE, "b=2")], Some(Some("a=1,b=2")));
        check(&[(PARENT, SENT), (PARENT, SENT)], None);
        check(&[(PARENT, "nonsense"), (STATE, "a=1")], None);
    }
}
