//! `turnkeep sessions pause`, `reply` and `hand-back`: a person in the agent's place.

use clap::Args;
use serde_json::{Value, json};
use uuid::Uuid;

use super::client::{Client, ClientError};
use super::send::text;
use super::sessions::{WhichArgs, act, path};

/// `sessions pause`.
#[derive(Args)]
pub(super) struct PauseArgs {
    #[command(flatten)]
    operator: OperatorArgs,
    /// Also if another operator has it, who loses it then
    #[arg(long)]
    take_over: bool,
}

/// `sessions hand-back`, and what `sessions pause` has of it.
#[derive(Args)]
pub(super) struct OperatorArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// The operator's name [default: what the key that is used is called]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

/// `sessions reply`.
#[derive(Args)]
pub(super) struct ReplyArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// What to say; - reads it from standard input
    #[arg(required = true, value_name = "TEXT")]
    text: Vec<String>,
    /// The operator's name [default: what the key that is used is called]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// The reply's id; the same id is never said twice [default: a new one]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
}

/// Takes the agent's place.
pub(super) async fn pause(
    client: &Client,
    args: PauseArgs,
    tenant: Option<&str>,
    json: bool,
) -> anyhow::Result<()> {
    let PauseArgs { operator: OperatorArgs { which, by }, take_over } = args;
    let key = which.which.key(client, tenant).await?;
    let body = if take_over { json!({ "take_over": true }) } else { json!({}) };
    let done = act(client, &path(&key, "/pause"), &named(body, by), json).await;
    done.map_err(|error| match error.downcast() {
        Ok(ClientError::Refused(refusal)) => {
            ClientError::Refused(refusal.with_flag("take_over", "--take-over")).into()
        }
        Ok(error) => error.into(),
        Err(error) => error,
    })
}

/// Gives it back.
pub(super) async fn hand_back(
    client: &Client,
    args: OperatorArgs,
    tenant: Option<&str>,
    json: bool,
) -> anyhow::Result<()> {
    let key = args.which.which.key(client, tenant).await?;
    let body = named(json!({}), args.by);
    act(client, &path(&key, "/hand_back"), &body, json).await
}

/// Answers there.
pub(super) async fn reply(
    client: &Client,
    args: ReplyArgs,
    tenant: Option<&str>,
    json: bool,
) -> anyhow::Result<()> {
    let key = args.which.which.key(client, tenant).await?;
    let id = args.id.unwrap_or_else(|| Uuid::now_v7().to_string());
    let body = named(json!({ "text": text(&args.text)?, "id": id }), args.by);
    act(client, &path(&key, "/reply"), &body, json).await
}

fn named(mut body: Value, by: Option<String>) -> Value {
    if let Some(by) = by {
        body["by"] = by.into();
    }
    body
}
