//! Every kind of schedule of a few operations, under an explorer that owns the threads; and that it
//! sees what a lock is for: with the mistakes that are planted here it has to fail.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;

use shuttle::sync::Mutex;
use shuttle::thread;

use super::super::lock::Guarded;
use super::super::shared::Boards;
use super::boards;
use super::crew::{Hand, check};

const SCHEDULES: usize = 1_500;
const HANDS: u64 = 3;
const OPERATIONS: u64 = 6;
const SESSIONS: u64 = 4;

/// The lock as it ships, with the explorer's own in its place.
pub(super) struct Explored<T>(pub(super) Mutex<T>);

impl<T> Guarded<T> for Explored<T> {
    fn guarded(value: T) -> Self {
        Self(Mutex::new(value))
    }

    fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Planted: what is read under one hold of the lock is written under another.
struct TwoHolds<T>(Mutex<T>);

impl<T: Clone> Guarded<T> for TwoHolds<T> {
    fn guarded(value: T) -> Self {
        Self(Mutex::new(value))
    }

    fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
        let mut copy = self.0.lock().unwrap().clone();
        let result = act(&mut copy);
        *self.0.lock().unwrap() = copy;
        result
    }
}

/// Planted: two locks, and whoever works takes the one of its own thread.
struct TwoLocks<T>([Mutex<()>; 2], Mutex<T>);

impl<T: Clone> Guarded<T> for TwoLocks<T> {
    fn guarded(value: T) -> Self {
        Self([Mutex::new(()), Mutex::new(())], Mutex::new(value))
    }

    fn with<R>(&self, act: impl FnOnce(&mut T) -> R) -> R {
        let odd = thread::current().name().is_some_and(|name| name == "1");
        let _held = self.0[usize::from(odd)].lock().unwrap();
        let mut copy = self.1.lock().unwrap().clone();
        let result = act(&mut copy);
        *self.1.lock().unwrap() = copy;
        result
    }
}

fn schedule<L: Guarded<Boards> + Send + Sync + 'static>() {
    let shared = boards::<L>();
    let mut crew: Vec<Hand<L>> = (0..HANDS).map(|who| Hand::new(&shared, who, 7)).collect();
    for hand in &mut crew {
        hand.create(0);
        hand.create(0);
    }
    let threads = crew.into_iter().enumerate().map(|(who, mut hand)| {
        let work = move || {
            (0..OPERATIONS).for_each(|now| hand.work(SESSIONS, i64::try_from(now).unwrap()));
            hand
        };
        thread::Builder::new().name(who.to_string()).spawn(work).unwrap()
    });
    let threads: Vec<_> = threads.collect();
    let mut crew: Vec<Hand<L>> = threads.into_iter().map(|it| it.join().unwrap()).collect();
    check(&shared, &mut crew);
}

/// Whether it fails within so many schedules.
fn is_found(schedule: fn()) -> bool {
    catch_unwind(AssertUnwindSafe(|| shuttle::check_random(schedule, SCHEDULES))).is_err()
}

#[test]
fn no_schedule_breaks_the_board() {
    shuttle::check_random(schedule::<Explored<Boards>>, SCHEDULES);
    shuttle::check_pct(schedule::<Explored<Boards>>, SCHEDULES, 3);
}

#[test]
fn a_lock_that_is_let_go_in_between_is_found() {
    assert!(is_found(schedule::<TwoHolds<Boards>>));
}

#[test]
fn two_locks_instead_of_one_are_found() {
    assert!(is_found(schedule::<TwoLocks<Boards>>));
}
