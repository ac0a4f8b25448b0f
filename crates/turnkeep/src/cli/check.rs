//! `turnkeep check`: reads the configuration and tells what it amounts to.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use super::args::ServerFlags;
use super::explain::{self, Wanted};
use super::output;
use crate::config::model::AnthropicSettings;
use crate::config::store::StoreSettings;
use crate::config::{self, AgentSettings, Env, Resolved};
use crate::wiring;

/// `check`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  turnkeep check
  turnkeep check --config my.toml --explain default:default:web
  turnkeep check --explain default:default:web:dm:anna --json
  turnkeep check --explain default:default:web:dm:anna --saying 'about order #'
  turnkeep check --example > turnkeep.toml
  turnkeep check --schema > turnkeep.schema.json")]
pub(super) struct CheckArgs {
    #[command(flatten)]
    server: ServerFlags,
    /// Show the policy of a session, or of all that are like TENANT:AGENT:CHANNEL, what decided
    /// each key, and how long its next message would be waited upon
    #[arg(long, value_name = "SESSION", value_parser = explain::wanted,
          conflicts_with_all = ["example", "reference", "schema"])]
    explain: Option<Wanted>,
    /// What the next message says; without it, nothing that matters
    #[arg(long, value_name = "TEXT", requires = "explain")]
    saying: Option<String>,
    /// Print it as JSON
    #[arg(long, requires = "explain")]
    json: bool,
    /// Print an example of a configuration file
    #[arg(long, conflicts_with_all = ["reference", "schema"])]
    example: bool,
    /// Print the reference of every key, in markdown
    #[arg(long, conflicts_with = "schema")]
    reference: bool,
    /// Print the JSON schema of the file, for editors
    #[arg(long)]
    schema: bool,
}

/// Does what was asked.
pub(super) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    if args.example {
        output::line(&config::example())?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.reference {
        output::line(&config::reference())?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.schema {
        output::line(&config::schema())?;
        return Ok(ExitCode::SUCCESS);
    }
    let resolved = match config::load(&args.server.flags(), &Env::of_process()) {
        Ok(resolved) => resolved,
        Err(problems) => {
            let count = problems.len();
            let mistakes = if count == 1 { "mistake" } else { "mistakes" };
            bail!("{problems}\n{count} {mistakes}");
        }
    };
    match &args.explain {
        Some(wanted) => explain::run(&resolved, wanted, args.saying.as_deref(), args.json)?,
        None => summary(&resolved)?,
    }
    for note in &resolved.notes {
        output::complain(&format!("note: {note}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn summary(resolved: &Resolved) -> anyhow::Result<()> {
    match &resolved.source {
        Some(path) => output::line(&format!("{} is in order", path.display()))?,
        None => output::line("there is no configuration file; the defaults hold")?,
    }
    output::line(&format!("listens on  http://{}", resolved.listen))?;
    // From wherever it was typed, this is the folder that is meant.
    let data_dir = std::path::absolute(&resolved.data_dir)?;
    output::line(&format!("data in     {}", data_dir.display()))?;
    if let StoreSettings::Postgres(database) = &resolved.store {
        output::line(&format!("store       PostgreSQL, schema {}", database.schema))?;
    }
    if let Some(redis) = &resolved.redis {
        output::line(&format!("hints       Redis, keys under {}", redis.prefix))?;
    }
    for (name, agent) in &resolved.agents {
        let what = match agent {
            AgentSettings::Echo(echo) => format!("echo, {} ms", echo.delay.as_millis()),
            AgentSettings::OpenAi(model)
            | AgentSettings::Anthropic(AnthropicSettings { model, .. }) => {
                format!("{} at {}", model.model, without_password(&model.base_url))
            }
            // Only the program: its arguments may be anything.
            AgentSettings::Command(program) => {
                let place = match &program.worktrees {
                    Some(own) => format!("a worktree of {} each", own.repository.display()),
                    None => program.dir.display().to_string(),
                };
                format!("{} in {place}", program.command[0])
            }
            // A path may be a secret.
            AgentSettings::Http(brain) => brain.origin(),
        };
        let version = wiring::version(resolved, name);
        let version = version.map_or_else(String::new, |version| format!(", version {version}"));
        output::line(&format!("agent       {name}: {what}{version}"))?;
    }
    for (name, server) in &resolved.tools {
        output::line(&format!("tools       {name}: {}", server.told()))?;
    }
    for account in resolved.signal.iter().flat_map(|signal| &signal.accounts) {
        output::line(&format!("signal      {}: {}", account.name, account.number))?;
    }
    for (channel, path) in &resolved.spools {
        output::line(&format!("spool       {channel}: {}", path.display()))?;
    }
    for listener in &resolved.listeners {
        let (name, pattern) = (&listener.name, listener.pattern.join(", "));
        output::line(&format!("listener    {name}: {pattern} to {}", listener.receiver()))?;
    }
    Ok(())
}

/// An address as it may be shown: somebody may have put a password into it.
fn without_password(address: &str) -> String {
    match reqwest::Url::parse(address) {
        Ok(mut url) if url.password().is_some() => match url.set_password(Some("***")) {
            Ok(()) => url.to_string(),
            Err(()) => "an address with a password".to_owned(),
        },
        _ => address.to_owned(),
    }
}
