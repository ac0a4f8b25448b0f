//! `turnkeep check`: reads the configuration and tells what it amounts to.

use std::process::ExitCode;

use anyhow::{Context as _, bail};

use super::args::{CheckArgs, Explained};
use super::output;
use crate::config::{self, AgentSettings, Env, Resolved};

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
    let resolved = match config::load(&args.server.flags(), &Env::of_process()) {
        Ok(resolved) => resolved,
        Err(problems) => {
            let count = problems.len();
            let mistakes = if count == 1 { "mistake" } else { "mistakes" };
            bail!("{problems}\n{count} {mistakes}");
        }
    };
    match &args.explain {
        Some(session) => explain(&resolved, session)?,
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

fn explain(resolved: &Resolved, session: &Explained) -> anyhow::Result<()> {
    let Explained { tenant, agent, channel } = session;
    let lines = resolved.explain(tenant, agent, channel).with_context(|| {
        let agents: Vec<&str> = resolved.agents.keys().map(String::as_str).collect();
        let channels = turnkeep_core::policy::CHANNELS.map(|facts| facts.name);
        format!(
            "no such sessions: agents are {}; channels are {}",
            agents.join(", "),
            channels.join(", ")
        )
    })?;
    let rows: Vec<[String; 3]> =
        lines.into_iter().map(|line| [line.key.to_owned(), line.value, line.layer]).collect();
    output::table(["key", "value", "decided by"], &rows)
}
