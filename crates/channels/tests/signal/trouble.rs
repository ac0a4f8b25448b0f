//! Whatever breaks is mended, and whoever asks is told what is broken.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use turnkeep_channels::signal::Way;
use turnkeep_core::outbox::DeliveryOutcome;
use turnkeep_core::ports::channel::Channel as _;
use turnkeep_core::ports::intake::{Pulse, Taken};

use crate::intake::Desk;
use crate::stand::{ANNA, FIRST, Listening, Stand, US, data_message, envelope, part, pass, until};

#[tokio::test]
async fn a_message_is_read_once_it_is_durable() {
    let (stand, desk) = (Stand::new(), Desk::new());
    desk.open(false);
    stand.says(FIRST, "one");
    let listening = stand.listen(stand.child(), &desk);
    desk.heard(1).await;
    listening.works().await;
    assert_eq!(stand.called("sendReceipt"), [] as [serde_json::Value; 0]);
    desk.open(true);
    let receipt =
        json!({"account": US, "recipient": ANNA, "targetTimestamp": [FIRST], "type": "read"});
    assert_eq!(stand.calls("sendReceipt", 1).await, [receipt]);
    assert_eq!(stand.called("subscribeReceive"), [json!({"account": US})]);
}

#[tokio::test]
async fn what_is_refused_or_ignored_is_not_read() {
    let (stand, desk) = (Stand::new(), Desk::new());
    desk.answer(&[Taken::Refused("no".into()), Taken::Ignored("a stranger")]);
    for (place, text) in ["one", "two", "three"].into_iter().enumerate() {
        stand.says(FIRST + i64::try_from(place).unwrap(), text);
    }
    let _listening = stand.listen(stand.child(), &desk);
    assert_eq!(desk.texts(3).await, ["one", "two", "three"]);
    let receipts = stand.calls("sendReceipt", 1).await;
    assert_eq!(receipts[0]["targetTimestamp"], json!([FIRST + 2]));
}

/// The store is down for a while: the envelope is kept, those behind it wait, calls go on.
#[tokio::test]
async fn an_envelope_is_offered_until_it_is_durable() {
    let (stand, desk) = (Stand::new(), Desk::new());
    desk.answer(&vec![Taken::Unavailable("the disk is full".into()); 20]);
    stand.says(FIRST, "one");
    stand.says(FIRST + 1, "two");
    let listening = stand.listen(stand.child(), &desk);
    listening.is_deaf("the disk is full").await;
    assert_eq!(listening.send("meanwhile").await, DeliveryOutcome::Sent);
    let mut expected = vec!["one"; 21];
    expected.push("two");
    assert_eq!(desk.texts(22).await, expected);
    listening.works().await;
}

#[tokio::test]
async fn a_slow_intake_holds_up_its_own_account_only() {
    const OTHER: &str = "+4915100000009";
    let desk = Desk::new();
    let mut stand = Stand::new().with(&[("home", US, "default"), ("shop", OTHER, "shop")]);
    stand.patience.stuck = Duration::from_millis(50);
    desk.shut("home");
    stand.says(FIRST, "stuck");
    stand.says(FIRST + 1, "behind it");
    let content = data_message(FIRST + 2, json!({"message": "goes on"}));
    stand.inject(&json!({"account": OTHER, "envelope": envelope(FIRST + 2, &content)}));
    let listening = stand.listen(stand.child(), &desk);
    let mut texts = desk.texts(2).await;
    texts.sort();
    assert_eq!(texts, ["goes on", "stuck"]);
    listening.is_deaf("an envelope is not taken").await;
    assert_eq!(&*listening.health()[1].account, "shop");
    // Sending works while receiving is stuck.
    until("the rest works", async || {
        let health = listening.health();
        let rest = [&health[1].receiving, &health[0].sending];
        rest.iter().all(|pulse| **pulse == Pulse::Working).then_some(())
    })
    .await;
    assert_eq!(listening.send("x").await, DeliveryOutcome::Sent);
}

