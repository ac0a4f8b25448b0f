//! `turnkeep pair`: one-time codes that make somebody known, and who used them.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::args::{ApiArgs, PageArgs};
use super::client::{Client, segment, with_query};
use super::output::{self, cell, time_cell};
use super::sessions::{act, more, query, show_or_json};

/// `pair`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  turnkeep pair new --user alice
  turnkeep pair new --user bob --trust inner --minutes 15
  turnkeep pair
  turnkeep pair revoke k7m2x9qa

Whoever sends the code to us as a message is known as that user from then on. Give it to them
yourself: nobody is told it but you.")]
pub(super) struct PairArgs {
    #[command(subcommand)]
    command: Option<PairCommand>,
    #[command(flatten)]
    api: ApiArgs,
}

/// What can be done about pairings.
#[derive(Subcommand)]
enum PairCommand {
    /// List codes that wait and people who used one (this is what `pair` alone does)
    List(PageArgs),
    /// Make a code and print it, this once
    New(NewArgs),
    /// End one: its code opens nothing, and whoever used it is a stranger again
    Revoke {
        /// Its id, as `turnkeep pair` lists it
        id: String,
    },
}

/// For whom, how far and for how long.
#[derive(Args)]
struct NewArgs {
    /// As whom they shall be known
    #[arg(long, value_name = "NAME")]
    user: String,
    /// How far they shall be trusted [default: what the configuration says of the user, else
    /// familiar]
    #[arg(long, value_name = "TRUST", value_parser = ["public", "familiar", "inner", "full", "owner"])]
    trust: Option<String>,
    /// How long the code counts
    #[arg(long, value_name = "MINUTES", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(1..=10_080))]
    minutes: u64,
    /// Where they shall be known [default: default]
    #[arg(long, value_name = "NAME", env = "TURNKEEP_TENANT", hide_env_values = true)]
    tenant: Option<String>,
}

/// Does what was asked.
pub(super) async fn run(args: PairArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.api)?;
    let json = args.api.json;
    match args.command.unwrap_or_else(|| PairCommand::List(PageArgs::default())) {
        PairCommand::List(page) => {
            let answer = client.get(&with_query("/v1/pairing", &query(page))).await?;
            show_or_json(&answer, json, list)?;
        }
        PairCommand::New(new) => {
            let body = body_of(new);
            let answer = client.post("/v1/pairing", &body, Duration::ZERO).await?;
            show_or_json(&answer, json, made)?;
        }
        PairCommand::Revoke { id } => {
            let path = format!("/v1/pairing/{}/revoke", segment(&id));
            act(&client, &path, &json!({}), json).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn body_of(new: NewArgs) -> Value {
    let mut body = json!({ "user": new.user, "minutes": new.minutes });
    if let Some(trust) = new.trust {
        body["trust"] = trust.into();
    }
    if let Some(tenant) = new.tenant {
        body["tenant_id"] = tenant.into();
    }
    body
}

/// Prints the code alone, so that it can be piped; all else goes to the person.
fn made(value: &Value) -> anyhow::Result<()> {
    output::line(value["code"].as_str().unwrap_or_default())?;
    output::complain(&format!(
        "whoever sends this code to us until {} is known as {} ({}); it can be used once. It is \
         shown this once",
        time_cell(value, "expires_at"),
        cell(value, "user"),
        cell(value, "trust")
    ));
    let note = cell(value, "note");
    if !note.is_empty() {
        output::complain(&format!("note: {note}"));
    }
    Ok(())
}

fn list(value: &Value) -> anyhow::Result<()> {
    let row = |pairing: &Value| {
        [
            cell(pairing, "id"),
            cell(pairing, "tenant_id"),
            cell(pairing, "user"),
            cell(pairing, "trust"),
            cell(pairing, "status"),
            cell(pairing, "channel"),
            cell(pairing, "person"),
            time_cell(pairing, "paired_at"),
            time_cell(pairing, "expires_at"),
        ]
    };
    let rows: Vec<[String; 9]> =
        value["pairings"].as_array().into_iter().flatten().map(row).collect();
    if rows.is_empty() {
        output::complain("nobody is paired, and no code waits");
    }
    let header =
        ["id", "tenant", "user", "trust", "status", "channel", "person", "paired", "code ends"];
    output::table(header, &rows)?;
    more(value);
    Ok(())
}
