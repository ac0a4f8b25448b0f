//! A PostgreSQL server of the tests' own.
//!
//! It listens on a socket in a folder of its own, and goes with the process that made it, however
//! that ends: it lives as long as the other end of a pipe. It syncs to the disk as a real one does.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A file system that lives in memory, where there is one.
const MEMORY: &str = "/dev/shm";
/// The user with the fewest rights; the server refuses to run as root.
const NOBODY: u32 = 65_534;

/// Makes a database, says so, and waits for the end of its input before it takes everything away.
/// Whoever interrupts the tests must not interrupt that.
const SERVER: &str = r#"
B=$1; D=$2; shift 2; trap "" INT TERM
"$B/initdb" -D "$D/data" -U turnkeep --auth=trust --encoding=UTF8 --locale=C --no-sync >"$D/log" 2>&1 &&
"$B/pg_ctl" -D "$D/data" -w -t 60 -l "$D/server.log" -o "-k $D -c max_connections=200 -c shared_buffers=64MB -c max_wal_size=256MB $*" start >>"$D/log" 2>&1 ||
{ cat "$D/log" "$D/server.log"; rm -rf "$D"; exit 1; }
echo ready
read -r _
"$B/pg_ctl" -D "$D/data" -m immediate stop >/dev/null 2>&1
rm -rf "$D"
"#;

/// A server with a database.
pub(crate) struct Server {
    programs: PathBuf,
    folder: PathBuf,
    options: String,
    /// Its input keeps the server alive.
    keeper: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        drop(self.keeper.wait());
    }
}

impl Server {
    /// One with these options.
    pub(crate) fn start(options: &str) -> Self {
        let programs = programs();
        let folder = tempfile::Builder::new().prefix("tk-pg").tempdir_in(room()).unwrap().keep();
        let mut command = Command::new("sh");
        let options = format!("-c listen_addresses= {options}");
        command.args(["-c", SERVER, "sh"]).arg(&programs).arg(&folder).arg(&options);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).current_dir("/");
        if is_root() {
            std::os::unix::fs::chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
            command.uid(NOBODY).gid(NOBODY);
        }
        let mut server = Self { programs, folder, options, keeper: command.spawn().unwrap() };
        let told_by = server.keeper.stdout.take().unwrap();
        let mut told = String::new();
        for line in BufReader::new(told_by).lines().map_while(Result::ok) {
            if line == "ready" {
                return server;
            }
            told.push_str(&line);
            told.push('\n');
        }
        panic!("the database's server doesn't start:\n{told}");
    }

    /// The address of its database.
    pub(crate) fn url(&self) -> String {
        format!("host={} user=turnkeep dbname=postgres", self.folder.display())
    }

    /// The folder of its socket, which its user can read.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// One of the programs that came with it.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// Gives it a file.
    pub(crate) fn own(&self, file: &Path) {
        if is_root() {
            std::os::unix::fs::chown(file, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }

    /// Stops and starts it, as a power cut does.
    pub(crate) fn restart(&self) {
        self.control(&["restart", "-m", "immediate"]);
    }

    /// Ends it, as a power cut does.
    pub(crate) fn stop(&self) {
        self.control(&["stop", "-m", "immediate"]);
    }

    /// Starts it again.
    pub(crate) fn begin(&self) {
        let options =
            format!("-k {} -c max_connections=200 {}", self.folder.display(), self.options);
        self.control(&["start", "-o", &options]);
    }

    fn control(&self, what: &[&str]) {
        let mut command = Command::new(self.program("pg_ctl"));
        command.arg("-D").arg(self.folder.join("data")).args(["-w", "-t", "60"]).args(what);
        command.arg("-l").arg(self.folder.join("server.log"));
        command.stdout(Stdio::null()).current_dir("/");
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        assert!(command.status().unwrap().success(), "{what:?}");
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Where its files go. The suite makes tens of thousands of small changes, each of which waits for
/// the disk, so memory is the better place where there is enough of it; the server syncs all the
/// same. A socket's path has to be short, so that it can't be just anywhere.
fn room() -> &'static str {
    let told = Command::new("df").args(["-Pk", MEMORY]).stderr(Stdio::null()).output();
    let told = told.map(|told| String::from_utf8_lossy(&told.stdout).into_owned());
    let free_kb = told.ok().and_then(|told| {
        let line = told.lines().nth(1)?;
        line.split_whitespace().nth(3)?.parse::<u64>().ok()
    });
    if free_kb.is_some_and(|free| free > 2 << 20) { MEMORY } else { "/tmp" }
}

/// The newest of the machine's servers, or the one that the environment names.
fn programs() -> PathBuf {
    if let Some(named) = std::env::var_os("TURNKEEP_POSTGRES_BIN") {
        return named.into();
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let number = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let found = versions.filter_map(|entry| Some((number(&entry.path())?, entry.path())));
    let found = found.filter(|(_, path)| path.join("bin/initdb").exists()).max();
    let path = std::env::var_os("PATH").unwrap_or_default();
    found
        .map(|(_, path)| path.join("bin"))
        .or_else(|| std::env::split_paths(&path).find(|path| path.join("initdb").exists()))
        .expect("these tests need a PostgreSQL server: run scripts/setup.sh")
}
