//! Signal: Java, signal-cli, and accounts that are linked.

use std::path::Path;
use std::time::Duration;

use rustix::fs::StatVfsMountFlags;
use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};

use super::super::deliveries::Parked;
use super::{Findings, State, home, programs};
use crate::config::signal::{SignalSettings, SignalWay};
use crate::config::{Env, Resolved};
use crate::serve::SOCKET;

/// What is started where nothing else is configured.
const PROGRAM: &str = "signal-cli";
/// The oldest Java that signal-cli runs on.
const JAVA_MIN: u32 = 21;
/// Where somebody may have named another folder for what Java unpacks, and how.
const JAVA_OPTIONS: [&str; 4] =
    ["SIGNAL_CLI_OPTS", "JAVA_OPTS", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS"];
const TEMP: &str = "java.io.tmpdir";
/// How long a connection may take to be made.
const PATIENCE: Duration = Duration::from_secs(5);

/// Everything that a household on Signal needs.
pub(super) async fn signal(resolved: &Resolved, env: &Env, findings: &mut Findings) {
    let Some(settings) = &resolved.signal else {
        return not_needed(env, findings).await;
    };
    match &settings.way {
        SignalWay::Child { command, config_dir } => {
            child(settings, command, config_dir, env, findings).await;
        }
        way => daemon(way, findings).await,
    }
    running(&resolved.data_dir, findings).await;
}

/// What linking an account would need: nothing is wrong where it is missing, so it is one line.
async fn not_needed(env: &Env, findings: &mut Findings) {
    let text = if let Some(path) = programs::find(PROGRAM, env) {
        let path = path.display();
        format!("not configured, and {path} is there: docs/signal.md tells how to link an account")
    } else {
        let mut found = Findings::default();
        java(env, &mut found).await;
        let java = found.0.iter().find(|finding| finding.state != State::Ok);
        let lacks = java.map_or_else(String::new, |finding| format!("; java: {}", finding.text));
        format!(
            "not configured; it would need Java {JAVA_MIN} and {PROGRAM}, see docs/signal.md: there \
             is no program {PROGRAM}{lacks}"
        )
    };
    findings.note("signal", text);
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
            unpacking(config_dir, env, findings);
        }
        Err(why) => {
            // It says so in words of its own if it is Java that it lacks.
            java(env, findings).await;
            let text = format!("{} does not start", path.display());
            if findings.is_missing("java") {
                // That is why.
                findings.note("signal-cli", text);
            } else {
                findings.missing("signal-cli", text, why);
            }
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

/// Whether what signal-cli unpacks beside its accounts can be run from there.
fn unpacking(config_dir: &Path, env: &Env, findings: &mut Findings) {
    let names_another = |name: &&str| env.get(name).is_some_and(|value| value.contains(TEMP));
    if JAVA_OPTIONS.iter().any(names_another) {
        return;
    }
    // What is not there yet will be made on the file system of the folder above it.
    let mut folders = config_dir.ancestors();
    if let Some(stat) = folders.find_map(|folder| rustix::fs::statvfs(folder).ok()) {
        held_back(config_dir, stat.f_flag, findings);
    }
}

fn held_back(config_dir: &Path, flags: StatVfsMountFlags, findings: &mut Findings) {
    if flags.contains(StatVfsMountFlags::NOEXEC) {
        let text = format!(
            "it can run nothing of what it unpacks in {}: mounted noexec",
            config_dir.display()
        );
        let mend = "name a folder elsewhere as \"config_dir\" in [signal], or another \
                    -Djava.io.tmpdir in SIGNAL_CLI_OPTS (docs/signal.md)";
        findings.missing("signal-cli", text, mend);
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

/// What a server that runs says of its accounts. A fault that several of them meet is one.
async fn running(data_dir: &Path, findings: &mut Findings) {
    let socket = data_dir.join(SOCKET);
    if !socket.exists() {
        return;
    }
    let Some(told) = home::ask(&socket, "/v1/signal").await else { return };
    let known = findings.is_missing("signal-cli") || findings.is_missing("java");
    let mut met = Vec::new();
    for account in told["accounts"].as_array().into_iter().flatten() {
        let name = format!("account {}", account["account"].as_str().unwrap_or_default());
        let known = known || findings.is_missing(&name);
        for (halves, pulse) in halves(account) {
            let why = pulse["why"].as_str().unwrap_or("the log tells more");
            match pulse["state"].as_str() {
                Some("failing") => {
                    let since = pulse["since"].as_str().unwrap_or("now");
                    let text = format!("{halves} since {since}");
                    if known || met.contains(&why) {
                        findings.note(&name, format!("{text}: {why}"));
                    } else {
                        findings.missing(&name, text, why);
                        met.push(why);
                    }
                }
                Some("working") => findings.ok(&name, halves),
                _ => findings.note(&name, halves),
            }
        }
    }
    let Some(told) = home::ask(&socket, &Parked::question()).await else { return };
    if let Some(words) = Parked::count(&told, None).words() {
        findings.note("replies", words);
    }
}

/// Both halves of an account in words, as one where they are alike.
fn halves(account: &Value) -> Vec<(String, &Value)> {
    let (receiving, sending) = (&account["receiving"], &account["sending"]);
    let words = |who: &str, plural: bool, pulse: &Value| {
        let verb = match (pulse["state"].as_str(), plural) {
            (Some("failing"), true) => "fail",
            (Some("failing"), false) => "fails",
            (Some("working"), true) => "work",
            (Some("working"), false) => "works",
            (_, true) => "were not tried yet",
            (_, false) => "was not tried yet",
        };
        format!("{who} {verb}")
    };
    let alike = |key| receiving[key] == sending[key];
    if alike("state") && alike("why") {
        return vec![(words("receiving and sending", true, receiving), receiving)];
    }
    vec![
        (words("receiving", false, receiving), receiving),
        (words("sending", false, sending), sending),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_nothing_runs_from_is_told() {
        let check = |flags: StatVfsMountFlags, expect: bool| {
            let mut findings = Findings::default();
            held_back(Path::new("/srv/signal"), flags, &mut findings);
            assert_eq!(findings.is_missing("signal-cli"), expect, "{findings:?}");
        };
        check(StatVfsMountFlags::empty(), false);
        check(StatVfsMountFlags::NOSUID, false);
        check(StatVfsMountFlags::NOSUID | StatVfsMountFlags::NOEXEC, true);
    }

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
