//! The tools that one agent may have, from several servers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use turnkeep_core::ports::BoxFuture;

use super::names::{matches, server_of};
use super::outcome::failed;
use super::server::{ToolServer, Wish};
use crate::tools::{Said, Tool, Toolbox};

/// Tools of one agent; more of them confuse every model.
const TOOLS_MAX: usize = 128;
/// Remarks that are remembered, so that each is made once.
const REMARKS_MAX: usize = 1000;

/// The tools of one agent.
#[derive(Debug)]
pub struct ToolSet {
    agent: String,
    servers: Vec<Chosen>,
    remarks: Mutex<Vec<String>>,
}

/// A server and which of its tools are wanted.
#[derive(Debug)]
struct Chosen {
    server: Arc<ToolServer>,
    wish: Arc<Wish>,
}

impl ToolSet {
    /// Those that an agent wants, as `SERVER.PATTERN`. What names no server is left out: the
    /// configuration was checked before.
    #[must_use]
    pub fn new(
        agent: &str,
        wanted: &[String],
        servers: &BTreeMap<String, Arc<ToolServer>>,
    ) -> Self {
        let mut chosen: Vec<Chosen> = Vec::new();
        for (name, server) in servers {
            let of_it = wanted.iter().filter_map(|wanted| {
                let (server, pattern) = wanted.split_once('.')?;
                (server == name).then(|| pattern.to_owned())
            });
            let patterns: Vec<String> = of_it.collect();
            if !patterns.is_empty() {
                let wish = Arc::new(Wish { agent: agent.to_owned(), patterns });
                server.wanted(&wish);
                chosen.push(Chosen { server: Arc::clone(server), wish });
            }
        }
        Self { agent: agent.to_owned(), servers: chosen, remarks: Mutex::default() }
    }

    /// Says it to the log, once.
    fn remark(&self, text: String) {
        let mut remarks = self.remarks.lock().unwrap_or_else(PoisonError::into_inner);
        if remarks.len() < REMARKS_MAX && !remarks.contains(&text) {
            tracing::warn!(agent = self.agent, "{text}");
            remarks.push(text);
        }
    }

    async fn all(&self) -> (Vec<Tool>, Vec<String>) {
        let listings = join_all(self.servers.iter().map(|chosen| chosen.server.listing())).await;
        let (mut tools, mut away) = (Vec::new(), Vec::new());
        for (Chosen { server, wish }, listing) in self.servers.iter().zip(listings) {
            let Some(listing) = listing else {
                away.push(server.settings().name.clone());
                continue;
            };
            let wanted = |name: &str| wish.patterns.iter().any(|pattern| matches(pattern, name));
            let known = listing.tools.iter().filter(|known| wanted(&known.name));
            tools.extend(known.map(|known| known.tool.clone()));
        }
        if tools.len() > TOOLS_MAX {
            let count = tools.len();
            self.remark(format!(
                "it has {count} tools; only the first {TOOLS_MAX} are offered to its model"
            ));
            tools.truncate(TOOLS_MAX);
        }
        (tools, away)
    }
}

impl Toolbox for ToolSet {
    fn tools(&self) -> BoxFuture<'_, (Vec<Tool>, Vec<String>)> {
        Box::pin(self.all())
    }

    fn call<'a>(&'a self, tool: &'a Tool, arguments: &'a str) -> BoxFuture<'a, Said> {
        Box::pin(async move {
            let server = server_of(&tool.spec.name);
            let chosen = self.servers.iter().find(|chosen| chosen.server.settings().name == server);
            match chosen {
                Some(chosen) => chosen.server.call(tool, arguments).await,
                None => failed("there is no such tool"),
            }
        })
    }
}
