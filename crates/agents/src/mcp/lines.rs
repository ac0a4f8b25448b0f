//! Bytes become messages, one a line, within limits: one that is too long is not kept.

use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::scan::Scan;

/// How much is read at once.
const CHUNK: usize = 64 << 10;

/// What stood on a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Its bytes.
    Whole(Vec<u8>),
    /// It was too long; the request that it answers, if it is an answer.
    TooLong(Option<i64>),
}

/// The lines of a stream, without their ends.
pub(super) struct Reader<R> {
    stream: R,
    limit: usize,
    chunk: Vec<u8>,
    /// What was taken of the chunk.
    taken: usize,
    line: Vec<u8>,
    /// There while a line goes by that is too long.
    skipped: Option<Scan>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(super) fn new(stream: R, limit: usize) -> Self {
        let chunk = Vec::with_capacity(CHUNK);
        Self { stream, limit, chunk, taken: 0, line: Vec::new(), skipped: None }
    }

    /// The next line that is not empty; none at the end. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Option<Line> {
        loop {
            while self.taken < self.chunk.len() {
                if let Some(line) = self.take() {
                    return Some(line);
                }
            }
            self.chunk.clear();
            self.taken = 0;
            // Nothing is awaited but this, and it takes nothing unless it is done. A line that was
            // cut off by the end is no message.
            if self.stream.read_buf(&mut self.chunk).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// Takes up to the next end of a line.
    fn take(&mut self) -> Option<Line> {
        let rest = &self.chunk[self.taken..];
        let end = rest.iter().position(|byte| *byte == b'\n');
        let piece = &rest[..end.unwrap_or(rest.len())];
        self.taken += piece.len() + usize::from(end.is_some());
        match &mut self.skipped {
            Some(scan) => scan.feed(piece),
            None if self.line.len() + piece.len() > self.limit => {
                let mut scan = Scan::default();
                scan.feed(&self.line);
                scan.feed(piece);
                self.line = Vec::new();
                self.skipped = Some(scan);
            }
            None => self.line.extend_from_slice(piece),
        }
        end?;
        if let Some(scan) = self.skipped.take() {
            return Some(Line::TooLong(scan.answers()));
        }
        let line = std::mem::take(&mut self.line);
        (!line.trim_ascii().is_empty()).then_some(Line::Whole(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(bytes: &[u8], expect: &[Line]) {
        let mut reader = Reader::new(bytes, 20);
        for line in expect {
            assert_eq!(reader.next().await.as_ref(), Some(line));
        }
        assert_eq!(reader.next().await, None);
    }

    #[tokio::test]
    async fn lines_are_whole_or_told_to_be_too_long() {
        let whole = |text: &str| Line::Whole(text.as_bytes().to_vec());
        check(b"", &[]).await;
        check(b"\n \r\na\nbc", &[whole("a")]).await;
        check(b"12345678901234567890\n", &[whole("12345678901234567890")]).await;
        let long = b"{\"id\":5,\"result\":\"xxxxxxxxxxxxxxxxxxxxxxxx\"}\nnext\n";
        check(long, &[Line::TooLong(Some(5)), whole("next")]).await;
        check(b"123456789012345678901\n", &[Line::TooLong(None)]).await;
    }

    #[tokio::test]
    async fn a_line_of_a_hundred_megabytes_is_not_kept() {
        let piece = vec![b'x'; 1 << 20];
        let (mut from, to) = tokio::io::duplex(1 << 20);
        let writes = async move {
            use tokio::io::AsyncWriteExt as _;
            from.write_all(b"{\"result\":\"").await.unwrap();
            for _ in 0..100 {
                from.write_all(&piece).await.unwrap();
            }
            from.write_all(b"\",\"id\":9}\n").await.unwrap();
        };
        let mut reader = Reader::new(to, 4096);
        let reads = async {
            let line = reader.next().await;
            (line, reader.line.capacity(), reader.chunk.capacity())
        };
        let (_, (line, kept, chunk)) = tokio::join!(writes, reads);
        assert_eq!(line, Some(Line::TooLong(Some(9))));
        assert!(kept <= 8192 && chunk <= 2 * CHUNK, "{kept} {chunk}");
    }
}
