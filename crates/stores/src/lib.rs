//! Where sessions, turns and the journal live.
//!
//! Three stores stand behind the one port of the core, and one conformance suite is stamped on
//! each: [`MemoryStore`] for tests, [`SqliteStore`] for one machine, and, with the feature
//! `postgres`, `PostgresStore` for several. [`SqliteReader`] reads a SQLite store's folder without
//! owning it.

mod check;
mod counters;
mod crowd;
mod encode;
mod memory;
mod moving;
#[cfg(feature = "postgres")]
mod postgres;
mod reads;
mod sqlite;

pub use memory::MemoryStore;
pub use moving::mark::{Mark, Part, Stage};
#[cfg(feature = "postgres")]
pub use moving::{MoveError, MoveOrder, Moving, Told, Way, undo_database, undo_folder};
#[cfg(feature = "postgres")]
pub use postgres::PostgresStore;
#[cfg(feature = "postgres")]
pub use postgres::gate::Out as NodeOut;
#[cfg(feature = "postgres")]
pub use postgres::nodes::Other as OtherNode;
#[cfg(feature = "postgres")]
pub use postgres::open::PostgresError;
#[cfg(feature = "postgres")]
pub use postgres::reader::PostgresReader;
#[cfg(feature = "postgres")]
pub use postgres::settings::{PostgresSettings, PostgresTls};
pub use reads::Reads;
pub use sqlite::care::copy::backup;
pub use sqlite::care::restore::{RestoreError, RestoreOrder, Restored, restore};
pub use sqlite::open::{Folder, OpenError, take_folder};
pub use sqlite::prefill::prefill;
pub use sqlite::reader::SqliteReader;
pub use sqlite::{SqliteOptions, SqliteStore};
