//! `turnkeep serve`: from a configuration to a running server, and back to rest.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use turnkeep_core::ports::dispatch::Worker;
use turnkeep_core::ports::keys::Keys;
use turnkeep_gateway::access::Access;
use turnkeep_gateway::http::{self, Http, HttpSettings};
use turnkeep_gateway::{Current, Gateway};

use crate::config::Resolved;
use crate::config::store::StoreSettings;
use crate::logging::Log;
use crate::reload::{Reloader, Running, Source};
use crate::role::Role;
use crate::telemetry::Exporter;
use crate::wiring::stores::{Purpose, Stores};
use crate::{killpoint, logging, wiring};

/// The name of the socket in the data folder.
pub(crate) const SOCKET: &str = "turnkeep.sock";
/// A second signal that comes sooner is an echo of the first.
const SIGNALS_APART: Duration = Duration::from_secs(1);
/// The exit code of a server that can't go on under its number: for whoever starts it again.
const PUT_OUT: u8 = 75;
/// How often histograms are folded.
const UPKEEP: Duration = Duration::from_secs(5);

/// Runs the server until it is told to stop.
pub(crate) fn run(resolved: Resolved, source: Source, role: Role) -> anyhow::Result<ExitCode> {
    let (_lines, log) = logging::start(&resolved.log)?;
    for note in &resolved.notes {
        tracing::warn!("{note}");
    }
    if let Some(hook) = killpoint::hook() {
        turnkeep_gateway::killpoint::set_hook(hook);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(resolved, source, log, role))
}

async fn serve(
    resolved: Resolved,
    source: Source,
    log: Log,
    role: Role,
) -> anyhow::Result<ExitCode> {
    shares(&resolved, role)?;
    let mut signals = Signals::new()?;
    // From here on a hangup reloads, and one that comes too early waits.
    let hangups = signal(SignalKind::hangup())?;
    // Ports before heavy work: a wrong address shall be known at once.
    let listener = listen(&resolved).await?;
    let address = listener.local_addr()?;
    let mut stores = wiring::stores::open(&resolved.stored(), purpose(role)).await?;
    stores.hints = or_leave(&stores, wiring::hints::open(&resolved, &stores).await).await?;
    let socket = or_leave(&stores, listen_unix(&resolved)).await?;
    let recorder = recorder()?;
    let settings: Current<HttpSettings> = http_settings(&resolved, address, role).into();
    let access = or_leave(&stores, access(stores.keys.clone(), address).await).await?;
    let telemetry = wiring::telemetry(&resolved)?;
    let engine = wiring::hatchet::open(&resolved, role, &stores)?;
    let wired = wiring::wire(resolved, None)?;
    let gateway = wired.gateway(&stores, telemetry.as_ref(), role);
    let running = Running { gateway: gateway.clone(), http: settings.clone(), address, log, role };
    let hears = wired.hears(role);
    let reloader = Reloader::new(source, running, wired);
    let shutdown = CancellationToken::new();
    let spans = telemetry.as_ref().map(|telemetry| Arc::clone(&telemetry.exporter));
    let http = Http {
        gateway: gateway.clone(),
        access: access.clone(),
        settings,
        reload: Some(Arc::new(reloader.clone())),
        render_metrics: render(gateway.clone(), recorder.clone(), reloader.clone(), spans),
    };
    let tcp = tokio::spawn(http::serve(http.clone(), listener, shutdown.clone()));
    let unix = tokio::spawn(http::serve_unix(http, socket, shutdown.clone()));
    let part = engine.and_then(|engine| engine.join(&gateway, &shutdown));
    let taken = gateway.start().await.context("open work could not be taken up")?;
    if taken > 0 {
        tracing::info!(sessions = taken, "open work was taken up");
    }
    gateway.hear(hears).await;
    look_after(&gateway, role, &shutdown);
    let until = shutdown.clone();
    tokio::spawn(async move { access.tend(until).await });
    tokio::spawn(upkeep(recorder, shutdown.clone()));
    tokio::spawn(reloader.follow(hangups, shutdown.clone()));
    announce(address);
    let name = tokio::select! {
        name = signals.next() => name,
        why = &mut stores.put_out => {
            tracing::error!("{why}");
            return Ok(ExitCode::from(PUT_OUT));
        }
    };
    tracing::info!(signal = name, "draining; the same signal again ends at once");
    tokio::select! {
        () = async {
            retire(&gateway, part).await;
            shutdown.cancel();
            let _ = tokio::join!(tcp, unix);
            // Last, when everything has come to its end.
            if let Some(telemetry) = telemetry {
                telemetry.flush().await;
            }
        } => tracing::info!("everything is at rest"),
        _ = signals.next_but_not_at_once() => tracing::warn!("ended at once; open turns recover at the next start"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Others need not wait for the place of a server that does not start.
async fn or_leave<T>(stores: &Stores, given: anyhow::Result<T>) -> anyhow::Result<T> {
    if given.is_err() {
        stores.close().await;
    }
    given
}

/// Roles are for servers that share a store.
fn shares(resolved: &Resolved, role: Role) -> anyhow::Result<()> {
    if role != Role::All && resolved.store == StoreSettings::Sqlite {
        let role = role.as_str();
        anyhow::bail!(
            "the role {role} is for servers that share a database: it needs [store] kind = \
             \"postgres\""
        );
    }
    Ok(())
}

const fn purpose(role: Role) -> Purpose {
    if role.runs() { Purpose::Serve } else { Purpose::Relay }
}

/// What goes on beside everything else, until the shutdown.
fn look_after(gateway: &Gateway, role: Role, shutdown: &CancellationToken) {
    let (sweeper, until) = (gateway.clone(), shutdown.clone());
    tokio::spawn(async move { sweeper.sweep(until).await });
    let (operator, until) = (gateway.clone(), shutdown.clone());
    tokio::spawn(async move { operator.keep_switchboard(until).await });
    if role == Role::Worker {
        return;
    }
    let (keeper, until) = (gateway.clone(), shutdown.clone());
    tokio::spawn(async move { keeper.keep(until).await });
    let (clerk, until) = (gateway.clone(), shutdown.clone());
    tokio::spawn(async move { clerk.keep_schedule(until).await });
}

/// Comes to rest; an engine that gives this server steps is told first, and goes on elsewhere.
async fn retire(gateway: &Gateway, part: Option<Arc<dyn Worker>>) {
    if let Some(worker) = &part {
        worker.drain().await;
    }
    gateway.drain().await;
    if let Some(worker) = part {
        worker.leave().await;
    }
}

/// The keys; and no server that other machines can reach without one.
async fn access(store: Arc<dyn Keys>, address: SocketAddr) -> anyhow::Result<Access> {
    let beyond = !address.ip().to_canonical().is_loopback();
    let access = Access::open(store, beyond).await.context("the keys can't be read")?;
    if beyond && access.usable_keys() == 0 {
        anyhow::bail!(
            "{address} can be reached by other machines, and there is no API key that opens \
             anything: make one with `turnkeep keys create --tenant TENANT --scope send,read`, or \
             listen on 127.0.0.1:{}",
            address.port()
        );
    }
    Ok(access)
}

/// Says where it listens. A standard output that can't be written to is no reason to fall over.
fn announce(address: SocketAddr) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = writeln!(out, "listening on http://{address}").and_then(|()| out.flush()) {
        tracing::warn!(%error, %address, "listening, but standard output can't be written to");
    }
}

async fn upkeep(recorder: PrometheusHandle, shutdown: CancellationToken) {
    let mut beat = tokio::time::interval(UPKEEP);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = beat.tick() => recorder.run_upkeep(),
        }
    }
}

