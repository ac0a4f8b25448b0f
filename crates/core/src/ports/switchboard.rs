//! What a store keeps of the switchboard, so that whoever comes back finds every session where it
//! was: its number, its name, how far it was read, and what each seat looks at.
//!
//! The board in memory is what is asked; this is the record, read at boot and after a write that
//! failed. What a session is doing stands in the session itself and is kept nowhere else.

use std::sync::Arc;

use super::BoxFuture;
use super::store::StoreError;
use crate::ids::{Seq, Timestamp};
use crate::session_key::SessionKey;

/// Seats of one tenant that are kept at most; the one touched longest ago goes.
pub const SEATS_MAX: usize = 64;
/// Rows and seats in one change at most, for commits wait behind it.
pub const CHANGE_MAX: usize = 512;

/// One session as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptRow {
    /// Which session; its tenant is the row's.
    pub key: SessionKey,
    /// Its place in the order; no other session of the tenant has it, before or after.
    pub number: u32,
    /// What people call it; no two of a tenant are called the same.
    pub name: Option<Arc<str>>,
    /// Since when it stands on the board.
    pub created_at: Timestamp,
    /// When somebody last had to do with it.
    pub touched_at: Timestamp,
    /// Everything up to here was read, by whomever.
    pub read_seq: Seq,
}

/// A place from which somebody watches, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptSeat {
    /// Its name.
    pub seat: Arc<str>,
    /// What it looks at.
    pub active: Option<SessionKey>,
    /// What it looked at before, the latest last.
    pub history: Vec<SessionKey>,
    /// When it was last used.
    pub touched_at: Timestamp,
}

/// Everything that is kept of one tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeptBoard {
    /// In the order of their numbers.
    pub rows: Vec<KeptRow>,
    /// By name.
    pub seats: Vec<KeptSeat>,
    /// The highest number that was ever given.
    pub last_number: u32,
}

/// What of a tenant's board is to be written: whole rows, as they stand now. At most
/// [`CHANGE_MAX`] of them in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BoardChange {
    /// Whose.
    pub tenant: Arc<str>,
    /// Rows as they are from now on.
    pub rows: Vec<KeptRow>,
    /// Sessions that leave the board.
    pub gone: Vec<SessionKey>,
    /// Seats as they are from now on.
    pub seats: Vec<KeptSeat>,
    /// Seats that are forgotten.
    pub seats_gone: Vec<Arc<str>>,
    /// The highest number that was ever given; a smaller one than is kept changes nothing.
    pub last_number: u32,
}

impl BoardChange {
    /// Nothing is to be written but perhaps the last number.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
            && self.gone.is_empty()
            && self.seats.is_empty()
            && self.seats_gone.is_empty()
    }

    /// How many rows and seats it changes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len() + self.gone.len() + self.seats.len() + self.seats_gone.len()
    }
}

/// What came of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is durable.
    Done,
    /// Nothing was changed: another session than those of the change has the number or the name of
    /// this one. A board that agrees with the store never asks for that; load it anew.
    Taken(SessionKey),
}

/// The port.
pub trait SwitchboardStore: Send + Sync + 'static {
    /// Tenants that have a board, by name, behind `after`.
    fn board_tenants(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Arc<str>>, StoreError>>;

    /// Everything of one tenant; an empty board where nothing is kept.
    fn board(&self, tenant: &str) -> BoxFuture<'_, Result<KeptBoard, StoreError>>;

    /// Writes a change whole or not at all. What leaves goes before what comes, so a name can pass
    /// from one session to another in one change. A session that leaves is nobody's active one and
    /// stands in no seat's history any more. Durable when answered; after an error nobody knows, so
    /// load what was to be written.
    ///
    /// Of two changes of one row the later answered one counts: whoever writes the same row twice
    /// waits for the first answer.
    fn write_board(&self, change: BoardChange) -> BoxFuture<'_, Result<Written, StoreError>>;
}
