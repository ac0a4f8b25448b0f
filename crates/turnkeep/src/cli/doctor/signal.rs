//! Signal: Java, signal-cli, and accounts that are linked.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};

use super::{Finding, Findings, home, programs};
use crate::config::signal::{SignalSettings, SignalWay};
use crate::config::{Env, Resolved};
use crate::serve::SOCKET;

/// What is started where nothing else is configured.
const PROGRAM: &str = "signal-cli";
/// The oldest Java that signal-cli runs on.
const JAVA_MIN: u32 = 21;
/// How long a connection may take to be made.
const PATIENCE: Duration = Duration::from_secs(5);

/// Everything that a household on Signal needs.
pub(super) async fn signal(resolved: &Resolved, env: &Env, findings: &mut Findings) {
    let Some(settings) = &resolved.signal else {
        let text = "not configured; docs/signal.md tells how to link an account";
        findings.note("signal", text);
        not_needed(env, findings).await;
        return;
    };
    match &settings.way {
        SignalWay::Child { command, config_dir } => {
            child(settings, command, config_dir, env, findings).await;
        }
        way => daemon(way, findings).await,
    }
    running(&resolved.data_dir, findings).await;
}

/// What linking an account would need: nothing is wrong where it is missing.
async fn not_needed(env: &Env, findings: &mut Findings) {
    let mut found = Findings::default();
    if let Some(path) = programs::find(PROGRAM, env) {
        found.ok("signal-cli", format!("{} is there", path.display()));
    } else {
        java(env, &mut found).await;
        found.note("signal-cli", format!("there is no program {PROGRAM}"));
    }
    findings.0.extend(found.0.into_iter().map(Finding::into_note));
}

async fn child(
    settings: &SignalSettings,
    command: &[String],
    config_dir: &Path,
    env: &Env,
    findings: &mut Findings,
) {
    let program = command.first().map(String::as_str).unwrap_or_default();
    let Some(path) = programs::find(program, env) else {
        java(env, findings).await;
        let text = format!("there is no program {program}");
        let mend =
            "install it (docs/signal.md), or write its whole path into \"command\" in [signal]";
        findings.missing("signal-cli", text, mend);
        return;
    };
    match programs::says(command, &["--version"]).await {
        Ok(version) => {
            findings.ok("signal-cli", format!("{version}, {}", path.display()));
            accounts(settings, command, config_dir, findings).await;
        }
        Err(why) => {
            // It says so in words of its own if it is Java that it lacks.
            java(env, findings).await;
            findings.missing("signal-cli", format!("{} does not start", path.display()), why);
        }
    }
}

/// Which Java there is: the one of `JAVA_HOME`, else the one on PATH.
async fn java(env: &Env, findings: &mut Findings) {
    let mend =
        format!("install Java {JAVA_MIN} or newer, like Debian's openjdk-{JAVA_MIN}-jre-headless");
    let home = env.get("JAVA_HOME").filter(|home| !home.is_empty());
    let program = home.map_or_else(|| "java".to_owned(), |home| format!("{home}/bin/java"));
    if programs::find(&program, env).is_none() {
        findings.missing("java", format!("there is no {program}"), mend);
        return;
    }
    match programs::says(&[program], &["-version"]).await {
        Ok(told) => match major(&told) {
            Some(version) if version >= JAVA_MIN => {
                findings.ok("java", format!("version {version}"))
            }
            Some(version) => {
                findings.missing(
                    "java",
                    format!("version {version} is too old for signal-cli"),
                    mend,
                );
            }
            None => findings.note("java", "it does not tell its version"),
        },
        Err(why) => findings.missing("java", format!("it does not start: {why}"), mend),
    }
}

/// `openjdk version "21.0.2" 2024-01-16` is 21; `"1.8.0_392"` is 8.
fn major(told: &str) -> Option<u32> {
    let version = told.split('"').nth(1)?;
    let version = version.strip_prefix("1.").unwrap_or(version);
    version.split(|one: char| !one.is_ascii_digit()).next()?.parse().ok()
}

