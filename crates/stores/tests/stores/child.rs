//! Tests that need another process: the test's own binary, run again for one test.

use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

const MARK: &str = "TURNKEEP_TEST_CHILD";
/// What the parent reads begins with this; everything else is the test harness's.
const SAYS: &str = "child says: ";
/// The user with the fewest rights.
const NOBODY: u32 = 65_534;

/// In the child: what its parent told it. Elsewhere: nothing, so the test's child half returns.
pub(crate) fn told() -> Option<String> {
    std::env::var(MARK).ok()
}

/// In the child: tells the parent.
pub(crate) fn say(text: &str) {
    println!("\n{SAYS}{text}");
    std::io::stdout().flush().unwrap();
}

/// In the child: waits for the parent.
pub(crate) fn wait() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}

/// Whether this process may do everything.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// The command that runs the named test in another process.
pub(crate) fn command(test: &str, told: &str) -> Command {
    with_arguments(Command::new(std::env::current_exe().unwrap()), test, told)
}

/// The same, after a line of shell; the limits it sets hold for the child.
pub(crate) fn command_after(shell: &str, test: &str, told: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{shell}; exec \"$0\" \"$@\"")]);
    command.arg(std::env::current_exe().unwrap());
    with_arguments(command, test, told)
}

/// The same as a user without rights; `at` is a folder that this user may read.
pub(crate) fn command_as_nobody(at: &Path, test: &str, told: &str) -> Command {
    // The build's own folder may be closed to that user.
    let copy: PathBuf = at.join("test-binary");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = with_arguments(Command::new(copy), test, told);
    command.uid(NOBODY).gid(NOBODY).current_dir("/");
    command
}

fn with_arguments(mut command: Command, test: &str, told: &str) -> Command {
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(MARK, told);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// A running child and what it says.
pub(crate) struct Running {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, stdin, lines }
    }

    /// The next thing it says; none at its end.
    pub(crate) fn hear(&mut self) -> Option<String> {
        let mut said = self.lines.by_ref().map_while(Result::ok);
        said.find_map(|line| line.strip_prefix(SAYS).map(str::to_owned))
    }

    /// Ends its [`wait`].
    pub(crate) fn go_on(&mut self) {
        writeln!(self.stdin).unwrap();
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn end(mut self) -> ExitStatus {
        drop(self.stdin);
        self.child.wait().unwrap()
    }
}

/// Counts down to the end of the process.
static UNTIL_KILL: AtomicU32 = AtomicU32::new(0);

fn kill_at(place: &'static str, wanted: &str) {
    if place == wanted && UNTIL_KILL.fetch_sub(1, Ordering::Relaxed) == 1 {
        std::process::abort();
    }
}

/// This process ends when it passes the place that it was told for so many times.
pub(crate) fn kill_the(time: u32) {
    UNTIL_KILL.store(time, Ordering::Relaxed);
}

pub(crate) fn kill_before_commit(place: &'static str) {
    kill_at(place, "store.commit.before");
}

pub(crate) fn kill_after_commit(place: &'static str) {
    kill_at(place, "store.commit.after");
}

pub(crate) fn kill_at_answer(place: &'static str) {
    kill_at(place, "store.answer");
}
