//! Whatever is written beside the commits of sessions: it runs in the writer's transaction among
//! them, shares their fsync, and is answered once it is durable.
//!
//! A change must be short, for everybody's commits wait behind it; long work is cut into many. It
//! must not fail for what a caller may get wrong: an error here is taken for the disk's and ends
//! the whole batch, so a refusal is a value that it gives back.

use rusqlite::Connection;
use turnkeep_core::SessionKey;
use turnkeep_core::ports::store::StoreError;

use super::trouble::Result;
use super::writer::Answer;

/// A write, whatever it gives back.
pub(super) trait Change: Send {
    /// Does it, inside the transaction.
    fn run(&mut self, connection: &Connection) -> Result<()>;

    /// Sessions whose rows it changes, which nothing but a commit does otherwise.
    fn stale(&self) -> &[SessionKey];

    /// Says what became of it.
    fn answer(self: Box<Self>, durable: std::result::Result<(), StoreError>);
}

/// A write that gives back a `T`.
struct Write<T, F> {
    stale: Vec<SessionKey>,
    work: Option<F>,
    done: Option<T>,
    answer: Answer<T>,
}

/// A change made of a function.
pub(super) fn change<T: Send + 'static>(
    stale: Vec<SessionKey>,
    work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    answer: Answer<T>,
) -> Box<dyn Change> {
    Box::new(Write { stale, work: Some(work), done: None, answer })
}

impl<T: Send, F: FnOnce(&Connection) -> Result<T> + Send> Change for Write<T, F> {
    fn run(&mut self, connection: &Connection) -> Result<()> {
        if let Some(work) = self.work.take() {
            self.done = Some(work(connection)?);
        }
        Ok(())
    }

    fn stale(&self) -> &[SessionKey] {
        &self.stale
    }

    fn answer(self: Box<Self>, durable: std::result::Result<(), StoreError>) {
        let undone = || StoreError::Unavailable("the change was not made".into());
        let Self { done, answer, .. } = *self;
        let outcome = durable.and_then(|()| done.ok_or_else(undone));
        // Whoever asked may be gone; the change stands all the same.
        drop(answer.send(outcome));
    }
}
