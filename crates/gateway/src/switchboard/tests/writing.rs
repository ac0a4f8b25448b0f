//! Writing down what changes, in every kind of schedule and with a store that fails: whoever is told
//! that it is done finds it there, and whoever is not finds it as it was.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use shuttle::future::{block_on, spawn, yield_now};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::store::StoreError;
use turnkeep_core::ports::switchboard::{
    BoardChange, KeptBoard, KeptRow, SwitchboardStore, Written,
};
use turnkeep_core::switchboard::Limits;

use super::super::record::Record;
use super::super::shared::{Boards, Shared, Which};
use super::explore::Explored;
use super::{TENANT, key};

const SCHEDULES: usize = 1_000;

/// A store of one tenant that takes its time, and fails when it is told to.
#[derive(Default)]
struct Slow {
    kept: Mutex<KeptBoard>,
    /// Which writes fail, counted down; and whether what failed is there all the same.
    fails: Mutex<Vec<Option<bool>>>,
}

impl Slow {
    fn apply(&self, change: BoardChange) {
        let mut kept = self.kept.lock().unwrap();
        let stays = |row: &KeptRow| {
            !change.gone.contains(&row.key) && change.rows.iter().all(|new| new.key != row.key)
        };
        kept.rows.retain(stays);
        kept.rows.extend(change.rows);
        kept.rows.sort_by_key(|row| row.number);
        kept.last_number = kept.last_number.max(change.last_number);
    }
}

impl SwitchboardStore for Slow {
    fn board_tenants(
        &self,
        _: Option<&str>,
        _: usize,
    ) -> BoxFuture<'_, Result<Vec<Arc<str>>, StoreError>> {
        Box::pin(async { Ok(vec![TENANT.into()]) })
    }

    fn board(&self, _: &str) -> BoxFuture<'_, Result<KeptBoard, StoreError>> {
        Box::pin(async {
            yield_now().await;
            Ok(self.kept.lock().unwrap().clone())
        })
    }

    fn write_board(&self, change: BoardChange) -> BoxFuture<'_, Result<Written, StoreError>> {
        Box::pin(async move {
            yield_now().await;
            let fails = self.fails.lock().unwrap().pop().flatten();
            if fails != Some(false) {
                self.apply(change);
            }
            yield_now().await;
            match fails {
                None => Ok(Written::Done),
                Some(_) => Err(StoreError::Unavailable("told to".to_owned())),
            }
        })
    }
}

type Desk = Arc<Record<Explored<Boards>>>;

fn desk(fails: &[Option<bool>]) -> (Desk, Arc<Slow>) {
    let store = Arc::new(Slow::default());
    store.fails.lock().unwrap().extend(fails);
    let shared = Shared::new(Limits::default(), super::super::id_of);
    let record = Record::new(shared, store.clone());
    record.keep();
    record.keep();
    (Arc::new(record), store)
}

/// Names a session, and says whether it was told that this is durable.
async fn names(desk: &Desk, peer: &str, name: &str) -> bool {
    let name = Some(Arc::from(name));
    let act = |board: &mut turnkeep_core::switchboard::Board| {
        board.create(&key(peer), None, 1).unwrap().unwrap();
        let row = board.by_key(&key(peer)).unwrap();
        board.rename(row.number, name.as_ref())
    };
    let Some((_, ticket)) = desk.shared.wanted(TENANT, act) else { return false };
    desk.settle(TENANT, ticket).await.is_ok()
}

fn name_of(desk: &Desk, peer: &str) -> Option<Arc<str>> {
    desk.shared.read(TENANT, |board| board.by_key(&key(peer)))??.name.clone()
}

/// What stands in the store is what stands on the board.
fn agree(desk: &Desk, store: &Slow) {
    let kept = store.kept.lock().unwrap().clone();
    let kept: Vec<_> = kept.rows.into_iter().map(|row| (row.number, row.key, row.name)).collect();
    let list = desk.shared.list(TENANT);
    let rows = list.iter().map(|row| (row.number, row.key.clone(), row.name.clone()));
    assert_eq!(kept, rows.collect::<Vec<_>>());
}

/// Two who name the same session one after the other while a third one names another.
fn in_turn(fails: &[Option<bool>]) {
    let (desk, store) = desk(fails);
    let one = {
        let desk = Arc::clone(&desk);
        spawn(async move { (names(&desk, "x", "a").await, names(&desk, "x", "b").await) })
    };
    let two = {
        let desk = Arc::clone(&desk);
        spawn(async move { names(&desk, "y", "c").await })
    };
    block_on(async {
        let (first, second) = one.await.unwrap();
        let other = two.await.unwrap();
        // Whatever is left over is written now.
        while desk.write(TENANT, Which::All).await.is_err() {}
        agree(&desk, &store);
        if second {
            assert_eq!(name_of(&desk, "x").as_deref(), Some("b"));
        } else if first {
            let left = name_of(&desk, "x");
            assert!(matches!(left.as_deref(), Some("a" | "b")), "{left:?}");
        }
        if other {
            assert_eq!(name_of(&desk, "y").as_deref(), Some("c"));
        }
        if fails.is_empty() {
            assert!(first && second && other);
        }
    });
}

#[test]
fn whoever_is_told_that_it_is_durable_finds_it_there() {
    shuttle::check_random(|| in_turn(&[]), SCHEDULES);
}

#[test]
fn a_write_that_fails_leaves_board_and_store_the_same() {
    for came in [false, true] {
        for at in 0..3 {
            let mut fails = [None; 3];
            fails[at] = Some(came);
            shuttle::check_random(move || in_turn(&fails), SCHEDULES / 3);
        }
    }
}

/// Planted: what is to be written is taken by one and written by many, in whatever order.
async fn hasty(desk: &Desk, store: &Slow) {
    while let Some(change) = desk.shared.take_unsaved(TENANT, Which::All) {
        store.write_board(change).await.unwrap();
    }
}

#[test]
fn writes_that_overtake_each_other_are_found() {
    let schedule = || {
        let (desk, store) = desk(&[]);
        let tasks = ["a", "b"].map(|name| {
            let (desk, store) = (Arc::clone(&desk), Arc::clone(&store));
            spawn(async move {
                desk.shared.wanted(TENANT, |board| {
                    let row = board.create(&key("x"), None, 1).unwrap().unwrap();
                    board.rename(row.number, Some(&name.into())).unwrap();
                });
                hasty(&desk, &store).await;
            })
        });
        block_on(async {
            for task in tasks {
                task.await.unwrap();
            }
        });
        agree(&desk, &store);
    };
    let found = catch_unwind(AssertUnwindSafe(|| shuttle::check_random(schedule, SCHEDULES)));
    assert!(found.is_err());
}
