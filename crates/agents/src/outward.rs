//! HTTP clients of agents: what all of them refuse, and how they tell why something was lost.

use std::error::Error as _;

use reqwest::ClientBuilder;
use reqwest::redirect::Policy;

/// Whether a proxy that the environment names may be used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proxies {
    /// It would see tokens and conversations.
    Never,
    /// It only makes a tunnel, for who can reach the internet in no other way.
    OfTheEnvironment,
}

/// A client that goes nowhere but where it is sent. None if nobody chose how to speak TLS: making one
/// would panic then, even one for plain http.
pub(crate) fn client(proxies: Proxies) -> Option<ClientBuilder> {
    rustls::crypto::CryptoProvider::get_default()?;
    // Following would send the conversation to wherever the answer points.
    let client = reqwest::Client::builder()
        .redirect(Policy::none())
        .user_agent(concat!("turnkeep/", env!("CARGO_PKG_VERSION")));
    Some(match proxies {
        Proxies::Never => client.no_proxy(),
        Proxies::OfTheEnvironment => client,
    })
}

/// The innermost reason: the layers above it name the address, which may hold a secret.
pub(crate) fn innermost(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    let mut text = None;
    while let Some(error) = cause {
        text = Some(error.to_string());
        cause = error.source();
    }
    text.unwrap_or_else(|| "the connection broke".to_owned())
}
