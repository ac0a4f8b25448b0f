//! The attack of slow connections: some that never say anything, and some that say a byte a second
//! of a request that never ends. When the server ends one, the next is opened.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::interval;

use crate::Dial;
use crate::driver::Run;

/// From one byte of a dribbling connection to the next, and from one failed attempt to the next.
const BEAT: Duration = Duration::from_secs(1);

/// From the first attempt of one connection to that of the next.
const STAGGER: Duration = Duration::from_millis(1);

/// What is dribbled; behind it comes a header without an end.
const HEAD: &[u8] = b"POST /v1/chat HTTP/1.1\r\nHost: localhost\r\nX-Slow: ";

/// What became of the slow connections.
#[derive(Debug, Default)]
pub(crate) struct SlowBook {
    opened: AtomicU64,
    cut_off: AtomicU64,
    failed: AtomicU64,
}

/// What became of the slow connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SlowFigures {
    /// How many were to be open at once.
    pub connections: usize,
    /// Opened in the whole run.
    pub opened: u64,
    /// Ended by the server.
    pub cut_off: u64,
    /// Attempts to open one that failed.
    pub failed: u64,
}

impl SlowBook {
    pub(crate) fn figures(&self, connections: usize) -> SlowFigures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (opened, cut_off) = (read(&self.opened), read(&self.cut_off));
        SlowFigures { connections, opened, cut_off, failed: read(&self.failed) }
    }
}

/// Keeps one slow connection open until the run winds down.
pub(crate) async fn slow<D: Dial>(run: Arc<Run<D>>, number: usize) {
    let turn = u32::try_from(number).unwrap_or(u32::MAX);
    let mut flow = run.pause(STAGGER.saturating_mul(turn)).await;
    while flow.is_continue() {
        let Ok(stream) = run.dial.dial_from(number).await else {
            run.slow_book.failed.fetch_add(1, Ordering::Relaxed);
            flow = run.pause(BEAT).await;
            continue;
        };
        run.slow_book.opened.fetch_add(1, Ordering::Relaxed);
        // Two neighbours come from different addresses, so each address does both.
        let silent = (number / 8).is_multiple_of(2);
        tokio::select! {
            _ = hold(stream, silent) => run.slow_book.cut_off.fetch_add(1, Ordering::Relaxed),
            () = run.winding_down.cancelled() => return,
        };
        // A server that ends them at once is not to keep us busy.
        flow = run.pause(STAGGER).await;
    }
}

/// Ends when the server ends the connection.
async fn hold<S: AsyncRead + AsyncWrite + Unpin>(stream: S, silent: bool) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut scratch = [0; 512];
    let mut bytes = HEAD.iter().chain(std::iter::repeat(&b'x'));
    let mut beat = interval(BEAT);
    loop {
        tokio::select! {
            read = reader.read(&mut scratch) => if read? == 0 { return Ok(()) },
            _ = beat.tick(), if !silent => {
                if let Some(byte) = bytes.next() {
                    writer.write_all(&[*byte]).await?;
                }
            }
        }
    }
}
