//! `turnkeep signal`: links a phone, and tells how the accounts are and which groups they know.

mod link;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::args::{ApiArgs, ConfigArgs};
use super::client::{Answer, Client};
use super::deliveries::Parked;
use super::dispatch::FAILED;
use super::output::{self, cell, time_cell};
use super::place;
use super::sessions::show_or_json;
use crate::config::signal::{SignalAccount, SignalSettings};
use crate::config::{self, Env, Resolved};
use crate::wiring;

/// What signal-cli may take beyond the usual: it asks Signal's servers.
const TRUST_WAIT: Duration = Duration::from_secs(30);

/// `signal`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  turnkeep signal link --write
  turnkeep signal accounts
  turnkeep signal status
  turnkeep signal groups
  turnkeep signal trust +4915112345678

See docs/signal.md.")]
pub(super) struct SignalArgs {
    #[command(subcommand)]
    command: SignalCommand,
}

/// What can be done with Signal.
#[derive(Subcommand)]
enum SignalCommand {
    /// Link this machine to a phone's account: shows a QR code and waits until it was scanned
    Link(link::LinkArgs),
    /// List the accounts that signal-cli knows, and which of them are configured
    Accounts(AccountsArgs),
    /// Ask the running server how each account is doing
    Status(StatusArgs),
    /// List the groups that each account knows, with the ids that [groups.NAME] wants
    Groups(GroupsArgs),
    /// Trust somebody again whose safety number changed
    Trust(TrustArgs),
}

/// `signal accounts`.
#[derive(Args)]
struct AccountsArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

/// `signal status`.
#[derive(Args)]
struct StatusArgs {
    #[command(flatten)]
    api: ApiArgs,
}

/// `signal groups`.
#[derive(Args)]
struct GroupsArgs {
    #[command(flatten)]
    api: ApiArgs,
}

/// `signal trust`.
#[derive(Args)]
struct TrustArgs {
    /// Whose number, or Signal's own id of them
    who: String,
    /// The safety number that was compared with theirs [default: whatever it is now]
    #[arg(long, value_name = "DIGITS")]
    safety_number: Option<String>,
    /// Which account of ours, where there are several
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    #[command(flatten)]
    api: ApiArgs,
}

/// Does what was asked.
pub(super) async fn run(args: SignalArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        SignalCommand::Link(args) => link::run(args).await,
        SignalCommand::Accounts(args) => accounts(args).await,
        SignalCommand::Status(args) => status(args).await,
        SignalCommand::Groups(args) => groups(args).await,
        SignalCommand::Trust(args) => trust(args).await,
    }
}

