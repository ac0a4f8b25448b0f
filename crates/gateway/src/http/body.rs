//! Reads a request's body: bounded, in time, as JSON, with every mistake named by its field.

use std::borrow::Cow;

use axum::body::HttpBody;
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::Bytes;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;

use super::problem::{Kind, Problem};
use super::settings::HttpSettings;
use crate::Current;

/// Reads a body that must be there.
pub(super) async fn json<T: DeserializeOwned, B: HttpBody<Data = Bytes> + Unpin>(
    headers: &HeaderMap,
    body: B,
    settings: &Current<HttpSettings>,
) -> Result<T, Problem> {
    check_encoding(headers)?;
    check_type(headers)?;
    parse(&collect(body, settings).await?)
}

/// Reads a body that may be left out.
pub(super) async fn json_or_default<
    T: DeserializeOwned + Default,
    B: HttpBody<Data = Bytes> + Unpin,
>(
    headers: &HeaderMap,
    body: B,
    settings: &Current<HttpSettings>,
) -> Result<T, Problem> {
    check_encoding(headers)?;
    let bytes = collect(body, settings).await?;
    if bytes.is_empty() {
        return Ok(T::default());
    }
    check_type(headers)?;
    parse(&bytes)
}

/// Longest body that is read only to be thrown away, in bytes; a longer one ends its connection.
const SPARED_BYTES_MAX: u64 = 64 * 1024;

/// Refuses a request whose body nobody has read. A short body is read away, so that the connection
/// can go on.
pub(super) async fn refuse_unread<B: HttpBody<Data = Bytes> + Unpin>(
    problem: Problem,
    body: B,
    settings: &Current<HttpSettings>,
) -> Problem {
    let short = body.size_hint().upper().is_some_and(|bytes| bytes <= SPARED_BYTES_MAX);
    if short && collect(body, settings).await.is_ok() { problem } else { problem.and_close() }
}

/// Nothing is ever inflated: a small body could become a great one.
pub(super) fn check_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    let mut given = headers.get_all(CONTENT_ENCODING).iter();
    let strange = given.find(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"));
    let Some(strange) = strange else { return Ok(()) };
    let detail = format!("the body must come as it is, not encoded as {strange:?}");
    Err(Problem::new(Kind::NotJson, detail))
}

fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
    let essence = given.unwrap_or_default().split(';').next().unwrap_or_default().trim_ascii();
    let is_json = essence.eq_ignore_ascii_case("application/json")
        || essence.get(essence.len().saturating_sub(5)..).is_some_and(|end| {
            end.eq_ignore_ascii_case("+json") && essence.len() > "application/+json".len()
        });
    if is_json {
        return Ok(());
    }
    let detail = match given {
        Some(given) => format!("the body must be application/json, not {given:?}"),
        None => "the body must be application/json; the Content-Type header is missing".to_owned(),
    };
    Err(Problem::new(Kind::NotJson, detail))
}

async fn collect<B: HttpBody<Data = Bytes> + Unpin>(
    body: B,
    settings: &Current<HttpSettings>,
) -> Result<Bytes, Problem> {
    let settings = settings.now();
    let bytes_max = settings.body_bytes_max;
    // A length that was announced is refused before anything of it is read.
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(too_large(bytes_max));
    }
    match tokio::time::timeout(settings.header_timeout, frames(body, bytes_max)).await {
        Ok(collected) => collected,
        Err(_) => {
            let seconds = settings.header_timeout.as_secs_f32();
            let detail = format!("the body did not arrive within {seconds} s");
            Err(Problem::new(Kind::TooSlow, detail))
        }
    }
}

/// A body that came in one piece is not copied.
async fn frames<B: HttpBody<Data = Bytes> + Unpin>(
    mut body: B,
    bytes_max: usize,
) -> Result<Bytes, Problem> {
    let mut first = Bytes::new();
    let mut joined: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let broken = |_| Problem::new(Kind::BadRequest, "the body is not framed as HTTP asks");
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        if first.len() + joined.len() + data.len() > bytes_max {
            return Err(too_large(bytes_max));
        }
        if joined.is_empty() && first.is_empty() {
            first = data;
            continue;
        }
        joined.extend_from_slice(&std::mem::take(&mut first));
        joined.extend_from_slice(&data);
    }
    Ok(if joined.is_empty() { first } else { joined.into() })
}

fn too_large(bytes_max: usize) -> Problem {
    Problem::new(Kind::TooLarge, format!("the body is longer than {bytes_max} bytes"))
}

pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        Problem::new(Kind::MalformedJson, format!("the body is not UTF-8 from byte {at} on"))
    })?;
    // An array would pass for an object whose fields have no names.
    if !text.trim_ascii_start().starts_with('{') {
        return Err(match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => Problem::field("body", "must be a JSON object"),
            Err(error) => Problem::new(Kind::MalformedJson, error.to_string()),
        });
    }
    serde_json::from_str(text).map_err(|_| explain::<T>(text))
}

/// Reads it once more, now noting where in it the reading stands: too slow for every request, and
/// only wanted for the broken ones.
fn explain<T: DeserializeOwned>(text: &str) -> Problem {
    let mut reader = serde_json::Deserializer::from_str(text);
    let error = match serde_path_to_error::deserialize::<_, T>(&mut reader) {
        Ok(_) => match reader.end() {
            Err(error) => return Problem::new(Kind::MalformedJson, error.to_string()),
            Ok(()) => return Problem::new(Kind::MalformedJson, "the body can't be read"),
        },
        Err(error) => error,
    };
    let path = error.path().to_string();
    let error = error.into_inner();
    let why = plain(error.to_string());
    match error.classify() {
        Category::Data if path != "." => Problem::field(path, why),
        Category::Data => {
            let named = why.split('`').nth(1).map(str::to_owned);
            Problem::field(named.map_or(Cow::Borrowed("body"), Cow::Owned), why)
        }
        Category::Io | Category::Syntax | Category::Eof => Problem::new(Kind::MalformedJson, why),
    }
}

/// What the reader says, without the names that only our code has for kinds of values.
fn plain(why: String) -> String {
    const NUMBERS: [&str; 3] = ["expected u64", "expected u32", "expected usize"];
    match NUMBERS.iter().find(|number| why.contains(**number)) {
        Some(number) => why.replace(number, "expected a whole number, 0 or more"),
        None => why,
    }
}
