//! Answers that come line by line, a JSON text each: how far something long is, and what it came to.

use std::convert::Infallible;

use axum::body::Body;
use axum::response::Response;
use futures_util::Stream;
use hyper::HeaderMap;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde::Serialize;

/// One JSON text a line.
pub(super) const LINES: &str = "application/x-ndjson";

/// Whether somebody asks for an answer in lines where there is another one, too.
pub(super) fn wants_lines(headers: &HeaderMap) -> bool {
    let mut accepts = headers.get_all(ACCEPT).iter();
    accepts.any(|accept| accept.to_str().is_ok_and(|accept| accept.contains(LINES)))
}

/// One line.
pub(super) fn line(line: &impl Serialize) -> Bytes {
    // Our own shapes always serialise.
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

/// Lines as an answer.
pub(super) fn in_lines(
    lines: impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static,
) -> Response {
    let mut response = Response::new(Body::from_stream(lines));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(LINES));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // A proxy that collects the answer would hold back how far it is.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
