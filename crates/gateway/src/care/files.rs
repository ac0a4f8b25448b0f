//! Stored attachments that no text names any more go: after something was forgotten or erased, and
//! those of messages that were not taken.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use turnkeep_core::ports::attachments::{Attachments, StoredFile};
use turnkeep_core::ports::store::StoreError;

use crate::service::Gateway;

/// Between two looks, where nothing was forgotten that is known of.
const LOOK: Duration = Duration::from_secs(24 * 3600);

/// What the gateway holds for it.
#[derive(Default)]
pub(super) struct Files {
    all: Mutex<Option<Arc<dyn Attachments>>>,
    /// Something was forgotten since the last look.
    due: AtomicBool,
}

impl Files {
    /// Texts are gone, so files may be nobody's.
    pub(super) fn look_soon(&self) {
        self.due.store(true, Ordering::Release);
    }

    fn all(&self) -> Option<Arc<dyn Attachments>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Why unneeded files were not removed.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The files can't be listed.
    #[error("attachments can't be looked through: {0}")]
    Files(#[from] std::io::Error),
}

impl Gateway {
    /// From here on these are the attachments that are looked after.
    pub fn look_after(&self, attachments: Arc<dyn Attachments>) {
        *self.0.care.files.all.lock().unwrap_or_else(PoisonError::into_inner) = Some(attachments);
    }

    /// Removes them where there is reason to: at the first look, and after something went.
    pub(super) async fn tidy_files(&self, looked: &mut Option<Instant>, pace: Duration) {
        let Some(all) = self.0.care.files.all() else { return };
        let was_due = self.0.care.files.due.swap(false, Ordering::AcqRel);
        let old = looked.is_none_or(|at| at.elapsed() >= LOOK);
        if !was_due && !old && !all.is_full() {
            return;
        }
        match self.remove_unnamed(pace).await {
            Ok(_) => *looked = Some(Instant::now()),
            Err(_) if self.is_draining() => {}
            Err(error) => {
                if matches!(error, FilesError::Store(StoreError::Corrupt(_))) {
                    // What can't be read now can't be read in ten minutes either.
                    *looked = Some(Instant::now());
                } else {
                    self.0.care.files.look_soon();
                }
                tracing::warn!(%error, "attachments that nobody needs could not be removed");
            }
        }
    }

    /// Removes every stored attachment that is named nowhere, the oldest first; says how many. All of
    /// the journal is read for it: there is no index of attachments, because every message would
    /// have to pay for it.
    pub async fn remove_unnamed(&self, pace: Duration) -> Result<u64, FilesError> {
        let Some(all) = self.0.care.files.all() else { return Ok(0) };
        // First, so that whatever is taken meanwhile is none of them.
        let listed = all.list().await?;
        let mut unnamed: HashMap<String, StoredFile> =
            listed.into_iter().map(|file| (file.hash.to_string(), file)).collect();
        let mut from = Some(0);
        while let Some(place) = from
            && !unnamed.is_empty()
        {
            let stretch = self.care().find_hashes(place).await?;
            for hash in &stretch.found {
                unnamed.remove(hash);
            }
            from = stretch.next;
            if from.is_some() {
                tokio::time::sleep(pace).await;
            }
        }
        let mut oldest_first: Vec<StoredFile> = unnamed.into_values().collect();
        oldest_first.sort_by_key(|file| file.stored_ns);
        let (mut removed, mut bytes) = (0, 0);
        for file in oldest_first {
            let size = file.bytes;
            match all.remove(file).await {
                Ok(true) => (removed, bytes) = (removed + 1, bytes + size),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "an attachment could not be removed"),
            }
        }
        if removed > 0 {
            tracing::info!(removed, bytes, "attachments that nothing names any more are gone");
        }
        Ok(removed)
    }
}
