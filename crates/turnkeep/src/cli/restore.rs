//! `turnkeep restore`: a backup in the place of a data folder's database.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use turnkeep_stores::{RestoreError, RestoreOrder};

use super::args::{AuditArgs, ConfigArgs};
use super::{backup, output};
use crate::config::Stored;

/// `restore`.
#[derive(Args)]
#[command(after_help = "\
The server must not run. What the folder held before is kept beside the restored database, under the
time of the restore. Then everything is audited, and the exit code is 1 if that finds anything.

A restore goes back in time: what came after the backup is gone, and what was ended since then is
back, like keys that were revoked and customers who were erased. End that again before you start.

Examples:
  turnkeep restore /backup/today.db
  turnkeep restore --force --data-dir /srv/turnkeep /backup/today.db")]
pub(super) struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Also where the folder holds data already, which are kept beside the restored ones
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Does what was asked.
pub(super) async fn run(args: RestoreArgs) -> anyhow::Result<ExitCode> {
    let data_dir = backup::folder(&args.config.flags(), "restored")?;
    let keep_as =
        args.force.then(|| jiff::Timestamp::now().strftime("%Y-%m-%dT%H%M%SZ").to_string());
    let bar = backup::bar()?;
    let (dir, file) = (data_dir.clone(), args.file.clone());
    let done = backup::unless_stopped(&bar, move |progress| {
        turnkeep_stores::restore(RestoreOrder { file: &file, dir: &dir, keep_as, progress })
    });
    let done = done.await?;
    bar.finish_and_clear();
    let restored = match done {
        Ok(restored) => restored,
        Err(RestoreError::Stopped) => {
            output::complain("stopped; nothing has changed");
            return Ok(ExitCode::FAILURE);
        }
        Err(error) => return Err(error.into()),
    };
    let file = args.file.display();
    output::line(&format!("{} holds the backup {file} now", data_dir.display()))?;
    if let Some(kept) = restored.kept {
        output::line(&format!("what it held before is in {}", kept.display()))?;
    }
    let place = Stored { data_dir, ..Stored::default() };
    crate::audit::run(AuditArgs { place, file: None, json: false })
}
