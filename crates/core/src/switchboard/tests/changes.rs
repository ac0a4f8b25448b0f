//! What commits say, who reads it, and what is written down of it.

use super::*;
use crate::journal::{DeadReason, Event, EventBody};
use crate::ports::switchboard::KeptRow;

fn unread(board: &Board, number: u32) -> (u32, u64) {
    let row = board.row(number).unwrap();
    (row.unread, row.read_seq.0)
}

#[test]
fn what_was_said_is_unread_until_somebody_read_it() {
    let mut board = with(&["a"]);
    Saw::new(SessionStatus::Processing, 0, 2, &[]).tell(&mut board, "a");
    Saw::new(SessionStatus::Idle, 2, 4, &[3, 4]).tell(&mut board, "a");
    Saw::new(SessionStatus::Processing, 4, 6, &[]).tell(&mut board, "a");
    Saw::new(SessionStatus::Idle, 6, 8, &[8]).tell(&mut board, "a");
    assert_eq!((unread(&board, 1), board.totals().unread), ((3, 0), 3));
    board.read(1, Seq(3), 9).unwrap();
    assert_eq!(unread(&board, 1), (2, 3));
    board.read(1, Seq(2), 9).unwrap();
    assert_eq!(unread(&board, 1), (2, 3), "nothing is unread again");
    // Nobody reads what was not said yet.
    board.read(1, Seq(99), 9).unwrap();
    assert_eq!((unread(&board, 1), board.totals().unread), ((0, 8), 0));
    // The same told twice counts once.
    Saw::new(SessionStatus::Idle, 6, 8, &[8]).tell(&mut board, "a");
    assert_eq!(unread(&board, 1), (0, 8));
    whole(&board);
}

#[test]
fn unread_is_counted_up_to_a_hundred() {
    let mut board = with(&["a"]);
    for turn in 0..150_u64 {
        let (after, last) = (turn * 2, turn * 2 + 2);
        Saw::new(SessionStatus::Idle, after, last, &[last]).tell(&mut board, "a");
    }
    assert_eq!(unread(&board, 1), (100, 0));
    board.read(1, Seq(100), 1).unwrap();
    assert_eq!(unread(&board, 1).0, 100);
    board.read(1, Seq(280), 1).unwrap();
    assert_eq!(unread(&board, 1).0, 10);
}

#[test]
fn a_session_waits_for_what_was_committed() {
    let mut board = with(&["a"]);
    let waits = |board: &Board| {
        let waiting = board.row(1).unwrap().waiting.clone();
        waiting.map(|it| (it.kind, it.text.to_string(), it.question_id.map(|id| id.0)))
    };
    let asked = |id, confirm, words: &str| {
        Some(AskedAt { id: QuestionId(id), confirm, text: text(words), at: 5 })
    };
    saw(&mut board, "a", SessionStatus::Processing, 0, 2);
    let mut asks = Saw::new(SessionStatus::WaitingForInput, 2, 3, &[3]);
    (asks.heard.asked, asks.question) = (asked(1, false, "which?"), Some(1));
    asks.tell(&mut board, "a");
    assert_eq!(waits(&board), Some((WaitingKind::Question, "which?".to_owned(), Some(1))));
    // Having read it is no answer.
    board.read(1, Seq(3), 9).unwrap();
    assert_eq!(board.waiting().len(), 1);
    saw(&mut board, "a", SessionStatus::Processing, 3, 5);
    assert_eq!((waits(&board), board.waiting().len()), (None, 0));
    let mut asks = Saw::new(SessionStatus::WaitingForInput, 5, 6, &[6]);
    (asks.heard.asked, asks.question) = (asked(2, true, "pay?"), Some(2));
    asks.tell(&mut board, "a");
    assert_eq!(waits(&board), Some((WaitingKind::Approval, "pay?".to_owned(), Some(2))));
    saw(&mut board, "a", SessionStatus::WaitingForOperator, 6, 7);
    assert_eq!(waits(&board), Some((WaitingKind::Operator, "help".to_owned(), None)));
    saw(&mut board, "a", SessionStatus::Idle, 7, 9);
    assert_eq!((waits(&board), board.totals().waiting), (None, 0));
    whole(&board);
}

