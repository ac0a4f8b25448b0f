//! How many commits a second a store makes durable:
//! `cargo run --release -p turnkeep-stores --example commit_rate -- [SECONDS] [SESSIONS] [seen] [DIR]`
//!
//! It is SQLite in DIR, or PostgreSQL where `postgres://user@host/database` stands in its place;
//! then the tables are made in a schema of their own, `commit_rate`.
//!
//! Every session is a task of its own that does turns one after the other, two commits each, in
//! the shape that the gateway gives them. With `seen` each message carries an id of its own.
//! What a former run left open in DIR (it may have been killed) is loaded first, as at a start.
//! With `prefill=N` N idle sessions are written there before anything else.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use turnkeep_core::accumulation::Deadline;
use turnkeep_core::message::{MessageBody, Pending, Seen};
use turnkeep_core::ports::store::{
    Commit, CommitOutcome, FirstDecision, Guard, Rows, Store, TurnRow, TurnStatus,
};
use turnkeep_core::session::{SEEN_KEPT_MS, Stage, Turn};
use turnkeep_core::{
    Action, Attempt, Event, EventBody, Session, SessionKey, SessionKind, TimerId, Timestamp, Trust,
    TurnGroupId, TurnId, Version,
};
#[cfg(feature = "postgres")]
use turnkeep_stores::{PostgresSettings, PostgresStore};
use turnkeep_stores::{SqliteOptions, SqliteStore};
use uuid::Uuid;

const NOW: Timestamp = 1_790_000_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| {
        arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (seconds, sessions) = (number(0, 10), number(1, 1000));
    let with_seen = arguments.iter().any(|text| text == "seen");
    let temporary = tempfile::tempdir()?;
    #[cfg(feature = "postgres")]
    if let Some(url) = arguments.iter().find(|text| text.starts_with("postgres")) {
        return measure_postgres(url, seconds, sessions, with_seen);
    }
    let dir = arguments.iter().find(|text| text.contains('/')).map(PathBuf::from);
    let dir = dir.unwrap_or_else(|| temporary.path().to_path_buf());
    let idle = arguments.iter().find_map(|text| text.strip_prefix("prefill=")?.parse().ok());
    if let Some(idle) = idle {
        let began = Instant::now();
        turnkeep_stores::prefill(&dir, idle, |_| {})?;
        println!("{idle} idle sessions written in {:.1?}", began.elapsed());
    }
    let opened = Instant::now();
    let store = Arc::new(SqliteStore::open(&dir, SqliteOptions::default())?);
    println!("opened in {:.1?}, {} MB resident", opened.elapsed(), resident_mb());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
    runtime.block_on(measure(&store, seconds, sessions, with_seen));
    print_threads(&*store);
    drop(runtime);
    let size = std::fs::metadata(dir.join("turnkeep.db"))?.len();
    let commits = store.stats().commits.max(1);
    println!("database {} MB, {} bytes a commit", size >> 20, size / commits);
    Ok(())
}

/// The same over the network. What the server uses is not counted here.
#[cfg(feature = "postgres")]
fn measure_postgres(
    url: &str,
    seconds: u64,
    sessions: u64,
    with_seen: bool,
) -> Result<(), Box<dyn std::error::Error>> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut settings = PostgresSettings::new(url, "commit_rate");
        settings.schema = "commit_rate".into();
        let opened = Instant::now();
        let store = Arc::new(PostgresStore::open(settings).await?);
        println!("opened in {:.1?}, {} MB resident", opened.elapsed(), resident_mb());
        measure(&store, seconds, sessions, with_seen).await;
        print_threads(&*store);
        store.close().await;
        Ok(())
    })
}

fn print_threads(store: &impl Store) {
    for (name, seconds) in thread_seconds() {
        let share = seconds * 1e6 / store.stats().commits.max(1) as f64;
        println!("thread {name}: {seconds:.2} s of CPU, {share:.2} us a commit");
    }
}

/// What each thread of this process has used; nothing where the system doesn't say.
fn thread_seconds() -> Vec<(String, f64)> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let stats = tasks.flatten().filter_map(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        let ticks =
            rest.split_whitespace().skip(11).take(2).filter_map(|text| text.parse::<f64>().ok());
        // A tick is a hundredth of a second on every Linux that matters.
        Some((name.to_string(), ticks.sum::<f64>() / 100.0))
    });
    stats.collect()
}

