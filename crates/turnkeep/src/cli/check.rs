//! `turnkeep check`: reads the configuration and tells what it amounts to.

use std::process::ExitCode;

use anyhow::{Context as _, bail};

use clap::Args;
use serde_json::{Value, json};
use turnkeep_core::SessionKey;

use super::args::ServerFlags;
use super::output;
use crate::config::policy::with_choice;
use crate::config::{self, AgentSettings, Env, Resolved};
use crate::wiring;

/// `check`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  turnkeep check
  turnkeep check --config my.toml --explain default:default:web
  turnkeep check --explain default:default:web:dm:anna --json
  turnkeep check --example > turnkeep.toml
  turnkeep check --schema > turnkeep.schema.json")]
pub(super) struct CheckArgs {
    #[command(flatten)]
    server: ServerFlags,
    /// Show the policy of a session, or of all that are like TENANT:AGENT:CHANNEL, and what decided
    /// each key
    #[arg(long, value_name = "SESSION", value_parser = explained,
          conflicts_with_all = ["example", "reference", "schema"])]
    explain: Option<Explained>,
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
        Some(wanted) => explain(&resolved, wanted, args.json)?,
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
    for (name, agent) in &resolved.agents {
        let what = match agent {
            AgentSettings::Echo(echo) => format!("echo, {} ms", echo.delay.as_millis()),
            AgentSettings::OpenAi(openai) => {
                format!("{} at {}", openai.model, without_password(&openai.base_url))
            }
        };
        output::line(&format!("agent       {name}: {what}"))?;
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

/// Whose policy is explained.
#[derive(Clone)]
struct Explained {
    tenant: String,
    agent: String,
    channel: String,
    /// One session, which may have chosen something itself.
    session: Option<SessionKey>,
}

fn explained(text: &str) -> Result<Explained, String> {
    let parts: Vec<&str> = text.split(':').collect();
    if let [tenant, agent, channel] = parts[..] {
        let [tenant, agent, channel] = [tenant, agent, channel].map(str::to_owned);
        return Ok(Explained { tenant, agent, channel, session: None });
    }
    let key: SessionKey = text.parse().map_err(|_| {
        "must be a session's key, like default:default:web:dm:anna, or TENANT:AGENT:CHANNEL"
            .to_owned()
    })?;
    let (tenant, agent, channel) = (key.tenant(), key.agent(), key.channel());
    Ok(Explained { tenant, agent, channel, session: Some(key) })
}

fn explain(resolved: &Resolved, wanted: &Explained, json: bool) -> anyhow::Result<()> {
    let Explained { tenant, agent, channel, session } = wanted;
    let mut lines = resolved.explain(tenant, agent, channel).with_context(|| {
        let agents: Vec<&str> = resolved.agents.keys().map(String::as_str).collect();
        let channels = turnkeep_core::policy::CHANNELS.map(|facts| facts.name);
        format!(
            "no such sessions: agents are {}; channels are {}",
            agents.join(", "),
            channels.join(", ")
        )
    })?;
    if let Some(key) = session {
        match wiring::stored_session(&resolved.data_dir, key) {
            Ok(Some(stored)) => with_choice(&mut lines, stored.busy),
            Ok(None) => output::complain("note: nobody has written in this session yet"),
            Err(error) => output::complain(&format!(
                "note: what the session chose itself can't be read: {error:#}"
            )),
        }
    }
    if json {
        let keys: Vec<Value> = lines.iter().map(as_json).collect();
        let name = session.as_ref().map(SessionKey::as_str);
        let shown = json!({"tenant_id": tenant, "agent_id": agent, "channel": channel,
                           "session": name, "keys": keys});
        return output::line(&serde_json::to_string_pretty(&shown)?);
    }
    let rows: Vec<[String; 3]> = lines
        .into_iter()
        .map(|line| [line.key.to_owned(), line.value.clone(), line.decided_by()])
        .collect();
    output::table(["key", "value", "decided by"], &rows)
}

fn as_json(line: &config::policy::Explained) -> Value {
    let (section, at) = line.typed.clone().unzip();
    json!({"key": line.key, "value": config::as_json(&line.value), "layer": line.layer.as_str(),
           "section": section, "at": at})
}
