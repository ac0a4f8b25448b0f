//! What a token says of itself: where its engine is, whose it is, until when it holds.
//!
//! Nothing is verified here, that is the engine's business. It is read to spare an operator the
//! address, and to say early that a token ends.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// Tokens of the engine have about 500 bytes.
const TOKEN_BYTES_MAX: usize = 8 << 10;

/// Why a text is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There is nothing.
    #[error("the Hatchet token is empty")]
    Empty,
    /// No token is that long.
    #[error("the Hatchet token has {0} bytes, more than {TOKEN_BYTES_MAX}: it is something else")]
    TooLong(usize),
    /// It does not look like one.
    #[error("this is no Hatchet token: {0}")]
    Malformed(&'static str),
}

/// A token of an engine's tenant. It is a secret, and shows itself to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    secret: Arc<str>,
    tenant: Arc<str>,
    address: Option<Arc<str>>,
    expires: Option<SystemTime>,
}

impl Token {
    /// Reads one. White space around it is not part of it.
    ///
    /// # Errors
    /// If this can't be a token.
    pub fn decode(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        if text.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong(text.len()));
        }
        let mut parts = text.split('.');
        let (Some(_), Some(claims), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::Malformed("it needs three parts with dots between them"));
        };
        let claims = URL_SAFE_NO_PAD
            .decode(claims)
            .map_err(|_| TokenError::Malformed("its second part is not base64"))?;
        let claims: Map<String, Value> = serde_json::from_slice(&claims)
            .map_err(|_| TokenError::Malformed("its second part is no JSON object"))?;
        let text_of = |name: &str| claims.get(name).and_then(Value::as_str);
        let tenant = text_of("sub").ok_or(TokenError::Malformed("it names no tenant"))?;
        let expires = claims.get("exp").and_then(Value::as_u64);
        Ok(Self {
            secret: text.into(),
            tenant: tenant.into(),
            address: text_of("grpc_broadcast_address")
                .filter(|one| !one.is_empty())
                .map(Into::into),
            expires: expires.and_then(|at| UNIX_EPOCH.checked_add(Duration::from_secs(at))),
        })
    }

    /// The tenant of the engine whose it is.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// Where its engine says to be, as `host:port`.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    /// When it stops holding, if it does.
    #[must_use]
    pub const fn expires(&self) -> Option<SystemTime> {
        self.expires
    }

    /// How long it still holds at that time; nothing left if it is over, `None` if it holds for good.
    #[must_use]
    pub fn remaining(&self, now: SystemTime) -> Option<Duration> {
        self.expires.map(|at| at.duration_since(now).unwrap_or_default())
    }

    /// Itself, for the one header that needs it.
    pub(crate) fn secret(&self) -> &str {
        &self.secret
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Token")
            .field("tenant", &self.tenant)
            .field("address", &self.address)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn a_token_says_where_and_until_when() {
        let text = token(r#"{"sub":"t-1","grpc_broadcast_address":"h:7070","exp":90,"new":[1]}"#);
        let token = Token::decode(&format!(" {text}\n")).unwrap();
        assert_eq!((token.tenant(), token.address()), ("t-1", Some("h:7070")));
        let at = |seconds| token.remaining(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(30), Some(Duration::from_secs(60)));
        assert_eq!(at(91), Some(Duration::ZERO));
        assert!(!format!("{token:?}").contains(&text));
        let endless = self::token(r#"{"sub":"t","exp":"soon","grpc_broadcast_address":""}"#);
        let endless = Token::decode(&endless).unwrap();
        assert_eq!((endless.remaining(UNIX_EPOCH), endless.address()), (None, None));
    }

    #[test]
    fn what_is_no_token_is_told_apart() {
        assert_eq!(Token::decode(" \n"), Err(TokenError::Empty));
        assert_eq!(Token::decode(&"a".repeat(9000)), Err(TokenError::TooLong(9000)));
        let wrong = ["abc", "a.b", "a.b.c.d", "a.!!.c", "a.e30.c", "a.W10.c", "a.bm90.c"];
        for text in wrong {
            let error = Token::decode(text).unwrap_err();
            assert!(matches!(error, TokenError::Malformed(_)), "{text}: {error}");
        }
        assert!(Token::decode(&token(r#"{"sub":"t","exp":18446744073709551615}"#)).is_ok());
    }
}
