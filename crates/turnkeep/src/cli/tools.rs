//! `turnkeep tools`: reaches for the servers of tools and shows what they have, and what holds for it.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use super::args::ConfigArgs;
use super::dispatch::FAILED;
use super::output::{self, cell, short_cell};
use crate::config::{self, Env};
use crate::wiring;

/// `tools`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  turnkeep tools
  turnkeep tools shop --config my.toml
  turnkeep tools --json

The servers are started or asked as a gateway with this configuration would do it, and left again. No
tool is called. The exit code is 1 if a server is away, or if something is noted of one, like a name in
\"approval\" that no tool has.")]
pub(super) struct ToolsArgs {
    /// Only this server
    server: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
    /// Print everything that is known of them, as JSON
    #[arg(long)]
    json: bool,
}

/// Does what was asked.
pub(super) async fn run(args: ToolsArgs) -> anyhow::Result<ExitCode> {
    let resolved = config::load(&args.config.flags(), &Env::of_process())?;
    if resolved.tools.is_empty() {
        output::complain("no tools are configured; see docs/tools.md");
    }
    if let Some(name) = args.server.as_ref().filter(|name| !resolved.tools.contains_key(*name)) {
        bail!("there is no [tools.{name}]");
    }
    let wanted = |name: &&String| args.server.as_ref().is_none_or(|server| server == *name);
    let mut looks = tokio::task::JoinSet::new();
    for name in resolved.tools.keys().filter(wanted) {
        let (name, settings) = (name.clone(), resolved.tools[name].clone());
        let agents = resolved.agents.clone();
        looks.spawn(async move { wiring::tools::look(&name, &settings, &agents).await });
    }
    let mut servers = looks.join_all().await;
    servers.sort_by_key(|server| cell(server, "server"));
    if args.json {
        let all = json!({"servers": servers});
        output::line(&serde_json::to_string_pretty(&all)?)?;
    } else {
        show(&servers)?;
    }
    let noted = |server: &Value| server["notes"].as_array().is_some_and(|notes| !notes.is_empty());
    let wrong = servers.iter().any(|server| server["state"] == "away" || noted(server));
    Ok(if wrong { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

fn show(servers: &[Value]) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for server in servers {
        let name = cell(server, "server");
        output::complain(&format!(
            "{name} is {}: {}",
            cell(server, "state"),
            cell(server, "about")
        ));
        for note in server["notes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            output::complain(&format!("note: {note}"));
        }
        for tool in server["tools"].as_array().into_iter().flatten() {
            let approval = if tool["approval"] == true { "by the user" } else { "" };
            rows.push([
                format!("{name}.{}", cell(tool, "name")),
                cell(tool, "effects"),
                cell(tool, "key"),
                approval.to_owned(),
                short_cell(tool, "description"),
            ]);
        }
    }
    output::table(["tool", "effects", "key", "approval", "description"], &rows)
}
