//! What is asked of signal-cli when a part is sent, and what is said of how it went.

use std::time::Duration;

use serde_json::{Value, json};
use turnkeep_core::outbox::DeliveryOutcome;
use turnkeep_core::ports::channel::Channel as _;
use turnkeep_core::ports::intake::{Pulse, Quoted};

use crate::intake::Desk;
use crate::stand::{ANNA, FIRST, Stand, US, part, pass};

const GROUP: &str = "Pmpi+EfPWmsxiomLe9Nx2XF9HOE483p6iKiFj65iMwI=";

#[track_caller]
fn check_failed(outcome: &DeliveryOutcome, words: &str, expect: (bool, Option<u64>)) {
    let DeliveryOutcome::Failed { error, retry, retry_after_ms } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(error.contains(words), "{error}");
    assert_eq!((*retry, *retry_after_ms), expect, "{error}");
}

#[track_caller]
fn check_unknown(outcome: &DeliveryOutcome, words: &str) {
    let DeliveryOutcome::Unknown { error } = outcome else { panic!("{outcome:?}") };
    assert!(error.contains(words), "{error}");
}

#[tokio::test]
async fn a_part_goes_to_a_person_or_a_group_and_quotes_what_it_answers() {
    let (stand, desk) = (Stand::new(), Desk::new());
    let listening = stand.listen(stand.child(), &desk);
    listening.works().await;
    assert_eq!(listening.send("hi\nthere").await, DeliveryOutcome::Sent);
    let mut to_group = part(&format!("default:default:signal:group:{GROUP}"), "all");
    let text = "q".repeat(300).as_str().into();
    to_group.quote =
        Some(Quoted { message_id: FIRST.to_string().into(), author: ANNA.into(), text });
    assert_eq!(listening.channel.send(to_group).await, DeliveryOutcome::Sent);
    let expected = [
        json!({"account": US, "message": "hi\nthere", "recipient": [ANNA]}),
        json!({"account": US, "message": "all", "groupId": GROUP, "quoteTimestamp": FIRST,
            "quoteAuthor": ANNA, "quoteMessage": "q".repeat(200)}),
    ];
    assert_eq!(stand.called("send"), expected);
    let elsewhere = part("shop:default:signal:dm:x", "hi");
    check_failed(&listening.channel.send(elsewhere).await, "no Signal account", (false, None));
}

#[tokio::test]
async fn failures_are_told_apart() {
    let (stand, desk) = (Stand::new(), Desk::new());
    let listening = stand.listen(stand.child(), &desk);
    listening.works().await;
    let rule = |content: Value| {
        let mut rule = json!({"method": "send"});
        rule.as_object_mut().unwrap().extend(content.as_object().unwrap().clone());
        stand.faults(&json!([rule]));
    };
    let fail = |kind: &str| rule(json!({"do": "fail", "type": kind}));
    fail("UNREGISTERED_FAILURE");
    check_failed(&listening.send("x").await, "not registered", (false, None));
    fail("IDENTITY_FAILURE");
    check_failed(&listening.send("x").await, "turnkeep signal trust", (false, None));
    // These concern one person; the account sends.
    assert_eq!(listening.health()[0].sending, Pulse::Working);
    fail("NETWORK_FAILURE");
    check_failed(&listening.send("x").await, "can't reach Signal", (true, None));
    assert!(matches!(listening.health()[0].sending, Pulse::Failing { .. }));
    assert_eq!(listening.health()[0].receiving, Pulse::Working);
    rule(
        json!({"do": "fail", "type": "RATE_LIMIT_FAILURE", "retryAfterSeconds": 90, "token": "t"}),
    );
    check_failed(&listening.send("x").await, "challenge t", (true, Some(90_000)));
    rule(json!({"do": "partly", "type": "UNREGISTERED_FAILURE"}));
    let to_group = part(&format!("default:default:signal:group:{GROUP}"), "all");
    assert_eq!(listening.channel.send(to_group).await, DeliveryOutcome::Sent);
    assert_eq!(listening.health()[0].sending, Pulse::Working);
    rule(json!({"do": "refuse", "code": -1, "message": "User is not a group member: x"}));
    check_failed(&listening.send("x").await, "not in this group", (false, None));
    rule(json!({"do": "raw", "text": "not for anybody\n"}));
}

#[tokio::test]
async fn what_nobody_knows_is_unknown() {
    let (stand, desk) = (Stand::new(), Desk::new());
    let listening = stand.listen(stand.child(), &desk);
    listening.works().await;
    let rule = |deed: &str| {
        stand.faults(&json!([{"name": deed, "method": "send", "times": 1, "do": deed}]));
    };
    rule("lose");
    let too_late = async {
        stand.calls("send", 1).await;
        pass(stand.patience.send).await;
    };
    let (outcome, ()) = tokio::join!(listening.send("x"), too_late);
    check_unknown(&outcome, "no answer to send in time");
    rule("die_after");
    check_unknown(&listening.send("x").await, "signal-cli");
    listening.works().await;
    rule("die");
    check_unknown(&listening.send("x").await, "signal-cli");
    listening.works().await;
    assert_eq!(listening.send("y").await, DeliveryOutcome::Sent);
    assert_eq!(stand.called("send").len(), 3);
    assert_eq!(listening.health()[0].restarts, 2);
}

#[tokio::test]
async fn without_signal_cli_nothing_was_sent() {
    let (stand, desk) = (Stand::new(), Desk::new());
    let channel = stand.channel(stand.child());
    let outcome = channel.send(part("default:default:signal:dm:x", "hi")).await;
    check_failed(&outcome, "out of reach", (true, None));
    let listening = stand.listen(stand.child(), &desk);
    listening.works().await;
    let channel = std::sync::Arc::clone(&listening.channel);
    drop(listening);
    let gone = crate::stand::until("an end", async || {
        let outcome = channel.send(part("default:default:signal:dm:x", "hi")).await;
        (outcome != DeliveryOutcome::Sent).then_some(outcome)
    });
    check_failed(&gone.await, "out of reach", (true, None));
}

#[tokio::test]
async fn typing_is_shown_and_hidden_and_holds_up_nothing() {
    let (mut stand, desk) = (Stand::new(), Desk::new());
    // However slow it is, nobody gives up showing it.
    stand.patience.typing = Duration::from_secs(3600);
    let listening = stand.listen(stand.child(), &desk);
    listening.works().await;
    let anna = format!("default:default:signal:dm:{ANNA}").parse().unwrap();
    let group = format!("default:default:signal:group:{GROUP}").parse().unwrap();
    listening.channel.typing(&anna, true).await;
    listening.channel.typing(&group, true).await;
    listening.channel.typing(&anna, false).await;
    let expected = [
        json!({"account": US, "recipient": [ANNA]}),
        json!({"account": US, "groupId": GROUP}),
        json!({"account": US, "recipient": [ANNA], "stop": true}),
    ];
    assert_eq!(stand.called("sendTyping"), expected);
    stand.faults(&json!([{"method": "sendTyping", "do": "hang"}]));
    let typing = listening.channel.typing(&anna, true);
    tokio::select! {
        biased;
        () = typing => panic!("it was answered"),
        outcome = listening.send("x") => assert_eq!(outcome, DeliveryOutcome::Sent),
    }
}
