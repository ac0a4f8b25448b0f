//! What a server of tools may answer, and what that says of the act.

use serde_json::json;
use turnkeep_core::tool::SideEffects;
use turnkeep_core::tool::ToolOutcome::{Done, Failed, Unknown};

use super::Liar;

#[tokio::test]
async fn an_answer_says_what_came_of_the_call() {
    let liar = Liar::new(|_| ());
    liar.check("echo", r#"{"text":"moin"}"#, Done, "moin").await;
    liar.check("fail", "{}", Unknown, "no money left").await;
    // Said before it began, or after it was done? Nobody can tell.
    let refused = "the tool server answered with error -32602: which order?";
    liar.check("refuse", "{}", Unknown, refused).await;
    let broke = "the tool server answered with error -32603: oh";
    liar.check("break", "{}", Unknown, broke).await;
    liar.check("shapeless", "{}", Unknown, "the tool's answer makes no sense").await;
    liar.check("wrong_id", "{}", Done, "right").await;
    liar.check("twice", "{}", Done, "first").await;
    let image = "[image, image/png, about 3000 bytes; left out]";
    liar.check("binary", "{}", Done, image).await;
    for arguments in ["", "[]", "7", "{"] {
        let said = "the arguments are no JSON object; the tool was not called";
        liar.check("echo", arguments, Failed, said).await;
    }
    // All of it over one connection.
    let begun = liar.noted().iter().filter(|message| message["method"] == "initialize").count();
    assert_eq!(begun, 1);
}

#[tokio::test]
async fn an_answer_that_can_not_be_taken_settles_its_call_at_once() {
    let liar = Liar::new(|_| ());
    let said = liar.call("nonsense", "{}").await;
    assert_eq!(said.outcome, Unknown);
    assert!(said.output.starts_with("the tool's answer can't be used: "), "{}", said.output);
    let huge = "the tool's answer can't be used: more than 4194304 bytes";
    liar.check("huge", "{}", Unknown, huge).await;
    liar.check("echo", r#"{"text":"still here"}"#, Done, "still here").await;
}

#[tokio::test]
async fn whoever_trusts_a_servers_errors_may_call_again() {
    let liar = Liar::new(|settings| settings.policy.errors_mean_not_done = true);
    liar.check("fail", "{}", Failed, "no money left").await;
    let refused = "the tool server refused the call with -32602: which order?";
    liar.check("refuse", "{}", Failed, refused).await;
    let broke = "the tool server answered with error -32603: oh";
    liar.check("break", "{}", Unknown, broke).await;
}

#[tokio::test]
async fn what_may_be_done_again_may_be_called_again() {
    let liar = Liar::new(|settings| {
        settings.policy.effects = vec![("refuse".to_owned(), SideEffects::Idempotent)];
    });
    let refused = "the tool server refused the call with -32602: which order?";
    liar.check("refuse", "{}", Failed, refused).await;
}

#[tokio::test]
async fn calls_run_beside_each_other() {
    let liar = Liar::new(|_| ());
    let (slow, echo) = tokio::join!(liar.call("slow", r#"{"after":"go"}"#), async {
        liar.noted_once("tools/call").await;
        liar.call("echo", r#"{"text":"go"}"#).await
    });
    assert_eq!((slow.output.as_str(), echo.output.as_str()), ("at last", "go"));
}

#[tokio::test]
async fn what_a_server_asks_of_us_is_refused() {
    let liar = Liar::new(|_| ());
    let said = liar.call("ask", "{}").await;
    let answers: serde_json::Value = serde_json::from_str(&said.output).unwrap();
    let expect = json!({"a": -32601, "b": {"action": "decline"}, "c": {"roots": []}, "d": -32601});
    assert_eq!(answers, expect);
}
