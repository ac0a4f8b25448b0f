//! `turnkeep backup`: everything that is stored as one file, audited at once.
//!
//! The server writes it where one runs; it knows best where its data lie. Else this process does.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use turnkeep_core::ports::care::{BackupError, BackupOrder};
use turnkeep_stores::SqliteReader;

use super::args::{ApiArgs, AuditArgs, ConfigArgs};
use super::client::{self, Client, ClientError};
use super::output;
use super::place::{self, Place};
use crate::config::store::StoreSettings;
use crate::config::{self, Env, Flags, Stored};

/// Tells how far something is and asks whether it shall go on.
pub(super) type Progress = Box<dyn FnMut(u64, u64) -> bool + Send>;

/// `backup`.
#[derive(Args)]
#[command(after_help = "\
The server goes on meanwhile. The file appears whole or not at all; then it is audited, and the exit
code is 1 if that finds anything. Whoever has it can read everything that was said, and the hashes of
keys: keep it as you keep the data folder.

Examples:
  turnkeep backup /backup/today.db
  turnkeep backup --force latest.db
  turnkeep audit --backup latest.db    look at it again
  turnkeep restore latest.db           put it back")]
pub(super) struct BackupArgs {
    /// Where it goes
    #[arg(value_name = "FILE", value_parser = file)]
    file: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// The name of a file, from the root on: the server may stand in another folder.
fn file(text: &str) -> Result<PathBuf, String> {
    if text == "-" {
        return Err(
            "a backup is written page by page, in no order, so it must be a file and can't \
                    be standard output"
                .to_owned(),
        );
    }
    std::path::absolute(text).map_err(|error| error.to_string())
}

/// Does what was asked.
pub(super) async fn run(args: BackupArgs) -> anyhow::Result<ExitCode> {
    let bar = bar()?;
    let made = match by_server(&args, &bar).await {
        Some(made) => made,
        None => by_hand(&args, &bar).await,
    };
    bar.finish_and_clear();
    let Some(bytes) = made? else {
        output::complain("stopped; there is no backup, and nothing of it is left");
        return Ok(ExitCode::FAILURE);
    };
    let file = args.file.display();
    let bytes = HumanBytes(bytes);
    output::line(&format!("{file} ({bytes}) holds everything as it was when the copy began"))?;
    if !args.file.exists() {
        bail!(
            "the server wrote {file} and this command can't see it: the server lives in another \
             file system, like a container's or a private /tmp; look at the file there with \
             `turnkeep audit --backup`"
        );
    }
    audit(&args.file, false)
}

/// Looks at every page of a backup, and holds what is in it against the invariants.
pub(super) fn audit(file: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let cannot = || format!("{} can't be audited", file.display());
    let reader = SqliteReader::open_file(file)?;
    let spinner = ProgressBar::new_spinner()
        .with_style(ProgressStyle::with_template("{spinner} looking at every page")?);
    spinner.enable_steady_tick(Duration::from_millis(100));
    let findings = reader.findings().with_context(cannot)?;
    spinner.finish_and_clear();
    if !findings.is_empty() {
        bail!("{} is damaged: {}", file.display(), findings.join("; "));
    }
    let file = file.to_path_buf();
    crate::audit::run(AuditArgs { place: Stored::default(), file: Some(file), json })
}

pub(super) fn bar() -> anyhow::Result<ProgressBar> {
    let template = "{spinner} {bytes} of about {total_bytes} [{wide_bar}] {eta} left";
    let style = ProgressStyle::with_template(template)?.progress_chars("=> ");
    Ok(ProgressBar::new(0).with_style(style))
}

pub(super) fn show(bar: &ProgressBar, done: u64, of: u64) {
    bar.set_length(of.max(1));
    bar.set_position(done);
}

/// The server's backup; none if no server runs. None within if it was stopped.
async fn by_server(args: &BackupArgs, bar: &ProgressBar) -> Option<anyhow::Result<Option<u64>>> {
    let api = ApiArgs { server: None, key_file: None, config: args.config.clone(), json: false };
    let env = Env::of_process();
    let (place, named) = match place::named(&api, &env) {
        Ok(Some(place)) => (place, true),
        Ok(None) => match place::find(&api, &env) {
            Ok(place) => (place, false),
            Err(error) => return Some(Err(error)),
        },
        Err(error) => return Some(Err(error)),
    };
    if let Place::Url(url) = &place {
        let elsewhere = "a backup is made on the server's own machine, over the socket in its data \
                         folder; don't name";
        return named.then(|| Err(anyhow::anyhow!("{elsewhere} {url} in TURNKEEP_SERVER")));
    }
    let client = match Client::new(&api) {
        Ok(client) => client,
        Err(error) => return Some(Err(error)),
    };
    tokio::select! {
        made = ask(&client, args, bar) => match made {
            // The socket of a server that was killed; nothing was asked of anybody.
            Err(error) if !named && is_nobody(&error) => None,
            made => Some(made.map(Some)),
        },
        // The server notices that nobody listens any more.
        _ = tokio::signal::ctrl_c() => Some(Ok(None)),
    }
}

fn is_nobody(error: &anyhow::Error) -> bool {
    let Some(ClientError::NotThere { reason, .. }) = error.downcast_ref() else { return false };
    client::is_nobody(reason)
}

async fn ask(client: &Client, args: &BackupArgs, bar: &ProgressBar) -> anyhow::Result<u64> {
    let number = |line: &Value, name: &str| line[name].as_u64();
    let body = json!({ "file": args.file, "force": args.force });
    let asked = client.post_for_lines("/v1/backup", &body).await;
    let mut lines = asked.map_err(|error| match error {
        ClientError::Refused(refusal) if refusal.is("exists") => exists(&args.file),
        error => error.into(),
    })?;
    while let Some(line) = lines.next().await? {
        let line: Value = serde_json::from_str(&line)?;
        match line["type"].as_str() {
            Some("problem") => return Err(lines.refused(&line["problem"]).into()),
            Some("backup") => return number(&line, "bytes").context("the server says no length"),
            _ => show(bar, number(&line, "done").unwrap_or(0), number(&line, "of").unwrap_or(0)),
        }
    }
    bail!("the server ended before the backup was made")
}

fn exists(file: &Path) -> anyhow::Error {
    anyhow::anyhow!(
        "{} is there already: choose another name, or replace it with --force",
        file.display()
    )
}

/// The folder that holds everything; a database has tools of its own for that.
pub(super) fn folder(flags: &Flags, what: &str) -> anyhow::Result<PathBuf> {
    let Stored { data_dir, store } = config::stored(flags, &Env::of_process())?;
    if store != StoreSettings::Sqlite {
        bail!(
            "what is in a database is {what} with the database's own tools, like pg_dump: see \
             docs/postgres.md"
        );
    }
    Ok(data_dir)
}

/// This process makes it; none if it was stopped.
async fn by_hand(args: &BackupArgs, bar: &ProgressBar) -> anyhow::Result<Option<u64>> {
    let data_dir = folder(&args.config.flags(), "backed up")?;
    let (file, replace) = (args.file.clone(), args.force);
    let made = unless_stopped(bar, move |progress| {
        turnkeep_stores::backup(&data_dir, BackupOrder { file, replace, progress })
    });
    match made.await? {
        Ok(bytes) => Ok(Some(bytes)),
        Err(BackupError::Stopped) => Ok(None),
        Err(BackupError::Exists(file)) => Err(exists(&file)),
        Err(error) => Err(error.into()),
    }
}

/// Does something long that shows how far it is, and is told of it when the user has had enough.
pub(super) async fn unless_stopped<T: Send + 'static>(
    bar: &ProgressBar,
    work: impl FnOnce(Progress) -> T + Send + 'static,
) -> anyhow::Result<T> {
    let stopped = Arc::new(AtomicBool::new(false));
    let (bar, seen) = (bar.clone(), Arc::clone(&stopped));
    let progress: Progress = Box::new(move |done, of| {
        show(&bar, done, of);
        !seen.load(Ordering::Relaxed)
    });
    let mut done = tokio::task::spawn_blocking(move || work(progress));
    tokio::select! {
        done = &mut done => return Ok(done?),
        _ = tokio::signal::ctrl_c() => stopped.store(true, Ordering::Relaxed),
    }
    // It tidies up.
    Ok(done.await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_a_file() {
        assert!(file("-").unwrap_err().contains("can't be standard output"));
        assert_eq!(file("/backup/today.db"), Ok(PathBuf::from("/backup/today.db")));
        let here = std::env::current_dir().unwrap();
        assert_eq!(file("./file:x"), Ok(here.join("file:x")));
    }
}
