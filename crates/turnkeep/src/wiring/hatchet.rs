//! The engine that gives turns to workers: how it is reached, and what this server is to it.

use crate::config::Resolved;
use crate::role::Role;

pub(crate) use self::inner::{look, open};

/// Whether turns are given to workers by an engine, for what can be said without reaching it.
pub(crate) const fn is_used(resolved: &Resolved, role: Role) -> bool {
    resolved.hatchet.is_some() && !matches!(role, Role::All)
}

#[cfg(feature = "hatchet")]
mod inner {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use anyhow::Context as _;
    use tokio_util::sync::CancellationToken;
    use turnkeep_core::ports::dispatch::{Dispatcher, Orders, Worker};
    use turnkeep_gateway::Gateway;
    use turnkeep_gateway::dispatch::DispatchSettings;
    use turnkeep_hatchet::{
        ENGINE_VERSION, HatchetClient, HatchetDispatcher, HatchetSettings as Client, Timeouts, Tls,
        Token, WorkerSettings, Workflow, take_part,
    };

    use crate::config::Resolved;
    use crate::config::hatchet::HatchetSettings;
    use crate::config::store::{StoreSettings, Tls as Wanted};
    use crate::role::Role;
    use crate::wiring::stores::Stores;

    /// A step lasts as long as its turn does; what ends early is not seen by it.
    const STEP: Duration = Duration::from_secs(24 * 3600);
    /// Who looks whether the engine is there waits no longer.
    const LOOK: Duration = Duration::from_secs(5);
    /// A token that ends so soon is worth a word.
    const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

    /// What this server is to the engine.
    pub(crate) struct Engine {
        dispatcher: Arc<HatchetDispatcher>,
        part: Option<(Arc<dyn Worker>, Box<dyn Orders>)>,
        settings: DispatchSettings,
    }

    /// Makes this server what its role says; nothing where no engine is configured, or where every
    /// server runs what it takes.
    pub(crate) fn open(
        resolved: &Resolved,
        role: Role,
        stores: &Stores,
    ) -> anyhow::Result<Option<Engine>> {
        let Some(hatchet) = resolved.hatchet.as_ref().filter(|_| super::is_used(resolved, role))
        else {
            return Ok(None);
        };
        let client = client(resolved, hatchet).context("[hatchet]")?;
        if token(hatchet)?.remaining(SystemTime::now()).is_some_and(|left| left.is_zero()) {
            let place = place(hatchet);
            tracing::error!(%place, "the token of Hatchet has ended; we go on without the engine");
        }
        let mut dispatcher = HatchetDispatcher::new(client.clone());
        let mut part = None;
        if role == Role::Worker {
            let name = format!("turnkeep-{}", stores.store.epoch());
            let settings = WorkerSettings::new(&name, hatchet.slots);
            let (worker, orders) = take_part(&client, settings).context("[hatchet]")?;
            dispatcher = dispatcher.beside(Arc::clone(&worker));
            part = Some((worker as Arc<dyn Worker>, Box::new(orders) as Box<dyn Orders>));
        }
        let settings =
            DispatchSettings { timeout: hatchet.dispatch_timeout, fallback: hatchet.fallback };
        Ok(Some(Engine { dispatcher: Arc::new(dispatcher), part, settings }))
    }

    impl Engine {
        /// Joins a gateway that has not started yet; who takes part as a worker, if so.
        pub(crate) fn join(
            self,
            gateway: &Gateway,
            shutdown: &CancellationToken,
        ) -> Option<Arc<dyn Worker>> {
            let Self { dispatcher, part, settings } = self;
            let known = Arc::clone(&dispatcher);
            let until = shutdown.clone();
            tokio::spawn(async move {
                let looked_after = async { tokio::join!(known.make_known(), known.look_after()) };
                until.run_until_cancelled(looked_after).await;
            });
            let dispatcher: Arc<dyn Dispatcher> = dispatcher;
            let Some((worker, orders)) = part else {
                gateway.hand_over_by(dispatcher, settings);
                let (gateway, until) = (gateway.clone(), shutdown.clone());
                tokio::spawn(async move { gateway.keep_dispatch(until).await });
                return None;
            };
            let gateway = gateway.clone();
            tokio::spawn(async move { gateway.work(orders, dispatcher, settings.timeout).await });
            Some(worker)
        }
    }

