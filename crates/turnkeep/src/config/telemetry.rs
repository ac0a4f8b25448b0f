//! Traces: where spans are sent, under which name, and how many.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::problem::{Origin, Problems};
use super::raw::TelemetryKeys;
use super::secret::{Named, Told, secret};
use super::value::{Endpoint, Set};

/// What the protocol puts behind an endpoint.
const TRACES: &str = "/v1/traces";
/// The service's name, if nothing else is typed.
const SERVICE_NAME: &str = "turnkeep";

/// Where spans are sent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TelemetrySettings {
    /// The whole address.
    pub(crate) url: String,
    /// What this server is called there.
    pub(crate) service_name: String,
    /// How much of the traces that begin here is recorded.
    pub(crate) sample_ratio: f64,
    /// What the receiver wants to see; each is marked as a secret.
    pub(crate) headers: HeaderMap,
}

/// Where spans are sent, if anywhere.
pub(super) fn telemetry(keys: &TelemetryKeys, told: &mut Told<'_>) -> Option<TelemetrySettings> {
    let Some(endpoint) = &keys.otlp_endpoint else {
        useless(keys, told.problems);
        return None;
    };
    let url = traces_url(endpoint, told.problems);
    let named = Named {
        place: "[telemetry]",
        file: ("headers_file", keys.headers_file.as_ref()),
        env: ("headers_env", keys.headers_env.as_ref()),
    };
    let headers = match secret(&named, told) {
        Some((text, origin)) => headers(&text).unwrap_or_else(|why| {
            let key = if keys.headers_file.is_some() { "headers_file" } else { "headers_env" };
            told.problems.add(origin, format!("\"{key}\" in [telemetry]: {why}"));
            HeaderMap::new()
        }),
        None => HeaderMap::new(),
    };
    let service_name = keys.service_name.as_ref().map(|set| set.value.clone());
    Some(TelemetrySettings {
        url: url?,
        service_name: service_name.unwrap_or_else(|| SERVICE_NAME.to_owned()),
        sample_ratio: keys.sample_ratio.as_ref().map_or(1.0, |set| set.value),
        headers,
    })
}

fn useless(keys: &TelemetryKeys, problems: &mut Problems) {
    let typed: [(&str, Option<&Origin>); 4] = [
        ("service_name", keys.service_name.as_ref().map(|set| &set.origin)),
        ("sample_ratio", keys.sample_ratio.as_ref().map(|set| &set.origin)),
        ("headers_file", keys.headers_file.as_ref().map(|set| &set.origin)),
        ("headers_env", keys.headers_env.as_ref().map(|set| &set.origin)),
    ];
    for (key, origin) in typed {
        if let Some(origin) = origin {
            let text = format!("\"{key}\" in [telemetry] is of no use without \"otlp_endpoint\"");
            problems.lacks("[telemetry]", &["otlp_endpoint"], origin, &text);
        }
    }
}

/// The address with the protocol's path behind its own.
fn traces_url(endpoint: &Set<Endpoint>, problems: &mut Problems) -> Option<String> {
    let mut url = endpoint.value.0.clone();
    let path = url.path().trim_end_matches('/');
    if path.ends_with(TRACES) {
        let text = format!(
            "\"otlp_endpoint\" in [telemetry] must end before {TRACES}, which is put behind it; it \
             looks like \"http://127.0.0.1:4318\""
        );
        problems.add(&endpoint.origin, text);
        return None;
    }
    let path = format!("{path}{TRACES}");
    url.set_path(&path);
    Some(url.to_string())
}

/// Reads `name=value,name=value` as `OTEL_EXPORTER_OTLP_HEADERS` has it, where a value may hold
/// `%20` and the like. What stands there stays out of every message.
pub(super) fn headers(text: &str) -> Result<HeaderMap, String> {
    const RULE: &str = "it must be name=value, with commas between several";
    let mut headers = HeaderMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or(RULE)?;
        let name: HeaderName = name.trim().parse().map_err(|_| RULE)?;
        let value = decoded(value.trim()).filter(|value| !value.is_empty()).ok_or(RULE)?;
        let mut value = HeaderValue::from_bytes(&value)
            .map_err(|_| "a value in it holds what no header may hold")?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    if headers.is_empty() { Err(RULE.to_owned()) } else { Ok(headers) }
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let pair = [rest.next()?, rest.next()?].map(|digit| char::from(digit).to_digit(16));
                u8::try_from(pair[0]? << 4 | pair[1]?).ok()?
            }
            plain => plain,
        });
    }
    Some(bytes)
}
