//! What is done under the lock: the boards of all tenants, and who is told when one of them moves.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{Mutex, watch};
use turnkeep_core::ids::{Seq, Timestamp};
use turnkeep_core::ports::switchboard::{BoardChange, KeptBoard};
use turnkeep_core::switchboard::{
    Board, Changes, Heard, Limits, List, Noted, Observed, Page, Resources, Row, RowId, Totals,
};
use turnkeep_core::{SessionKey, SessionKind};

use super::lock::{Guarded, Mend};

/// Tenants that have a board at most; sessions of others are left out.
const BOARDS_MAX: usize = 10_000;

/// How a session's short name is made.
type IdOf = fn(&SessionKey) -> RowId;

/// The boards by tenant, as it is written in keys.
#[derive(Clone)]
pub(super) struct Boards {
    boards: BTreeMap<Arc<str>, Slot>,
    limits: Limits,
    id_of: IdOf,
}

/// One tenant's board.
#[derive(Clone)]
struct Slot {
    tenant: Arc<str>,
    board: Board,
    told: watch::Sender<u64>,
    /// How often something could not be written down: whoever waited for it learns so.
    failures: u64,
    /// It could not even be read again, so nobody knows what is written.
    stale: bool,
    /// Held by whoever writes it down.
    writing: Arc<Mutex<()>>,
}

/// When something was changed, in the count of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(u64);

/// What is to be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// What somebody waits for, and what goes with it.
    Wanted,
    /// Everything.
    All,
}

pub(super) struct Shared<L>(L);

/// A tenant as keys have it.
fn written(tenant: &str) -> Cow<'_, str> {
    if !tenant.contains(['%', ':']) {
        return tenant.into();
    }
    let key = SessionKey::new(tenant, "a", "a", SessionKind::Dm, "a");
    key.map_or_else(|_| tenant.into(), |key| tenant_of(&key).to_owned().into())
}

fn tenant_of(key: &SessionKey) -> &str {
    key.as_str().split(':').next().unwrap_or_default()
}

impl Boards {
    fn slot(&mut self, written: &str) -> Option<&mut Slot> {
        if !self.boards.contains_key(written) {
            if self.boards.len() >= BOARDS_MAX {
                return None;
            }
            let key = format!("{written}:a:a:dm:a").parse::<SessionKey>().ok()?;
            let board = Board::new(self.limits, self.id_of);
            let slot = Slot {
                tenant: key.tenant().into(),
                told: watch::Sender::new(board.version()),
                board,
                failures: 0,
                stale: false,
                writing: Arc::default(),
            };
            self.boards.insert(written.into(), slot);
        }
        self.boards.get_mut(written)
    }
}

impl Mend for Boards {
    fn mend(&mut self) {
        self.boards.values_mut().for_each(|slot| slot.board.mend());
        tracing::error!("a change of the switchboard broke off; what it shows was put in order");
    }
}

impl<L: Guarded<Boards>> Shared<L> {
    pub(super) fn new(limits: Limits, id_of: IdOf) -> Self {
        Self(L::guarded(Boards { boards: BTreeMap::new(), limits, id_of }))
    }

    pub(super) fn set_limits(&self, limits: Limits) {
        self.0.with(|boards| {
            boards.limits = limits;
            boards.boards.values_mut().for_each(|slot| slot.board.set_limits(limits));
        });
    }

    /// Looks at a board; none if the tenant has none.
    pub(super) fn read<R>(&self, tenant: &str, look: impl FnOnce(&mut Board) -> R) -> Option<R> {
        let written = written(tenant);
        self.0.with(|boards| boards.boards.get_mut(&*written).map(|slot| look(&mut slot.board)))
    }

    /// Changes a board, which is made if there is none, and tells whoever watches it. None if there
    /// are too many.
    fn act<R>(&self, written: &str, act: impl FnOnce(&mut Slot) -> R) -> Option<R> {
        let (result, tell) = self.0.with(|boards| {
            let slot = boards.slot(written)?;
            let before = slot.board.version();
            let result = act(slot);
            let version = slot.board.version();
            let moved = version != before && slot.told.receiver_count() > 0;
            Some((result, moved.then(|| (slot.told.clone(), version))))
        })?;
        // Waking others takes its time, so it is done outside.
        if let Some((told, version)) = tell {
            told.send_if_modified(|known| {
                let newer = version > *known;
                *known = version.max(*known);
                newer
            });
        }
        Some(result)
    }

