//! `turnkeep deliveries`: replies that were given up, and those of which nobody knows.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use turnkeep_core::SessionKey;

use super::args::{ApiArgs, PageArgs};
use super::client::{Client, ClientError, with_query};
use super::output::{self, cell, short_cell, time_cell};
use super::sessions::{more, path, query, show_or_json};

/// Deliveries that are counted; there may be more.
const COUNTED_MAX: usize = 1000;

/// `deliveries`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  turnkeep deliveries
  turnkeep deliveries --unknown
  turnkeep deliveries resend default:default:signal:dm:0a1b2c3d-0000-4000-8000-00000000a99a/12/0

A dead one was refused for good, or tried too often. An unknown one may have arrived: look before you
send it again. See docs/delivery.md.")]
pub(super) struct DeliveriesArgs {
    #[command(subcommand)]
    command: Option<DeliveriesCommand>,
    #[command(flatten)]
    list: ListArgs,
    #[command(flatten)]
    api: ApiArgs,
}

/// What can be done with deliveries.
#[derive(Subcommand)]
enum DeliveriesCommand {
    /// List them (this is what `deliveries` alone does)
    List(ListArgs),
    /// Send some of them again
    Resend {
        /// Their ids
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

/// Which of them.
#[derive(Args, Clone)]
struct ListArgs {
    /// Only those that were given up
    #[arg(long, conflicts_with = "unknown")]
    dead: bool,
    /// Only those of which nobody knows whether they arrived
    #[arg(long)]
    unknown: bool,
    #[command(flatten)]
    page: PageArgs,
}

/// Does what was asked.
pub(super) async fn run(args: DeliveriesArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.api)?;
    let json = args.api.json;
    match args.command.unwrap_or(DeliveriesCommand::List(args.list)) {
        DeliveriesCommand::List(list) => {
            let state = match (list.dead, list.unknown) {
                (true, _) => Some("dead".to_owned()),
                (_, true) => Some("unknown".to_owned()),
                _ => None,
            };
            let [after, limit] = query(list.page);
            let asked = with_query("/v1/deliveries", &[("state", state), after, limit]);
            show_or_json(&client.get(&asked).await?, json, table)?;
        }
        DeliveriesCommand::Resend { ids } => resend(&client, &ids, json).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn table(value: &Value) -> anyhow::Result<()> {
    let row = |delivery: &Value| {
        [
            cell(delivery, "id"),
            cell(delivery, "state"),
            time_cell(delivery, "at"),
            cell(delivery, "detail"),
            short_cell(delivery, "text"),
        ]
    };
    let rows: Vec<[String; 5]> =
        value["deliveries"].as_array().into_iter().flatten().map(row).collect();
    if rows.is_empty() {
        output::complain("nothing: every reply arrived or is on its way");
    }
    output::table(["id", "state", "since", "why", "text"], &rows)?;
    more(value);
    Ok(())
}

async fn resend(client: &Client, ids: &[String], json: bool) -> anyhow::Result<()> {
    // Whoever mistypes one of them sends none.
    let places = ids.iter().map(|id| place(id)).collect::<anyhow::Result<Vec<_>>>()?;
    for (id, (key, reply, part)) in ids.iter().zip(places) {
        let below = format!("/deliveries/{reply}/{part}/resend");
        let answer = client.post(&path(&key, &below), &json!({}), Duration::ZERO).await;
        let answer = answer.with_context(|| id.clone())?;
        show_or_json(&answer, json, |_| output::line(&format!("{id} goes out again")))?;
    }
    Ok(())
}

/// The session, the reply and the part that an id names. A key may hold slashes itself.
fn place(id: &str) -> anyhow::Result<(SessionKey, u64, u32)> {
    let place = || {
        let (rest, part) = id.rsplit_once('/')?;
        let (key, reply) = rest.rsplit_once('/')?;
        Some((key.parse().ok()?, reply.parse().ok()?, part.parse().ok()?))
    };
    place().with_context(|| {
        format!("{id:?} is no id of a delivery: these are like SESSION/REPLY/PART, see the list")
    })
}

/// How many replies a person has to look at.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parked {
    dead: usize,
    unknown: usize,
    /// There are more than were counted.
    more: bool,
}

impl Parked {
    /// Asks the server, for one channel or for all of them.
    pub(super) async fn ask(client: &Client, channel: Option<&str>) -> Result<Self, ClientError> {
        let answer = client.get(&Self::question()).await?;
        Ok(Self::count(&answer.value, channel))
    }

    /// What to ask for.
    pub(super) fn question() -> String {
        format!("/v1/deliveries?limit={COUNTED_MAX}")
    }

    /// Counts what was answered.
    pub(super) fn count(value: &Value, channel: Option<&str>) -> Self {
        let mut parked = Self { more: value["next"].is_string(), ..Self::default() };
        for one in value["deliveries"].as_array().into_iter().flatten() {
            let key = one["session"].as_str().and_then(|key| key.parse::<SessionKey>().ok());
            let here =
                channel.is_none_or(|channel| key.is_some_and(|key| key.channel() == channel));
            match one["state"].as_str() {
                Some("dead") if here => parked.dead += 1,
                Some("unknown") if here => parked.unknown += 1,
                _ => {}
            }
        }
        parked
    }

    /// In words; none where there is nothing to look at.
    pub(super) fn words(&self) -> Option<String> {
        let Self { dead, unknown, more } = self;
        if (*dead, *unknown, *more) == (0, 0, false) {
            return None;
        }
        let replies = |count: &usize| {
            format!("{count} part{} of replies", if *count == 1 { "" } else { "s" })
        };
        let words = match (dead, unknown) {
            (dead, 0) => format!("{} not sent (dead)", replies(dead)),
            (0, unknown) => format!("{} perhaps not sent (unknown)", replies(unknown)),
            (dead, unknown) => {
                format!("{} not sent (dead), {unknown} perhaps not (unknown)", replies(dead))
            }
        };
        let least = if *more { "at least " } else { "" };
        Some(format!("{least}{words}: `turnkeep deliveries`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_name_their_places() {
        let check = |id: &str, expect: Option<(&str, u64, u32)>| {
            let expect = expect.map(|(key, reply, part)| (key.parse().unwrap(), reply, part));
            assert_eq!(place(id).ok(), expect, "{id}");
        };
        check("a:b:sms:dm:c/12/0", Some(("a:b:sms:dm:c", 12, 0)));
        check("a:b:sms:dm:c/d/12/0", Some(("a:b:sms:dm:c/d", 12, 0)));
        check("a:b:sms:dm:c/12", None);
        check("12/0", None);
        check("a:b:sms:dm:c/x/0", None);
    }

    #[test]
    fn what_is_parked_is_counted() {
        let one = |channel: &str, state: &str| json!({"session": format!("a:b:{channel}:dm:c"), "state": state});
        let told = json!({"deliveries": [one("signal", "dead"), one("sms", "dead"),
                                         one("signal", "unknown")], "next": null});
        let check = |told: &Value, channel, expect: Option<&str>| {
            assert_eq!(Parked::count(told, channel).words().as_deref(), expect);
        };
        check(
            &told,
            None,
            Some(
                "2 parts of replies not sent (dead), 1 perhaps not (unknown): `turnkeep deliveries`",
            ),
        );
        check(&told, Some("web"), None);
        let dead = json!({"deliveries": [one("sms", "dead")], "next": "x"});
        check(
            &dead,
            None,
            Some("at least 1 part of replies not sent (dead): `turnkeep deliveries`"),
        );
        check(&json!({"deliveries": []}), None, None);
    }
}
