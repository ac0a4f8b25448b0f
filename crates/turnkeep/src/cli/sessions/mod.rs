//! `turnkeep sessions`: list, look at and steer conversations.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use turnkeep_core::SessionKey;

use super::args::{PageArgs, SessionsArgs, SessionsCommand};
use super::client::{Answer, Client, segment, with_query};
use super::operators;
use super::output::{self, cell, time_cell};

/// Does what was asked.
pub(super) async fn run(args: SessionsArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.api)?;
    let json = args.api.json;
    match args.command.unwrap_or_else(|| SessionsCommand::List(PageArgs::default())) {
        SessionsCommand::List(page) => list(&client, page, json).await?,
        SessionsCommand::Show { key } => {
            let answer = client.get(&path(&key, "")).await?;
            show_or_json(&answer, json, show)?;
        }
        SessionsCommand::Messages { key, page } => messages(&client, &key, page, json).await?,
        SessionsCommand::Stop { key, turn } => {
            let body = turn.map_or_else(|| json!({}), |turn| json!({ "turn_id": turn }));
            act(&client, &path(&key, "/stop"), &body, json).await?;
        }
        SessionsCommand::New { key } => act(&client, &path(&key, "/new"), &json!({}), json).await?,
        SessionsCommand::Close { key } => {
            act(&client, &path(&key, "/close"), &json!({}), json).await?;
        }
        SessionsCommand::Pause(args) => {
            operators::pause(&client, args, json).await?;
        }
        SessionsCommand::Reply(args) => operators::reply(&client, args, json).await?,
        SessionsCommand::HandBack(args) => {
            operators::hand_back(&client, args, json).await?;
        }
        SessionsCommand::OptIn { key } => {
            act(&client, &path(&key, "/opt-in"), &json!({}), json).await?;
        }
        SessionsCommand::OptOut { key } => {
            act(&client, &path(&key, "/opt-out"), &json!({}), json).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The path of a session, or of something below it.
pub(super) fn path(key: &SessionKey, below: &str) -> String {
    format!("/v1/sessions/{}{below}", segment(key.as_str()))
}

/// Prints the answer as it came, or for people.
pub(super) fn show_or_json(
    answer: &Answer,
    json: bool,
    show: impl FnOnce(&Value) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if json { output::line(&answer.text) } else { show(&answer.value) }
}

/// Posts something and shows what the server says to it.
pub(super) async fn act(
    client: &Client,
    path: &str,
    body: &Value,
    json: bool,
) -> anyhow::Result<()> {
    let answer = client.post(path, body, Duration::ZERO).await?;
    show_or_json(&answer, json, fields)
}

/// Every field of an answer, one a line.
pub(super) fn fields(value: &Value) -> anyhow::Result<()> {
    let known = value.as_object().into_iter().flatten();
    let rows: Vec<[String; 2]> = known.map(|(name, _)| [name.clone(), cell(value, name)]).collect();
    if rows.is_empty() { output::line("done") } else { output::table(["field", "value"], &rows) }
}

/// Says on standard error how to see more.
pub(super) fn more(value: &Value) {
    let next = cell(value, "next");
    if !next.is_empty() {
        output::complain(&format!("there are more: --after {next}"));
    }
}

async fn list(client: &Client, page: PageArgs, json: bool) -> anyhow::Result<()> {
    let answer = client.get(&with_query("/v1/sessions", &query(page))).await?;
    show_or_json(&answer, json, |value| {
        let rows: Vec<[String; 6]> = value["sessions"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|session| {
                [
                    cell(session, "session"),
                    cell(session, "state"),
                    cell(session, "queued"),
                    cell(session, "last_seq"),
                    time_cell(session, "updated_at"),
                    cell(&session["paused"], "by"),
                ]
            })
            .collect();
        if rows.is_empty() {
            output::complain("no sessions yet; try `turnkeep send hello`");
        }
        let head = ["session", "state", "queued", "seq", "updated", "operator"];
        output::table(head, &rows)?;
        more(value);
        Ok(())
    })
}

/// The query of a page.
pub(super) fn query(page: PageArgs) -> [(&'static str, Option<String>); 2] {
    [("after", page.after), ("limit", page.limit.map(|limit| limit.to_string()))]
}

fn show(value: &Value) -> anyhow::Result<()> {
    const FIELDS: [&str; 12] = [
        "session",
        "tenant_id",
        "agent_id",
        "customer_id",
        "channel",
        "kind",
        "state",
        "open_turn_id",
        "queued",
        "last_seq",
        "opted_in",
        "notices",
    ];
    let row = |field: &str| [field.to_owned(), cell(value, field)];
    let mut rows: Vec<[String; 2]> = FIELDS.into_iter().map(row).collect();
    if value["paused"].is_object() {
        rows.push(["operator".to_owned(), cell(&value["paused"], "by")]);
        rows.push(["paused".to_owned(), time_cell(&value["paused"], "since")]);
    }
    rows.push(["rhythm".to_owned(), rhythm(&value["rhythm"])]);
    rows.push(["updated_at".to_owned(), time_cell(value, "updated_at")]);
    output::table(["field", "value"], &rows)
}

/// How fast the customer writes, in words.
fn rhythm(value: &Value) -> String {
    match value["samples"].as_u64() {
        None | Some(0) => "not known yet".to_owned(),
        Some(count) => format!(
            "{count} gaps in bursts: half within {} ms, 95 % within {} ms",
            cell(value, "p50_ms"),
            cell(value, "p95_ms")
        ),
    }
}

async fn messages(
    client: &Client,
    key: &SessionKey,
    page: PageArgs,
    json: bool,
) -> anyhow::Result<()> {
    let answer = client.get(&with_query(&path(key, "/messages"), &query(page))).await?;
    show_or_json(&answer, json, |value| {
        for message in value["messages"].as_array().into_iter().flatten() {
            let (at, mut role) = (time_cell(message, "at"), cell(message, "role"));
            if message["by"].is_string() {
                role = format!("{role} {}", cell(message, "by"));
            }
            let text = output::harmless(message["text"].as_str().unwrap_or_default());
            let text = text.replace('\n', "\n    ");
            output::line(&format!("{at} {role} ({})\n    {text}", cell(message, "seq")))?;
        }
        more(value);
        Ok(())
    })
}
