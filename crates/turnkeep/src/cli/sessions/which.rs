//! Which session is meant: a whole key, or what the switchboard calls it.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::str::FromStr;

use anyhow::Context as _;
use turnkeep_core::SessionKey;

use super::super::client::{Client, segment, with_query};

/// Addresses below `/v1/switchboard` that are no sessions.
const ADDRESSES: [&str; 3] = ["cleanup", "events", "stats"];

/// A session as it was typed: its key, or its number, its name or the beginning of its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Which {
    Key(SessionKey),
    Called(String),
}

impl FromStr for Which {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.parse() {
            Ok(key) => Self::Key(key),
            Err(_) => Self::Called(text.to_owned()),
        })
    }
}

impl Which {
    fn as_str(&self) -> &str {
        match self {
            Self::Key(key) => key.as_str(),
            Self::Called(text) => text,
        }
    }

    /// Its path on the switchboard, or that of something below it.
    pub(super) fn on_the_board(&self, below: &str, tenant: Option<&str>) -> String {
        let path = format!("/v1/switchboard/{}{below}", one_segment(self.as_str()));
        with_query(&path, &[("tenant", tenant.map(str::to_owned))])
    }

    /// Its key. A whole key is not looked up, so that a session which is not on the switchboard can
    /// be named by it.
    pub(in crate::cli) async fn key(
        &self,
        client: &Client,
        tenant: Option<&str>,
    ) -> anyhow::Result<SessionKey> {
        match self {
            Self::Key(key) => Ok(key.clone()),
            Self::Called(_) => {
                let answer = client.get(&self.on_the_board("", tenant)).await?;
                let key = answer.value["session"].as_str().unwrap_or_default();
                key.parse().context("the server names no session")
            }
        }
    }
}

/// The text as a segment that is no address of its own: encoded to the last letter it is a name.
fn one_segment(text: &str) -> String {
    if !ADDRESSES.contains(&text) {
        return segment(text);
    }
    text.bytes().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "%{byte:02X}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_told_from_what_it_is_called() {
        let check = |text: &str, is_key: bool, path: &str| {
            let Ok(which) = text.parse::<Which>();
            assert_eq!(matches!(which, Which::Key(_)), is_key, "{text}");
            assert_eq!(which.on_the_board("/name", None), format!("/v1/switchboard/{path}/name"));
        };
        check("3", false, "3");
        check("api work", false, "api%20work");
        check("a:b", false, "a%3Ab");
        check("default:default:api:dm:anna", true, "default%3Adefault%3Aapi%3Adm%3Aanna");
        check("stats", false, "%73%74%61%74%73");
    }
}
