//! Starts a server of the data folder in the background, and waits until it takes messages.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{IsTerminal as _, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressDrawTarget};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::cli::args::ApiArgs;
use crate::cli::output;
use crate::cli::place::{self, Place, SOCKET_NAME};
use crate::config::{self, Env};

/// What the server says stands here, in the data folder.
const LOG: &str = "serve.log";

/// A log that is longer is moved aside before the next start; what was moved before is gone then.
const LOG_BYTES_MAX: u64 = 16 << 20;
const OLD_LOG: &str = "serve.log.old";

/// How long a start may take; a big store is looked through first.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long another start has to listen after ours ended.
const OTHER: Duration = Duration::from_secs(3);

/// How often it is looked whether it answers.
const LOOK: Duration = Duration::from_millis(50);

/// How much of its last words is told.
const WORDS_BYTES_MAX: u64 = 2048;

/// Starts one if nobody answers; says the socket of the one that was started.
pub(super) async fn if_none_runs(args: &ApiArgs, env: &Env) -> anyhow::Result<Option<PathBuf>> {
    if let Some(place) = place::named(args, env)? {
        match place {
            Place::Socket(path) if UnixStream::connect(&path).is_ok() => return Ok(None),
            place => bail!(
                "--start starts a server of this machine's data folder, and you name {place}: leave \
                 that out, or --start"
            ),
        }
    }
    let whereabouts = config::locate(&args.config.flags(), env)?;
    let socket = whereabouts.data_dir.join(SOCKET_NAME);
    if UnixStream::connect(&socket).is_ok() {
        return Ok(None);
    }
    let data_dir = &whereabouts.data_dir;
    let made = DirBuilder::new().recursive(true).mode(0o700).create(data_dir);
    made.with_context(|| format!("can't make the data folder {}", data_dir.display()))?;
    let log_path = data_dir.join(LOG);
    if std::fs::metadata(&log_path).is_ok_and(|log| log.len() > LOG_BYTES_MAX) {
        std::fs::rename(&log_path, data_dir.join(OLD_LOG))?;
    }
    let mut log = open(&log_path)?;
    let begin = log.seek(SeekFrom::End(0))?;
    let child = spawn(args, &log)?;
    let pid = child.id();
    wait(child, &socket, &log_path, begin).await?;
    output::complain(&format!(
        "started a server (process {pid}); its log is {}, and `kill {pid}` ends it",
        log_path.display()
    ));
    Ok(Some(socket))
}

fn open(path: &Path) -> anyhow::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).read(true).mode(0o600).open(path);
    file.with_context(|| format!("can't write the server's log {}", path.display()))
}

fn spawn(args: &ApiArgs, log: &File) -> anyhow::Result<Child> {
    let program = std::env::current_exe().context("can't find this program")?;
    let mut command = Command::new(program);
    command.arg("serve").arg("--detached").args(args.config.typed());
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?);
    command.spawn().context("can't start `turnkeep serve`")
}

async fn wait(mut child: Child, socket: &Path, log: &Path, begin: u64) -> anyhow::Result<()> {
    let spinner = ProgressBar::new_spinner().with_message("starting `turnkeep serve`");
    if !std::io::stderr().is_terminal() {
        spinner.set_draw_target(ProgressDrawTarget::hidden());
    }
    let since = Instant::now();
    let mut ended_at = None;
    let ended = loop {
        // Another start may have been quicker; then its server is as good.
        if takes_messages(socket).await {
            break None;
        }
        if let Some(status) = child.try_wait()? {
            // It may have ended because the other one has the folder, and doesn't listen yet.
            let at = *ended_at.get_or_insert_with(Instant::now);
            if at.elapsed() > OTHER {
                break Some(format!("it ended at once ({status})"));
            }
        }
        if since.elapsed() > PATIENCE {
            break Some(format!("it isn't ready within {} s", PATIENCE.as_secs()));
        }
        spinner.tick();
        tokio::time::sleep(LOOK).await;
    };
    spinner.finish_and_clear();
    let Some(why) = ended else { return Ok(()) };
    let words = last_words(log, begin);
    bail!("`turnkeep serve` could not be started: {why}; its log is {}\n{words}", log.display())
}

/// Whether who listens there is ready. It listens a moment earlier, while it takes up what is open.
async fn takes_messages(socket: &Path) -> bool {
    const ASKED: &[u8] = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    const YES: &[u8] = b"HTTP/1.1 200";
    let asked = async {
        let mut stream = tokio::net::UnixStream::connect(socket).await?;
        stream.write_all(ASKED).await?;
        let mut said = [0; YES.len()];
        stream.read_exact(&mut said).await?;
        std::io::Result::Ok(said == YES)
    };
    let said = tokio::time::timeout(PATIENCE, asked).await;
    said.is_ok_and(|said| said.unwrap_or(false))
}

/// What it wrote since, the end of it.
fn last_words(log: &Path, begin: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(begin.max(end.saturating_sub(WORDS_BYTES_MAX))))?;
        let mut bytes = Vec::new();
        file.take(WORDS_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    output::harmless(&String::from_utf8_lossy(&bytes)).trim().to_owned()
}
