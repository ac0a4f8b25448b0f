//! `turnkeep listeners`: who is told of events, and callbacks that nobody took.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::args::{ApiArgs, PageArgs};
use super::client::{Client, segment, with_query};
use super::output::{self, cell, short_cell, time_cell};
use super::sessions::{act, more, query, show_or_json};

/// `listeners`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  turnkeep listeners
  turnkeep listeners dead crm
  turnkeep listeners retry crm 17
  turnkeep listeners discard crm all")]
pub(super) struct ListenersArgs {
    #[command(subcommand)]
    command: Option<ListenersCommand>,
    #[command(flatten)]
    api: ApiArgs,
}

/// What can be done with listeners.
#[derive(Subcommand)]
enum ListenersCommand {
    /// List them and how they stand (this is what `listeners` alone does)
    List,
    /// List a listener's callbacks that nobody took
    Dead {
        /// The listener's name; an agent's reply callback is agents/NAME
        listener: String,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Give a dead callback all its tries again
    Retry {
        /// The listener's name
        listener: String,
        /// The callback's number, or all
        id: String,
    },
    /// Give a dead callback up
    Discard {
        /// The listener's name
        listener: String,
        /// The callback's number, or all
        id: String,
    },
}

/// Does what was asked.
pub(super) async fn run(args: ListenersArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.api)?;
    let json = args.api.json;
    match args.command.unwrap_or(ListenersCommand::List) {
        ListenersCommand::List => {
            let answer = client.get("/v1/listeners").await?;
            show_or_json(&answer, json, list)?;
        }
        ListenersCommand::Dead { listener, page } => {
            let path = format!("{}/dead", path(&listener));
            let answer = client.get(&with_query(&path, &query(page))).await?;
            show_or_json(&answer, json, dead)?;
        }
        ListenersCommand::Retry { listener, id } => {
            act(&client, &deed(&listener, &id, "retry"), &json!({}), json).await?;
        }
        ListenersCommand::Discard { listener, id } => {
            act(&client, &deed(&listener, &id, "discard"), &json!({}), json).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn path(listener: &str) -> String {
    format!("/v1/listeners/{}", segment(listener))
}

fn deed(listener: &str, id: &str, deed: &str) -> String {
    format!("{}/dead/{}/{deed}", path(listener), segment(id))
}

fn list(value: &Value) -> anyhow::Result<()> {
    let row = |listener: &Value| {
        let fields = ["name", "state", "pattern", "receiver", "behind", "pending", "dead"];
        fields.map(|field| cell(listener, field))
    };
    let listeners = value["listeners"].as_array().into_iter().flatten();
    let rows: Vec<[String; 7]> = listeners.map(row).collect();
    if rows.is_empty() {
        output::complain("no listeners are configured; see docs/listeners.md");
    }
    output::table(["name", "state", "pattern", "receiver", "behind", "pending", "dead"], &rows)
}

fn dead(value: &Value) -> anyhow::Result<()> {
    let row = |callback: &Value| {
        [
            cell(callback, "id"),
            cell(callback, "type"),
            cell(callback, "session"),
            cell(callback, "tries"),
            time_cell(callback, "at"),
            short_cell(callback, "error"),
        ]
    };
    let callbacks = value["callbacks"].as_array().into_iter().flatten();
    let rows: Vec<[String; 6]> = callbacks.map(row).collect();
    if rows.is_empty() {
        output::complain("no dead callbacks");
    }
    output::table(["id", "type", "session", "tries", "since", "error"], &rows)?;
    more(value);
    Ok(())
}
