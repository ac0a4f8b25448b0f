//! Agents and servers of tools: programs on PATH, and keys of providers.

use super::{Findings, programs};
use crate::config::command::{self, CommandSettings};
use crate::config::model::ModelSettings;
use crate::config::tools::ToolWay;
use crate::config::worktree::WorktreeSettings;
use crate::config::{AgentSettings, Env, Resolved};

/// Who answers.
pub(super) async fn agents(resolved: &Resolved, env: &Env, findings: &mut Findings) {
    for (name, agent) in &resolved.agents {
        let place = format!("agent {name}");
        match agent {
            AgentSettings::Echo(_) => {
                let text = "an echo, which only repeats what it is told; see docs/agents.md for \
                            others";
                findings.note(&place, text);
            }
            AgentSettings::OpenAi(model) => model_agent(&place, name, model, findings),
            AgentSettings::Anthropic(anthropic) => {
                model_agent(&place, name, &anthropic.model, findings);
            }
            AgentSettings::Command(program) => {
                started(&place, program, env, findings);
                if let Some(worktrees) = &program.worktrees {
                    repository(&place, worktrees, findings).await;
                }
            }
            // Its secrets were read with the configuration.
            AgentSettings::Http(brain) => findings.ok(&place, brain.origin()),
        }
    }
    for (name, server) in &resolved.tools {
        if let ToolWay::Command(program) = &server.way {
            started(&format!("tools {name}"), program, env, findings);
        }
    }
}

/// A model on this machine may do without a key, one elsewhere hardly.
fn model_agent(place: &str, name: &str, model: &ModelSettings, findings: &mut Findings) {
    let url = reqwest::Url::parse(&model.base_url).ok();
    let host = url.as_ref().and_then(reqwest::Url::host_str).unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    let here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    match (&model.api_key, here) {
        (Some(_), _) => findings.ok(place, format!("{} at {host}, with a key", model.model)),
        (None, true) => findings.ok(place, format!("{} on this machine, without a key", model.model)),
        (None, false) => findings.missing(
            place,
            format!("{} at {host} has no key", model.model),
            format!("put it into a file that only you can read, and name that as api_key_file in [agents.{name}]"),
        ),
    }
}

/// Where worktrees come from: git, a repository, and the commit to begin at.
async fn repository(place: &str, worktrees: &WorktreeSettings, findings: &mut Findings) {
    let WorktreeSettings { repository, base, .. } = worktrees;
    let git = ["git".to_owned(), "-C".to_owned(), repository.display().to_string()];
    let commit = format!("{}^{{commit}}", base.as_deref().unwrap_or("HEAD"));
    let asked = ["rev-parse", "--verify", "--end-of-options", &commit];
    match programs::says(&git, &asked).await {
        Ok(_) => findings.ok(place, format!("worktrees of {}", repository.display())),
        Err(error) => findings.missing(
            place,
            format!("there can be no worktrees of {}: {error}", repository.display()),
            "install git, and name a repository and a commit of it in \"worktree\"; see \
             docs/worktrees.md",
        ),
    }
}

fn started(place: &str, settings: &CommandSettings, env: &Env, findings: &mut Findings) {
    let program = settings.command.first().map(String::as_str).unwrap_or_default();
    match programs::find(program, env) {
        Some(path) => findings.ok(place, format!("{} is there", path.display())),
        None => findings.missing(
            place,
            format!("there is no program {program}"),
            "install it, or write its whole path into \"command\"",
        ),
    }
    if settings.worktrees.is_none()
        && let Some(why) = command::no_folder(&settings.dir)
    {
        findings.missing(place, why, "make it, or name another one as \"dir\"");
    }
}
