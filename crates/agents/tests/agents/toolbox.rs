//! Tools that do what a test says, and remember that they were called.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use turnkeep_agents::{Said, Tool, ToolSpec, Toolbox};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::tool::{SideEffects, ToolOutcome};

type Work = dyn Fn(&str) -> BoxFuture<'static, Said> + Send + Sync;

pub(crate) struct FakeTools {
    tools: Vec<Tool>,
    work: Box<Work>,
    pub(crate) away: Vec<String>,
    pub(crate) calls: Mutex<Vec<String>>,
}

impl FakeTools {
    /// These, and all do this when they are called by their name.
    pub(crate) fn new(
        tools: Vec<Tool>,
        work: impl Fn(&str) -> BoxFuture<'static, Said> + Send + Sync + 'static,
    ) -> Self {
        let (away, calls) = Default::default();
        Self { tools, work: Box::new(work), away, calls }
    }

    /// A pure one, `look`, and an irreversible one, `refund`, whose acts are named by their order.
    pub(crate) fn shop(
        work: impl Fn(&str) -> BoxFuture<'static, Said> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let refund =
            Tool { key: Some("/order".to_owned()), ..tool("refund", SideEffects::Irreversible) };
        Arc::new(Self::new(vec![tool("look", SideEffects::Pure), refund], work))
    }

    pub(crate) fn called(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

pub(crate) fn tool(name: &str, effects: SideEffects) -> Tool {
    Tool {
        spec: ToolSpec {
            name: name.to_owned(),
            description: format!("does {name}"),
            schema: json!({
                "type": "object",
                "properties": {"order": {"type": "string"}},
                "required": ["order"],
            }),
        },
        origin: None,
        effects,
        key: None,
        approval: false,
        timeout: Duration::from_secs(60),
    }
}

/// Done at once, with this to say.
pub(crate) fn done(output: &str) -> BoxFuture<'static, Said> {
    let said = Said { outcome: ToolOutcome::Done, output: output.to_owned() };
    Box::pin(std::future::ready(said))
}

impl Toolbox for FakeTools {
    fn tools(&self) -> BoxFuture<'_, (Vec<Tool>, Vec<String>)> {
        Box::pin(std::future::ready((self.tools.clone(), self.away.clone())))
    }

    fn call<'a>(&'a self, tool: &'a Tool, arguments: &'a str) -> BoxFuture<'a, Said> {
        self.calls.lock().unwrap().push(format!("{} {arguments}", tool.spec.name));
        (self.work)(&tool.spec.name)
    }
}
