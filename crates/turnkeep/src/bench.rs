//! `turnkeep bench`: drives a server, one of its own unless another is named.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use turnkeep_bench::Plan;

use crate::cli::BenchArgs;

/// Does what was asked.
pub(crate) fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    let own = match &args.server {
        Some(_) => None,
        None => Some(OwnServer::start(&args)?),
    };
    let address = match (&args.server, &own) {
        (Some(url), _) => resolve(url)?,
        (None, Some(own)) => own.address,
        (None, None) => anyhow::bail!("there is no server to drive"),
    };
    let plan = plan(&args, own.as_ref().map(|own| own.child.id()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                stopping.cancel();
            }
        });
        turnkeep_bench::run_until(&plan, address, stop).await
    })?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", report.render(args.json))?;
    if let Some(own) = own.filter(|_| !args.json) {
        writeln!(out, "the server was ready {} ms after its start", own.ready_after.as_millis())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn plan(args: &BenchArgs, own_pid: Option<u32>) -> Plan {
    let window_ms = turnkeep_core::policy::channel_facts(&args.channel)
        .map_or(0, |facts| u64::from(facts.window_ms));
    Plan {
        users: args.users,
        messages: args.messages.or(if args.duration.is_none() { Some(10) } else { None }),
        duration: args.duration.map(Duration::from_secs),
        delay_ms: args.delay_ms,
        window_ms,
        burst: args.burst,
        burst_gap_ms: args.burst_gap_ms,
        wait: !args.no_wait,
        channel: args.channel.clone(),
        flood_connections: args.flood,
        picture: args.picture.clone(),
        server_pid: own_pid,
        json: args.json,
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

/// A server in a process of its own, so that its CPU time and memory can be told from ours. Its
/// data folder goes when it goes.
struct OwnServer {
    child: Child,
    address: SocketAddr,
    ready_after: Duration,
    _dir: TempDir,
}

impl OwnServer {
    fn start(args: &BenchArgs) -> anyhow::Result<Self> {
        let dir = TempDir::with_prefix("turnkeep-bench-")?;
        let data = dir.path().join("data");
        if args.prefill > 0 {
            prefill(&data, args.prefill)?;
        }
        let config = dir.path().join("bench.toml");
        let mut file = std::fs::File::create(&config)?;
        writeln!(file, "[agents.default]\nkind = \"echo\"\ndelay_ms = {}", args.delay_ms)?;
        let log = std::fs::File::create(dir.path().join("server.log"))?;
        let started = Instant::now();
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(&config)
            .arg("--data-dir")
            .arg(&data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("the bench's own server could not be started")?;
        let stdout = child.stdout.take().context("the server has no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let Some(address) = line.trim().strip_prefix("listening on http://") else {
            let log = std::fs::read_to_string(dir.path().join("server.log")).unwrap_or_default();
            anyhow::bail!("the bench's own server did not start: {}", log.trim());
        };
        let address = address.parse()?;
        Ok(Self { child, address, ready_after: started.elapsed(), _dir: dir })
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        // Its data is thrown away with it, so there is nothing to wait for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn prefill(data: &Path, sessions: u64) -> anyhow::Result<()> {
    let style = ProgressStyle::with_template("{msg} {bar:40} {human_pos}/{human_len} {eta}")?;
    let bar = ProgressBar::new(sessions).with_style(style).with_message("idle sessions");
    turnkeep_stores::prefill(data, sessions, &mut |done| bar.set_position(done))?;
    bar.finish_and_clear();
    Ok(())
}