    /// How the engine stands, for people; nothing to say where there is none.
    pub(crate) async fn look(resolved: &Resolved) -> anyhow::Result<Option<String>> {
        let Some(hatchet) = &resolved.hatchet else { return Ok(None) };
        let client = client(resolved, hatchet)?;
        let version = client.reach(LOOK).await.with_context(|| place(hatchet))?;
        let token = token(hatchet)?;
        let mut said = format!(
            "{} answers, version {version}, to a token of its tenant {}",
            client.address(),
            token.tenant()
        );
        if version != ENGINE_VERSION {
            said.push_str(&format!("; {ENGINE_VERSION} is what this program was tried with"));
        }
        if let Some(left) = token.remaining(SystemTime::now()).filter(|left| *left < SOON) {
            said.push_str(&format!("; its token ends in {} days", left.as_secs() / 86_400));
        }
        Ok(Some(said))
    }

    /// Where in the configuration the token is.
    fn place(hatchet: &HatchetSettings) -> String {
        format!("\"{}\" in [hatchet]", hatchet.token_key)
    }

    fn token(hatchet: &HatchetSettings) -> anyhow::Result<Token> {
        Ok(Token::decode(hatchet.token.expose())?)
    }

    fn client(resolved: &Resolved, hatchet: &HatchetSettings) -> anyhow::Result<HatchetClient> {
        let StoreSettings::Postgres(database) = &resolved.store else {
            anyhow::bail!("it needs [store] kind = \"postgres\"");
        };
        let token = token(hatchet)?;
        let address = hatchet.address.as_deref().or(token.address()).unwrap_or_default();
        let wanted =
            hatchet.tls.unwrap_or(if is_near(address) { Wanted::Off } else { Wanted::Verify });
        let tls = match wanted {
            Wanted::Off => Tls::Off,
            Wanted::Verify => Tls::On { authority: authorities(hatchet)?, name: None },
        };
        let workflow = Workflow {
            namespace: hatchet.namespace.as_deref().map(Into::into),
            timeouts: Timeouts { accumulate: STEP, run_agent: STEP, ..Timeouts::default() },
            ..Workflow::default()
        };
        let cluster = format!("{}/{}", database.cluster, database.schema);
        let address = hatchet.address.as_deref().map(Into::into);
        let settings = Client { address, tls, workflow, ..Client::new(token, &cluster) };
        Ok(HatchetClient::new(settings)?)
    }

    fn authorities(hatchet: &HatchetSettings) -> anyhow::Result<Option<Arc<str>>> {
        let Some(file) = &hatchet.tls_authorities else { return Ok(None) };
        let read = std::fs::read_to_string(file);
        let pem = read.with_context(|| format!("can't read {}", file.display()))?;
        Ok(Some(pem.into()))
    }

    /// Whether an address is on this machine.
    fn is_near(address: &str) -> bool {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

#[cfg(not(feature = "hatchet"))]
mod inner {
    use std::sync::Arc;

    use tokio_util::sync::CancellationToken;
    use turnkeep_core::ports::dispatch::Worker;
    use turnkeep_gateway::Gateway;

    use crate::config::Resolved;
    use crate::role::Role;
    use crate::wiring::stores::Stores;

    const WITHOUT: &str = "[hatchet]: this program was built without it (`--features hatchet`)";

    /// Nothing.
    pub(crate) enum Engine {}

    pub(crate) fn open(
        resolved: &Resolved,
        role: Role,
        _: &Stores,
    ) -> anyhow::Result<Option<Engine>> {
        anyhow::ensure!(!super::is_used(resolved, role), WITHOUT);
        Ok(None)
    }

    impl Engine {
        pub(crate) fn join(self, _: &Gateway, _: &CancellationToken) -> Option<Arc<dyn Worker>> {
            match self {}
        }
    }

    pub(crate) async fn look(resolved: &Resolved) -> anyhow::Result<Option<String>> {
        anyhow::ensure!(resolved.hatchet.is_none(), WITHOUT);
        Ok(None)
    }
}
