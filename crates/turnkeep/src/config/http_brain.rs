//! An agent that is a server of somebody's: where it is, what it is asked with, how many turns at once.

use std::net::IpAddr;

use super::listeners::{NamedSecrets, SigningSecret, signing_secrets};
use super::raw::AgentRaw;
use super::secret::Told;

/// Turns at once, if nothing else is typed.
const CONNECTIONS_MAX: usize = 256;

/// A server that answers, many turns at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpBrainSettings {
    /// Where it is asked.
    pub(crate) url: String,
    /// What it is asked with, each of them; at least one.
    pub(crate) secrets: Vec<SigningSecret>,
    /// Turns at once.
    pub(crate) connections_max: usize,
}

impl HttpBrainSettings {
    /// Its address without what may be secret in it.
    pub(crate) fn origin(&self) -> String {
        let url = reqwest::Url::parse(&self.url).ok();
        url.map_or_else(String::new, |url| url.origin().ascii_serialization())
    }
}

/// What is typed for an agent of this kind.
pub(super) fn http_brain(
    name: &str,
    raw: &AgentRaw,
    told: &mut Told<'_>,
) -> Option<HttpBrainSettings> {
    let keys = &raw.http;
    let place = format!("[agents.{name}]");
    if keys.secret_file.is_none() && keys.secret_env.is_none() {
        let text = format!("{place} needs \"secret_file\" or \"secret_env\"");
        told.problems.lacks(&place, &["secret_file", "secret_env"], &raw.at, &text);
    }
    let named = NamedSecrets {
        place: &place,
        file: ("secret_file", keys.secret_file.as_ref()),
        env: ("secret_env", keys.secret_env.as_ref()),
    };
    let secrets = signing_secrets(&named, told);
    let Some(set) = &keys.url else {
        told.problems.lacks(&place, &["url"], &raw.at, &format!("{place} needs \"url\""));
        return None;
    };
    let url = &set.value.0;
    if url.scheme() == "http" && !is_here(url) {
        told.notes.push(format!(
            "{}: \"url\" in {place} is not https: whoever is between this machine and {} can read \
             the conversations",
            set.origin,
            url.host_str().unwrap_or_default()
        ));
    }
    Some(HttpBrainSettings {
        url: url.to_string(),
        secrets: secrets?,
        connections_max: keys.connections_max.as_ref().map_or(CONNECTIONS_MAX, |set| set.value),
    })
}

/// Whether the address is on this machine, as far as can be seen.
pub(super) fn is_here(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
