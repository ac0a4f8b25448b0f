//! Nothing that signal-cli handed over is lost, wherever we end.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use serde_json::json;

use crate::intake::Desk;
use crate::stand::{FIRST, Stand, data_message, envelope, until};

/// As signal-cli would have written it.
fn written(at: i64, text: &str) -> String {
    let content = data_message(at, json!({"message": text}));
    let result = json!({"envelope": envelope(at, &content), "account": crate::stand::US});
    let params = json!({"subscription": 0, "result": result});
    json!({"jsonrpc": "2.0", "method": "receive", "params": params}).to_string()
}

#[tokio::test]
async fn what_was_handed_over_is_heard_by_the_next_one() {
    let stand = Stand::new();
    let first = Desk::new();
    first.open(false);
    for number in 0..20 {
        stand.says(FIRST + number, &format!("number {number}"));
    }
    let listening = stand.listen(stand.child(), &first);
    // All of it is gone for signal-cli, and not one of it is durable.
    let length = fs::metadata(stand.dir().join("inject.jsonl")).unwrap().len().to_string();
    until("all was handed over", async || {
        let at = fs::read_to_string(stand.dir().join("inject.at")).unwrap_or_default();
        (at == length).then_some(())
    })
    .await;
    assert_eq!(first.texts(1).await, ["number 0"]);
    drop(listening);
    let second = Desk::new();
    let listening = stand.listen(stand.child(), &second);
    let expected: Vec<String> = (0..20).map(|number| format!("number {number}")).collect();
    assert_eq!(second.texts(20).await, expected);
    listening.works().await;
    until("one file", async || (stand.files().len() == 1).then_some(())).await;
    assert_eq!(second.all().len(), 20);
}

#[tokio::test]
async fn files_of_earlier_runs_are_read_in_their_order_and_removed() {
    let (stand, desk) = (Stand::new(), Desk::new());
    let folder = stand.config();
    fs::create_dir_all(&folder).unwrap();
    let typing = json!({"typingMessage": {"action": "STARTED", "timestamp": FIRST}});
    let typing = json!({"method": "receive", "params": {"envelope": envelope(FIRST, &typing)}});
    // Zeros stand for what was taken; the last line was not written to its end, but one is whole.
    let nine =
        format!("\0\0\0\0{}\n{typing}\n{}", written(FIRST, "one"), written(FIRST + 1, "two"));
    fs::write(folder.join("receive-9.jsonl"), nine).unwrap();
    let half = &written(FIRST + 3, "never")[..40];
    let ten = format!("{}\n{half}", written(FIRST + 2, "three"));
    fs::write(folder.join("receive-10.jsonl"), ten).unwrap();
    fs::write(folder.join("receive-11.jsonl"), "").unwrap();
    stand.says(FIRST + 4, "four");
    let listening = stand.listen(stand.child(), &desk);
    assert_eq!(desk.texts(4).await, ["one", "two", "three", "four"]);
    listening.works().await;
    until("one file", async || {
        let names: Vec<_> =
            stand.files().iter().map(|path| path.file_name().unwrap().to_owned()).collect();
        (names == ["receive-12.jsonl"]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_an_earlier_version_left_in_its_place_is_read_and_removed() {
    let (stand, desk) = (Stand::new(), Desk::new());
    let earlier = stand.data().join("signal");
    fs::create_dir_all(&earlier).unwrap();
    fs::write(earlier.join("receive-3.jsonl"), written(FIRST, "one") + "\n").unwrap();
    stand.says(FIRST + 1, "two");
    let listening = stand.listen(stand.child(), &desk);
    assert_eq!(desk.texts(2).await, ["one", "two"]);
    listening.works().await;
    let gone = async || (!earlier.join("receive-3.jsonl").exists()).then_some(());
    until("it is removed", gone).await;
}

/// What an earlier signal-cli still writes is waited for; one that does not end is ended.
#[tokio::test]
async fn an_earlier_process_is_waited_for_and_then_ended() {
    let (mut stand, desk) = (Stand::new(), Desk::new());
    stand.patience.end = std::time::Duration::from_millis(200);
    let folder = stand.config();
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("receive-1.jsonl");
    let file = fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
    file.lock().unwrap();
    let script = format!("echo '{}'; exec sleep 1000", written(FIRST, "late"));
    let mut earlier = tokio::process::Command::new("sh")
        .args(["-c", &script])
        .stdout(file)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let number = earlier.id().unwrap();
    let started = |stat: &str| {
        stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().to_owned()
    };
    // Who is ended before it has said anything leaves nothing.
    let said = async || (fs::metadata(&path).unwrap().len() > 0).then_some(());
    until("its words", said).await;
    let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap();
    fs::write(folder.join("receive-1.pid"), format!("{number} {}", started(&stat))).unwrap();
    let listening = stand.listen(stand.child(), &desk);
    let ended = until("its end", async || earlier.try_wait().unwrap()).await;
    assert!(!ended.success());
    assert_eq!(desk.texts(1).await, ["late"]);
    listening.works().await;
    until("no card", async || (!folder.join("receive-1.pid").exists()).then_some(())).await;
}

#[tokio::test]
async fn what_was_taken_takes_no_room() {
    let (stand, desk) = (Stand::new(), Desk::new());
    let listening = stand.listen(stand.child(), &desk);
    let text = "x".repeat(20_000);
    for number in 0..100 {
        stand.says(FIRST + number, &text);
    }
    desk.heard(100).await;
    until("room", async || {
        let files = stand.files();
        let file = fs::metadata(files.first()?).unwrap();
        (file.len() > 2_000_000 && file.blocks() * 512 < 100_000).then_some(())
    })
    .await;
    let mode = fs::metadata(&stand.files()[0]).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(listening);
}

/// A full disk breaks off a line, and the next one stands behind it.
#[tokio::test]
async fn a_line_that_was_broken_off_takes_nothing_with_it() {
    let (stand, desk) = (Stand::new(), Desk::new());
    stand.inject(&json!({"raw": &written(FIRST, "broken off")[..300]}));
    stand.says(FIRST + 1, "one");
    let _listening = stand.listen(stand.child(), &desk);
    assert_eq!(desk.texts(1).await, ["one"]);
}

#[tokio::test]
async fn a_file_that_somebody_removed_is_not_waited_for() {
    let (mut stand, desk) = (Stand::new(), Desk::new());
    stand.patience.end = std::time::Duration::from_millis(100);
    let folder = stand.config();
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("receive-1.jsonl");
    let held = fs::File::create(&path).unwrap();
    held.lock().unwrap();
    let listening = stand.listen(stand.child(), &desk);
    listening.is_deaf("an earlier signal-cli has not ended").await;
    fs::remove_file(&path).unwrap();
    listening.works().await;
    drop(held);
}
