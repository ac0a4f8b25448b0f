//! What a tool server's process says on its standard error: to the log, within bounds.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::Instant;

use super::content::label;
use crate::command::last_words::LastWords;

/// Lines that are logged of one server in so long; the others are only read.
const LINES_MAX: u32 = 100;
const SPAN: Duration = Duration::from_secs(1);
/// How much of a line is looked at.
const LINE_BYTES_MAX: usize = 2048;
/// How much is read at once.
const CHUNK: usize = 4096;

/// Reads it all, so that the process never waits for a full pipe.
pub(super) struct Listener {
    words: Mutex<LastWords>,
}

impl Listener {
    pub(super) fn listen(
        server: Arc<str>,
        stream: impl AsyncRead + Unpin + Send + 'static,
    ) -> Arc<Self> {
        let listener = Arc::new(Self { words: Mutex::default() });
        let heard = Arc::clone(&listener);
        tokio::spawn(async move { heard.hear(&server, stream).await });
        listener
    }

    async fn hear(&self, server: &str, mut stream: impl AsyncRead + Unpin) {
        let mut line = Vec::new();
        let mut chunk = Vec::with_capacity(CHUNK);
        let (mut since, mut logged) = (Instant::now(), 0);
        while stream.read_buf(&mut chunk).await.is_ok_and(|count| count > 0) {
            self.words.lock().unwrap_or_else(PoisonError::into_inner).hear(&chunk);
            for byte in chunk.drain(..) {
                if byte != b'\n' {
                    if line.len() < LINE_BYTES_MAX {
                        line.push(byte);
                    }
                    continue;
                }
                if since.elapsed() > SPAN {
                    (since, logged) = (Instant::now(), 0);
                }
                logged += 1;
                if logged <= LINES_MAX {
                    let said = label(&String::from_utf8_lossy(&line));
                    tracing::debug!(server, said, "a tool server says on its standard error");
                }
                line.clear();
            }
        }
    }

    /// The last of it.
    pub(super) fn told(&self) -> Option<String> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner).told()
    }
}
