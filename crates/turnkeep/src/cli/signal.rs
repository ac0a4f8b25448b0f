//! `turnkeep signal`: links a phone, and tells how the accounts are.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::Value;

use super::args::{ApiArgs, ConfigArgs};
use super::client::Client;
use super::dispatch::FAILED;
use super::output::{self, cell, time_cell};
use super::qr;
use super::sessions::show_or_json;
use crate::config::signal::{SignalSettings, SignalWay};
use crate::config::{self, Env, Resolved};
use crate::wiring;

/// `signal`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  turnkeep signal link --write
  turnkeep signal accounts
  turnkeep signal status
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
    Link(LinkArgs),
    /// List the accounts that signal-cli knows, and which of them are configured
    Accounts(AccountsArgs),
    /// Ask the running server how each account is doing
    Status(StatusArgs),
    /// Trust somebody again whose safety number changed; only while no server runs
    Trust(TrustArgs),
}

/// `signal link`.
#[derive(Args)]
struct LinkArgs {
    /// What this machine is called in the phone's list of linked devices
    #[arg(long, value_name = "NAME", default_value = "Turnkeep")]
    name: String,
    /// Write the account into the configuration file, if that has no [signal] yet
    #[arg(long)]
    write: bool,
    #[command(flatten)]
    config: ConfigArgs,
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
    config: ConfigArgs,
}

/// Does what was asked.
pub(super) async fn run(args: SignalArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        SignalCommand::Link(args) => link(args).await,
        SignalCommand::Accounts(args) => accounts(args).await,
        SignalCommand::Status(args) => status(args).await,
        SignalCommand::Trust(args) => trust(args).await,
    }
}

async fn link(args: LinkArgs) -> anyhow::Result<ExitCode> {
    let resolved = config::load(&args.config.flags(), &Env::of_process())?;
    if args.write && resolved.signal.is_some() {
        bail!(
            "the configuration has a [signal] already; link without --write, and change it by hand"
        );
    }
    let number = wiring::signal::link(&resolved, &args.name, show).await?;
    output::complain(&format!("linked {number}"));
    let configured = resolved.signal.as_ref().is_some_and(|signal| knows(signal, &number));
    if configured {
        output::complain("it is configured already; (re)start the server: turnkeep serve");
    } else if args.write {
        let path = write(&resolved, &number)?;
        output::complain(&format!(
            "{} has it now; say who may write to it there ([users.NAME], docs/signal.md), and start \
             the server: turnkeep serve",
            path.display()
        ));
    } else {
        output::complain("put this into turnkeep.toml, and start the server: turnkeep serve");
        output::line(&section(&number))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn knows(signal: &SignalSettings, number: &str) -> bool {
    signal.accounts.iter().any(|account| account.number == number)
}

fn section(number: &str) -> String {
    format!("[signal]\nnumber = \"{number}\"")
}

/// Shows what has to be scanned: a picture for people, the bare text for pipes.
fn show(uri: &str) -> anyhow::Result<()> {
    if !std::io::stdout().is_terminal() {
        return output::line(uri);
    }
    let code = qr::Code::of(uri)?;
    output::bytes(code.drawn().as_bytes())?;
    output::line(uri)?;
    output::complain(
        "on the phone: Signal, Settings, Linked devices, +, and scan this; it is good for some \
         minutes",
    );
    Ok(())
}

/// Adds the section at the end of the file, or makes a file.
fn write(resolved: &Resolved, number: &str) -> anyhow::Result<PathBuf> {
    let path = resolved.source.clone().unwrap_or_else(|| PathBuf::from("turnkeep.toml"));
    let shown = path.display().to_string();
    let before = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("can't read {shown}")),
    };
    let gap = if before.is_empty() { "" } else { "\n" };
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path)?;
    let text = format!("{gap}{}\n", section(number));
    file.write_all(text.as_bytes()).with_context(|| format!("can't write {shown}"))?;
    Ok(path)
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
        output::complain("no account of Signal is configured; see docs/signal.md");
    }
    output::table(["account", "receiving", "sending", "restarts"], &rows)
}

async fn trust(args: TrustArgs) -> anyhow::Result<ExitCode> {
    let resolved = config::load(&args.config.flags(), &Env::of_process())?;
    let Some(signal) = &resolved.signal else {
        bail!("no account of Signal is configured; see docs/signal.md");
    };
    let account = match (&signal.accounts[..], &args.account) {
        (all, Some(name)) => all.iter().find(|account| account.name == *name),
        ([only], None) => Some(only),
        (_, None) => bail!("say which account, with --account"),
    };
    let account = account.context("there is no account of this name")?;
    if matches!(signal.way, SignalWay::Child { .. }) && runs(&resolved.data_dir) {
        bail!("a server runs, and its signal-cli holds the account; end it first");
    }
    wiring::signal::trust(&resolved, &account.number, &args.who, args.safety_number).await?;
    output::complain(&format!("{} is trusted by {}", args.who, account.number));
    Ok(ExitCode::SUCCESS)
}

/// Whether somebody listens on the socket.
fn runs(data_dir: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(data_dir.join(super::place::SOCKET_NAME)).is_ok()
}
