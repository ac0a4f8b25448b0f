//! Signs what is posted, by the scheme of Standard Webhooks.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::RequestBuilder;
use ring::hmac;
use turnkeep_core::listen::signed_content;

/// What is signed with. Shows nothing of it.
pub(super) struct Signer {
    /// More than one while a secret is changed; at least one.
    keys: Vec<hmac::Key>,
}

impl Signer {
    /// None without a secret.
    pub(super) fn new(secrets: &[Vec<u8>]) -> Option<Self> {
        let keys = secrets.iter().map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret));
        let keys: Vec<_> = keys.collect();
        (!keys.is_empty()).then_some(Self { keys })
    }

    /// The request with its three headers, for this moment.
    pub(super) fn sign(&self, request: RequestBuilder, id: &str, body: &str) -> RequestBuilder {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_seconds = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX);
        request
            .header("webhook-id", id)
            .header("webhook-timestamp", at_seconds)
            .header("webhook-signature", self.signatures(id, at_seconds, body))
    }

    /// One for each key, so that who knows any of them is satisfied.
    fn signatures(&self, id: &str, at_seconds: i64, body: &str) -> String {
        let content = signed_content(id, at_seconds, body.as_bytes());
        let sign = |key| format!("v1,{}", STANDARD.encode(hmac::sign(key, &content)));
        self.keys.iter().map(sign).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example that the scheme's own libraries are tested with.
    #[test]
    fn the_published_example_is_signed_as_published() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signer = Signer::new(&[b"another one".to_vec(), secret]).unwrap();
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let signed = signer.signatures(id, 1_614_265_330, r#"{"test": 2432232314}"#);
        let (other, published) = signed.split_once(' ').unwrap();
        assert_eq!(published, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(other.starts_with("v1,") && other != published, "{signed}");
        assert!(Signer::new(&[]).is_none());
    }
}
