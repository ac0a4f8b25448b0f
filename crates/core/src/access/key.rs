//! A key: whose it is, how it stands, and how it is written.

use std::fmt;
use std::sync::Arc;

use super::{Principal, Reach, Scopes};
use crate::ids::Timestamp;
use crate::session_key::SEGMENT_BYTES_MAX;

/// What a key of the operator has in place of a tenant.
pub const ALL_TENANTS: &str = "*";
/// The longest label of a key, in characters.
pub const LABEL_CHARS_MAX: usize = 64;
/// The longest text that is tried as a key, in bytes; ours are shorter.
pub const KEY_BYTES_MAX: usize = 128;
const KEY_PREFIX: &str = "tk_";

/// A key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name, which is part of its text.
    pub id: Arc<str>,
    /// Whose it is; every tenant's if none.
    pub tenant: Option<Arc<str>>,
    /// What it allows.
    pub scopes: Scopes,
    /// What a person called it.
    pub label: Option<Arc<str>>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// When a person ended it.
    pub revoked_at: Option<Timestamp>,
}

/// How a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyStatus {
    /// It opens.
    Active,
    /// Its time is over.
    Expired,
    /// A person ended it.
    Revoked,
}

impl KeyStatus {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl Key {
    /// How it stands at this time.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> KeyStatus {
        if self.revoked_at.is_some() {
            KeyStatus::Revoked
        } else if self.expires_at.is_some_and(|end| end <= now) {
            KeyStatus::Expired
        } else {
            KeyStatus::Active
        }
    }

    /// Whether it opens anything at this time.
    #[must_use]
    pub fn is_usable(&self, now: Timestamp) -> bool {
        self.status(now) == KeyStatus::Active
    }

    /// Its tenant's name, or `*`.
    #[must_use]
    pub fn tenant_name(&self) -> &str {
        self.tenant.as_deref().unwrap_or(ALL_TENANTS)
    }

    /// Who it is that asks with it.
    #[must_use]
    pub fn principal(&self) -> Principal {
        let reach = match &self.tenant {
            Some(tenant) => Reach::Tenant(Arc::clone(tenant)),
            None => Reach::Everything,
        };
        Principal { name: format!("key {}", self.id).into(), reach, scopes: self.scopes }
    }
}

/// Reads what stands for a tenant: its name, or `*` for all of them (none).
pub fn key_tenant(text: &str) -> Result<Option<Arc<str>>, String> {
    if text == ALL_TENANTS {
        return Ok(None);
    }
    segment(text).map(Some)
}

/// A text that can be a part of a session key.
pub fn segment(text: &str) -> Result<Arc<str>, String> {
    if text.trim().is_empty() {
        return Err("must not be empty".into());
    }
    if text.len() > SEGMENT_BYTES_MAX {
        return Err(format!("is longer than {SEGMENT_BYTES_MAX} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err("holds a control character".into());
    }
    Ok(text.into())
}

/// A label within its bounds.
pub fn key_label(text: &str) -> Result<Arc<str>, String> {
    if text.chars().count() > LABEL_CHARS_MAX {
        return Err(format!("is longer than {LABEL_CHARS_MAX} characters"));
    }
    if text.chars().any(char::is_control) {
        return Err("holds a control character".into());
    }
    Ok(text.into())
}

/// The two parts of a key as it is typed, `tk_ID_SECRET`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyText<'a> {
    /// Which key.
    pub id: &'a str,
    /// What only its holder knows.
    pub secret: &'a str,
}

impl<'a> KeyText<'a> {
    /// Takes a text apart; none if it has not the form of a key.
    #[must_use]
    pub fn read(text: &'a str) -> Option<Self> {
        if text.len() > KEY_BYTES_MAX {
            return None;
        }
        let (id, secret) = text.strip_prefix(KEY_PREFIX)?.split_once('_')?;
        (!id.is_empty() && !secret.is_empty()).then_some(Self { id, secret })
    }

    /// The one place where the secret is written out: for whoever asked for the key.
    #[must_use]
    pub fn write(&self) -> String {
        format!("{KEY_PREFIX}{}_{}", self.id, self.secret)
    }
}

impl fmt::Debug for KeyText<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{KEY_PREFIX}{}_…", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_end_on_time() {
        let check = |expires_at, revoked_at, now, expect: &str| {
            let key = Key {
                id: "x".into(),
                tenant: None,
                scopes: Scopes::ALL,
                label: None,
                created_at: 0,
                expires_at,
                revoked_at,
            };
            assert_eq!(key.status(now).as_str(), expect);
            assert_eq!(key.is_usable(now), expect == "active");
        };
        check(None, None, i64::MAX, "active");
        check(Some(10), None, 9, "active");
        check(Some(10), None, 10, "expired");
        check(None, Some(5), 4, "revoked");
        check(Some(10), Some(5), 20, "revoked");
    }

    #[test]
    fn texts_of_keys_are_taken_apart() {
        let check = |text: &str, expect: Option<(&str, &str)>| {
            let read = KeyText::read(text).map(|key| (key.id, key.secret));
            assert_eq!(read, expect, "{text}");
        };
        check("tk_abc_s3cret", Some(("abc", "s3cret")));
        check("tk_abc_with_more-", Some(("abc", "with_more-")));
        for bad in ["", "tk_", "tk_abc", "tk__x", "tk_abc_", "sk_abc_x", " tk_abc_x"] {
            check(bad, None);
        }
        check(&format!("tk_a_{}", "x".repeat(200)), None);
        let key = KeyText { id: "abc", secret: "s3cret" };
        assert_eq!(KeyText::read(&key.write()), Some(key));
        assert_eq!(format!("{key:?}"), "tk_abc_…");
    }

    #[test]
    fn names_and_labels_have_bounds() {
        assert_eq!(key_tenant("*"), Ok(None));
        assert_eq!(key_tenant("acme"), Ok(Some("acme".into())));
        for bad in ["", "  ", "a\nb", &"x".repeat(129)] {
            assert!(key_tenant(bad).is_err(), "{bad:?}");
        }
        assert!(key_label(&"é".repeat(64)).is_ok());
        assert!(key_label(&"é".repeat(65)).is_err());
        assert!(key_label("a\u{1b}[31m").is_err());
    }
}
