//! Who asks: keys, and people who signed in on the web page.
//!
//! Every key is held in memory ([`keyring`]), so asking costs no read; the record is the store's.
//! What it holds is read anew, whole, after every change. Visits of people are read when they are
//! first seen and then remembered ([`visits`]). Whoever guesses is stopped by address before a
//! guess is looked at ([`failures`]). What a principal may do is the core's to say
//! ([`turnkeep_core::access`]); secrets are made and compared in [`secret`].

mod failures;
mod keyring;
mod people;
pub(crate) mod secret;
mod visits;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use turnkeep_core::Timestamp;
use turnkeep_core::access::{Key, KeyText, Principal, Reach, Scopes};
use turnkeep_core::ports::keys::{Added, KEYS_MAX, KeyRow, Keys, Rotated};
use turnkeep_core::ports::store::StoreError;

use crate::clock;
use crate::ingress::FieldError;
use crate::metrics::AccessMetrics;
use failures::{Failures, Trial};
use keyring::Keyring;
use visits::Visits;

pub(crate) use failures::neighbourhood;
pub use people::{Invitation, SignedIn};

/// How often ended sign-ins are forgotten and the keys are read anew.
const TEND: Duration = Duration::from_secs(60);
/// How often it is looked whether other nodes changed the keys.
const CHANGES: Duration = Duration::from_millis(500);
/// Ended sign-ins that are forgotten at once.
const FORGET: usize = 1000;
/// Visits that are looked up in the store at once; guesses can't keep it busier.
const LOOKUPS_MAX: usize = 32;
/// The longest that a key can be made to last, and an old one beside its successor.
pub const LASTS_MAX: Duration = Duration::from_secs(10 * 366 * 86_400);

/// A principal, for as long as it is one.
#[derive(Debug)]
pub struct Caller {
    /// Who it is.
    pub principal: Principal,
    /// It is nobody from then on.
    pub until: Option<Timestamp>,
    /// Cancelled when somebody ends it sooner.
    pub ended: CancellationToken,
}

impl Caller {
    fn new(principal: Principal, until: Option<Timestamp>) -> Arc<Self> {
        Arc::new(Self { principal, until, ended: CancellationToken::new() })
    }
}

/// Why a guess was not even looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyFailures {
    /// When one more will be looked at.
    pub retry_after_ms: u64,
}

/// Why something was not done with a key or a sign-in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// A field is wrong.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// Nothing of that name is within reach.
    #[error("there is no {0}")]
    Missing(String),
    /// It has ended already, or has not.
    #[error("{0}")]
    Standing(String),
    /// There are too many already.
    #[error("{0}")]
    Full(String),
    /// Asked too often.
    #[error("too many failed sign-ins; try again in {} s", .0.retry_after_ms.div_ceil(1000))]
    TooMany(TooManyFailures),
    /// The store, whose answer is not known.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Randomness,
}

impl AccessError {
    fn field(field: &'static str, why: impl Into<String>) -> Self {
        Self::Field(FieldError { field, why: why.into() })
    }
}

/// A key that is to be made.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Whose; every tenant's if none.
    pub tenant: Option<Arc<str>>,
    /// What it allows.
    pub scopes: Scopes,
    /// What a person calls it.
    pub label: Option<Arc<str>>,
    /// How long it lasts; for ever if none.
    pub lasts: Option<Duration>,
}

/// A key that was made.
#[derive(Debug)]
pub struct MadeKey {
    /// All but the secret.
    pub key: Key,
    /// The whole key, which nobody will see again.
    pub text: String,
}

/// Knows everybody who may ask. Cheap to clone.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    store: Arc<dyn Keys>,
    /// Nobody gets in without a key, even where there is none.
    always: bool,
    keyring: std::sync::RwLock<Arc<Keyring>>,
    /// Numbers the readings of the store, so that an older one never takes a newer one's place.
    readings: AtomicU64,
    operator: Arc<Caller>,
    visits: Visits,
    lookups: Semaphore,
    failures: Failures,
    metrics: AccessMetrics,
}

impl Access {
    /// Reads the keys. With `always`, nobody gets in without one even while there is none.
    pub async fn open(store: Arc<dyn Keys>, always: bool) -> Result<Self, StoreError> {
        let access = Self(Arc::new(Inner {
            store,
            always,
            keyring: std::sync::RwLock::default(),
            readings: AtomicU64::new(0),
            operator: Caller::new(Principal::operator(), None),
            visits: Visits::default(),
            lookups: Semaphore::new(LOOKUPS_MAX),
            failures: Failures::default(),
            metrics: AccessMetrics::new(),
        }));
        access.read().await?;
        Ok(access)
    }