/// Whether signal-cli knows the accounts that are configured.
async fn accounts(
    settings: &SignalSettings,
    command: &[String],
    config_dir: &Path,
    findings: &mut Findings,
) {
    let dir = config_dir.display().to_string();
    let asked = ["--config", &dir, "--output", "json", "listAccounts"];
    let told = match programs::says(command, &asked).await {
        Ok(told) => told,
        Err(why) => {
            findings.missing("signal-cli", format!("it does not tell its accounts in {dir}"), why);
            return;
        }
    };
    let known: Value = serde_json::from_str(&told).unwrap_or_default();
    let known = || known.as_array().into_iter().flatten().filter_map(|one| one["number"].as_str());
    for account in &settings.accounts {
        let name = format!("account {}", account.name);
        let number = &account.number;
        if known().any(|linked| linked == number) {
            findings.ok(&name, format!("{number} is linked"));
        } else {
            let text = format!("{number} is not linked in {dir}");
            findings.missing(
                &name,
                text,
                "run `turnkeep signal link` and scan the code with that phone",
            );
        }
    }
}

async fn daemon(way: &SignalWay, findings: &mut Findings) {
    let reached = match way {
        SignalWay::Child { .. } => return,
        SignalWay::Unix(path) => in_time(UnixStream::connect(path)).await,
        SignalWay::Tcp(place) => in_time(TcpStream::connect(place)).await,
        SignalWay::Http(url) => {
            let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build();
            let asked = match client {
                Ok(client) => client.get(format!("{url}/api/v1/check")).send().await,
                Err(error) => Err(error),
            };
            asked
                .and_then(reqwest::Response::error_for_status)
                .map(drop)
                .map_err(|error| error.to_string())
        }
    };
    match reached {
        Ok(()) => findings.ok("signal-cli", format!("something answers at {way}")),
        Err(why) => {
            let mend = "start signal-cli's daemon (docs/signal.md), or leave \"address\" in [signal] \
                        away and have it started";
            findings.missing("signal-cli", format!("nobody answers at {way}: {why}"), mend);
        }
    }
}

async fn in_time<T>(connect: impl Future<Output = std::io::Result<T>>) -> Result<(), String> {
    match tokio::time::timeout(PATIENCE, connect).await {
        Ok(made) => made.map(drop).map_err(|error| error.to_string()),
        Err(_) => Err(format!("no connection in {} s", PATIENCE.as_secs())),
    }
}

/// What a server that runs says of its accounts.
async fn running(data_dir: &Path, findings: &mut Findings) {
    let socket = data_dir.join(SOCKET);
    if !socket.exists() {
        return;
    }
    let Some(told) = home::ask(&socket, "/v1/signal").await else { return };
    for account in told["accounts"].as_array().into_iter().flatten() {
        let name = format!("account {}", account["account"].as_str().unwrap_or_default());
        for half in ["receiving", "sending"] {
            let pulse = &account[half];
            match pulse["state"].as_str() {
                Some("failing") => findings.missing(
                    &name,
                    format!("{half} fails since {}", pulse["since"].as_str().unwrap_or("now")),
                    pulse["why"].as_str().unwrap_or("the log tells more"),
                ),
                Some("working") => findings.ok(&name, format!("{half} works")),
                _ => findings.note(&name, format!("{half} was not tried yet")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn versions_of_java_are_read() {
        let check = |told: &str, expect: Option<u32>| assert_eq!(major(told), expect, "{told}");
        check("openjdk version \"21.0.2\" 2024-01-16\nOpenJDK Runtime", Some(21));
        check("openjdk version \"25\" 2025-09-16", Some(25));
        check("java version \"1.8.0_392\"", Some(8));
        check("openjdk version \"22-ea\" 2024-03-19", Some(22));
        check("nothing", None);
    }
}
