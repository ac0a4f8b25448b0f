//! What is asked of the switchboard, and how its answers are shown.

use serde_json::{Value, json};

use crate::{Answer, KEY, KEY_PATH, run};

/// A session as the switchboard shows it.
fn on_the_board(number: u32, name: &str, waiting: Value) -> Value {
    json!({ "number": number, "id": "a1b2c3d4e5f6", "name": name, "session": KEY, "unread": 100,
        "agent_id": "a:b", "state": "processing", "queued": 2, "waiting": waiting,
        "active": ["tty1", "tty2"], "created_at": "2026-01-02T03:04:05Z" })
}

#[test]
fn the_switchboard_is_listed() {
    let asks = json!({ "kind": "approval", "text": "delete\u{1b}[2J it?\nall?" });
    let page = json!({ "active": 3, "sessions": [
        on_the_board(2, "plain", Value::Null), on_the_board(3, "api work", asks)], "next": 3 });
    let head = "number\tname\tstate\tunread\tqueued\twaits for\tsession\n";
    let plain = format!("2\tplain\tprocessing\t99+\t2\t\t{KEY}\n");
    let other = format!("\"api work\"\tprocessing\t99+\t2\tapproval: delete[2J it? all?\t{KEY}\n");
    let check = |args: &[&str], path: &str, mark: &str| {
        let ran = run(args, vec![Answer::Say(200, page.clone())]);
        assert_eq!(ran.seen, [(format!("GET /v1/switchboard{path}"), Value::Null)]);
        assert_eq!(ran.out, format!("{head}{plain}3{mark}\t{other}"));
        assert_eq!((ran.code, ran.said.as_str()), (Some(0), "there are more: --after 3\n"));
    };
    check(&["sessions", "board"], "", "");
    let args = ["sessions", "board", "--seat", "tty1", "--limit", "2", "--tenant", "acme"];
    check(&args, "?limit=2&seat=tty1&tenant=acme", "*");
    check(&["sessions", "board", "--state", "idle", "--after", "1"], "?after=1&state=idle", "");
    check(&["sessions", "waiting"], "?waiting=true", "");
    let nobody = json!({ "sessions": [], "next": null });
    let ran = run(&["sessions", "waiting"], vec![Answer::Say(200, nobody)]);
    assert_eq!((ran.out.as_str(), ran.said.as_str()), (head, "no session waits\n"));
}

#[test]
fn the_switchboard_is_worked() {
    let row = on_the_board(3, "api work", Value::Null);
    let check = |args: &[&str], asked: &str, body: Value| {
        let ran = run(args, vec![Answer::Say(200, row.clone())]);
        assert_eq!(ran.seen, [(asked.to_owned(), body)], "{args:?}");
        assert_eq!(ran.code, Some(0), "{}", ran.said);
        assert!(
            ran.out.starts_with("field\tvalue\nnumber\t3\nid\ta1b2c3d4e5f6\nname\t\"api work\"\n")
        );
        assert!(ran.out.contains("\nactive\ttty1, tty2\n"), "{}", ran.out);
    };
    let path = |below: &str| format!("/v1/switchboard/{below}");
    check(&["sessions", "create"], "POST /v1/switchboard", json!({}));
    check(
        &[
            "sessions", "create", "--name", "api work", "--agent", "dev", "--seat", "tty1",
            "--tenant", "acme",
        ],
        "POST /v1/switchboard",
        json!({ "name": "api work", "agent_id": "dev", "tenant_id": "acme", "seat": "tty1" }),
    );
    let named = json!({ "name": "web" });
    check(
        &["sessions", "rename", "api work", "web"],
        &format!("PUT {}", path("api%20work/name")),
        named,
    );
    let none = json!({ "name": null });
    check(&["sessions", "rename", "3", "--clear"], &format!("PUT {}", path("3/name")), none);
    let seat = json!({ "seat": "tty1" });
    let asked = format!("POST {}", path("%73%74%61%74%73/switch?tenant=acme"));
    check(&["sessions", "switch", "stats", "--seat", "tty1", "--tenant", "acme"], &asked, seat);
    check(&["sessions", "read", "3"], &format!("POST {}", path("3/read")), json!({}));
    let seq = json!({ "seq": 7 });
    check(&["sessions", "read", "3", "--seq", "7"], &format!("POST {}", path("3/read")), seq);
    check(&["sessions", "touch", "3"], &format!("POST {}", path("3/touch")), json!({}));
}

