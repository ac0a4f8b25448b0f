//! `turnkeep remind`: something is told once, at its time.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use jiff::Timestamp;
use serde_json::Value;
use turnkeep_core::schedule::{moment_at, moment_in};

use super::args::ApiArgs;
use super::client::{Client, segment, with_query};
use super::cron::{WhomArgs, told, typed};
use super::output::{self, cell, short_cell, time_cell};
use super::sessions::{fields, show_or_json};
use crate::config::machine_zone;

/// `remind`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  turnkeep remind 'the oven' --in 20m --to alice
  turnkeep remind 'the dentist' --at 08:30 --to alice --channel signal
  turnkeep remind 'pay the rent' --at '2030-01-01 09:00' --zone Europe/Berlin --to alice
  turnkeep remind --ask 'What is the weather?' --at 07:00 --to alice
  turnkeep remind --list
  turnkeep remind --cancel k3f9a2xq")]
pub(super) struct RemindArgs {
    /// What is told
    #[arg(required_unless_present_any = ["list", "cancel"])]
    text: Option<String>,
    /// In how long, like 20m, 2h or '1 day'
    #[arg(long = "in", value_name = "TIME", conflicts_with = "at")]
    ahead: Option<String>,
    /// When: 18:30 is the next time that the clock shows it, '2030-01-01 18:30' that day
    #[arg(long, value_name = "WHEN")]
    at: Option<String>,
    /// The time zone that is meant [default: this machine's]
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// The text is put to an agent, and its answer is told
    #[arg(long)]
    ask: bool,
    /// List what is still to come
    #[arg(long, conflicts_with_all = ["text", "cancel"])]
    list: bool,
    /// Cancel a reminder
    #[arg(long, value_name = "NAME", conflicts_with = "text")]
    cancel: Option<String>,
    /// Whose reminders [default: default]
    #[arg(long, value_name = "NAME", env = "TURNKEEP_TENANT", hide_env_values = true)]
    tenant: Option<String>,
    #[command(flatten)]
    whom: WhomArgs,
    #[command(flatten)]
    api: ApiArgs,
}

/// Does what was asked.
pub(super) async fn run(args: RemindArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.api)?;
    let json = args.api.json;
    let query = [("tenant_id", args.tenant.clone())];
    if args.list {
        let answer = client.get(&with_query("/v1/reminders", &query)).await?;
        show_or_json(&answer, json, list)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(name) = &args.cancel {
        let path = with_query(&format!("/v1/reminders/{}", segment(name)), &query);
        show_or_json(&client.delete(&path).await?, json, fields)?;
        return Ok(ExitCode::SUCCESS);
    }
    let at = when(&args)?.to_string();
    let (prompt, text) = if args.ask { (args.text, None) } else { (None, args.text) };
    let mut body =
        typed(&[("tenant_id", args.tenant), ("at", Some(at)), ("prompt", prompt), ("text", text)]);
    body.extend(args.whom.fields());
    let answer = client.post("/v1/reminders", &Value::from(body), Duration::ZERO).await?;
    show_or_json(&answer, json, made)?;
    Ok(ExitCode::SUCCESS)
}

/// The moment that was typed.
fn when(args: &RemindArgs) -> anyhow::Result<Timestamp> {
    let now = Timestamp::now().as_millisecond();
    let at = match (&args.ahead, &args.at) {
        (Some(text), _) => moment_in(text, now).context("--in")?,
        (None, Some(text)) => {
            let zone = args.zone.clone().unwrap_or_else(machine_zone);
            moment_at(text, now, &zone).context("--at")?
        }
        (None, None) => anyhow::bail!("when? --in 20m, or --at 18:30"),
    };
    Ok(Timestamp::from_millisecond(at)?)
}

fn made(value: &Value) -> anyhow::Result<()> {
    output::line(&cell(value, "name"))?;
    let (whom, at) = (told(value), time_cell(value, "next"));
    output::complain(&format!("{whom} is told at {at}; turnkeep remind --cancel takes it back"));
    Ok(())
}

fn list(value: &Value) -> anyhow::Result<()> {
    let row = |reminder: &Value| {
        let text = if reminder["text"].is_null() { "prompt" } else { "text" };
        [
            cell(reminder, "name"),
            match reminder["last"]["state"].as_str() {
                Some(state) if reminder["next"].is_null() => state.to_owned(),
                _ => time_cell(reminder, "next"),
            },
            told(reminder),
            short_cell(reminder, text),
        ]
    };
    let reminders = value["reminders"].as_array().into_iter().flatten();
    let rows: Vec<[String; 4]> = reminders.map(row).collect();
    if rows.is_empty() {
        output::complain("there are no reminders");
    }
    output::table(["name", "when", "told", "what"], &rows)
}
