//! Sessions as files of this machine: written where nothing is, read within a bound.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use turnkeep_core::import::FILE_BYTES_MAX;
use turnkeep_terminal::ports::Failure;

use crate::cli::partial::Target;
use crate::cli::session_file;

/// What such a file is.
pub(super) const KIND: &str = "application/x-ndjson";

/// An answer that is silent for longer is dead.
const SILENCE: Duration = Duration::from_secs(45);

/// Writes an answer into a new file that only its owner may read. It has its name once it is whole,
/// also where this ends in the middle; a file that is there is left as it is.
pub(super) async fn write(mut answer: reqwest::Response, file: &str) -> Result<u64, Failure> {
    let path = meant(file);
    let failed = |error: anyhow::Error| trouble(&path, &error_of(&path, &error));
    let target = Target::new(path.clone(), false).map_err(failed)?;
    let mut partial = target.begin().map_err(failed)?;
    let (mut bytes, mut seen) = (0, Seen::default());
    loop {
        let chunk = tokio::time::timeout(SILENCE, answer.chunk()).await;
        let chunk = chunk.map_err(|_| Failure::Unreachable("it has fallen silent".into()))?;
        let chunk = chunk.map_err(|error| Failure::Unreachable(error.to_string()))?;
        let Some(chunk) = chunk else { break };
        let written = partial.file.write_all(&chunk);
        written.map_err(|error| trouble(&path, &error.to_string()))?;
        seen.feed(&chunk);
        bytes += chunk.len() as u64;
    }
    if !seen.is_whole() {
        return Err(Failure::Strange(session_file::CUT_OFF.to_owned()));
    }
    sync(&mut partial.file).await.map_err(|error| trouble(&path, &error.to_string()))?;
    partial.publish().map_err(failed)?;
    Ok(bytes)
}

/// Has what was written reach the disk, which may take a while: keys are heard meanwhile.
async fn sync(file: &mut BufWriter<File>) -> io::Result<()> {
    file.flush()?;
    let file = file.get_ref().try_clone()?;
    tokio::task::spawn_blocking(move || file.sync_all()).await?
}

/// Why a file can't be written. There is no `--force` here.
fn error_of(path: &Path, error: &anyhow::Error) -> String {
    if path.exists() { "it is there already".to_owned() } else { format!("{error:#}") }
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

/// What a file holds, if it isn't longer than what can be loaded.
pub(super) async fn read(file: &str) -> Result<Vec<u8>, Failure> {
    let path = meant(file);
    let failed = |error: io::Error| trouble(&path, &error.to_string());
    // One that never ends, or whose other end nobody has opened, is never waited for.
    let about = tokio::fs::metadata(&path).await.map_err(failed)?;
    if !about.is_file() {
        return Err(trouble(&path, "it is no file"));
    }
    let opened = tokio::fs::File::open(&path).await.map_err(failed)?;
    let mut bytes = Vec::new();
    // It may grow while it is read.
    let read = opened.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).await;
    read.map_err(failed)?;
    if bytes.len() > FILE_BYTES_MAX {
        let why = format!("it is longer than the {FILE_BYTES_MAX} bytes that can be loaded");
        return Err(trouble(&path, &why));
    }
    Ok(bytes)
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
    use futures_util::{FutureExt as _, StreamExt as _, stream};

    use super::*;

    #[tokio::test]
    async fn no_more_is_read_than_can_be_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, length: usize| {
            let path = folder.path().join(name);
            File::create(&path).unwrap().set_len(length as u64).unwrap();
            path.display().to_string()
        };
        let (most, more) = (file("most", FILE_BYTES_MAX), file("more", FILE_BYTES_MAX + 1));
        assert_eq!(read(&most).await.unwrap().len(), FILE_BYTES_MAX);
        let why = "it is longer than the 33554432 bytes that can be loaded";
        assert_eq!(read(&more).await, Err(Failure::File(format!("{more}: {why}"))));
        let folder = folder.path().display().to_string();
        assert_eq!(read(&folder).await, Err(Failure::File(format!("{folder}: it is no file"))));
    }

    #[tokio::test]
    async fn a_save_that_ends_in_the_middle_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("saved").display().to_string();
        let begun = stream::iter([Ok::<_, io::Error>("{}\n")]).chain(stream::pending());
        let response = hyper::Response::new(reqwest::Body::wrap_stream(begun));
        let mut saving = Box::pin(write(reqwest::Response::from(response), &file));
        assert!((&mut saving).now_or_never().is_none(), "it is not whole yet");
        let names =
            || std::fs::read_dir(folder.path()).unwrap().map(|one| one.unwrap().file_name());
        assert_eq!(names().collect::<Vec<_>>(), ["saved.partial"]);
        drop(saving);
        assert_eq!(names().count(), 0);
    }

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
