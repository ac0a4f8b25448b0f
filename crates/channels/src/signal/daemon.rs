//! A signal-cli that runs by itself.
//!
//! Calls have a connection of their own, and so has each account that hears: an envelope that takes
//! its time holds up the envelopes behind it on the same account, and nothing else. What stands in
//! the buffers of such a connection when we die is lost; signal-cli has no way to be told that
//! something was taken. So little is read ahead, and where that is not enough, signal-cli should be
//! a process of ours.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, UnixStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use turnkeep_core::ports::intake::Intake;

use super::calls::{Answering, CallError, Caller, Calls};
use super::ear::Ear;
use super::http::{Event, HttpCalls};
use super::lines::{LINE_BYTES_MAX, Line, Lines};
use super::message::{self, Told};
use super::{Again, Inner, SignalError, Way, answer_bytes_max};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What the system keeps of a TCP connection that hears, as far as it can be told.
const HEARING_BUFFER_BYTES: u32 = 16 << 10;

type Reading = Box<dyn AsyncRead + Send + Unpin>;
type Writing = Box<dyn AsyncWrite + Send + Unpin>;

/// Listens to a daemon over its socket.
pub(super) async fn listen_to_socket(inner: &Arc<Inner>, intake: &Arc<dyn Intake>) {
    let mut tasks = JoinSet::new();
    for account in &inner.settings.accounts {
        let (ear, receipts) = Ear::new(inner, account, intake);
        tasks.spawn(receipts);
        tasks.spawn(async move {
            let mut again = Again::new(&ear.inner);
            loop {
                let why = hear(&ear).await;
                ear.inner.health.deaf(&ear.account.name, &why);
                again.wait().await;
            }
        });
    }
    let mut again = Again::new(inner);
    loop {
        let why = call(inner).await;
        inner.set_caller(None);
        inner.health.lost(&why, false);
        again.wait().await;
    }
}

/// Holds one connection for calls; why it ended.
async fn call(inner: &Inner) -> String {
    let (reading, writing) = match connect(&inner.settings.way, None).await {
        Ok(streams) => streams,
        Err(error) => return error.to_string(),
    };
    let caller = Arc::new(Caller::Stream(Calls::new(writing)));
    let Caller::Stream(calls) = &*caller else { return String::new() };
    let _answering = Answering(calls);
    inner.set_caller(Some(Arc::clone(&caller)));
    let why = tokio::select! {
        why = answers(reading, calls, answer_bytes_max(&inner.settings)) => why,
        why = inner.watch_over(&caller) => why,
    };
    calls.close(&why);
    why
}

/// Gives answers to whoever waits for them, until the stream ends.
async fn answers(reading: Reading, calls: &Calls, bytes_max: usize) -> String {
    let mut lines = Lines::new(reading, bytes_max);
    loop {
        match lines.next().await {
            // A daemon that hears from its start tells everybody; that is heard elsewhere.
            Ok(Some(Line::Whole(line))) => {
                if let Told::Answer { id, result } = message::read(&line) {
                    calls.answered(&id, result);
                }
            }
            Ok(Some(Line::TooLong)) => tracing::warn!(bytes_max, "signal-cli: too long a line"),
            Ok(None) => return "signal-cli closed the connection".into(),
            Err(error) => return format!("the connection broke: {error}"),
        }
    }
}

/// Hears one account over a connection of its own; why it ended.
async fn hear(ear: &Ear) -> String {
    let (reading, writing) =
        match connect(&ear.inner.settings.way, Some(HEARING_BUFFER_BYTES)).await {
            Ok(streams) => streams,
            Err(error) => return error.to_string(),
        };
    let calls = Calls::new(writing);
    let signs = AtomicU64::new(0);
    tokio::select! {
        why = envelopes(ear, reading, &calls, &signs) => why,
        why = subscribe(ear, &calls, &signs) => why,
    }
}

async fn envelopes(ear: &Ear, reading: Reading, calls: &Calls, signs: &AtomicU64) -> String {
    let mut lines = Lines::new(reading, LINE_BYTES_MAX);
    loop {
        let line = match lines.next().await {
            Ok(Some(Line::Whole(line))) => line,
            Ok(Some(Line::TooLong)) => {
                ear.pass("too long");
                continue;
            }
            Ok(None) => return "signal-cli closed the connection".into(),
            Err(error) => return format!("the connection broke: {error}"),
        };
        match message::read(&line) {
            Told::Answer { id, result } => calls.answered(&id, result),
            Told::Received { account, params } if ear.is_ours(account.as_deref()) => {
                ear.hear(&params, false).await;
            }
            Told::Received { .. } => {}
            Told::Other(why) => ear.pass(why),
        }
        signs.fetch_add(1, Ordering::Relaxed);
    }
}

