//! Everything that one store holds, moved to another one: from a folder's file into a database, or
//! back.
//!
//! Both stores are ours while it works, and both say so in a table that outlives us ([`mark`]), so
//! that nobody serves either one before it is over, however it ends. Rows go page by page, each in
//! one transaction of the target together with the place behind it ([`row::Progress`]): a move that
//! was killed goes on there. Which tables there are, and what of them moves, says [`tables`]; what a
//! store does for it, [`side`].
//!
//! When all is there, what was written is read again and held against what was read ([`row::Digest`]).
//! Whoever ordered the move audits both stores then, and finishes it.

pub(crate) mod mark;
#[cfg(feature = "postgres")]
mod order;
#[cfg(feature = "postgres")]
pub(crate) mod row;
#[cfg(feature = "postgres")]
pub(crate) mod side;
#[cfg(feature = "postgres")]
pub(crate) mod tables;

#[cfg(feature = "postgres")]
pub use order::{MoveError, MoveOrder, Moving, Told, Way, undo_database, undo_folder};
