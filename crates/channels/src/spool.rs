//! A channel that hands its parts to another program through a file of JSON lines.
//!
//! It is `Sent` once the line is on the disk; what the reader does with it is the reader's
//! business. A part that is tried again is written again, with the same `idempotency_key` and a
//! higher `attempt`, so a reader that keeps the keys it has seen never delivers twice.
//!
//! One thread owns the file. That keeps lines whole, and everything that waits while the disk is
//! busy goes out with the next single write and flush. The file is opened anew for every such batch
//! and only ever appended to: moving it away is how a reader rotates it. While a batch is written the
//! file is locked (`flock`), so several programs may share one. Whoever had to wait for the lock looks
//! whether the file is still the one at its path; so a reader that moved it away and then got the
//! lock once knows that nothing more comes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use turnkeep_core::outbox::DeliveryOutcome;
use turnkeep_core::policy::ChannelFacts;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::channel::{Channel, Outgoing};
use turnkeep_core::session_key::SessionKey;

/// Lines that one write and one flush carry, at most.
const BATCH_LINES_MAX: usize = 256;
/// Lines that wait for the thread, at most; a further one makes its sender wait.
const WAITING_LINES_MAX: usize = 1024;
/// The file holds what people say to each other: nobody but the owner reads it.
const FILE_MODE: u32 = 0o600;
/// How often in a row the file may be moved away while its lock is waited for.
const OPENS_MAX: usize = 16;

/// One line of the file.
#[derive(Serialize)]
struct Line<'a> {
    session: &'a SessionKey,
    idempotency_key: &'a str,
    attempt: u32,
    text: &'a str,
    /// When it was written, in milliseconds since the Unix epoch.
    at: u64,
}

/// A line on its way to the file, and who waits for it.
struct Job {
    line: Vec<u8>,
    done: oneshot::Sender<DeliveryOutcome>,
}

/// Appends every part as one JSON line `{session, idempotency_key, attempt, text, at}`.
#[derive(Debug)]
pub struct SpoolChannel {
    facts: ChannelFacts,
    jobs: mpsc::Sender<Job>,
}

impl SpoolChannel {
    /// A channel that can do what `facts` say and writes to `path`. The file is made when it is
    /// first needed, its directory is not.
    ///
    /// # Errors
    /// The system refuses another thread.
    pub fn new(facts: ChannelFacts, path: impl Into<PathBuf>) -> io::Result<Self> {
        let (jobs, inbox) = mpsc::channel(WAITING_LINES_MAX);
        let path = path.into();
        std::thread::Builder::new()
            .name(format!("spool-{}", facts.name))
            .spawn(move || write_all_jobs(&path, inbox))?;
        Ok(Self { facts, jobs })
    }
}

impl Channel for SpoolChannel {
    fn facts(&self) -> &ChannelFacts {
        &self.facts
    }

    fn send(&self, part: Outgoing) -> BoxFuture<'_, DeliveryOutcome> {
        Box::pin(async move {
            let line = match line_of(&part) {
                Ok(line) => line,
                Err(error) => return failed(&error.to_string(), false),
            };
            let (done, outcome) = oneshot::channel();
            if self.jobs.send(Job { line, done }).await.is_err() {
                return failed("the spool's writer is gone", true);
            }
            // The thread only goes without an answer if it panicked, perhaps after the write.
            outcome.await.unwrap_or_else(|_| DeliveryOutcome::Unknown {
                error: Arc::from("the spool's writer went without an answer"),
            })
        })
    }

    fn typing(&self, _session: &SessionKey, _on: bool) -> BoxFuture<'_, ()> {
        // A file has nobody to show it to.
        Box::pin(std::future::ready(()))
    }
}

fn line_of(part: &Outgoing) -> serde_json::Result<Vec<u8>> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut line = serde_json::to_vec(&Line {
        session: &part.session,
        idempotency_key: &part.idempotency_key,
        attempt: part.attempt,
        text: &part.text,
        at: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
    })?;
    line.push(b'\n');
    Ok(line)
}

fn failed(error: &str, retry: bool) -> DeliveryOutcome {
    DeliveryOutcome::Failed { error: Arc::from(error), retry, retry_after_ms: None }
}

