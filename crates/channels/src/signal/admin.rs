//! What a person does with accounts, from the command line: link, list, trust. It works beside a
//! server that runs, as far as signal-cli does.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;
use turnkeep_core::ports::intake::KnownGroup;

use super::calls::{CallError, Caller, Calls};
use super::http::HttpCalls;
use super::keeping::private_folder;
use super::lines::{LINE_BYTES_MAX, Line, Lines};
use super::message::{self, Told};
use super::unpacked::Unpacked;
use super::{SignalError, Way, accounts, daemon, group_list, process};

/// How long signal-cli may take to answer; a Java that starts takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a person may take to scan a code.
const LINK_PATIENCE: Duration = Duration::from_secs(300);
/// What is kept of what signal-cli prints.
const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// Whose words they are.
const SAYS: &str = "signal-cli: ";
/// How much is kept of what it complains of.
const COMPLAINT_BYTES_MAX: usize = 1000;
/// How lines of its log begin, and of a stack.
const LOG: [&str; 8] = ["INFO", "WARN", "DEBUG", "TRACE", "ERROR", "at ", "Caused by", "... "];
/// What it says without a connection to Signal's servers.
const NO_SERVERS: [&str; 6] = [
    "Connection closed",
    "Link request error",
    "UnknownHost",
    "Failed to connect",
    "Connection refused",
    "unreachable",
];
/// What it says when it waited for long enough.
const NOBODY_SCANNED: [&str; 2] = ["timed out", "TimeoutException"];

/// Whose key is known, and how far it is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Signal's name of them, or their number.
    pub who: String,
    /// `TRUSTED_VERIFIED`, `TRUSTED_UNVERIFIED` or `UNTRUSTED`.
    pub trust: String,
    /// What both sides can compare.
    pub safety_number: String,
}

/// How somebody's new key is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trusting {
    /// The safety number was compared.
    SafetyNumber(String),
    /// Whatever their keys are.
    AllKnownKeys,
}

/// The version of signal-cli.
///
/// # Errors
/// It can't be started or reached, or says something else.
pub async fn version(way: &Way) -> Result<String, SignalError> {
    if let Way::Child { command, config_dir } = way {
        let output = run(command, config_dir, &["--version"]).await?;
        let version = output.trim().strip_prefix("signal-cli").map(str::trim);
        let version = version.filter(|version| !version.is_empty()).map(str::to_owned);
        return version.ok_or_else(|| refused(&format!("it says {:?}", output.trim())));
    }
    let answer = ask(way, "version", json!({}), PATIENCE).await?;
    let version = answer.get("version").and_then(Value::as_str).map(str::to_owned);
    version.ok_or_else(|| refused("it tells no version"))
}

/// The numbers of the accounts that signal-cli is linked to.
///
/// # Errors
/// It can't be started or reached, or refuses.
pub async fn list_accounts(way: &Way) -> Result<Vec<String>, SignalError> {
    let answer = match way {
        Way::Child { command, config_dir } => {
            // The list that it keeps; asking it would fail while a server holds the accounts.
            let numbers = accounts::numbers(config_dir);
            if !numbers.is_empty() {
                return Ok(numbers);
            }
            let output = run(command, config_dir, &["--output", "json", "listAccounts"]).await?;
            serde_json::from_str(&output).map_err(|_| refused("its list of accounts is no JSON"))?
        }
        _ => ask(way, "listAccounts", json!({}), PATIENCE).await?,
    };
    let number = |one: &Value| one.get("number").and_then(Value::as_str).map(str::to_owned);
    Ok(answer.as_array().map_or_else(Vec::new, |all| all.iter().filter_map(number).collect()))
}

/// Links this machine as another device of an account, under the name `device`. `show` gets the
/// address that the telephone has to scan as a code. The number of the account.
///
/// # Errors
/// signal-cli can't be started or reached, or nobody scanned the code in time.
pub async fn link(
    way: &Way,
    device: &str,
    show: impl FnOnce(&str) + Send,
) -> Result<String, SignalError> {
    if let Way::Child { command, config_dir } = way {
        return link_by_child(command, config_dir, device, show).await;
    }
    let answer = ask(way, "startLink", json!({}), PATIENCE).await.map_err(explained)?;
    let uri = answer.get("deviceLinkUri").and_then(Value::as_str);
    let uri = uri.ok_or_else(|| refused("it gives no address to scan"))?;
    show(uri);
    let params = json!({"deviceLinkUri": uri, "deviceName": device});
    let answer = ask(way, "finishLink", params, LINK_PATIENCE).await.map_err(explained)?;
    let number = answer.get("number").and_then(Value::as_str).map(str::to_owned);
    number.ok_or_else(|| refused("it does not tell the number"))
}

