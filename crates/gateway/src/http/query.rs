//! Reads what stands behind the question mark.

use std::borrow::Cow;
use std::collections::HashMap;
use std::str::FromStr;

use hyper::Uri;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::{OpenApi, RefOr};

use super::problem::Problem;

/// What each address can be asked for, as the OpenAPI document says it.
pub(super) struct Parameters(HashMap<String, Vec<String>>);

impl Parameters {
    pub(super) fn of(document: &OpenApi) -> Self {
        let mut known = HashMap::new();
        for (path, item) in &document.paths.paths {
            let operations = [
                ("GET", &item.get),
                ("POST", &item.post),
                ("PUT", &item.put),
                ("PATCH", &item.patch),
                ("DELETE", &item.delete),
            ];
            for (method, operation) in operations {
                if let Some(operation) = operation {
                    known.insert(format!("{method} {path}"), names(operation));
                }
            }
        }
        Self(known)
    }

    /// Refuses a parameter that the address doesn't know: whoever asks with one would take the
    /// answer for what it is not. Only the API's own addresses are held to it; a probe or a browser
    /// may add what it likes elsewhere.
    pub(super) fn check(&self, method: &str, path: &str, uri: &Uri) -> Result<(), Problem> {
        let Some(query) = uri.query().filter(|_| path.starts_with("/v1/")) else { return Ok(()) };
        let method = if method == "HEAD" { "GET" } else { method };
        let known = self.0.get(&format!("{method} {path}"));
        let known = known.map_or(&[][..], Vec::as_slice);
        Query(query).only(|name| known.iter().any(|known| known == name))
    }
}

fn names(operation: &Operation) -> Vec<String> {
    let parameters = operation.parameters.iter().flatten().filter_map(|one| match one {
        RefOr::T(one) => Some(one),
        RefOr::Ref(_) => None,
    });
    let queries = parameters.filter(|one| one.parameter_in == ParameterIn::Query);
    queries.map(|one| one.name.clone()).collect()
}

/// A query; of two parameters alike the first counts.
#[derive(Clone, Copy)]
pub(super) struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    pub(super) fn of(uri: &'a Uri) -> Self {
        Self(uri.query().unwrap_or_default())
    }

    pub(super) fn get(self, name: &str) -> Option<Cow<'a, str>> {
        self.0.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key) == name).then(|| decode(value))
        })
    }

    /// Refuses the first parameter that is not known.
    pub(super) fn only(self, is_known: impl Fn(&str) -> bool) -> Result<(), Problem> {
        for pair in self.0.split('&').filter(|pair| !pair.is_empty()) {
            let name = decode(pair.split_once('=').map_or(pair, |(name, _)| name));
            if !is_known(&name) {
                return Err(Problem::field(name.into_owned(), "is no parameter of this address"));
            }
        }
        Ok(())
    }

    /// A parameter that is `what`, if it is there.
    pub(super) fn parsed<T: FromStr>(
        self,
        name: &'static str,
        what: &str,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(Problem::field(name, format!("must be {what}, not {text:?}"))),
        }
    }
}

fn decode(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        match (byte, after) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    bytes.push(high * 16 + low);
                    rest = after;
                }
                _ => bytes.push(b'%'),
            },
            (other, _) => bytes.push(*other),
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query = Query("wait=60&after=a%3Ab%253A+c&empty&after=second&bad=%4");
        let check = |name, expect: Option<&str>| assert_eq!(query.get(name).as_deref(), expect);
        check("wait", Some("60"));
        check("after", Some("a:b%3A c"));
        check("empty", Some(""));
        check("bad", Some("%4"));
        check("none", None);
    }
}
