//! What is kept of the switchboard.

use std::sync::Arc;

use turnkeep_core::Seq;
use turnkeep_core::ports::care::{CareStore, Forgot};
use turnkeep_core::ports::store::{Store, StoreError};
use turnkeep_core::ports::switchboard::{
    BoardChange, KeptBoard, KeptRow, KeptSeat, SwitchboardStore, Written,
};

use crate::care::{exchange, order, sweep};
use crate::fixture::{Chat, Home, NOW, key, key_of};

fn row(number: u32, peer: &str, name: Option<&str>) -> KeptRow {
    KeptRow {
        key: key(peer),
        number,
        name: name.map(Into::into),
        created_at: NOW,
        touched_at: NOW + i64::from(number),
        read_seq: Seq(u64::from(number) * 3),
    }
}

fn seat(name: &str, active: Option<&str>, history: &[&str]) -> KeptSeat {
    KeptSeat {
        seat: name.into(),
        active: active.map(key),
        history: history.iter().map(|peer| key(peer)).collect(),
        touched_at: NOW,
    }
}

fn change(rows: &[KeptRow]) -> BoardChange {
    BoardChange { tenant: "tenant".into(), rows: rows.to_vec(), ..BoardChange::default() }
}

async fn board(store: &impl SwitchboardStore) -> KeptBoard {
    store.board("tenant").await.unwrap()
}

async fn names(store: &impl SwitchboardStore) -> Vec<(u32, Option<Arc<str>>)> {
    board(store).await.rows.into_iter().map(|row| (row.number, row.name)).collect()
}

pub(crate) async fn a_board_comes_back_as_it_was_written<H: Home>(home: &H) {
    let strange = "quoted \" and 100 % \u{1f600}";
    let rows = [row(2, "two", Some("api work")), row(10, strange, None), row(1, "one", Some("b"))];
    let seats = [seat("tty2", None, &[]), seat("tty1", Some(strange), &["two", strange, "two"])];
    {
        let store = home.open();
        assert_eq!(board(&store).await, KeptBoard::default());
        let change = BoardChange { seats: seats.to_vec(), last_number: 12, ..change(&rows) };
        assert_eq!(store.write_board(change.clone()).await, Ok(Written::Done));
        assert_eq!(store.write_board(change).await, Ok(Written::Done), "the same again");
        let read = KeptRow { read_seq: Seq(u64::MAX >> 1), ..row(2, "two", None) };
        let change = self::change(std::slice::from_ref(&read));
        assert_eq!(store.write_board(change).await, Ok(Written::Done));
    }
    let read = KeptRow { read_seq: Seq(u64::MAX >> 1), ..row(2, "two", None) };
    let [_, second, first] = rows;
    let [later, sooner] = seats;
    let expected =
        KeptBoard { rows: vec![first, read, second], seats: vec![sooner, later], last_number: 12 };
    assert_eq!(board(&home.open()).await, expected);
}

pub(crate) async fn tenants_have_boards_of_their_own<H: Home>(home: &H) {
    let store = home.open();
    for tenant in ["b", "a", "c"] {
        let row = KeptRow { key: key_of(tenant, "one"), ..row(1, "one", Some("same")) };
        let change = BoardChange { tenant: tenant.into(), ..change(&[row]) };
        assert_eq!(store.write_board(change).await, Ok(Written::Done));
    }
    let tenants = |after, limit| store.board_tenants(after, limit);
    assert_eq!(tenants(None, 9).await.unwrap(), ["a".into(), "b".into(), "c".into()]);
    assert_eq!(tenants(Some("a"), 1).await.unwrap(), ["b".into()]);
    assert_eq!(tenants(Some("c"), 9).await, Ok(Vec::new()));
    assert_eq!(store.board("b").await.unwrap().rows[0].key, key_of("b", "one"));
    assert_eq!(board(&store).await, KeptBoard::default());
    let foreign = BoardChange { tenant: "a".into(), ..change(&[row(7, "x", None)]) };
    let refused = store.write_board(foreign).await;
    assert!(matches!(refused, Err(StoreError::Corrupt(_))), "{refused:?}");
}

pub(crate) async fn a_number_and_a_name_are_one_sessions<H: Home>(home: &H) {
    let store = home.open();
    let rows = [row(1, "one", Some("x")), row(2, "two", None), row(3, "three", None)];
    assert_eq!(store.write_board(change(&rows)).await, Ok(Written::Done));
    let before = board(&store).await;
    let taken = |peer: &str| Ok(Written::Taken(key(peer)));
    let check = |rows: &[KeptRow]| store.write_board(change(rows));
    assert_eq!(check(&[row(9, "nine", None), row(2, "four", None)]).await, taken("four"));
    assert_eq!(check(&[row(4, "four", Some("x"))]).await, taken("four"));
    let twins = [row(5, "five", Some("y")), row(6, "six", Some("y"))];
    assert_eq!(check(&twins).await, taken("six"));
    assert_eq!(check(&[row(5, "five", None), row(5, "six", None)]).await, taken("six"));
    assert_eq!(check(&[row(5, "five", None), row(6, "five", None)]).await, taken("five"));
    assert_eq!(board(&store).await, before, "a refusal changes nothing");
}

