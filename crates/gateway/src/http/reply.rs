//! What an answer looks like: one buffer of JSON.

use axum::response::Response;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use serde::Serialize;

use super::problem::Problem;

/// What a handler gives.
pub(super) type Answer = Result<Response, Problem>;

/// An answer to a deed; `room` is how many bytes it will about take.
pub(super) fn json(status: StatusCode, body: &impl Serialize, room: usize) -> Response {
    let mut buffer = Vec::with_capacity(room);
    // Our own shapes always serialise, and writing to a vector can't fail.
    let _ = serde_json::to_writer(&mut buffer, body);
    let mut response = Response::new(buffer.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer to a question; it holds only for now.
pub(super) fn read(body: &impl Serialize) -> Answer {
    let mut response = json(StatusCode::OK, body, 256);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
