//! `turnkeep send`: one message, and the reply to it, or what its turn asks first.

use std::io::Read as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use uuid::Uuid;

use super::args::{SendArgs, SendChannel};
use super::client::{Answer, Client, ClientError};
use super::dispatch::FAILED;
use super::output;

/// The exit code where the turn asks something and waits for the answer.
const ASKED: u8 = 3;

/// How often a message is sent before it is given up.
const TRIES_MAX: u32 = 6;

/// No try is begun later than this after the wait is over.
const TRIES_END: Duration = Duration::from_secs(30);

/// The pause before the second try; doubled for each later one.
const BACKOFF: Duration = Duration::from_millis(250);

/// Sends it and prints the reply.
pub(super) async fn run(args: SendArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.api)?;
    let body = body(&args)?;
    let answer = send(&client, &body, args.wait).await?;
    if args.api.json {
        output::line(&answer.text)?;
    }
    show(&answer, &args)
}

fn body(args: &SendArgs) -> anyhow::Result<Value> {
    let mut body = json!({
        "customer_id": args.customer.clone().filter(|name| !name.is_empty()).unwrap_or_else(user),
        "channel": match args.channel {
            SendChannel::Web => "web",
            SendChannel::Api => "api",
        },
        "message": text(&args.message)?,
        "id": args.id.clone().unwrap_or_else(|| Uuid::now_v7().to_string()),
    });
    for (field, name) in [("tenant_id", &args.tenant), ("agent_id", &args.agent)] {
        if let Some(name) = name.as_ref().filter(|name| !name.is_empty()) {
            body[field] = json!(name);
        }
    }
    Ok(body)
}

fn user() -> String {
    let named = ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    named.filter(|name| !name.is_empty()).unwrap_or_else(|| "me".to_owned())
}

/// The words as one text, or what standard input holds.
pub(super) fn text(words: &[String]) -> anyhow::Result<String> {
    let text = if matches!(words, [word] if word == "-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("can't read standard input")?;
        text.truncate(text.trim_end_matches(['\n', '\r']).len());
        text
    } else {
        words.join(" ")
    };
    if text.trim().is_empty() {
        bail!("there is no message to send");
    }
    Ok(text)
}

/// Sends until there is an answer. Every try carries the same id, so that the server takes the
/// message once however often it arrives.
async fn send(client: &Client, body: &Value, wait_seconds: u64) -> anyhow::Result<Answer> {
    let path = format!("/v1/chat?wait={wait_seconds}");
    let wait = Duration::from_secs(wait_seconds);
    let started = Instant::now();
    let mut sent = false;
    for attempt in 1.. {
        let error = match client.post(&path, body, wait).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let again = match &error {
            ClientError::Lost { .. } => {
                sent = true;
                true
            }
            // A server that was there a moment ago may be starting again.
            ClientError::NotThere { .. } => sent,
            ClientError::Refused(refusal) => refusal.status == 503,
            ClientError::NoTls { .. }
            | ClientError::Untrusted { .. }
            | ClientError::Strange { .. } => false,
        };
        let time_left = started.elapsed() < wait + TRIES_END;
        if again && time_left && attempt < TRIES_MAX {
            tokio::time::sleep(BACKOFF * 2_u32.pow(attempt - 1)).await;
            continue;
        }
        // Another refusal than "not now" is an answer: the message was not taken.
        let refused = matches!(&error, ClientError::Refused(refusal) if refusal.status != 503);
        if sent && !refused {
            let id = body["id"].as_str().unwrap_or_default();
            let text = format!(
                "nobody knows whether the message was taken; sending it again with --id {id} \
                 can't double it"
            );
            return Err(anyhow::Error::new(error).context(text));
        }
        return Err(error.into());
    }
    bail!("there was nothing to try")
}

fn show(answer: &Answer, args: &SendArgs) -> anyhow::Result<ExitCode> {
    let value = &answer.value;
    let status = output::cell(value, "status");
    let turn = output::cell(value, "turn_id");
    if answer.status == 202 && !value["question"].is_null() {
        return show_question(value, args);
    }
    if answer.status == 202 {
        return Ok(show_accepted(value, &status, args.wait));
    }
    if let Some(reply) = value["reply"].as_str()
        && !args.api.json
    {
        output::line(&output::harmless(reply))?;
    }
    match status.as_str() {
        "complete" => {
            if value["reply"].is_null() {
                output::complain("(the agent chose to say nothing)");
            }
            Ok(ExitCode::SUCCESS)
        }
        "failed" => {
            let detail = output::cell(value, "error");
            // A message that no turn took up has none to be shown, and leaves no dead letter.
            if turn.is_empty() && !detail.is_empty() {
                output::complain(&format!("there is no reply: {detail}"));
                return Ok(ExitCode::from(FAILED));
            }
            let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
            output::complain(&format!(
                "the turn failed{detail}; see `turnkeep turns show {turn}` and `turnkeep \
                 deadletters`"
            ));
            Ok(ExitCode::from(FAILED))
        }
        other => {
            output::complain(&format!("the turn ended: {other} ({turn})"));
            Ok(ExitCode::from(FAILED))
        }
    }
}

/// Its turn wants to know something first; whoever asked is to answer.
fn show_question(value: &Value, args: &SendArgs) -> anyhow::Result<ExitCode> {
    if !args.api.json {
        output::line(&output::harmless(value["question"].as_str().unwrap_or_default()))?;
    }
    let session = output::cell(value, "session");
    output::complain(&format!(
        "the turn waits for your answer: send it as the next message of {session}"
    ));
    Ok(ExitCode::from(ASKED))
}

/// It was taken, and there is no reply yet.
fn show_accepted(value: &Value, status: &str, wait_seconds: u64) -> ExitCode {
    let session = output::cell(value, "session");
    let position = match output::cell(value, "queue_position") {
        position if position.is_empty() => String::new(),
        position => format!(", {position} turns ahead of it"),
    };
    let look = format!("see `turnkeep sessions messages {session}`");
    if wait_seconds == 0 {
        output::complain(&format!("taken ({status}{position}); {look}"));
        return ExitCode::SUCCESS;
    }
    output::complain(&format!(
        "no reply within {wait_seconds} s; the message is safe ({status}{position}) and will be \
         answered: {look}"
    ));
    ExitCode::from(FAILED)
}
