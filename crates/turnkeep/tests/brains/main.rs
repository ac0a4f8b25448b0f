//! The real binary with brains that are programs: the examples in both languages, in everything that
//! they show, and one that leaves somebody behind. `http` has those that are servers, `typescript`
//! those of them that are written in it, `check` holds all of them against the contract. In
//! `messages` a model answers.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(dead_code, reason = "the kit is shared with tests that need more of it")]

mod check;
#[path = "../crash_kit/mod.rs"]
mod crash_kit;
mod http;
mod kit;
mod messages;
mod models;
mod parrot;
#[path = "../port_kit/mod.rs"]
mod port_kit;
mod proxies;
#[path = "../store_kit/mod.rs"]
mod store_kit;
mod tools;
mod typescript;

use std::process::Command;

use crash_kit::client;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::unix::pipe::OpenOptions;
use tokio::time::{interval, timeout};

use kit::{BURST, LANGUAGES, LOOK, PATIENCE, Place, SESSION, ask, gone, say, until};

#[tokio::test]
async fn a_burst_is_answered_once() {
    let place = Place::new();
    let server = place.start("echo.py", "", BURST);
    let first = say(&server, "hello", "").await;
    let answer = ask(&server, "are you there?").await;
    assert_eq!(answer["reply"], "echo: hello\nare you there?");
    assert_eq!(answer["turn_id"], first["turn_id"]);
    let next = ask(&server, "fine").await;
    assert_eq!(next["reply"], "echo: fine");
    place.audit();
}

#[tokio::test]
async fn mail_is_absorbed_in_the_middle() {
    let place = Place::new();
    let server = place.start("echo.py", "", "window_ms = 0\nbusy_policy = \"absorb\"");
    let first = say(&server, "hello...", "").await;
    assert_eq!(first["action"], "workflow_started");
    until(&server, "turn.processing").await;
    let answer = ask(&server, "world").await;
    assert_eq!(
        (&answer["reply"], &answer["turn_id"]),
        (&json!("echo: hello...\nworld"), &first["turn_id"])
    );
    until(&server, "turn.message_absorbed").await;
    place.audit();
}

#[tokio::test]
async fn who_changes_their_mind_is_answered_anew() {
    for language in LANGUAGES {
        let place = Place::new();
        let channel = "window_ms = 0\nbusy_policy = \"agent\"\nquestion_timeout_ms = 60000";
        let server = place.start_in(language, "echo", channel);
        let first = say(&server, "go to Rome...", "").await;
        until(&server, "turn.processing").await;
        let answer = ask(&server, "no, to Paris").await;
        assert_eq!(answer["reply"], "echo: go to Rome...\nno, to Paris");
        assert_ne!(answer["turn_id"], first["turn_id"]);
        let seen = until(&server, "turn.completed").await;
        assert!(seen.contains("\"choice\":\"supersede\""), "{seen}");
        place.audit();
    }
}

#[tokio::test]
async fn a_change_of_mind_makes_again_only_what_changed_and_undoes_what_was_booked() {
    for language in LANGUAGES {
        let place = Place::new();
        let channel = "window_ms = 0\nbusy_policy = \"agent\"\nquestion_timeout_ms = 60000";
        let server = place.start_in(language, "trip", channel);
        say(&server, "a weekend in Rome...", "").await;
        // The booking is on record, and the brain waits for more.
        until(&server, "tool.returned").await;
        let answer = ask(&server, "no, in Paris").await;
        assert_eq!(answer["reply"], "a weekend, Hotel Paris: done");
        let done = std::fs::read_to_string(place.path().join("trip.txt")).unwrap();
        let expected = [
            "made dates",
            "made hotel",
            "made plan",
            "booked a weekend, Hotel Rome",
            "made hotel",
            "made plan",
            "cancelled a weekend, Hotel Rome",
            "booked a weekend, Hotel Paris",
        ];
        assert_eq!(done.lines().collect::<Vec<_>>(), expected);
        let seen = until(&server, "turn.completed").await;
        assert_eq!(seen.matches("\"type\":\"artifact.reused\"").count(), 1, "{seen}");
        assert_eq!(seen.matches("\"type\":\"artifact.kept\"").count(), 5, "{seen}");
        place.audit();
    }
}

