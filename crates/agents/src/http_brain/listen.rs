//! Reads what a brain says, and goes on where its stream breaks.

use reqwest::Response;
use tokio::sync::Notify;
use tokio::sync::mpsc::{Sender, WeakSender};
use turnkeep_core::session::input::RunFailure;

use super::OUTPUT_BYTES_MAX;
use super::call::{Call, Stream};
use super::post::Trouble;
use super::sse::{Event, Events};
use crate::outward::innermost;

/// What a brain says goes here; a mistake is the last.
pub(super) type Heard = Sender<Result<Vec<u8>, String>>;

/// Reads to the end of the attempt.
///
/// `wanted` is gone once the brain has nothing more to say: a stream that breaks then is not resumed.
/// `over` tells so, as soon as nothing is under way to the brain either, so that nobody waits for a
/// pause before a resume that is not to come.
///
/// # Errors
/// The stream broke and can't be resumed.
pub(super) async fn listen(
    call: &Call,
    mut stream: Stream,
    heard: Heard,
    wanted: &WeakSender<String>,
    over: &Notify,
) -> Result<(), RunFailure> {
    let mut said = Said::default();
    let mut tries = call.resumes();
    loop {
        let before = said.last;
        let Some(broke) = said.read(&mut stream.response, &heard).await else { return Ok(()) };
        // Its connection goes before another is made.
        drop(stream);
        let why = format!("its stream broke off before it had finished ({broke})");
        if said.last > before {
            tries = call.resumes();
        }
        if said.unnumbered {
            let error = format!("{why} and has no ids, so that it can't be resumed");
            return Err(lost(error));
        }
        said.resumed = true;
        let mut trouble = Trouble::unanswered(broke);
        stream = loop {
            // Before every try, the first included: a server that takes and cuts must not be hammered.
            tokio::select! {
                waited = tries.again(trouble) => waited?,
                () = over.notified() => return Ok(()),
            }
            if wanted.upgrade().is_none() {
                return Ok(());
            }
            match call.resume(said.last).await {
                Ok(stream) => break stream,
                Err(refused) if refused.passes() => trouble = refused,
                Err(refused) if refused.knows_no_turn() => {
                    let error = format!("{why} and can't be resumed: {}", refused.error);
                    return Err(lost(error));
                }
                Err(refused) => return Err(refused.failure(false)),
            }
        };
    }
}

fn lost(why: String) -> RunFailure {
    RunFailure {
        error: format!("the brain is lost: {why}").into(),
        retry: true,
        retry_after_ms: None,
    }
}

/// What was heard of one attempt, over all its streams.
#[derive(Default)]
struct Said {
    /// The number of the last event.
    last: u64,
    /// An event had no number.
    unnumbered: bool,
    /// So that known events may come again.
    resumed: bool,
    bytes: usize,
}

impl Said {
    /// Reads one stream. How it broke, or none if nobody wants more of it.
    async fn read(&mut self, stream: &mut Response, heard: &Heard) -> Option<String> {
        let mut events = Events::default();
        loop {
            while let Some(event) = events.next() {
                let said = event.and_then(|event| self.take(event)).transpose();
                let Some(said) = said else { continue };
                let wrong = said.is_err();
                if heard.send(said).await.is_err() || wrong {
                    return None;
                }
            }
            let chunk = match stream.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Some("it ended".to_owned()),
                Err(error) => return Some(innermost(&error)),
            };
            self.bytes = self.bytes.saturating_add(chunk.len());
            if self.bytes > OUTPUT_BYTES_MAX {
                let wrong = format!("makes its output more than {OUTPUT_BYTES_MAX} bytes");
                let _ = heard.send(Err(wrong)).await;
                return None;
            }
            events.feed(&chunk);
        }
    }

    /// What an event says; none if that is known.
    fn take(&mut self, event: Event) -> Result<Option<Vec<u8>>, String> {
        let next = self.last.saturating_add(1);
        match event.id {
            Some(id) if id == next => {}
            Some(id) if id < next && self.resumed => return Ok(None),
            Some(id) => return Err(format!("has the \"id\" {id} where {next} comes next")),
            None => self.unnumbered = true,
        }
        self.last = next;
        Ok(Some(event.data))
    }
}