/// Asks for the account's envelopes, then for signs of life.
async fn subscribe(ear: &Ear, calls: &Calls, signs: &AtomicU64) -> String {
    let patience = &ear.inner.settings.patience;
    let params = json!({"account": &*ear.account.number});
    match calls.call("subscribeReceive", &params, patience.call).await {
        Ok(_) => {}
        // The answer stands behind an envelope that takes its time, and would be lost with it.
        Err(CallError::Lost(_)) if ear.is_busy() => {}
        Err(error) => return error.words(),
    }
    ear.inner.health.hears(&ear.account.name);
    loop {
        sleep(patience.silence).await;
        let before = signs.load(Ordering::Relaxed);
        match calls.call("version", &json!({}), patience.call).await {
            Ok(_) | Err(CallError::Refused(_)) => {}
            // The answer stands behind an envelope that takes its time.
            Err(_) if ear.is_busy() || signs.load(Ordering::Relaxed) > before => {}
            Err(error) => return error.words(),
        }
    }
}

/// A connection to a daemon's socket.
pub(super) async fn connect(way: &Way, buffer: Option<u32>) -> io::Result<(Reading, Writing)> {
    let connecting = async {
        match way {
            Way::Unix(path) => {
                let (reading, writing) = UnixStream::connect(path).await?.into_split();
                Ok((Box::new(reading) as Reading, Box::new(writing) as Writing))
            }
            Way::Tcp(host) => {
                let (reading, writing) = connect_tcp(host, buffer).await?.into_split();
                Ok((Box::new(reading) as Reading, Box::new(writing) as Writing))
            }
            Way::Child { .. } | Way::Http(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    };
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no connection in time");
    timeout(CONNECT_TIMEOUT, connecting).await.map_err(late)?
}

async fn connect_tcp(host: &str, buffer: Option<u32>) -> io::Result<tokio::net::TcpStream> {
    let mut problem = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in lookup_host(host).await? {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if let Some(bytes) = buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        match socket.connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => problem = error,
        }
    }
    Err(problem)
}

/// Listens to a daemon over HTTP.
pub(super) async fn listen_to_http(inner: &Arc<Inner>, intake: &Arc<dyn Intake>, base: &str) {
    let calls = match HttpCalls::new(base, answer_bytes_max(&inner.settings)) {
        Ok(calls) => calls,
        Err(error) => return give_up(inner, &error).await,
    };
    let mut tasks = JoinSet::new();
    for account in &inner.settings.accounts {
        let (ear, receipts) = Ear::new(inner, account, intake);
        let calls = calls.clone();
        tasks.spawn(receipts);
        tasks.spawn(async move {
            let mut again = Again::new(&ear.inner);
            loop {
                let why = match hear_events(&ear, &calls).await {
                    Ok(()) => "signal-cli closed the connection".to_owned(),
                    Err(why) => why,
                };
                ear.inner.health.deaf(&ear.account.name, &why);
                again.wait().await;
            }
        });
    }
    let caller = Arc::new(Caller::Http(calls));
    inner.set_caller(Some(Arc::clone(&caller)));
    loop {
        let why = inner.watch_over(&caller).await;
        inner.health.lost(&why, false);
        sleep(inner.settings.patience.ping_every).await;
    }
}

/// What was wrong when the channel was made is no better now.
async fn give_up(inner: &Inner, error: &SignalError) {
    inner.health.lost(&error.to_string(), true);
    std::future::pending().await
}

async fn hear_events(ear: &Ear, calls: &HttpCalls) -> Result<(), String> {
    let silence = ear.inner.settings.patience.silence;
    let late = |_| "signal-cli gives no sign any more".to_owned();
    let asking = timeout(CONNECT_TIMEOUT + silence, calls.events(&ear.account.number));
    let mut events = asking.await.map_err(late)??;
    ear.inner.health.hears(&ear.account.name);
    // signal-cli says something every 15 seconds.
    while let Some(event) = timeout(silence, events.next()).await.map_err(late)?? {
        let data = match event {
            Event::Data(data) => data,
            Event::Sign(None) => continue,
            Event::Sign(Some(why)) => {
                ear.pass(why);
                continue;
            }
        };
        match serde_json::from_slice(&data).map(message::received) {
            Ok(Told::Received { account, params }) if ear.is_ours(account.as_deref()) => {
                ear.hear(&params, false).await;
            }
            Ok(Told::Other(why)) => ear.pass(why),
            Ok(_) => {}
            Err(_) => ear.pass("no JSON"),
        }
    }
    Ok(())
}
