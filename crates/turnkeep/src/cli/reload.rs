//! `turnkeep reload`: the server reads its configuration anew.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::args::ApiArgs;
use super::client::Client;
use super::output;
use super::sessions::show_or_json;

/// `reload`.
#[derive(Args)]
#[command(after_help = "\
A wrong file changes nothing, and every mistake is told. SIGHUP does the same.

Examples:
  turnkeep reload
  turnkeep check && turnkeep reload")]
pub(super) struct ReloadArgs {
    #[command(flatten)]
    api: ApiArgs,
}

/// Does what was asked.
pub(super) async fn run(args: ReloadArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.api)?;
    let answer = client.post("/v1/reload", &json!({}), Duration::ZERO).await?;
    show_or_json(&answer, args.api.json, show)?;
    Ok(ExitCode::SUCCESS)
}

fn show(value: &Value) -> anyhow::Result<()> {
    let lines = |field: &str| {
        let texts = value[field].as_array().into_iter().flatten().filter_map(Value::as_str);
        texts.map(output::harmless).collect::<Vec<_>>()
    };
    let changed = lines("changed");
    match changed.is_empty() {
        true => output::line("nothing changed")?,
        false => output::line(&format!("changed: {}", changed.join(", ")))?,
    }
    let fixed = lines("needs_restart");
    if !fixed.is_empty() {
        output::complain(&format!("needs a restart: {}", fixed.join(", ")));
    }
    for note in lines("notes") {
        output::complain(&format!("note: {note}"));
    }
    Ok(())
}
