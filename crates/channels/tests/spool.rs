//! The spool as the outbox meets it: what is in the file when it says `Sent`, and what it says when
//! the file can't be written.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use turnkeep_channels::SpoolChannel;
use turnkeep_core::outbox::DeliveryOutcome;
use turnkeep_core::policy::channel_facts;
use turnkeep_core::ports::channel::{Channel, Outgoing};

/// Nothing here takes long; what does is broken.
const PATIENCE: Duration = Duration::from_secs(60);

fn spool(path: &Path) -> SpoolChannel {
    SpoolChannel::new(*channel_facts("signal").unwrap(), path).unwrap()
}

fn part(key: &str, text: &str) -> Outgoing {
    Outgoing {
        session: "acme:default:signal:dm:ann".parse().unwrap(),
        idempotency_key: key.to_owned(),
        attempt: 2,
        text: text.into(),
        quote: None,
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn check_failed(path: &Path, words: &str) {
    let outcome = spool(path).send(part("k", "hi")).await;
    let DeliveryOutcome::Failed { error, retry: true, retry_after_ms: None } = &outcome else {
        panic!("{outcome:?}")
    };
    assert!(error.contains(words) && error.contains(path.to_str().unwrap()), "{error}");
}

#[tokio::test]
async fn a_part_is_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.jsonl");
    let channel = spool(&path);
    assert_eq!(channel.facts().name, "signal");
    assert_eq!(channel.send(part("k1", "two\nlines \"äöü\"")).await, DeliveryOutcome::Sent);
    let mut written = lines(&path);
    let at = written[0].as_object_mut().unwrap().remove("at").unwrap().as_u64().unwrap();
    assert!(at > 1_700_000_000_000, "{at}");
    assert_eq!(
        written,
        [serde_json::json!({
            "session": "acme:default:signal:dm:ann",
            "idempotency_key": "k1",
            "attempt": 2,
            "text": "two\nlines \"äöü\"",
        })]
    );
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn lines_are_only_ever_appended() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.jsonl");
    std::fs::write(&path, "{\"old\":true}\n").unwrap();
    assert_eq!(spool(&path).send(part("k1", "new")).await, DeliveryOutcome::Sent);
    let written = lines(&path);
    assert_eq!((written.len(), &written[0]["old"]), (2, &Value::Bool(true)));
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.jsonl");
    let channel = spool(&path);
    channel.send(part("k1", "one")).await;
    std::fs::rename(&path, directory.path().join("taken.jsonl")).unwrap();
    channel.send(part("k2", "two")).await;
    assert_eq!(lines(&path)[0]["idempotency_key"], "k2");
}

/// Whether anybody in this process has the file open beside the test itself.
fn is_open_twice(path: &Path) -> bool {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let links = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    links.filter(|link| link == path).count() == 2
}

#[tokio::test]
async fn who_waited_for_the_lock_does_not_write_to_what_was_moved_away() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().canonicalize().unwrap();
    let (path, taken) = (directory.join("out.jsonl"), directory.join("taken.jsonl"));
    let channel = Arc::new(spool(&path));
    assert_eq!(channel.send(part("k1", "one")).await, DeliveryOutcome::Sent);
    // A reader holds the lock, and meanwhile a part comes.
    let held = std::fs::File::open(&path).unwrap();
    held.lock().unwrap();
    let sender = Arc::clone(&channel);
    let sending = tokio::spawn(async move { sender.send(part("k2", "two")).await });
    let opened = async {
        while !is_open_twice(&path) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, opened).await.expect("nobody opens the spool");
    std::fs::rename(&path, &taken).unwrap();
    assert_eq!(lines(&taken).len(), 1);
    std::fs::remove_file(&taken).unwrap();
    drop(held);
    assert_eq!(sending.await.unwrap(), DeliveryOutcome::Sent);
    assert_eq!(lines(&path)[0]["idempotency_key"], "k2");
}

#[tokio::test]
async fn half_a_line_swallows_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.jsonl");
    std::fs::write(&path, "{\"session\":\"cut o").unwrap();
    assert_eq!(spool(&path).send(part("k1", "whole")).await, DeliveryOutcome::Sent);
    let text = std::fs::read_to_string(&path).unwrap();
    let last = text.lines().last().unwrap();
    assert_eq!(text.lines().count(), 2);
    assert_eq!(serde_json::from_str::<Value>(last).unwrap()["text"], "whole");
}

#[tokio::test]
async fn a_missing_directory_is_a_failure() {
    let directory = tempfile::tempdir().unwrap();
    check_failed(&directory.path().join("nowhere/out.jsonl"), "can't open").await;
}

#[tokio::test]
async fn what_cannot_be_written_is_a_failure() {
    let directory = tempfile::tempdir().unwrap();
    // A directory can be written by nobody, root included, and this device is always full.
    check_failed(directory.path(), "can't open").await;
    check_failed(Path::new("/dev/full"), "can't write to").await;
}

#[tokio::test]
async fn it_recovers_when_the_directory_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("later/out.jsonl");
    let channel = spool(&path);
    assert!(matches!(channel.send(part("k1", "one")).await, DeliveryOutcome::Failed { .. }));
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    assert_eq!(channel.send(part("k1", "one")).await, DeliveryOutcome::Sent);
    assert_eq!(lines(&path).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_parts_stay_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.jsonl");
    // Two channels on one file, as two gateways would be, and parts longer than one page.
    let channels = [Arc::new(spool(&path)), Arc::new(spool(&path))];
    let text = "long ".repeat(2000);
    let mut sends = tokio::task::JoinSet::new();
    for number in 0..200 {
        let channel = Arc::clone(&channels[number % 2]);
        let text = text.clone();
        sends.spawn(async move { channel.send(part(&number.to_string(), &text)).await });
    }
    let outcomes = sends.join_all().await;
    assert!(outcomes.iter().all(|outcome| *outcome == DeliveryOutcome::Sent));
    let written = lines(&path);
    assert!(written.iter().all(|line| line["text"] == text.as_str()));
    let keys: BTreeSet<&str> =
        written.iter().map(|line| line["idempotency_key"].as_str().unwrap()).collect();
    assert_eq!((written.len(), keys.len()), (200, 200));
}
