//! `turnkeep sessions`: list, look at and steer conversations.
//!
//! [`args`] is what can be typed, [`which`] finds the session that is meant, [`board`] asks the
//! switchboard.

mod args;
mod board;
mod which;

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};
use turnkeep_core::SessionKey;

use super::args::PageArgs;
use super::client::{Answer, Client, segment, with_query};
use super::operators;
use super::output::{self, cell, time_cell};
use super::{session_file, worktrees};
use args::SessionsCommand;
use board::Board;

pub(super) use args::{SessionsArgs, WhichArgs};
pub(super) use which::Which;

/// Does what was asked.
pub(super) async fn run(args: SessionsArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.api)?;
    let (json, tenant) = (args.api.json, args.tenant.as_deref());
    let board = Board { client: &client, tenant, json };
    match args.command.unwrap_or_else(|| SessionsCommand::List(PageArgs::default())) {
        SessionsCommand::List(page) => list(&client, page, tenant, json).await?,
        SessionsCommand::Board(args) => board.list(args).await?,
        SessionsCommand::Waiting => board.waiting().await?,
        SessionsCommand::Stats => board.stats().await?,
        SessionsCommand::Cleanup => board.cleanup().await?,
        SessionsCommand::Create(args) => board.create(args).await?,
        SessionsCommand::Switch(args) => board.switch(args).await?,
        SessionsCommand::Rename(args) => board.rename(args).await?,
        SessionsCommand::Read(args) => board.read(args).await?,
        SessionsCommand::Touch(args) => board.touch(&args.which).await?,
        SessionsCommand::Show(args) => {
            let key = args.which.key(&client, tenant).await?;
            let answer = client.get(&path(&key, "")).await?;
            show_or_json(&answer, json, show)?;
        }
        SessionsCommand::Messages { which, page } => {
            let key = which.which.key(&client, tenant).await?;
            messages(&client, &key, page, json).await?;
        }
        SessionsCommand::Stop { which, turn } => {
            let body = turn.map_or_else(|| json!({}), |turn| json!({ "turn_id": turn }));
            steer(board, &which, "/stop", &body).await?;
        }
        SessionsCommand::New(which) => steer(board, &which, "/new", &json!({})).await?,
        SessionsCommand::Close(args) => match args.seat {
            Some(seat) => board.close(&args.which.which, seat).await?,
            None => steer(board, &args.which, "/close", &json!({})).await?,
        },
        SessionsCommand::Save(args) => session_file::save(&client, args, tenant, json).await?,
        SessionsCommand::Load(args) => session_file::load(&client, args, tenant, json).await?,
        SessionsCommand::Worktrees(args) => worktrees::run(&client, args, tenant, json).await?,
        SessionsCommand::Pause(args) => operators::pause(&client, args, tenant, json).await?,
        SessionsCommand::Reply(args) => operators::reply(&client, args, tenant, json).await?,
        SessionsCommand::HandBack(args) => {
            operators::hand_back(&client, args, tenant, json).await?;
        }
        SessionsCommand::OptIn(which) => steer(board, &which, "/opt-in", &json!({})).await?,
        SessionsCommand::OptOut(which) => steer(board, &which, "/opt-out", &json!({})).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Does something to a session that its key names in the path.
async fn steer(
    board: Board<'_>,
    which: &WhichArgs,
    below: &str,
    body: &Value,
) -> anyhow::Result<()> {
    let key = which.which.key(board.client, board.tenant).await?;
    act(board.client, &path(&key, below), body, board.json).await
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

async fn list(
    client: &Client,
    page: PageArgs,
    tenant: Option<&str>,
    json: bool,
) -> anyhow::Result<()> {
    let mut asked = query(page).to_vec();
    asked.push(("tenant", tenant.map(str::to_owned)));
    let answer = client.get(&with_query("/v1/sessions", &asked)).await?;
    show_or_json(&answer, json, |value| {
        let rows: Vec<[String; 8]> = value["sessions"]
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
                    cell(session, "number"),
                    board::called(session),
                ]
            })
            .collect();
        if rows.is_empty() {
            output::complain("no sessions yet; try `turnkeep send hello`");
        }
        let head = ["session", "state", "queued", "seq", "updated", "operator", "number", "name"];
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
    if value["number"].is_number() {
        rows.push(["number".to_owned(), cell(value, "number")]);
        rows.push(["name".to_owned(), board::called(value)]);
    }
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
