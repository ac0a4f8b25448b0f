//! A brain that is a program: one process a turn, JSON lines over its standard input and output.
//!
//! | module | its job |
//! | --- | --- |
//! | `process` | the process and its group: started, watched, and always ended |
//! | `absent` | what is not there where a program can't be started |
//! | `lines` | bytes become lines, within limits |
//! | `last_words` | what a program that died said on its standard error |
//! | `worktree` | a git worktree for each session, where that is wanted |
//!
//! The protocol is [`brain`](crate::brain)'s. A slot is held while the process works, and left to
//! others while it waits for its user. **However an attempt ends, so does the process group**: at a
//! cancel, at an error, after the reply, and when the gateway's runtime goes away. Only where the
//! gateway itself is killed nobody is left to end it; then its standard input ends, which it must
//! take as its own end.

pub(crate) mod absent;
pub(crate) mod last_words;
mod lines;
pub(crate) mod process;
mod worktree;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::agent::{Agent, Open, TurnContext};
use turnkeep_core::ports::worktrees::Worktrees;
use turnkeep_core::session::input::{Finished, RunFailure};

use crate::brain::{Ended, Seat, UNREAD, UNREAD_MAX, breach, pump};
use lines::Lines;
use process::Process;
use worktree::{SessionWorktrees, Stay};

pub use absent::why_not_started;
pub use last_words::LastWords;
pub use worktree::{WorktreeSettings, worktree_id};

/// Processes that may wait for their users, for each that may work.
const WAITING_FACTOR: usize = 16;
/// Our ends of its standard streams.
const STREAMS: Open = Open::Here(3);
/// How long the rest of a dead program's output is waited for, and a program that closed its output
/// for its end.
const REST_MAX: Duration = Duration::from_secs(2);

/// What program, and where.
#[derive(Clone, PartialEq, Eq)]
pub struct CommandSettings {
    /// The program and its arguments; no shell is asked.
    pub command: Vec<String>,
    /// Where it is started; the gateway's own folder if none is named.
    pub dir: Option<PathBuf>,
    /// Its environment, beside PATH, HOME and LANG.
    pub env: BTreeMap<String, String>,
    /// How many processes may work at once.
    pub processes_max: usize,
}

impl fmt::Debug for CommandSettings {
    /// Values of the environment may be secrets.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, dir, env, processes_max } = self;
        let names: Vec<&String> = env.keys().collect();
        formatter
            .debug_struct("CommandSettings")
            .field("command", command)
            .field("dir", dir)
            .field("env", &names)
            .field("processes_max", processes_max)
            .finish()
    }
}

/// Answers with what a program says.
#[derive(Debug)]
pub struct CommandAgent {
    /// What it is called in errors; nothing if it is empty.
    name: String,
    settings: CommandSettings,
    waiting: Semaphore,
    worktrees: Option<SessionWorktrees>,
}

impl CommandAgent {
    /// No process is started before there is a turn.
    #[must_use]
    pub fn new(settings: CommandSettings) -> Self {
        let waiting = Semaphore::new(settings.processes_max.saturating_mul(WAITING_FACTOR));
        Self { name: String::new(), settings, waiting, worktrees: None }
    }

    /// What it is called in errors about its program.
    #[must_use]
    pub fn with_name(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// Each session's process is started in a worktree of its own instead.
    #[must_use]
    pub fn with_worktrees(self, settings: WorktreeSettings) -> Self {
        Self { worktrees: Some(SessionWorktrees::new(settings)), ..self }
    }

    async fn answer(&self, context: &TurnContext) -> Result<Finished, RunFailure> {
        let seat = Seat::take(&*context.handle, &self.waiting).await;
        let (mut settings, mut seated) = (Cow::Borrowed(&self.settings), None);
        if let Some(worktrees) = &self.worktrees {
            let own = seated.insert(worktrees.of(&context.session).await?);
            settings.to_mut().dir = Some(own.path.clone());
        }
        let handle = &context.handle;
        let (process, streams) =
            Process::start(&settings, "the brain", |group| handle.opened(group))
                .map_err(|failure| self.named(failure))?;
        let _ours = handle.opened(STREAMS);
        let _stay = seated.map(|seated| Stay::until(process.end(), seated));
        let (told, unread) = mpsc::channel(UNREAD_MAX);
        let mut events = Lines::new(streams.stdout);
        let mut words = LastWords::default();
        let (said, how) = {
            let mut writes = pin!(lines::write(streams.stdin, unread));
            let mut listens = pin!(words.listen(streams.stderr));
            let mut works = pin!(pump(context, &seat, &mut events, told));
            let mut gone = pin!(async {
                process.ended().await;
                sleep(REST_MAX).await;
            });
            let (mut writing, mut listening) = (true, true);
            let said = loop {
                tokio::select! {
                    biased;
                    said = &mut works => break said,
                    () = &mut writes, if writing => writing = false,
                    () = &mut listens, if listening => listening = false,
                    // Somebody else still holds its output.
                    () = &mut gone => break Err(Ended::Silent),
                }
            };
            let mut how = None;
            if matches!(said, Err(Ended::Silent)) {
                // Its last words may come after its end.
                let rest = async {
                    if listening {
                        listens.await;
                    }
                };
                let (ended, _) =
                    tokio::join!(timeout(REST_MAX, process.ended()), timeout(REST_MAX, rest));
                how = ended.ok();
            }
            (said, how)
        };
        said.map_err(|ended| match ended {
            Ended::Failed(failure) | Ended::SaidFailed(failure) => failure,
            // Nothing is between us and it.
            Ended::Unread => breach(UNREAD),
            Ended::Silent => self.named(silent(how, &words)),
        })
    }

    /// With who it is about: what is wrong with a program is mended where it is configured.
    fn named(&self, failure: RunFailure) -> RunFailure {
        if self.name.is_empty() {
            return failure;
        }
        RunFailure { error: format!("agent {:?}: {}", self.name, failure.error).into(), ..failure }
    }
}

/// The program's output ended before it was done.
fn silent(how: Option<String>, words: &LastWords) -> RunFailure {
    let how = how.unwrap_or_else(|| "closed its output".to_owned());
    let mut error = format!("the brain {how} before it had finished");
    if let Some(words) = words.told() {
        error += "; its last words: ";
        error += &words;
    }
    RunFailure { error: error.into(), retry: true, retry_after_ms: None }
}

impl Agent for CommandAgent {
    fn kind(&self) -> &'static str {
        "command"
    }

    fn run(&self, turn: TurnContext) -> BoxFuture<'_, Result<Finished, RunFailure>> {
        Box::pin(async move { self.answer(&turn).await })
    }

    fn slots(&self) -> Option<usize> {
        Some(self.settings.processes_max)
    }

    fn worktrees(&self) -> Option<&dyn Worktrees> {
        self.worktrees.as_ref().map(|worktrees| worktrees as _)
    }
}
