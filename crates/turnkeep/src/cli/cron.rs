//! `turnkeep cron`: jobs that are run at their times.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::args::ApiArgs;
use super::client::{Client, segment, with_query};
use super::output::{self, cell, short_cell};
use super::sessions::{act, fields, show_or_json};
use crate::config::machine_zone;

/// `cron`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  turnkeep cron
  turnkeep cron next news
  turnkeep cron run news
  turnkeep cron pause news
  turnkeep cron add news --schedule '0 7 * * mon-fri' --prompt 'What is in the news?' --to alice
  turnkeep cron add bins --schedule '0 20 * * tue' --text 'Put the bins out.' --to alice
  turnkeep cron remove bins

Jobs of the configuration ([cron.NAME]) are changed there; they can be paused and run here.")]
pub(super) struct CronArgs {
    #[command(subcommand)]
    command: Option<CronCommand>,
    /// Whose jobs [default: default]
    #[arg(
        long,
        value_name = "NAME",
        env = "TURNKEEP_TENANT",
        hide_env_values = true,
        global = true
    )]
    tenant: Option<String>,
    #[command(flatten)]
    api: ApiArgs,
}

/// What can be done with jobs.
#[derive(Subcommand)]
enum CronCommand {
    /// List them (this is what `cron` alone does)
    List,
    /// Show when a job is run next, and what became of its last times
    Next {
        /// The job's name
        name: String,
        /// How many of each
        #[arg(short = 'n', long = "limit", value_name = "N", default_value_t = 5)]
        limit: usize,
    },
    /// Run a job now, beside its times
    Run {
        /// The job's name
        name: String,
    },
    /// Let a job rest
    Pause {
        /// The job's name
        name: String,
    },
    /// Let a job go on; what passed while it rested is not made good for
    Resume {
        /// The job's name
        name: String,
    },
    /// Make a job
    Add(Box<AddArgs>),
    /// Forget a job
    Remove {
        /// The job's name
        name: String,
    },
}

/// A new job.
#[derive(Args)]
struct AddArgs {
    /// What it shall be called
    name: String,
    /// When: minute, hour, day, month and weekday, or six fields with the second before them
    #[arg(long, value_name = "CRON")]
    schedule: String,
    /// The time zone that is meant [default: this machine's]
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// What becomes of times that were missed
    #[arg(long, value_name = "WHAT", value_parser = ["skip", "once", "all"])]
    misfire: Option<String>,
    /// What becomes of a time that comes while the one before is under way
    #[arg(long, value_name = "WHAT", value_parser = ["skip", "queue"])]
    overlap: Option<String>,
    /// Let it rest from the beginning
    #[arg(long)]
    paused: bool,
    /// An agent is asked this, and its answer is told
    #[arg(long, value_name = "TEXT", required_unless_present = "text", conflicts_with = "text")]
    prompt: Option<String>,
    /// This is told as it stands
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    #[command(flatten)]
    whom: WhomArgs,
}

/// Who is told.
#[derive(Args)]
pub(super) struct WhomArgs {
    /// Which user is told, of those in the configuration
    #[arg(long, value_name = "USER")]
    to: Option<String>,
    /// On which channel; without it the one that the user used last
    #[arg(long, value_name = "NAME")]
    channel: Option<String>,
    /// Which customer is told, on --channel
    #[arg(long, value_name = "ID", conflicts_with = "to", requires = "channel")]
    customer: Option<String>,
    /// In which session it is told
    #[arg(long, value_name = "KEY", conflicts_with_all = ["to", "customer", "channel"])]
    session: Option<String>,
    /// Which agent is asked [default: default]
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
}

/// A request's fields, of those that were typed.
pub(super) fn typed(pairs: &[(&str, Option<String>)]) -> Map<String, Value> {
    let typed = pairs.iter().filter_map(|(name, value)| Some((*name, value.clone()?)));
    typed.map(|(name, value)| (name.to_owned(), value.into())).collect()
}

impl WhomArgs {
    pub(super) fn fields(self) -> Map<String, Value> {
        typed(&[
            ("to", self.to),
            ("channel", self.channel),
            ("customer_id", self.customer),
            ("session", self.session),
            ("agent_id", self.agent),
        ])
    }
}

