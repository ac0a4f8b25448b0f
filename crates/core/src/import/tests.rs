//! Files line by line: what becomes of them, and what is said of those that are broken.

use serde_json::{Value, json};

use super::*;
use crate::journal::ImportedRole;

const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn header(last: u64) -> Value {
    json!({ "format": FORMAT, "version": 1, "saved_at": "2026-05-01T10:00:00Z",
            "session": "default:default:web:dm:ann", "name": null, "first_seq": 1,
            "last_seq": last })
}

fn end(events: u64) -> Value {
    json!({ "type": "end", "events": events, "sha256": HASH })
}

fn accepted(seq: u64, text: &str) -> Value {
    json!({ "seq": seq, "at": 1000 + seq, "type": "message.accepted", "message_id": "m",
            "sender": "ann", "text": text, "trust": "public", "action": "event_sent" })
}

fn reply(seq: u64, text: &str) -> Value {
    json!({ "seq": seq, "at": 1000 + seq, "type": "turn.completed", "attempt": 1, "epoch": 1,
            "turn_id": "00000000-0000-0000-0000-000000000001", "messages": [1], "reply": text })
}

fn with(mut event: Value, name: &str, value: Value) -> Value {
    event[name] = value;
    event
}

fn read(lines: &[Value]) -> Result<Import, FileError> {
    let mut reader = Reader::new();
    for line in lines {
        reader.take(line.to_string().as_bytes())?;
    }
    reader.import(None)
}

/// The file with these entries.
fn file(events: &[Value]) -> Vec<Value> {
    let count = events.len() as u64;
    let mut lines = vec![header(count)];
    lines.extend(events.iter().cloned());
    lines.push(end(count));
    lines
}

fn said(events: &[Value]) -> Vec<(ImportedRole, String, Heard)> {
    let lines = read(&file(events)).unwrap().lines;
    lines.into_iter().map(|line| (line.role, line.text.to_string(), line.heard)).collect()
}

#[test]
fn what_was_said_is_taken_with_who_said_it_and_when() {
    let import = read(&file(&[accepted(1, "hi"), reply(2, "hello")])).unwrap();
    assert_eq!((&*import.head.from, import.head.lines), ("default:default:web:dm:ann", 2));
    assert_eq!((&*import.head.sha256, import.head.saved_at), (HASH, 1_777_629_600_000));
    let line = |role, text: &str, said_at, sender: Option<&str>| ImportedLine {
        role,
        text: text.into(),
        said_at,
        heard: Heard::Said,
        sender: sender.map(Into::into),
        by: None,
    };
    let expect = [
        line(ImportedRole::User, "hi", 1001, Some("ann")),
        line(ImportedRole::Agent, "hello", 1002, None),
    ];
    assert_eq!(import.lines, expect);
    assert_eq!(import.forgotten, 0);
    assert_eq!(read(&file(&[])).unwrap().lines, []);
}

#[test]
fn what_the_agent_never_got_it_never_gets() {
    let held = with(accepted(1, "held"), "held", json!(true));
    let refused =
        json!({ "seq": 3, "at": 1, "type": "guard.refused", "message": 2, "by_default": false });
    let second = with(accepted(2, "refused"), "held", json!(true));
    let allowed =
        json!({ "seq": 5, "at": 1, "type": "guard.allowed", "message": 4, "by_default": false });
    let third = with(accepted(4, "allowed"), "held", json!(true));
    let notice = json!({ "seq": 6, "at": 1, "type": "session.notice", "text": "sorry" });
    let told = json!({ "seq": 7, "at": 1, "type": "session.notice", "text": "parcel", "source": "unasked" });
    let command = json!({ "seq": 8, "at": 1, "type": "message.command", "message_id": "m", "sender": "ann",
                          "text": "/status", "trust": "public", "command": "say" });
    let said = said(&[held, second, refused, third, allowed, notice, told, command]);
    let expect = [
        (ImportedRole::User, "held".to_owned(), Heard::Never),
        (ImportedRole::User, "refused".to_owned(), Heard::Never),
        (ImportedRole::User, "allowed".to_owned(), Heard::Said),
        (ImportedRole::Notice, "sorry".to_owned(), Heard::Never),
        (ImportedRole::Notice, "parcel".to_owned(), Heard::Said),
        (ImportedRole::User, "/status".to_owned(), Heard::Never),
    ];
    assert_eq!(said, expect);
}

#[test]
fn a_retried_message_was_said_once_and_an_erased_one_not_at_all() {
    let again = with(accepted(3, "again"), "retry_of", json!(1));
    let said = said(&[accepted(1, "again"), accepted(2, ""), again]);
    assert_eq!(said, [(ImportedRole::User, "again".to_owned(), Heard::Said)]);
}

#[test]
fn a_new_conversation_forgets_what_was_before_it() {
    let reset = |seq: u64| json!({ "seq": seq, "at": 1, "type": "session.reset", "generation": 1 });
    let again = with(accepted(2, "a"), "retry_of", json!(1));
    let import = read(&file(&[accepted(1, "a"), again, reset(3), accepted(4, "b")])).unwrap();
    assert_eq!((import.lines.len(), import.forgotten), (2, 1));
}