    fn keyring(&self) -> Arc<Keyring> {
        let held = self.0.keyring.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        Arc::clone(&held)
    }

    /// Reads every key anew.
    async fn read(&self) -> Result<(), StoreError> {
        // Whoever has the greatest number began to read after every change that was made before.
        let number = self.0.readings.fetch_add(1, Ordering::AcqRel) + 1;
        let rows = self.0.store.keys().await?;
        let mut held = self.0.keyring.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if held.number < number {
            *held = Arc::new(Keyring::new(number, rows, &held));
        }
        Ok(())
    }

    /// Whoever comes, while there is no key. It stays so that one is needed when the last one ends:
    /// a server must not open itself to everybody because a key ran out.
    #[must_use]
    pub fn anybody(&self) -> Option<Arc<Caller>> {
        if self.0.always { None } else { self.keyring().anybody.clone() }
    }

    /// How many keys open something now.
    #[must_use]
    pub fn usable_keys(&self) -> usize {
        let now = clock::now();
        self.keyring().list().filter(|key| key.is_usable(now)).count()
    }

    /// Whoever comes over the unix socket.
    #[must_use]
    pub fn operator(&self) -> Arc<Caller> {
        Arc::clone(&self.0.operator)
    }

    /// The caller who has this key; none if nobody does. Takes about as long either way.
    pub fn with_key(
        &self,
        presented: &str,
        from: Option<IpAddr>,
    ) -> Result<Option<Arc<Caller>>, TooManyFailures> {
        let now = clock::now();
        let found = self.0.failures.at_once(from, now, || self.keyring().find(presented, now));
        match found {
            Ok(Some(_)) => {}
            Ok(None) => self.0.metrics.failed.increment(1),
            Err(_) => self.0.metrics.limited.increment(1),
        }
        found
    }

    /// Counts a guess whose trial takes a while, before it is tried.
    async fn begin_trial(
        &self,
        from: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Trial<'_>, AccessError> {
        let trial = self.0.failures.begin(from, now).await;
        trial.inspect_err(|_| self.0.metrics.limited.increment(1)).map_err(AccessError::TooMany)
    }

    /// What came of a trial. A wrong guess stays counted; one that broke off is none.
    fn end_trial<T>(
        &self,
        trial: Trial<'_>,
        tried: Result<Option<T>, StoreError>,
    ) -> Result<Option<T>, AccessError> {
        match &tried {
            Ok(None) => self.0.metrics.failed.increment(1),
            Ok(Some(_)) | Err(_) => trial.excuse(),
        }
        Ok(tried?)
    }

    /// Counts somebody who may not do what it asked for.
    pub(crate) fn forbidden(&self) {
        self.0.metrics.forbidden.increment(1);
    }

