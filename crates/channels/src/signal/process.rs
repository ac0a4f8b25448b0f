//! A signal-cli of ours: started, watched, and always ended.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::AsyncRead;
use tokio::process::{Child, ChildStdin, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};

use super::lines::{Line, Lines};
use super::unpacked::Unpacked;

/// What it gets of our own environment, beside everything that begins with `SIGNAL_`.
const INHERITED: [&str; 9] = [
    "PATH",
    "HOME",
    "LANG",
    "TMPDIR",
    "JAVA_HOME",
    "JAVA_OPTS",
    "JAVA_TOOL_OPTIONS",
    "LD_LIBRARY_PATH",
    "XDG_RUNTIME_DIR",
];
/// From asking it to end to ending it.
const GRACE: Duration = Duration::from_secs(2);
/// How often it is looked for a process whose end nobody told of.
const LOOK: Duration = Duration::from_secs(1);
/// The longest line of its log.
const LOG_LINE_BYTES_MAX: usize = 4096;

/// A command for signal-cli, with what it gets of our environment.
pub(super) fn command(
    words: &[String],
    config_dir: &Path,
    unpacked: &Unpacked,
) -> io::Result<Command> {
    let (program, arguments) = words.split_first().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "the command of signal-cli is empty")
    })?;
    let mut command = Command::new(program);
    command.args(arguments).arg("--config").arg(config_dir);
    command.env_clear().kill_on_drop(true).process_group(0);
    let ours = |name: &str| INHERITED.contains(&name) || name.starts_with("SIGNAL_");
    command.envs(std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(ours)));
    command.envs(unpacked.variable());
    Ok(command)
}

/// A process that writes into a file; its group ends when this is dropped.
pub(super) struct Process {
    child: Child,
    /// None once the process is taken: the number may be somebody else's then.
    group: Option<Pid>,
    /// Who it is, for those who come after us.
    card: PathBuf,
    last_words: Arc<Mutex<String>>,
}

impl Process {
    /// Starts it; also the stream of its calls. `log` gets each line of its log.
    pub(super) fn start(
        mut command: Command,
        writes: File,
        card: PathBuf,
        log: impl Fn(&str) + Send + 'static,
    ) -> io::Result<(Self, ChildStdin)> {
        command.stdin(Stdio::piped()).stdout(writes).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        // The command holds the handle with the lock; from here on only the process does.
        drop(command);
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(group) = group {
            let _ = std::fs::write(&card, card_of(group).unwrap_or_default());
        }
        let last_words = Arc::<Mutex<String>>::default();
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(hear_log(stderr, Arc::clone(&last_words), log));
        }
        let stdin = child.stdin.take();
        let process = Self { child, group, card, last_words };
        let stdin = stdin.ok_or_else(|| io::Error::other("it has no standard input"))?;
        Ok((process, stdin))
    }

    /// Resolves once the process has ended; it is not taken.
    pub(super) async fn ended(&self) {
        let Some(pid) = self.group else { return };
        // Before the first look, so that no end is missed.
        let mut deaths = signal(SignalKind::child()).ok();
        loop {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            match waitid(WaitId::Pid(pid), options) {
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Ok(Some(_)) | Err(_) => return,
            }
            match &mut deaths {
                Some(deaths) => tokio::select! {
                    _ = deaths.recv() => {}
                    () = sleep(LOOK) => {}
                },
                None => sleep(LOOK).await,
            }
        }
    }

    /// Lets it end by itself, as its standard input is closed, for so long; then ends it. How it
    /// ended, in words.
    pub(super) async fn end(mut self, patience: Duration) -> String {
        if timeout(patience, self.ended()).await.is_err() {
            self.signal(Signal::TERM);
            let _ = timeout(GRACE, self.ended()).await;
        }
        // Whoever it started ends with it.
        self.signal(Signal::KILL);
        self.group = None;
        let status = self.child.wait().await;
        let _ = std::fs::remove_file(&self.card);
        let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        let words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if words.is_empty() { how } else { format!("{how}: {words}") }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // A group that is gone needs no signal.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Its log goes into ours; the last line says best why it ended.
async fn hear_log(
    stderr: impl AsyncRead + Unpin,
    last_words: Arc<Mutex<String>>,
    log: impl Fn(&str),
) {
    let mut lines = Lines::new(stderr, LOG_LINE_BYTES_MAX);
    while let Ok(Some(line)) = lines.next().await {
        let Line::Whole(line) = line else { continue };
        let text = String::from_utf8_lossy(&line);
        tracing::debug!(line = %text, "signal-cli");
        log(&text);
        last_words.lock().unwrap_or_else(PoisonError::into_inner).replace_range(.., text.trim());
    }
}

/// Ends a process that an earlier run left behind, if it is still the one on the card.
pub(super) fn end_left(card: &Path) {
    let Ok(text) = std::fs::read_to_string(card) else { return };
    let number = text.split_whitespace().next().and_then(|number| number.parse().ok());
    if let Some(group) = number.and_then(Pid::from_raw)
        && card_of(group).is_some_and(|now| now == text || now.starts_with(&format!("{text} ")))
    {
        tracing::warn!(
            pid = group.as_raw_nonzero().get(),
            "ends a signal-cli that was left behind"
        );
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Number and start of a process, and of the machine that it runs on, which may not be this one:
/// together they belong to one process only. None where the system doesn't tell. (Earlier versions
/// did not name the machine.)
fn card_of(pid: Pid) -> Option<String> {
    let number = pid.as_raw_nonzero().get();
    let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    // Behind the name, which may hold anything, the start is the twentieth word.
    let started = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(format!("{number} {started} {}", boot.trim()))
}
