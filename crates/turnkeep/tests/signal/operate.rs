//! What a person does beside a server that runs: replies that were not sent, somebody with a new
//! phone, groups.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::kit::{Household, NUMBER, Phone};

const ANNA: Phone = Phone(1);
const BEN: Phone = Phone(2);
const GROUP: &str = "tL9rJ0cD3hUb6Ej4GZkq2w==";

fn home() -> Household {
    Household::started("[agents.default]\nkind = \"echo\"\n")
}

fn faults(home: &Household, rules: &Value) {
    let path = home.path("phone/faults.json");
    std::fs::write(path.with_extension("new"), json!({ "faults": rules }).to_string()).unwrap();
    std::fs::rename(path.with_extension("new"), path).unwrap();
}

/// Rows of a table that was printed into a pipe, without its head.
fn rows(out: &str) -> Vec<Vec<&str>> {
    out.lines().skip(1).map(|line| line.split('\t').collect()).collect()
}

/// Somebody's safety number changed: the reply dies, a person looks, trusts and sends it again, and
/// the server never stops for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_reply_is_found_its_receiver_trusted_and_it_is_sent_again() {
    let mut home = home();
    let refused = json!([{"method": "send", "do": "fail", "type": "IDENTITY_FAILURE"},
                         {"method": "sendTyping", "do": "fail", "type": "IDENTITY_FAILURE"}]);
    faults(&home, &refused);
    home.say(&[(ANNA, "hello")]);
    let parked = async || home.list("/v1/deliveries", "deliveries").await;
    home.until("a dead reply", async || parked().await.len() == 1).await;
    let (code, out, said) = home.run(&["deliveries", "--dead"]);
    assert_eq!(code, Some(0), "{said}");
    let row = &rows(&out)[0];
    let id = format!("{}/{}/0", ANNA.session(), parked().await[0]["reply"]);
    assert_eq!((row[0], row[1], row[4]), (&*id, "dead", "echo: hello"), "{out}");
    assert!(row[3].contains("turnkeep signal trust"), "{out}");
    let (_, out, said) = home.run(&["deliveries", "--unknown"]);
    assert_eq!(rows(&out), [] as [Vec<&str>; 0]);
    assert!(said.contains("every reply arrived"), "{said}");
    // Whoever looks at the account is told, too.
    let (code, _, said) = home.run(&["signal", "status"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 part of replies not sent (dead): `turnkeep deliveries`"), "{said}");
    let (_, out, _) = home.run(&["doctor"]);
    assert!(out.contains("1 part of replies not sent (dead)"), "{out}");
    let (code, _, said) =
        home.run(&["signal", "trust", &ANNA.number(), "--safety-number", "12345 67890"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("is trusted by the account default"), "{said}");
    let calls = home.noted("sent.jsonl");
    let trust = calls.iter().find(|call| call["method"] == "trust").unwrap();
    let expect = json!({ "account": NUMBER, "recipient": ANNA.number(),
                         "verifiedSafetyNumber": "12345 67890" });
    assert_eq!(trust["params"], expect);
    // Its own signal-cli did it, not another one beside it.
    assert_eq!(
        (&trust["via"], &trust["pid"]),
        (&json!("stdio"), &home.noted("starts.jsonl")[0]["pid"])
    );
    faults(&home, &json!([]));
    let (code, out, said) = home.run(&["deliveries", "resend", &id]);
    assert_eq!((code, &*out), (Some(0), &*format!("{id} goes out again\n")), "{said}");
    home.until("the reply", async || home.got(ANNA) == ["echo: hello"]).await;
    home.until("nothing more to do", async || parked().await.is_empty()).await;
    let (code, _, said) = home.run(&["deliveries", "resend", &id]);
    assert_eq!(code, Some(1));
    assert!(said.contains("Not parked"), "{said}");
    let (code, _, said) = home.run(&["deliveries", "resend", "12"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("like SESSION/REPLY/PART"), "{said}");
    home.until("what became of it", async || {
        let journal = home.journal().await;
        let settled = journal.iter().filter(|event| event["type"] == "delivery.settled");
        settled.map(|event| &event["state"]).eq(["dead", "sent"])
    })
    .await;
    home.end();
}

/// Without a server it is done by a signal-cli of its own.
#[test]
fn somebody_is_trusted_while_no_server_runs() {
    let home = Household::new("[agents.default]\nkind = \"echo\"\n");
    let who = format!("signal:{}", ANNA.uuid());
    let (code, _, said) = home.run(&["signal", "trust", &who, "--account", "default"]);
    assert_eq!(code, Some(0), "{said}");
    let call = home.noted("sent.jsonl").pop().unwrap();
    assert_eq!((&call["method"], &call["via"]), (&json!("trust"), &json!("command")));
    let arguments = call["params"]["arguments"].as_array().unwrap();
    assert!(arguments.ends_with(&[json!("--trust-all-known-keys"), json!(ANNA.uuid())]), "{call}");
    let (code, _, said) = home.run(&["signal", "trust", &who, "--account", "work"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("there is no account \"work\""), "{said}");
}

/// The answer to a send is lost: nobody knows, and the list says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_reply_of_which_nobody_knows_is_listed() {
    let mut home = home();
    faults(&home, &json!([{"name": "once", "method": "send", "times": 1, "do": "die_after"}]));
    home.say(&[(BEN, "hi")]);
    home.until("an unknown reply", async || {
        !home.list("/v1/deliveries", "deliveries").await.is_empty()
    })
    .await;
    let (code, out, said) = home.run(&["deliveries", "--unknown", "--json"]);
    assert_eq!(code, Some(0), "{said}");
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["deliveries"][0]["session"], BEN.session());
    assert_eq!(told["deliveries"][0]["state"], "unknown");
    home.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_told_as_the_configuration_wants_them() {
    let more = format!(
        "[agents.default]\nkind = \"echo\"\n[groups.family]\nid = \"signal:{GROUP}\"\n\
         names = [\"Keepy\"]\n"
    );
    let mut home = Household::new(&more);
    let member = json!({"number": NUMBER, "uuid": ANNA.uuid()});
    let known = json!([
        {"id": GROUP, "name": "Family", "isMember": true, "isBlocked": false, "members": [member, member]},
        {"id": "T2xk", "name": "Old", "isMember": false, "isBlocked": false, "members": [member]},
        {"id": "QmFk", "name": null, "isMember": true, "isBlocked": true, "members": []}
    ]);
    std::fs::write(home.path("phone/groups.json"), known.to_string()).unwrap();
    let id = format!("signal:{GROUP}");
    let expect = [
        vec!["Family", &*id, "2", "member", "family", "default"],
        vec!["Old", "signal:T2xk", "1", "left", "", "default"],
        vec!["", "signal:QmFk", "0", "blocked", "", "default"],
    ];
    let check = |home: &Household| {
        let (code, out, said) = home.run(&["signal", "groups"]);
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(rows(&out), expect, "{out}");
    };
    check(&home);
    let (_, alone, _) = home.run(&["signal", "groups", "--json"]);
    home.start();
    home.until("an account that works", async || {
        let told = home.ask("/v1/signal").await.unwrap();
        told["accounts"][0]["receiving"]["state"] == "working"
    })
    .await;
    check(&home);
    let (_, asked, _) = home.run(&["signal", "groups", "--json"]);
    let value = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(value(&asked), value(&alone));
    // A group that nobody listed: the log tells what to list it by.
    let envelope = json!({
        "source": ANNA.number(), "sourceNumber": ANNA.number(), "sourceUuid": ANNA.uuid(),
        "sourceDevice": 1, "timestamp": 7,
        "dataMessage": {"timestamp": 7, "message": "hello", "expiresInSeconds": 0, "viewOnce": false,
                        "groupInfo": {"groupId": "T2xk", "groupName": "Old", "type": "DELIVER"}},
    });
    let path = home.path("phone/inject.jsonl");
    let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
    writeln!(file, "{}", json!({ "account": NUMBER, "envelope": envelope })).unwrap();
    let log = || std::fs::read_to_string(home.path("turnkeep.log")).unwrap();
    home.until("a line in the log", async || log().contains("this group is not listed")).await;
    assert!(log().contains("\"signal:T2xk\""), "{}", log());
    home.end();
}

/// What signal-cli says of it would help nobody.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_not_linked_says_how_to_link_it() {
    let mut home = Household::new("[agents.default]\nkind = \"echo\"\n");
    std::fs::write(home.path("phone/accounts"), "+4915199999999\n").unwrap();
    home.start();
    home.until("an account that is not known", async || {
        let told = home.ask("/v1/signal").await.unwrap();
        told["accounts"][0]["sending"]["state"] == "failing"
    })
    .await;
    let who = format!("signal:{}", ANNA.uuid());
    for args in [&["signal", "groups"][..], &["signal", "trust", &who]] {
        let (code, _, said) = home.run(args);
        assert_eq!(code, Some(1), "{said}");
        let expect =
            format!("does not know the account {NUMBER}: link it with `turnkeep signal link`");
        assert!(said.contains(&expect), "{said}");
    }
    home.end();
}
