//! Sessions as files of this machine: written where nothing is, read within a bound.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use turnkeep_terminal::ports::Failure;

use crate::cli::session_file;

/// What such a file is.
pub(super) const KIND: &str = "application/x-ndjson";

/// The longest file that is read.
const BYTES_MAX: u64 = 256 << 20;

/// An answer that is silent for longer is dead.
const SILENCE: Duration = Duration::from_secs(45);

/// Writes an answer into a new file that only its owner may read. A file that is there is left as it
/// is; one that could not be written whole is removed.
pub(super) async fn write(mut answer: reqwest::Response, file: &str) -> Result<u64, Failure> {
    let path = meant(file);
    let mut options = tokio::fs::OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(0o600).open(&path).await;
    let mut out = opened.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => trouble(&path, "it is there already"),
        _ => trouble(&path, &error.to_string()),
    })?;
    let written = async {
        let (mut bytes, mut seen) = (0, Seen::default());
        loop {
            let chunk = tokio::time::timeout(SILENCE, answer.chunk()).await;
            let chunk = chunk.map_err(|_| Failure::Unreachable("it has fallen silent".into()))?;
            let chunk = chunk.map_err(|error| Failure::Unreachable(error.to_string()))?;
            let Some(chunk) = chunk else { break };
            let written = out.write_all(&chunk).await;
            written.map_err(|error| trouble(&path, &error.to_string()))?;
            seen.feed(&chunk);
            bytes += chunk.len() as u64;
        }
        if !seen.is_whole() {
            return Err(Failure::Strange(session_file::CUT_OFF.to_owned()));
        }
        out.sync_all().await.map_err(|error| trouble(&path, &error.to_string()))?;
        Ok(bytes)
    };
    let written = written.await;
    if written.is_err() {
        // Half a file would be taken for one.
        let _ = tokio::fs::remove_file(&path).await;
    }
    written
}

/// What was seen of a file: how many lines, and the last one.
#[derive(Default)]
struct Seen {
    lines: u64,
    /// Its beginning; more than the longest last line is not kept.
    line: Vec<u8>,
    /// Whether its line break came.
    ended: bool,
}

impl Seen {
    fn feed(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if std::mem::take(&mut self.ended) {
                self.line.clear();
            }
            let text = piece.strip_suffix(b"\n");
            let room = (session_file::END_BYTES_MAX + 1).saturating_sub(self.line.len());
            self.line.extend(text.unwrap_or(piece).iter().take(room));
            self.ended = text.is_some();
            self.lines += u64::from(self.ended);
        }
    }

    /// Whether the last line says that as many entries stand before it as do.
    fn is_whole(&self) -> bool {
        let line = std::str::from_utf8(&self.line).unwrap_or_default();
        let events = session_file::end_of(line).filter(|_| self.ended);
        events.and_then(|events| events.checked_add(2)) == Some(self.lines)
    }
}

/// What a file holds.
pub(super) async fn read(file: &str) -> Result<Vec<u8>, Failure> {
    let path = meant(file);
    let about = tokio::fs::metadata(&path).await;
    let about = about.map_err(|error| trouble(&path, &error.to_string()))?;
    if !about.is_file() {
        return Err(trouble(&path, "it is no file"));
    }
    if about.len() > BYTES_MAX {
        return Err(trouble(&path, &format!("it is longer than {BYTES_MAX} bytes")));
    }
    tokio::fs::read(&path).await.map_err(|error| trouble(&path, &error.to_string()))
}

/// No shell stands between the person and this, so the home folder is ours to find.
fn meant(file: &str) -> PathBuf {
    match (file.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(file),
    }
}

fn trouble(path: &Path, why: &str) -> Failure {
    Failure::File(format!("{}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_whole_when_its_last_line_says_so() {
        let end = "{\"type\":\"end\",\"events\":1,\"sha256\":\"00\"}\n";
        let entry = format!("{{\"text\":\"{}\"}}\n", "x".repeat(1000));
        let check = |text: &str, expect: bool| {
            for size in [1, 7, 4096] {
                let mut seen = Seen::default();
                text.as_bytes().chunks(size).for_each(|chunk| seen.feed(chunk));
                assert_eq!(seen.is_whole(), expect, "{text} in pieces of {size}");
            }
        };
        check(&format!("{{}}\n{entry}{end}"), true);
        check(&format!("{{}}\n{entry}"), false);
        check(&format!("{{}}\n{end}"), false);
        check(&format!("{{}}\n{entry}{}", end.trim_end()), false);
        check(&format!("{{}}\n{entry}{end}{entry}"), false);
        check("", false);
    }
}
