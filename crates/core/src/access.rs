//! Who asks, and what they may do.
//!
//! Everybody who asks is a [`Principal`]: how far it reaches (everything, one tenant, one customer)
//! and which scopes it has. Whether a secret is right is found out by the shell; what follows from
//! it is decided here. What a key is, and how it is written, stands in `key`.

mod key;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::session_key::{SessionKey, SessionKind};

pub use key::{
    ALL_TENANTS, KEY_BYTES_MAX, Key, KeyStatus, KeyText, LABEL_CHARS_MAX, key_label, key_tenant,
    segment,
};

/// The channel of people who sign in on the web page.
pub const VISIT_CHANNEL: &str = "web";

/// One thing that can be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// To write in conversations and to steer them.
    Send,
    /// To read conversations.
    Read,
    /// To look after things: keys, dead letters, parked deliveries. Implies the others.
    Admin,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Send, Self::Read, Self::Admin];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }

    /// The scope that a word names.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word)
    }
}

/// What is allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scopes(u8);

impl Scopes {
    /// Everything.
    pub const ALL: Self = Self(1 << Scope::Admin as u8);

    /// Nothing is allowed.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this is allowed; admin implies the others.
    #[must_use]
    pub const fn allow(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8 | Self::ALL.0) != 0
    }

    /// What was named, without what it implies.
    pub fn named(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.0 & (1 << *scope as u8) != 0)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | 1 << scope as u8))
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.named().map(Scope::as_str).collect();
        formatter.write_str(&words.join(","))
    }
}

/// Why a list of words is no list of scopes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopesError {
    /// The list is empty.
    #[error("name at least one of send, read, admin")]
    Empty,
    /// A word is none of them.
    #[error("scopes are send, read and admin, not {0:?}")]
    Unknown(String),
}

impl FromStr for Scopes {
    type Err = ScopesError;

    /// Words with commas between.
    fn from_str(text: &str) -> Result<Self, ScopesError> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        let scope =
            |word: &str| Scope::named(word).ok_or_else(|| ScopesError::Unknown(word.into()));
        let scopes: Self = words.map(scope).collect::<Result<_, _>>()?;
        if scopes.is_empty() { Err(ScopesError::Empty) } else { Ok(scopes) }
    }
}

/// How far somebody reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Every tenant: whoever runs the gateway.
    Everything,
    /// One tenant.
    Tenant(Arc<str>),
    /// One customer's own conversations on the web page.
    Customer(Visit),
}

/// Whom somebody is who signed in on the web page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visit {
    /// Whose customer.
    pub tenant: Arc<str>,
    /// Who.
    pub customer: Arc<str>,
    /// The only agent to talk to; any if none.
    pub agent: Option<Arc<str>>,
}

impl Visit {
    fn owns(&self, key: &SessionKey) -> bool {
        key.tenant() == *self.tenant
            && key.channel() == VISIT_CHANNEL
            && key.kind() == SessionKind::Dm
            && key.peer() == *self.customer
            && self.agent.as_ref().is_none_or(|agent| key.agent() == **agent)
    }
}

/// Somebody who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// For the log and for what is recorded: `operator`, `key ID` or `visitor`; no secret, no
    /// person.
    pub name: Arc<str>,
    /// How far it reaches.
    pub reach: Reach,
    /// What it may do there.
    pub scopes: Scopes,
}

impl Principal {
    /// Whoever runs the gateway; may do everything.
    #[must_use]
    pub fn operator() -> Self {
        Self { name: "operator".into(), reach: Reach::Everything, scopes: Scopes::ALL }
    }

    /// Somebody who signed in on the web page.
    #[must_use]
    pub fn visitor(visit: Visit) -> Self {
        let scopes = [Scope::Send, Scope::Read].into_iter().collect();
        Self { name: "visitor".into(), reach: Reach::Customer(visit), scopes }
    }

    /// Whether it has this scope.
    #[must_use]
    pub const fn may(&self, scope: Scope) -> bool {
        self.scopes.allow(scope)
    }

    /// Whether it reaches every tenant.
    #[must_use]
    pub const fn is_operator(&self) -> bool {
        matches!(self.reach, Reach::Everything)
    }

    /// Who it is if it signed in on the web page.
    #[must_use]
    pub const fn visit(&self) -> Option<&Visit> {
        match &self.reach {
            Reach::Customer(visit) => Some(visit),
            Reach::Everything | Reach::Tenant(_) => None,
        }
    }

