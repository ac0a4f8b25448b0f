//! The servers of tools that a configuration names: shared by the agents, kept over a reload.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use turnkeep_agents::{
    REMINDERS, ReminderTools, Tool, ToolPolicy, ToolServer, ToolSet, ToolWay, Toolbox,
};
use turnkeep_gateway::ReminderDesk;

use super::{Wired, command};
use crate::config::tools::{ToolServerSettings, ToolWay as TypedWay, effects_word};
use crate::config::{AgentSettings, Resolved};

/// Each ends when nobody has it any more.
pub(super) type ToolServers = BTreeMap<String, Arc<ToolServer>>;

/// Reaches for them; one of which nothing changed goes on as it is.
pub(super) fn servers(resolved: &Resolved, before: Option<&Wired>) -> ToolServers {
    let make = |(name, settings): (&String, &ToolServerSettings)| {
        let same = before.filter(|before| before.resolved.tools.get(name) == Some(settings));
        let kept = same.and_then(|before| before.tools.get(name)).cloned();
        (name.clone(), kept.unwrap_or_else(|| start(name, settings)))
    };
    resolved.tools.iter().map(make).collect()
}

/// Whether every server that an agent has tools of is the one that it had before.
pub(super) fn are_same(settings: &AgentSettings, tools: &ToolServers, before: &Wired) -> bool {
    let wanted = settings.model().map_or(&[][..], |model| &model.tools);
    let servers = wanted.iter().filter_map(|wanted| Some(wanted.split_once('.')?.0));
    // What is built in is always the same.
    let mut servers = servers.filter(|name| *name != REMINDERS || tools.contains_key(*name));
    servers.all(|name| match (tools.get(name), before.tools.get(name)) {
        (Some(now), Some(before)) => Arc::ptr_eq(now, before),
        _ => false,
    })
}

/// Where the tools of an agent come from: servers, and what is built in where no server has its name.
pub(super) fn toolboxes(
    agent: &str,
    wanted: &[String],
    tools: &ToolServers,
    reminders: &Arc<ReminderDesk>,
) -> Vec<Arc<dyn Toolbox>> {
    let mut toolboxes: Vec<Arc<dyn Toolbox>> = vec![Arc::new(ToolSet::new(agent, wanted, tools))];
    if !tools.contains_key(REMINDERS) {
        let own = ReminderTools::wanted(Arc::clone(reminders) as _, wanted);
        toolboxes.extend(own.map(|own| Arc::new(own) as _));
    }
    toolboxes
}

fn start(name: &str, settings: &ToolServerSettings) -> Arc<ToolServer> {
    ToolServer::start(turnkeep_agents::ToolServerSettings {
        name: name.to_owned(),
        way: match &settings.way {
            TypedWay::Command(program) => ToolWay::Command(command(program)),
            TypedWay::Http(url, token) => ToolWay::Http {
                url: url.clone(),
                token: token.as_ref().map(|token| token.expose().to_owned()),
            },
        },
        timeout: settings.timeout,
        policy: ToolPolicy {
            effects: settings.effects.clone(),
            keys: settings.keys.clone(),
            approval: settings.approval.clone(),
            trust_annotations: settings.trust_annotations,
            errors_mean_not_done: settings.errors_mean_not_done,
        },
    })
}

/// Starts a server, asks for its tools and ends it: what a person is shown of it, and of what agents
/// want of it in vain.
pub(crate) async fn look(
    name: &str,
    settings: &ToolServerSettings,
    agents: &BTreeMap<String, AgentSettings>,
) -> Value {
    let server = start(name, settings);
    let servers = BTreeMap::from([(name.to_owned(), Arc::clone(&server))]);
    let wanted = agents.iter().filter_map(|(agent, settings)| {
        Some(ToolSet::new(agent, &settings.model()?.tools, &servers))
    });
    // As long as they are there, the server knows what is wanted of it.
    let wanted: Vec<ToolSet> = wanted.collect();
    let report = server.report().await;
    drop(wanted);
    let tool = |(own, tool): &(String, Tool)| {
        json!({
            "name": own,
            "model_name": tool.spec.name,
            "description": tool.spec.description,
            "schema": tool.spec.schema,
            "effects": effects_word(tool.effects),
            "key": tool.key,
            "approval": tool.approval,
        })
    };
    let (state, about) = match &report.state {
        Ok(about) => ("there", about),
        Err(why) => ("away", why),
    };
    let tools: Vec<Value> = report.tools.iter().map(tool).collect();
    json!({"server": name, "state": state, "about": about, "tools": tools, "notes": report.notes})
}