#[tokio::test]
async fn a_process_that_dies_is_started_again() {
    let (stand, desk) = (Stand::new(), Desk::new());
    let listening = stand.listen(stand.child(), &desk);
    for round in 0..5 {
        listening.works().await;
        stand.says(FIRST + round, "hi");
        stand.kill().await;
        stand.starts(usize::try_from(round).unwrap() + 2).await;
    }
    listening.works().await;
    // What was written just before a death may come again; it has the same id.
    let heard = || {
        let mut ids: Vec<_> =
            desk.all().into_iter().map(|one| one.message_id.to_string()).collect();
        ids.dedup();
        ids
    };
    let ids = until("five", async || Some(heard()).filter(|ids| ids.len() >= 5)).await;
    let expected: Vec<String> = (0..5).map(|round| (FIRST + round).to_string()).collect();
    assert_eq!(ids, expected);
    assert!(listening.health()[0].restarts >= 5);
    until("one file", async || (stand.files().len() == 1).then_some(())).await;
}

#[tokio::test]
async fn a_process_that_answers_nothing_is_replaced() {
    let (mut stand, desk) = (Stand::new(), Desk::new());
    stand.patience.call = Duration::from_secs(1);
    let listening = stand.listen(stand.child(), &desk);
    listening.works().await;
    stand.faults(&json!([{"name": "hang", "method": "listAccounts", "times": 2, "do": "hang"}]));
    stand.starts(2).await;
    listening.works().await;
    stand.says(FIRST, "after it");
    assert_eq!(desk.texts(1).await[0], "after it");
}

#[tokio::test]
async fn without_the_program_it_says_so() {
    let (stand, desk) = (Stand::new(), Desk::new());
    let way = Way::Child { command: vec!["no-such-signal-cli".into()], config_dir: stand.config() };
    let listening = stand.listen(way, &desk);
    listening.is_deaf("there is no program \"no-such-signal-cli\"").await;
    let dies = Way::Child {
        command: vec!["sh".into(), "-c".into(), "echo Java is too old >&2; exit 1".into()],
        config_dir: stand.config(),
    };
    stand.listen(dies, &desk).is_deaf("exit status: 1: Java is too old").await;
}

#[tokio::test]
async fn an_account_that_is_linked_later_is_heard() {
    let (stand, desk) = (Stand::new(), Desk::new());
    std::fs::write(stand.dir().join("accounts"), "+4915100000007\n").unwrap();
    let listening = stand.listen(stand.child(), &desk);
    listening.is_deaf("turnkeep signal link").await;
    let outcome = listening.send("x").await;
    let pause = Some(30_000);
    assert!(
        matches!(&outcome, DeliveryOutcome::Failed { retry: true, retry_after_ms, .. } if *retry_after_ms == pause),
        "{outcome:?}"
    );
    assert_eq!(
        turnkeep_channels::signal::link(&stand.child(), "turnkeep", |_| ()).await.unwrap(),
        US
    );
    listening.works().await;
    let content = data_message(FIRST, json!({"message": "linked"}));
    stand.inject(&json!({"account": US, "envelope": envelope(FIRST, &content)}));
    assert_eq!(desk.texts(1).await, ["linked"]);
}

#[tokio::test]
async fn ten_envelopes_in_a_row_that_nobody_can_read_are_a_trouble() {
    let (stand, desk) = (Stand::new(), Desk::new());
    let listening = stand.listen(stand.child(), &desk);
    listening.works().await;
    for _ in 0..10 {
        stand.inject(&json!({"exception": {"type": "InvalidKeyException", "message": "x"}}));
    }
    listening.is_deaf("reads no message any more: InvalidKeyException").await;
    stand.says(FIRST, "one that it can read");
    listening.works().await;
}