    /// The one tenant that it is bound to, if there is one.
    #[must_use]
    pub fn tenant(&self) -> Option<&str> {
        match &self.reach {
            Reach::Everything => None,
            Reach::Tenant(tenant) => Some(tenant),
            Reach::Customer(visit) => Some(&visit.tenant),
        }
    }

    /// Whether what belongs to this tenant as a whole is within reach.
    #[must_use]
    pub fn reaches_tenant(&self, tenant: &str) -> bool {
        match &self.reach {
            Reach::Everything => true,
            Reach::Tenant(own) => **own == *tenant,
            Reach::Customer(_) => false,
        }
    }

    /// Whether a session is within reach. What is not, is not there.
    #[must_use]
    pub fn reaches(&self, key: &SessionKey) -> bool {
        match &self.reach {
            Reach::Everything => true,
            Reach::Tenant(tenant) => key.tenant() == **tenant,
            Reach::Customer(visit) => visit.owns(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(tenant: &str, agent: &str, channel: &str, peer: &str) -> SessionKey {
        SessionKey::new(tenant, agent, channel, SessionKind::Dm, peer).unwrap()
    }

    fn tenant(name: &str) -> Principal {
        let reach = Reach::Tenant(name.into());
        Principal { name: "key x".into(), reach, scopes: Scopes::ALL }
    }

    fn visitor(agent: Option<&str>) -> Principal {
        let agent = agent.map(Arc::from);
        Principal::visitor(Visit { tenant: "a:b".into(), customer: "ann".into(), agent })
    }

    #[test]
    fn admin_implies_the_others() {
        let check = |text: &str, send: bool, read: bool, admin: bool| {
            let scopes: Scopes = text.parse().unwrap();
            let allowed = Scope::ALL.map(|scope| scopes.allow(scope));
            assert_eq!(allowed, [send, read, admin], "{text}");
        };
        check("send", true, false, false);
        check("read", false, true, false);
        check("send,read", true, true, false);
        check("admin", true, true, true);
        check(" read , admin ", true, true, true);
        assert!(!Scope::ALL.into_iter().any(|scope| Scopes::default().allow(scope)));
    }

    #[test]
    fn scopes_are_read_and_written() {
        let check = |text: &str, expect: Result<&str, ScopesError>| {
            let scopes = text.parse::<Scopes>().map(|scopes| scopes.to_string());
            assert_eq!(scopes, expect.map(str::to_owned), "{text}");
        };
        check("read,send", Ok("send,read"));
        check("admin,admin", Ok("admin"));
        check("", Err(ScopesError::Empty));
        check(" , ", Err(ScopesError::Empty));
        check("send,write", Err(ScopesError::Unknown("write".into())));
        check("Send", Err(ScopesError::Unknown("Send".into())));
    }

    #[test]
    fn nobody_reaches_further_than_allowed() {
        let check = |who: &Principal, key: &SessionKey, expect: bool| {
            assert_eq!(who.reaches(key), expect, "{who:?} and {key}");
        };
        let own = session("a:b", "c", "web", "ann");
        let everybodys = [
            session("a", "b:c", "web", "ann"),
            session("a%3Ab", "c", "web", "ann"),
            session("*", "c", "web", "ann"),
        ];
        check(&Principal::operator(), &own, true);
        check(&tenant("a:b"), &own, true);
        check(&visitor(None), &own, true);
        check(&visitor(Some("c")), &own, true);
        check(&visitor(Some("d")), &own, false);
        for key in &everybodys {
            check(&Principal::operator(), key, true);
            check(&tenant("a:b"), key, false);
            check(&visitor(None), key, false);
        }
        // A customer reaches its own conversations on the page and nothing else of its tenant.
        for key in [session("a:b", "c", "api", "ann"), session("a:b", "c", "web", "bob")] {
            check(&tenant("a:b"), &key, true);
            check(&visitor(None), &key, false);
        }
        let group = SessionKey::new("a:b", "c", "web", SessionKind::Group, "ann").unwrap();
        check(&visitor(None), &group, false);
        assert!(tenant("a").reaches_tenant("a") && !tenant("a").reaches_tenant("b"));
        assert!(!visitor(None).reaches_tenant("a:b") && Principal::operator().reaches_tenant("b"));
    }
}