fn failed(board: &mut Board, after: u64, last: u64) {
    let mut fails = Saw::new(SessionStatus::Failed, after, last, &[last]);
    fails.heard.trouble =
        Some(Trouble { seq: Seq(last), text: text("no key"), at: 7, letters: Vec::new() });
    saw(board, "a", SessionStatus::Processing, after, after);
    fails.tell(board, "a");
}

#[test]
fn a_failure_waits_until_it_is_read_or_made_good() {
    let mut board = with(&["a"]);
    let kind = |board: &Board| board.row(1).unwrap().waiting.as_ref().map(|it| it.kind);
    failed(&mut board, 0, 3);
    assert_eq!(kind(&board), Some(WaitingKind::Error));
    board.read(1, Seq(2), 9).unwrap();
    assert_eq!(kind(&board), Some(WaitingKind::Error));
    board.read(1, Seq(3), 9).unwrap();
    assert_eq!((kind(&board), board.row(1).unwrap().state), (None, SessionStatus::Failed));
    failed(&mut board, 3, 6);
    // It is tried again, and there is still something to look at.
    saw(&mut board, "a", SessionStatus::Processing, 6, 8);
    assert_eq!(kind(&board), Some(WaitingKind::Error));
    let mut done = Saw::new(SessionStatus::Idle, 8, 9, &[9]);
    done.heard.relieved = true;
    done.tell(&mut board, "a");
    assert_eq!(kind(&board), None);
}

#[test]
fn what_is_taken_out_of_a_history_is_dropped_here() {
    let mut board = with(&["a"]);
    let shown = |board: &Board| board.row(1).unwrap().waiting.as_ref().unwrap().text.to_string();
    failed(&mut board, 0, 3);
    assert_eq!(shown(&board), "no key");
    let heard = |words: &str| Heard {
        trouble: Some(Trouble { seq: Seq(3), text: text(words), at: 7, letters: Vec::new() }),
        ..Heard::default()
    };
    while board.take_unsure().is_some() {}
    let before = board.version();
    board.redacted(&key("a"));
    assert_eq!(shown(&board), "");
    assert!(board.version() > before);
    let (asked, from) = board.take_unsure().unwrap();
    assert_eq!(asked, key("a"));
    assert!(board.learn(&asked, &heard("another key"), from, Seq(3)));
    assert_eq!((shown(&board), board.take_unsure()), ("another key".to_owned(), None));
    // Whoever was reading when it was taken out brings the old words, and it is read once more.
    board.redacted(&key("a"));
    let (asked, from) = board.take_unsure().unwrap();
    board.redacted(&key("a"));
    assert!(board.learn(&asked, &heard("another key"), from, Seq(3)));
    assert_eq!(board.take_unsure(), Some((asked, from)));
}

#[test]
fn what_no_commit_can_do_is_skipped_and_the_next_one_heals_it() {
    let mut board = with(&["a", "b", "c"]);
    let illegal = Noted::Illegal(SessionStatus::Idle, SessionStatus::Failed);
    assert_eq!(saw(&mut board, "a", SessionStatus::Failed, 0, 2), illegal);
    assert_eq!(board.row(1).unwrap().state, SessionStatus::Idle);
    assert_eq!(saw(&mut board, "a", SessionStatus::Processing, 2, 4), Noted::Changed);
    // What was read from the store is taken as it is.
    let read = Saw { loaded: true, ..Saw::new(SessionStatus::Failed, 0, 2, &[]) };
    assert_eq!(read.tell(&mut board, "b"), Noted::Changed);
    let batch = [
        (key("a"), SessionStatus::Idle),
        (key("b"), SessionStatus::Hibernated),
        (key("nobody"), SessionStatus::Processing),
        (key("c"), SessionStatus::Processing),
    ];
    let told = (key("b"), SessionStatus::Failed, SessionStatus::Hibernated);
    assert_eq!(board.process(&batch), [told]);
    let states: Vec<_> = board.list().iter().map(|row| row.state).collect();
    assert_eq!(states, [SessionStatus::Idle, SessionStatus::Failed, SessionStatus::Processing]);
    board.process(&[(key("b"), SessionStatus::Closed)]);
    assert_eq!(numbers(&mut board), [1, 3]);
    whole(&board);
}

