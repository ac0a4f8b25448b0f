//! A conversation that was had elsewhere is history here, and nothing else.

use super::*;
use crate::import::Import;
use crate::journal::{EventBody, Heard, Imported, ImportedLine, ImportedRole};

fn import(texts: &[&str], forgotten: usize) -> Control {
    let line = |text: &&str| ImportedLine {
        role: ImportedRole::User,
        text: (*text).into(),
        said_at: 5,
        heard: Heard::Said,
        sender: Some("ann".into()),
        by: None,
    };
    let head = Imported {
        from: "t:a:web:dm:ann".into(),
        saved_at: 7,
        lines: u32::try_from(texts.len()).unwrap(),
        sha256: "00".into(),
        by: None,
    };
    let lines = texts.iter().map(line).collect();
    Control::Import(Arc::new(Import { head, lines, forgotten }))
}

#[test]
fn nothing_of_it_is_run_or_told() {
    let mut bench = Bench::new(BusyPolicy::Collect);
    assert_eq!(bench.control(import(&["one", "two"], 0)), Controlled::Imported(2));
    assert_eq!(bench.session.status(), SessionStatus::Idle);
    assert_eq!((bench.session.last_seq, bench.session.history_from), (Seq(3), Seq(0)));
    assert_eq!(bench.last.effects.len(), 1, "only the answer");
    assert_eq!((bench.checker.accepted(), bench.checker.imported()), (0, 2));
    // It goes on like any other.
    bench.say("three");
    bench.finish("reply");
    assert_eq!(bench.checker.committed(), 1);
}

#[test]
fn the_agent_gets_what_stands_behind_the_last_new_conversation() {
    let mut bench = Bench::new(BusyPolicy::Collect);
    bench.control(import(&["one", "two", "three"], 2));
    assert_eq!(bench.session.history_from, Seq(3));
}

#[test]
fn it_is_a_beginning_or_nothing() {
    let mut bench = Bench::new(BusyPolicy::Collect);
    bench.say("hello");
    assert_eq!(bench.control(import(&["one"], 0)), Controlled::NotNew);
    assert_eq!(bench.last.ignored, Some(Ignored::NothingToControl));
    let mut bench = Bench::new(BusyPolicy::Collect);
    bench.control(import(&[], 0));
    assert_eq!(bench.control(import(&["one"], 0)), Controlled::NotNew);
}

#[test]
fn the_checker_knows_a_broken_import() {
    let Control::Import(import) = import(&["one", "two"], 0) else { unreachable!() };
    let head = EventBody::SessionImported(Box::new(import.head.clone()));
    let line = EventBody::HistoryImported(Box::new(import.lines[0].clone()));
    let check = |bodies: &[&EventBody], expect: &str| {
        let mut checker = Checker::new();
        for (place, body) in bodies.iter().enumerate() {
            let seq = Seq(place as u64 + 1);
            checker.observe(&crate::Event { seq, at: 0, body: (*body).clone() });
        }
        let last_seq = Seq(bodies.len() as u64);
        checker.finish(&Session { last_seq, ..Session::new() });
        let found: Vec<String> = checker.violations().iter().map(ToString::to_string).collect();
        assert_eq!(found, [expect]);
    };
    check(&[&line], "I32 at journal place 1: an imported line belongs to no import");
    check(&[&head, &line], "I32 at journal place 2: 1 imported lines are missing");
    let other = EventBody::SessionReopened;
    check(
        &[&head, &line, &other],
        "I32 at journal place 3: an import ends before its last 1 lines",
    );
    check(
        &[&other, &head, &line, &line],
        "I32 at journal place 2: an import does not stand at the journal's beginning",
    );
}
