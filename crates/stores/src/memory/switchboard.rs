//! What is kept of the switchboard, in memory.

use std::collections::BTreeMap;
use std::future::ready;
use std::ops::Bound;
use std::sync::Arc;

use turnkeep_core::SessionKey;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::store::StoreError;
use turnkeep_core::ports::switchboard::{
    BoardChange, KeptBoard, KeptRow, KeptSeat, SwitchboardStore, Written,
};

use super::MemoryStore;
use crate::check;

/// Boards by tenant.
#[derive(Debug, Default)]
pub(super) struct BoardTables(BTreeMap<Arc<str>, BoardTable>);

#[derive(Debug, Default)]
struct BoardTable {
    rows: BTreeMap<SessionKey, KeptRow>,
    seats: BTreeMap<Arc<str>, KeptSeat>,
    last_number: u32,
}

impl BoardTables {
    fn board(&self, tenant: &str) -> KeptBoard {
        let Some(table) = self.0.get(tenant) else { return KeptBoard::default() };
        let mut rows: Vec<KeptRow> = table.rows.values().cloned().collect();
        rows.sort_by_key(|row| row.number);
        let seats = table.seats.values().cloned().collect();
        KeptBoard { rows, seats, last_number: table.last_number }
    }

    fn write(&mut self, change: BoardChange) -> Result<Written, StoreError> {
        check::own_rows(&change)?;
        let table = self.0.get(&change.tenant);
        let taken = table.and_then(|table| table.taken(&change));
        if let Some(key) = check::twin_row(&change).or(taken) {
            return Ok(Written::Taken(key));
        }
        let table = self.0.entry(Arc::clone(&change.tenant)).or_default();
        table.last_number = table.last_number.max(check::highest_number(&change));
        table.forget(&change.gone);
        table.rows.extend(change.rows.into_iter().map(|row| (row.key.clone(), row)));
        let seats = change.seats.into_iter().map(|seat| (Arc::clone(&seat.seat), seat));
        table.seats.extend(seats);
        for seat in &change.seats_gone {
            table.seats.remove(seat);
        }
        Ok(Written::Done)
    }

    /// Forgets a session that is erased.
    pub(super) fn forget(&mut self, key: &SessionKey) {
        if let Some(table) = self.0.get_mut(&*key.tenant()) {
            table.forget(std::slice::from_ref(key));
        }
    }
}

impl BoardTable {
    /// A row whose number or name another session keeps.
    fn taken(&self, change: &BoardChange) -> Option<SessionKey> {
        let moves = |key: &SessionKey| {
            change.gone.contains(key) || change.rows.iter().any(|row| row.key == *key)
        };
        let stays = || self.rows.values().filter(|row| !moves(&row.key));
        let clashes = |row: &&KeptRow| {
            let same_name = |other: &KeptRow| other.name.is_some() && other.name == row.name;
            stays().any(|other| other.number == row.number || same_name(other))
        };
        change.rows.iter().find(clashes).map(|row| row.key.clone())
    }

    fn forget(&mut self, gone: &[SessionKey]) {
        self.rows.retain(|key, _| !gone.contains(key));
        for seat in self.seats.values_mut() {
            check::leave_seat(seat, gone);
        }
    }
}

type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

impl SwitchboardStore for MemoryStore {
    fn board_tenants(&self, after: Option<&str>, limit: usize) -> Answer<'_, Vec<Arc<str>>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.read(|tables| {
            let boards = tables.boards.0.range::<str, _>((from, Bound::Unbounded));
            boards.map(|(tenant, _)| Arc::clone(tenant)).take(limit).collect()
        })
    }

    fn board(&self, tenant: &str) -> Answer<'_, KeptBoard> {
        self.read(|tables| tables.boards.board(tenant))
    }

    fn write_board(&self, change: BoardChange) -> Answer<'_, Written> {
        let mut tables = self.tables();
        let answer = if tables.closed {
            Err(StoreError::Unavailable("the store is closed".into()))
        } else {
            tables.boards.write(change)
        };
        Box::pin(ready(answer))
    }
}
