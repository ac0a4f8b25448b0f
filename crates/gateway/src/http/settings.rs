//! What the HTTP side lives by.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use turnkeep_core::network::Network;

use super::reload::Reload;
use crate::access::Access;
use crate::{Current, Gateway};

/// The limits of the HTTP side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// Longest request body, in bytes. JSON may spell one byte of a message with six.
    pub body_bytes_max: usize,
    /// Connections open at once, for each listener.
    pub connections_max: usize,
    /// Connections open at once from one address (IPv6: one /64). As great as the total by
    /// default: on a loopback listener, or behind a proxy, everybody shares one address.
    pub connections_per_address_max: usize,
    /// How long a request's head may take, an idle connection stays, and a body may take.
    pub header_timeout: Duration,
    /// A peer that doesn't read anything for this long is cut off.
    pub write_timeout: Duration,
    /// Longest `?wait=`; more is taken for this.
    pub wait_seconds_max: u64,
    /// Names by which the server may be called, beside this machine's own and where it listens.
    pub hosts: Vec<String>,
    /// Where it listens, if that is an address.
    pub listen: Option<SocketAddr>,
    /// Who is believed when it says for whom it asks.
    pub trusted_proxies: Vec<Network>,
    /// Only how the process is can be asked for.
    pub health_only: bool,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            body_bytes_max: 1024 * 1024,
            connections_max: 16_384,
            connections_per_address_max: 16_384,
            header_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            wait_seconds_max: 300,
            hosts: Vec::new(),
            listen: None,
            trusted_proxies: Vec::new(),
            health_only: false,
        }
    }
}

/// Everything the HTTP side needs.
#[derive(Clone)]
pub struct Http {
    /// Who does the work.
    pub gateway: Gateway,
    /// Who may ask.
    pub access: Access,
    /// The limits. Those of connections hold from the start; the others may be replaced.
    pub settings: Current<HttpSettings>,
    /// Who reads the configuration anew, if there is one.
    pub reload: Option<Arc<dyn Reload>>,
    /// Writes the text of `/metrics`.
    pub render_metrics: Arc<dyn Fn() -> String + Send + Sync>,
}