/// Here nobody would take it out when its time is over.
#[test]
fn what_disappears_is_not_imported_and_what_was_said_to_it_neither() {
    let timed = with(accepted(1, "secret"), "disappears_s", json!(60));
    let other = with(reply(4, "hello"), "messages", json!([3]));
    let other = with(other, "turn_id", json!("00000000-0000-0000-0000-000000000002"));
    let said = said(&[timed, reply(2, "you said secret"), accepted(3, "hi"), other]);
    let expect = [
        (ImportedRole::User, "hi".to_owned(), Heard::Said),
        (ImportedRole::Agent, "hello".to_owned(), Heard::Said),
    ];
    assert_eq!(said, expect);
}

#[test]
fn an_imported_conversation_can_be_saved_and_imported_again() {
    let head = json!({ "seq": 1, "at": 9, "type": "session.imported", "from": "a:b:web:dm:c",
                       "saved_at": 1, "lines": 1, "sha256": HASH });
    let line = json!({ "seq": 2, "at": 9, "type": "history.imported", "role": "operator",
                       "text": "hello", "said_at": 5, "by": "Olga" });
    let import = read(&file(&[head, line])).unwrap();
    assert_eq!(&*import.head.from, "default:default:web:dm:ann");
    let [line] = &import.lines[..] else { panic!("{:?}", import.lines) };
    assert_eq!(
        (line.role, line.said_at, line.by.as_deref()),
        (ImportedRole::Operator, 5, Some("Olga"))
    );
}

#[test]
fn a_broken_file_is_refused_by_line_and_field() {
    let check = |lines: &[Value], expect: &str| {
        let refused = read(lines).map(|import| import.lines.len());
        assert_eq!(refused.map_err(|error| error.to_string()), Err(expect.to_owned()));
    };
    let [first, last] = [header(1), end(1)];
    check(&[], "line 1: line is missing: the file was cut off");
    check(&[json!([1])], "line 1: line is no JSON object");
    check(&[json!({})], "line 1: format must be \"turnkeep.session\"");
    let other = with(first.clone(), "version", json!(2));
    check(&[other], "line 1: version is 2, and this Turnkeep reads version 1");
    let unnamed = with(first.clone(), "session", json!("nobody"));
    check(
        &[unnamed],
        "line 1: session is no session's key: a session key has five parts, \
         tenant:agent:channel:kind:peer; this has 1",
    );
    let typed = with(first.clone(), "last_seq", json!("x"));
    check(&[typed], "line 1: last_seq can't be read: invalid type: string \"x\", expected u64");
    let backwards = with(first.clone(), "first_seq", json!(3));
    check(&[backwards], "line 1: first_seq must be from 1 to the place after last_seq");
    check(std::slice::from_ref(&first), "line 2: line is missing: the file was cut off");
    check(&[first.clone(), last.clone()], "line 2: line ends it at place 0, not at last_seq 1");
    check(&[first.clone(), accepted(2, "x")], "line 2: seq is 2, and 1 comes next (last_seq is 1)");
    let wrong = with(accepted(1, "x"), "text", json!(5));
    check(
        &[first.clone(), wrong],
        "line 2: text can't be read: invalid type: integer `5`, expected a string",
    );
    let mut lacks = accepted(1, "x");
    lacks.as_object_mut().unwrap().remove("sender");
    check(&[first.clone(), lacks], "line 2: sender is missing");
    check(
        &[first.clone(), json!({ "seq": 1, "at": 1, "type": "turn.danced" })],
        "line 2: type \"turn.danced\" is not known here; it may be a newer Turnkeep's",
    );
    check(&[first.clone(), accepted(1, "x"), end(2)], "line 3: events says 2, and there are 1");
    let unhashed = with(last.clone(), "sha256", json!("12"));
    check(
        &[first.clone(), accepted(1, "x"), unhashed],
        "line 3: sha256 must be 64 lower-case hexadecimal digits",
    );
    check(&[first, accepted(1, "x"), last, json!({})], "line 4: line stands behind the end");
    let twice = header(1).to_string().replace('{', "{\"\":0,\"last_seq\":7,");
    let refused = Reader::new().take(twice.as_bytes()).unwrap_err().to_string();
    assert_eq!(refused, "line 1: last_seq can't be read: duplicate field `last_seq`");
}

#[test]
fn a_file_holds_no_more_than_the_limit() {
    let mut reader = Reader::new();
    reader.take(header(LINES_MAX as u64 + 1).to_string().as_bytes()).unwrap();
    for seq in 1..=LINES_MAX as u64 {
        reader.take(accepted(seq, "x").to_string().as_bytes()).unwrap();
    }
    let over = accepted(LINES_MAX as u64 + 1, "x").to_string();
    let refused = reader.take(over.as_bytes()).unwrap_err();
    assert_eq!((refused.line, &*refused.field), (LINES_MAX as u64 + 2, "line"));
}

#[test]
fn lines_that_are_no_text_are_named() {
    let check = |bytes: &[u8], expect: &str| {
        let refused = Reader::new().take(bytes).unwrap_err().to_string();
        assert!(refused.starts_with(expect), "{refused}");
    };
    check(b"\xff", "line 1: line is not UTF-8");
    check(b"{", "line 1: line is no JSON: EOF");
    check(b"", "line 1: line is no JSON");
}
