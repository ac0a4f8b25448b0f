//! A session whose journal can't be read: the others are on the board all the same. And a board of
//! which nothing was written down.

use std::time::{Duration, SystemTime};

use turnkeep_core::outbox::DeliveryState;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::store::{
    Commit, CommitOutcome, Loaded, NumberedDeadLetter, PartPlace, PartRow, Store, StoreError,
    TurnRow,
};
use turnkeep_core::{Epoch, Timestamp, TurnId};

use super::*;

/// The journal of one of its sessions is unreadable.
struct Torn(SqliteStore);

impl Store for Torn {
    fn epoch(&self) -> Epoch {
        self.0.epoch()
    }

    fn health(&self) -> Result<(), String> {
        self.0.health()
    }

    fn waiting(&self) -> u64 {
        self.0.waiting()
    }

    fn load(&self, key: &SessionKey) -> BoxFuture<'_, Result<Option<Loaded>, StoreError>> {
        self.0.load(key)
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<CommitOutcome, StoreError>> {
        self.0.commit(commit)
    }

    fn open_work(
        &self,
        before: Timestamp,
        after: Option<(Timestamp, SessionKey)>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Timestamp, SessionKey)>, StoreError>> {
        self.0.open_work(before, after, limit)
    }

    fn sessions(
        &self,
        tenant: Option<&str>,
        after: Option<&SessionKey>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(SessionKey, Loaded)>, StoreError>> {
        self.0.sessions(tenant, after, limit)
    }

    fn events(
        &self,
        key: &SessionKey,
        after: Seq,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Event>, StoreError>> {
        if *key == anna() {
            let torn = StoreError::Corrupt("torn".to_owned());
            return Box::pin(async { Err(torn) });
        }
        self.0.events(key, after, limit)
    }

    fn turn(&self, id: TurnId) -> BoxFuture<'_, Result<Option<(SessionKey, TurnRow)>, StoreError>> {
        self.0.turn(id)
    }

    fn turns(
        &self,
        key: &SessionKey,
        before: Option<TurnId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<TurnRow>, StoreError>> {
        self.0.turns(key, before, limit)
    }

    fn dead_letters_count(&self, max: usize) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.0.dead_letters_count(max)
    }

    fn dead_letters(
        &self,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<NumberedDeadLetter>, StoreError>> {
        self.0.dead_letters(after, limit)
    }

    fn dead_letter(
        &self,
        id: u64,
    ) -> BoxFuture<'_, Result<Option<(SessionKey, DeadLetter)>, StoreError>> {
        self.0.dead_letter(id)
    }

    fn parts(
        &self,
        key: &SessionKey,
        after: (Seq, u32),
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<PartRow>, StoreError>> {
        self.0.parts(key, after, limit)
    }

    fn parked(
        &self,
        tenant: Option<&str>,
        state: Option<DeliveryState>,
        after: Option<&PartPlace>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(SessionKey, PartRow)>, StoreError>> {
        self.0.parked(tenant, state, after, limit)
    }

    fn forget_seen(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<usize, StoreError>> {
        self.0.forget_seen(now, limit)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.0.close()
    }
}

#[tokio::test]
async fn one_that_can_not_be_read_keeps_no_other_off_the_board() {
    let folder = tempfile::tempdir().unwrap();
    let open = || SqliteStore::open(folder.path(), SqliteOptions::default()).unwrap();
    // Nothing of the board is kept.
    let first = started(parts(Arc::new(open()), obedient(), |_| ())).await;
    answered(&first, says("anna", "api", "ask")).await;
    answered(&first, says("bob", "api", "ask")).await;
    first.drain().await;
    drop(first);
    let mut torn = parts(Arc::new(MemoryStore::new()), obedient(), |_| ());
    torn.store = Arc::new(Torn(open()));
    let second = started(torn).await;
    let anna_is_first = second.store().sessions(None, None, 1).await.unwrap();
    assert_eq!(anna_is_first[0].0, anna());
    second.board_walk().await.unwrap();
    // What their tasks told meanwhile.
    while second.board_find_out().await > 0 {}
    let list = second.switchboard().list("default");
    let bob = list.iter().find(|row| row.key.as_str().ends_with(":bob")).unwrap();
    assert_eq!(waits(bob), Some((WaitingKind::Question, "which one?")));
    // And it isn't read again and again.
    assert_eq!(second.board_find_out().await, 0);
}

#[tokio::test]
async fn what_was_not_written_down_gets_its_number_again() {
    let folder = tempfile::tempdir().unwrap();
    let open = || SqliteStore::open(folder.path(), SqliteOptions::default()).unwrap();
    // Nothing of the board is kept.
    let first = started(parts(Arc::new(open()), obedient(), |_| ())).await;
    for customer in ["carl", "anna", "bob"] {
        answered(&first, says(customer, "api", "hello")).await;
        // Two of one millisecond have no order.
        let begun = SystemTime::now();
        while begun.elapsed().is_ok_and(|since| since < Duration::from_millis(2)) {
            tokio::task::yield_now().await;
        }
    }
    let numbers = |gateway: &Gateway| -> Vec<(u32, String)> {
        let list = gateway.switchboard().list("default");
        list.iter().map(|row| (row.number, row.key.to_string())).collect()
    };
    let before = numbers(&first);
    assert_eq!(before.len(), 3);
    first.drain().await;
    drop(first);
    let second = started(parts(Arc::new(open()), obedient(), |_| ())).await;
    second.board_walk().await.unwrap();
    assert_eq!(numbers(&second), before);
}
