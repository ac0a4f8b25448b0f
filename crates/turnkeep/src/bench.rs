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
    if let Some(path) = &args.picture {
        check_picture(path)?;
    }
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
    let mut report = runtime.block_on(async {
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                stopping.cancel();
            }
        });
        turnkeep_bench::run_until(&plan, address, stop).await
    })?;
    if own.is_some() {
        report.notes.push(guard_note(args.guard).to_owned());
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", report.render(args.json))?;
    if let Some(own) = own.filter(|_| !args.json) {
        writeln!(out, "the server was ready {} ms after its start", own.ready_after.as_millis())?;
    }
    let undrawn = args.picture.is_some() && report.picture.is_none();
    Ok(if undrawn { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What the bench's own server is told of its guard: its users write faster than any person, so it
/// is off, or its limits are so high that nobody meets them.
const fn guard_config(on: bool) -> &'static str {
    if on {
        "[gateway]\nglobal_rate_per_minute = 100000000\nglobal_rate_burst = 100000000\n\
         [tenants.default]\nrate_per_minute = 100000000\nrate_burst = 100000000\n\
         tenant_rate_per_minute = 100000000\ntenant_rate_burst = 100000000\n"
    } else {
        "[gateway]\nrate_limiting_enabled = false\nabuse_detection_enabled = false\n"
    }
}

const fn guard_note(on: bool) -> &'static str {
    if on {
        "the server's guard was on, with limits that nobody meets"
    } else {
        "the server's guard was off: no rates, no look for abuse (--guard leaves it on)"
    }
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
        // Its own server has no keys.
        api_key: args.server.as_ref().and_then(|_| std::env::var("TURNKEEP_KEY").ok()),
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
        file.write_all(guard_config(args.guard).as_bytes())?;
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
