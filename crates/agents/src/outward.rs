//! HTTP clients of agents: what all of them refuse.

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
