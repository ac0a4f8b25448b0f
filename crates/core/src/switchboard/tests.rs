//! What people and tasks do to a board, and what is to be seen of it then.

use super::heard::{AskedAt, Trouble};
use super::*;
use crate::SessionKind;
use crate::ports::switchboard::{KeptBoard, KeptSeat, SEATS_MAX};

mod changes;

/// A hash of sorts, so that ids differ.
pub(super) fn id_of(key: &SessionKey) -> RowId {
    let mix = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    RowId::of_hash(key.as_str().bytes().fold(0xcbf2_9ce4_8422_2325, mix).to_be_bytes())
}

fn key(peer: &str) -> SessionKey {
    SessionKey::new("default", "default", "terminal", SessionKind::Main, peer).unwrap()
}

fn board() -> Board {
    Board::new(Limits::default(), id_of)
}

fn text(text: &str) -> Arc<str> {
    text.into()
}

/// A board with these sessions, made at the moments 1, 2, 3, …
fn with(peers: &[&str]) -> Board {
    let mut board = board();
    for (peer, at) in peers.iter().zip(1..) {
        board.create(&key(peer), None, at).unwrap().unwrap();
    }
    board
}

fn numbers(board: &mut Board) -> Vec<u32> {
    board.list().iter().map(|row| row.number).collect()
}

fn active(board: &Board, seat: &str) -> Option<u32> {
    board.active(seat).map(|row| row.number)
}

fn whole(board: &Board) {
    assert_eq!(board.faults(), Vec::<String>::new());
}

/// What a task sees after a commit of entries up to `last` that said something at these places.
struct Saw {
    heard: Heard,
    state: SessionStatus,
    after: u64,
    last: u64,
    question: Option<u32>,
    loaded: bool,
}

impl Saw {
    fn new(state: SessionStatus, after: u64, last: u64, said: &[u64]) -> Self {
        let said = said.iter().map(|seq| Seq(*seq)).collect();
        let heard = Heard { said, ..Heard::default() };
        Self { heard, state, after, last, question: None, loaded: false }
    }

    fn tell(&self, board: &mut Board, peer: &str) -> Noted {
        let seen = Observed {
            state: self.state,
            queued: 0,
            after: Seq(self.after),
            last_seq: Seq(self.last),
            updated_at: i64::try_from(self.last).unwrap(),
            heard: &self.heard,
            question: self.question.map(QuestionId),
            for_operator: Some(text("help")),
            resources: Resources::default(),
            loaded: self.loaded,
        };
        board.observe(&key(peer), &seen, i64::try_from(self.last).unwrap())
    }
}

fn saw(board: &mut Board, peer: &str, state: SessionStatus, after: u64, last: u64) -> Noted {
    Saw::new(state, after, last, &[]).tell(board, peer)
}

#[test]
fn sessions_are_numbered_as_they_come_and_no_number_comes_twice() {
    let mut board = with(&["a", "b", "c"]);
    board.close(2, None).unwrap();
    assert_eq!(saw(&mut board, "d", SessionStatus::Accumulating, 0, 2), Noted::Entered(4));
    assert_eq!(numbers(&mut board), [1, 3, 4]);
    // The same session again is another row.
    board.create(&key("b"), None, 9).unwrap();
    assert_eq!(numbers(&mut board), [1, 3, 4, 5]);
    assert_eq!(board.create(&key("b"), None, 10).unwrap().unwrap().number, 5);
    whole(&board);
}

#[test]
fn a_session_is_found_by_what_it_is_called() {
    let mut board = with(&["a", "b", "c"]);
    board.rename(2, Some(&text("api work"))).unwrap();
    let ids: Vec<String> = board.list().iter().map(|row| row.id.to_string()).collect();
    let check = |asked: &str, expect: Option<u32>| {
        let found = board.find(asked).ok().map(|row| row.number);
        assert_eq!(found, expect, "{asked:?}");
    };
    check("1", Some(1));
    check("001", Some(1));
    check("4", None);
    check("99999999999999", None);
    check("api work", Some(2));
    check(" api work ", Some(2));
    check("api", None);
    check("", None);
    check(&ids[2], Some(3));
    check(&ids[2][..11], Some(3));
    check(&ids[2].to_uppercase(), ids[2].bytes().all(|b| b.is_ascii_digit()).then_some(3));
    check("default:default:terminal:main:c", Some(3));
    check("default:default:terminal:main:d", None);
    check("zz", None);
}