async fn link_by_child(
    words: &[String],
    config_dir: &Path,
    device: &str,
    show: impl FnOnce(&str) + Send,
) -> Result<String, SignalError> {
    let (mut command, _unpacked) = prepared(words, config_dir)?;
    command.args(["link", "-n", device]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| unstarted(words, &error))?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(refused("it has no output"));
    };
    let complaint = tokio::spawn(complaint(stderr));
    let linking = async {
        let mut lines = Lines::new(stdout, OUTPUT_BYTES_MAX);
        let mut show = Some(show);
        let mut number = None;
        while let Ok(Some(line)) = lines.next().await {
            let Line::Whole(line) = line else { continue };
            let line = String::from_utf8_lossy(&line);
            if line.trim().starts_with("sgnl://") || line.trim().starts_with("tsdevice:") {
                if let Some(show) = show.take() {
                    show(line.trim());
                }
            } else if let Some(found) = line.trim().strip_prefix("Associated with:") {
                number = Some(found.trim().to_owned());
            }
        }
        let _ = child.wait().await;
        number
    };
    let number = timeout(LINK_PATIENCE, linking).await;
    let number = number.map_err(|_| not_linked("Link request timed out"))?;
    match number {
        Some(number) => Ok(number),
        None => Err(not_linked(&complaint.await.unwrap_or_default())),
    }
}

/// What signal-cli said at its end: its log is none of it, where there is anything else.
async fn complaint(stderr: impl tokio::io::AsyncRead + Unpin) -> String {
    let mut lines = Lines::new(stderr, OUTPUT_BYTES_MAX);
    let (mut said, mut last) = (String::new(), "it ended without a word".to_owned());
    while let Ok(Some(line)) = lines.next().await {
        let Line::Whole(line) = line else { continue };
        let line = String::from_utf8_lossy(&line).trim().to_owned();
        if line.is_empty() {
            continue;
        }
        let is_log = LOG.iter().any(|begins| line.starts_with(begins));
        if !is_log && said.len() + line.len() < COMPLAINT_BYTES_MAX {
            said += if said.is_empty() { "" } else { " " };
            said += &line;
        }
        last = line;
    }
    if said.is_empty() { last } else { said }
}

/// The same of what a daemon said.
fn explained(error: SignalError) -> SignalError {
    match error {
        SignalError::Refused(said) => not_linked(said.strip_prefix(SAYS).unwrap_or(&said)),
        other => other,
    }
}

/// Why nothing was linked, as a sentence that says what to do about it.
fn not_linked(said: &str) -> SignalError {
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let sentence = if has(&NO_SERVERS) {
        "Signal's servers can't be reached: see that this machine is online and that nothing between \
         it and them closes the connection, then try again"
    } else if has(&NOBODY_SCANNED) {
        "nobody scanned the code in time: run it again, with the phone at hand"
    } else if has(&["already exists"]) {
        "this number is linked here already (`turnkeep signal accounts`)"
    } else {
        return refused(said);
    };
    SignalError::Refused(format!("{sentence} (signal-cli: {said})"))
}

/// Whose keys one account knows.
///
/// # Errors
/// signal-cli can't be started or reached, or refuses.
pub async fn identities(way: &Way, account: &str) -> Result<Vec<Identity>, SignalError> {
    let answer = match way {
        Way::Child { command, config_dir } => {
            let words = ["--output", "json", "-a", account, "listIdentities"];
            let output = run(command, config_dir, &words).await?;
            serde_json::from_str(&output).map_err(|_| refused("its list of keys is no JSON"))?
        }
        _ => ask(way, "listIdentities", json!({"account": account}), PATIENCE).await?,
    };
    let word = |one: &Value, key| one.get(key).and_then(Value::as_str).map(str::to_owned);
    let read = |one: &Value| {
        Some(Identity {
            who: word(one, "number").or_else(|| word(one, "uuid"))?,
            trust: word(one, "trustLevel").unwrap_or_default(),
            safety_number: word(one, "safetyNumber").unwrap_or_default(),
        })
    };
    Ok(answer.as_array().map_or_else(Vec::new, |all| all.iter().filter_map(read).collect()))
}

