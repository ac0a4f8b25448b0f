//! Looks names up for the HTTP client, and asks of every address whether callbacks may go there.
//!
//! The client connects to exactly the addresses that were asked about here: there is no second
//! lookup that could answer otherwise. One forbidden address is enough to refuse a name, for which
//! one of several is taken is not ours to say.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use turnkeep_core::network::{Network, may_reach};

/// A way to look a name up.
pub type Lookup = Arc<
    dyn Fn(String) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> + Send + Sync,
>;

/// An address that callbacks must not go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} is not on the open internet; callbacks go there only if [gateway] callbacks_may_reach \
     allows it"
)]
pub struct Forbidden(pub IpAddr);

/// The system's own way.
pub(super) fn system() -> Lookup {
    Arc::new(|name| {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    })
}

pub(super) struct Guarded {
    allowed: Arc<[Network]>,
    lookup: Lookup,
}

impl Guarded {
    pub(super) fn new(allowed: Arc<[Network]>, lookup: Lookup) -> Self {
        Self { allowed, lookup }
    }
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let found = (self.lookup)(name.as_str().to_owned());
        let allowed = Arc::clone(&self.allowed);
        Box::pin(async move {
            let addresses = found.await?;
            if let Some(address) = addresses.iter().find(|one| !may_reach(**one, &allowed)) {
                return Err(Forbidden(*address).into());
            }
            // Port 0 stands for the one of the URL.
            let addresses: Addrs =
                Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}
