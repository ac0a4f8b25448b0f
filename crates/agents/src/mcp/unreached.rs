//! Why a server over HTTP did not begin, or did not tell its tools: for a person who can mend it. Its
//! calls are [`outcome`](super::outcome)'s.

use rmcp::transport::DynamicTransportError;
use rmcp::transport::streamable_http_client::StreamableHttpError;

use super::content::label;
use super::outcome::of_transport;
use super::settings::{ToolServerSettings, ToolWay};
use crate::outward::innermost;

/// With its address, as far as that can be no secret, and the reason.
pub(super) fn why_unreached(
    error: &DynamicTransportError,
    settings: &ToolServerSettings,
) -> String {
    type Http = StreamableHttpError<reqwest::Error>;
    let ToolWay::Http { url, token } = &settings.way else { return of_transport(error).output };
    let Some(error) = error.error.downcast_ref::<Http>() else {
        return of_transport(error).output;
    };
    // The path and the query may hold a secret.
    let origin = reqwest::Url::parse(url).map(|url| url.origin().ascii_serialization());
    let origin = origin.unwrap_or_else(|_| "its address".to_owned());
    let refused = |status: u16| {
        let keys = format!("\"token_file\" or \"token_env\" in [tools.{}]", settings.name);
        match (token, status) {
            (None, _) => format!(
                "{origin} refused with status {status}: it wants a token, which {keys} names"
            ),
            (Some(_), 401) => format!(
                "{origin} refused with status {status}: it does not take the token that {keys} names"
            ),
            (Some(_), _) => format!(
                "{origin} refused with status {status}: the token that {keys} names is not enough"
            ),
        }
    };
    match error {
        Http::Client(error) if error.is_connect() => {
            format!("it can't be reached at {origin}: {}", innermost(error))
        }
        Http::Client(error) => format!("{origin} did not answer: {}", innermost(error)),
        Http::AuthRequired(_) => refused(401),
        Http::InsufficientScope(_) => refused(403),
        Http::HttpStatus(status) => match status.status {
            status @ (401 | 403) => refused(status),
            status => format!("{origin} answered with status {status}"),
        },
        Http::UnexpectedServerResponse(said) if said.starts_with("HTTP 401") => refused(401),
        Http::UnexpectedServerResponse(said) if said.starts_with("HTTP 403") => refused(403),
        Http::UnexpectedServerResponse(said) => {
            format!("{origin} answered: {}", label(said.trim_end_matches([':', ' '])))
        }
        other => format!("{origin} gave no answer that can be used: {}", label(&other.to_string())),
    }
}
