//! `turnkeep usage`: what was used, in tokens and money.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::Value;
use turnkeep_core::SessionKey;
use turnkeep_core::usage::Day;

use super::args::ApiArgs;
use super::client::{Client, with_query};
use super::output::{self, cell};
use super::sessions::show_or_json;

/// `usage`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  turnkeep usage
  turnkeep usage --by customer --tenant acme --since 2026-11-01
  turnkeep usage --by day --session default:default:web:dm:anna")]
pub(super) struct UsageArgs {
    /// What makes a line
    #[arg(long, value_enum, default_value = "agent")]
    by: By,
    /// Only of this tenant
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Only of this customer [tenant: default]
    #[arg(long, value_name = "NAME")]
    customer: Option<String>,
    /// Only of this session
    #[arg(long, value_name = "KEY")]
    session: Option<SessionKey>,
    /// From this day on, in UTC [default: all time]
    #[arg(long, value_name = "DATE")]
    since: Option<Day>,
    /// Up to this day, which counts
    #[arg(long, value_name = "DATE")]
    until: Option<Day>,
    /// How many lines at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: Option<u32>,
    #[command(flatten)]
    api: ApiArgs,
}

/// What can make a line.
#[derive(Clone, Copy, ValueEnum)]
enum By {
    /// Whose deployment it is
    Tenant,
    /// Who talks to an agent; groups are nobody's
    Customer,
    /// A conversation
    Session,
    /// The agent that did the work
    Agent,
    /// The model that answered
    Model,
    /// A day, in UTC
    Day,
}

impl By {
    const fn name(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Customer => "customer",
            Self::Session => "session",
            Self::Agent => "agent",
            Self::Model => "model",
            Self::Day => "day",
        }
    }

    /// Headers and fields of what a line is about.
    const fn columns(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Tenant => &[("tenant", "tenant_id")],
            Self::Customer => &[("tenant", "tenant_id"), ("customer", "customer_id")],
            Self::Session => &[("session", "session")],
            Self::Agent => &[("tenant", "tenant_id"), ("agent", "agent_id")],
            Self::Model => &[("model", "model")],
            Self::Day => &[("day", "day")],
        }
    }
}

/// Does what was asked.
pub(super) async fn run(args: UsageArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.api)?;
    let UsageArgs { by, tenant, customer, session, since, until, limit, api } = args;
    let tenant = tenant.or_else(|| customer.is_some().then(|| "default".to_owned()));
    let query = [
        ("by", Some(by.name().to_owned())),
        ("tenant_id", tenant),
        ("customer_id", customer),
        ("session", session.map(|key| key.as_str().to_owned())),
        ("from", since.map(|day| day.to_string())),
        ("to", until.map(|day| day.to_string())),
        ("limit", limit.map(|limit| limit.to_string())),
    ];
    let answer = client.get(&with_query("/v1/usage", &query)).await?;
    show_or_json(&answer, api.json, |value| show(value, by))?;
    Ok(ExitCode::SUCCESS)
}

fn show(value: &Value, by: By) -> anyhow::Result<()> {
    let rows: Vec<&Value> = value["rows"].as_array().into_iter().flatten().collect();
    if rows.is_empty() {
        output::complain("nothing was used");
    }
    let currency = value["currency"].as_str().unwrap_or_default();
    let (first, second) = match by.columns() {
        [first, second, ..] => (*first, Some(*second)),
        [first] => (*first, None),
        [] => return Ok(()),
    };
    let counts = |row: &Value| {
        ["requests", "input_tokens", "output_tokens", "cached_tokens"].map(|field| cell(row, field))
    };
    let cost = format!("cost ({})", output::harmless(currency));
    let header = ["requests", "input", "output", "cached", cost.as_str()];
    let line = |row: &Value| {
        let [requests, input, output, cached] = counts(row);
        [requests, input, output, cached, money(row)]
    };
    match second {
        Some((name, field)) => {
            let [a, b, c, d, e] = header;
            let table = rows.iter().map(|row| {
                let [r, i, o, k, m] = line(row);
                [about(row, first.1), about(row, field), r, i, o, k, m]
            });
            output::table([first.0, name, a, b, c, d, e], &table.collect::<Vec<_>>())?;
        }
        None => {
            let [a, b, c, d, e] = header;
            let table = rows.iter().map(|row| {
                let [r, i, o, k, m] = line(row);
                [about(row, first.1), r, i, o, k, m]
            });
            output::table([first.0, a, b, c, d, e], &table.collect::<Vec<_>>())?;
        }
    }
    if value["more"].as_bool() == Some(true) {
        output::complain("there is more; --limit shows it");
    }
    Ok(())
}

/// The same of one turn, in words.
pub(super) fn used(usage: &Value) -> String {
    let count = |field: &str| cell(usage, field);
    format!(
        "{} requests, {} input, {} output, {} cached, cost {}",
        count("requests"),
        count("input_tokens"),
        count("output_tokens"),
        count("cached_tokens"),
        money(usage)
    )
}

/// What a line is about; a dash where it is about nobody in particular any more.
fn about(row: &Value, field: &str) -> String {
    Some(cell(row, field)).filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned())
}

/// Whole units and six places; a question mark where no price is known, a plus where some are not.
fn money(row: &Value) -> String {
    let Some(micros) = row["cost_micros"].as_u64() else { return "?".to_owned() };
    let more = if row["unpriced_requests"].as_u64().unwrap_or(0) > 0 { "+" } else { "" };
    format!("{}.{:06}{more}", micros / 1_000_000, micros % 1_000_000)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn money_says_what_it_does_not_know() {
        let check = |cost: Value, unpriced: u64, expect: &str| {
            let row = json!({"cost_micros": cost, "unpriced_requests": unpriced});
            assert_eq!(money(&row), expect);
        };
        check(json!(12_000_034), 0, "12.000034");
        check(json!(5), 1, "0.000005+");
        check(Value::Null, 2, "?");
    }
}