/// It runs and reads nothing: what was written to it may be read later, so nobody knows.
#[tokio::test]
async fn a_process_that_reads_no_calls_is_replaced() {
    let (mut stand, desk) = (Stand::new(), Desk::new());
    // It is the end of the process that tells what became of it.
    stand.patience.send = Duration::from_secs(600);
    stand.patience.end = Duration::from_millis(200);
    let listening = stand.listen(stand.child(), &desk);
    listening.works().await;
    stand.mark("deaf", true);
    let in_vain = async {
        // It is asked twice whether it is there, with a pause before each question.
        for _ in 0..5 {
            pass(stand.patience.call).await;
        }
    };
    let (outcome, ()) = tokio::join!(listening.send("x"), in_vain);
    assert!(matches!(outcome, DeliveryOutcome::Unknown { .. }), "{outcome:?}");
    stand.starts(2).await;
    stand.mark("deaf", false);
    listening.works().await;
    assert_eq!(listening.send("y").await, DeliveryOutcome::Sent);
}

#[tokio::test]
async fn an_envelope_that_makes_us_stumble_stops_nothing() {
    let (stand, desk) = (Stand::new(), Desk::new());
    stand.says(FIRST, "panic");
    stand.says(FIRST + 1, "goes on");
    let listening = stand.listen(stand.child(), &desk);
    assert_eq!(desk.texts(1).await, ["goes on"]);
    listening.works().await;
}

/// Nobody waits for an answer that nobody reads, and signal-cli is told that nothing more comes.
#[tokio::test]
async fn a_message_on_its_way_ends_with_the_listening() {
    let (mut stand, desk) = (Stand::new(), Desk::new());
    stand.patience.send = Duration::from_secs(3600);
    stand.patience.end = Duration::from_secs(3600);
    let listening = stand.listen(stand.child(), &desk);
    listening.works().await;
    stand.faults(&json!([{"method": "send", "do": "lose"}]));
    let channel = Arc::clone(&listening.channel);
    let part = part(&format!("default:default:signal:dm:{ANNA}"), "x");
    let sending = tokio::spawn(async move { channel.send(part).await });
    stand.calls("send", 1).await;
    drop(listening);
    until("an end", async || sending.is_finished().then_some(())).await;
    let outcome = sending.await.unwrap();
    assert!(matches!(outcome, DeliveryOutcome::Unknown { .. }), "{outcome:?}");
    let process = format!("/proc/{}", stand.starts(1).await[0]["pid"]);
    let is_gone = async || (!std::path::Path::new(&process).exists()).then_some(());
    until("its end", is_gone).await;
}

/// Its answer stands behind much else when it ends.
#[tokio::test]
async fn what_was_answered_before_a_death_is_known() {
    let (stand, desk) = (Stand::new(), Desk::new());
    let listening = stand.listen(stand.child(), &desk);
    listening.works().await;
    let before = "{}\n".repeat(200_000);
    stand.faults(&json!([{"name": "a", "method": "send", "times": 1, "do": "die_told",
        "text": before}]));
    assert_eq!(listening.send("x").await, DeliveryOutcome::Sent);
    stand.starts(2).await;
    assert_eq!(stand.called("send").len(), 1);
}

#[tokio::test]
async fn a_signal_cli_that_is_cut_off_says_so_in_its_log_only() {
    const WORDS: &str =
        "WARN  ReceiveHelper - Connection closed unexpectedly, reconnecting in 100 ms";
    let (stand, desk) = (Stand::new(), Desk::new());
    let listening = stand.listen(stand.child(), &desk);
    listening.works().await;
    for _ in 0..4 {
        stand.inject(&json!({"log": WORDS}));
    }
    stand.inject(&json!({"log": "WARN  ManagerImpl - Receiving messages failed, retrying"}));
    listening.is_deaf("no connection to Signal's servers").await;
    assert_eq!(listening.health()[0].sending, Pulse::Working);
    stand.says(FIRST, "there again");
    listening.works().await;
    // Few of them are no trouble.
    stand.inject(&json!({"log": WORDS}));
    stand.says(FIRST + 1, "behind it");
    desk.heard(2).await;
    listening.works().await;
}

