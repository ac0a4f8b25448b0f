//! `turnkeep remind`: something is told once, at its time.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _, Zoned};
use serde_json::Value;

use super::args::ApiArgs;
use super::client::{Client, segment, with_query};
use super::cron::{WhomArgs, told, typed};
use super::output::{self, cell, short_cell, time_cell};
use super::sessions::{fields, show_or_json};

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
    if let Some(text) = &args.ahead {
        let ahead: SignedDuration = text
            .parse()
            .with_context(|| format!("--in {text:?} is no time, like 20m, 2h or '1 day'"))?;
        return Ok(Timestamp::now() + ahead);
    }
    let Some(text) = &args.at else { anyhow::bail!("when? --in 20m, or --at 18:30") };
    let zone = match &args.zone {
        Some(name) => turnkeep_core::schedule::time_zone(name)?,
        None => TimeZone::system(),
    };
    at(text, &Timestamp::now().to_zoned(zone))
        .with_context(|| format!("--at {text:?} is no time, like 18:30 or '2030-01-01 18:30'"))
}

/// A time of day is the next one; a date and a time that day; one with an offset that moment.
fn at(text: &str, now: &Zoned) -> anyhow::Result<Timestamp> {
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    if let Ok(wall) = text.parse::<DateTime>() {
        return Ok(wall.to_zoned(now.time_zone().clone())?.timestamp());
    }
    let time: Time = text.parse()?;
    let today = now.date().to_datetime(time).to_zoned(now.time_zone().clone())?;
    if today > *now {
        return Ok(today.timestamp());
    }
    let tomorrow = now.date().checked_add(1.day())?.to_datetime(time);
    Ok(tomorrow.to_zoned(now.time_zone().clone())?.timestamp())
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
            time_cell(reminder, "next"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_meant_as_people_mean_them() {
        let zone = turnkeep_core::schedule::time_zone("Europe/Berlin").unwrap();
        let now: Timestamp = "2026-03-28T12:00:00Z".parse().unwrap();
        let now = now.to_zoned(zone);
        let check = |text: &str, expect: &str| {
            assert_eq!(at(text, &now).unwrap().to_string(), expect, "{text}");
        };
        check("18:30", "2026-03-28T17:30:00Z");
        // Passed today, and the clock is put forth in the night.
        check("09:00", "2026-03-29T07:00:00Z");
        check("02:30", "2026-03-29T01:30:00Z");
        check("2026-04-01 08:00", "2026-04-01T06:00:00Z");
        check("2026-04-01T08:00", "2026-04-01T06:00:00Z");
        check("2026-04-01T08:00:00+00:00", "2026-04-01T08:00:00Z");
        assert!(at("soon", &now).is_err());
    }
}
