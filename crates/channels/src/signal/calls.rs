//! Calls over a stream: who waits for which answer, and what is known where none came.
//!
//! One task writes. Before a call's first byte leaves it is marked as on its way; what is not marked
//! has certainly not been read by anybody, and what is marked and unanswered may have been done.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use super::http::HttpCalls;
use super::message::{self, Refusal};

/// Calls that may wait to be written.
const UNWRITTEN_MAX: usize = 1024;
/// Calls that may wait for their answers.
const WAITING_MAX: usize = 4096;

/// Why a call has no result.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum CallError {
    /// It certainly did not reach signal-cli.
    NotSent(String),
    /// It may have been done; nobody knows.
    Lost(String),
    /// signal-cli refused it.
    Refused(Refusal),
}

impl CallError {
    /// In words.
    pub(super) fn words(&self) -> String {
        match self {
            Self::NotSent(why) | Self::Lost(why) => why.clone(),
            Self::Refused(refusal) => format!("{} ({})", refusal.message, refusal.code),
        }
    }
}

/// A way to call signal-cli.
pub(super) enum Caller {
    Stream(Calls),
    Http(HttpCalls),
}

impl Caller {
    pub(super) async fn call(
        &self,
        method: &str,
        params: &Value,
        patience: Duration,
    ) -> Result<Value, CallError> {
        match self {
            Self::Stream(calls) => calls.call(method, params, patience).await,
            Self::Http(calls) => calls.call(method, params, patience).await,
        }
    }
}

/// Where a call is.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Queued,
    OnItsWay,
}

struct Entry {
    place: Place,
    tell: oneshot::Sender<Result<Value, CallError>>,
}

#[derive(Default)]
struct Waiting {
    /// Why nothing is called any more.
    closed: Option<String>,
    entries: HashMap<u64, Entry>,
}

struct Job {
    number: u64,
    line: Vec<u8>,
}

/// Calls over one stream. An answer comes back through [`Self::answered`].
pub(super) struct Calls {
    /// Tells our answers from those to whoever was there before us.
    run: String,
    next: AtomicU64,
    jobs: mpsc::Sender<Job>,
    waiting: Arc<Mutex<Waiting>>,
    writer: AbortHandle,
}

impl Calls {
    pub(super) fn new(stream: impl AsyncWrite + Unpin + Send + 'static) -> Self {
        let (jobs, inbox) = mpsc::channel(UNWRITTEN_MAX);
        let waiting = Arc::default();
        let writer = tokio::spawn(write(stream, inbox, Arc::clone(&waiting))).abort_handle();
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let run = format!("{:x}", since_epoch.as_nanos());
        Self { run, next: AtomicU64::new(1), jobs, waiting, writer }
    }

    /// Calls and waits for the answer.
    pub(super) async fn call(
        &self,
        method: &str,
        params: &Value,
        patience: Duration,
    ) -> Result<Value, CallError> {
        let until = Instant::now() + patience;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (tell, mut answer) = oneshot::channel();
        lock(&self.waiting).enter(number, tell)?;
        let leaves = Leaves { waiting: &self.waiting, number };
        let line = message::request(&format!("{}-{number}", self.run), method, params);
        let job = Job { number, line };
        match timeout_at(until, self.jobs.send(job)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(CallError::NotSent("signal-cli is gone".into())),
            Err(_) => return Err(CallError::NotSent("signal-cli reads no calls".into())),
        }
        match timeout_at(until, &mut answer).await {
            Ok(told) => told.unwrap_or_else(|_| Err(CallError::Lost("signal-cli is gone".into()))),
            Err(_) => leaves.too_late(&mut answer, method),
        }
    }

    /// Takes an answer; one that nobody waits for is ignored.
    pub(super) fn answered(&self, id: &str, result: Result<Value, Refusal>) {
        let number = id.strip_prefix(&self.run).and_then(|rest| rest.strip_prefix('-'));
        let Some(number) = number.and_then(|number| number.parse().ok()) else { return };
        if let Some(entry) = lock(&self.waiting).entries.remove(&number) {
            // Nobody may be left to hear of it.
            let _ = entry.tell.send(result.map_err(CallError::Refused));
        }
    }

    /// Nothing is written any more, and its reader is told that nothing comes. What is on its way
    /// may still be answered.
    pub(super) fn stop(&self, why: &str) {
        self.writer.abort();
        lock(&self.waiting).stop(why);
    }

    /// Whoever waits is told what is known, and nothing is called any more.
    pub(super) fn close(&self, why: &str) {
        self.writer.abort();
        lock(&self.waiting).close(why);
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        self.close("signal-cli is gone");
    }
}