async fn listen(resolved: &Resolved) -> anyhow::Result<TcpListener> {
    let address = resolved.listen;
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "{address} is in use, perhaps by another Turnkeep: stop it, or choose another address \
             with --listen (port 0 takes a free one)"
        ),
        _ => anyhow::Error::new(error).context(format!("cannot listen on {address}")),
    })
}

/// The socket that the command line uses; only its owner may connect. The store's lock is held, so
/// a socket that is still there belongs to nobody.
fn listen_unix(resolved: &Resolved) -> anyhow::Result<UnixListener> {
    let path = resolved.data_dir.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot replace {}", path.display()));
        }
        _ => {}
    }
    let socket = UnixListener::bind(&path)
        .with_context(|| format!("cannot make the socket {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(socket)
}

fn recorder() -> anyhow::Result<PrometheusHandle> {
    let latency = Matcher::Full("turn_gateway_latency_ms".to_owned());
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(latency, &[1.0, 5.0, 10.0, 25.0, 50.0, 100.0])?;
    Ok(builder.install_recorder()?)
}

fn render(
    gateway: Gateway,
    recorder: PrometheusHandle,
    reloader: Reloader,
    spans: Option<Arc<Exporter>>,
) -> Arc<dyn Fn() -> String + Send + Sync> {
    let started = SystemTime::now();
    Arc::new(move || {
        let measured = gateway.measure();
        let mut text = recorder.render();
        text.push_str(&measured);
        text.push_str(&crate::signal::metrics(&gateway.accounts("signal")));
        text.push_str(&crate::hints::metrics(gateway.hints_health()));
        text.push_str(&crate::dispatch::metrics(gateway.dispatch_view().as_ref()));
        text.push_str(&crate::process::metrics(started));
        text.push_str(&reloader.metrics());
        text.extend(spans.as_ref().map(|spans| spans.metrics()));
        text
    })
}

/// What the HTTP side lives by.
pub(crate) fn http_settings(resolved: &Resolved, address: SocketAddr, role: Role) -> HttpSettings {
    let limits = &resolved.gateway;
    HttpSettings {
        body_bytes_max: limits.body_bytes_max,
        connections_max: limits.connections_max,
        connections_per_address_max: limits.connections_per_address_max,
        header_timeout: limits.header_timeout,
        wait_seconds_max: limits.wait_max.as_secs(),
        hosts: resolved.hosts.clone(),
        listen: Some(address),
        trusted_proxies: resolved.trusted_proxies.clone(),
        health_only: role == Role::Worker,
        ..HttpSettings::default()
    }
}

/// What ends the server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next one that somebody means: who signals a process and its group sends two at once.
    async fn next_but_not_at_once(&mut self) -> &'static str {
        let since = tokio::time::Instant::now();
        loop {
            let name = self.next().await;
            if since.elapsed() >= SIGNALS_APART {
                return name;
            }
        }
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
