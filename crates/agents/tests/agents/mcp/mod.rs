//! Servers of tools as agents meet them, with their unhappy parts.

mod lies;
mod over_http;
mod standing;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use turnkeep_agents::{
    CommandSettings, Said, Tool, ToolPolicy, ToolServer, ToolServerSettings, ToolSet, ToolWay,
    Toolbox as _,
};
use turnkeep_core::tool::ToolOutcome;

/// Nothing here takes long; what does is broken.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(5);

/// A server of tools that does as it is told, and an agent's view of it.
struct Liar {
    dir: tempfile::TempDir,
    tools: ToolSet,
}

/// The script, started with this environment.
fn liar(dir: &Path, env: &[(&str, &str)]) -> ToolServerSettings {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/agents/mcp/liar.py");
    let noted = dir.join("noted").display().to_string();
    let env = env.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    ToolServerSettings {
        name: "shop".to_owned(),
        way: ToolWay::Command(CommandSettings {
            command: ["python3", script].map(String::from).to_vec(),
            dir: Some(dir.to_owned()),
            env: env.chain([("NOTED".to_owned(), noted)]).collect(),
            processes_max: 1,
        }),
        timeout: PATIENCE,
        policy: ToolPolicy::default(),
    }
}

/// All tools of one server.
fn all_of(settings: ToolServerSettings) -> ToolSet {
    let servers = BTreeMap::from([(settings.name.clone(), ToolServer::start(settings))]);
    ToolSet::new("default", &["shop.*".to_owned()], &servers)
}

impl Liar {
    fn new(change: impl FnOnce(&mut ToolServerSettings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = liar(dir.path(), &[]);
        change(&mut settings);
        Self { tools: all_of(settings), dir }
    }

    async fn tool(&self, name: &str) -> Tool {
        tool(&self.tools, name).await
    }

    /// What comes of a call.
    async fn call(&self, name: &str, arguments: &str) -> Said {
        let tool = self.tool(name).await;
        let call = self.tools.call(&tool, arguments);
        tokio::time::timeout(PATIENCE, call).await.expect("the call hangs")
    }

    async fn check(&self, name: &str, arguments: &str, outcome: ToolOutcome, output: &str) {
        let said = self.call(name, arguments).await;
        assert_eq!(said, Said { outcome, output: output.to_owned() }, "{name}");
    }

    /// What the server was told so far.
    fn noted(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.path().join("noted")).unwrap_or_default();
        // The last line may not be whole yet.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits until the server was told this.
    async fn noted_once(&self, method: &str) -> Value {
        until(async || self.noted().into_iter().find(|message| message["method"] == method)).await
    }
}

/// The tool of this name, once its server is there.
async fn tool(tools: &ToolSet, name: &str) -> Tool {
    let wanted = format!("shop__{name}");
    until(async || tools.tools().await.0.into_iter().find(|tool| tool.spec.name == wanted)).await
}

/// Looks again and again.
async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looks = async {
        let mut beat = tokio::time::interval(LOOK);
        loop {
            beat.tick().await;
            if let Some(seen) = look().await {
                return seen;
            }
        }
    };
    tokio::time::timeout(PATIENCE, looks).await.expect("it never comes")
}

/// Where the tests' TLS comes from, as in the binary.
fn with_tls() {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn arguments(of: impl serde::Serialize) -> String {
    serde_json::to_string(&of).unwrap()
}