#[test]
fn the_beginning_of_an_id_has_to_mean_one_session() {
    let same = |key: &SessionKey| {
        let last = key.peer().as_bytes()[0];
        RowId::of_hash([0xab, 0xcd, 0xef, 0, 0, last, 0, 0])
    };
    let mut board = Board::new(Limits::default(), same);
    for peer in "abcdefghijkl".chars() {
        board.create(&key(&peer.to_string()), None, 1).unwrap();
    }
    let Err(Missing::Ambiguous(candidates)) = board.find("abcdef") else { panic!() };
    let candidates: Vec<u32> = candidates.iter().map(|row| row.number).collect();
    assert_eq!(candidates, (1..=10).collect::<Vec<u32>>());
    assert_eq!(board.find("abcdef000063").unwrap().number, 3);
    assert_eq!(board.find("a"), Err(Missing::Unknown), "too short");
    // An exact name comes first.
    board.rename(7, Some(&text("abcdef"))).unwrap();
    assert_eq!(board.find("abcdef").unwrap().number, 7);
}

#[test]
fn a_name_belongs_to_one_session() {
    let mut board = with(&["a", "b"]);
    board.rename(1, Some(&text("x"))).unwrap();
    assert_eq!(board.rename(2, Some(&text("x"))), Err(1));
    assert_eq!(board.create(&key("c"), Some(&text("x")), 3), Err(1));
    assert_eq!(board.rename(1, Some(&text("x"))).unwrap().unwrap().number, 1);
    board.rename(1, Some(&text("y"))).unwrap();
    board.rename(2, Some(&text("x"))).unwrap();
    board.rename(1, None).unwrap();
    assert_eq!(board.find("y"), Err(Missing::Unknown));
    assert_eq!(board.rename(9, None), Ok(None));
    // A closed one gives its name back.
    board.close(2, None).unwrap();
    assert_eq!(board.rename(1, Some(&text("x"))).unwrap().unwrap().name, Some(text("x")));
    whole(&board);
}

#[test]
fn closing_what_a_seat_looks_at_shows_what_it_looked_at_before() {
    let check = |switches: &[u32], close: &[u32], expect: Option<u32>| {
        let mut board = with(&["a", "b", "c", "d"]);
        for number in switches {
            board.switch(&text("tty"), *number, 9).unwrap();
        }
        let mut next = None;
        for number in close {
            next = board.close(*number, Some("tty")).unwrap().next.map(|row| row.number);
            whole(&board);
        }
        assert_eq!((next, active(&board, "tty")), (expect, expect), "{switches:?} {close:?}");
    };
    check(&[1, 2, 3], &[3], Some(2));
    check(&[1, 2, 3], &[2, 3], Some(1));
    check(&[1, 2, 1, 3], &[3], Some(1));
    check(&[3, 3], &[3], Some(4));
    check(&[4], &[4], Some(3));
    check(&[2], &[2, 3, 4], Some(1));
    check(&[2], &[2, 3, 4, 1], None);
    check(&[1, 2], &[3], Some(2));
    check(&[], &[1], None);
}

#[test]
fn each_seat_has_its_own_active_session() {
    let mut board = with(&["a", "b", "c"]);
    let (one, two) = (text("one"), text("two"));
    board.switch(&one, 1, 5).unwrap();
    let row = board.switch(&two, 1, 6).unwrap();
    assert_eq!(row.active[..], [text("one"), text("two")]);
    board.switch(&two, 3, 7).unwrap();
    assert_eq!((active(&board, "one"), active(&board, "two")), (Some(1), Some(3)));
    assert_eq!(board.switch(&one, 9, 8), None);
    // Closed by the one, and the other one looks at it too.
    board.switch(&two, 1, 8).unwrap();
    let closed = board.close(1, Some("one")).unwrap();
    assert_eq!(closed.next.unwrap().number, 2);
    assert_eq!(active(&board, "two"), Some(3));
    whole(&board);
}

