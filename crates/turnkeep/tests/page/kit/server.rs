//! The real binary with a port and a folder of its own, which both outlive a `kill -9`.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::api::Api;
use crate::port_kit::free_port;
use crate::store_kit::store;

/// As good as never: a turn that only a stop or a kill ends.
pub(crate) const FOREVER_MS: u64 = 600_000;

pub(crate) struct Server {
    child: Child,
    port: u16,
    home: tempfile::TempDir,
    channel: &'static str,
    /// What brains wait at.
    gate: Option<File>,
}

impl Server {
    /// Starts one whose agent streams its echo over `delay_ms`. `channel` are lines for
    /// `[channels.web]`.
    pub(crate) fn start(delay_ms: u64, channel: &'static str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let port = free_port();
        write_config(&home, delay_ms, channel);
        let child = spawn(&home, port, &[]);
        Self { child, port, home, channel, gate: None }
    }

    /// Starts one whose agent is this Python program, a brain. Who reads a byte of the file `gate`
    /// waits for [`Self::let_through`].
    pub(crate) fn with_brain(program: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("brain.py"), program).unwrap();
        let config = "log_level = \"warn\"\n[agents.default]\nkind = \"command\"\n\
                      command = [\"python3\", \"brain.py\"]\n";
        std::fs::write(home.path().join("turnkeep.toml"), config).unwrap();
        let gate = home.path().join("gate");
        assert!(Command::new("mkfifo").arg(&gate).status().unwrap().success());
        // Who opens both ends waits for nobody, and nobody finds an end before this is gone.
        let gate = File::options().read(true).write(true).open(gate).unwrap();
        let port = free_port();
        let child = spawn(&home, port, &[]);
        Self { child, port, home, channel: "", gate: Some(gate) }
    }

    /// Lets brains go on that wait at the gate, or come to it later: so many, each once.
    pub(crate) fn let_through(&self, brains: usize) {
        self.gate.as_ref().unwrap().write_all(&vec![b'.'; brains]).unwrap();
    }

    /// Kills it and starts it again, with the same agent.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.child = spawn(&self.home, self.port, &[]);
    }

    pub(crate) fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn api(&self) -> Api {
        Api::new(self.address())
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Halts it as it is: its connections stay, and nobody answers.
    pub(crate) fn halt(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on after [`Self::halt`].
    pub(crate) fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, what: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([what, &pid]).status().unwrap().success());
    }

    /// Starts it again at the same place, with another delay.
    pub(crate) fn start_again(&mut self, delay_ms: u64) {
        write_config(&self.home, delay_ms, self.channel);
        self.child = spawn(&self.home, self.port, &[]);
    }

    /// Kills it and starts it again so that it ends itself the next time it gets to `place`.
    pub(crate) fn restart_to_die_at(&mut self, place: &str, delay_ms: u64) {
        self.kill();
        write_config(&self.home, delay_ms, self.channel);
        self.child = spawn(&self.home, self.port, &[("TURNKEEP_KILL_AT", &format!("{place}:1"))]);
    }

    /// Waits until it has ended itself.
    pub(crate) fn ended(&mut self) {
        self.child.wait().unwrap();
    }

    /// What a command line prints that works on the data folder.
    pub(crate) fn turnkeep(&self, args: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_turnkeep"));
        let data = data(&self.home);
        command.args(args).arg("--data-dir").arg(&data).envs(store(&data));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// `turnkeep audit` on the data folder must find nothing wrong.
    pub(crate) fn audit(&self) {
        let output = Command::new(env!("CARGO_BIN_EXE_turnkeep"))
            .args(["audit", "--data-dir"])
            .arg(data(&self.home))
            .envs(store(&data(&self.home)))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.home.path().join("log")).unwrap_or_default();
            eprintln!("the server said:\n{log}");
        }
    }
}

fn data(home: &tempfile::TempDir) -> PathBuf {
    home.path().join("data")
}

fn write_config(home: &tempfile::TempDir, delay_ms: u64, channel: &str) {
    let text = format!(
        "log_level = \"warn\"\n[agents.default]\nkind = \"echo\"\nstream = true\n\
         delay_ms = {delay_ms}\n[channels.web]\n{channel}\n"
    );
    std::fs::write(home.path().join("turnkeep.toml"), text).unwrap();
}

fn spawn(home: &tempfile::TempDir, port: u16, env: &[(&str, &str)]) -> Child {
    let log = home.path().join("log");
    let stderr = std::fs::File::options().create(true).append(true).open(&log).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_turnkeep"))
        .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--config"])
        .arg(home.path().join("turnkeep.toml"))
        .arg("--data-dir")
        .arg(data(home))
        .envs(store(&data(home)))
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    assert!(line.starts_with("listening on "), "it did not start: {line}{}", said());
    child
}
