//! `turnkeep sessions worktrees`: the git worktrees that agents keep for sessions.

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use turnkeep_core::ports::worktrees::WORKTREE_ID_DIGITS;

use super::client::{Client, ClientError};
use super::output::{self, cell};
use super::sessions::{Which, WhichArgs, show_or_json};
use crate::wiring::worktree_id;

/// `sessions worktrees`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  turnkeep sessions worktrees
  turnkeep sessions worktrees remove 'api work'
  turnkeep sessions worktrees remove 3f9c2b61d0aa --force

What is in no commit is never removed, also not with --force. docs/worktrees.md says more.")]
pub(super) struct WorktreesArgs {
    #[command(subcommand)]
    command: Option<WorktreesCommand>,
}

/// What can be done with them.
#[derive(Subcommand)]
enum WorktreesCommand {
    /// List them (this is what `worktrees` alone does)
    List,
    /// Remove one, if nothing is lost by that
    Remove {
        #[command(flatten)]
        which: WhichArgs,
        /// Also where commits stand in its branch only, which then stays
        #[arg(long)]
        force: bool,
    },
}

/// Does what was asked.
pub(super) async fn run(
    client: &Client,
    args: WorktreesArgs,
    tenant: Option<&str>,
    json: bool,
) -> anyhow::Result<()> {
    match args.command.unwrap_or(WorktreesCommand::List) {
        WorktreesCommand::List => {
            let answer = client.get("/v1/worktrees").await?;
            show_or_json(&answer, json, list)
        }
        WorktreesCommand::Remove { which, force } => {
            let id = id_of(client, &which.which, tenant).await?;
            let (path, body) = (format!("/v1/worktrees/{id}/remove"), json!({ "force": force }));
            let answer = client.post(&path, &body, Duration::from_secs(120)).await?;
            let kept = answer.value["result"] != "removed";
            show_or_json(&answer, json, |value| {
                let path = cell(&value["worktree"], "path");
                match kept {
                    true => Ok(()),
                    false => output::line(&format!("{path} was removed")),
                }
            })?;
            if kept {
                let value = &answer.value;
                bail!("{} stays: {}", cell(&value["worktree"], "path"), cell(value, "why"));
            }
            Ok(())
        }
    }
}

fn list(value: &Value) -> anyhow::Result<()> {
    let all = value["worktrees"].as_array().into_iter().flatten();
    let row = |one: &Value| {
        ["agent_id", "id", "state", "branch", "path", "detail"].map(|field| cell(one, field))
    };
    let rows: Vec<[String; 6]> = all.map(row).collect();
    let troubles = value["troubles"].as_array().into_iter().flatten();
    for trouble in troubles {
        output::complain(&format!(
            "agent {}: {}",
            cell(trouble, "agent_id"),
            cell(trouble, "error")
        ));
    }
    if rows.is_empty() {
        output::complain("no session has a worktree");
    }
    output::table(["agent", "id", "state", "branch", "path", ""], &rows)
}

/// A session's digits. One that was closed is not on the switchboard any more, but its worktree may
/// be there: then it is known by the beginning of them.
async fn id_of(client: &Client, which: &Which, tenant: Option<&str>) -> anyhow::Result<String> {
    let unknown = match which.key(client, tenant).await {
        Ok(key) => return Ok(worktree_id(&key)),
        Err(error) => error,
    };
    let refused = unknown.downcast_ref::<ClientError>();
    let not_found = matches!(refused, Some(ClientError::Refused(refusal)) if refusal.status == 404);
    let Which::Called(text) = which else { return Err(unknown) };
    if !not_found || !is_beginning(text) {
        return Err(unknown);
    }
    let answer = client.get("/v1/worktrees").await?;
    let all = answer.value["worktrees"].as_array().into_iter().flatten();
    let ids: Vec<&str> = all.filter_map(|one| one["id"].as_str()).collect();
    one_of(&ids, text).with_context(|| format!("{text} names no session and no worktree"))?
}

/// Whether it may be the beginning of an id.
fn is_beginning(text: &str) -> bool {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (2..=WORKTREE_ID_DIGITS).contains(&text.len()) && text.bytes().all(digit)
}

/// The one that begins so; an error where several do.
fn one_of(ids: &[&str], text: &str) -> Option<anyhow::Result<String>> {
    let mut found = ids.iter().filter(|id| id.starts_with(text));
    let first = found.next()?;
    if found.next().is_some() {
        return Some(Err(anyhow::anyhow!("several worktrees begin with {text}; type more of it")));
    }
    Some(Ok((*first).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_session_is_known_by_the_beginning_of_its_digits() {
        let ids = ["3f9c2b61d0aa", "3f00aaaaaaaa"];
        assert_eq!(one_of(&ids, "3f9").unwrap().unwrap(), "3f9c2b61d0aa");
        assert!(one_of(&ids, "3f").unwrap().is_err());
        assert!(one_of(&ids, "44").is_none());
        assert!(
            is_beginning("3f") && !is_beginning("3") && !is_beginning("3F") && !is_beginning("xy")
        );
    }
}
