//! What a tool server may want of us: to say that its tools changed, and nothing else.
//!
//! Sampling is refused, elicitation declined, and there are no roots; none of them is announced, so a
//! server that asks breaks the protocol. What it logs is not listened to; a process says it on its
//! standard error.

use std::sync::Arc;

use rmcp::model::{ClientCapabilities, ClientConfig, Implementation};
use rmcp::service::NotificationContext;
use rmcp::{ClientHandler, RoleClient};
use tokio::sync::Notify;

/// Our side of a connection.
pub(super) struct Client {
    /// Whoever reads the list of tools again.
    pub(super) changed: Arc<Notify>,
}

impl ClientHandler for Client {
    fn get_info(&self) -> ClientConfig {
        let own = Implementation::new("turnkeep", env!("CARGO_PKG_VERSION"));
        ClientConfig::new(ClientCapabilities::default(), own)
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changed.notify_one();
    }
}