#[tokio::test]
async fn what_was_made_and_booked_before_a_kill_is_there_after_it() {
    for language in LANGUAGES {
        let place = Place::new();
        let mut server = place.start_in(language, "trip", "window_ms = 0");
        say(&server, "a weekend in Rome...", "").await;
        until(&server, "tool.returned").await;
        server.kill();
        drop(server);
        let before = std::fs::read_to_string(place.path().join("trip.txt")).unwrap();
        assert_eq!(before.lines().count(), 4, "{before}");

        let server = place.start_in(language, "trip", "window_ms = 0");
        let answer = ask(&server, "thank you").await;
        assert_eq!(answer["reply"], "a weekend, Hotel Rome: done");
        assert_eq!(std::fs::read_to_string(place.path().join("trip.txt")).unwrap(), before);
        let seen = until(&server, "turn.completed").await;
        assert_eq!(seen.matches("\"type\":\"artifact.reused\"").count(), 3, "{seen}");
        place.audit();
    }
}

#[tokio::test]
async fn a_user_is_asked_and_answers() {
    for language in LANGUAGES {
        let place = Place::new();
        let server = place.start_in(language, "refund", "window_ms = 0");
        say(&server, "I want my money back", "").await;
        let seen = until(&server, "turn.waiting_for_input").await;
        assert!(seen.contains("Which order shall I refund?"), "{seen}");
        assert_eq!(place.refunds(), "");
        let answer = ask(&server, "it is 17").await;
        assert_eq!(answer["reply"], "Order 17 is refunded.");
        assert_eq!(place.refunds(), "17\n");
        place.audit();
    }
}

#[tokio::test]
async fn who_asks_twice_at_once_comes_back_to_the_only_slot() {
    let place = Place::new();
    let script = "import json\n\
        hear = lambda: json.loads(input())\n\
        say = lambda **said: print(json.dumps(said), flush=True)\n\
        turn = hear()\n\
        if turn['messages'][0]['text'] == 'two':\n\
        \x20   say(type='ask', id='1', text='which?')\n\
        \x20   say(type='ask', id='2', text='and when?')\n\
        \x20   refused = hear()['type']\n\
        \x20   open('heard', 'x').close()\n\
        \x20   say(type='finished', reply=refused + ' ' + hear()['type'])\n\
        else:\n\
        \x20   say(type='finished', reply='hello')\n";
    let agent = format!("command = [\"python3\", \"-c\", {script:?}]\nprocesses_max = 1");
    let server = place.start_with(&agent, "window_ms = 0");
    say(&server, "two", "").await;
    until(&server, "turn.waiting_for_input").await;
    // The user is not quicker than its second question.
    let refused = async {
        let mut look = interval(LOOK);
        while !place.path().join("heard").exists() {
            look.tick().await;
        }
    };
    timeout(PATIENCE, refused).await.expect("nothing was refused");
    assert_eq!(ask(&server, "17").await["reply"], "refused answer");
    // The slot is free for the next.
    assert_eq!(ask(&server, "one").await["reply"], "hello");
    place.audit();
}

/// The question comes before the last word, and is decided behind it.
#[test]
fn the_python_kit_says_nothing_after_its_last_word() {
    let place = Place::new();
    let script = "import sys, threading; sys.path.insert(0, sys.argv[1]); import brain\n\
        asked, over, leave = threading.Event(), threading.Event(), brain.leave\n\
        def decide(_):\n\
        \x20   asked.set(); over.wait(); return 'queue'\n\
        def last(status=0):\n\
        \x20   if threading.current_thread() is not threading.main_thread(): leave(status)\n\
        \x20   over.set(); threading.Event().wait()\n\
        brain.leave = last\n\
        brain.over_streams(lambda _: asked.wait() and 'done', decide)\n";
    let message = json!({"seq": 1, "message_id": "1", "sender": "a", "text": "a", "at": 0});
    let turn = json!({"type": "turn", "messages": [message], "history": [], "recorded": []});
    let question = json!({"type": "question", "question_id": 1, "message": message});
    let told = place.path().join("told");
    std::fs::write(&told, format!("{turn}\n{question}\n")).unwrap();
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(kit::example_path("")).env("PYTHONDONTWRITEBYTECODE", "1");
    let said = python.stdin(std::fs::File::open(told).unwrap()).output().unwrap();
    let lines: Vec<Value> = said
        .stdout
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    let last = json!({"type": "finished", "reply": "done", "used": null, "hint": null,
                      "version": null});
    assert_eq!(lines, [last], "{}", String::from_utf8_lossy(&said.stderr));
}

