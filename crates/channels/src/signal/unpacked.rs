//! Where signal-cli unpacks its library.
//!
//! It unpacks more than a hundred megabytes at every start and removes them at its end, unless it is
//! killed. In the temp folder of the machine that would add up, so each run has a folder of its own
//! beside the accounts, and whatever an earlier run left in there goes before the next one starts.
//! Where there can be no such folder, it unpacks where it would by itself.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Pid, getpid, test_kill_process};

use super::keeping::private_folder;

/// The folder that holds them all, beside the accounts.
const FOLDER: &str = "unpacked";
/// The one of the signal-cli that a server runs: it has one at a time.
const SERVER: &str = "server";
/// How those begin that run for a command; behind it stands the process whose command it is.
const COMMAND: &str = "command-";
/// Counts the runs of this process.
static NEXT: AtomicU64 = AtomicU64::new(0);
/// What the start script of signal-cli hands on to Java.
const VARIABLE: &str = "SIGNAL_CLI_OPTS";
/// Java's own name for its temp folder.
const PROPERTY: &str = "java.io.tmpdir";
/// Where somebody may have named another one already.
const NAMED_IN: [&str; 4] = [VARIABLE, "JAVA_OPTS", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS"];

/// The folder of one run.
pub(super) struct Unpacked {
    /// None where it can't be had.
    path: Option<PathBuf>,
    /// Removed with this.
    fleeting: bool,
}

impl Unpacked {
    /// The one of a server's signal-cli, empty. No other one of this server may run.
    pub(super) fn of_server(config_dir: &Path) -> Self {
        let path = config_dir.join(FOLDER).join(SERVER);
        Self { path: told(&path, emptied(&path)), fleeting: false }
    }

    /// One for a command; those of commands that were ended before they could tidy up are removed.
    pub(super) fn of_command(config_dir: &Path) -> Self {
        let folder = config_dir.join(FOLDER);
        // One command may run signal-cli more than once, also at the same time.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("{COMMAND}{}-{number}", getpid().as_raw_nonzero()));
        let made = private_folder(&folder).and_then(|()| tidy(&folder));
        // A process of long ago may have had the number of ours.
        let made = made.and_then(|()| emptied(&path));
        Self { path: told(&path, made), fleeting: true }
    }

    /// The variable that has signal-cli use it; none where somebody named a folder of their own, where
    /// its name can't be written there, or where there is no such folder.
    pub(super) fn variable(&self) -> Option<(&'static str, String)> {
        let path = self.path.as_ref()?;
        let value = |name: &str| std::env::var(name).unwrap_or_default();
        if NAMED_IN.iter().any(|name| value(name).contains(PROPERTY)) {
            return None;
        }
        let option = quoted(&format!("-D{PROPERTY}={}", path.to_str()?))?;
        let before = value(VARIABLE);
        let gap = if before.is_empty() { "" } else { " " };
        Some((VARIABLE, format!("{before}{gap}{option}")))
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        if let Some(path) = self.path.as_ref().filter(|_| self.fleeting) {
            // What stays is removed by the next command.
            let _ = std::fs::remove_dir_all(path);
        }
    }
}

/// The folder, if it could be made: signal-cli is needed more than its folder.
fn told(path: &Path, made: io::Result<()>) -> Option<PathBuf> {
    if let Err(error) = &made {
        let path = path.display();
        tracing::warn!(%path, %error, "signal-cli can't unpack there, so it does in the temp folder");
    }
    made.is_ok().then(|| path.to_owned())
}

fn emptied(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => private_folder(path),
    }
}

/// Removes the folders of commands that are over.
fn tidy(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(COMMAND));
        let number = number.and_then(|rest| rest.split('-').next()?.parse().ok());
        let Some(pid) = number.and_then(Pid::from_raw) else { continue };
        if test_kill_process(pid) == Err(rustix::io::Errno::SRCH) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

/// An option as the start script reads it: between quotes, in which nothing else has a meaning.
fn quoted(option: &str) -> Option<String> {
    let mark = ['"', '\''].into_iter().find(|mark| !option.contains(*mark))?;
    (!option.contains('\n')).then(|| format!("{mark}{option}{mark}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_quoted() {
        let check = |option: &str, expect: Option<&str>| {
            assert_eq!(quoted(option).as_deref(), expect, "{option}");
        };
        check("-Da=/b c", Some("\"-Da=/b c\""));
        check("-Da=/b\"c", Some("'-Da=/b\"c'"));
        check("-Da='\"", None);
        check("-Da=\n", None);
    }

    #[test]
    fn a_server_begins_with_nothing_and_commands_leave_nothing() {
        let home = tempfile::tempdir().unwrap();
        let folder = |unpacked: &Unpacked| unpacked.path.clone().unwrap();
        let server = Unpacked::of_server(home.path());
        std::fs::write(folder(&server).join("library.so"), "x").unwrap();
        let again = Unpacked::of_server(home.path());
        assert_eq!(std::fs::read_dir(folder(&again)).unwrap().count(), 0);
        // Nobody has this number: it is above the highest that any Linux gives out.
        let left = home.path().join(FOLDER).join(format!("{COMMAND}2000000000-0"));
        std::fs::create_dir(&left).unwrap();
        let commands = [(); 2].map(|()| Unpacked::of_command(home.path()));
        let [one, two] = &commands;
        assert!(folder(one).exists() && folder(two).exists() && one.path != two.path);
        assert!(!left.exists());
        drop(commands);
        let names = std::fs::read_dir(home.path().join(FOLDER)).unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [SERVER]);
    }
}
