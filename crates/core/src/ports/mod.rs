//! The ports: what the shell needs of the world, in the language of turns.

pub mod agent;
pub mod attachments;
pub mod care;
pub mod channel;
pub mod dispatch;
pub mod guard;
pub mod hints;
pub mod histogram;
pub mod intake;
pub mod keys;
pub mod listeners;
pub mod moderator;
pub mod people;
pub mod reminders;
pub mod schedule;
pub mod store;
pub mod switchboard;
pub mod trace;
pub mod usage;
pub mod worktrees;

use std::future::Future;
use std::pin::Pin;

/// A future that a port hands out; no runtime is named.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
