//! `turnkeep turns`: look at turns.

use std::process::ExitCode;

use serde_json::Value;

use super::args::{TurnsArgs, TurnsCommand};
use super::client::{Client, with_query};
use super::output::{self, cell, short_cell, time_cell};
use super::sessions::{path, show_or_json};
use super::usage::used;

/// Does what was asked.
pub(super) async fn run(args: TurnsArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.api)?;
    match args.command {
        TurnsCommand::Show { id } => {
            let answer = client.get(&format!("/v1/turns/{id}")).await?;
            show_or_json(&answer, args.api.json, show)?;
        }
        TurnsCommand::List { session, limit } => {
            let query = [("limit", limit.map(|limit| limit.to_string()))];
            let answer = client.get(&with_query(&path(&session, "/turns"), &query)).await?;
            show_or_json(&answer, args.api.json, list)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(turn: &Value) -> anyhow::Result<()> {
    const FIELDS: [&str; 7] =
        ["turn_id", "session", "status", "attempt", "epoch", "turn_group_id", "message_ids"];
    let row = |field: &str| [field.to_owned(), cell(turn, field)];
    let mut rows: Vec<[String; 2]> = FIELDS.into_iter().map(row).collect();
    let time = |field: &str| [field.to_owned(), time_cell(turn, field)];
    rows.extend([time("started_at"), time("ended_at")]);
    if !turn["error"].is_null() {
        rows.push(row("error"));
    }
    if turn["usage"].is_object() {
        rows.push(["usage".to_owned(), used(&turn["usage"])]);
    }
    output::table(["field", "value"], &rows)?;
    match turn["reply"].as_str() {
        Some(reply) => output::line(&format!("\n{}", output::harmless(reply))),
        None => Ok(()),
    }
}

fn list(value: &Value) -> anyhow::Result<()> {
    let row = |turn: &Value| {
        [
            cell(turn, "turn_id"),
            cell(turn, "status"),
            cell(turn, "attempt"),
            turn["message_ids"].as_array().map_or(0, Vec::len).to_string(),
            time_cell(turn, "started_at"),
            short_cell(turn, "reply"),
        ]
    };
    let rows: Vec<[String; 6]> = value["turns"].as_array().into_iter().flatten().map(row).collect();
    output::table(["turn", "status", "attempt", "messages", "started", "reply"], &rows)
}
