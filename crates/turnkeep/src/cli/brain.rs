//! `turnkeep brain check`: holds somebody's own brain against the contract.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::{ArgGroup, Args, Subcommand};
use indicatif::ProgressBar;

use super::args::ConfigArgs;
use super::output;
use crate::brain_check::{self, Check, Subject, Wants, Watcher};
use crate::config::{self, AgentSettings, Env};
use crate::wiring;

/// `brain`.
#[derive(Args)]
pub(super) struct BrainArgs {
    #[command(subcommand)]
    command: BrainCommand,
}

/// What can be done with brains.
#[derive(Subcommand)]
enum BrainCommand {
    /// Play the gateway against a brain and tell what it does right and wrong
    Check(CheckArgs),
}

/// `brain check`.
#[derive(Args)]
#[command(group = ArgGroup::new("whom").required(true), after_help = "\
Examples:
  turnkeep brain check http://127.0.0.1:9000 --secret-file brain.secret
  turnkeep brain check --agent support
  turnkeep brain check --command python3 echo.py
  turnkeep brain check --message 'refund order 18' --command python3 refund.py

Nothing that the brain asks for is permitted, unless --message says what makes it act: then it acts
once, really. What a brain does without asking can't be seen. The rules: docs/brains.md.")]
struct CheckArgs {
    /// A server, and what is posted to
    #[arg(group = "whom")]
    url: Option<String>,
    /// The file with the secret that signs what is posted
    #[arg(long, value_name = "FILE", requires = "url", conflicts_with = "secret_env")]
    secret_file: Option<PathBuf>,
    /// The variable with the secret
    #[arg(long, value_name = "NAME", requires = "url")]
    secret_env: Option<String>,
    /// An agent of the configuration
    #[arg(long, value_name = "NAME", group = "whom")]
    agent: Option<String>,
    /// What makes it act; it is let act then, once
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
    /// What its user answers if it asks
    #[arg(long, value_name = "TEXT")]
    answer: Option<String>,
    /// How long it may take over one turn
    #[arg(long, value_name = "SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
    /// A program and its arguments, started here; everything behind this belongs to it
    #[arg(long, value_name = "PROGRAM", num_args = 1.., allow_hyphen_values = true, group = "whom")]
    command: Option<Vec<String>>,
}

/// Does what was asked.
pub(super) fn run(args: BrainArgs) -> anyhow::Result<ExitCode> {
    let BrainCommand::Check(args) = args.command;
    let subject = subject(&args)?;
    let wants = Wants {
        message: args.message,
        answer: args.answer,
        timeout: Duration::from_secs(args.timeout),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("can't start the runtime")?;
    let mut shown = Shown::new(args.json);
    let report = runtime.block_on(brain_check::check(&subject, &wants, &mut shown));
    shown.bar.finish_and_clear();
    // What it started is ended in the background; nobody waits for what can't be.
    runtime.shutdown_timeout(Duration::from_secs(3));
    if let Some(error) = shown.error {
        return Err(error);
    }
    match args.json {
        true => output::line(&serde_json::to_string_pretty(&report.json())?)?,
        false => output::line(&report.summary())?,
    }
    Ok(if report.is_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whom is meant. What is typed here is read as the configuration of one agent, so that it means
/// what it would mean there.
fn subject(args: &CheckArgs) -> anyhow::Result<Subject> {
    let env = Env::of_process();
    let (name, resolved) = match &args.agent {
        Some(name) => (name.as_str(), config::load(&args.config.flags(), &env)?),
        None => {
            let resolved = config::typed(&keys(args)?, &env);
            (TYPED, resolved.map_err(|problems| anyhow!(as_flags(&problems.to_string())))?)
        }
    };
    // A program that is missing will be told of in a moment.
    for note in resolved.notes.iter().filter(|_| args.command.is_none()) {
        output::complain(&format!("note: {}", as_flags(note)));
    }
    let Some(settings) = resolved.agents.get(name) else {
        bail!("there is no agent {name} in the configuration");
    };
    let shown = match (settings, &args.agent) {
        (_, Some(name)) => name.clone(),
        (AgentSettings::Http(brain), None) => brain.origin(),
        (AgentSettings::Command(program), None) => program.command[0].clone(),
        _ => String::new(),
    };
    let Some(subject) = wiring::brain(shown, settings)? else {
        bail!("{name} is no brain: only agents of the kinds \"command\" and \"http\" are");
    };
    Ok(subject)
}

/// What the agent is called that stands on the command line.
const TYPED: &str = "default";

/// What is said of the section that [`keys`] makes, said of what was typed: nobody knows its lines.
fn as_flags(said: &str) -> String {
    let place = format!("{}:", config::COMMAND_LINE);
    let line = |line: &str| {
        let rest = line.strip_prefix(&place).and_then(|rest| rest.split_once(": "));
        let mut line = rest.map_or(line, |(_, rest)| rest).to_owned();
        for (key, flag) in FLAGS {
            line = line.replace(&format!("\"{key}\" in [agents.{TYPED}]"), flag);
        }
        line
    };
    said.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The keys of the section, and where each is typed.
const FLAGS: [(&str, &str); 4] = [
    ("url", "URL"),
    ("command", "--command"),
    ("secret_file", "--secret-file"),
    ("secret_env", "--secret-env"),
];

/// The section of the configuration that is meant.
fn keys(args: &CheckArgs) -> anyhow::Result<String> {
    let text = |text: &str| toml::Value::String(text.to_owned());
    let mut keys = toml::Table::new();
    if let Some([whole]) = args.command.as_deref()
        && whole.contains(char::is_whitespace)
    {
        bail!("--command is started without a shell: type it without quotes around all of it");
    }
    if let Some(command) = &args.command {
        keys.insert("kind".into(), text("command"));
        let parts = command.iter().map(|part| text(part)).collect();
        keys.insert("command".into(), toml::Value::Array(parts));
    }
    if let Some(url) = &args.url {
        keys.insert("kind".into(), text("http"));
        keys.insert("url".into(), text(url));
    }
    if let Some(file) = &args.secret_file {
        let file = std::path::absolute(file).context("--secret-file")?;
        keys.insert("secret_file".into(), text(&file.to_string_lossy()));
    }
    if let Some(name) = &args.secret_env {
        keys.insert("secret_env".into(), text(name));
    }
    if args.url.is_some() && args.secret_file.is_none() && args.secret_env.is_none() {
        bail!("what is posted to a brain is signed: --secret-file FILE or --secret-env NAME");
    }
    let agents: toml::Table = [(TYPED.to_owned(), keys.into())].into_iter().collect();
    let sections: toml::Table = [("agents".to_owned(), agents.into())].into_iter().collect();
    Ok(toml::to_string(&sections)?)
}

/// Tells each finding as soon as it is there, and on a terminal what is under way.
struct Shown {
    json: bool,
    bar: ProgressBar,
    error: Option<anyhow::Error>,
}

impl Shown {
    fn new(json: bool) -> Self {
        let bar = match io::stderr().is_terminal() {
            true => ProgressBar::new_spinner(),
            false => ProgressBar::hidden(),
        };
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { json, bar, error: None }
    }
}

impl Watcher for Shown {
    fn begins(&mut self, expected: &str) {
        self.bar.set_message(expected.to_owned());
    }

    fn ends(&mut self, check: &Check) {
        if self.json || self.error.is_some() {
            return;
        }
        self.error = self.bar.suspend(|| output::line(&check.lines())).err();
    }
}