/// The thread: ends when the channel was dropped and everything handed to it is answered.
fn write_all_jobs(path: &Path, mut inbox: mpsc::Receiver<Job>) {
    let mut batch = Vec::with_capacity(BATCH_LINES_MAX);
    while inbox.blocking_recv_many(&mut batch, BATCH_LINES_MAX) > 0 {
        let lines: Vec<&[u8]> = batch.iter().map(|job| job.line.as_slice()).collect();
        let outcome = append(path, &lines.concat());
        if outcome != DeliveryOutcome::Sent {
            tracing::warn!(path = %path.display(), lines = batch.len(), ?outcome, "spool");
        }
        for job in batch.drain(..) {
            // Whoever stopped waiting learns it from the outbox's own bookkeeping.
            let _ = job.done.send(outcome.clone());
        }
    }
}

/// Writes and flushes `bytes`, or leaves the file as it was, or says that it can't tell.
fn append(path: &Path, bytes: &[u8]) -> DeliveryOutcome {
    let wrong = |what: &str, error: &io::Error| format!("{what} {}: {error}", path.display());
    let (file, length) = match open(path) {
        Ok(opened) => opened,
        Err(error) => return failed(&wrong("can't open", &error), true),
    };
    if let Err((error, written)) = write(&file, length, bytes) {
        return if written == 0 || take_back(&file, length, written).is_ok() {
            failed(&wrong("can't write to", &error), true)
        } else {
            DeliveryOutcome::Unknown { error: wrong("wrote half a line to", &error).into() }
        };
    }
    match flush(path, &file, length) {
        Ok(()) => DeliveryOutcome::Sent,
        // The lines are there for a reader to see, whether or not they will survive.
        Err(error) => DeliveryOutcome::Unknown { error: wrong("can't flush", &error).into() },
    }
}

/// The file and its length, locked against other writers until it is closed.
fn open(path: &Path) -> io::Result<(File, u64)> {
    for _ in 0..OPENS_MAX {
        let file =
            OpenOptions::new().read(true).append(true).create(true).mode(FILE_MODE).open(path)?;
        file.lock()?;
        let opened = file.metadata()?;
        // Whoever held the lock may have moved the file away, and even read and removed it: lines
        // that went there now would be lost, and called sent.
        let still_there = match path.metadata() {
            Ok(there) => (there.dev(), there.ino()) == (opened.dev(), opened.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if still_there {
            return Ok((file, opened.len()));
        }
    }
    Err(io::Error::other("it was moved away again and again"))
}

/// Appends `bytes`; on an error, says how many got in.
fn write(mut file: &File, length: u64, bytes: &[u8]) -> Result<(), (io::Error, u64)> {
    let mut written = 0;
    // A crash may have left half a line behind: it must not swallow the next one.
    let cut_off = ends_within_a_line(file, length).map_err(|error| (error, 0))?;
    let parts: [&[u8]; 2] = [if cut_off { b"\n" } else { b"" }, bytes];
    for part in parts {
        let mut rest = part;
        while !rest.is_empty() {
            match file.write(rest) {
                Ok(0) => return Err((io::ErrorKind::WriteZero.into(), written)),
                Ok(count) => {
                    written += count as u64;
                    rest = rest.get(count..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((error, written)),
            }
        }
    }
    Ok(())
}

fn ends_within_a_line(file: &File, length: u64) -> io::Result<bool> {
    let Some(last) = length.checked_sub(1) else { return Ok(false) };
    let mut byte = [0];
    file.read_exact_at(&mut byte, last)?;
    Ok(byte != *b"\n")
}

/// Removes what a failed write left, unless somebody who doesn't lock has written behind it.
fn take_back(file: &File, length: u64, written: u64) -> io::Result<()> {
    if file.metadata()?.len() != length + written {
        return Err(io::ErrorKind::Other.into());
    }
    file.set_len(length)
}

/// Brings the lines to the disk; of a new file its name as well.
fn flush(path: &Path, file: &File, length_before: u64) -> io::Result<()> {
    file.sync_data()?;
    if length_before == 0 {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}
