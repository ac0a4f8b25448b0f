//! `turnkeep deadletters`: messages that could not be answered.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::args::{DeadLettersArgs, DeadLettersCommand, PageArgs};
use super::client::{Client, segment, with_query};
use super::output::{self, cell, short_cell, time_cell};
use super::sessions::{act, more, query, show_or_json};

/// Does what was asked.
pub(super) async fn run(args: DeadLettersArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.api)?;
    let json = args.api.json;
    match args.command.unwrap_or_else(|| DeadLettersCommand::List(PageArgs::default())) {
        DeadLettersCommand::List(page) => {
            let answer = client.get(&with_query("/v1/deadletters", &query(page))).await?;
            show_or_json(&answer, json, list)?;
        }
        DeadLettersCommand::Retry { id } => {
            act(&client, &path(&id, "retry"), &json!({}), json).await?;
        }
        DeadLettersCommand::Discard { id } => {
            act(&client, &path(&id, "discard"), &json!({}), json).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn path(id: &str, deed: &str) -> String {
    format!("/v1/deadletters/{}/{deed}", segment(id))
}

fn list(value: &Value) -> anyhow::Result<()> {
    let row = |letter: &Value| {
        [
            cell(letter, "id"),
            cell(letter, "session"),
            cell(letter, "reason"),
            time_cell(letter, "at"),
            short_cell(letter, "text"),
        ]
    };
    let letters = value["dead_letters"].as_array().into_iter().flatten();
    let rows: Vec<[String; 5]> = letters.map(row).collect();
    if rows.is_empty() {
        output::complain("no dead letters");
    }
    output::table(["id", "session", "reason", "since", "text"], &rows)?;
    more(value);
    Ok(())
}
