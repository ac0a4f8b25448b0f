//! Answers that come line by line, a JSON text each: how far something long is, and what it came to.

use axum::body::Body;
use axum::response::Response;
use futures_util::{Stream, stream};
use hyper::HeaderMap;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde::Serialize;
use tokio::sync::mpsc;

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

/// What stands behind the last piece of an answer that broke off: the connection ends in the middle
/// of the body, so that nobody takes it for whole.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the answer broke off")]
pub(super) struct BrokenOff;

/// Lines as an answer, from whoever writes them.
pub(super) fn from_writer(pieces: mpsc::Receiver<Result<Bytes, BrokenOff>>) -> Response {
    in_lines(stream::unfold(pieces, |mut pieces| async move {
        let piece = pieces.recv().await?;
        Some((piece, pieces))
    }))
}

/// Lines as an answer.
pub(super) fn in_lines<E: Into<axum::BoxError> + 'static>(
    lines: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
) -> Response {
    let mut response = Response::new(Body::from_stream(lines));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(LINES));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // A proxy that collects the answer would hold back how far it is.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
