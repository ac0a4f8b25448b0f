//! `turnkeep guard`: who is restricted or blocked, and what a person decides about it.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::args::{ApiArgs, PageArgs};
use super::client::{Client, with_query};
use super::output::{self, cell, short_cell, time_cell};
use super::sessions::{act, more, query, show_or_json};

/// `guard`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  turnkeep guard
  turnkeep guard block mallory --reason 'insults' --hours 48
  turnkeep guard lift 3")]
pub(super) struct GuardArgs {
    #[command(subcommand)]
    command: Option<GuardCommand>,
    #[command(flatten)]
    api: ApiArgs,
}

/// What can be done about restrictions.
#[derive(Subcommand)]
enum GuardCommand {
    /// List what is in force (this is what `guard` alone does)
    List(ListArgs),
    /// Show how one stands
    Show {
        /// Its number
        #[arg(value_parser = number)]
        id: u64,
    },
    /// End one; its customer is as good as new
    Lift {
        /// Its number
        #[arg(value_parser = number)]
        id: u64,
        /// By whom
        #[arg(long, value_name = "NAME", env = "USER", hide_env_values = true)]
        by: Option<String>,
    },
    /// Note what somebody says against one; it stays in force
    Appeal {
        /// Its number
        #[arg(value_parser = number)]
        id: u64,
        /// In words
        text: String,
    },
    /// Let a customer write 10 messages a minute only, for a day
    Restrict(MakeArgs),
    /// Let a customer write nothing, for a day
    Block {
        #[command(flatten)]
        make: MakeArgs,
        /// Until somebody lifts it
        #[arg(long, conflicts_with = "hours")]
        permanent: bool,
    },
}

/// Which restrictions are listed.
#[derive(Args, Default)]
struct ListArgs {
    /// Only of this tenant's customers
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Only of this customer
    #[arg(long, value_name = "NAME")]
    customer: Option<String>,
    /// Also what is over or was lifted
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    page: PageArgs,
}

/// Whom, why and for how long.
#[derive(Args)]
struct MakeArgs {
    /// Whose messages
    customer: String,
    /// Whose customer it is [default: default]
    #[arg(long, value_name = "NAME", env = "TURNKEEP_TENANT", hide_env_values = true)]
    tenant: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    /// For how long [default: 24]
    #[arg(long, value_name = "HOURS", value_parser = clap::value_parser!(u32).range(1..=8760))]
    hours: Option<u32>,
}

fn number(text: &str) -> Result<u64, String> {
    let wrong = "must be the number of a restriction, as `turnkeep guard` lists it";
    text.parse().map_err(|_| wrong.to_owned())
}

/// Does what was asked.
pub(super) async fn run(args: GuardArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.api)?;
    let json = args.api.json;
    match args.command.unwrap_or_else(|| GuardCommand::List(ListArgs::default())) {
        GuardCommand::List(asked) => list(&client, asked, json).await?,
        GuardCommand::Show { id } => {
            let answer = client.get(&path(id, "")).await?;
            show_or_json(&answer, json, show)?;
        }
        GuardCommand::Lift { id, by } => {
            let body = by.map_or_else(|| json!({}), |by| json!({ "by": by }));
            act(&client, &path(id, "/lift"), &body, json).await?;
        }
        GuardCommand::Appeal { id, text } => {
            act(&client, &path(id, "/appeal"), &json!({ "text": text }), json).await?;
        }
        GuardCommand::Restrict(make) => {
            act(&client, "/v1/restrictions", &body_of(make, "restrict"), json).await?;
        }
        GuardCommand::Block { make, permanent } => {
            let severity = if permanent { "permanent" } else { "block" };
            act(&client, "/v1/restrictions", &body_of(make, severity), json).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn path(id: u64, below: &str) -> String {
    format!("/v1/restrictions/{id}{below}")
}

fn body_of(make: MakeArgs, severity: &str) -> Value {
    let mut body = json!({
        "customer_id": make.customer,
        "severity": severity,
        "reason": make.reason,
    });
    if let Some(tenant) = make.tenant {
        body["tenant_id"] = tenant.into();
    }
    if let Some(hours) = make.hours {
        body["hours"] = hours.into();
    }
    body
}

async fn list(client: &Client, asked: ListArgs, json: bool) -> anyhow::Result<()> {
    let [after, limit] = query(asked.page);
    let all = asked.all.then(|| "true".to_owned());
    let query =
        [("tenant_id", asked.tenant), ("customer_id", asked.customer), ("all", all), after, limit];
    let answer = client.get(&with_query("/v1/restrictions", &query)).await?;
    show_or_json(&answer, json, |value| {
        let row = |restriction: &Value| {
            [
                cell(restriction, "id"),
                cell(restriction, "tenant_id"),
                cell(restriction, "customer_id"),
                state(restriction),
                cell(restriction, "type"),
                time_cell(restriction, "since"),
                time_cell(restriction, "until"),
                short_cell(restriction, "reason"),
                short_cell(restriction, "appeal"),
            ]
        };
        let restrictions = value["restrictions"].as_array().into_iter().flatten();
        let rows: Vec<[String; 9]> = restrictions.map(row).collect();
        if rows.is_empty() {
            output::complain("nobody is restricted");
        }
        let header =
            ["id", "tenant", "customer", "severity", "type", "since", "until", "reason", "appeal"];
        output::table(header, &rows)?;
        more(value);
        Ok(())
    })
}

/// How much, and whether it counts.
fn state(restriction: &Value) -> String {
    let severity = cell(restriction, "severity");
    match (restriction["in_force"].as_bool(), cell(restriction, "lifted_by")) {
        (Some(true) | None, _) => severity,
        (Some(false), by) if by.is_empty() => format!("{severity} (over)"),
        (Some(false), by) => format!("{severity} (lifted: {by})"),
    }
}

fn show(value: &Value) -> anyhow::Result<()> {
    let times = ["since", "until", "appealed_at", "lifted_at"];
    let row = |field: &str| {
        let text =
            if times.contains(&field) { time_cell(value, field) } else { cell(value, field) };
        [field.to_owned(), text]
    };
    let fields = [
        "id",
        "tenant_id",
        "customer_id",
        "severity",
        "type",
        "in_force",
        "since",
        "until",
        "reason",
        "appeal",
        "appealed_at",
        "lifted_at",
        "lifted_by",
    ];
    let rows: Vec<[String; 2]> = fields.into_iter().map(row).collect();
    output::table(["field", "value"], &rows)
}