/// What it was writing as the disk got full was broken off, and it hears nothing any more.
async fn hears_nothing(stand: &Stand, desk: &Arc<Desk>) -> Listening {
    let listening = stand.listen(stand.child(), desk);
    listening.works().await;
    stand.inject(&json!({"account": US, "raw": "{\"jsonrpc\":\"2.0\",\"method\":\"rec"}));
    stand.says(FIRST, "behind it");
    assert_eq!(desk.texts(1).await[0], "behind it");
    stand.mark("mute", true);
    stand.says(FIRST + 1, "while it was deaf");
    listening
}

/// Until it is started again, it answers.
#[tokio::test]
async fn a_signal_cli_that_hears_nothing_sends() {
    let (stand, desk) = (Stand::new(), Desk::new());
    let listening = hears_nothing(&stand, &desk).await;
    assert_eq!(listening.send("meanwhile").await, DeliveryOutcome::Sent);
    assert_eq!(listening.health()[0].restarts, 0);
}

#[tokio::test]
async fn a_signal_cli_that_answers_and_hears_nothing_is_started_again() {
    let (mut stand, desk) = (Stand::new(), Desk::new());
    stand.patience.broken = Duration::from_millis(300);
    let listening = hears_nothing(&stand, &desk).await;
    stand.starts(2).await;
    stand.mark("mute", false);
    desk.heard(2).await;
    listening.works().await;
    assert_eq!(listening.health()[0].restarts, 1);
    // The same where its log says that the thread ended which hears.
    stand.inject(&json!({"log": "Exception in thread \"receive-0\" java.lang.AssertionError"}));
    stand.starts(3).await;
    listening.works().await;
}

/// A start script that tells what it does, Java with a warning: neither is half a message.
#[tokio::test]
async fn what_others_say_on_its_line_starts_nothing_again() {
    let (mut stand, desk) = (Stand::new(), Desk::new());
    stand.patience.broken = Duration::from_millis(1);
    let listening = stand.listen(stand.child(), &desk);
    listening.works().await;
    for round in 0..5 {
        stand.inject(&json!({"account": US, "raw": "[0.01s][warning][gc] is ignored\n"}));
        let length = || std::fs::metadata(stand.dir().join("inject.jsonl")).unwrap().len();
        let at = || std::fs::read_to_string(stand.dir().join("inject.at")).unwrap_or_default();
        until("the warning", async || (at() == length().to_string()).then_some(())).await;
        // The answers stand behind it.
        for _ in 0..5 {
            assert_eq!(listening.send("goes on").await, DeliveryOutcome::Sent);
        }
        stand.says(FIRST + round, "and so does this");
        desk.heard(usize::try_from(round).unwrap() + 1).await;
    }
    assert_eq!(stand.starts(1).await.len(), 1);
    assert_eq!(listening.health()[0].restarts, 0);
}

/// Somebody else's folder, or a file in its place: signal-cli unpacks elsewhere.
#[tokio::test]
async fn a_folder_that_cannot_be_emptied_keeps_nothing_from_starting() {
    let (stand, desk) = (Stand::new(), Desk::new());
    std::fs::create_dir_all(stand.config()).unwrap();
    std::fs::write(stand.config().join("unpacked"), "no folder").unwrap();
    let listening = stand.listen(stand.child(), &desk);
    listening.works().await;
    stand.says(FIRST, "one");
    assert_eq!(desk.texts(1).await, ["one"]);
    assert!(turnkeep_channels::signal::version(&stand.child()).await.is_ok());
}

#[tokio::test]
async fn a_signal_cli_without_a_connection_for_long_is_started_again() {
    const WORDS: &str = "WARN  ReceiveHelper - Connection closed unexpectedly, reconnecting";
    let (mut stand, desk) = (Stand::new(), Desk::new());
    stand.patience.cut_off = Duration::from_millis(300);
    stand.patience.broken = Duration::from_millis(100);
    let listening = stand.listen(stand.child(), &desk);
    listening.works().await;
    for _ in 0..5 {
        stand.inject(&json!({"log": WORDS}));
    }
    stand.starts(2).await;
    listening.works().await;
    assert_eq!(listening.health()[0].restarts, 1);
}
