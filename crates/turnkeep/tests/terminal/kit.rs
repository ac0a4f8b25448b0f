//! A server in a folder of its own, and terminals before it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::{interval, timeout};

use crate::store_kit::store;

/// Nothing here takes long; what does is broken.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a screen.
const LOOK: Duration = Duration::from_millis(30);

/// `default` echoes at once, `slow` never ends by itself, `careful` asks before it acts, `curious`
/// asks what it doesn't know, `hoarder` opens files.
const CONFIG: &str = "\
listen = \"127.0.0.1:0\"
log_level = \"info\"
shutdown_grace_seconds = 2
[agents.default]
kind = \"echo\"
stream = true
[agents.slow]
kind = \"echo\"
stream = true
delay_ms = 600000
[agents.careful]
kind = \"command\"
command = [\"python3\", \"careful.py\"]
[agents.curious]
kind = \"command\"
command = [\"python3\", \"curious.py\"]
[agents.hoarder]
kind = \"command\"
command = [\"python3\", \"hoarder.py\"]
";

/// A brain that does nothing irreversible before somebody said yes.
const CAREFUL: &str = "\
from brain import run

def answer(turn):
    said = turn.ask('May I delete the branch old-api?', confirm=True)
    if said.text.strip().lower() in ('y', 'yes'):
        return 'The branch old-api is deleted.'
    return 'I left it alone.'

run(answer)
";

/// A brain that doesn't know enough.
const CURIOUS: &str = "\
from brain import run

run(lambda turn: 'Looking at ' + turn.ask('Which branch?').text + '.')
";

/// A brain that opens as many files as it is told, also in another process of its group, and keeps
/// them open until somebody answers.
const HOARDER: &str = "\
import os, subprocess
from brain import run

def answer(turn):
    count, *more = turn.messages[-1].text.split()
    files = [os.open('/dev/null', os.O_RDONLY) for _ in range(int(count))]
    if more:
        subprocess.Popen(['sleep', '600'], pass_fds=files)
    turn.ask('May I close them?')
    return 'closed'

run(answer)
";

/// A folder with a configuration, and a server that may run there.
pub(crate) struct Home {
    dir: tempfile::TempDir,
    server: Mutex<Option<Child>>,
    address: Mutex<String>,
}

impl Home {
    /// One whose server does not run yet.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("turnkeep.toml"), CONFIG).unwrap();
        std::fs::write(dir.path().join("careful.py"), CAREFUL).unwrap();
        std::fs::write(dir.path().join("curious.py"), CURIOUS).unwrap();
        std::fs::write(dir.path().join("hoarder.py"), HOARDER).unwrap();
        let brain = repository("examples/brains/python/brain.py");
        std::fs::copy(brain, dir.path().join("brain.py")).unwrap();
        std::fs::create_dir(dir.path().join("run")).unwrap();
        Self { dir, server: Mutex::default(), address: Mutex::default() }
    }

    /// One whose server runs.
    pub(crate) fn started() -> Self {
        let home = Self::new();
        home.start();
        home
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the server, on any port; terminals use the socket.
    pub(crate) fn start(&self) {
        let log = self.path("log");
        let stderr = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        let mut command = self.turnkeep(&["serve"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        let address = line.trim().strip_prefix("listening on ");
        let address = address.unwrap_or_else(|| panic!("it did not start: {line}{}", said()));
        *self.address.lock().unwrap() = address.to_owned();
        *self.server.lock().unwrap() = Some(child);
    }

    /// Where it listens, like `http://127.0.0.1:7878`.
    pub(crate) fn address(&self) -> String {
        self.address.lock().unwrap().clone()
    }

    /// `kill -9`.
    pub(crate) fn kill(&self) {
        let Some(mut server) = self.server.lock().unwrap().take() else { return };
        let _ = server.kill();
        server.wait().unwrap();
    }

    /// Ends the server that somebody else started here, and waits until it is gone.
    pub(crate) async fn end_started(&self) {
        let pid = std::fs::read_to_string(self.path("data/turnkeep.lock")).unwrap();
        let pid = pid.trim().to_owned();
        assert!(Command::new("kill").arg(&pid).status().unwrap().success());
        let mut looks = interval(LOOK);
        let gone = async {
            while std::os::unix::net::UnixStream::connect(self.path("data/turnkeep.sock")).is_ok() {
                looks.tick().await;
            }
        };
        timeout(PATIENCE, gone).await.expect("it ends");
    }

    /// The program, with this home's folders and nobody else's settings.
    pub(crate) fn turnkeep(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_turnkeep"));
        command.args(args).current_dir(self.dir.path()).env_clear().envs(self.env());
        command
    }

    fn env(&self) -> Vec<(&'static str, String)> {
        let path = |name: &str| self.path(name).display().to_string();
        let mut env = vec![
            ("PATH", std::env::var("PATH").unwrap_or_default()),
            ("HOME", path("")),
            ("USER", "anna".into()),
            ("TZ", "UTC".into()),
            ("LANG", "C.UTF-8".into()),
            ("TERM", "dumb".into()),
            ("XDG_RUNTIME_DIR", path("run")),
            ("TURNKEEP_CONFIG", path("turnkeep.toml")),
            ("TURNKEEP_DATA_DIR", path("data")),
        ];
        env.extend(store(&self.path("data")));
        env
    }

    /// What comes of these lines with `attach --plain`.
    pub(crate) fn plain(&self, args: &[&str], lines: impl AsRef<[u8]>) -> Output {
        let mut command = self.turnkeep(&["attach", "--plain"]);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It may have left without reading.
        let _ = child.stdin.take().unwrap().write_all(lines.as_ref());
        child.wait_with_output().unwrap()
    }

    /// What a command prints, which must work.
    pub(crate) fn prints(&self, args: &[&str]) -> String {
        let output = self.turnkeep(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A terminal of this size in which `turnkeep attach` was typed.
    pub(crate) fn attach(&self, size: (u16, u16), args: &[&str]) -> Terminal<'_> {
        Terminal::open(self, size, "\"$0\" \"$@\"", &[&["attach"], args].concat())
    }

    /// A terminal of this size in which the shell does this; `$0` is the program.
    pub(crate) fn does(&self, size: (u16, u16), shell: &str) -> Terminal<'_> {
        Terminal::open(self, size, shell, &[])
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
            eprintln!("the server said:\n{log}");
        }
    }
}

/// What a program wrote to standard error.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a program wrote to standard output.
pub(crate) fn wrote(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// A terminal with a program in it, and a shell behind that.
pub(crate) struct Terminal<'a> {
    home: &'a Home,
    /// Where this terminal's tmux has its socket.
    dir: tempfile::TempDir,
}

impl<'a> Terminal<'a> {
    fn open(home: &'a Home, (columns, rows): (u16, u16), shell: &str, args: &[&str]) -> Self {
        let terminal = Self { home, dir: tempfile::tempdir().unwrap() };
        let mut command = terminal.tmux();
        let (columns, rows) = (columns.to_string(), rows.to_string());
        command.args(["set-option", "-g", "status", "off", ";"]);
        command.args(["set-option", "-g", "history-limit", "5000", ";"]);
        command.args(["new-session", "-d", "-x", &columns, "-y", &rows, "--"]);
        // The shell stays behind the program and says how it ended.
        command.args(["sh", "-c", &format!("{shell}; echo \"code $?\"; exec cat")]);
        command.arg(env!("CARGO_BIN_EXE_turnkeep")).args(args);
        let output = command
            .output()
            .unwrap_or_else(|error| panic!("there is no tmux; `make setup` installs it: {error}"));
        assert!(output.status.success(), "{}", said(&output));
        terminal
    }

    fn tmux(&self) -> Command {
        let mut command = Command::new("tmux");
        command.args(["-u", "-f", "/dev/null"]).current_dir(self.home.dir.path());
        command.env_clear().envs(self.home.env()).env("TERM", "xterm-256color");
        command.env("TMUX_TMPDIR", self.dir.path());
        command
    }

    fn tell(&self, args: &[&str]) -> String {
        let output = self.tmux().args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Types a text as it is.
    pub(crate) fn write(&self, text: &str) {
        self.tell(&["send-keys", "-l", "--", text]);
    }

    /// Presses a key, as tmux calls it.
    pub(crate) fn press(&self, key: &str) {
        self.tell(&["send-keys", key]);
    }

    /// Presses a key twice at once: nothing that counts for a while only is over in between.
    pub(crate) fn press_twice(&self, key: &str) {
        self.tell(&["send-keys", key, key]);
    }

    /// Types a line and sends it.
    pub(crate) fn enter(&self, text: &str) {
        self.write(text);
        self.press("Enter");
    }

    /// Writes down from here on what its program writes, as it is.
    pub(crate) fn record(&self, file: &Path) {
        self.tell(&["pipe-pane", "-O", &format!("exec cat > '{}'", file.display())]);
    }

    /// Pastes a text in brackets, as terminals do.
    pub(crate) fn paste(&self, text: &str) {
        self.tell(&["set-buffer", "--", text]);
        self.tell(&["paste-buffer", "-p"]);
    }

    pub(crate) fn resize(&self, (columns, rows): (u16, u16)) {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        self.tell(&["resize-window", "-x", &columns, "-y", &rows]);
    }

    /// What it shows now.
    pub(crate) fn screen(&self) -> String {
        self.tell(&["capture-pane", "-p"])
    }

    /// What it shows now, with its colours as escapes.
    pub(crate) fn colours(&self) -> String {
        self.tell(&["capture-pane", "-p", "-e"])
    }

    /// What tmux knows of it, like `pane_pid`.
    pub(crate) fn fact(&self, name: &str) -> String {
        self.tell(&["display-message", "-p", &format!("#{{{name}}}")]).trim().to_owned()
    }

    /// The program in it.
    fn program(&self) -> String {
        let shell = self.fact("pane_pid");
        let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"));
        children.unwrap().trim().to_owned()
    }

    /// Sends its program a signal, like `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let program = self.program();
        assert!(Command::new("kill").args(["-s", name, &program]).status().unwrap().success());
    }

    /// Takes the terminal away, and waits until its program has noticed.
    pub(crate) async fn vanish(self) {
        let program = PathBuf::from(format!("/proc/{}", self.program()));
        drop(self);
        let mut looks = interval(LOOK);
        let gone = async {
            while program.exists() {
                looks.tick().await;
            }
        };
        timeout(PATIENCE, gone).await.expect("it ends with its terminal");
    }

    /// Waits until the screen is as it should be.
    pub(crate) async fn until(&self, what: &str, is: impl Fn(&str) -> bool) -> String {
        let mut looks = interval(LOOK);
        let look = async {
            loop {
                looks.tick().await;
                let screen = self.screen();
                if is(&screen) {
                    return screen;
                }
            }
        };
        let Ok(screen) = timeout(PATIENCE, look).await else {
            panic!("it never shows {what}:\n{}", self.screen())
        };
        screen
    }

    /// Waits until the screen shows this somewhere.
    pub(crate) async fn shows(&self, text: &str) -> String {
        self.until(text, |screen| screen.contains(text)).await
    }

    /// Waits until the program has ended, and says its exit code.
    pub(crate) async fn ended(&self) -> String {
        let code = |screen: &str| {
            let code = screen.lines().find_map(|line| line.strip_prefix("code "));
            code.map(|code| code.trim().to_owned())
        };
        let screen = self.until("how it ended", |screen| code(screen).is_some()).await;
        code(&screen).unwrap()
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the terminal shows:\n{}", self.screen());
        }
        let _ = self.tmux().arg("kill-server").output();
    }
}