#[test]
fn the_seat_that_was_used_longest_ago_goes() {
    let mut board = with(&["a"]);
    let seats = i64::try_from(SEATS_MAX).unwrap();
    for at in 0..=seats {
        board.switch(&text(&format!("s{at}")), 1, 100 + at).unwrap();
    }
    assert_eq!(board.seats().count(), SEATS_MAX);
    assert_eq!((active(&board, "s0"), active(&board, "s1")), (None, Some(1)));
    assert_eq!(board.row(1).unwrap().active.len(), SEATS_MAX);
    let tenant = text("default");
    let change = board.take_unsaved(&tenant).unwrap();
    assert_eq!((change.seats_gone, change.seats.len()), (vec![text("s0")], SEATS_MAX));
    whole(&board);
}

#[test]
fn the_oldest_idle_session_that_nobody_knows_makes_room() {
    let limits = Limits { sessions_max: 4, ..Limits::default() };
    let mut board = Board::new(limits, id_of);
    for (peer, at) in [("named", 1), ("watched", 2), ("unread", 3), ("idle", 4)] {
        board.create(&key(peer), None, at).unwrap();
    }
    board.rename(1, Some(&text("x"))).unwrap();
    board.switch(&text("tty"), 2, 2).unwrap();
    Saw::new(SessionStatus::Idle, 0, 3, &[3]).tell(&mut board, "unread");
    // One that comes by itself waits a minute for it.
    let new = |board: &mut Board, now: i64| {
        let heard = Heard::default();
        let seen = Observed {
            state: SessionStatus::Accumulating,
            queued: 1,
            after: Seq(0),
            last_seq: Seq(2),
            updated_at: now,
            heard: &heard,
            question: None,
            for_operator: None,
            resources: Resources::default(),
            loaded: false,
        };
        board.observe(&key(&format!("new{now}")), &seen, now)
    };
    assert_eq!(new(&mut board, 60_002), Noted::LeftOut);
    assert_eq!(new(&mut board, 60_004), Noted::Entered(5));
    assert_eq!(numbers(&mut board), [1, 2, 3, 5]);
    // Last of all one that nobody has read.
    assert_eq!(new(&mut board, 9_000_000), Noted::Entered(6));
    assert_eq!(numbers(&mut board), [1, 2, 5, 6]);
    assert_eq!(new(&mut board, 9_000_001), Noted::LeftOut, "nobody can make room");
    assert_eq!(board.create(&key("wanted"), None, 9_000_000), Ok(None));
    whole(&board);
    // Behind an outage those that failed make room too, and which were given up wait for nobody.
    let failed = |discarded: &[Seq]| {
        let trouble =
            Trouble { seq: Seq(3), text: text("gone"), at: 1, letters: vec![Seq(1), Seq(2)] };
        let trouble = Some(trouble);
        Heard { trouble, discarded: discarded.to_vec(), ..Heard::default() }
    };
    let mut down = Board::new(Limits { sessions_max: 2, ..limits }, id_of);
    for (peer, heard) in [("given up", failed(&[Seq(1), Seq(2)])), ("failed", failed(&[Seq(2)]))] {
        down.create(&key(peer), None, 1).unwrap();
        let saw = Saw::new(SessionStatus::Failed, 0, 3, &[]);
        Saw { heard, loaded: true, ..saw }.tell(&mut down, peer);
    }
    let waits = |board: &Board| -> Vec<bool> {
        board.rows.values().map(|entry| entry.row.waiting.is_some()).collect()
    };
    assert_eq!(waits(&down), [false, true]);
    assert_eq!(new(&mut down, 9_000_000), Noted::Entered(3));
    assert_eq!(numbers(&mut down), [2, 3]);
    assert_eq!(new(&mut down, 9_000_001), Noted::Entered(4));
    assert_eq!(numbers(&mut down), [3, 4]);
    whole(&down);
    // What retired is not deleted, and comes back when it says something.
    board.rename(1, None).unwrap();
    assert!(board.create(&key("idle"), None, 10).unwrap().is_some());
    assert_eq!(numbers(&mut board), [2, 5, 6, 7]);
}

