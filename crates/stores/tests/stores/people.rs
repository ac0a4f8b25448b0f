//! The record of who became known by a code.

use turnkeep_core::ports::keys::Added;
use turnkeep_core::ports::people::{CODES_WAITING_MAX, PairedWith, Pairing, People};
use turnkeep_core::{Timestamp, Trust};

use crate::fixture::{DAY_MS, Home, NOW};

const END: Timestamp = NOW + DAY_MS;

fn waiting(id: &str, user: &str, code: u8) -> Pairing {
    Pairing {
        id: id.into(),
        tenant: "acme".into(),
        user: user.into(),
        trust: Trust::Inner,
        made_at: NOW,
        until: END,
        code: Some([code; 32]),
        with: None,
    }
}

fn with(person: &str, at: Timestamp) -> PairedWith {
    PairedWith { channel: "signal".into(), person: person.into(), at }
}

async fn ids(store: &impl People) -> Vec<String> {
    store.pairings().await.unwrap().iter().map(|row| row.id.to_string()).collect()
}

pub(crate) async fn a_pairing_is_kept_as_it_was_made<H: Home>(home: &H) {
    let early = Pairing { made_at: NOW - 1, ..waiting("zz", "a: 100 %", 1) };
    let late = Pairing { with: Some(with("+49151", NOW + 5)), ..waiting("aa", "bob", 2) };
    {
        let store = home.open();
        assert_eq!(store.add_pairing(late.clone(), NOW).await, Ok(Added::Done));
        assert_eq!(store.add_pairing(early.clone(), NOW).await, Ok(Added::Done));
        assert_eq!(store.add_pairing(waiting("aa", "x", 3), NOW).await, Ok(Added::Taken));
        assert_eq!(store.add_pairing(waiting("bb", "x", 2), NOW).await, Ok(Added::Taken));
    }
    assert_eq!(home.open().pairings().await.unwrap(), [early, late]);
}

pub(crate) async fn a_pairing_is_taken_once<H: Home>(home: &H) {
    let store = home.open();
    store.add_pairing(waiting("one", "alice", 1), NOW).await.unwrap();
    assert_eq!(store.pair([9; 32], with("+1", NOW)).await, Ok(None));
    assert_eq!(store.pair([1; 32], with("+1", END)).await, Ok(None), "too late");
    let taken = store.pair([1; 32], with("+1", NOW)).await.unwrap().unwrap();
    assert_eq!(taken, Pairing { with: Some(with("+1", NOW)), ..waiting("one", "alice", 1) });
    assert_eq!(store.pair([1; 32], with("+2", NOW)).await, Ok(None), "somebody else");
    let again = store.pair([1; 32], with("+1", NOW + 9)).await.unwrap();
    assert_eq!(again, Some(taken.clone()), "the same person");
    drop(store);
    assert_eq!(home.open().pairings().await.unwrap(), [taken]);
}

pub(crate) async fn who_is_paired_anew_is_known_by_the_new_one<H: Home>(home: &H) {
    let store = home.open();
    for (id, code) in [("one", 1), ("two", 2), ("three", 3)] {
        store.add_pairing(waiting(id, id, code), NOW).await.unwrap();
    }
    let other = Pairing { tenant: "other".into(), ..waiting("four", "four", 4) };
    store.add_pairing(other, NOW).await.unwrap();
    for (code, person) in [(1, "+1"), (2, "+2"), (3, "+1"), (4, "+1")] {
        assert!(store.pair([code; 32], with(person, NOW)).await.unwrap().is_some());
    }
    // The other tenant's is not touched.
    assert_eq!(ids(&store).await, ["four", "three", "two"]);
}

pub(crate) async fn pairings_end<H: Home>(home: &H) {
    let store = home.open();
    for (id, user, code) in [("a", "ann", 1), ("b", "ben", 2), ("c", "cat", 3), ("d", "ann", 4)] {
        store.add_pairing(waiting(id, user, code), NOW).await.unwrap();
    }
    store.pair([2; 32], with("ann", NOW)).await.unwrap();
    assert_eq!(store.end_pairing("c").await, Ok(true));
    assert_eq!(store.end_pairing("c").await, Ok(false));
    assert_eq!(store.end_pairings("other", "ann").await, Ok(0));
    assert_eq!(store.end_pairings("acme", "ann").await, Ok(3), "by either name");
    assert_eq!(ids(&store).await, [""; 0]);
}

pub(crate) async fn pairings_that_wait_end_and_have_a_limit<H: Home>(home: &H) {
    let store = home.open();
    for number in 0..CODES_WAITING_MAX {
        let code = u8::try_from(number).unwrap();
        let row = waiting(&format!("w{number:03}"), "ann", code);
        assert_eq!(store.add_pairing(row, NOW).await, Ok(Added::Done));
    }
    assert_eq!(store.add_pairing(waiting("more", "ann", 200), NOW).await, Ok(Added::Full));
    // One that was taken waits no more.
    store.pair([0; 32], with("+1", NOW)).await.unwrap();
    assert_eq!(store.add_pairing(waiting("more", "ann", 200), NOW).await, Ok(Added::Done));
    assert_eq!(store.forget_codes(END - 1, 1000).await, Ok(0));
    let late = Pairing { until: END + 1, ..waiting("late", "ann", 201) };
    assert_eq!(
        store.add_pairing(late, END).await,
        Ok(Added::Done),
        "those that are over make room"
    );
    assert_eq!(store.forget_codes(END, 60).await, Ok(60));
    assert_eq!(store.forget_codes(END, 60).await, Ok(41));
    let left = store.pairings().await.unwrap();
    assert_eq!(ids(&store).await, ["late", "w000"]);
    assert_eq!((left[0].code, left[1].code), (Some([201; 32]), None));
    assert_eq!(store.pair([0; 32], with("+1", NOW)).await, Ok(None), "its code is gone");
}