#[test]
fn whoever_looks_again_is_told_what_changed() {
    let mut board = with(&["a", "b", "c"]);
    let version = board.version();
    board.rename(3, Some(&text("x"))).unwrap();
    board.touch(2, 99).unwrap();
    board.close(1, None).unwrap();
    let changes = board.since(version).unwrap();
    let rows: Vec<u32> = changes.rows.iter().map(|row| row.number).collect();
    assert_eq!((rows, changes.gone, changes.version), (vec![2, 3], vec![1], board.version()));
    assert!(board.since(board.version()).unwrap().rows.is_empty());
    assert!(board.since(board.version() + 1).is_none(), "of another life");
    // After too many have left, nobody knows any more who did.
    for peer in 0..1100 {
        let row = board.create(&key(&format!("p{peer}")), None, 1).unwrap().unwrap();
        board.close(row.number, None).unwrap();
    }
    assert!(board.since(version).is_none());
    assert!(board.since(board.version() - 1).is_some());
}

#[test]
fn the_whole_list_is_shared_and_a_change_makes_only_its_part_anew() {
    let peers: Vec<String> = (0..300).map(|peer| format!("p{peer}")).collect();
    let mut board = with(&peers.iter().map(String::as_str).collect::<Vec<_>>());
    let before = board.list();
    assert!(before.is_shared_with(&board.list()));
    board.rename(200, Some(&text("x"))).unwrap();
    let after = board.list();
    assert!(!before.is_shared_with(&after));
    let names = |list: &List| list.iter().filter(|row| row.name.is_some()).count();
    assert_eq!((names(&before), names(&after)), (0, 1));
    let same = before.iter().zip(after.iter()).filter(|(one, two)| Arc::ptr_eq(one, two));
    assert_eq!(same.count(), 299);
    let page = board.page(100, 50, |_| true);
    assert_eq!((page.rows[0].number, page.next), (101, Some(150)));
    assert_eq!(board.page(299, 50, |_| true).next, None);
    let named = board.page(0, 50, |row| row.name.is_some());
    assert_eq!((named.rows.len(), named.next), (1, None));
}

/// What a store keeps that is told every change.
fn keep(board: &mut Board, kept: &mut KeptBoard) {
    while let Some(change) = board.take_unsaved(&text("default")) {
        kept.rows.retain(|row| {
            !change.gone.contains(&row.key) && change.rows.iter().all(|new| new.key != row.key)
        });
        kept.rows.extend(change.rows);
        kept.rows.sort_by_key(|row| row.number);
        kept.seats.retain(|seat| change.seats.iter().all(|new| new.seat != seat.seat));
        kept.seats.extend(change.seats);
        kept.last_number = kept.last_number.max(change.last_number);
    }
}

#[test]
fn a_board_comes_back_as_it_was_kept() {
    let mut board = with(&["a", "b", "c"]);
    let mut kept = KeptBoard::default();
    board.rename(2, Some(&text("api work"))).unwrap();
    board.switch(&text("tty"), 2, 50).unwrap();
    board.switch(&text("tty"), 3, 51).unwrap();
    board.close(1, None).unwrap();
    Saw::new(SessionStatus::Idle, 0, 4, &[2, 4]).tell(&mut board, "c");
    board.read(3, Seq(2), 52).unwrap();
    keep(&mut board, &mut kept);
    let seat = KeptSeat {
        seat: text("tty"),
        active: Some(key("c")),
        history: vec![key("b")],
        touched_at: 51,
    };
    assert_eq!(kept.seats, [seat]);
    let mut again = Board::new(Limits::default(), id_of).restored(&kept);
    whole(&again);
    let rows: Vec<_> = again.list().iter().map(|row| (row.number, row.name.clone())).collect();
    assert_eq!(rows, [(2, Some(text("api work"))), (3, None)]);
    assert_eq!(active(&again, "tty"), Some(3));
    assert_eq!(again.create(&key("d"), None, 60).unwrap().unwrap().number, 4);
    // What its journal says is found out.
    let (first, _) = again.take_unsure().unwrap();
    let (second, from) = again.take_unsure().unwrap();
    assert_eq!((first, second.clone(), from), (key("b"), key("c"), Seq(2)));
    let heard = Heard { said: vec![Seq(4)], ..Heard::default() };
    let read = Saw { loaded: true, ..Saw::new(SessionStatus::Idle, 4, 4, &[]) };
    read.tell(&mut again, "c");
    assert!(!again.learn(&second, &heard, from, Seq(3)), "more was said since");
    assert!(again.learn(&second, &heard, from, Seq(4)));
    assert_eq!(unread(&again, 3), (1, 2));
}