/// Whoever reads the answers holds it: without them nobody should wait for one.
pub(super) struct Answering<'a>(pub(super) &'a Calls);

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.0.close("nobody listens to signal-cli any more");
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Waiting {
    fn enter(
        &mut self,
        number: u64,
        tell: oneshot::Sender<Result<Value, CallError>>,
    ) -> Result<(), CallError> {
        if let Some(why) = &self.closed {
            return Err(CallError::NotSent(why.clone()));
        }
        if self.entries.len() >= WAITING_MAX {
            return Err(CallError::NotSent(format!("{WAITING_MAX} calls wait for signal-cli")));
        }
        self.entries.insert(number, Entry { place: Place::Queued, tell });
        Ok(())
    }

    fn stop(&mut self, why: &str) {
        self.closed.get_or_insert_with(|| why.to_owned());
        // The writer passes over what is not here any more.
        for (_, entry) in self.entries.extract_if(|_, entry| entry.place == Place::Queued) {
            let _ = entry.tell.send(Err(entry.place.error(why)));
        }
    }

    fn close(&mut self, why: &str) {
        self.closed.get_or_insert_with(|| why.to_owned());
        for (_, entry) in self.entries.drain() {
            let _ = entry.tell.send(Err(entry.place.error(why)));
        }
    }
}

impl Place {
    fn error(self, why: &str) -> CallError {
        match self {
            Self::Queued => CallError::NotSent(why.to_owned()),
            Self::OnItsWay => CallError::Lost(why.to_owned()),
        }
    }
}

/// Whoever stops waiting leaves nothing behind.
struct Leaves<'a> {
    waiting: &'a Mutex<Waiting>,
    number: u64,
}

impl Leaves<'_> {
    fn too_late(
        &self,
        answer: &mut oneshot::Receiver<Result<Value, CallError>>,
        method: &str,
    ) -> Result<Value, CallError> {
        let entry = lock(self.waiting).entries.remove(&self.number);
        match entry {
            Some(entry) => Err(entry.place.error(&format!("no answer to {method} in time"))),
            // It came just now.
            None => answer
                .try_recv()
                .unwrap_or_else(|_| Err(CallError::Lost(format!("no answer to {method} in time")))),
        }
    }
}

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        lock(self.waiting).entries.remove(&self.number);
    }
}

async fn write(
    mut stream: impl AsyncWrite + Unpin,
    mut jobs: mpsc::Receiver<Job>,
    waiting: Arc<Mutex<Waiting>>,
) {
    while let Some(job) = jobs.recv().await {
        match lock(&waiting).entries.get_mut(&job.number) {
            Some(entry) => entry.place = Place::OnItsWay,
            // Whoever called has given up: it must not be done any more.
            None => continue,
        }
        let mut written = 0;
        let problem = loop {
            if written == job.line.len() {
                break stream.flush().await.err();
            }
            match stream.write(&job.line[written..]).await {
                Ok(0) => break Some(std::io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) => break Some(error),
            }
        };
        if let Some(error) = problem {
            let mut waiting = lock(&waiting);
            // Half a call is none, but all of it without the end of its line is one.
            if let Some(entry) = waiting.entries.get_mut(&job.number)
                && written + 1 < job.line.len()
            {
                entry.place = Place::Queued;
            }
            // What it read before may be answered: whoever reads the answers says when not.
            return waiting.stop(&format!("signal-cli can't be written to: {error}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncBufReadExt as _, BufReader};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn not_sent(outcome: &Result<Value, CallError>) -> bool {
        matches!(outcome, Err(CallError::NotSent(_)))
    }

    fn lost(outcome: &Result<Value, CallError>) -> bool {
        matches!(outcome, Err(CallError::Lost(_)))
    }

    #[tokio::test]
    async fn answers_find_their_calls_in_any_order() {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let calls = Calls::new(ours);
        let params = json!({});
        let (one, two) = (calls.call("one", &params, LONG), calls.call("two", &params, LONG));
        let answers = async {
            let mut lines = BufReader::new(theirs).lines();
            let mut ids = Vec::new();
            for _ in 0..2 {
                let line = lines.next_line().await.unwrap().unwrap();
                let call: Value = serde_json::from_str(&line).unwrap();
                ids.push((call["id"].as_str().unwrap().to_owned(), call["method"].clone()));
            }
            calls.answered("somebody-1", Ok(json!("else")));
            for (id, method) in ids.into_iter().rev() {
                calls.answered(&id, Ok(method.clone()));
                calls.answered(&id, Ok(json!("again")));
            }
        };
        let (one, two, ()) = tokio::join!(one, two, answers);
        assert_eq!((one, two), (Ok(json!("one")), Ok(json!("two"))));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_written_was_not_sent() {
        // Room for the first call and a part of the second.
        let (ours, _theirs) = tokio::io::duplex(100);
        let calls = Calls::new(ours);
        let params = json!({});
        let (one, two, three) = tokio::join!(
            calls.call("one", &params, LONG),
            calls.call("two", &params, LONG),
            calls.call("three", &params, LONG)
        );
        assert!(lost(&one) && lost(&two) && not_sent(&three), "{one:?} {two:?} {three:?}");
    }

    #[tokio::test]
    async fn a_stream_that_breaks_tells_what_is_known() {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let calls = Calls::new(ours);
        let params = json!({});
        let reads = async {
            let mut lines = BufReader::new(theirs).lines();
            lines.next_line().await.unwrap();
            // It was read, and then nothing more is.
            drop(lines);
            let two = calls.call("two", &params, LONG).await;
            calls.close("it broke");
            two
        };
        let (one, two) = tokio::join!(calls.call("one", &params, LONG), reads);
        assert!(lost(&one) && not_sent(&two), "{one:?} {two:?}");
        let after = calls.call("three", &params, LONG).await;
        assert!(not_sent(&after), "{after:?}");
    }
}
