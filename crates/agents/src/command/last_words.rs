//! What a program said on its standard error before it ended.

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What is kept of it, in bytes, and told, in characters.
const KEPT_MAX: usize = 4096;
const TOLD_MAX: usize = 1000;
/// Lines that are told.
const LINES_MAX: usize = 5;

/// The end of a stream.
#[derive(Debug, Default)]
pub struct LastWords(Vec<u8>);

impl LastWords {
    /// Reads to the end; whatever comes is read, so that nobody waits for a full pipe.
    pub(super) async fn listen(&mut self, mut stream: impl AsyncRead + Unpin) {
        let mut chunk = Vec::with_capacity(KEPT_MAX);
        while stream.read_buf(&mut chunk).await.is_ok_and(|count| count > 0) {
            self.hear(&chunk);
            chunk.clear();
        }
    }

    /// Keeps the end of it.
    pub fn hear(&mut self, said: &[u8]) {
        self.0.extend_from_slice(said);
        let too_much = self.0.len().saturating_sub(KEPT_MAX);
        self.0.drain(..too_much);
    }

    /// The last lines in one, for a person.
    #[must_use]
    pub fn told(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.0);
        let tidy = |line: &str| line.trim().chars().filter(|one| !one.is_control()).collect();
        let lines: Vec<String> =
            text.lines().map(tidy).filter(|line: &String| !line.is_empty()).collect();
        let last = lines[lines.len().saturating_sub(LINES_MAX)..].join(" | ");
        let skipped = last.chars().count().saturating_sub(TOLD_MAX);
        let told: String = last.chars().skip(skipped).collect();
        (!told.is_empty()).then_some(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(said: &[u8], expect: Option<&str>) {
        let mut words = LastWords::default();
        words.listen(said).await;
        assert_eq!(words.told().as_deref(), expect);
    }

    #[tokio::test]
    async fn the_end_is_kept_without_what_moves_a_terminal() {
        check(b"", None).await;
        check(b"\n \x07 \n", None).await;
        check(b"one\n\n\x1b[31mtwo\r\nthree", Some("one | [31mtwo | three")).await;
        check(b"1\n2\n3\n4\n5\n6\n7\n", Some("3 | 4 | 5 | 6 | 7")).await;
        let long = format!("{}end", "ä".repeat(5000));
        let told = format!("{}end", "ä".repeat(TOLD_MAX - 3));
        check(long.as_bytes(), Some(&told)).await;
    }
}
