//! Who became known by a one-time code: made by whoever runs the gateway, shown by a stranger.
//!
//! Everybody is held in memory, so asking who somebody is costs no read; the record is the store's,
//! and what it holds is read anew, whole, after every change. Codes are kept as hashes with the
//! store's secret, and compared without telling how far they are alike. They stand in no log, no
//! journal and no answer but the one that makes them.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use turnkeep_core::Timestamp;
use turnkeep_core::policy::Trust;
use turnkeep_core::ports::intake::Person;
use turnkeep_core::ports::keys::{Added, SecretHash};
use turnkeep_core::ports::people::{PairedWith, Pairing, People as Record};
use turnkeep_core::ports::store::StoreError;

use crate::access::secret;
use crate::clock;
use crate::ingress::{FieldError, framed};
use crate::service::{Gateway, Refusal};

/// How long a code waits to be used, unless said otherwise.
pub const CODE_LASTS: Duration = Duration::from_secs(3600);
/// The longest that it may.
pub const CODE_LASTS_MAX: Duration = Duration::from_secs(7 * 86_400);
/// Codes that are forgotten at once.
const FORGET: usize = 1000;
/// Letters of a code.
const CODE_CHARS: usize = 8;

/// A pairing that is to be made.
#[derive(Clone, Debug)]
pub struct NewPairing {
    /// Where somebody shall be known.
    pub tenant: Arc<str>,
    /// As whom.
    pub user: Arc<str>,
    /// How far they shall be trusted; familiar if none, and what the configuration says where it
    /// knows the user.
    pub trust: Option<Trust>,
    /// How long the code waits.
    pub lasts: Duration,
}

/// A pairing that was made.
pub struct MadePairing {
    /// All but the code.
    pub pairing: Pairing,
    /// The code, which nobody will see again.
    pub code: String,
}

impl fmt::Debug for MadePairing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("MadePairing").field(&self.pairing.id).finish()
    }
}

/// Why none was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PairingError {
    /// A field is wrong.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// There are too many already.
    #[error("too many codes wait to be used, or too many people are paired")]
    Full,
    /// The store, whose answer is not known.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server is not ready, or has no randomness.
    #[error("{0}")]
    Unavailable(String),
}

/// What a code does for whoever shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// It waits to be taken.
    Waits(SecretHash),
    /// It is theirs already.
    Theirs(Pairing),
    /// No such code counts.
    Wrong,
}

/// What the gateway holds for it.
pub(crate) struct People {
    record: Arc<dyn Record>,
    table: RwLock<Arc<Table>>,
    /// One change at a time, so that an older reading never takes a newer one's place.
    changing: tokio::sync::Mutex<()>,
}

/// Tenant, channel and person.
type Place = (Arc<str>, Arc<str>, Arc<str>);

#[derive(Default)]
struct Table {
    all: Vec<Pairing>,
    /// Where each stands in it who took one.
    known: HashMap<Place, usize>,
}

impl People {
    pub(crate) fn new(record: Arc<dyn Record>) -> Self {
        Self { record, table: RwLock::default(), changing: tokio::sync::Mutex::default() }
    }

    fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn read(&self) -> Result<(), StoreError> {
        let all = self.record.pairings().await?;
        let each = all.iter().enumerate().filter_map(|(at, row)| {
            let with = row.with.as_ref()?;
            let [tenant, channel, person] = [&row.tenant, &with.channel, &with.person];
            Some(((Arc::clone(tenant), Arc::clone(channel), Arc::clone(person)), at))
        });
        let known = each.collect();
        *self.table.write().unwrap_or_else(PoisonError::into_inner) =
            Arc::new(Table { all, known });
        Ok(())
    }

    /// As whom somebody was paired, and how far they are trusted.
    pub(crate) fn paired(
        &self,
        tenant: &str,
        channel: &str,
        person: &Person,
    ) -> Option<(Arc<str>, Trust)> {
        let table = self.table();
        let names = std::iter::once(&person.id).chain(&person.also);
        let find = |name: &Arc<str>| {
            table.known.get(&(tenant.into(), channel.into(), Arc::clone(name))).copied()
        };
        let row = table.all.get(names.into_iter().find_map(find)?)?;
        Some((Arc::clone(&row.user), row.trust))
    }

    /// Whether somebody was paired who is called so, in whatever case.
    pub(crate) fn is_name(&self, tenant: &str, name: &str) -> bool {
        let (name, table) = (name.to_lowercase(), self.table());
        let mut own = table.all.iter().filter(|row| &*row.tenant == tenant);
        own.any(|row| row.user.to_lowercase() == name)
    }

    /// What came of a text that could be a code. Every code is compared with, whichever is right.
    pub(crate) fn shown(
        &self,
        (tenant, channel, person): (&str, &str, &Person),
        hash: SecretHash,
        now: Timestamp,
    ) -> Shown {
        let mut shown = Shown::Wrong;
        for row in &self.table().all {
            let Some(code) = &row.code else { continue };
            let right = secret::are_equal(code, &hash);
            if !right || &*row.tenant != tenant || row.until <= now {
                continue;
            }
            match &row.with {
                None => shown = Shown::Waits(hash),
                Some(with) if &*with.channel == channel && with.person == person.id => {
                    shown = Shown::Theirs(row.clone());
                }
                Some(_) => {}
            }
        }
        shown
    }
}

/// The code that a text could be: with blanks and dashes between, in any case.
pub(crate) fn code_of(text: &str) -> Option<String> {
    // What is longer than this is no code with blanks in it.
    if text.len() > 64 {
        return None;
    }
    let is_between = |letter: &char| letter.is_whitespace() || matches!(letter, '-' | '‐' | '–');
    let code: String = text.chars().filter(|letter| !is_between(letter)).collect();
    let code = code.to_ascii_lowercase();
    (code.len() == CODE_CHARS && secret::is_spelled(&code)).then_some(code)
}

