//! The `Idempotency-Key` header: a request's name, so that sending it twice does it once.
//!
//! As the IETF draft "The Idempotency-Key HTTP Header Field" has it, the key is a quoted string;
//! most clients send it bare, which is the same key here. What a key stands for is decided past
//! this file: the store remembers it together with what was done.

use hyper::HeaderMap;
use hyper::header::HeaderName;

use super::problem::Problem;

/// The header's name, as refusals spell it.
pub(super) const HEADER: &str = "Idempotency-Key";

static NAME: HeaderName = HeaderName::from_static("idempotency-key");

/// The longest key.
const LENGTH_MAX: usize = 255;

/// The key of a request, if it has one.
pub(super) fn name_of(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(&NAME) else { return Ok(None) };
    if headers.get_all(&NAME).iter().nth(1).is_some() {
        return Err(Problem::field(HEADER, "is given more than once"));
    }
    let key = value.to_str().ok().and_then(|text| key_of(text.trim_ascii()));
    match key {
        Some(key) => Ok(Some(key)),
        None => Err(Problem::field(
            HEADER,
            format!("must be 1 to {LENGTH_MAX} visible ASCII characters, bare or in double quotes"),
        )),
    }
}

/// Refuses a key where none is looked at: whoever sends one relies on it.
pub(super) fn none_of(headers: &HeaderMap, instead: &'static str) -> Result<(), Problem> {
    if headers.contains_key(&NAME) { Err(Problem::field(HEADER, instead)) } else { Ok(()) }
}

/// The key in a header's value; none if it has no right form.
fn key_of(text: &str) -> Option<String> {
    let key = match text.strip_prefix('"') {
        Some(rest) => unquoted(rest.strip_suffix('"')?)?,
        None => text.to_owned(),
    };
    let right = (1..=LENGTH_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
    right.then_some(key)
}

/// The inside of a quoted string of RFC 8941: a backslash stands before each quote and backslash,
/// and before nothing else.
fn unquoted(inside: &str) -> Option<String> {
    let mut key = String::with_capacity(inside.len());
    let mut characters = inside.chars();
    while let Some(character) = characters.next() {
        key.push(match character {
            '\\' => characters.next().filter(|next| matches!(next, '"' | '\\'))?,
            '"' => return None,
            plain => plain,
        });
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_bare_or_quoted() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(key_of(text).as_deref(), expect, "{text}");
        };
        check("8e03978e-40d5-43dd-bc93-6894a57f9324", Some("8e03978e-40d5-43dd-bc93-6894a57f9324"));
        check(r#""8e03978e""#, Some("8e03978e"));
        check(r#""a\"b\\c""#, Some(r#"a"b\c"#));
        check("a,b;c=d", Some("a,b;c=d"));
        check(&"x".repeat(255), Some(&"x".repeat(255)));
        check(&format!("\"{}\"", "x".repeat(255)), Some(&"x".repeat(255)));
        for wrong in
            ["", "\"\"", "\"", "\"a", "\"a\"b\"", "\"a\\\"", "\"a\\n\"", "a b", "\"a b\"", "é"]
        {
            check(wrong, None);
        }
        check(&"x".repeat(256), None);
        check("\"a\"; expires=1", None);
    }
}