#[test]
fn a_person_wakes_what_sleeps_and_cleaning_touches_nothing_busy() {
    let mut board = with(&["a", "b", "c", "d", "e"]);
    let hour = 3_600_000;
    saw(&mut board, "b", SessionStatus::Processing, 0, 2);
    Saw { question: Some(1), ..Saw::new(SessionStatus::WaitingForInput, 2, 4, &[4]) }
        .tell(&mut board, "b");
    saw(&mut board, "c", SessionStatus::Accumulating, 0, 2);
    board.touch(4, hour).unwrap();
    let cleaned = board.cleanup(hour, 0, 100);
    assert_eq!(cleaned, Cleaned { hibernated: vec![key("a"), key("e")], repaired: 0, next: None });
    assert_eq!(board.row(1).unwrap().state, SessionStatus::Hibernated);
    assert_eq!(board.cleanup(hour, 0, 100), Cleaned::default());
    // Looking at it wakes nobody, speaking does.
    let looked = Saw { loaded: true, ..Saw::new(SessionStatus::Idle, 0, 0, &[]) };
    looked.tell(&mut board, "a");
    assert_eq!(board.row(1).unwrap().state, SessionStatus::Hibernated);
    saw(&mut board, "a", SessionStatus::Processing, 0, 2);
    assert_eq!(board.touch(5, hour + 1).unwrap().state, SessionStatus::Idle);
    let states = board.list().iter().map(|row| states::word(row.state)).collect::<Vec<_>>();
    assert_eq!(states, ["processing", "waiting_for_input", "accumulating", "idle", "idle"]);
    whole(&board);
}

#[test]
fn a_look_at_a_large_board_is_taken_in_parts() {
    let peers: Vec<String> = (0..300).map(|peer| format!("p{peer}")).collect();
    let mut board = with(&peers.iter().map(String::as_str).collect::<Vec<_>>());
    let (mut after, mut looks, mut hibernated) = (Some(0), 0, 0);
    while let Some(place) = after {
        let cleaned = board.cleanup(3_600_000, place, 64);
        hibernated += cleaned.hibernated.len();
        after = cleaned.next;
        looks += 1;
    }
    assert_eq!((hibernated, looks), (300, 5));
    whole(&board);
}

#[test]
fn what_does_not_fit_is_mended() {
    let mut board = with(&["a", "b", "c"]);
    board.rename(1, Some(&text("x"))).unwrap();
    board.switch(&text("one"), 1, 5).unwrap();
    board.switch(&text("one"), 2, 6).unwrap();
    board.switch(&text("two"), 3, 7).unwrap();
    let sound = board.clone();
    let check = |repaired: usize, how: &dyn Fn(&mut Board)| {
        let mut board = sound.clone();
        how(&mut board);
        assert_eq!(board.faults().is_empty(), repaired == 0);
        assert_eq!(board.cleanup(10, 0, 100).repaired, repaired);
        whole(&board);
    };
    check(0, &|_| ());
    check(2, &|board| board.seats.get_mut("two").unwrap().active = Some(9));
    check(1, &|board| board.seats.get_mut("one").unwrap().history.push_back(9));
    check(1, &|board| {
        board.by_name.clear();
    });
    check(1, &|board| {
        board.by_key.remove(&key("c"));
    });
    check(1, &|board| {
        board.by_id.pop_first();
    });
    check(1, &|board| {
        board.change(3, |entry| Arc::make_mut(&mut entry.row).active.clear());
    });
    check(1, &|board| {
        board.change(1, |entry| Arc::make_mut(&mut entry.row).active.push(text("nobody")));
    });
}

#[test]
fn what_a_panic_left_is_put_in_order() {
    let mut board = with(&["a", "b", "c"]);
    board.rename(2, Some(&text("api work"))).unwrap();
    board.switch(&text("tty"), 3, 9);
    board.switch(&text("tty"), 2, 9);
    Saw::new(SessionStatus::Failed, 0, 3, &[3]).tell(&mut board, "c");
    let (before, version) = (board.list(), board.version());
    // In the middle of changes of all sorts.
    board.by_name.clear();
    board.by_key.remove(&key("b"));
    board.totals = Totals::default();
    board.changed.clear();
    board.waiting.insert(1);
    board.pieces.clear();
    assert!(board.faults().len() > 3);
    board.mend();
    whole(&board);
    assert!(board.list().iter().eq(before.iter()));
    assert_eq!((active(&board, "tty"), board.row(3).unwrap().unread), (Some(2), 1));
    assert!(board.since(version).is_none(), "whoever watches is told everything");
    assert_eq!(board.close(2, Some("tty")).unwrap().next.unwrap().number, 3);
    whole(&board);
}
