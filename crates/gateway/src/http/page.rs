//! The web page, embedded into the binary.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{HeaderMap, StatusCode};
use rust_embed::RustEmbed;

use super::path::Segments;
use super::problem::{Kind, Problem};

/// The page loads nothing from anywhere else and may be framed by nobody.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
/// The page itself.
const INDEX: &str = "index.html";

#[derive(RustEmbed)]
#[folder = "../../web"]
struct Web;

/// `/`.
pub(super) async fn index(headers: HeaderMap) -> Result<Response, Problem> {
    file(INDEX, "text/html; charset=utf-8", &headers)
}

/// `/assets/{file}`.
pub(super) async fn asset(
    Segments(name): Segments<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    let content_type = match extension {
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("webmanifest") => "application/manifest+json",
        // Whatever else lies in that folder is not for browsers.
        _ => return Err(missing(&name)),
    };
    file(&name, content_type, &headers)
}

fn file(name: &str, content_type: &'static str, headers: &HeaderMap) -> Result<Response, Problem> {
    let file = Web::get(name).ok_or_else(|| missing(name))?;
    let tag = etag(&file.metadata.sha256_hash());
    let fresh =
        headers.get(IF_NONE_MATCH).and_then(|known| known.to_str().ok()).is_some_and(|known| {
            known.split(',').any(|known| known.trim().trim_start_matches("W/") == tag)
        });
    let body = if fresh { Body::empty() } else { Body::from(file.data) };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(ETAG, tag);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if fresh {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response.into_response());
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    Ok(response)
}

/// The beginning of the content's hash tells any two versions of a file apart.
fn etag(hash: &[u8; 32]) -> String {
    use std::fmt::Write;
    let mut tag = String::with_capacity(34);
    tag.push('"');
    for byte in &hash[..16] {
        // Writing to a string can't fail.
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    tag
}

fn missing(name: &str) -> Problem {
    Problem::new(Kind::NotFound, format!("there is no file {name:?}"))
}
