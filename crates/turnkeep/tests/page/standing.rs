//! Where a row stands on the page, and that what it says stands there whole.

use serde_json::json;

use crate::acts::CAREFUL;
use crate::kit::browser::Browser;
use crate::kit::server::Server;
use crate::meanwhile::GATED;

#[tokio::test]
async fn what_is_refused_stands_where_it_was_written() {
    let server = Server::with_brain(GATED);
    let browser = Browser::start().await;
    let anna = browser.person(&server, "Anna").await;
    anna.write("one").await;
    anna.until("status('one') === 'processing'").await;
    anna.paste(&"far too long ".repeat(6_000)).await;
    anna.send().await;
    anna.until("visible('discard')").await;
    let order = "rows().map((row) => row.status).join(' ')";
    anna.until(&format!("{order} === 'processing refused typing'")).await;
    server.let_through(1);
    anna.until("replies().includes('echo: one')").await;
    anna.holds(&format!("{order} === 'answered refused complete'")).await;
    anna.write("two").await;
    anna.until("status('two') === 'processing'").await;
    server.let_through(1);
    anna.until("replies().includes('echo: two')").await;
    let all = format!("{order} === 'answered refused complete answered complete'");
    anna.holds(&all).await;
    // What came last is in sight, and the long one takes little room.
    let last = "Array.from(document.querySelectorAll('#rows .row')).at(-1)";
    anna.until(&format!("{last}.getBoundingClientRect().bottom < innerHeight")).await;
    anna.holds("document.querySelector('[data-status=refused]').clientHeight < 260").await;
    anna.holds("faint(4.5).length === 0").await;
    anna.reload().await;
    anna.until(&all).await;
    anna.click("discard").await;
    let without = format!("{order} === 'answered complete answered complete'");
    anna.until(&without).await;
    anna.holds("document.activeElement.dataset.testid === 'message-input'").await;
    anna.reload().await;
    anna.until(&without).await;
    anna.compare(&server.api()).await;
    let complaints = browser.complaints().await;
    assert!(complaints.iter().all(|line| line.contains("422")), "{complaints:?}");
}

#[tokio::test]
async fn what_is_said_after_somebody_came_stands_below() {
    let server = Server::with_brain(CAREFUL);
    let browser = Browser::start().await;
    let anna = browser.person(&server, "Anna").await;
    anna.write("order 17").await;
    anna.until("visible('yes')").await;
    let api = server.api();
    api.steer("Anna", "pause", &json!({ "by": "Olga" })).await;
    anna.until("notices().includes('Olga answers here now.')").await;
    anna.write("hello?").await;
    anna.until("chip('hello?') === 'a person will answer'").await;
    api.steer("Anna", "reply", &json!({ "text": "Hello, I am Olga.", "by": "Olga" })).await;
    anna.until("replies().includes('Hello, I am Olga.')").await;
    api.steer("Anna", "hand_back", &json!({})).await;
    anna.until("notices().includes('The agent answers again.')").await;
    let order = "rows().map((row) => row.text).join('|') === 'order 17|Shall I refund order 17?|\
                 Olga answers here now.|hello?|Hello, I am Olga.|The agent answers again.'";
    anna.holds(order).await;
    anna.reload().await;
    anna.until(order).await;
    browser.is_content().await;
}

/// Asks what it was told, word for word.
const REPEATING: &str = r#"
import json, sys

asked = json.loads(sys.stdin.readline())["messages"][0]["text"]
print(json.dumps({"type": "ask", "id": "1", "text": asked, "confirm": True}), flush=True)
sys.stdin.readline()
print(json.dumps({"type": "finished", "reply": "Well."}), flush=True)
"#;

#[tokio::test]
async fn code_in_a_question_is_shown_as_it_is() {
    let server = Server::with_brain(REPEATING);
    let browser = Browser::start().await;
    let anna = browser.person(&server, "Anna").await;
    let questions = [
        ("Refund `**all** of _it_ \\*`?", "**all** of _it_ \\*"),
        ("Write `` `a` and ```b``` ``?", "`a` and ```b```"),
        ("Write ```` ``` ````?", "```"),
        ("Keep `  three   blanks `?", " three   blanks"),
        ("*Delete `old*`?", "old*"),
        ("Open `[bank](https://example.org)`?", "[bank](https://example.org)"),
        ("See [here `](https://example.org)`?", "](https://example.org)"),
        ("Or ``this `one`?", "one"),
    ];
    let text: Vec<&str> = questions.iter().map(|(question, _)| *question).collect();
    anna.paste(&text.join("\n\n")).await;
    anna.send().await;
    anna.until("visible('yes')").await;
    let codes = anna
        .ask("Array.from(document.querySelectorAll('.row.agent code'), (one) => one.innerText)")
        .await;
    let wanted: Vec<&str> = questions.iter().map(|(_, code)| *code).collect();
    assert_eq!(codes, json!(wanted));
    anna.holds("document.querySelectorAll('.row.agent :is(a, em, strong, pre)').length === 0")
        .await;
    anna.holds("replies()[0].endsWith('Or ``this one?')").await;
    browser.is_content().await;
}
