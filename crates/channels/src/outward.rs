//! HTTP clients of channels and of what is none: what all of them refuse.

use reqwest::ClientBuilder;
use reqwest::redirect::Policy;

/// A client that goes nowhere but where it is sent: it follows no redirect and uses no proxy of the
/// environment. None if nobody chose how to speak TLS: making one would panic then, even one for plain
/// http.
pub(crate) fn client() -> Option<ClientBuilder> {
    rustls::crypto::CryptoProvider::get_default()?;
    Some(
        reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .user_agent(concat!("turnkeep/", env!("CARGO_PKG_VERSION"))),
    )
}
