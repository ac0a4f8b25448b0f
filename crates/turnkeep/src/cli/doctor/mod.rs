//! `turnkeep doctor`: what is there, what is missing, and how to mend it.
//!
//! It looks and changes nothing. What it finds is one line each; a secret is never among it.

mod agents;
mod home;
mod programs;
mod signal;

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::args::ServerFlags;
use super::dispatch::FAILED;
use super::output;
use crate::config::store::StoreSettings;
use crate::config::{self, Env};

/// `doctor`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  turnkeep doctor
  turnkeep doctor --config my.toml --json

It looks at the configuration, the data folder, the database with the servers that are in, Redis and
Hatchet where they are used, the port or the server that runs, the programs that are named, keys of
providers, and at Signal: Java, signal-cli and its accounts. It changes nothing and asks no provider.
The exit code is 1 if something is missing.")]
pub(in crate::cli) struct DoctorArgs {
    #[command(flatten)]
    server: ServerFlags,
    /// Print what it found as JSON
    #[arg(long)]
    json: bool,
}

/// The file, among what was looked at.
const CONFIGURATION: &str = "configuration";

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// It is there.
    Ok,
    /// It is missing or wrong.
    Missing,
    /// Nothing is wrong, and there is something to know.
    Note,
}

/// One line.
#[derive(Debug, Serialize)]
struct Finding {
    /// What was looked at.
    name: String,
    state: State,
    /// What was found.
    text: String,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

/// Everything that was found so far.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, name: &str, text: impl Into<String>) {
        self.add(name, State::Ok, text.into(), None);
    }

    fn note(&mut self, name: &str, text: impl Into<String>) {
        self.add(name, State::Note, text.into(), None);
    }

    fn missing(&mut self, name: &str, text: impl Into<String>, mend: impl Into<String>) {
        self.add(name, State::Missing, text.into(), Some(mend.into()));
    }

    /// Whether something of this name is missing: what only follows from that is no fault of its own.
    fn is_missing(&self, name: &str) -> bool {
        self.0.iter().any(|finding| finding.name == name && finding.state == State::Missing)
    }

    fn add(&mut self, name: &str, state: State, text: String, mend: Option<String>) {
        self.0.push(Finding { name: name.to_owned(), state, text, mend });
    }
}

/// Does what was asked.
pub(in crate::cli) async fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let (flags, env) = (args.server.flags(), Env::of_process());
    let mut findings = Findings::default();
    let whereabouts = config::meant(&flags, &env).ok().map(|(whereabouts, _)| whereabouts);
    let resolved = match config::load(&flags, &env) {
        Ok(resolved) => {
            home::configuration(&resolved, &mut findings);
            Some(resolved)
        }
        Err(problems) => {
            for line in problems.to_string().lines() {
                findings.missing(
                    CONFIGURATION,
                    line,
                    "mend it; `turnkeep check` tells whether it is right",
                );
            }
            None
        }
    };
    let keeps_all =
        resolved.as_ref().is_none_or(|resolved| resolved.store == StoreSettings::Sqlite);
    match &whereabouts {
        Some(whereabouts) => {
            home::data_folder(&whereabouts.data_dir, keeps_all, &mut findings);
        }
        None => findings.note("data folder", "not looked at before it is known which one is meant"),
    }
    if let Some(resolved) = &resolved {
        home::database(resolved, &mut findings).await;
        home::redis(resolved, &mut findings).await;
        home::engine(resolved, &mut findings).await;
    }
    if let Some(whereabouts) = &whereabouts {
        home::server(whereabouts, &mut findings).await;
    }
    match &resolved {
        Some(resolved) => {
            agents::agents(resolved, &env, &mut findings).await;
            signal::signal(resolved, &env, &mut findings).await;
        }
        None => findings.note("agents", "not looked at before the configuration is right"),
    }
    show(&findings.0, args.json)?;
    let sick = findings.0.iter().any(|finding| finding.state == State::Missing);
    Ok(if sick { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

fn show(findings: &[Finding], json: bool) -> anyhow::Result<()> {
    let missing = findings.iter().filter(|finding| finding.state == State::Missing).count();
    if json {
        let all = serde_json::json!({"ok": missing == 0, "findings": findings});
        return output::line(&serde_json::to_string_pretty(&all)?);
    }
    let width = findings.iter().map(|finding| finding.name.chars().count()).max().unwrap_or(0);
    for Finding { name, state, text, mend } in findings {
        let sign = match state {
            State::Ok => "✓",
            State::Missing => "✗",
            State::Note => "note",
        };
        let mend = mend.as_ref().map_or_else(String::new, |mend| format!(": {mend}"));
        let told = format!("{text}{mend}");
        let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
        output::line(&format!("{sign:4} {name:width$}  {told}"))?;
    }
    match missing {
        0 => output::line("nothing is missing"),
        1 => output::line("1 thing is missing"),
        _ => output::line(&format!("{missing} things are missing")),
    }
}