    /// Keys within reach behind one of them, in the order in which they were made.
    pub fn list(
        &self,
        who: &Principal,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Key>, AccessError> {
        let keyring = self.keyring();
        let mut keys = keyring.list().filter(|key| reaches(who, key));
        if let Some(after) = after
            && !keys.any(|key| *key.id == *after)
        {
            return Err(AccessError::field("after", "must be the id of a key"));
        }
        Ok(keys.take(limit).cloned().collect())
    }

    /// A key within reach.
    pub fn key(&self, who: &Principal, id: &str) -> Result<Key, AccessError> {
        let keyring = self.keyring();
        let key = keyring.get(id).filter(|key| reaches(who, key));
        key.cloned().ok_or_else(|| missing(id))
    }

    /// Makes a key.
    pub async fn create(&self, who: &Principal, new: NewKey) -> Result<MadeKey, AccessError> {
        loop {
            let made = make(&new, clock::now())?;
            let added = self.0.store.add_key(made.row.clone()).await;
            // Nobody knows what became of a change that failed, so look.
            let read = self.read().await;
            match added? {
                Added::Done => {
                    read?;
                    note(who, &made.row.key, "made");
                    return Ok(made.into());
                }
                Added::Full => return Err(too_many_keys()),
                Added::Taken => {}
            }
        }
    }

    /// Ends a key at once, and whatever sign-ins it made.
    pub async fn revoke(&self, who: &Principal, id: &str) -> Result<Key, AccessError> {
        let id = self.key(who, id)?.id;
        let revoked = self.0.store.revoke_key(&id, clock::now()).await;
        self.0.visits.end_made_by(&id);
        let read = self.read().await;
        if !revoked? {
            return Err(missing(&id));
        }
        read?;
        let key = self.key(who, &id)?;
        note(who, &key, "revoked");
        Ok(key)
    }

    /// Makes a key like this one, which ends after the grace.
    pub async fn rotate(
        &self,
        who: &Principal,
        id: &str,
        grace: Duration,
    ) -> Result<MadeKey, AccessError> {
        let old = self.key(who, id)?;
        let now = clock::now();
        let lasts = old.expires_at.map(|end| millis(end.saturating_sub(old.created_at)));
        let new = NewKey { tenant: old.tenant, scopes: old.scopes, label: old.label, lasts };
        loop {
            let made = make(&new, now)?;
            let rotate = self.0.store.rotate_key(&old.id, made.row.clone(), add(now, grace), now);
            let rotated = rotate.await;
            let read = self.read().await;
            match rotated? {
                Rotated::Done => {
                    read?;
                    note(who, &made.row.key, "made in place of another");
                    return Ok(made.into());
                }
                Rotated::Full => return Err(too_many_keys()),
                Rotated::Ended => {
                    let why = format!("the key {id} has ended already; make a new one");
                    return Err(AccessError::Standing(why));
                }
                Rotated::Taken => {}
            }
        }
    }

    /// Removes a key that has ended from the list.
    pub async fn forget(&self, who: &Principal, id: &str) -> Result<(), AccessError> {
        let key = self.key(who, id)?;
        let forgotten = self.0.store.forget_key(&key.id, clock::now()).await;
        let read = self.read().await;
        if !forgotten? {
            let why = format!("the key {id} is in use; revoke it first");
            return Err(AccessError::Standing(why));
        }
        Ok(read?)
    }

    /// Forgets what has ended, until `shutdown`. Also reads the keys anew, should a reading after a
    /// change have failed.
    pub async fn tend(&self, shutdown: CancellationToken) {
        let mut beat = tokio::time::interval(TEND);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut changes = tokio::time::interval(CHANGES);
        changes.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // What was read at the start may be older than what the store knows of by now.
        let mut known = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = changes.tick() => {
                    // Another node made or ended one, or somebody signed out there.
                    let now = Some(self.0.store.changes());
                    if now != known && self.read().await.is_ok() && self.look_again().await.is_ok()
                    {
                        known = now;
                    }
                    continue;
                }
                _ = beat.tick() => {}
            }
            let now = clock::now();
            self.0.visits.tidy(now);
            if let Err(error) = self.0.store.forget_sign_ins(now, FORGET).await {
                tracing::warn!(%error, "old sign-ins could not be forgotten");
            }
            if let Err(error) = self.read().await {
                tracing::warn!(%error, "the keys could not be read anew");
            }
        }
    }
}

/// Keys belong to tenants as a whole; the operator's are the operator's.
fn reaches(who: &Principal, key: &Key) -> bool {
    match (&who.reach, &key.tenant) {
        (Reach::Everything, _) => true,
        (_, Some(tenant)) => who.reaches_tenant(tenant),
        (_, None) => false,
    }
}

fn missing(id: &str) -> AccessError {
    AccessError::Missing(format!("key {id:?}"))
}

fn too_many_keys() -> AccessError {
    AccessError::Full(format!("there are {KEYS_MAX} keys already; forget some that have ended"))
}

fn note(who: &Principal, key: &Key, deed: &'static str) {
    let (by, key_id, tenant) = (&*who.name, &*key.id, key.tenant_name());
    tracing::info!(by, key_id, tenant, scopes = %key.scopes, "a key was {deed}");
}

fn add(at: Timestamp, span: Duration) -> Timestamp {
    at.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX))
}

fn millis(span: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(span).unwrap_or(0))
}

/// A key on its way into the store.
struct Fresh {
    row: KeyRow,
    text: String,
}

impl From<Fresh> for MadeKey {
    fn from(fresh: Fresh) -> Self {
        Self { key: fresh.row.key, text: fresh.text }
    }
}

fn make(new: &NewKey, now: Timestamp) -> Result<Fresh, AccessError> {
    let (id, secret) = (secret::name()?, secret::long()?);
    let text = KeyText { id: &id, secret: &secret }.write();
    let key = Key {
        id: id.into(),
        tenant: new.tenant.clone(),
        scopes: new.scopes,
        label: new.label.clone(),
        created_at: now,
        expires_at: new.lasts.map(|lasts| add(now, lasts)),
        revoked_at: None,
    };
    Ok(Fresh { row: KeyRow { key, secret: secret::hash(&secret) }, text })
}