    /// Changes a board for somebody who waits until it is written down. None if there are too many
    /// tenants, or nobody knows what is written.
    pub(super) fn wanted<R>(
        &self,
        tenant: &str,
        act: impl FnOnce(&mut Board) -> R,
    ) -> Option<(R, Ticket)> {
        self.act(&written(tenant), |slot| {
            let ticket = Ticket(slot.failures);
            (!slot.stale).then(|| (act(&mut slot.board), ticket))
        })?
    }

    pub(super) fn observe(&self, key: &SessionKey, seen: &Observed<'_>, now: Timestamp) -> Noted {
        let noted = self.act(tenant_of(key), |slot| slot.board.observe(key, seen, now));
        noted.unwrap_or(Noted::LeftOut)
    }

    /// What the store says of a session, where nothing newer is known; false if something is.
    pub(super) fn adopt(
        &self,
        key: &SessionKey,
        seen: &Observed<'_>,
        (heard, from): (&Heard, Seq),
        now: Timestamp,
    ) -> bool {
        let adopted = self.act(tenant_of(key), |slot| {
            let board = &mut slot.board;
            let newer = |row: &Row| row.last_seq > seen.last_seq;
            if board.by_key(key).is_some_and(|row| newer(&row)) {
                board.still_unsure(key);
                return false;
            }
            board.observe(key, seen, now);
            let learned = board.learn(key, heard, from, seen.last_seq);
            if !learned {
                board.still_unsure(key);
            }
            learned
        });
        adopted.unwrap_or(true)
    }

    pub(super) fn forget(&self, key: &SessionKey) {
        self.act(tenant_of(key), |slot| drop(slot.board.remove(key)));
    }

    pub(super) fn weigh(&self, key: &SessionKey, taken: Resources) {
        self.act(tenant_of(key), |slot| slot.board.update_resources(key, taken));
    }

    pub(super) fn given_back(&self, key: &SessionKey) {
        self.act(tenant_of(key), |slot| {
            let Some(row) = slot.board.by_key(key) else { return };
            let tokens = row.resources.tokens;
            let left = Resources { messages: row.queued.into(), tokens, ..Resources::default() };
            slot.board.update_resources(key, left);
        });
    }

    pub(super) fn redacted(&self, key: &SessionKey) {
        self.act(tenant_of(key), |slot| slot.board.redacted(key));
    }

    /// Sessions whose journal has to be read, at most so many.
    pub(super) fn take_unsure(&self, limit: usize) -> Vec<(SessionKey, Seq)> {
        self.0.with(|boards| {
            let boards = boards.boards.values_mut();
            let unsure = boards.flat_map(|slot| std::iter::from_fn(|| slot.board.take_unsure()));
            unsure.take(limit).collect()
        })
    }

    pub(super) fn list(&self, tenant: &str) -> List {
        let list = self.read(tenant, Board::list);
        list.unwrap_or_else(|| self.nothing().list())
    }

    fn nothing(&self) -> Board {
        self.0.with(|boards| Board::new(boards.limits, boards.id_of))
    }

    /// Looks at a board, or at an empty one, and at what a seat looks at then: what is told together
    /// is of one moment.
    fn seen_at<R>(
        &self,
        tenant: &str,
        seat: Option<&str>,
        look: impl Fn(&mut Board) -> R,
    ) -> (R, Option<u32>) {
        let active = |board: &Board| seat.and_then(|seat| board.active(seat)).map(|row| row.number);
        let found = self.read(tenant, |board| (look(board), active(board)));
        found.unwrap_or_else(|| (look(&mut self.nothing()), None))
    }

    /// A page, and what a seat looks at.
    pub(super) fn page(
        &self,
        tenant: &str,
        (after, limit): (u32, usize),
        seat: Option<&str>,
    ) -> (Page, Option<u32>) {
        self.seen_at(tenant, seat, |board| board.page(after, limit, |_| true))
    }

