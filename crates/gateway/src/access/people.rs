//! People on the web page: a code that is used once becomes a cookie that lasts.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use turnkeep_core::Timestamp;
use turnkeep_core::access::{Principal, Visit};
use turnkeep_core::ports::keys::{Added, CODES_MAX, SignIn};
use turnkeep_core::ports::store::StoreError;

use super::{Access, AccessError, Caller, add, secret};
use crate::clock;

/// How long a code waits to be used.
const CODE_LASTS: Duration = Duration::from_secs(10 * 60);
/// How long somebody stays signed in.
const VISIT_LASTS: Duration = Duration::from_secs(30 * 86_400);
/// How often a visit is read while others end.
const READS_MAX: usize = 8;
/// The longest text that is tried as a code or a cookie, in bytes; ours are shorter.
const SECRET_BYTES_MAX: usize = 128;

/// Leave for one person to sign in.
#[derive(Debug)]
pub struct Invitation {
    /// What the person has to show, once.
    pub code: String,
    /// Until when.
    pub until: Timestamp,
}

/// Somebody signed in.
#[derive(Debug)]
pub struct SignedIn {
    /// What the browser keeps.
    pub cookie: String,
    /// Who it is.
    pub visit: Visit,
    /// Until when.
    pub until: Timestamp,
    /// The same, in seconds from now.
    pub lasts: Duration,
}

impl Access {
    /// Makes a code for this person.
    pub async fn invite(&self, who: &Principal, visit: Visit) -> Result<Invitation, AccessError> {
        let now = clock::now();
        let until = add(now, CODE_LASTS);
        loop {
            let code = secret::short()?;
            let made_by = who.name.strip_prefix("key ").map(Arc::from);
            let secret = secret::hash(&code);
            let sign_in = SignIn { secret, visit: visit.clone(), made_by, until };
            match self.0.store.add_code(sign_in, now).await? {
                Added::Done => return Ok(Invitation { code, until }),
                Added::Full => {
                    return Err(AccessError::Full(format!(
                        "{CODES_MAX} codes of this tenant wait to be used already"
                    )));
                }
                Added::Taken => {}
            }
        }
    }

    /// Signs in whoever has this code; none if it is no code, or not any more.
    pub async fn sign_in(
        &self,
        code: &str,
        from: Option<IpAddr>,
    ) -> Result<Option<SignedIn>, AccessError> {
        let now = clock::now();
        let cookie = secret::long()?;
        let trial = self.begin_trial(from, now).await?;
        let until = add(now, VISIT_LASTS);
        let code = code.trim();
        let redeemed = if code.len() > SECRET_BYTES_MAX {
            Ok(None)
        } else {
            let (code, cookie) = (secret::hash(code), secret::hash(&cookie));
            self.0.store.redeem_code(code, cookie, until, now).await
        };
        let redeemed = self.end_trial(trial, redeemed)?;
        Ok(redeemed.map(|SignIn { visit, until, .. }| SignedIn {
            cookie,
            visit,
            until,
            lasts: VISIT_LASTS,
        }))
    }

    /// The visitor who has this cookie; none if nobody does.
    pub async fn with_cookie(
        &self,
        cookie: &str,
        from: Option<IpAddr>,
    ) -> Result<Option<Arc<Caller>>, AccessError> {
        let now = clock::now();
        let trial = self.begin_trial(from, now).await?;
        let found = self.visitor(cookie, now).await;
        self.end_trial(trial, found)
    }

    async fn visitor(
        &self,
        cookie: &str,
        now: Timestamp,
    ) -> Result<Option<Arc<Caller>>, StoreError> {
        if cookie.len() > SECRET_BYTES_MAX {
            return Ok(None);
        }
        let hash = secret::hash(cookie);
        // What ended while it was read may have been this one, so it is read again then.
        for _ in 0..READS_MAX {
            let endings = match self.0.visits.find(&hash, now) {
                Ok(caller) => return Ok(Some(caller)),
                Err(endings) => endings,
            };
            // Never closed, so there is always a turn.
            let _turn = self.0.lookups.acquire().await;
            let Some(visit) = self.0.store.visit(hash, now).await? else { break };
            if let Some(caller) = self.0.visits.remember(visit, endings) {
                return Ok(Some(caller));
            }
        }
        Ok(None)
    }

    /// Ends whatever was ended elsewhere.
    pub(super) async fn look_again(&self) -> Result<(), StoreError> {
        for cookie in self.0.visits.doubt() {
            if self.0.store.visit(cookie, clock::now()).await?.is_none() {
                self.0.visits.end(&cookie);
            }
        }
        Ok(())
    }

    /// Ends the visit of this cookie. One that is nobody's is a wrong guess, and nothing is written
    /// for it.
    pub async fn sign_out(&self, cookie: &str, from: Option<IpAddr>) -> Result<(), AccessError> {
        if self.with_cookie(cookie, from).await?.is_none() {
            return Ok(());
        }
        let hash = secret::hash(cookie);
        let ended = self.0.store.end_visit(hash).await;
        self.0.visits.end(&hash);
        ended?;
        Ok(())
    }

    /// Ends every code and visit of a customer; says how many there were.
    pub async fn end_visits(&self, tenant: &str, customer: &str) -> Result<usize, AccessError> {
        let ended = self.0.store.end_visits(tenant, customer).await;
        self.0.visits.end_of(tenant, customer);
        Ok(ended?)
    }
}
