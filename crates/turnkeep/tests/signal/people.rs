//! Who may talk to it: a stranger with a code, a group with people who are trusted differently,
//! commands while a turn runs.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::crash_kit::audit;
use crate::kit::{Household, NUMBER, Phone, repository};

const ANNA: Phone = Phone(1);
const BEN: Phone = Phone(2);
const CARL: Phone = Phone(3);
const GROUP: &str = "tL9rJ0cD3hUb6Ej4GZkq2w==";

/// Anna is the owner and Ben is familiar; strangers need a code.
fn home() -> Household {
    let daemon = repository("crates/channels/tests/signal/daemon.py");
    let signal = format!("command = [\"python3\", {daemon:?}]\nunknown = \"pair\"");
    let more = format!(
        "[agents.default]\nkind = \"echo\"\n\
         [users.anna]\ntrust = \"owner\"\nids = \"signal:{}\"\n\
         [users.ben]\nids = \"signal:{}\"\n\
         [groups.family]\nid = \"signal:{GROUP}\"\nnames = [\"Keepy\"]\nceiling = \"inner\"\n",
        ANNA.uuid(),
        BEN.number(),
    );
    let mut home = Household::of(&signal, &more);
    home.link(NUMBER);
    home.start();
    home
}

/// Somebody writes in a group.
fn say_in_group(home: &Household, phone: Phone, group: &str, (at, text): (u64, &str)) {
    let envelope = json!({
        "source": phone.number(),
        "sourceNumber": phone.number(),
        "sourceUuid": phone.uuid(),
        "sourceName": "Ann\u{202E}a",
        "sourceDevice": 1,
        "timestamp": at,
        "dataMessage": {
            "timestamp": at,
            "message": text,
            "expiresInSeconds": 0,
            "isExpirationUpdate": false,
            "viewOnce": false,
            "groupInfo": { "groupId": group, "groupName": "Family", "revision": 1, "type": "DELIVER" },
        },
    });
    let line = json!({ "account": NUMBER, "envelope": envelope });
    let path = home.path("phone/inject.jsonl");
    let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
    writeln!(file, "{line}").unwrap();
}

/// What was sent to a group.
fn sent_to(home: &Household, group: &str) -> Vec<Value> {
    let calls = home.noted("sent.jsonl").into_iter();
    let sent = calls.filter(|call| call["method"] == "send").map(|call| call["params"].clone());
    sent.filter(|params| params["groupId"] == group || params["groupId"] == json!([group]))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_let_in_by_a_code() {
    let mut home = home();
    home.say(&[(CARL, "a secret of a stranger")]);
    home.until("a question", async || home.got(CARL).len() == 1).await;
    assert!(home.got(CARL)[0].starts_with("I don't know you yet."));
    let (code, out, said) = home.run(&["pair", "new", "--user", "carl", "--trust", "inner"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("takes codes"), "{said}");
    let letters = out.trim();
    home.say(&[(CARL, letters), (CARL, "hello")]);
    home.until("an answer", async || home.got(CARL).len() == 3).await;
    let got = home.got(CARL);
    assert_eq!(got[1..], ["Hello carl, I know you now. What can I do for you?", "echo: hello"]);
    // Known it stays, and what it was let in by stands nowhere.
    home.kill();
    home.start();
    home.say(&[(CARL, "/sessions"), (CARL, "still there?")]);
    home.until("both answers", async || home.got(CARL).len() == 5).await;
    let log = std::fs::read_to_string(home.path("turnkeep.log")).unwrap_or_default();
    let journal = format!("{:?}", home.journal().await);
    for text in [&log, &journal] {
        assert!(!text.contains(letters) && !text.contains(&letters.replace('-', "")));
        assert!(!text.contains("a secret of a stranger"));
    }
    let (_, listed, _) = home.run(&["pair"]);
    assert!(listed.contains("paired") && listed.contains(&CARL.uuid()), "{listed}");
    home.end();
    assert!(audit(&home.data()).is_ok(), "{:?}", audit(&home.data()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_hears_what_is_for_it_and_quotes_it() {
    let mut home = home();
    say_in_group(&home, BEN, GROUP, (1_790_000_000_101, "what is for lunch?"));
    say_in_group(&home, ANNA, "someothergroup==", (1_790_000_000_102, "Keepy, are you here?"));
    say_in_group(&home, CARL, GROUP, (1_790_000_000_103, "Keepy, who are you?"));
    say_in_group(&home, ANNA, GROUP, (1_790_000_000_104, "@Keepy /status"));
    home.until("an answer and a state", async || sent_to(&home, GROUP).len() == 2).await;
    let sent = sent_to(&home, GROUP);
    let answer = sent.iter().find(|params| !params["quoteTimestamp"].is_null()).unwrap();
    // Nobody is called like somebody else, and a stranger is public however they are called.
    assert_eq!(answer["message"], "echo: Anna (somebody else): Keepy, who are you?");
    assert_eq!(answer["quoteTimestamp"].to_string().trim_matches('"'), "1790000000103");
    assert_eq!(answer["quoteAuthor"], CARL.uuid());
    let state = sent.iter().find(|params| params["quoteTimestamp"].is_null()).unwrap();
    assert!(state["message"].as_str().unwrap().contains("Messages while I work: absorb"));
    assert!(sent_to(&home, "someothergroup==").is_empty());
    let journal = home.journal().await;
    let kinds = |kind: &str| journal.iter().filter(|event| event["type"] == kind).count();
    assert_eq!((kinds("message.context"), kinds("message.accepted")), (1, 1), "{journal:?}");
    let accepted = journal.iter().find(|event| event["type"] == "message.accepted").unwrap();
    assert!(accepted.to_string().contains("\"trust\":\"public\""), "{accepted}");
    home.end();
    assert!(audit(&home.data()).is_ok(), "{:?}", audit(&home.data()));
}
