//! A brain's process, by hand: input that no gateway would write, and an end of input in the middle.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tokio::io::{
    AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines, Take,
};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout, timeout_at};

use super::line::{
    ENDING_MAX, Heard, Line, OUTPUT_BYTES_MAX, hear, object, plain, silent, strange,
};
use super::report::{Found, shown};
use super::rules;
use super::{Book, Program, Wants};
use crate::wiring::{LastWords, why_not_started};

/// What a process gets of our own environment, as it does from the gateway.
const INHERITED: [&str; 3] = ["PATH", "HOME", "LANG"];
/// What is read of its standard error at once.
const CHUNK: usize = 4096;
/// From the first line to the end of its input, unless it says something before.
const MIDDLE: Duration = Duration::from_secs(1);

pub(super) async fn check(program: &Program, wants: &Wants, book: &mut Book<'_>) {
    book.begins(rules::UNKNOWN);
    let (heard, quiet) = unknown(program, wants).await;
    book.note(rules::UNKNOWN, heard);
    book.note(rules::SILENT, quiet);
    book.begins(rules::INPUT_ENDS);
    book.note(rules::INPUT_ENDS, input_ends(program).await.unwrap_or_else(Found::Wrong));
    book.begins(rules::BROKEN);
    book.note(rules::BROKEN, broken(program, wants).await.unwrap_or_else(Found::Wrong));
}

/// Whether there is anybody to be checked.
pub(super) fn reach(program: &Program) -> Result<(), String> {
    Process::start(program).map(drop)
}

/// A process; whoever is in its group ends with this.
struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<Take<ChildStdout>>>,
    /// The end of its standard error.
    words: Arc<Mutex<LastWords>>,
}

impl Process {
    fn start(program: &Program) -> Result<Self, String> {
        let (name, arguments) =
            program.command.split_first().ok_or_else(|| "there is no command".to_owned())?;
        let mut command = Command::new(name);
        command.args(arguments).current_dir(&program.dir).process_group(0).env_clear();
        let inherited = INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        command.envs(inherited).envs(&program.env).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| {
            let why = why_not_started(name, Some(&program.dir), &program.env, &error);
            format!("{name:?} can't be started: {why}")
        })?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or_else(|| "it has no output".to_owned())?;
        let words = Arc::default();
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(listen(stderr, Arc::clone(&words)));
        }
        let lines = BufReader::new(stdout.take(OUTPUT_BYTES_MAX)).lines();
        Ok(Self { child, stdin, lines, words })
    }

    /// What is wrong, with what it said of that itself.
    fn with_words(&self, wrong: String) -> String {
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner).told();
        match words {
            Some(words) => format!("{wrong}; its last words: {words}"),
            None => wrong,
        }
    }

    async fn write(&mut self, bytes: &str) -> Result<(), String> {
        let Some(stdin) = &mut self.stdin else { return Ok(()) };
        let wrote = timeout(ENDING_MAX, stdin.write_all(bytes.as_bytes())).await;
        match wrote {
            Ok(Ok(())) => Ok(()),
            _ => Err("it does not read what it is told".to_owned()),
        }
    }

    /// Reads to the end, so that it waits for nobody, and waits for its own; false if it lives then.
    async fn gone(&mut self, limit: Duration) -> bool {
        let at = Instant::now() + limit;
        let rest = async { while let Ok(Some(_)) = self.lines.next_line().await {} };
        // What it left behind may hold its output open.
        let _ = timeout_at(at, rest).await;
        let wait =
            timeout_at(at.max(Instant::now() + Duration::from_millis(50)), self.child.wait());
        wait.await.is_ok()
    }
}

/// Ends with the last of those who have its standard error.
async fn listen(mut stderr: ChildStderr, words: Arc<Mutex<LastWords>>) {
    let mut chunk = Vec::with_capacity(CHUNK);
    while stderr.read_buf(&mut chunk).await.is_ok_and(|count| count > 0) {
        words.lock().unwrap_or_else(PoisonError::into_inner).hear(&chunk);
        chunk.clear();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // None once it was waited for: the number may be somebody else's then.
        let group = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        if let Some(group) = group {
            // A group that is gone needs no signal.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Line for Process {
    async fn tell(&mut self, object: Value) -> Result<(), String> {
        self.write(&format!("{object}\n")).await
    }

    async fn next(&mut self) -> Result<Option<Value>, String> {
        loop {
            let line = self.lines.next_line().await;
            let Some(line) = line.map_err(|error| format!("it can't be read: {error}"))? else {
                return Ok(None);
            };
            if !line.trim().is_empty() {
                return object(line.as_bytes()).map(Some);
            }
        }
    }
}

async fn unknown(program: &Program, wants: &Wants) -> (Found, Found) {
    let unseen = || Found::Open("it did not come to its last word".to_owned());
    let mut process = match Process::start(program) {
        Ok(process) => process,
        Err(wrong) => return (Found::Wrong(wrong), unseen()),
    };
    let strangers = [
        strange(plain()),
        json!({ "type": "x_later", "id": "nobody", "of": [1, 2] }),
        json!({ "type": "x_later_too" }),
    ];
    for object in strangers {
        // One that has finished already reads no more.
        let _ = process.tell(object).await;
    }
    let heard = hear(&mut process, wants, true).await;
    let found = match heard.found(wants) {
        Found::Wrong(wrong) => Found::Wrong(process.with_words(wrong)),
        other => other,
    };
    if !matches!(heard, Heard::LastWord(_)) {
        return (found, unseen());
    }
    process.stdin = None;
    (found, silent(&mut process).await)
}

async fn input_ends(program: &Program) -> Result<Found, String> {
    let mut process = Process::start(program)?;
    process.tell(plain()).await?;
    let first = timeout(MIDDLE, process.next()).await;
    if matches!(first, Ok(Ok(None))) {
        return Ok(Found::Open("it ended before its input did".to_owned()));
    }
    process.stdin = None;
    let closed = Instant::now();
    Ok(match process.gone(ENDING_MAX).await {
        true => Found::Right(format!("it was gone after {}", shown(closed.elapsed()))),
        false => Found::Wrong(
            "it was still there: if the gateway is killed, it works on beside the next attempt"
                .to_owned(),
        ),
    })
}

async fn broken(program: &Program, wants: &Wants) -> Result<Found, String> {
    let mut process = Process::start(program)?;
    process.write("{\"type\": \"turn\", \"mess\n").await?;
    process.stdin = None;
    let said = timeout(wants.timeout, process.next()).await;
    if let Ok(Ok(Some(said))) = said
        && said["type"] == "finished"
    {
        return Ok(Found::Wrong("it finished a turn that it can't have read".to_owned()));
    }
    Ok(match process.gone(wants.timeout).await {
        true => Found::Right("it ended".to_owned()),
        false => {
            let wrong = format!("it was still there after {}", shown(wants.timeout));
            Found::Wrong(process.with_words(wrong))
        }
    })
}
