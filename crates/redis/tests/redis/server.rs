//! A Redis of a test's own: on a socket in a folder of its own, run by nobody where we are root,
//! and gone with this process however it ends, because it hangs on a pipe from us.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// Ends the server when its standard input ends.
const HANGS_ON: &str = r#"
redis-server "$@" &
echo "PID $!"
cat > /dev/null
kill -9 $!
wait $! 2> /dev/null
"#;
/// Nobody, on every system we test on.
const NOBODY: u32 = 65534;
/// Where a Redis is, running or not.
pub(crate) struct Server {
    folder: tempfile::TempDir,
    running: Option<Running>,
    more: Vec<String>,
}

struct Running {
    wrapper: Child,
    _hangs_on: ChildStdin,
    pid: Pid,
}

impl Server {
    /// One that runs.
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// One that runs, with these further arguments.
    pub(crate) fn with(more: &[&str]) -> Self {
        let mut server = Self::absent(more);
        server.begin();
        server
    }

    /// One that doesn't run yet.
    pub(crate) fn absent(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(folder.path(), open).expect("our own folder");
        let more = more.iter().map(|&more| more.to_owned()).collect();
        Self { folder, running: None, more }
    }

    pub(crate) fn socket(&self) -> String {
        self.folder.path().join("s").display().to_string()
    }

    pub(crate) fn address(&self) -> String {
        format!("unix://{}", self.socket())
    }

    /// Starts it, and waits until it takes connections.
    pub(crate) fn begin(&mut self) {
        let folder = self.folder.path().display().to_string();
        let socket = self.socket();
        let mut command = Command::new("sh");
        command.args(["-c", HANGS_ON, "sh", "--port", "0", "--unixsocket", &socket]);
        command.args(["--unixsocketperm", "777", "--save", "", "--appendonly", "no"]);
        command.args(["--dir", &folder]).args(&self.more).current_dir(&folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let mut wrapper = command.spawn().expect("a shell");
        let hangs_on = wrapper.stdin.take().expect("it is piped");
        let mut lines = BufReader::new(wrapper.stdout.take().expect("it is piped")).lines();
        // They come in either order.
        let (mut pid, mut ready) = (None, false);
        while pid.is_none() || !ready {
            let line = lines.next().expect("redis-server is installed and starts").expect("text");
            if let Some(told) = line.strip_prefix("PID ") {
                pid = told.parse().ok().and_then(Pid::from_raw);
            }
            ready |= line.contains("eady to accept connections");
        }
        std::thread::spawn(move || lines.for_each(drop));
        let pid = pid.expect("it was told");
        self.running = Some(Running { wrapper, _hangs_on: hangs_on, pid });
    }

    /// Kills it, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        if let Some(Running { mut wrapper, _hangs_on: hangs_on, .. }) = self.running.take() {
            drop(hangs_on);
            wrapper.wait().expect("our own child");
        }
    }

    /// Stops it in its tracks.
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub(crate) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let running = self.running.as_ref().expect("it runs");
        kill_process(running.pid, signal).expect("it is ours");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
