//! What a store must do so that everything in it can move to another one, or come from there.

use std::collections::BTreeMap;

use super::MoveError;
use super::mark::Mark;
use super::row::{Cursor, Page, Room, Row};
use super::tables::{NUMBERED, Table};

type Result<T> = std::result::Result<T, MoveError>;

/// Numbers that were given out: the next ones have to be greater, whatever became of their rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Numbers {
    /// The greatest epoch.
    pub(crate) epoch: i64,
    /// The greatest place of a row of the journal that was removed.
    pub(crate) journal: i64,
    /// The greatest number in each of [`NUMBERED`].
    pub(crate) given: [i64; NUMBERED.len()],
}

/// A store that nobody else uses.
pub(crate) trait Side {
    /// Reads the rows that follow, in an order of this side's own.
    async fn page(
        &mut self,
        table: &'static Table,
        after: Option<&Cursor>,
        room: Room,
    ) -> Result<Page>;

    /// Writes rows, and with them, in the same transaction, a note on how far it is.
    async fn put(&mut self, table: &'static Table, rows: &[Row], note: (&str, &str)) -> Result<()>;

    /// About how many rows there are.
    async fn count(&mut self, table: &'static Table) -> Result<u64>;

    /// All notes.
    async fn notes(&mut self) -> Result<BTreeMap<String, String>>;

    /// Says what this store is in a move. A target throws away what it was born with.
    async fn mark(&mut self, mark: &Mark, clean: bool) -> Result<()>;

    /// Takes all notes away.
    async fn unmark(&mut self) -> Result<()>;

    /// A table that has rows, if there is one.
    async fn occupied(&mut self) -> Result<Option<&'static str>>;

    /// Tables, columns and numbers that would be left behind.
    async fn strangers(&mut self) -> Result<Vec<String>>;

    /// What was given out here.
    async fn numbers(&mut self) -> Result<Numbers>;

    /// Gives out greater ones from now on.
    async fn raise(&mut self, numbers: &Numbers) -> Result<()>;
}