/// As it is easily read out.
fn spaced(code: &str) -> String {
    let (one, other) = code.split_at(CODE_CHARS / 2);
    format!("{one}-{other}")
}

impl Gateway {
    /// Reads who is known; nobody is let in before.
    pub(crate) async fn load_people(&self) -> Result<(), StoreError> {
        let _alone = self.0.people.changing.lock().await;
        self.0.people.read().await
    }

    /// What is kept of a code.
    pub(crate) fn code_hash(&self, code: &str) -> Result<SecretHash, Refusal> {
        Ok(framed(self.salt()?, &["pairing", code]))
    }

    /// All of them, in the order in which they were made.
    #[must_use]
    pub fn pairings(&self) -> Vec<Pairing> {
        self.0.people.table().all.clone()
    }

    /// Those of a customer, by the user's name or by the channel's.
    pub(crate) fn pairings_of(&self, tenant: &str, customer: &str) -> Vec<Pairing> {
        let mut own = self.pairings();
        own.retain(|row| {
            let person = row.with.as_ref().is_some_and(|with| &*with.person == customer);
            &*row.tenant == tenant && (&*row.user == customer || person)
        });
        own
    }

    /// Makes a code for somebody.
    pub async fn make_pairing(&self, new: NewPairing) -> Result<MadePairing, PairingError> {
        self.readiness().map_err(PairingError::Unavailable)?;
        let trust = self.trust_of(&new)?;
        let no_secret =
            |error: crate::access::AccessError| PairingError::Unavailable(error.to_string());
        let people = &self.0.people;
        let _alone = people.changing.lock().await;
        loop {
            let code = secret::name().map_err(no_secret)?;
            let hash = self
                .code_hash(&code)
                .map_err(|_| PairingError::Unavailable("the server is starting".to_owned()))?;
            let made_at = clock::now();
            let lasts = i64::try_from(new.lasts.min(CODE_LASTS_MAX).as_millis()).unwrap_or(0);
            let pairing = Pairing {
                id: secret::name().map_err(no_secret)?.into(),
                tenant: Arc::clone(&new.tenant),
                user: Arc::clone(&new.user),
                trust,
                made_at,
                until: made_at.saturating_add(lasts),
                code: Some(hash),
                with: None,
            };
            match people.record.add_pairing(pairing.clone(), made_at).await? {
                Added::Done => {
                    people.read().await?;
                    return Ok(MadePairing { pairing, code: spaced(&code) });
                }
                Added::Full => return Err(PairingError::Full),
                // The same letters by chance.
                Added::Taken => {}
            }
        }
    }

    /// The configuration's word counts, so nothing else may be asked for.
    fn trust_of(&self, new: &NewPairing) -> Result<Trust, FieldError> {
        let routing = &self.setup().settings.routing;
        let configured = routing.user(&new.user).filter(|user| user.tenant == new.tenant);
        match (configured, new.trust) {
            (Some(user), Some(trust)) if trust != user.trust => {
                let (name, is) = (&new.user, user.trust.as_str());
                let why = format!("the configuration trusts {name} as {is}; leave it out");
                Err(FieldError { field: "trust", why })
            }
            (Some(user), _) => Ok(user.trust),
            (None, trust) => Ok(trust.unwrap_or(Trust::Familiar)),
        }
    }

    /// Ends a pairing; says whether there was one.
    pub async fn end_pairing(&self, id: &str) -> Result<bool, StoreError> {
        let people = &self.0.people;
        let _alone = people.changing.lock().await;
        let ended = people.record.end_pairing(id).await;
        // Also where nobody knows whether it is done.
        people.read().await?;
        ended
    }

    /// Ends everything under which a customer is known; says how many.
    pub async fn end_pairings(&self, tenant: &str, customer: &str) -> Result<usize, StoreError> {
        let people = &self.0.people;
        let _alone = people.changing.lock().await;
        let ended = people.record.end_pairings(tenant, customer).await;
        people.read().await?;
        ended
    }

    /// Somebody showed a code that waits.
    pub(crate) async fn take_pairing(
        &self,
        code: SecretHash,
        with: PairedWith,
    ) -> Result<Option<Pairing>, StoreError> {
        let people = &self.0.people;
        let _alone = people.changing.lock().await;
        let taken = people.record.pair(code, with).await;
        people.read().await?;
        taken
    }

    /// Forgets codes whose time is over.
    pub(crate) async fn tidy_people(&self, now: Timestamp) {
        let people = &self.0.people;
        let is_over = |row: &Pairing| row.code.is_some() && row.until <= now;
        if !people.table().all.iter().any(is_over) {
            return;
        }
        let _alone = people.changing.lock().await;
        let forgotten = people.record.forget_codes(now, FORGET).await;
        if let Err(error) = forgotten.and(people.read().await) {
            tracing::warn!(%error, "old pairing codes could not be forgotten");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_however_they_are_typed() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(code_of(text).as_deref(), expect, "{text:?}");
        };
        check("abcd-efgh", Some("abcdefgh"));
        check(" ABCD efgh\n", Some("abcdefgh"));
        check("a b c d 2 3 4 5", Some("abcd2345"));
        check("abcd–efgh", Some("abcdefgh"));
        // Letters that no code has, since they are taken for others.
        check("abcd-efg0", None);
        check("abcdefgl", None);
        check("abcdefg", None);
        check("abcdefghj", None);
        check("", None);
        check(&"-".repeat(100), None);
        assert_eq!(code_of(&spaced("abcd2345")).as_deref(), Some("abcd2345"));
    }
}
