//! Bytes become lines, and lines bytes.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc::Receiver;

use crate::brain::Events;

/// Longest line of a brain.
pub(super) const LINE_BYTES_MAX: usize = 1 << 20;
/// What one attempt may say in all.
const OUTPUT_BYTES_MAX: usize = 64 << 20;
/// From here on the lines that were taken make room.
const TAKEN_MAX: usize = 64 << 10;

/// The lines of a stream, without their ends.
pub(super) struct Lines<R> {
    stream: R,
    bytes: Vec<u8>,
    /// What was taken already stands before this.
    from: usize,
    /// No line ends before this.
    looked: usize,
    bytes_read: usize,
}

impl<R> Lines<R> {
    pub(super) const fn new(stream: R) -> Self {
        Self { stream, bytes: Vec::new(), from: 0, looked: 0, bytes_read: 0 }
    }

    /// A whole line, if there is one.
    fn take(&mut self) -> Option<Vec<u8>> {
        let end = self.bytes[self.looked..].iter().position(|byte| *byte == b'\n');
        let Some(end) = end.map(|end| self.looked + end) else {
            self.looked = self.bytes.len();
            return None;
        };
        let line = self.bytes[self.from..end].to_vec();
        (self.from, self.looked) = (end + 1, end + 1);
        Some(line)
    }

    fn make_room(&mut self) {
        if self.from > TAKEN_MAX || self.from == self.bytes.len() {
            self.bytes.drain(..self.from);
            self.looked -= self.from;
            self.from = 0;
        }
    }
}

impl<R: AsyncRead + Unpin + Send> Events for Lines<R> {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, String> {
        loop {
            let line = self.take();
            let length = line.as_ref().map_or(self.bytes.len() - self.from, Vec::len);
            if length > LINE_BYTES_MAX {
                return Err(format!("has more than {LINE_BYTES_MAX} bytes"));
            }
            if line.is_some() {
                return Ok(line);
            }
            if self.bytes_read > OUTPUT_BYTES_MAX {
                return Err(format!("makes its output more than {OUTPUT_BYTES_MAX} bytes"));
            }
            self.make_room();
            // Nothing is awaited but this, and it takes nothing unless it is done.
            let read = self.stream.read_buf(&mut self.bytes).await;
            match read.map_err(|error| format!("can't be read: {error}"))? {
                0 if self.from == self.bytes.len() => return Ok(None),
                0 => self.bytes.push(b'\n'),
                count => self.bytes_read += count,
            }
        }
    }
}

/// Writes lines until there are no more, then closes the stream. One that nobody reads is no
/// mistake: the program may have heard enough.
pub(super) async fn write(mut stream: impl AsyncWrite + Unpin, mut lines: Receiver<String>) {
    while let Some(mut line) = lines.recv().await {
        line.push('\n');
        if stream.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(bytes: &[u8], expect: &[&str]) {
        let mut lines = Lines::new(bytes);
        for line in expect {
            assert_eq!(lines.next().await, Ok(Some(line.as_bytes().to_vec())));
        }
        assert_eq!(lines.next().await, Ok(None));
        assert_eq!(lines.next().await, Ok(None));
    }

    #[tokio::test]
    async fn a_stream_is_cut_at_its_line_ends() {
        check(b"", &[]).await;
        check(b"a\n\nbc\n", &["a", "", "bc"]).await;
        check(b"a\nno end", &["a", "no end"]).await;
        let long = "x".repeat(LINE_BYTES_MAX);
        check(format!("{long}\n{long}").as_bytes(), &[&long, &long]).await;
    }

    #[tokio::test]
    async fn no_line_is_longer_than_its_limit() {
        for end in ["\n", ""] {
            let long = format!("a\n{}{end}", "x".repeat(LINE_BYTES_MAX + 1));
            let mut lines = Lines::new(long.as_bytes());
            assert_eq!(lines.next().await, Ok(Some(b"a".to_vec())));
            assert_eq!(lines.next().await.unwrap_err(), "has more than 1048576 bytes");
        }
    }

    #[tokio::test]
    async fn endless_output_has_an_end() {
        let line = "x".repeat(LINE_BYTES_MAX);
        let much = format!("{line}\n").repeat(OUTPUT_BYTES_MAX / LINE_BYTES_MAX + 1);
        let mut lines = Lines::new(much.as_bytes());
        let wrong = loop {
            match lines.next().await {
                Ok(read) => assert_eq!(read.map(|read| read.len()), Some(line.len())),
                Err(wrong) => break wrong,
            }
        };
        assert_eq!(wrong, "makes its output more than 67108864 bytes");
    }
}