/// What a start does: finds open work and loads it, many at once.
async fn recover<S: Store>(store: &Arc<S>) {
    let began = Instant::now();
    let open = store.open_work(Timestamp::MAX, None, usize::MAX).await.unwrap_or_default();
    let found = began.elapsed();
    let loads: Vec<_> = open
        .into_iter()
        .map(|(_, key)| {
            let store = Arc::clone(store);
            tokio::spawn(async move { store.load(&key).await.is_ok_and(|loaded| loaded.is_some()) })
        })
        .collect();
    let mut loaded = 0;
    for load in loads {
        loaded += u32::from(load.await.unwrap_or(false));
    }
    println!(
        "{loaded} open sessions found in {found:.1?}, loaded after {:.1?}, {} MB resident",
        began.elapsed(),
        resident_mb()
    );
}

fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) / 1024
}

async fn measure<S: Store>(store: &Arc<S>, seconds: u64, sessions: u64, with_seen: bool) {
    recover(store).await;
    let stop = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..sessions)
        .map(|number| {
            let (store, stop) = (Arc::clone(store), Arc::clone(&stop));
            tokio::spawn(async move { chat(&*store, number, with_seen, &stop).await })
        })
        .collect();
    let began = Instant::now();
    let mut before = store.stats();
    let mut second = began;
    for _ in 0..seconds {
        second += Duration::from_secs(1);
        tokio::time::sleep_until(second.into()).await;
        let now = store.stats();
        println!(
            "{:>7} commits/s {:>5} fsyncs {:>4} batches {:>3} checkpoints {:>7} wal pages",
            now.commits - before.commits,
            now.fsyncs - before.fsyncs,
            now.batches - before.batches,
            now.checkpoints - before.checkpoints,
            now.wal_pages,
        );
        before = now;
    }
    stop.store(true, Ordering::Relaxed);
    let mut waits = Vec::new();
    for task in tasks {
        waits.extend(task.await.unwrap_or_default());
    }
    let elapsed = began.elapsed();
    waits.sort_unstable();
    let at = |share: f64| waits.get((waits.len() as f64 * share) as usize).copied().unwrap_or(0);
    let stats = store.stats();
    println!("{stats:?}");
    println!(
        "{:.0} commits/s over {elapsed:.1?}, {:.4} fsyncs a commit; \
         a commit takes p50 {} us, p99 {} us, p99.9 {} us, at most {} us",
        stats.commits as f64 / elapsed.as_secs_f64(),
        stats.fsyncs as f64 / stats.commits.max(1) as f64,
        at(0.5),
        at(0.99),
        at(0.999),
        waits.last().copied().unwrap_or(0)
    );
}

