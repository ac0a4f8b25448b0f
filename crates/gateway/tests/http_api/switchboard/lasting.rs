//! What watchers are told, and what is still there after a restart, a failed write and an erasure.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use turnkeep_core::ports::switchboard::SwitchboardStore;

use super::{Desk, Home, refused};
use crate::kit::{Heard, Watch, keys, soon};

/// What a watcher of the switchboard was told.
async fn board(watch: &mut Watch) -> Heard {
    loop {
        let heard = watch.next().await.unwrap();
        if heard.event == "board" {
            return heard;
        }
    }
}

fn numbers_of(heard: &Heard) -> Vec<u64> {
    let rows = heard.data["sessions"].as_array().unwrap().iter();
    rows.map(|row| row["number"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_stream_tells_everything_and_then_what_changes() {
    let home = Home::new();
    let desk = home.open().await;
    desk.named(&["one", "two", "three"]).await;
    let path = "/v1/switchboard/events?seat=tty1";
    let mut watch = desk.world.watch(path, &[]).await;
    let first = board(&mut watch).await;
    assert_eq!(
        keys(&first.data),
        ["active", "gone", "sessions", "total", "unread", "version", "waiting", "whole"]
    );
    assert_eq!((&first.data["whole"], &first.data["active"]), (&json!(true), &Value::Null));
    assert_eq!((numbers_of(&first), &first.data["total"]), (vec![1, 2, 3], &json!(3)));
    desk.post("/two/switch", &json!({ "seat": "tty1" })).await;
    let second = board(&mut watch).await;
    assert_eq!((&second.data["whole"], &second.data["active"]), (&json!(false), &json!(2)));
    assert_eq!(numbers_of(&second), [2]);
    // Away for a while: only what changed since, each as it is now.
    drop(watch);
    desk.put_name("one", json!("uno")).await;
    desk.put_name("uno", json!("first")).await;
    desk.post("/three/close", &json!({})).await;
    let last = second.of_board.unwrap();
    let mut watch = desk.world.watch(path, &[("last-event-id", last.as_str())]).await;
    let third = board(&mut watch).await;
    assert_eq!((&third.data["whole"], &third.data["gone"]), (&json!(false), &json!([3])));
    assert_eq!(
        (numbers_of(&third), &third.data["sessions"][0]["name"]),
        (vec![1], &json!("first"))
    );
    // Whoever knows everything is told so at once.
    let last = third.of_board.unwrap();
    let mut watch = desk.world.watch(path, &[("last-event-id", last.as_str())]).await;
    let same = board(&mut watch).await;
    assert_eq!((&same.data["whole"], numbers_of(&same).len()), (&json!(false), 0));
    // A version that is still to come is none.
    let (boot, version) = last.rsplit_once('-').unwrap();
    let later = format!("{boot}-{}", version.parse::<u64>().unwrap() + 1000);
    let mut watch = desk.world.watch(path, &[("last-event-id", later.as_str())]).await;
    assert_eq!(board(&mut watch).await.data["whole"], true);
    let wrong = desk.world.call("GET", path, &[("last-event-id", "nonsense")], "").await;
    refused(&wrong, 400, "bad-request");
    refused(&desk.get("/events?seat=a%20b").await, 422, "field");
    desk.end().await;
}

#[tokio::test]
async fn a_restart_finds_everything_where_it_was() {
    let home = Home::new();
    let desk = home.open().await;
    desk.named(&["one", "two", "three"]).await;
    desk.create(json!({ "seat": "tty1" })).await;
    desk.post("/two/switch", &json!({ "seat": "tty1" })).await;
    desk.say("one", "a").await;
    desk.say("one", "b").await;
    desk.say("three", "a").await;
    desk.post("/one/read", &json!({ "seq": 4 })).await;
    desk.post("/three/close", &json!({})).await;
    let mut watch = desk.world.watch("/v1/switchboard/events", &[]).await;
    let last = board(&mut watch).await.of_board.unwrap();
    let told = desk.get("?seat=tty1").await.json();
    drop(watch);
    desk.end().await;

    let desk = home.open().await;
    let known = async {
        while desk.row("1").await["last_seq"] != 8 {
            tokio::task::yield_now().await;
        }
    };
    soon(known).await;
    let found = desk.get("?seat=tty1").await.json();
    let shown = |page: &Value| -> Vec<Value> {
        let rows = page["sessions"].as_array().unwrap().iter();
        let of = |row: &Value, field: &str| row[field].clone();
        rows.map(|row| {
            let fields =
                ["number", "name", "session", "id", "unread", "read_seq", "created_at", "active"];
            fields.into_iter().map(|field| of(row, field)).collect()
        })
        .collect()
    };
    assert_eq!(shown(&found), shown(&told));
    assert_eq!((&found["active"], &found["unread"]), (&json!(2), &json!(1)));
    // What another process counted is no version here.
    let head = [("last-event-id", last.as_str())];
    let mut watch = desk.world.watch("/v1/switchboard/events", &head).await;
    let first = board(&mut watch).await;
    assert_eq!((&first.data["whole"], numbers_of(&first)), (&json!(true), vec![1, 2, 4]));
    drop(watch);
    assert_eq!(desk.create(json!({})).await["number"], 5, "no number is given twice");
    // What the seat looked at before is known, too.
    let done = desk.post("/two/close", &json!({ "seat": "tty1" })).await.json();
    assert_eq!(done["next"]["number"], 4);
    desk.end().await;
}

#[tokio::test]
async fn what_can_not_be_written_down_did_not_happen() {
    let home = Home::new();
    let desk = home.open().await;
    desk.named(&["one", "two"]).await;
    desk.post("/one/switch", &json!({ "seat": "tty1" })).await;
    desk.say("one", "hello").await;
    let before = desk.get("?seat=tty1").await.json()["sessions"].clone();
    let check = async |desk: &Desk| {
        let name = desk.put_name("one", json!("uno")).await;
        refused(&name, 503, "unavailable");
        refused(&desk.post("/two/switch", &json!({ "seat": "tty1" })).await, 503, "unavailable");
        refused(&desk.post("/one/read", &json!({})).await, 503, "unavailable");
        refused(&desk.post("", &json!({ "name": "three" })).await, 503, "unavailable");
    };
    home.down.store(true, Ordering::SeqCst);
    check(&desk).await;
    home.down.store(false, Ordering::SeqCst);
    // What was said is read again from the journal.
    let known = async {
        while desk.row("1").await["unread"] != 1 {
            tokio::task::yield_now().await;
        }
    };
    soon(known).await;
    let after = desk.get("?seat=tty1").await.json();
    let of = |rows: &Value, field: &str| -> Vec<Value> {
        rows.as_array().unwrap().iter().map(|row| row[field].clone()).collect()
    };
    for field in ["number", "name", "active", "read_seq", "unread"] {
        assert_eq!(of(&after["sessions"], field)[..2], of(&before, field)[..], "{field}");
    }
    assert_eq!(after["active"], 1);
    refused(&desk.get("/three").await, 404, "not-found");
    // What nobody knows to be written is what the store says.
    home.lies.store(true, Ordering::SeqCst);
    refused(&desk.put_name("two", json!("dos")).await, 503, "unavailable");
    home.lies.store(false, Ordering::SeqCst);
    assert_eq!(desk.row("2").await["name"], "dos");
    assert_eq!(desk.put_name("one", json!("uno")).await.status, 200);
    desk.end().await;
    let desk = home.open().await;
    assert_eq!(desk.row("uno").await["number"], 1);
    assert_eq!(desk.row("dos").await["number"], 2);
    desk.end().await;
}

#[tokio::test]
async fn who_is_erased_leaves_the_switchboard() {
    let home = Home::new();
    let desk = home.open().await;
    for customer in ["ann", "ben"] {
        desk.world.ask(&json!({ "customer_id": customer, "message": "hi" })).await;
    }
    desk.put_name("1", json!("ann's")).await;
    desk.post("/1/switch", &json!({ "seat": "tty1" })).await;
    let erased = desk.world.call("DELETE", "/v1/customers/default/ann", &[], "").await;
    assert_eq!(erased.status, 200, "{}", erased.text());
    assert_eq!(desk.numbers("").await, [2]);
    assert_eq!(desk.active("tty1").await, 2);
    let kept = desk.store.board("default").await.unwrap();
    assert_eq!(kept.rows.iter().map(|row| row.number).collect::<Vec<_>>(), [2]);
    assert!(kept.seats.iter().all(|seat| !format!("{seat:?}").contains("ann")), "{kept:?}");
    // Whoever comes back is somebody new.
    desk.world.ask(&json!({ "customer_id": "ann", "message": "hi" })).await;
    assert_eq!(desk.row("3").await["name"], Value::Null);
    desk.end().await;
}