pub(crate) async fn names_pass_on_within_one_change<H: Home>(home: &H) {
    let store = home.open();
    let rows = [row(1, "one", Some("x")), row(2, "two", Some("y")), row(3, "three", Some("z"))];
    assert_eq!(store.write_board(change(&rows)).await, Ok(Written::Done));
    let swapped = change(&[row(1, "one", Some("y")), row(2, "two", Some("z"))]);
    let swapped = BoardChange { gone: vec![key("three")], ..swapped };
    assert_eq!(store.write_board(swapped).await, Ok(Written::Done));
    let expected = [(1, Some("y".into())), (2, Some("z".into()))];
    assert_eq!(names(&store).await, expected);
}

pub(crate) async fn who_leaves_is_watched_by_nobody<H: Home>(home: &H) {
    let store = home.open();
    let rows = [row(1, "one", None), row(2, "two", None), row(3, "three", None)];
    let seats = vec![
        seat("a", Some("two"), &["one", "two", "three", "two"]),
        seat("b", Some("one"), &["three"]),
        seat("c", Some("two"), &[]),
    ];
    assert_eq!(store.write_board(BoardChange { seats, ..change(&rows) }).await, Ok(Written::Done));
    let moved = BoardChange {
        gone: vec![key("two"), key("never there")],
        seats: vec![seat("a", Some("three"), &["one", "three"])],
        ..change(&[])
    };
    assert_eq!(store.write_board(moved).await, Ok(Written::Done));
    let left = board(&store).await;
    let expected = [
        seat("a", Some("three"), &["one", "three"]),
        seat("b", Some("one"), &["three"]),
        seat("c", None, &[]),
    ];
    assert_eq!(left.seats, expected);
    assert_eq!(left.rows, [row(1, "one", None), row(3, "three", None)]);
}

pub(crate) async fn numbers_are_not_given_twice<H: Home>(home: &H) {
    let store = home.open();
    store.write_board(change(&[row(7, "seven", None)])).await.unwrap();
    assert_eq!(board(&store).await.last_number, 7);
    let gone = BoardChange { gone: vec![key("seven")], last_number: 3, ..change(&[]) };
    store.write_board(gone).await.unwrap();
    drop(store);
    let empty = KeptBoard { last_number: 7, ..KeptBoard::default() };
    assert_eq!(board(&home.open()).await, empty);
}

pub(crate) async fn a_seat_is_forgotten<H: Home>(home: &H) {
    let store = home.open();
    let seats = vec![seat("a", None, &[]), seat("b", None, &["one"])];
    store.write_board(BoardChange { seats, ..change(&[]) }).await.unwrap();
    let gone = BoardChange { seats_gone: vec!["a".into(), "no".into()], ..change(&[]) };
    assert_eq!(store.write_board(gone).await, Ok(Written::Done));
    assert_eq!(board(&store).await.seats, [seat("b", None, &["one"])]);
}

pub(crate) async fn an_erased_session_leaves_the_board<H: Home>(home: &H) {
    let store = home.open();
    let mut chat = Chat::new("anna");
    exchange(&store, &mut chat, 1, "hello").await;
    let rows = [row(1, "anna", Some("anna's")), row(2, "ben", None)];
    let seats = vec![seat("a", Some("anna"), &["ben", "anna"]), seat("b", Some("ben"), &[])];
    store.write_board(BoardChange { seats, ..change(&rows) }).await.unwrap();
    // A later beginning is no erasure.
    let end = chat.session.last_seq;
    let later = order(&store, &chat.key, end, None).await;
    assert_eq!(store.forget(later).await, Ok(Forgot::Done(0)));
    assert_eq!(board(&store).await.rows.len(), 2);
    sweep(&store, 100).await;
    let erasure = order(&store, &chat.key, end, Some("someone")).await;
    assert_eq!(store.forget(erasure).await, Ok(Forgot::Done(0)));
    let left = board(&store).await;
    assert_eq!(left.rows, [row(2, "ben", None)]);
    assert_eq!(left.seats, [seat("a", None, &["ben"]), seat("b", Some("ben"), &[])]);
    assert_eq!(left.last_number, 2);
}

pub(crate) async fn a_closed_store_writes_no_board<H: Home>(home: &H) {
    let store = home.open();
    store.close().await;
    let refused = store.write_board(change(&[row(1, "one", None)])).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    drop(store);
    assert_eq!(board(&home.open()).await, KeptBoard::default());
}
