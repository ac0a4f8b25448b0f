//! Where a line goes, and as whom it is said.

use super::*;

#[test]
fn no_line_is_taken_while_the_session_changes() {
    for interactive in [true, false] {
        for (typed, answer) in [
            ("/switch 4", other_row()),
            ("/new", other_row()),
            ("/close", json!({ "closed": row(), "next": other_row() })),
        ] {
            let mut plain = here(interactive);
            let (tag, _) = sent(&line(&mut plain, typed));
            assert!(!plain.wants_line(), "{typed}: nobody knows where the next line goes");
            arrive(&mut plain, tag, answer);
            assert!(plain.wants_line(), "{typed}");
            let (_, request) = sent(&line(&mut plain, "hello"));
            assert_eq!(request.body.unwrap()["session"], OTHER, "{typed}");
        }
    }
}

#[test]
fn what_waits_goes_to_the_session_for_which_it_was_typed() {
    let mut plain = here(true);
    let (tag, first) = sent(&line(&mut plain, "hello"));
    plain.hear(Hear::Answer(tag, Err(Failure::Unreachable("it hung up".into()))));
    let (tag, _) = sent(&line(&mut plain, "/switch 4"));
    let todo = plain.hear(Hear::Answer(tag, ok(other_row())));
    let (asked, _) = sent(&todo);
    plain.hear(Hear::Answer(asked, not_found()));
    let todo = plain.hear(Hear::Stream(OTHER.into(), Told::Stands));
    let (tag, again) = sent(&todo);
    assert_eq!(again, first);
    let refused = Failure::Refused { status: 409, kind: String::new(), detail: "full".into() };
    let todo = plain.hear(Hear::Answer(tag, Err(refused)));
    assert_eq!(noted(&todo), ["not taken: in session 3 \"api work\": full"]);
    // What is said elsewhere is not waited for here.
    assert_eq!(plain.hear(Hear::End), [Do::Leave(FAILED)]);
}

#[test]
fn what_follows_a_switch_that_failed_is_said_nowhere() {
    let fail = |interactive, typed: &str| {
        let mut plain = here(interactive);
        let (tag, _) = sent(&line(&mut plain, typed));
        let todo = plain.hear(Hear::Answer(tag, not_found()));
        (plain, todo)
    };
    for typed in ["/switch nope", "/new nope", "/close"] {
        let (_, todo) = fail(false, typed);
        assert_eq!(todo.last(), Some(&Do::Leave(FAILED)), "{typed}");
    }
    let (mut plain, todo) = fail(true, "/switch nope");
    assert_eq!(noted(&todo), ["nobody has written there"]);
    // Two lines that were pasted behind it.
    for text in ["yes", "at once"] {
        let todo = line(&mut plain, text);
        assert!(noted(&todo)[0].starts_with("not sent: it may have been meant for"), "{todo:?}");
    }
    plain.hear(Hear::Tick);
    plain.hear(Hear::Tick);
    // Who read what came of it says it here.
    let (_, request) = sent(&line(&mut plain, "then here"));
    assert_eq!(request.body.unwrap()["session"], KEY);
}

#[test]
fn where_the_last_session_was_closed_nothing_is_said() {
    let mut plain = here(true);
    let (tag, _) = sent(&line(&mut plain, "/close"));
    let closed = json!({ "closed": row(), "next": null, "worktree": "stays: 3 files\u{1b} wait" });
    let todo = plain.hear(Hear::Answer(tag, ok(closed)));
    assert_eq!(
        noted(&todo),
        [
            "session 3 \"api work\" is closed",
            "stays: 3 files␛ wait",
            "there is no other one: /new makes one"
        ]
    );
    let todo = line(&mut plain, "hello");
    assert_eq!(todo, [Do::Note("not sent: there is no session; /new begins one".into())]);
    assert_eq!(noted(&line(&mut plain, "/stop")), ["there is no session; /new begins one"]);
    let (tag, _) = sent(&line(&mut plain, "/new"));
    arrive(&mut plain, tag, other_row());
    let (_, request) = sent(&line(&mut plain, "hello"));
    assert_eq!(request.body.unwrap()["session"], OTHER);
}

