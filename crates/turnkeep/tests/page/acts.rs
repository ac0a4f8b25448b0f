//! What tools did, and who answers in the agent's place, as the page shows it.

use serde_json::json;

use crate::kit::browser::Browser;
use crate::kit::server::{FOREVER_MS, Server};

/// Pays back what it is asked for; "slowly" begins to and never comes back.
const SHOP: &str = r#"
import json, sys

def tell(**said):
    print(json.dumps(said), flush=True)

def heard():
    line = sys.stdin.readline()
    return json.loads(line) if line else sys.exit()

turn = heard()
asked = turn["messages"][-1]["text"]
tell(type="intend", id="1", tool="refund", effects="irreversible", key=asked, input=asked)
answer = heard()
if answer["type"] == "known":
    tell(type="finished", reply=f"It was tried before: {answer['outcome']}.")
elif "slowly" in asked:
    sys.stdin.read()
else:
    tell(type="returned", id="2", call=answer["call"], outcome="done", output="20 <b>EUR</b>")
    heard()
    tell(type="finished", reply="Paid back.")
"#;

#[tokio::test]
async fn what_a_tool_did_stands_above_the_answer() {
    let server = Server::with_brain(SHOP);
    let browser = Browser::start().await;
    let anna = browser.person(&server, "Anna").await;
    anna.write("order 17").await;
    anna.until("replies().includes('Paid back.') && calls()[0]?.outcome === 'done'").await;
    anna.holds("calls().length === 1 && calls()[0].tool === 'refund' && !calls()[0].open").await;
    anna.holds("calls()[0].effects === 'irreversible'").await;
    anna.holds("calls()[0].told.join('|') === 'order 17|20 <b>EUR</b>'").await;
    anna.holds("rows().map((row) => row.role).join(' ') === 'user tool agent'").await;
    // By keyboard, and what it says has enough contrast, opened and closed.
    anna.holds("faint(4.5).length === 0").await;
    anna.ask("void document.querySelector('.row.tool summary').click()").await;
    anna.until("calls()[0].open").await;
    anna.holds("document.documentElement.scrollHeight <= window.innerHeight").await;
    anna.holds("faint(4.5).length === 0").await;
    anna.reload().await;
    anna.until("calls()[0]?.outcome === 'done' && replies().includes('Paid back.')").await;
    anna.compare(&server.api()).await;
    browser.is_content().await;
}

#[tokio::test]
async fn what_nobody_knows_after_a_kill_is_said() {
    let mut server = Server::with_brain(SHOP);
    let browser = Browser::start().await;
    let anna = browser.person(&server, "Anna").await;
    anna.write("order 18 slowly").await;
    anna.until("calls()[0]?.status === 'calling'").await;
    server.restart();
    anna.until("replies().includes('It was tried before: unknown.')").await;
    anna.holds("calls()[0].outcome === 'nobody knows whether it was done'").await;
    anna.holds("calls().length === 1 && faint(4.5).length === 0").await;
    anna.compare(&server.api()).await;
    server.kill();
    server.audit();
}

#[tokio::test]
async fn a_person_answers_in_the_agents_place() {
    let server = Server::start(100, "");
    let browser = Browser::start().await;
    let anna = browser.person(&server, "Anna").await;
    anna.write("hello").await;
    anna.until("replies().includes('echo: hello')").await;
    let api = server.api();
    api.steer("Anna", "pause", &json!({ "by": "Maria" })).await;
    anna.until("notices().includes('Maria answers here now.')").await;
    anna.write("is anybody there?").await;
    anna.until("chip('is anybody there?') === 'a person will answer'").await;
    anna.holds("!visible('typing') && faint(4.5).length === 0").await;
    anna.holds("document.querySelector('[data-testid=state]').textContent === 'with a person'")
        .await;
    api.steer("Anna", "reply", &json!({ "text": "Yes, **me**.", "by": "Maria" })).await;
    anna.until("replies().includes('Yes, me.') && status('is anybody there?') === 'answered'")
        .await;
    anna.holds("document.querySelector('.person-chip').textContent === 'Maria'").await;
    api.steer("Anna", "reply", &json!({ "text": "Anything else?", "by": "Maria" })).await;
    anna.until("replies().includes('Anything else?')").await;
    api.steer("Anna", "hand_back", &json!({})).await;
    anna.until("notices().includes('The agent answers again.')").await;
    anna.write("no").await;
    anna.until("replies().includes('echo: no')").await;
    anna.holds("faint(4.5).length === 0").await;
    anna.reload().await;
    anna.until("replies().includes('echo: no') && replies().includes('Anything else?')").await;
    browser.is_content().await;
}

/// Asks before it acts.
pub(crate) const CAREFUL: &str = r#"
import json, sys

turn = json.loads(sys.stdin.readline())
asked = turn["messages"][0]["text"]
print(json.dumps({"type": "ask", "id": "1", "text": f"Shall I refund {asked}?", "confirm": True}), flush=True)
said = json.loads(sys.stdin.readline())["message"]["text"]
print(json.dumps({"type": "finished", "reply": f"You said {said}."}), flush=True)
"#;

#[tokio::test]
async fn a_question_that_allows_an_act_has_a_yes_and_a_no() {
    let server = Server::with_brain(CAREFUL);
    let browser = Browser::start().await;
    let anna = browser.person(&server, "Anna").await;
    for (order, word) in [("order 17", "yes"), ("order 18", "no")] {
        anna.write(order).await;
        anna.until(&format!("replies().includes('Shall I refund {order}?') && visible('{word}')"))
            .await;
        anna.holds("faint(4.5).length === 0").await;
        anna.until("announced() === ''").await;
        anna.click(word).await;
        let said = if word == "yes" { "You said Yes." } else { "You said No." };
        anna.until(&format!("replies().includes('{said}') && !visible('yes')")).await;
        anna.until("announced() === 'Answered'").await;
    }
    anna.compare(&server.api()).await;
    browser.is_content().await;
}

#[tokio::test]
async fn a_command_stands_on_the_page_with_its_answer() {
    let server = Server::start(FOREVER_MS, "");
    let browser = Browser::start().await;
    let anna = browser.person(&server, "Anna").await;
    anna.write("a long one").await;
    anna.until("status('a long one') === 'processing'").await;
    anna.write("/stop").await;
    anna.until("status('a long one') === 'stopped' && notices().includes('Stopped.')").await;
    anna.holds("status('/stop') === 'sent' && !visible('stop')").await;
    anna.compare(&server.api()).await;
    // Read again from the beginning it stands there as well.
    let again = browser.person(&server, "Anna").await;
    again.until("status('/stop') === 'sent' && notices().includes('Stopped.')").await;
    browser.is_content().await;
}
