//! Where sessions, turns and the journal live.
//!
//! Two stores stand behind the one port of the core, and one conformance suite is stamped on both:
//! [`MemoryStore`] for tests, [`SqliteStore`] for everything else. [`SqliteReader`] reads a
//! SQLite store's folder without owning it.

mod check;
mod memory;
mod sqlite;

pub use memory::MemoryStore;
pub use sqlite::care::copy::backup;
pub use sqlite::care::restore::{RestoreError, RestoreOrder, Restored, restore};
pub use sqlite::open::OpenError;
pub use sqlite::prefill::prefill;
pub use sqlite::reader::SqliteReader;
pub use sqlite::{SqliteOptions, SqliteStore};
