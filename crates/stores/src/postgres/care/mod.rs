//! Keeping and forgetting in PostgreSQL.
//!
//! [`forget`] decides in one short change where a history begins; [`sweep`] removes what stands
//! before it, a few rows a change. [`redact`] blanks texts in a history that stays, [`disappear`]
//! knows when that is due by itself, [`find`] looks for sessions and senders, [`scrub`] has the
//! server clean its files as far as it does that. Copies of the whole are its own tools' business.
//!
//! Each of them locks the session's row before it looks at anything else of it, as a commit does:
//! what was looked at can't change before it is over.

mod disappear;
mod find;
mod forget;
mod redact;
mod scrub;
mod sweep;

use std::future::ready;

use deadpool_postgres::GenericClient;
use turnkeep_core::care::Forgotten;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::care::{
    BackupError, BackupOrder, CareStore, Disappearing, Forget, Forgot, Found, Hashes, Redaction,
    Swept,
};
use turnkeep_core::ports::store::{DeadLetter, StoreError};
use turnkeep_core::{Seq, SessionKey, Timestamp};

use super::PostgresStore;
use super::ask::{row, strange};
use super::trouble::Result;
use crate::encode;

type Answer<'a, T> = BoxFuture<'a, std::result::Result<T, StoreError>>;

impl CareStore for PostgresStore {
    fn forgotten(&self, key: &SessionKey) -> Answer<'_, Option<Forgotten>> {
        let key = key.clone();
        Box::pin(async move {
            let key = &key;
            self.look(|on| async move { forgotten(&*on, key).await }).await
        })
    }

    fn keys(
        &self,
        tenant: Option<&str>,
        after: Option<&SessionKey>,
        limit: usize,
    ) -> Answer<'_, Vec<SessionKey>> {
        let (tenant, after) = (tenant.map(String::from), after.cloned());
        Box::pin(async move {
            let (tenant, after) = (tenant.as_deref(), after.as_ref());
            self.look(|on| async move { find::keys(&*on, tenant, after, limit).await }).await
        })
    }

    fn letters(&self, key: &SessionKey) -> Answer<'_, Vec<DeadLetter>> {
        let key = key.clone();
        Box::pin(async move {
            let key = &key;
            self.look(|on| async move { find::letters(&*on, key).await }).await
        })
    }

    fn forget(&self, forget: Forget) -> Answer<'_, Forgot> {
        let gate = self.shared.gate.clone();
        Box::pin(self.change("forget", move |on| {
            let (gate, forget) = (gate.clone(), forget.clone());
            Box::pin(async move {
                let forgot = forget::forget(on, forget).await?;
                gate.enter(on).await?;
                Ok(forgot)
            })
        }))
    }

    fn sweep(&self, limit: usize) -> Answer<'_, Swept> {
        Box::pin(
            self.change("sweep", move |on| Box::pin(async move { sweep::sweep(on, limit).await })),
        )
    }

    fn redact(&self, redaction: Redaction) -> Answer<'_, ()> {
        let gate = self.shared.gate.clone();
        Box::pin(self.change("redact", move |on| {
            let (gate, redaction) = (gate.clone(), redaction.clone());
            Box::pin(async move {
                redact::redact(on, &redaction).await?;
                gate.enter(on).await
            })
        }))
    }

    fn disappearing(&self, until: Timestamp, limit: usize) -> Answer<'_, Vec<Disappearing>> {
        Box::pin(self.look(move |on| async move { disappear::due(&*on, until, limit).await }))
    }

    fn put_off(
        &self,
        key: &SessionKey,
        looked_at: Vec<(Seq, Option<Timestamp>)>,
    ) -> Answer<'_, ()> {
        let key = key.clone();
        Box::pin(self.change("put off", move |on| {
            let (key, looked_at) = (key.clone(), looked_at.clone());
            Box::pin(async move { disappear::put_off(on, &key, &looked_at).await })
        }))
    }

    fn find_sender(&self, tenant: &str, sender: &str, from: u64) -> Answer<'_, Found> {
        let (tenant, sender) = (tenant.to_owned(), sender.to_owned());
        Box::pin(async move {
            let (tenant, sender) = (&tenant, &sender);
            self.look(|on| async move { find::sender(&*on, tenant, sender, from).await }).await
        })
    }

    fn find_hashes(&self, from: u64) -> Answer<'_, Hashes> {
        Box::pin(self.look(move |on| async move { find::hashes(&*on, from).await }))
    }

    fn is_unscrubbed(&self) -> Answer<'_, bool> {
        Box::pin(self.look(|on| async move { Ok(scrub::mark(&*on).await?.is_some()) }))
    }

    fn scrub(&self) -> Answer<'_, bool> {
        Box::pin(async move {
            let before = self.look(|on| async move { scrub::mark(&*on).await }).await?;
            let client = self.shared.connector.connect().await?;
            let clean = scrub::clean(&client).await?;
            if let Some(mark) = before.filter(|_| clean) {
                let done = self.change("note what was scrubbed", move |on| {
                    let mark = mark.clone();
                    Box::pin(async move { scrub::done(on, &mark).await })
                });
                done.await?;
            }
            Ok(clean)
        })
    }

    fn salt(&self) -> Answer<'_, Vec<u8>> {
        Box::pin(self.look(|on| async move {
            let sql = "SELECT value FROM care WHERE name = 'salt'";
            let found = row(&*on, sql, &[]).await?;
            Ok(found.ok_or_else(|| strange("the store's salt is missing"))?.try_get(0)?)
        }))
    }

    fn backup(&self, _order: BackupOrder) -> BoxFuture<'_, std::result::Result<u64, BackupError>> {
        Box::pin(ready(Err(BackupError::NoFile)))
    }
}

/// See the port.
pub(super) async fn forgotten(
    on: &impl GenericClient,
    key: &SessionKey,
) -> Result<Option<Forgotten>> {
    let sql = "SELECT body FROM forgotten JOIN sessions ON id = session_id WHERE key = $1";
    let Some(row) = row(on, sql, &[&key.as_str()]).await? else { return Ok(None) };
    let whose = || format!("session {key}: what stands for its forgotten beginning");
    Ok(Some(encode::value(row.try_get(0)?, whose)?))
}
