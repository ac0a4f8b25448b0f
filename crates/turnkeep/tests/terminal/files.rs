//! What is open for which session: files of its agent's processes, and connections that watch it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{interval, timeout};

use crate::kit::{Home, said};

/// Nothing here takes long; what does is broken.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

fn stats(home: &Home) -> Value {
    serde_json::from_str(&home.prints(&["sessions", "stats", "--json"])).unwrap()
}

/// What is open for a session, by its number; none where the server doesn't know.
fn open(stats: &Value, number: u64) -> Option<u64> {
    let sessions = stats["most_open"].as_array().unwrap();
    let open = sessions.iter().find(|open| open["number"] == number);
    open.map_or(Some(0), |open| open["open_files"].as_u64())
}

/// Looks until it is as it should be.
async fn until(home: &Home, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let mut looks = interval(LOOK);
    let mut last = Value::Null;
    let look = async {
        loop {
            looks.tick().await;
            last = stats(home);
            if is(&last) {
                return;
            }
        }
    };
    let found = timeout(PATIENCE, look).await;
    assert!(found.is_ok(), "never {what}: {last}");
    last
}

/// Says something in a session, by its number; it ends with a question.
fn asks(home: &Home, number: &str, text: &str) {
    let output = home.plain(&["--session", number], format!("{text}\n"));
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
}

fn answers(home: &Home, number: &str) {
    let output = home.plain(&["--session", number], "yes\n");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

#[tokio::test]
async fn what_agents_have_open_is_counted_for_their_sessions() {
    let home = Home::started();
    for name in ["twenty", "sixty"] {
        home.prints(&["sessions", "create", "--name", name, "--agent", "hoarder"]);
    }
    home.prints(&["sessions", "create", "--name", "idle"]);
    let before = stats(&home);
    assert_eq!(before["most_open"], json!([]));
    assert_eq!(before["resources"]["sessions_open_files"], 0);
    assert!(before["resources"]["open_files"].as_u64() > Some(0), "{before}");
    asks(&home, "1", "20");
    // Another process of the same group holds them too.
    asks(&home, "2", "30 twice");
    let between = |files: Option<u64>, least: u64| {
        files.is_some_and(|files| (least..least + 20).contains(&files))
    };
    let all = until(&home, "as many as were opened", |stats| {
        between(open(stats, 1), 20) && between(open(stats, 2), 60)
    })
    .await;
    assert_eq!(open(&all, 3), Some(0));
    assert_eq!(all["most_open"][0]["number"], 2, "the most comes first: {all}");
    let sum = open(&all, 1).unwrap() + open(&all, 2).unwrap();
    assert_eq!(all["resources"]["sessions_open_files"], sum);
    let board: Value =
        serde_json::from_str(&home.prints(&["sessions", "board", "--json"])).unwrap();
    let row = |at: usize| &board["sessions"][at]["resources"]["open_files"];
    assert!(between(row(0).as_u64(), 20) && between(row(1).as_u64(), 60), "{board}");
    assert_eq!(*row(2), 0);
    let table = home.prints(&["sessions", "stats"]);
    let line = |line: &&str| line.starts_with("session 1") && line.contains("open_files");
    assert!(table.lines().any(|one| line(&one)), "{table}");
    // Once the turn is over nothing is open for it, and the other one keeps its own.
    answers(&home, "1");
    let all = until(&home, "closed", |stats| open(stats, 1) == Some(0)).await;
    assert!(between(open(&all, 2), 60), "{all}");
    home.prints(&["sessions", "stop", "2"]);
    until(&home, "ended", |stats| open(stats, 2) == Some(0)).await;
}

#[tokio::test]
async fn who_watches_a_session_counts() {
    let home = Home::started();
    home.plain(&[], "hello\n");
    home.prints(&["sessions", "create", "--name", "other"]);
    until(&home, "at rest", |stats| open(stats, 1) == Some(0)).await;
    let board: Value =
        serde_json::from_str(&home.prints(&["sessions", "board", "--json"])).unwrap();
    let key = board["sessions"][0]["session"].as_str().unwrap().replace(':', "%3A");
    let address = home.address();
    let place = address.strip_prefix("http://").unwrap();
    let mut watchers: Vec<TcpStream> = Vec::new();
    for watching in 1..=2 {
        let mut watcher = TcpStream::connect(place).unwrap();
        let head = format!("GET /v1/sessions/{key}/events HTTP/1.1\r\nhost: {place}\r\n\r\n");
        watcher.write_all(head.as_bytes()).unwrap();
        assert!(watcher.read(&mut [0; 64]).unwrap() > 0);
        watchers.push(watcher);
        let all = until(&home, "watched", |stats| open(stats, 1) == Some(watching)).await;
        assert_eq!(open(&all, 2), Some(0));
    }
    drop(watchers.pop());
    until(&home, "watched by one", |stats| open(stats, 1) == Some(1)).await;
    drop(watchers);
    until(&home, "watched by nobody", |stats| open(stats, 1) == Some(0)).await;
}

#[tokio::test]
async fn what_grows_turn_after_turn_is_told() {
    let home = Home::started();
    home.prints(&["sessions", "create", "--name", "leaks", "--agent", "hoarder"]);
    for turn in 1..=6 {
        let told = stats(&home)["recommendations"].to_string();
        assert!(!told.contains("open_files_leak"), "too early: {told}");
        asks(&home, "1", &(turn * 30).to_string());
        until(&home, "counted", |stats| open(stats, 1) >= Some(turn * 30)).await;
        if turn < 6 {
            answers(&home, "1");
        }
    }
    let all = stats(&home);
    let leak = |advice: &&Value| advice["code"] == "open_files_leak";
    let told = all["recommendations"].as_array().unwrap().iter().find(leak);
    assert_eq!(told.unwrap()["sessions"], json!([1]), "{all}");
}
