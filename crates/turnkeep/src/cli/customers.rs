//! `turnkeep customers`: everything that is stored of a person, and forgetting it.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use serde_json::Value;

use super::args::ApiArgs;
use super::client::{Client, Lines, segment};
use super::dispatch::FAILED;
use super::partial::Target;
use super::{output, sessions};

/// `customers`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  turnkeep customers export acme anna --out anna.jsonl
  turnkeep customers erase acme anna

docs/care.md says what an export holds, and what is left of somebody who was erased.")]
pub(super) struct CustomersArgs {
    #[command(subcommand)]
    command: CustomersCommand,
    #[command(flatten)]
    api: ApiArgs,
}

/// What can be done with customers.
#[derive(Subcommand)]
enum CustomersCommand {
    /// Print everything that is stored of one, a JSON text a line
    Export {
        /// Whose customer it is
        tenant: String,
        /// Who
        customer: String,
        /// Write it into this file, which only you may read
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Replace the file if it is there
        #[arg(long, requires = "out")]
        force: bool,
    },
    /// Forget one: conversations, what was written elsewhere, sign-ins, pairings. It can't be undone
    Erase {
        /// Whose customer it is
        tenant: String,
        /// Who
        customer: String,
        /// Don't ask
        #[arg(long)]
        yes: bool,
    },
}

/// Does what was asked.
pub(super) async fn run(args: CustomersArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.api)?;
    match args.command {
        CustomersCommand::Export { tenant, customer, out, force } => {
            let target = out.map(|out| Target::new(out, force)).transpose()?;
            let path = format!("{}/export", path(&tenant, &customer));
            let lines = client.lines(Method::GET, &path).await?;
            match target {
                Some(target) => export(lines, target).await?,
                None => print(lines).await?,
            }
            Ok(ExitCode::SUCCESS)
        }
        CustomersCommand::Erase { tenant, customer, yes } => {
            if !yes && !confirmed(&tenant, &customer)? {
                output::complain("nothing was erased");
                return Ok(ExitCode::from(FAILED));
            }
            let lines = client.lines(Method::DELETE, &path(&tenant, &customer)).await?;
            erase(lines, args.api.json).await
        }
    }
}

fn path(tenant: &str, customer: &str) -> String {
    format!("/v1/customers/{}/{}", segment(tenant), segment(customer))
}

fn bar(template: &str) -> anyhow::Result<ProgressBar> {
    let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template(template)?);
    bar.enable_steady_tick(Duration::from_millis(100));
    Ok(bar)
}

/// Whether this is the last line of an export, and tells of all that came before it.
fn is_whole(last: &str, lines: u64) -> bool {
    let last: Value = serde_json::from_str(last).unwrap_or_default();
    last["line"] == "end" && last["lines"].as_u64() == Some(lines)
}

const CUT_OFF: &str = "the export was cut off; try again, and see the server's log";

async fn print(mut lines: Lines<'_>) -> anyhow::Result<()> {
    let (mut count, mut whole) = (0, false);
    while let Some(line) = lines.next().await? {
        output::line(&line)?;
        whole = is_whole(&line, count);
        count += 1;
    }
    ensure!(whole, CUT_OFF);
    Ok(())
}

async fn export(mut lines: Lines<'_>, target: Target) -> anyhow::Result<()> {
    let bar = bar("{spinner} {human_pos} lines written")?;
    let mut partial = target.begin()?;
    let (mut count, mut whole) = (0, false);
    while let Some(line) = lines.next().await? {
        writeln!(partial.file, "{line}").with_context(|| partial.trouble())?;
        whole = is_whole(&line, count);
        count += 1;
        bar.set_position(count);
    }
    bar.finish_and_clear();
    ensure!(whole, CUT_OFF);
    partial.publish()?;
    output::complain(&format!("{count} lines are in {}", target.file.display()));
    Ok(())
}

/// Asks a person, by the name of who is to be erased.
fn confirmed(tenant: &str, customer: &str) -> anyhow::Result<bool> {
    let input = io::stdin();
    if !input.is_terminal() {
        bail!("there is nobody to ask here: say --yes to erase {customer:?} of tenant {tenant:?}");
    }
    output::complain(&format!(
        "everything of the customer {customer:?} of tenant {tenant:?} goes, for good.\n\
         type the customer's name to go on:"
    ));
    let mut typed = String::new();
    input.lock().read_line(&mut typed)?;
    Ok(typed.trim_end_matches(['\n', '\r']) == customer)
}

async fn erase(mut lines: Lines<'_>, json: bool) -> anyhow::Result<ExitCode> {
    let bar = bar("{spinner} {msg} {human_pos}")?;
    let mut erased = None;
    while let Some(line) = lines.next().await? {
        let mut value: Value = serde_json::from_str(&line).unwrap_or_default();
        match value["type"].as_str() {
            Some("progress") => show(&bar, &value),
            Some("problem") => return Err(lines.refused(&value["problem"]).into()),
            Some("erased") => {
                value.as_object_mut().map(|fields| fields.remove("type"));
                erased = Some(value);
            }
            _ => {}
        }
    }
    bar.finish_and_clear();
    let Some(erased) = erased else {
        bail!("the server ended before it was done: ask again, it goes on where it was");
    };
    if json {
        output::line(&erased.to_string())?
    } else {
        sessions::fields(&erased)?
    }
    let found = ["sessions", "blanked", "restrictions", "sign_ins", "pairings"];
    if found.iter().all(|field| erased[*field].as_u64() == Some(0)) {
        output::complain("nothing of this customer was found: is the name right?");
    }
    if erased["on_their_way"].as_u64() > Some(0) {
        output::complain("replies that are on their way keep their text: erase again afterwards");
    }
    if erased["scrubbed"] == true {
        return Ok(ExitCode::SUCCESS);
    }
    output::complain("something kept the files from being cleaned: erase again");
    Ok(ExitCode::from(FAILED))
}

fn show(bar: &ProgressBar, progress: &Value) {
    bar.set_position(progress["done"].as_u64().unwrap_or(0));
    let step = progress["step"].as_str().unwrap_or_default();
    let message = match progress["of"].as_u64() {
        Some(of) if of > 0 => format!("{step} (of {of})"),
        _ => step.to_owned(),
    };
    bar.set_message(output::harmless(&message));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_is_whole_with_its_last_line() {
        let end = r#"{"line":"end","lines":3,"counts":{}}"#;
        assert!(is_whole(end, 3));
        assert!(!is_whole(end, 2) && !is_whole(&end[..10], 3) && !is_whole("{}", 3));
    }
}
