//! Runs git: bounded in time and output, in a group of its own, asking nobody for anything.
//!
//! Nothing here is started inside a worktree, and none finds its repository by looking there: who
//! works in a worktree may write what it likes into it, and git would do what that says.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::time::timeout;

/// What git gets of the gateway's own environment.
const INHERITED: [&str; 2] = ["PATH", "HOME"];
/// What is kept of its output, in bytes; more is read and thrown away.
const OUTPUT_BYTES_MAX: u64 = 256 * 1024;
/// The same of what it complains of.
const COMPLAINT_BYTES_MAX: u64 = 4 * 1024;

/// Settings under which git looks at a worktree without running anything that stands in a
/// configuration.
pub(super) const HARMLESS: [&str; 4] =
    ["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"];

/// Why git did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum GitError {
    #[error("there is no program \"git\" in the PATH; install it")]
    Absent,
    #[error("git can't be started: {0}")]
    NotStarted(String),
    #[error("git did not end within {0} s and was stopped")]
    TooSlow(u64),
    #[error("the disk is full: {0}")]
    Full(String),
    #[error("another git holds a lock there: {0}")]
    Locked(String),
    #[error("git says: {0}")]
    Refused(String),
}

impl GitError {
    /// Whether it may be otherwise a moment later.
    pub(super) const fn passes(&self) -> bool {
        matches!(self, Self::NotStarted(_) | Self::TooSlow(_) | Self::Full(_) | Self::Locked(_))
    }

    fn of(complaint: &str) -> Self {
        let lines: Vec<&str> =
            complaint.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        // What matters stands last, behind progress and hints.
        let told = lines.iter().find(|line| line.starts_with("fatal:")).or(lines.last());
        let told = told.map_or("nothing", |line| line.trim_start_matches("fatal: ")).to_owned();
        let has = |text: &str| complaint.contains(text);
        if has("No space left on device") || has("Disk quota exceeded") {
            Self::Full(told)
        } else if has(".lock': File exists") || has("Unable to create") && has(".lock") {
            Self::Locked(told)
        } else {
            Self::Refused(told)
        }
    }
}

/// Runs git with these arguments; what it says on its standard output, without the last line end.
pub(super) async fn git<A: AsRef<OsStr>>(
    dir: &Path,
    arguments: &[A],
    within: Duration,
) -> Result<String, GitError> {
    let mut command = Command::new("git");
    command.args(arguments).current_dir(dir).process_group(0).kill_on_drop(true).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let inherited = INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    command.envs(inherited).envs([("LC_ALL", "C"), ("GIT_TERMINAL_PROMPT", "0")]);
    let mut child = command.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound if dir.is_dir() => GitError::Absent,
        ErrorKind::NotFound => GitError::Refused(format!("there is no folder {}", dir.display())),
        _ => GitError::NotStarted(error.to_string()),
    })?;
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let work = async {
        let (said, complained, status) = tokio::join!(
            text_of(stdout, OUTPUT_BYTES_MAX),
            text_of(stderr, COMPLAINT_BYTES_MAX),
            child.wait(),
        );
        status.map(|status| (said, complained, status))
    };
    let ended = timeout(within, work).await;
    match ended {
        Ok(Ok((said, _, status))) if status.success() => {
            Ok(said.strip_suffix('\n').map(str::to_owned).unwrap_or(said))
        }
        Ok(Ok((_, complained, _))) => Err(GitError::of(&complained)),
        Ok(Err(error)) => Err(GitError::NotStarted(error.to_string())),
        Err(_) => {
            // It is not taken yet, so the number is still its own.
            if let Some(group) = group {
                let _ = kill_process_group(group, Signal::KILL);
            }
            Err(GitError::TooSlow(within.as_secs()))
        }
    }
}

async fn text_of(stream: Option<impl AsyncRead + Unpin>, bytes_max: u64) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let mut bytes = Vec::new();
    // What can't be read any more is the end of it.
    let _ = (&mut stream).take(bytes_max).read_to_end(&mut bytes).await;
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_complains_of_is_told_by_what_can_be_done() {
        let check = |complaint: &str, expect: GitError| {
            assert_eq!(GitError::of(complaint), expect, "{complaint}");
        };
        check(
            "Preparing worktree\nfatal: invalid reference: nope\n",
            GitError::Refused("invalid reference: nope".to_owned()),
        );
        check(
            "error: unable to write file x: No space left on device\nfatal: unable to checkout\n",
            GitError::Full("unable to checkout".to_owned()),
        );
        check(
            "fatal: Unable to create '/r/.git/index.lock': File exists.\n\nAnother git process\n",
            GitError::Locked("Unable to create '/r/.git/index.lock': File exists.".to_owned()),
        );
        check("", GitError::Refused("nothing".to_owned()));
        assert!(GitError::TooSlow(1).passes() && !GitError::Absent.passes());
    }

    #[tokio::test]
    async fn it_is_stopped_when_it_takes_too_long() {
        let within = Duration::from_millis(50);
        let arguments = ["-c", "alias.wait=!sleep 1000", "wait"];
        let ended = git(Path::new("/"), &arguments, within).await;
        assert_eq!(ended, Err(GitError::TooSlow(0)));
    }
}