#[test]
fn who_types_speaks_as_the_operator_who_has_the_place() {
    let standing = |by: Value, last_seq: u64| ok(json!({ "last_seq": last_seq, "paused": by }));
    let olga = || json!({ "by": "Olga" });
    let path = |plain: &mut Plain, text: &str| {
        let (tag, request) = sent(&line(plain, text));
        plain.hear(Hear::Answer(tag, ok(json!({}))));
        (request.path, request.body.unwrap())
    };
    let reply = format!("/v1/sessions/{}/reply", segment(KEY));
    // The pause is older than anything that is read here.
    let (mut plain, asked) = arrived(true);
    assert!(!plain.wants_line());
    let todo = plain.hear(Hear::Answer(asked, standing(olga(), 7)));
    let words = "Olga has the agent's place: what you type here is said in the agent's place, as \
                 an operator";
    assert_eq!(noted(&todo), [words]);
    assert_eq!(path(&mut plain, "hello"), (reply.clone(), json!({ "text": "hello", "id": "n-1" })));
    event(&mut plain, "session.handed_back", json!({ "seq": 8, "by": "Olga" }));
    assert_eq!(path(&mut plain, "and me").0, "/v1/chat");
    event(&mut plain, "session.paused", json!({ "seq": 9, "by": "Olga" }));
    assert_eq!(path(&mut plain, "again").0, reply);
    // What was typed in the agent's place is said there or nowhere, also when it goes out again.
    let (tag, first) = sent(&line(&mut plain, "once more"));
    plain.hear(Hear::Answer(tag, Err(Failure::Unreachable("it hung up".into()))));
    event(&mut plain, "session.handed_back", json!({ "seq": 10, "by": "Olga" }));
    assert_eq!(sent(&plain.hear(Hear::Stream(KEY.into(), Told::Stands))).1, first);
}

#[test]
fn the_journal_is_the_newer_word_about_a_pause() {
    let standing = json!({ "last_seq": 7, "paused": { "by": "Olga" } });
    let (mut plain, asked) = arrived(true);
    // Nobody answers at first: it is asked again, and no line is taken before.
    plain.hear(Hear::Answer(asked, Err(Failure::Unreachable("it hung up".into()))));
    assert!(!plain.wants_line());
    let (asked, _) = sent(&plain.hear(Hear::Tick));
    event(&mut plain, "session.handed_back", json!({ "seq": 8, "by": "Olga" }));
    assert_eq!(plain.hear(Hear::Answer(asked, ok(standing.clone()))), []);
    assert_eq!(sent(&line(&mut plain, "hello")).1.path, "/v1/chat");
    // A pipe's lines are the user's, whoever answers.
    let (mut plain, asked) = arrived(false);
    let todo = plain.hear(Hear::Answer(asked, ok(standing)));
    let how = format!(
        "Olga has the agent's place, and answers; `turnkeep sessions reply '{KEY}' TEXT` does that"
    );
    assert_eq!(noted(&todo), [how]);
    assert_eq!(sent(&line(&mut plain, "hello")).1.path, "/v1/chat");
}

#[test]
fn a_stop_names_the_turn_that_is_meant() {
    let body = |plain: &mut Plain| sent(&line(plain, "/stop")).1.body.unwrap();
    let (mut plain, asked) = arrived(true);
    plain.hear(Hear::Answer(asked, ok(json!({ "last_seq": 7, "open_turn_id": "t1" }))));
    assert_eq!(body(&mut plain), json!({ "turn_id": "t1" }));
    event(&mut plain, "turn.cancelled", json!({ "seq": 8, "messages": [7], "turn_id": "t1" }));
    assert_eq!(body(&mut plain), json!({}));
    event(&mut plain, "turn.started", json!({ "seq": 9, "turn_id": "t2" }));
    let (tag, request) = sent(&line(&mut plain, "/stop"));
    assert!(request.stops_one_turn());
    // By then another one is open, which nobody meant.
    let todo =
        plain.hear(Hear::Answer(tag, ok(json!({ "result": "other_turn", "turn_id": "t3" }))));
    assert_eq!(noted(&todo), ["that turn is over; /stop again stops the one that is open"]);
    assert_eq!(body(&mut plain), json!({ "turn_id": "t3" }));
}