#[tokio::test]
async fn a_stop_ends_the_brain_and_whoever_it_started() {
    let place = Place::new();
    let alive = place.path().join("alive");
    assert!(Command::new("mkfifo").arg(&alive).status().unwrap().success());
    // Nobody has opened it for writing yet, so that it has no end either.
    let mut alive = OpenOptions::new().open_receiver(alive).unwrap();
    let script = "exec 9> alive; sleep 1000 & echo $$ $! >&9; wait";
    let agent = format!("command = [\"sh\", \"-c\", {script:?}]");
    let server = place.start_with(&agent, "window_ms = 0");
    say(&server, "hello", "").await;
    // Both are there.
    let mut pids = String::new();
    let mut told = BufReader::new(&mut alive);
    timeout(PATIENCE, told.read_line(&mut pids)).await.expect("no brain").unwrap();
    let url = format!("{}/v1/sessions/{SESSION}/stop", server.address);
    let stopped = client().post(url).json(&json!({})).send().await.unwrap();
    assert!(stopped.status().is_success(), "{}", stopped.text().await.unwrap());
    // Its end is the end of everybody who could write to it.
    let mut rest = Vec::new();
    timeout(PATIENCE, alive.read_to_end(&mut rest)).await.expect("somebody is left").unwrap();
    let pids: Vec<&str> = pids.split_whitespace().collect();
    assert_eq!(pids.len(), 2, "{pids:?}");
    for pid in pids {
        timeout(PATIENCE, gone(pid)).await.unwrap_or_else(|_| panic!("{pid} lives"));
    }
    until(&server, "turn.cancelled").await;
    place.audit();
}

#[tokio::test]
async fn nothing_is_refunded_twice_after_a_kill() {
    let place = Place::new();
    let mut server = place.start("refund.py", ", SHOP_SECONDS = \"1000\"", "window_ms = 0");
    say(&server, "please refund order 17", "").await;
    until(&server, "tool.intended").await;
    place.until_refunded("17\n").await;
    // Past the commit point nobody interferes.
    let next = say(&server, "and order 18", "").await;
    assert_eq!(next["action"], "queued");
    server.kill();
    drop(server);

    let server = place.start("refund.py", "", "window_ms = 0");
    let url = format!("{}/v1/sessions/{SESSION}/messages", server.address);
    let answer = ask(&server, "and 19, too").await;
    assert_eq!(answer["reply"], "Order 19 is refunded.");
    let said: Value = client().get(url).send().await.unwrap().json().await.unwrap();
    let lines = said["messages"].as_array().unwrap();
    let replies: Vec<&Value> =
        lines.iter().filter(|line| line["role"] == "agent").map(|line| &line["text"]).collect();
    let unknown = "I can't tell whether order 17 was refunded. A person will look.";
    assert!(replies.contains(&&json!(unknown)), "{said}");
    assert_eq!(place.refunds().matches("17\n").count(), 1, "{}", place.refunds());
    place.audit();
}

#[tokio::test]
async fn a_brain_that_fails_is_told_with_its_last_words() {
    let place = Place::new();
    let agent = "command = [\"python3\", \"-c\", \"raise SystemExit('no shop today')\"]\n\
                 error_backoff_ms = 0";
    let server = place.start_with(agent, "window_ms = 0");
    say(&server, "hello", "").await;
    let seen = until(&server, "turn.failed").await;
    let error = r#"agent \"default\": the brain exited with status 1 before it had finished; its last words: no shop today"#;
    assert_eq!(seen.matches(error).count(), 3, "{seen}");
    place.audit();
}

#[tokio::test]
async fn a_silent_brain_is_ended() {
    let place = Place::new();
    let agent = "command = [\"sleep\", \"1000\"]\nsilence_timeout_seconds = 1\nerrors_max = 1";
    let server = place.start_with(agent, "window_ms = 0");
    say(&server, "hello", "").await;
    let seen = until(&server, "turn.failed").await;
    assert!(seen.contains("the agent was silent for too long"), "{seen}");
    place.audit();
}