#[test]
fn what_could_not_be_written_is_as_it_was() {
    let mut board = with(&["a", "b"]);
    let mut kept = KeptBoard::default();
    board.rename(1, Some(&text("x"))).unwrap();
    board.switch(&text("tty"), 1, 9).unwrap();
    keep(&mut board, &mut kept);
    let version = board.version();
    // None of this reaches the store.
    board.rename(1, Some(&text("y"))).unwrap();
    board.rename(2, Some(&text("x"))).unwrap();
    board.create(&key("made"), Some(&text("z")), 10).unwrap();
    board.close(2, None).unwrap();
    board.switch(&text("tty"), 3, 11).unwrap();
    saw(&mut board, "came", SessionStatus::Processing, 0, 2);
    let mut board = board.restored(&kept);
    whole(&board);
    let rows = board.list();
    let rows: Vec<_> = rows.iter().map(|row| (row.number, row.key.peer())).collect();
    assert_eq!(rows, [(1, "a".to_owned()), (2, "b".to_owned()), (4, "came".to_owned())]);
    assert_eq!(board.find("x").unwrap().number, 1);
    assert_eq!(active(&board, "tty"), Some(1));
    assert!(board.since(version).is_none(), "whoever watches is told everything");
    keep(&mut board, &mut kept);
    assert_eq!(kept.rows.len(), 3);
    assert_eq!(board.create(&key("next"), None, 12).unwrap().unwrap().number, 5);
}

#[test]
fn what_people_do_is_written_before_what_comes_by_itself() {
    let mut board = board();
    for peer in 0..700 {
        saw(&mut board, &format!("p{peer}"), SessionStatus::Processing, 0, 2);
    }
    board.rename(700, Some(&text("x"))).unwrap();
    let first = board.take_unsaved(&text("default")).unwrap();
    assert_eq!((first.len(), first.rows[0].number), (512, 700));
    let KeptRow { name, .. } = &first.rows[0];
    assert_eq!(name.as_deref(), Some("x"));
    assert_eq!(board.take_unsaved(&text("default")).unwrap().rows.len(), 188);
    assert_eq!(board.take_unsaved(&text("default")), None);
}

#[test]
fn an_erased_session_that_begins_again_is_unread_from_its_first_place() {
    let mut board = with(&["a"]);
    Saw::new(SessionStatus::Idle, 0, 9, &[9]).tell(&mut board, "a");
    board.read(1, Seq(9), 10).unwrap();
    Saw::new(SessionStatus::Idle, 0, 3, &[3]).tell(&mut board, "a");
    assert_eq!(unread(&board, 1), (1, 0));
    board.remove(&key("a")).unwrap();
    assert_eq!((numbers(&mut board), board.remove(&key("a"))), (vec![], None));
}

#[test]
fn a_journal_is_heard() {
    let turn_id = crate::TurnId::default();
    let event = |seq, body| Event { seq: Seq(seq), at: 10 + i64::try_from(seq).unwrap(), body };
    let failed = |words: &str| EventBody::TurnFailed {
        turn_id,
        reason: DeadReason::AgentFailed,
        error: words.into(),
        messages: crate::Seqs::from_slice(&[Seq(8), Seq(9)]),
        acts: crate::Seqs::new(),
    };
    let reset = EventBody::SessionReset { generation: crate::Generation(1) };
    let asks = EventBody::TurnWaitingForInput {
        turn_id,
        question_id: QuestionId(3),
        text: "May I\n pay?".into(),
        confirm: true,
    };
    let heard = Heard::of(&[
        event(1, failed("one")),
        event(2, reset),
        event(3, EventBody::notice("told".into())),
        event(4, asks),
        event(5, failed("two")),
        event(6, EventBody::MessageDiscarded { message: Seq(8) }),
    ]);
    let expect = Heard {
        said: vec![Seq(3), Seq(4)],
        asked: Some(AskedAt { id: QuestionId(3), confirm: true, text: text("May I pay?"), at: 14 }),
        trouble: Some(Trouble { seq: Seq(5), text: text("two"), at: 15, letters: vec![Seq(9)] }),
        relieved: true,
        discarded: vec![Seq(8)],
    };
    assert_eq!(heard, expect);
}
