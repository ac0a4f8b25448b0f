//! The built-in agent: repeats what it was told, after a delay.
//!
//! It is also what measurements run against, so the path without streaming and without mail waits
//! exactly once and allocates the answer and little else. Whatever it absorbs is in the answer.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use turnkeep_core::journal::SupersedeChoice;
use turnkeep_core::message::Pending;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::agent::{Agent, Revoked, TurnContext, TurnHandle};
use turnkeep_core::session::input::{Finished, RunFailure};
use turnkeep_core::usage::Usage;

const PREFIX: &str = "echo: ";
/// What stands before an absorbed line, see [`EchoAgent::show_mail`].
const MARK: &str = "(+) ";
/// Words of the draft leave no closer together than this.
const SAY_INTERVAL_MS: u128 = 20;

/// Answers `echo: ` and the texts of the turn's messages in order, joined by a newline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EchoAgent {
    /// How long it pretends to think.
    pub delay: Duration,
    /// Says the words of its answer one after another while the delay passes.
    pub stream: bool,
    /// Puts `(+) ` before the lines of messages that arrived while it was thinking.
    pub show_mail: bool,
    /// Counts words as tokens, of a model called `echo`.
    pub tokens: bool,
}

impl Agent for EchoAgent {
    fn kind(&self) -> &'static str {
        "echo"
    }

    fn run(&self, turn: TurnContext) -> BoxFuture<'_, Result<Finished, RunFailure>> {
        // 100,000 turns may sleep here at once: the future keeps only what it needs, and the rarer
        // streaming one is another future.
        let TurnContext { messages, handle, .. } = turn;
        if self.stream {
            return Box::pin(self.run_aloud(messages, handle));
        }
        Box::pin(async move {
            if !self.delay.is_zero() {
                wait(&*handle, sleep(self.delay)).await;
            }
            self.finish(messages, &*handle).await
        })
    }
}

impl EchoAgent {
    async fn run_aloud(
        &self,
        messages: Vec<Pending>,
        handle: Arc<dyn TurnHandle>,
    ) -> Result<Finished, RunFailure> {
        let draft = answer(&messages, messages.len(), false);
        let started = Instant::now();
        let pieces = pieces(&draft, self.delay);
        let count = u32::try_from(pieces.len()).unwrap_or(u32::MAX);
        for (piece, number) in pieces.into_iter().zip(1_u32..) {
            let due = started + self.delay / count * number;
            if !self.delay.is_zero() && wait(&*handle, sleep_until(due)).await == Woken::Cancelled {
                break;
            }
            handle.say(piece);
        }
        let finished = self.finish(messages, &*handle).await?;
        let absorbed = finished.reply.as_deref().and_then(|reply| reply.strip_prefix(&*draft));
        if let Some(absorbed) = absorbed.filter(|absorbed| !absorbed.is_empty()) {
            handle.say(absorbed);
        }
        Ok(finished)
    }

    /// Takes what arrived meanwhile, to the last message, and answers everything.
    async fn finish(
        &self,
        mut messages: Vec<Pending>,
        handle: &dyn TurnHandle,
    ) -> Result<Finished, RunFailure> {
        let given = messages.len();
        // It ends because a turn absorbs a bounded number of messages: then mail comes empty.
        while handle.has_mail() {
            let mail = handle.mail().await.map_err(revoked)?;
            if mail.is_empty() {
                break;
            }
            messages.extend(mail);
        }
        let answer = answer(&messages, given, self.show_mail);
        if self.tokens {
            handle.used(used(&messages, &answer));
        }
        Ok(Finished {
            reply: Some(answer.into()),
            used: messages.last().map(|message| message.seq),
            ..Finished::default()
        })
    }
}

/// Another run has the turn by now, so nobody acts on this; if somebody did, trying again would be
/// the harmless thing.
fn revoked(revoked: Revoked) -> RunFailure {
    RunFailure { error: revoked.to_string().into(), retry: true, retry_after_ms: None }
}

/// The answer; `given` messages came with the turn, the others were absorbed.
fn answer(messages: &[Pending], given: usize, mark: bool) -> String {
    let text_bytes: usize = messages.iter().map(|message| message.body.text.len() + 1).sum();
    let marks = if mark { MARK.len() * messages.len().saturating_sub(given) } else { 0 };
    let mut text = String::with_capacity(PREFIX.len() + text_bytes + marks);
    text.push_str(PREFIX);
    for (index, message) in messages.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        if mark && index >= given {
            text.push_str(MARK);
        }
        text.push_str(&message.body.text);
    }
    text
}

/// As if each word were a token.
fn used(messages: &[Pending], answer: &str) -> Usage {
    let words = |text: &str| text.split_whitespace().count() as u64;
    Usage {
        model: "echo".into(),
        input_tokens: messages.iter().map(|message| words(&message.body.text)).sum(),
        output_tokens: words(answer),
        ..Usage::default()
    }
}

/// Why a wait ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Woken {
    InTime,
    Cancelled,
}

/// Waits, and answers the gateway's questions meanwhile.
async fn wait(handle: &dyn TurnHandle, until: impl Future<Output = ()>) -> Woken {
    let mut until = std::pin::pin!(until);
    let mut cancelled = handle.cancelled();
    let mut question = handle.question();
    loop {
        tokio::select! {
            biased;
            () = &mut until => return Woken::InTime,
            () = &mut cancelled => return Woken::Cancelled,
            asked = &mut question => {
                // Everything that arrives before the end is in the answer, so it may as well join.
                handle.answer(asked.id, SupersedeChoice::AbsorbContinue);
                question = handle.question();
            }
        }
    }
}

/// Cuts `text` behind its words into as many pieces as have time to be seen.
fn pieces(text: &str, delay: Duration) -> Vec<&str> {
    let words: Vec<usize> =
        text.match_indices(char::is_whitespace).map(|(at, space)| at + space.len()).collect();
    let ticks = usize::try_from(delay.as_millis() / SAY_INTERVAL_MS).unwrap_or(usize::MAX);
    let step = words.len().div_ceil(ticks.max(1)).max(1);
    let mut pieces = Vec::with_capacity(words.len() / step + 1);
    let mut rest = text;
    let mut taken = 0;
    for end in words.into_iter().skip(step - 1).step_by(step) {
        let (piece, after) = rest.split_at(end - taken);
        pieces.push(piece);
        (rest, taken) = (after, end);
    }
    if !rest.is_empty() {
        pieces.push(rest);
    }
    pieces
}
