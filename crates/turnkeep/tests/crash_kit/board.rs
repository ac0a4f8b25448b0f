//! The switchboard while the server is killed between a change of it and its record.

use std::path::Path;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::crash_kit::{Server, audit, client};

/// Where the process may end.
const PLACES: [&str; 2] = ["switchboard.write.before", "switchboard.write.after"];

/// What is asked for, and where.
type Deed = (Method, &'static str, Value);

async fn ask(server: &Server, (method, below, body): Deed) -> Result<Value, reqwest::Error> {
    let url = format!("{}/v1/switchboard{below}", server.address);
    let answer = client().request(method, url).json(&body).send().await?;
    assert!(answer.status().is_success(), "{below}: {}", answer.status());
    answer.json().await
}

/// What has to be where it was: numbers, names, read marks, and what the seat looks at.
async fn shown(server: &Server) -> Value {
    let page = ask(server, (Method::GET, "?seat=tty1", Value::Null)).await.unwrap();
    let rows = page["sessions"].as_array().unwrap().iter();
    let rows = rows.map(|row| json!([row["number"], row["name"], row["read_seq"], row["session"]]));
    json!({ "active": page["active"], "rows": rows.collect::<Vec<Value>>() })
}

/// The state of a server that was started in the folder, and is killed again.
async fn now(config: &Path, data: &Path) -> Value {
    let server = Server::start(config, data, &[]).unwrap();
    shown(&server).await
}

/// Has the process end at this place of this deed.
async fn killed(config: &Path, data: &Path, place: &str, deed: Deed) {
    let at = format!("{place}:1");
    let mut server = Server::start(config, data, &[("TURNKEEP_KILL_AT", &at)]).unwrap();
    // After a start it takes a moment until it is known where a journal ends.
    let looked = async {
        let row = async || ask(&server, (Method::GET, "/2", Value::Null)).await.unwrap();
        while row().await["last_seq"] != 4 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), looked).await.expect("somebody looks");
    assert!(ask(&server, deed).await.is_err(), "nobody answers what is not written down");
    let ended = tokio::task::spawn_blocking(move || {
        let status = server.child.wait().unwrap();
        std::os::unix::process::ExitStatusExt::signal(&status)
    });
    let ended = tokio::time::timeout(Duration::from_secs(30), ended).await;
    assert_eq!(ended.expect("it gets there").unwrap(), Some(9), "{place}");
}

pub(crate) async fn what_was_answered_is_there_and_nothing_is_halfway() {
    let dir = tempfile::tempdir().unwrap();
    let (config, data) = (dir.path().join("board.toml"), dir.path().join("data"));
    std::fs::write(&config, "log_level = \"warn\"\n[agents.default]\nkind = \"echo\"\n").unwrap();
    let server = Server::start(&config, &data, &[]).unwrap();
    let mut key = Value::Null;
    for name in ["one", "two"] {
        let new = (Method::POST, "", json!({ "name": name, "seat": "tty1" }));
        key = ask(&server, new).await.unwrap()["session"].take();
    }
    let url = format!("{}/v1/chat?wait=30", server.address);
    let said = json!({ "session": key, "message": "hello" });
    assert_eq!(client().post(url).json(&said).send().await.unwrap().status(), 200);
    let mut known = shown(&server).await;
    drop(server);
    assert_eq!(now(&config, &data).await, known, "what was answered outlives a kill");
    let deeds: [(Deed, &str, Value); 3] = [
        ((Method::PUT, "/2/name", json!({ "name": "zwei" })), "/rows/1/1", json!("zwei")),
        ((Method::POST, "/1/switch", json!({ "seat": "tty1" })), "/active", json!(1)),
        ((Method::POST, "/2/read", json!({})), "/rows/1/2", json!(4)),
    ];
    for (deed, place_of_it, wanted) in deeds {
        for place in PLACES {
            killed(&config, &data, place, deed.clone()).await;
            if place.ends_with("after") {
                *known.pointer_mut(place_of_it).unwrap() = wanted.clone();
            }
            assert_eq!(now(&config, &data).await, known, "{place} of {deed:?}");
        }
    }
    // A conversation that is closed stands nowhere, wherever its row was.
    killed(&config, &data, PLACES[0], (Method::POST, "/2/close", json!({}))).await;
    let server = Server::start(&config, &data, &[]).unwrap();
    let gone = async {
        while shown(&server).await["rows"].as_array().unwrap().len() > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("it leaves");
    drop(server);
    audit(&data).unwrap();
}
