//! A hundred operations, each on a thread of its own, at once on a board of a hundred sessions, ten thousand times.

use std::sync::{Arc, Barrier, Mutex};

use super::super::lock::OneLock;
use super::super::shared::{Boards, Shared};
use super::boards;
use super::crew::{Hand, check, is_whole};

const ROUNDS: u64 = 10_000;
const HANDS: u64 = 100;
const SESSIONS: u64 = 100;
/// Rounds from one comparison with what every hand remembers to the next.
const LOOK: u64 = 50;

/// Whoever waits for one that panicked would wait for ever.
struct EndsAll;

impl Drop for EndsAll {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

fn compare(shared: &Arc<Shared<OneLock<Boards>>>, crew: &[Mutex<Hand<OneLock<Boards>>>]) {
    let taken = |(at, hand): (usize, &Mutex<Hand<_>>)| {
        std::mem::replace(&mut *hand.lock().unwrap(), Hand::new(shared, at as u64, 0))
    };
    let mut hands: Vec<Hand<_>> = crew.iter().enumerate().map(taken).collect();
    check(shared, &mut hands);
    for (hand, place) in hands.into_iter().zip(crew) {
        *place.lock().unwrap() = hand;
    }
}

#[test]
fn a_hundred_operations_at_once_leave_the_board_whole_ten_thousand_times() {
    let shared = boards::<OneLock<Boards>>();
    let mut crew: Vec<Hand<_>> = (0..HANDS).map(|who| Hand::new(&shared, who, 2026)).collect();
    for at in 0..SESSIONS {
        crew[usize::try_from(at % HANDS).unwrap()].create(0);
    }
    let crew: Arc<Vec<Mutex<Hand<_>>>> = Arc::new(crew.into_iter().map(Mutex::new).collect());
    let begun = Arc::new(Barrier::new(usize::try_from(HANDS).unwrap()));
    let work = |who: usize| {
        let (crew, begun) = (Arc::clone(&crew), Arc::clone(&begun));
        let shared = Arc::clone(&shared);
        move || {
            let _ends = EndsAll;
            for round in 0..ROUNDS {
                let mut mine = crew[who].lock().unwrap();
                mine.work(SESSIONS, i64::try_from(round).unwrap());
                drop(mine);
                // One of them looks at it all, while the others wait for the next round.
                if begun.wait().is_leader() {
                    is_whole(&shared);
                    if (round + 1).is_multiple_of(LOOK) {
                        compare(&shared, &crew);
                    }
                }
                begun.wait();
            }
        }
    };
    let threads: Vec<_> = (0..crew.len()).map(|who| std::thread::spawn(work(who))).collect();
    for thread in threads {
        thread.join().unwrap();
    }
}
