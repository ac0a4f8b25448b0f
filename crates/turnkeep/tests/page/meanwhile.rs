//! What happens while an agent is at work: it goes on when the test lets it.

use crate::kit::api::moment;
use crate::kit::browser::Browser;
use crate::kit::server::Server;

/// Repeats what it was told as soon as it may.
pub(crate) const GATED: &str = r#"
import json, os, sys

asked = json.loads(sys.stdin.readline())["messages"][0]["text"]
os.read(os.open("gate", os.O_RDONLY), 1)
print(json.dumps({"type": "finished", "reply": "echo: " + asked}))
"#;

#[tokio::test]
async fn two_people_are_answered_at_the_same_time() {
    let server = Server::with_brain(GATED);
    let browser = Browser::start().await;
    let anna = browser.person(&server, "Anna").await;
    let bert = browser.person(&server, "Bert").await;
    anna.begin("How long is the night?").await;
    bert.begin("Is it raining?").await;
    anna.send().await;
    bert.send().await;
    anna.until("status('How long is the night?') === 'processing'").await;
    bert.until("status('Is it raining?') === 'processing'").await;
    server.let_through(2);
    anna.until("replies().includes('echo: How long is the night?')").await;
    bert.until("replies().includes('echo: Is it raining?')").await;
    let (first, second) = (server.api().journal("Anna").await, server.api().journal("Bert").await);
    for (one, other) in [(&first, &second), (&second, &first)] {
        assert!(
            moment(one, "turn.processing") < moment(other, "turn.completed"),
            "one waited for the other: {one:?} {other:?}"
        );
    }
    anna.compare(&server.api()).await;
    bert.compare(&server.api()).await;
    browser.is_content().await;
}

/// Says what it was told, a piece whenever it may go on: the first words, what has joined meanwhile,
/// and the end.
const STEPWISE: &str = r#"
import json, os, sys

def tell(**said):
    print(json.dumps(said), flush=True)

gate = os.open("gate", os.O_RDONLY)
first = json.loads(sys.stdin.readline())["messages"][0]["text"]
os.read(gate, 1)
tell(type="say", text="echo: " + first)
os.read(gate, 1)
tell(type="take_mail", id="1")
heard = {}
while heard.get("type") != "mail":
    heard = json.loads(sys.stdin.readline())
more = "".join("\n" + one["text"] for one in heard["messages"])
tell(type="say", text=more)
os.read(gate, 1)
tell(type="finished", reply="echo: " + first + more, used=heard["messages"][-1]["seq"])
"#;

#[tokio::test]
async fn what_is_written_meanwhile_joins_the_answer() {
    let server = Server::with_brain(STEPWISE);
    let browser = Browser::start().await;
    let anna = browser.person(&server, "Anna").await;
    anna.write("one two three four five six").await;
    anna.begin("seven").await;
    anna.until("wasDrawn('typing')").await;
    server.let_through(1);
    anna.until("draft().startsWith('echo: one')").await;
    anna.holds("document.querySelector('[data-testid=state]').textContent === 'working'").await;
    anna.send().await;
    anna.until("wasDrawn('user joined seven')").await;
    server.let_through(1);
    anna.until("draft().endsWith('seven')").await;
    server.let_through(1);
    anna.until("replies().includes('echo: one two three four five six\\nseven')").await;
    anna.holds("replies().length === 1 && draft() === '' && !visible('typing')").await;
    anna.holds(
        "status('seven') === 'answered' && new Set(rows().map((row) => row.turn)).size === 1",
    )
    .await;
    // It grew to what became the answer.
    anna.holds("drafts().length > 1").await;
    anna.holds("[...drafts(), replies()[0]].every((one, at, all) => at === 0 || one.startsWith(all[at - 1]))")
        .await;
    anna.compare(&server.api()).await;
    browser.is_content().await;
}
