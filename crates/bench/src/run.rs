//! Conducts a run: starts the users, watches the clock and the caller's stop signal, and
//! makes the report from what was entered into the books.
//!
//! A run ends in one of three ways. All messages are sent; or the time is over, then
//! nothing more is begun and turns in flight get a little longer; or the caller stops it,
//! then everything is dropped at once. Each way yields a report.

use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::book::Book;
use crate::driver::{
    DIALLING_MAX, OPEN_CONNECTIONS_MAX, Run, closed_user, flood, open_users, paced_user,
};
use crate::gauge::Reading;
use crate::progress::{Progress, TICK};
use crate::report::{Ended, Observed, Report};
use crate::request::Requests;
use crate::slow::{SlowBook, slow};
use crate::{BenchError, Dial, Plan, TcpDial, gauge, picture};

/// After the time is over, turns in flight may take this much longer than expected.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// Runs the plan against the server at `address`.
pub async fn run(plan: &Plan, address: SocketAddr) -> Result<Report, BenchError> {
    run_until(plan, &[address], CancellationToken::new()).await
}

/// As [`run`], until `stop` is cancelled; then the report covers what was done so far. Several
/// servers are one deployment: users are spread over them, and what they used is added up.
pub async fn run_until(
    plan: &Plan,
    servers: &[SocketAddr],
    stop: CancellationToken,
) -> Result<Report, BenchError> {
    let dial = TcpDial::new(servers).ok_or(BenchError::NoServer)?;
    run_over(plan, dial, stop).await
}

/// As [`run_until`], over connections of any kind.
pub async fn run_over<D: Dial>(
    plan: &Plan,
    dial: D,
    stop: CancellationToken,
) -> Result<Report, BenchError> {
    plan.check()?;
    let target = dial.name();
    let prefix = plan.prefix.clone().unwrap_or_else(fresh_prefix);
    let requests = Requests::new(plan, &prefix, &dial.host());
    let before = match Reading::take(&dial, &requests, plan.server_pid).await {
        Ok(before) => before,
        Err(source) => return Err(BenchError::Unreachable { target, source }),
    };
    let started_at = Instant::now();
    let run = Arc::new(Run {
        plan: plan.clone(),
        requests,
        dial,
        book: Book::new(plan.users, started_at),
        flood_book: Book::for_flood(started_at),
        slow_book: SlowBook::default(),
        rss_max_bytes: AtomicU64::new(0),
        dialling: Semaphore::new(DIALLING_MAX),
        winding_down: CancellationToken::new(),
    });
    let mut beside = start_flood(&run);
    for number in 0..run.plan.slow_connections.unwrap_or_default() {
        beside.spawn(slow(Arc::clone(&run), number));
    }
    let ended = conduct(&run, start_users(&run), stop).await;
    let cut_off = run.book.cut_off(Instant::now());
    beside.shutdown().await;
    let mut observed = Observed {
        target,
        ended,
        elapsed: started_at.elapsed(),
        cut_off,
        before,
        after: Reading::default(),
        rss_max_bytes: Some(run.rss_max_bytes.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0),
        notes: Vec::new(),
    };
    read_again(&run, &mut observed).await;
    let mut report = Report::new(&run.plan, &run.book, &run.flood_book, observed);
    report.slow = run.plan.slow_connections.map(|connections| run.slow_book.figures(connections));
    draw(&run, &mut report).await;
    Ok(report)
}

fn start_users<D: Dial>(run: &Arc<Run<D>>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    if let Some(rate) = run.plan.rate_per_second {
        for user in 0..run.plan.users {
            tasks.spawn(paced_user(Arc::clone(run), user, rate));
        }
    } else if run.plan.wait {
        for user in 0..run.plan.users {
            tasks.spawn(closed_user(Arc::clone(run), user));
        }
    } else {
        let connections = run.plan.users.min(OPEN_CONNECTIONS_MAX);
        for first in 0..connections {
            tasks.spawn(open_users(Arc::clone(run), first, connections));
        }
    }
    tasks
}