    /// The same of those that are wanted, looked for outside of the lock.
    pub(super) fn page_of(
        &self,
        tenant: &str,
        (after, limit): (u32, usize),
        seat: Option<&str>,
        wanted: impl Fn(&Row) -> bool,
    ) -> (Page, Option<u32>) {
        let ((list, totals), active) =
            self.seen_at(tenant, seat, |board| (board.list(), board.totals()));
        let mut rows = list.iter().filter(|row| row.number > after && wanted(row));
        let page: Vec<Arc<Row>> = rows.by_ref().take(limit).map(Arc::clone).collect();
        let next = page.last().map(|row| row.number).filter(|_| rows.next().is_some());
        (Page { version: list.version, totals, rows: page, next }, active)
    }

    /// What changed since a version, and what a seat looks at.
    pub(super) fn since(
        &self,
        tenant: &str,
        version: Option<u64>,
        seat: Option<&str>,
    ) -> (Changes, Option<u32>) {
        let look = |board: &mut Board| match version.and_then(|version| board.since(version)) {
            Some(changes) => Ok(changes),
            None => Err((board.list(), board.totals())),
        };
        let (found, active) = self.seen_at(tenant, seat, look);
        let changes = found.unwrap_or_else(|(list, totals)| {
            let rows = list.iter().map(Arc::clone).collect();
            Changes { version: list.version, whole: true, totals, rows, gone: Vec::new() }
        });
        (changes, active)
    }

    pub(super) fn subscribe(&self, tenant: &str) -> Option<watch::Receiver<u64>> {
        self.act(&written(tenant), |slot| slot.told.subscribe())
    }

    /// Of all boards together.
    pub(super) fn totals(&self) -> Totals {
        self.0.with(|boards| {
            let mut sum = Totals::default();
            for Totals { sessions, waiting, unread, states } in
                boards.boards.values().map(|slot| slot.board.totals())
            {
                sum.sessions += sessions;
                sum.waiting += waiting;
                sum.unread += unread;
                sum.states.iter_mut().zip(states).for_each(|(sum, count)| *sum += count);
            }
            sum
        })
    }

    /// Tenants that have a board.
    pub(super) fn tenants(&self) -> Vec<Arc<str>> {
        self.0.with(|boards| boards.boards.values().map(|slot| Arc::clone(&slot.tenant)).collect())
    }

    /// Tenants of whom something is not written down.
    pub(super) fn unsaved(&self) -> Vec<Arc<str>> {
        self.0.with(|boards| {
            let slots = boards.boards.values();
            let unsaved = slots.filter(|slot| slot.stale || slot.board.has_unsaved());
            unsaved.map(|slot| Arc::clone(&slot.tenant)).collect()
        })
    }

    /// What whoever writes a tenant's board down has to hold; none if there is no board.
    pub(super) fn writing(&self, tenant: &str) -> Option<Arc<Mutex<()>>> {
        let written = written(tenant);
        self.0.with(|boards| boards.boards.get(&*written).map(|slot| Arc::clone(&slot.writing)))
    }

    /// What of a tenant is to be written down next: anything, or only while somebody waits for a
    /// part of it.
    pub(super) fn take_unsaved(&self, tenant: &str, which: Which) -> Option<BoardChange> {
        let written = written(tenant);
        self.0.with(|boards| {
            let slot = boards.boards.get_mut(&*written).filter(|slot| !slot.stale)?;
            let due = which == Which::All || slot.board.has_wanted();
            due.then(|| slot.board.take_unsaved(&slot.tenant))?
        })
    }

    /// Nothing failed since.
    pub(super) fn holds(&self, tenant: &str, ticket: Ticket) -> bool {
        let written = written(tenant);
        let holds = |slot: &Slot| !slot.stale && slot.failures == ticket.0;
        self.0.with(|boards| boards.boards.get(&*written).is_some_and(holds))
    }

    /// Something could not be written down: from here on nobody may rely on what was changed since.
    pub(super) fn doubt(&self, tenant: &str) {
        self.act(&written(tenant), |slot| {
            slot.failures += 1;
            slot.stale = true;
        });
    }

    /// Whether nobody knows what is written.
    pub(super) fn is_stale(&self, tenant: &str) -> bool {
        let written = written(tenant);
        self.0.with(|boards| boards.boards.get(&*written).is_some_and(|slot| slot.stale))
    }

    /// The board as it is kept.
    pub(super) fn restore(&self, tenant: &str, kept: &KeptBoard) {
        self.act(&written(tenant), |slot| {
            slot.board = slot.board.restored(kept);
            slot.stale = false;
        });
    }
}
