//! Reads that need more than one statement, and that see one moment all the same.
//!
//! What is read rarely changes under the reader, and then mostly in ways that don't matter: the
//! journal only grows. So a read is done without a transaction at first, which saves two messages
//! to the server. Where something is missing, because it was forgotten in between, all of it is
//! read again in a snapshot, and what is missing then is missing.

use std::sync::Arc;

use deadpool_postgres::Object;
use turnkeep_core::ports::store::StoreError;

use super::trouble::{Result, Trouble};
use super::{PostgresStore, Shared};

/// A connection inside a snapshot. Unless the snapshot was ended, nobody else gets it any more.
struct Snapshot(Option<Arc<Object>>);

impl Snapshot {
    async fn begin(client: Object) -> Result<(Self, Arc<Object>)> {
        let client = Arc::new(client);
        let snapshot = Self(Some(Arc::clone(&client)));
        client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        Ok((snapshot, client))
    }

    async fn end(mut self) -> Result<()> {
        if let Some(client) = &self.0 {
            client.batch_execute("ROLLBACK").await?;
        }
        self.0 = None;
        Ok(())
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if let Some(client) = self.0.take().and_then(Arc::into_inner) {
            drop(Object::take(client));
        }
    }
}

impl PostgresStore {
    /// See [`Shared::look`].
    pub(super) async fn look<T, F, R>(&self, look: F) -> std::result::Result<T, StoreError>
    where
        F: Fn(Arc<Object>) -> R + Send + Sync,
        R: Future<Output = Result<T>> + Send,
        T: Send,
    {
        Ok(self.shared.look(look).await?)
    }
}

impl Shared {
    /// Runs a read, and in a snapshot where it found something missing.
    pub(super) async fn look<T, F, R>(&self, look: F) -> Result<T>
    where
        F: Fn(Arc<Object>) -> R + Send + Sync,
        R: Future<Output = Result<T>> + Send,
        T: Send,
    {
        let look = &look;
        self.read(|| async move {
            match look(Arc::new(self.reading().await?)).await {
                Err(Trouble::Corrupt(_)) => {}
                given => return given,
            }
            let (snapshot, client) = Snapshot::begin(self.reading().await?).await?;
            let given = look(client).await;
            snapshot.end().await?;
            given
        })
        .await
    }
}
