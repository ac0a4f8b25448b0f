//! Reads, and whatever is written beside the commits of sessions.
//!
//! A read is a plain function that takes a connection out of the pool with
//! [`PostgresStore::reading`]; [`PostgresStore::read`] runs it under a limit of time and once more
//! where the connection was lost, for a read may be repeated:
//!
//! ```text
//! Box::pin(async move { self.read(|| async { load(&mut self.reading().await?, &key).await }).await })
//! ```
//!
//! A change is a closure over a transaction, which it neither begins nor ends. It runs in a task
//! of its own, so that a caller that goes away doesn't cut it in the middle, and again where the
//! server says that it may go well the next time; so it is called more than once and gives away
//! copies of what it holds:
//!
//! ```text
//! Box::pin(self.change("revoke a key", move |tx| {
//!     let id = id.clone();
//!     Box::pin(async move { Ok(tx.execute(…).await? == 1) })
//! }))
//! ```
//!
//! A refusal is a value that it gives back, not an error; to undo what it did it gives back an
//! error or rolls back to a savepoint. A change that writes what commits write (sessions, journal,
//! turns, parts) calls [`Gate::enter`](super::gate::Gate::enter) as its last statement before the journal, or last of all.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use deadpool_postgres::{Object, Transaction};
use turnkeep_core::ports::store::StoreError;

use super::trouble::{Class, Result, Trouble};
use super::{PostgresStore, Shared};
use crate::counters::Counters;

/// What a change does, once.
pub(super) type Work<'c, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'c>>;

/// How often a change is tried that the server says may go well the next time.
const TRIES: u32 = 4;
/// The pause before the second try; doubled for each later one.
const PAUSE: Duration = Duration::from_millis(10);

impl PostgresStore {
    /// A connection for reads.
    pub(super) async fn reading(&self) -> Result<Object> {
        self.shared.reading().await
    }

    /// Runs a read under the limit of time; see the head of this file.
    pub(super) async fn read<T, F, R>(&self, work: F) -> std::result::Result<T, StoreError>
    where
        F: Fn() -> R + Send + Sync,
        R: Future<Output = Result<T>> + Send,
        T: Send,
    {
        Ok(self.shared.read(work).await?)
    }

    /// Writes something in a transaction of its own; see the head of this file.
    pub(super) async fn change<T, F>(
        &self,
        name: &'static str,
        work: F,
    ) -> std::result::Result<T, StoreError>
    where
        F: for<'c> Fn(&'c Transaction<'c>) -> Work<'c, T> + Send + Sync + 'static,
        T: Send + 'static,
    {
        if self.is_closed() {
            return Err(Trouble::Closed.into());
        }
        let shared = Arc::clone(&self.shared);
        let task = tokio::spawn(async move {
            let mut pause = PAUSE;
            for _ in 1..TRIES {
                match once(&shared, &work).await {
                    Err(Failed { trouble, undone: true }) if again(&trouble) => {
                        tracing::debug!(change = name, why = trouble.sentence(), "once more");
                        shared.tried_again(&trouble, 1);
                        tokio::time::sleep(pause).await;
                        pause *= 2;
                    }
                    given => return given,
                }
            }
            once(&shared, &work).await
        });
        match task.await {
            Ok(given) => given.map_err(|failed| {
                let sentence = failed.trouble.sentence();
                tracing::debug!(change = name, why = sentence, "a change was not made");
                failed.trouble.into()
            }),
            Err(_) => Err(StoreError::Unavailable(format!("{name}: the task ended early"))),
        }
    }
}

impl Shared {
    /// A connection for reads.
    pub(super) async fn reading(&self) -> Result<Object> {
        Ok(self.pool.get().await?)
    }

    /// Runs a read under the limit of time, and again where the connection was lost.
    pub(super) async fn read<T, F, R>(&self, work: F) -> Result<T>
    where
        F: Fn() -> R + Send + Sync,
        R: Future<Output = Result<T>> + Send,
        T: Send,
    {
        let patience = self.settings.patience();
        let once = || async {
            match tokio::time::timeout(patience, work()).await {
                Ok(given) => given,
                Err(_) => Err(Trouble::Lost("no answer came in time".into())),
            }
        };
        match once().await {
            Err(trouble) if trouble.is_lost() => {
                self.forget_connections();
                once().await
            }
            given => given,
        }
    }

    /// Counts what is made again.
    pub(super) fn tried_again(&self, trouble: &Trouble, changes: usize) {
        let Counters { retries_lost, retries_held, .. } = &self.counters;
        let counter = if trouble.passes() { retries_held } else { retries_lost };
        counter.fetch_add(changes as u64, Relaxed);
    }

    /// Where one connection is lost or leads to a standby, so are the others: nobody gets another
    /// one of those that are idle now.
    fn forget_connections(&self) {
        self.pool.retain(|_, _| false);
    }
}

/// Why a change failed, and whether it is sure that nothing of it happened.
struct Failed {
    trouble: Trouble,
    undone: bool,
}

/// Whether another try may go well.
fn again(trouble: &Trouble) -> bool {
    trouble.passes() || trouble.is_lost()
}

/// Whether the connection is of no more use to anybody.
fn leads_nowhere(trouble: &Trouble) -> bool {
    trouble.is_lost() || trouble.class() == Some(Class::Unable)
}

async fn once<T, F>(shared: &Shared, work: &F) -> std::result::Result<T, Failed>
where
    F: for<'c> Fn(&'c Transaction<'c>) -> Work<'c, T> + Send + Sync,
    T: Send,
{
    let patience = shared.settings.patience();
    let undone = |trouble: Trouble| Failed { trouble, undone: true };
    let mut client = shared.pool.get().await.map_err(|error| undone(error.into()))?;
    let done = async {
        let transaction = client.transaction().await.map_err(|error| undone(error.into()))?;
        let given = work(&transaction).await.map_err(undone)?;
        // From here on an error leaves it open what happened, but for one that the server gives.
        transaction.commit().await.map_err(|error| {
            let trouble = Trouble::from(error);
            let undone = trouble.class().is_some_and(|class| class != Class::Ended);
            Failed { trouble, undone }
        })?;
        Ok(given)
    };
    let given = tokio::time::timeout(patience, done).await.unwrap_or_else(|_| {
        let trouble = Trouble::Lost("no answer came in time".into());
        Err(Failed { trouble, undone: false })
    });
    if given.as_ref().is_err_and(|failed| leads_nowhere(&failed.trouble)) {
        // Nobody else gets a connection of which nothing is known.
        drop(Object::take(client));
        shared.forget_connections();
    }
    given
}
