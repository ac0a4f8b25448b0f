//! `turnkeep bench`: drives a server, one of its own unless another is named.

mod server;

use std::io::Write as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;
use turnkeep_bench::Plan;

use self::server::{LOUD_PER_SECOND, LOUD_TENANT, OwnServer, guard_note};
use crate::cli::BenchArgs;

/// Connections over which a tenant sends more than it may, unless said otherwise.
const LOUD_CONNECTIONS: usize = 64;

/// Customers who do.
const LOUD_CUSTOMERS: u64 = 100;

/// Does what was asked.
pub(crate) fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    if let Some(path) = &args.picture {
        check_picture(path)?;
    }
    let own = match args.server.is_empty() {
        false => None,
        true => Some(OwnServer::start(&args, |data| prefill(data, args.prefill))?),
    };
    let servers = match &own {
        Some(own) => vec![own.address],
        None => args.server.iter().map(|url| resolve(url)).collect::<anyhow::Result<_>>()?,
    };
    let plan = plan(&args, own.as_ref().map(OwnServer::pid));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut report = runtime.block_on(async {
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                stopping.cancel();
            }
        });
        turnkeep_bench::run_until(&plan, &servers, stop).await
    })?;
    if let Some(own) = &own {
        report.notes.push(guard_note(&args));
        match own.fsync_p50_ms() {
            Ok(p50_ms) => report.disk_fsync_p50_ms = Some(p50_ms),
            Err(error) => report.notes.push(format!("its disk was not measured: {error:#}")),
        }
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", report.render(args.json))?;
    if let Some(own) = own.filter(|_| !args.json) {
        writeln!(out, "the server was ready {} ms after its start", own.ready_after.as_millis())?;
    }
    let undrawn = args.picture.is_some() && report.picture.is_none();
    Ok(if undrawn { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A picture that can't be written is better said before the run than after it.
fn check_picture(path: &Path) -> anyhow::Result<()> {
    let was_there = path.exists();
    std::fs::File::options()
        .append(true)
        .create(true)
        .open(path)
        .with_context(|| format!("--picture: can't write {}", path.display()))?;
    if !was_there {
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

fn plan(args: &BenchArgs, own_pid: Option<u32>) -> Plan {
    let window_ms = turnkeep_core::policy::channel_facts(&args.channel)
        .map_or(0, |facts| u64::from(facts.window_ms));
    let load = &args.load;
    let messages = args.messages.or(if args.duration.is_none() { Some(10) } else { None });
    Plan {
        users: load.senders.unwrap_or(args.users),
        messages: if load.senders.is_some() { Some(1) } else { messages },
        duration: args.duration.map(Duration::from_secs),
        delay_ms: args.delay_ms,
        window_ms,
        burst: args.burst,
        burst_gap_ms: args.burst_gap_ms,
        wait: !args.no_wait && load.senders.is_none(),
        tenants: load.tenants,
        rate_per_second: load.rate,
        obey_retry_after: !load.impatient,
        channel: args.channel.clone(),
        flood_connections: args.flood.or(load.over_limit.map(|_| LOUD_CONNECTIONS)),
        flood_tenant: load.over_limit.map(|_| LOUD_TENANT.to_owned()),
        flood_customers: load.over_limit.map_or(1, |_| LOUD_CUSTOMERS),
        flood_rate_per_second: load.over_limit.map(|times| times * f64::from(LOUD_PER_SECOND)),
        slow_connections: load.slow_connections,
        picture: args.picture.clone(),
        server_pid: own_pid,
        json: args.json,
        // Its own server has no keys.
        api_key: own_pid.is_none().then(|| std::env::var("TURNKEEP_KEY").ok()).flatten(),
        ..Plan::default()
    }
}

fn resolve(url: &str) -> anyhow::Result<SocketAddr> {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    anyhow::ensure!(!rest.contains("://"), "{url}: the bench speaks plain http only");
    let host = rest.split('/').next().unwrap_or(rest);
    let with_port = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    with_port
        .to_socket_addrs()
        .with_context(|| format!("{url} is not an address like http://127.0.0.1:7878"))?
        .next()
        .with_context(|| format!("{host} has no address"))
}

fn prefill(data: &Path, sessions: u64) -> anyhow::Result<()> {
    if sessions == 0 {
        return Ok(());
    }
    let style = ProgressStyle::with_template("{msg} {bar:40} {human_pos}/{human_len} {eta}")?;
    let bar = ProgressBar::new(sessions).with_style(style).with_message("idle sessions");
    turnkeep_stores::prefill(data, sessions, &mut |done| bar.set_position(done))?;
    bar.finish_and_clear();
    Ok(())
}
