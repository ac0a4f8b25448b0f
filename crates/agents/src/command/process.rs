//! A process and its group: started, watched, and always ended.
//!
//! A task of its own waits for the process, whatever becomes of the turn. It sees the end without
//! taking it (`WNOWAIT`): until the process is taken, its number belongs to nobody else, so that the
//! signals for its group can't reach strangers.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::time::{sleep, timeout};
use turnkeep_core::ports::agent::{Open, OpenGuard};
use turnkeep_core::session::input::RunFailure;

use super::CommandSettings;
use super::absent::why_not_started;

/// What every process gets of the gateway's own environment.
const INHERITED: [&str; 3] = ["PATH", "HOME", "LANG"];
/// From asking a process to end to ending it.
const GRACE: Duration = Duration::from_secs(2);
/// How often it is looked for a process whose end nobody told of.
const LOOK: Duration = Duration::from_secs(1);

/// A process; it and its group end when this is dropped.
pub(crate) struct Process {
    /// The watch stops it when this is gone.
    _stop: oneshot::Sender<Infallible>,
    ended: watch::Receiver<Option<String>>,
}

/// Its standard streams.
pub(crate) struct Streams {
    pub(crate) stdin: ChildStdin,
    pub(crate) stdout: ChildStdout,
    pub(crate) stderr: ChildStderr,
}

impl Process {
    /// Starts it in a group of its own; `what` it is for people, like "the brain". `opened` is told
    /// the group; what it answers is kept until nobody of the group lives.
    pub(crate) fn start(
        settings: &CommandSettings,
        what: &str,
        opened: impl FnOnce(Open) -> Box<dyn OpenGuard>,
    ) -> Result<(Self, Streams), RunFailure> {
        let (name, arguments) = settings
            .command
            .split_first()
            .ok_or_else(|| failure(format!("the command of {what} is empty"), false))?;
        let mut command = Command::new(name);
        command.args(arguments).process_group(0).env_clear();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let inherited = INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        command.envs(inherited).envs(&settings.env);
        if let Some(dir) = &settings.dir {
            command.current_dir(dir);
        }
        let mut child = command.spawn().map_err(|error| {
            let lasting = matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::PermissionDenied
            );
            let why = why_not_started(name, settings.dir.as_deref(), &settings.env, &error);
            failure(format!("{what} {name:?} can't be started: {why}"), !lasting)
        })?;
        let streams = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let open = child.id().map(|leader| opened(Open::Group(leader)));
        let watched = Watched { child, group, open };
        let (Some(stdin), Some(stdout), Some(stderr)) = streams else {
            return Err(failure(format!("{what} has no standard streams"), true));
        };
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = watch::channel(None);
        tokio::spawn(watched.watch(stopped, end));
        Ok((Self { _stop: stop, ended }, Streams { stdin, stdout, stderr }))
    }

    /// Says when it has ended, also to whoever has let go of it.
    pub(crate) fn end(&self) -> watch::Receiver<Option<String>> {
        self.ended.clone()
    }

    /// Waits for its end; how it ended, in words.
    pub(crate) async fn ended(&self) -> String {
        let mut ended = self.ended.clone();
        let how = ended.wait_for(Option::is_some).await;
        how.ok().and_then(|how| how.clone()).unwrap_or_else(|| "ended".to_owned())
    }
}

fn failure(error: String, retry: bool) -> RunFailure {
    RunFailure { error: error.into(), retry, retry_after_ms: None }
}

/// Holds the process until it is taken; dropped before, it ends the group at once.
struct Watched {
    child: Child,
    /// None once the process is taken: the number may be somebody else's then.
    group: Option<Pid>,
    /// What the group has open counts as open.
    open: Option<Box<dyn OpenGuard>>,
}

impl Watched {
    async fn watch(
        mut self,
        stopped: oneshot::Receiver<Infallible>,
        end: watch::Sender<Option<String>>,
    ) {
        tokio::select! {
            () = self.end() => {}
            _ = stopped => {
                self.signal(Signal::TERM);
                let _ = timeout(GRACE, self.end()).await;
            }
        }
        // Whoever it started ends with it.
        self.signal(Signal::KILL);
        self.group = None;
        self.open = None;
        let status = self.child.wait().await;
        end.send_replace(Some(status.map_or_else(|_| "ended".to_owned(), described)));
    }

    /// Resolves once the process has ended; it is not taken.
    async fn end(&self) {
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

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // A group that is gone needs no signal.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

fn described(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}