/// The groups of one account.
///
/// # Errors
/// signal-cli can't be started or reached, or refuses.
pub async fn groups(way: &Way, account: &str) -> Result<Vec<KnownGroup>, SignalError> {
    let answer = match way {
        Way::Child { command, config_dir } => {
            let words = ["--output", "json", "-a", account, "listGroups"];
            let output = run(command, config_dir, &words).await?;
            serde_json::from_str(&output).map_err(|_| refused("its list of groups is no JSON"))?
        }
        _ => ask(way, "listGroups", json!({"account": account}), PATIENCE).await?,
    };
    Ok(group_list::read(&answer))
}

/// Has `account` trust the new key of `recipient`.
///
/// # Errors
/// signal-cli can't be started or reached, or refuses.
pub async fn trust(
    way: &Way,
    account: &str,
    recipient: &str,
    how: &Trusting,
) -> Result<(), SignalError> {
    if let Way::Child { command, config_dir } = way {
        let mut words = vec!["-a", account, "trust"];
        match how {
            Trusting::SafetyNumber(number) => words.extend(["-v", number.as_str()]),
            Trusting::AllKnownKeys => words.push("--trust-all-known-keys"),
        }
        words.push(recipient);
        return run(command, config_dir, &words).await.map(drop);
    }
    ask(way, "trust", trust_params(account, recipient, how), PATIENCE).await.map(drop)
}

/// What `trust` is asked with.
pub(super) fn trust_params(account: &str, recipient: &str, how: &Trusting) -> Value {
    let mut params = json!({"account": account, "recipient": recipient});
    match how {
        Trusting::SafetyNumber(number) => params["verifiedSafetyNumber"] = number.as_str().into(),
        Trusting::AllKnownKeys => params["trustAllKnownKeys"] = true.into(),
    }
    params
}

fn refused(why: &str) -> SignalError {
    SignalError::Refused(format!("{SAYS}{why}"))
}

fn unstarted(words: &[String], error: &std::io::Error) -> SignalError {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            SignalError::NoProgram(words.first().cloned().unwrap_or_default())
        }
        _ => SignalError::Unreachable(error.to_string()),
    }
}

fn prepared(words: &[String], config_dir: &Path) -> Result<(Command, Unpacked), SignalError> {
    private_folder(config_dir).map_err(|error| {
        SignalError::Refused(format!("can't write to {}: {error}", config_dir.display()))
    })?;
    let unpacked = Unpacked::of_command(config_dir);
    let command = process::command(words, config_dir, &unpacked);
    let command = command.map_err(|error| SignalError::Refused(error.to_string()))?;
    Ok((command, unpacked))
}

/// Runs signal-cli once; what it printed.
async fn run(
    words: &[String],
    config_dir: &Path,
    arguments: &[&str],
) -> Result<String, SignalError> {
    let (mut command, _unpacked) = prepared(words, config_dir)?;
    command.args(arguments).stdin(Stdio::null());
    let late = |_| SignalError::Unreachable("no answer in time".into());
    let output = timeout(PATIENCE, command.output()).await.map_err(late)?;
    let output = output.map_err(|error| unstarted(words, &error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        return Err(refused(&format!("{}: {}", output.status, last.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Asks a daemon once.
async fn ask(
    way: &Way,
    method: &str,
    params: Value,
    patience: Duration,
) -> Result<Value, SignalError> {
    if let Way::Http(base) = way {
        let caller = Caller::Http(HttpCalls::new(base, LINE_BYTES_MAX)?);
        return caller.call(method, &params, patience).await.map_err(told);
    }
    let unreachable = |error: std::io::Error| SignalError::Unreachable(error.to_string());
    let (reading, writing) = daemon::connect(way, None).await.map_err(unreachable)?;
    let calls = Calls::new(writing);
    let listening = async {
        let mut lines = Lines::new(reading, LINE_BYTES_MAX);
        while let Ok(Some(line)) = lines.next().await {
            if let Line::Whole(line) = line
                && let Told::Answer { id, result } = message::read(&line)
            {
                calls.answered(&id, result);
            }
        }
        calls.close("the connection ended");
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = listening => Err(SignalError::Unreachable("the connection ended".into())),
        answer = calls.call(method, &params, patience) => answer.map_err(told),
    }
}

pub(super) fn told(error: CallError) -> SignalError {
    match error {
        CallError::Refused(refusal) => refused(&refusal.message),
        CallError::NotSent(why) | CallError::Lost(why) => SignalError::Unreachable(why),
    }
}
