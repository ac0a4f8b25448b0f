//! Bytes become lines, within limits: one that is too long goes by and is only counted.

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The longest envelope.
pub(super) const LINE_BYTES_MAX: usize = 8 << 20;
/// How much is read at once; small, because what was read and not yet taken is lost with us.
const CHUNK: usize = 8 << 10;

/// What stood on a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Its bytes, without its end.
    Whole(Vec<u8>),
    /// It was too long.
    TooLong,
}

/// Cuts what it is fed.
pub(super) struct Splitter {
    limit: usize,
    line: Vec<u8>,
    /// Where the line began.
    start: u64,
    at: u64,
    too_long: bool,
}

impl Splitter {
    /// The first byte that it is fed stands at `at`.
    pub(super) fn new(limit: usize, at: u64) -> Self {
        Self { limit, line: Vec::new(), start: at, at, too_long: false }
    }

    /// Takes bytes up to the end of a line; how many, and the line with the place where it began.
    /// Nothing is told of lines without content.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> (usize, Option<(u64, Line)>) {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let piece = &bytes[..end.unwrap_or(bytes.len())];
        let taken = piece.len() + usize::from(end.is_some());
        self.at += taken as u64;
        if self.too_long || self.line.len() + piece.len() > self.limit {
            self.too_long = true;
            self.line = Vec::new();
        } else {
            self.line.extend_from_slice(piece);
        }
        (taken, end.and_then(|_| self.cut()))
    }

    /// What stands behind the last end of a line.
    pub(super) fn rest(&mut self) -> Option<(u64, Line)> {
        self.cut()
    }

    /// Up to where everything was told.
    pub(super) const fn told(&self) -> u64 {
        self.start
    }

    fn cut(&mut self) -> Option<(u64, Line)> {
        let start = std::mem::replace(&mut self.start, self.at);
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.too_long) {
            return Some((start, Line::TooLong));
        }
        // Zeros stand where something was that nobody needs any more.
        let blank = line.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0);
        (!blank).then_some((start, Line::Whole(line)))
    }
}

/// The lines of a stream.
pub(super) struct Lines<R> {
    stream: R,
    splitter: Splitter,
    chunk: Vec<u8>,
    taken: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(stream: R, limit: usize) -> Self {
        let splitter = Splitter::new(limit, 0);
        Self { stream, splitter, chunk: Vec::with_capacity(CHUNK), taken: 0 }
    }

    /// The next line; none at the end. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> std::io::Result<Option<Line>> {
        loop {
            while self.taken < self.chunk.len() {
                let (taken, line) = self.splitter.feed(&self.chunk[self.taken..]);
                self.taken += taken;
                if let Some((_, line)) = line {
                    return Ok(Some(line));
                }
            }
            self.chunk.clear();
            self.taken = 0;
            // Nothing else is awaited. A line that was cut off by the end is no message.
            if self.stream.read_buf(&mut self.chunk).await? == 0 {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pieces: &[&str], expect: &[(u64, Line)], told: u64) {
        let mut splitter = Splitter::new(10, 100);
        let mut lines = Vec::new();
        for piece in pieces {
            let mut rest = piece.as_bytes();
            while !rest.is_empty() {
                let (taken, line) = splitter.feed(rest);
                lines.extend(line);
                rest = &rest[taken..];
            }
        }
        assert_eq!((&lines[..], splitter.told()), (expect, told));
    }

    #[test]
    fn lines_have_a_place_and_a_limit() {
        let whole = |text: &str| Line::Whole(text.into());
        check(&["ab\n\n", " \r\nc", "d\ne"], &[(100, whole("ab")), (107, whole("cd"))], 110);
        check(&["0123456789\n"], &[(100, whole("0123456789"))], 111);
        check(&["01234", "567890", "1\nx\n"], &[(100, Line::TooLong), (113, whole("x"))], 115);
        check(&["\0\0\0\n{}\n"], &[(104, whole("{}"))], 107);
    }

    #[tokio::test]
    async fn half_a_line_at_the_end_is_none() {
        let mut lines = Lines::new(&b"a\nhalf"[..], 10);
        assert_eq!(lines.next().await.unwrap(), Some(Line::Whole(b"a".to_vec())));
        assert_eq!(lines.next().await.unwrap(), None);
    }
}
