//! Money in the real binary: what is used is counted and shown, also after a kill, and budgets refuse
//! or have another agent answer.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{Server, folder, json, run, tables};

/// Nothing here takes long; what does is broken.
const PATIENCE: Duration = Duration::from_secs(60);
/// An agent whose words are its tokens: an answer has one word more than its question.
const ECHO: &str = "[agents.default]\nkind = \"echo\"\ntokens = true\n";
const PRICE: &str = "[prices.echo]\ninput_per_million = 1.0\noutput_per_million = 2.0\n";

fn usage(dir: &Path, args: &[&str]) -> Value {
    json(dir, &[&["usage"], args].concat())["rows"].clone()
}

/// Tokens by the field's values.
fn tokens(rows: &Value, field: &str) -> Vec<(String, u64)> {
    let row = |row: &Value| {
        let name = row[field].as_str().unwrap_or("-").to_owned();
        (name, row["input_tokens"].as_u64().unwrap() + row["output_tokens"].as_u64().unwrap())
    };
    rows.as_array().unwrap().iter().map(row).collect()
}

fn named(pairs: &[(&str, u64)]) -> Vec<(String, u64)> {
    pairs.iter().map(|(name, tokens)| ((*name).to_owned(), *tokens)).collect()
}

fn notices(dir: &Path, session: &str) -> Vec<String> {
    let messages = json(dir, &["sessions", "messages", session]);
    let told = messages["messages"].as_array().unwrap().iter();
    let told = told.filter(|message| message["role"] == "notice");
    told.map(|notice| notice["text"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_is_used_is_counted_and_shown_also_after_a_kill() {
    let home = folder(&format!("{ECHO}{PRICE}[agents.free]\nkind = \"echo\"\n"));
    let dir = home.path();
    let server = Server::start(dir);
    assert_eq!(run(dir, &["usage"]).2, "nothing was used\n");
    assert_eq!(run(dir, &["send", "--as", "anna", "one two"]).1, "echo: one two\n");
    assert_eq!(run(dir, &["send", "--as", "anna", "three"]).1, "echo: three\n");
    assert_eq!(run(dir, &["send", "--as", "ben", "--tenant", "acme", "four"]).1, "echo: four\n");
    assert_eq!(run(dir, &["send", "--as", "ben", "--agent", "free", "five"]).1, "echo: five\n");
    // A kill -9.
    drop(server);

    let _server = Server::start(dir);
    let by_tenant = tokens(&usage(dir, &["--by", "tenant"]), "tenant_id");
    assert_eq!(by_tenant, named(&[("default", 8), ("acme", 3)]));
    let by_customer = tokens(&usage(dir, &["--by", "customer"]), "customer_id");
    assert_eq!(by_customer, named(&[("anna", 8), ("ben", 3)]));
    assert_eq!(tokens(&usage(dir, &["--tenant", "acme"]), "agent_id"), named(&[("default", 3)]));
    assert_eq!(tokens(&usage(dir, &["--customer", "nobody"]), "agent_id"), []);
    assert_eq!(tokens(&usage(dir, &["--since", "2999-01-01"]), "agent_id"), []);
    let (_, table, _) = run(dir, &["usage", "--by", "model"]);
    assert_eq!(
        table,
        "model\trequests\tinput\toutput\tcached\tcost (USD)\necho\t3\t4\t7\t0\t0.000018\n"
    );
    let session = "default:default:api:dm:anna";
    let shown = json(dir, &["sessions", "show", session]);
    assert_eq!(
        (&shown["usage"]["requests"], &shown["usage"]["cost_micros"]),
        (&2.into(), &13.into())
    );
    let turns = json(dir, &["turns", "list", session]);
    let last = &turns["turns"][0];
    assert_eq!(
        (&last["usage"]["input_tokens"], &last["usage"]["output_tokens"]),
        (&1.into(), &2.into())
    );
    let turn = json(dir, &["turns", "show", last["turn_id"].as_str().unwrap()]);
    assert_eq!((&turn["usage"]["cost_micros"], &turn["usage"]), (&5.into(), &last["usage"]));
    let (_, shown, _) = run(dir, &["turns", "show", last["turn_id"].as_str().unwrap()]);
    let line = "usage\t1 requests, 1 input, 2 output, 0 cached, cost 0.000005";
    assert!(shown.lines().any(|shown| shown == line), "{shown}");
    let (code, audited, _) = run(dir, &["audit", "--data-dir", "data"]);
    assert!(code == 0 && audited.ends_with("every invariant holds\n"), "{audited}");
}

#[test]
fn a_budget_that_is_used_up_refuses_until_the_day_is_over() {
    let home = folder(&format!(
        "{ECHO}[budgets]\ncustomer_tokens_per_day = 8\nrefused_text = \"Tomorrow.\"\n\
         [tenants.acme.budgets]\ncustomer_tokens_per_day = 0\n"
    ));
    let dir = home.path();
    let server = Server::start(dir);
    let hello = ["send", "--as", "anna", "--id", "1", "one two three"];
    assert_eq!(run(dir, &hello).1, "echo: one two three\n");
    assert_eq!(run(dir, &["send", "--as", "anna", "--channel", "web", "a"]).1, "echo: a\n");
    let refused = |args: &[&str]| {
        let (code, _, said) = run(dir, &[&["send"], args].concat());
        let expected = "the customer's budget for today is used up (budget_exceeded); try again in";
        assert!(code == 1 && said.contains(expected), "{args:?}: {said}");
    };
    refused(&["--as", "anna", "more"]);
    // It came before, so it gets its answer.
    assert_eq!(run(dir, &hello).1, "echo: one two three\n");
    assert_eq!(run(dir, &["send", "--as", "ben", "hi"]).1, "echo: hi\n");
    assert_eq!(run(dir, &["send", "--as", "anna", "--tenant", "acme", "hi"]).1, "echo: hi\n");
    drop(server);

    // Nothing of it is forgotten, and in another conversation it is the same customer.
    let _server = Server::start(dir);
    refused(&["--as", "anna", "still more"]);
    for text in ["hello?", "anybody?"] {
        refused(&["--as", "anna", "--channel", "web", text]);
    }
    assert_eq!(notices(dir, "default:default:web:dm:anna"), ["Tomorrow."]);
    assert_eq!(notices(dir, "default:default:api:dm:anna"), [""; 0]);
    assert_eq!(tokens(&usage(dir, &["--customer", "anna"]), "agent_id"), named(&[("default", 10)]));
    let (code, audited, _) = run(dir, &["audit", "--data-dir", "data"]);
    assert!(code == 0, "{audited}");
}

#[test]
fn another_agent_answers_where_a_budget_is_used_up() {
    let home = folder(&format!(
        "{ECHO}[agents.cheap]\nkind = \"echo\"\ntokens = true\n\
         [tenants.acme.budgets]\ntenant_tokens_per_day = 3\non_exceeded = \"degrade\"\n\
         degrade_to = \"cheap\"\ndegraded_text = \"Simpler now.\"\n"
    ));
    let dir = home.path();
    let _server = Server::start(dir);
    let say = |text| {
        let args = ["send", "--tenant", "acme", "--as", "anna", "--channel", "web", text];
        assert_eq!(run(dir, &args).1, format!("echo: {text}\n"));
    };
    say("one.");
    say("two.");
    say("three.");
    let by_agent = tokens(&usage(dir, &["--by", "agent"]), "agent_id");
    assert_eq!(by_agent, named(&[("cheap", 6), ("default", 3)]));
    assert_eq!(notices(dir, "acme:default:web:dm:anna"), ["Simpler now."]);
}

/// What nothing of ours does, and what a year does.
fn meddle(dir: &Path, set: &str) {
    let change =
        ["usage", "usage_days"].map(|table| format!("UPDATE {table} SET {set} RETURNING 'one'"));
    let rows = tables::rows(&dir.join("data"), change.each_ref().map(String::as_str));
    assert_eq!(rows, ["one"], "{set}");
}

#[test]
fn old_days_are_put_together_and_an_audit_finds_what_does_not_add_up() {
    let home = folder(ECHO);
    let dir = home.path();
    let server = Server::start(dir);
    assert_eq!(run(dir, &["send", "--as", "anna", "one"]).1, "echo: one\n");
    drop(server);
    meddle(dir, "day = 10000");
    let server = Server::start(dir);
    // It is one of the first things that a server does, and nobody waits for it.
    let days = || tokens(&usage(dir, &["--by", "day"]), "day");
    let since = Instant::now();
    while days() != named(&[("-", 3)]) {
        assert!(since.elapsed() < PATIENCE, "{:?}", days());
    }
    assert_eq!(tokens(&usage(dir, &["--by", "customer"]), "customer_id"), named(&[("anna", 3)]));
    drop(server);
    assert_eq!(run(dir, &["audit", "--data-dir", "data"]).0, 0);
    meddle(dir, "output = output + 1");
    let (code, audited, _) = run(dir, &["audit", "--data-dir", "data"]);
    assert!(
        code == 1 && audited.contains("I25 broken in default:default:api:dm:anna"),
        "{audited}"
    );
}

#[test]
fn an_erased_customer_leaves_what_was_used_and_no_name() {
    let home = folder(&format!("{ECHO}[budgets]\ncustomer_tokens_per_day = 3\n"));
    let dir = home.path();
    let _server = Server::start(dir);
    assert_eq!(run(dir, &["send", "--as", "anna", "one"]).1, "echo: one\n");
    assert_eq!(run(dir, &["send", "--as", "anna", "one"]).0, 1);
    assert_eq!(run(dir, &["customers", "erase", "default", "anna", "--yes"]).0, 0);
    assert_eq!(tokens(&usage(dir, &["--by", "customer"]), "customer_id"), named(&[("-", 3)]));
    assert_eq!(tokens(&usage(dir, &["--by", "session"]), "session"), named(&[("-", 3)]));
    assert_eq!(run(dir, &["send", "--as", "anna", "one"]).1, "echo: one\n");
    let (code, audited, _) = run(dir, &["audit", "--data-dir", "data"]);
    assert!(code == 0, "{audited}");
}