/// Turns of one session until the end; the microseconds that each commit took.
async fn chat(store: &impl Store, number: u64, with_seen: bool, stop: &AtomicBool) -> Vec<u32> {
    let peer = format!("customer-{number:06}");
    let Ok(key) = SessionKey::new("default", "default", "api", SessionKind::Dm, &peer) else {
        return Vec::new();
    };
    let mut session = Session::new();
    let mut version = Version(0);
    let mut waits = Vec::new();
    if let Ok(Some(loaded)) = store.load(&key).await {
        session = Session::clone(&loaded.session);
        version = loaded.version;
    }
    while !stop.load(Ordering::Relaxed) {
        let message_id: Arc<str> = Uuid::now_v7().to_string().into();
        let (begun, rows) = begin(&session, &key, &message_id, with_seen);
        let (ended, end_rows) = end(&begun, &message_id);
        for (next, rows) in [(begun, rows), (ended, end_rows)] {
            session = next.clone();
            let wake_at = session.turn.is_some().then_some(session.updated_at + 300_000);
            let commit = Commit {
                key: key.clone(),
                expected: version,
                session: Arc::new(next),
                wake_at,
                rows,
            };
            let asked = Instant::now();
            match store.commit(commit).await {
                Ok(CommitOutcome::Committed(next)) => version = next,
                other => panic!("{key}: {other:?}"),
            }
            waits.push(u32::try_from(asked.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
    }
    waits
}

fn event(session: &mut Session, body: EventBody) -> Event {
    session.last_seq = session.last_seq.next();
    Event { seq: session.last_seq, at: session.updated_at, body }
}

fn begin(
    before: &Session,
    key: &SessionKey,
    message_id: &Arc<str>,
    with_seen: bool,
) -> (Session, Rows) {
    let mut session = before.clone();
    session.updated_at = before.updated_at.max(NOW) + 1;
    let id = TurnId(Uuid::now_v7());
    let body = Arc::new(MessageBody {
        message_id: Arc::clone(message_id),
        sender: "customer".into(),
        text: "Where is my order 4711? It should have been here by now.".into(),
    });
    let accepted = EventBody::MessageAccepted {
        message_id: Arc::clone(&body.message_id),
        sender: Arc::clone(&body.sender),
        text: Arc::clone(&body.text),
        trust: Trust::Public,
        action: Action::WorkflowStarted,
        turn_id: Some(id),
        queue_position: None,
        retry_of: None,
        held: false,
        disappears_s: None,
    };
    let accepted = event(&mut session, accepted);
    let (seq, at) = (accepted.seq, accepted.at);
    let pending = Pending { seq, at, trust: Trust::Public, alone: false, group: None, body };
    let turn = running(&mut session, id, pending);
    let started = EventBody::TurnStarted {
        turn_id: id,
        turn_group_id: turn.group,
        messages: turn.seqs(),
        supersedes: None,
    };
    let processing = EventBody::TurnProcessing {
        turn_id: id,
        attempt: turn.attempt,
        epoch: turn.epoch,
        messages: turn.seqs(),
    };
    session.turn = Some(Box::new(turn));
    let started = event(&mut session, started);
    let processing = event(&mut session, processing);
    let mut rows = Rows { events: vec![accepted, started, processing], ..Rows::default() };
    rows.put_turn(row(&session, id, TurnStatus::Processing, message_id));
    if with_seen {
        rows.guards.push(Guard::NotSeen {
            seen: Seen { key: *scattered().as_bytes(), body_hash: 7 },
            first: FirstDecision {
                session: key.clone(),
                seq,
                action: Action::WorkflowStarted,
                turn: Some(id),
                queue_position: None,
            },
            until: session.updated_at + SEEN_KEPT_MS,
        });
    }
    (session, rows)
}

fn running(session: &mut Session, id: TurnId, pending: Pending) -> Turn {
    session.last_timer = TimerId(session.last_timer.0 + 1);
    let window = Deadline { id: session.last_timer, at: session.updated_at, duration_ms: 0 };
    Turn {
        id,
        group: TurnGroupId(id.0),
        trust: pending.trust,
        epoch: session.epoch,
        attempt: Attempt(1),
        errors: 0,
        recoveries: 0,
        chain: 0,
        committed: false,
        stopping: false,
        started_at: session.updated_at,
        stage: Stage::Accumulating { window },
        messages: [pending].into_iter().collect(),
        given: 1,
        absorbed: 0,
        mailbox: Vec::new(),
        query: None,
        answered: None,
        stopped_in: SmallVec::new(),
        open_calls: SmallVec::new(),
        acted: false,
        finishing: None,
        held: SmallVec::new(),
        done: turnkeep_core::session::Done::default(),
    }
}

fn end(before: &Session, message_id: &Arc<str>) -> (Session, Rows) {
    let mut session = before.clone();
    session.updated_at += 1;
    let Some(turn) = session.turn.take() else { return (session, Rows::default()) };
    let reply: Arc<str> = "echo: Where is my order 4711? It should have been here by now.".into();
    let completed = EventBody::TurnCompleted {
        turn_id: turn.id,
        attempt: turn.attempt,
        epoch: turn.epoch,
        messages: turn.seqs(),
        reply: Some(Arc::clone(&reply)),
        version: None,
        by: None,
    };
    let completed = event(&mut session, completed);
    let mut rows = Rows { events: vec![completed], ..Rows::default() };
    rows.put_turn(TurnRow {
        ended_at: Some(session.updated_at),
        reply: Some(reply),
        ..row(&session, turn.id, TurnStatus::Complete, message_id)
    });
    (session, rows)
}

fn row(session: &Session, id: TurnId, status: TurnStatus, message_id: &Arc<str>) -> TurnRow {
    TurnRow {
        id,
        group: TurnGroupId(id.0),
        status,
        attempt: Attempt(1),
        epoch: session.epoch,
        started_at: session.updated_at,
        ended_at: None,
        message_ids: [Arc::clone(message_id)].into_iter().collect(),
        reply: None,
        error: None,
        version: None,
        by: None,
    }
}

/// An id without any order, as the hash of a dedupe key has none.
fn scattered() -> Uuid {
    let (high, low) = Uuid::now_v7().as_u64_pair();
    let mix = |value: u64| {
        let value = (value ^ (value >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (value ^ (value >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    };
    Uuid::from_u64_pair(mix(high ^ low), mix(low))
}
