//! Programs: whether they are there, and what they say of themselves.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::config::Env;
use crate::config::command::can_start;

/// How long a program may take to say its version: signal-cli starts a Java machine first.
const PATIENCE: Duration = Duration::from_secs(30);

/// What signal-cli's start script hands on to Java.
const JAVA_OPTIONS: &str = "SIGNAL_CLI_OPTS";

/// Where a program is, as the system would look for it.
pub(super) fn find(program: &str, env: &Env) -> Option<PathBuf> {
    if program.contains('/') {
        return can_start(Path::new(program)).then(|| program.into());
    }
    let dirs = env.get("PATH").unwrap_or_default().split(':');
    dirs.map(|dir| Path::new(dir).join(program)).find(|path| can_start(path))
}

/// What a program prints, its standard output before its standard error; or why it did not.
pub(super) async fn says(command: &[String], arguments: &[&str]) -> Result<String, String> {
    let [program, own @ ..] = command else { return Err("no program is named".to_owned()) };
    // What signal-cli unpacks goes again even where it has to be ended.
    let unpacked = tempfile::tempdir().map_err(|error| error.to_string())?;
    let options = std::env::var(JAVA_OPTIONS).unwrap_or_default();
    let options = format!("{options} \"-Djava.io.tmpdir={}\"", unpacked.path().display());
    let run = tokio::process::Command::new(program)
        .args(own)
        .args(arguments)
        .env(JAVA_OPTIONS, options.trim_start())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match tokio::time::timeout(PATIENCE, run).await {
        Ok(output) => output.map_err(|error| error.to_string())?,
        Err(_) => return Err(format!("it says nothing for {} s", PATIENCE.as_secs())),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let (out, said) = (text(&output.stdout), text(&output.stderr));
    if !output.status.success() {
        let last = said.lines().chain(out.lines()).rfind(|line| !line.trim().is_empty());
        return Err(last.map_or_else(|| output.status.to_string(), str::to_owned));
    }
    Ok(if out.is_empty() { said } else { out })
}