#[test]
fn what_is_closed_and_what_comes_next_is_told() {
    let done = json!({ "closed": on_the_board(3, "api work", Value::Null), "next": null });
    let ran = run(&["sessions", "close", "3", "--seat", "tty1"], vec![Answer::Say(200, done)]);
    let asked = ("POST /v1/switchboard/3/close".to_owned(), json!({ "seat": "tty1" }));
    assert_eq!(ran.seen, [asked]);
    let table = format!("\tnumber\tname\tsession\nclosed\t3\t\"api work\"\t{KEY}\nnext\t\t\t\n");
    assert_eq!((ran.code, ran.out, ran.said.as_str()), (Some(0), table.clone(), ""));
    // A worktree that stays may hold somebody's work.
    let done = json!({ "closed": on_the_board(3, "api work", Value::Null), "next": null,
        "worktree": "/w/1 stays: new.txt\u{1b}[2J is in no commit" });
    let ran = run(&["sessions", "close", "3", "--seat", "tty1"], vec![Answer::Say(200, done)]);
    let told = "/w/1 stays: new.txt[2J is in no commit\n";
    assert_eq!((ran.code, ran.out, ran.said.as_str()), (Some(0), table, told));
}

#[test]
fn what_sessions_take_is_told_with_advice() {
    let stats = json!({ "sessions": { "total": 2, "idle": 2 }, 
        "resources": { "open_files": null, "tokens": 5 },
        "most_open": [{ "number": 7, "open_files": null }, { "number": 2, "open_files": 31 }],
        "limits": { "runs": null, "sessions_max": 10 }, "recommendations": [
            { "code": "waits", "text": "somebody waits", "sessions": [1, 2] },
            { "code": "x", "text": "all is well", "sessions": [] }] });
    let ran = run(&["sessions", "stats"], vec![Answer::Say(200, stats)]);
    assert_eq!(ran.seen[0].0, "GET /v1/switchboard/stats");
    let table = "of\twhat\tnumber\nsessions\tidle\t2\nsessions\ttotal\t2\n\
                 resources\topen_files\tunknown\nresources\ttokens\t5\n\
                 limits\truns\t\nlimits\tsessions_max\t10\n\
                 session 7\topen_files\tunknown\nsession 2\topen_files\t31\n";
    assert_eq!(ran.out, table);
    assert_eq!(ran.said, "somebody waits (sessions 1, 2)\nall is well\n");
    let ran = run(&["sessions", "cleanup"], vec![Answer::Say(200, json!({ "hibernated": 4 }))]);
    assert_eq!(ran.seen[0].0, "POST /v1/switchboard/cleanup");
    assert_eq!(ran.out, "field\tvalue\nhibernated\t4\n");
}

#[test]
fn a_session_is_found_by_what_it_is_called() {
    let row = || Answer::Say(200, on_the_board(3, "api work", Value::Null));
    let done = || Answer::Say(200, json!({ "cancelled": 2 }));
    let check = |args: &[&str], which: &str, below: &str| {
        let ran = run(args, vec![row(), done()]);
        assert_eq!(ran.code, Some(0), "{}", ran.said);
        assert_eq!(ran.seen[0].0, format!("GET /v1/switchboard/{which}"));
        assert_eq!(ran.seen[1].0, below);
    };
    check(&["sessions", "show", "3"], "3", &format!("GET {KEY_PATH}"));
    check(&["sessions", "messages", "3"], "3", &format!("GET {KEY_PATH}/messages"));
    let acme = ["sessions", "stop", "api work", "--tenant", "acme"];
    check(&acme, "api%20work?tenant=acme", &format!("POST {KEY_PATH}/stop"));
    for word in ["new", "close", "opt-in", "opt-out", "pause"] {
        check(&["sessions", word, "a1b2"], "a1b2", &format!("POST {KEY_PATH}/{word}"));
    }
    check(&["sessions", "reply", "3", "hi"], "3", &format!("POST {KEY_PATH}/reply"));
    check(&["sessions", "hand-back", "3"], "3", &format!("POST {KEY_PATH}/hand_back"));
    let detail = "\"a1\" may be any of the sessions 3, 4";
    let several = json!({ "type": "urn:turnkeep:problem:ambiguous", "title": "Ambiguous",
        "status": 409, "detail": detail });
    let ran = run(&["sessions", "stop", "a1"], vec![Answer::Say(409, several)]);
    assert_eq!((ran.code, ran.said), (Some(1), format!("Ambiguous: {detail}\n")));
}
