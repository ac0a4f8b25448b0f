//! The bench's own server: a process of its own with what the run asks of it, and its disk.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tempfile::TempDir;

use crate::cli::BenchArgs;

/// The tenant that sends more than it may.
pub(super) const LOUD_TENANT: &str = "bench-loud";

/// What it may, in messages a second.
pub(super) const LOUD_PER_SECOND: u32 = 100;

/// More than anybody sends.
const UNMET: u32 = 100_000_000;

/// What a disk is asked to make durable, as often as an idle server would, to learn how long that
/// takes.
const PROBE_BYTES: usize = 8 * 1024;
const PROBES: usize = 60;
const PROBE_EVERY: Duration = Duration::from_millis(25);
/// The probe's file is overwritten piece by piece, as the store's log is.
const PROBE_PIECES: usize = 16;

/// What the server is told of its guard. Users of a bench write faster than any person, so it is
/// off, or its limits are so high that nobody meets them who isn't meant to.
fn guard_config(args: &BenchArgs) -> String {
    let load = &args.load;
    if !is_guarded(args) {
        return "[gateway]\nrate_limiting_enabled = false\nabuse_detection_enabled = false\n"
            .to_owned();
    }
    let mut config =
        format!("[gateway]\nglobal_rate_per_minute = {UNMET}\nglobal_rate_burst = {UNMET}\n");
    if load.senders.is_some() {
        tenant("default", 1, 1, &mut config);
        return config;
    }
    match load.tenants {
        None => tenant("default", UNMET, UNMET, &mut config),
        Some(tenants) => {
            for number in 0..tenants {
                tenant(&format!("bench-{number}"), UNMET, UNMET, &mut config);
            }
        }
    }
    if load.over_limit.is_some() {
        tenant(LOUD_TENANT, LOUD_PER_SECOND * 60, LOUD_PER_SECOND, &mut config);
    }
    config
}

/// A tenant's rates; those of its customers are met by nobody.
fn tenant(name: &str, per_minute: u32, burst: u32, config: &mut String) {
    // A String takes everything.
    let _ = write!(
        config,
        "[tenants.{name}]\nrate_per_minute = {UNMET}\nrate_burst = {UNMET}\n\
         tenant_rate_per_minute = {per_minute}\ntenant_rate_burst = {burst}\n"
    );
}

fn is_guarded(args: &BenchArgs) -> bool {
    args.guard || args.load.over_limit.is_some() || args.load.senders.is_some()
}

/// What the reader of the figures must know about the guard.
pub(super) fn guard_note(args: &BenchArgs) -> String {
    let load = &args.load;
    if load.senders.is_some() {
        return "the server's guard was on and let nearly nobody in".to_owned();
    }
    match load.over_limit {
        Some(times) => format!(
            "the server's guard was on; only {LOUD_TENANT} met its limit, {LOUD_PER_SECOND} \
             messages a second, at {times} times of it: that is the flood"
        ),
        None if args.guard => "the server's guard was on, with limits that nobody meets".to_owned(),
        None => "the server's guard was off: no rates, no look for abuse (--guard leaves it on)"
            .to_owned(),
    }
}

/// A server in a process of its own, so that its CPU time and memory can be told from ours. Its
/// data folder goes when it goes.
pub(super) struct OwnServer {
    child: Child,
    pub(super) address: SocketAddr,
    pub(super) ready_after: Duration,
    data: PathBuf,
    _dir: TempDir,
}

impl OwnServer {
    /// `prepare` gets the data folder's path before the server does.
    pub(super) fn start(
        args: &BenchArgs,
        prepare: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let dir = TempDir::with_prefix("turnkeep-bench-")?;
        let data = dir.path().join("data");
        prepare(&data)?;
        let config = dir.path().join("bench.toml");
        let mut file = std::fs::File::create(&config)?;
        writeln!(file, "[agents.default]\nkind = \"echo\"\ndelay_ms = {}", args.delay_ms)?;
        file.write_all(guard_config(args).as_bytes())?;
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
        Ok(Self { child, address, ready_after: started.elapsed(), data, _dir: dir })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What an fsync in the data folder takes now, at p50, in milliseconds.
    pub(super) fn fsync_p50_ms(&self) -> anyhow::Result<f64> {
        let path = self.data.join("bench-probe");
        let file = std::fs::File::create(&path)?;
        let piece = [0x5a; PROBE_BYTES];
        // What is overwritten is there already, so that only data is made durable.
        for number in 0..PROBE_PIECES {
            file.write_all_at(&piece, (number * PROBE_BYTES) as u64)?;
        }
        file.sync_all()?;
        let mut times = Vec::with_capacity(PROBES);
        for number in 0..PROBES {
            std::thread::sleep(PROBE_EVERY);
            let began = Instant::now();
            file.write_all_at(&piece, (number % PROBE_PIECES * PROBE_BYTES) as u64)?;
            file.sync_data()?;
            times.push(began.elapsed());
        }
        times.sort_unstable();
        std::fs::remove_file(&path)?;
        Ok(times[times.len() / 2].as_secs_f64() * 1000.0)
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        // Its data is thrown away with it, so there is nothing to wait for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