async fn accounts(args: AccountsArgs) -> anyhow::Result<ExitCode> {
    let resolved = config::load(&args.config.flags(), &Env::of_process())?;
    let known = wiring::signal::accounts(&resolved).await?;
    let configured = resolved.signal.as_ref().map_or(&[][..], |signal| &signal.accounts);
    let name = |number: &str| {
        let found = configured.iter().find(|account| account.number == number);
        found.map(|account| account.name.clone())
    };
    let not_linked = configured.iter().filter(|account| !known.contains(&account.number));
    let not_linked: Vec<&str> = not_linked.map(|account| &*account.number).collect();
    if args.json {
        let linked = known
            .iter()
            .map(|number| serde_json::json!({"number": number, "account": name(number)}));
        let all =
            serde_json::json!({"linked": linked.collect::<Vec<_>>(), "not_linked": not_linked});
        output::line(&serde_json::to_string_pretty(&all)?)?;
    } else {
        let row = |number: &String| [number.clone(), name(number).unwrap_or_default()];
        let rows: Vec<[String; 2]> = known.iter().map(row).collect();
        if rows.is_empty() {
            output::complain("signal-cli knows no account; run `turnkeep signal link`");
        }
        output::table(["number", "configured as"], &rows)?;
    }
    for number in &not_linked {
        output::complain(&format!(
            "{number} is configured and not linked; run `turnkeep signal link`"
        ));
    }
    Ok(if not_linked.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

async fn status(args: StatusArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.api)?;
    let answer = client.get("/v1/signal").await?;
    show_or_json(&answer, args.api.json, table)?;
    if !args.api.json {
        // An account may be well while what it was to send is not.
        match Parked::ask(&client, Some("signal")).await {
            Ok(parked) => parked.words().iter().for_each(|words| output::complain(words)),
            Err(error) => output::complain(&format!("what was not sent is not known: {error}")),
        }
    }
    let accounts = answer.value["accounts"].as_array().into_iter().flatten();
    let fails = |account: &Value| {
        ["receiving", "sending"].iter().any(|half| account[half]["state"] == "failing")
    };
    let sick = accounts.into_iter().any(fails);
    Ok(if sick { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

fn table(value: &Value) -> anyhow::Result<()> {
    let half = |pulse: &Value| match cell(pulse, "state").as_str() {
        "failing" => format!("failing since {}: {}", time_cell(pulse, "since"), cell(pulse, "why")),
        "elsewhere" => "by another server of the cluster".to_owned(),
        state => state.to_owned(),
    };
    let row = |account: &Value| {
        [
            cell(account, "account"),
            half(&account["receiving"]),
            half(&account["sending"]),
            cell(account, "restarts"),
        ]
    };
    let rows: Vec<[String; 4]> =
        value["accounts"].as_array().into_iter().flatten().map(row).collect();
    if rows.is_empty() {
        output::complain("this server has no account of Signal; see docs/signal.md");
    }
    output::table(["account", "receiving", "sending", "restarts"], &rows)
}

/// The server that holds the accounts: the one that is named, else the one of this data folder, if it
/// runs.
fn server(api: &ApiArgs) -> anyhow::Result<Option<Client>> {
    let env = Env::of_process();
    let asked = match place::named(api, &env)? {
        Some(_) => true,
        None => runs(&config::meant(&api.config.flags(), &env)?.0.data_dir),
    };
    asked.then(|| Client::new(api)).transpose()
}

/// Whether somebody listens on the socket.
fn runs(data_dir: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(data_dir.join(place::SOCKET_NAME)).is_ok()
}

async fn groups(args: GroupsArgs) -> anyhow::Result<ExitCode> {
    let answer = match server(&args.api)? {
        Some(client) => client.get("/v1/signal/groups").await?,
        None => {
            let resolved = config::load(&args.api.config.flags(), &Env::of_process())?;
            let groups = wiring::signal::groups(&resolved, &settings(&resolved)?.accounts).await?;
            Answer::made(json!({"groups": groups}))
        }
    };
    // What they are called here; whoever asks a server elsewhere may have no file.
    let here = config::load(&args.api.config.flags(), &Env::of_process()).ok();
    show_or_json(&answer, args.api.json, |value| list_groups(value, here.as_ref()))?;
    Ok(ExitCode::SUCCESS)
}

fn list_groups(value: &Value, here: Option<&Resolved>) -> anyhow::Result<()> {
    let configured = here.map_or(&[][..], |resolved| &resolved.people.groups);
    let row = |group: &Value| {
        let id = cell(group, "id");
        let same = |one: &&turnkeep_gateway::intake::routing::Group| {
            id.strip_prefix(&*one.channel).and_then(|rest| rest.strip_prefix(':')) == Some(&*one.id)
        };
        let name = configured.iter().find(same).map(|one| one.name.to_string());
        let state = match (group["member"].as_bool(), group["blocked"].as_bool()) {
            (Some(false), _) => "left",
            (_, Some(true)) => "blocked",
            _ => "member",
        };
        let title = cell(group, "title");
        let count = cell(group, "members");
        [title, id, count, state.to_owned(), name.unwrap_or_default(), cell(group, "account")]
    };
    let rows: Vec<[String; 6]> =
        value["groups"].as_array().into_iter().flatten().map(row).collect();
    if rows.is_empty() {
        output::complain("no groups; add the account to one with a phone");
    }
    output::table(["group", "id", "members", "state", "configured as", "account"], &rows)
}

async fn trust(args: TrustArgs) -> anyhow::Result<ExitCode> {
    let TrustArgs { who, safety_number, account, api } = args;
    if let Some(client) = server(&api)? {
        let mut body = json!({"who": who});
        for (field, value) in [("safety_number", &safety_number), ("account", &account)] {
            if let Some(value) = value {
                body[field] = value.as_str().into();
            }
        }
        let answer = client.post("/v1/signal/trust", &body, TRUST_WAIT).await?;
        show_or_json(&answer, api.json, |value| {
            trusted(&cell(value, "who"), &cell(value, "account"));
            Ok(())
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let resolved = config::load(&api.config.flags(), &Env::of_process())?;
    let account = one_account(settings(&resolved)?, account.as_deref())?;
    let who = who.strip_prefix("signal:").unwrap_or(&who);
    wiring::signal::trust(&resolved, &account.number, who, safety_number).await?;
    trusted(who, &account.name);
    Ok(ExitCode::SUCCESS)
}

fn trusted(who: &str, account: &str) {
    output::complain(&format!(
        "{who} is trusted by the account {account}; `turnkeep deliveries` lists what was not sent to \
         them meanwhile"
    ));
}

fn settings(resolved: &Resolved) -> anyhow::Result<&SignalSettings> {
    resolved.signal.as_ref().context("no account of Signal is configured; see docs/signal.md")
}

fn one_account<'a>(
    signal: &'a SignalSettings,
    name: Option<&str>,
) -> anyhow::Result<&'a SignalAccount> {
    match (&signal.accounts[..], name) {
        (all, Some(name)) => all
            .iter()
            .find(|account| account.name == name)
            .with_context(|| format!("there is no account {name:?}")),
        ([only], None) => Ok(only),
        (_, None) => bail!("there are several accounts: name one of them with --account"),
    }
}