fn start_flood<D: Dial>(run: &Arc<Run<D>>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let connections = run.plan.flood_connections.unwrap_or_default() as u64;
    for first in 0..connections {
        tasks.spawn(flood(Arc::clone(run), first, connections));
    }
    tasks
}

enum Wake {
    TaskEnded(Result<(), JoinError>),
    AllEnded,
    TimeIsOver,
    Stopped,
    Tick,
}

/// Waits until the run is over, and says why it ended. No user's task is left then.
async fn conduct<D: Dial>(run: &Run<D>, mut tasks: JoinSet<()>, stop: CancellationToken) -> Ended {
    let mut progress = Progress::start(&run.plan);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let started_at = run.book.started_at();
    let mut limit = run.plan.duration.map(|duration| started_at + duration);
    let mut ended = Ended::AllSent;
    loop {
        let wake = tokio::select! {
            joined = tasks.join_next() => joined.map_or(Wake::AllEnded, Wake::TaskEnded),
            () = at(limit) => Wake::TimeIsOver,
            () = stop.cancelled() => Wake::Stopped,
            _ = ticks.tick() => Wake::Tick,
        };
        match wake {
            Wake::TaskEnded(result) => raise_panic(result),
            Wake::AllEnded => break,
            Wake::TimeIsOver if ended == Ended::AllSent => {
                ended = Ended::TimeOver;
                run.winding_down.cancel();
                let drain = run.plan.expected(run.plan.burst) + DRAIN_LIMIT;
                limit = Some(Instant::now() + drain);
            }
            Wake::TimeIsOver => break,
            Wake::Stopped => {
                ended = Ended::Stopped;
                break;
            }
            Wake::Tick => {
                let (messages, turns) = run.book.progress();
                progress.update(started_at.elapsed(), messages, turns);
                let rss_bytes = run.plan.server_pid.and_then(gauge::rss_bytes).unwrap_or(0);
                run.rss_max_bytes.fetch_max(rss_bytes, Ordering::Relaxed);
            }
        }
    }
    run.winding_down.cancel();
    tasks.shutdown().await;
    progress.finish();
    ended
}

async fn at(limit: Option<Instant>) {
    match limit {
        Some(limit) => sleep_until(limit).await,
        None => std::future::pending().await,
    }
}

/// A task that panicked is a bug here, and its figures can't be trusted.
fn raise_panic(result: Result<(), JoinError>) {
    if let Err(error) = result
        && error.is_panic()
    {
        resume_unwind(error.into_panic());
    }
}

async fn read_again<D: Dial>(run: &Run<D>, observed: &mut Observed) {
    let pid = run.plan.server_pid;
    observed.after = match Reading::take(&run.dial, &run.requests, pid).await {
        Ok(after) => after,
        Err(error) => {
            observed.notes.push(format!("the server did not answer after the run: {error}"));
            Reading::of_processes(pid)
        }
    };
    if observed.after.server_cpu.is_none() {
        let key = "an operator's key with the scope read (TURNKEEP_KEY)";
        observed.notes.push(format!(
            "what the server used is not known: it tells that at /metrics, where it has keys to {key}"
        ));
    }
}

/// A picture that can't be written costs the picture, not the report.
async fn draw<D: Dial>(run: &Run<D>, report: &mut Report) {
    let Some(path) = &run.plan.picture else { return };
    let svg = picture::draw(report, run.book.timeline(), run.flood_book.timeline());
    match tokio::fs::write(path, svg).await {
        Ok(()) => report.picture = Some(path.clone()),
        Err(error) => {
            report.notes.push(format!("no picture at {}: {error}", path.display()));
        }
    }
}

/// A name that no earlier run has used, or the sessions wouldn't be new.
fn fresh_prefix() -> String {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("bench-{:x}", since_epoch.as_millis())
}