/// Does what was asked.
pub(super) async fn run(args: CronArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.api)?;
    let (json, tenant) = (args.api.json, args.tenant);
    let deed = |name: &str, deed: &str| {
        let path = format!("/v1/cron/{}{deed}", segment(name));
        with_query(&path, &[("tenant_id", tenant.clone())])
    };
    match args.command.unwrap_or(CronCommand::List) {
        CronCommand::List => {
            let path = with_query("/v1/cron", &[("tenant_id", tenant)]);
            show_or_json(&client.get(&path).await?, json, list)?;
        }
        CronCommand::Next { name, limit } => {
            let path = format!("/v1/cron/{}/times", segment(&name));
            let query = [("tenant_id", tenant), ("limit", Some(limit.to_string()))];
            show_or_json(&client.get(&with_query(&path, &query)).await?, json, times)?;
        }
        CronCommand::Run { name } => act(&client, &deed(&name, "/run"), &json!({}), json).await?,
        CronCommand::Pause { name } => {
            act(&client, &deed(&name, "/pause"), &json!({}), json).await?;
        }
        CronCommand::Resume { name } => {
            act(&client, &deed(&name, "/resume"), &json!({}), json).await?;
        }
        CronCommand::Add(add) => {
            let body = body_of(*add, tenant);
            let answer = client.post("/v1/cron", &body, std::time::Duration::ZERO).await?;
            show_or_json(&answer, json, fields)?;
        }
        CronCommand::Remove { name } => {
            show_or_json(&client.delete(&deed(&name, "")).await?, json, fields)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn body_of(add: AddArgs, tenant: Option<String>) -> Value {
    let mut body = typed(&[
        ("tenant_id", tenant),
        ("name", Some(add.name)),
        ("schedule", Some(add.schedule)),
        ("zone", Some(add.zone.unwrap_or_else(machine_zone))),
        ("misfire", add.misfire),
        ("overlap", add.overlap),
        ("prompt", add.prompt),
        ("text", add.text),
    ]);
    body.extend(add.whom.fields());
    if add.paused {
        body.insert("paused".to_owned(), true.into());
    }
    body.into()
}

fn list(value: &Value) -> anyhow::Result<()> {
    let row = |job: &Value| {
        [
            cell(job, "name"),
            cell(job, "schedule"),
            cell(job, "zone"),
            state(job),
            cell(job, "next_local"),
            told(job),
            last(&job["last"]),
        ]
    };
    let jobs = value["jobs"].as_array().into_iter().flatten();
    let rows: Vec<[String; 7]> = jobs.map(row).collect();
    if rows.is_empty() {
        output::complain("there are no jobs; see docs/cron.md");
    }
    output::table(["name", "schedule", "zone", "state", "next", "told", "last"], &rows)
}

fn state(job: &Value) -> String {
    match (job["paused"].as_bool(), job["open"].as_u64()) {
        (_, Some(open)) if open > 0 => "under way".to_owned(),
        (Some(true), _) => "paused".to_owned(),
        _ => "waits".to_owned(),
    }
}

/// Who is told, in one word.
pub(super) fn told(job: &Value) -> String {
    let (to, channel) = (cell(job, "to"), cell(job, "channel"));
    match (to.is_empty(), channel.is_empty()) {
        (true, _) => short_cell(job, "session"),
        (false, true) => to,
        (false, false) => format!("{to} on {channel}"),
    }
}

fn last(tick: &Value) -> String {
    if tick.is_null() {
        return String::new();
    }
    let (state, note) = (cell(tick, "state"), short_cell(tick, "note"));
    if note.is_empty() { state } else { format!("{state}: {note}") }
}

fn times(value: &Value) -> anyhow::Result<()> {
    let next = value["next"].as_array().into_iter().flatten();
    let next: Vec<[String; 2]> =
        next.map(|time| [cell(time, "local"), output::time_cell(time, "at")]).collect();
    let zone = cell(value, "zone");
    if value["paused"] == true {
        output::complain("it is paused: none of these times counts before it is resumed");
    }
    output::table([&*format!("next, in {zone}"), "here"], &next)?;
    let last = value["last"].as_array().into_iter().flatten();
    let last: Vec<[String; 3]> = last
        .map(|tick| [output::time_cell(tick, "at"), cell(tick, "state"), short_cell(tick, "note")])
        .collect();
    if last.is_empty() { Ok(()) } else { output::table(["last", "state", "why"], &last) }
}
