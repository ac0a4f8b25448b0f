//! One answer of the model: its request, and what is done where that fails.
//!
//! | the provider | is |
//! | --- | --- |
//! | has no time (429, 5xx) and said nothing yet | asked again after a pause, a few times |
//! | finds the conversation too long | asked once more, with a shorter one |
//! | failed for good | replaced by the fallback, if there is one, for the rest of the turn |
//!
//! Whatever is left is the attempt's failure.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};
use turnkeep_core::ports::agent::{Open, TurnHandle};

use super::conversation::Conversation;
use super::provider::{Answer, Call, Ending, Piece, ProviderError, Question};
use super::settings::TurnSettings;
use super::telling;
use super::turn::{Stopped, Turn};

/// Stands between what was said before some mail or some calls and what was said after.
const ROUND_BREAK: &str = "\n\n";
/// How often a model that thinks without words is reported to be alive.
pub(super) const LIFE_INTERVAL: Duration = Duration::from_secs(10);

/// What the model wants after it said what it said.
pub(super) struct Answered {
    pub(super) calls: Vec<Call>,
    pub(super) raw: Option<Value>,
    /// No tool can be called, so that its calls don't count.
    pub(super) answer_only: bool,
}

/// What was tried already for one answer.
#[derive(Default)]
struct Tries {
    retries: u32,
    compacted: bool,
}

impl Turn<'_> {
    /// One answer of the model, however many requests it takes. Its words are in the reply.
    pub(super) async fn ask_model(&mut self) -> Result<Answered, Stopped> {
        let mut tries = Tries::default();
        loop {
            let from = self.reply.len();
            let slot = self.handle.slot();
            let slot = self.wait_with_mail(slot).await?;
            let outcome = self.request(from).await;
            // A pause before a retry leaves the slot to others.
            drop(slot);
            self.streaming = false;
            let error = match outcome {
                Err(Stopped::Failed(error)) => error,
                other => return other,
            };
            let pause = self.mend(error, from, &mut tries).await?;
            self.reply.truncate(from);
            self.wait_with_mail(sleep(pause)).await?;
        }
    }

    /// What can be done about a failed request, and how long to wait before the next.
    async fn mend(
        &mut self,
        error: ProviderError,
        from: usize,
        tries: &mut Tries,
    ) -> Result<Duration, Stopped> {
        match &error {
            ProviderError::TooLong(message) if !tries.compacted => {
                if let Some(compacted) = self.conversation.compact() {
                    tries.compacted = true;
                    tracing::warn!(%message, ?compacted, "the conversation was too long");
                    let (before, after) = compacted.tokens;
                    let detail = format!(
                        "about {before} tokens to {after}: {} lines of the history left out, {} \
                         results shortened",
                        compacted.lines, compacted.results
                    );
                    self.note("context_compacted", &detail).await?;
                    return Ok(Duration::ZERO);
                }
            }
            // What was shown can't be taken back by saying it again.
            ProviderError::Busy { message, retry_after } if self.reply.len() == from => {
                let pause = retry_pause(&self.agent.settings, tries.retries, *retry_after);
                if let Some(pause) = pause.filter(|_| !self.handle.finish_now()) {
                    tracing::debug!(%message, ?pause, "asks the provider again");
                    tries.retries += 1;
                    return Ok(pause);
                }
            }
            _ => {}
        }
        let Some(fallback) = self.agent.fallback.as_ref().filter(|_| !self.has_fallen_back())
        else {
            return Err(error.into());
        };
        let (model, other) = (&self.model.name, &fallback.name);
        tracing::warn!(%error, %model, fallback = %other, "asks the fallback model from here on");
        let detail = telling::within(&format!("{other} instead of {model}: {error}"), 1000);
        if self.reply.len() > from {
            self.handle.say(ROUND_BREAK);
        }
        self.model = fallback;
        self.conversation.forget_raw();
        *tries = Tries::default();
        self.note("fallback_model", &detail).await?;
        Ok(Duration::ZERO)
    }

    async fn note(&mut self, name: &str, detail: &str) -> Result<(), Stopped> {
        let handle = self.handle;
        Ok(self.attend(handle.emit(name, detail)).await??)
    }

    /// One request; what it says is appended to the reply, which is `from` bytes long.
    async fn request(&mut self, from: usize) -> Result<Answered, Stopped> {
        // Where there are no tools, a call is nothing that anybody could answer.
        let answer_only = self.must_answer() || self.tools.is_empty();
        if answer_only && !self.tools.is_empty() && !self.told_to_answer {
            self.told_to_answer = true;
            self.conversation.push_user(telling::ANSWER_NOW);
        }
        let conversation = std::mem::take(&mut self.conversation);
        let answered = self.hear(&conversation, answer_only, from).await;
        self.conversation = conversation;
        answered
    }

    async fn hear(
        &mut self,
        conversation: &Conversation,
        answer_only: bool,
        from: usize,
    ) -> Result<Answered, Stopped> {
        let (model, handle) = (self.model, self.handle);
        let trace = handle.trace();
        let question = Question {
            system: self.system,
            lines: conversation.lines(),
            tools: self.tools.specs(),
            answer_only,
            trace: trace.as_ref(),
        };
        let _connection = handle.opened(Open::Here(1));
        let answer = self.attend(model.provider.ask(question)).await??;
        let mut answer = Booked { answer, handle };
        let mut calls = Vec::new();
        let mut alive_at = Instant::now();
        while let Some(piece) = self.attend(answer.answer.next()).await?? {
            match piece {
                Piece::Text(text) => self.say(from, &text)?,
                Piece::Call(call) => calls.push(call),
                Piece::Life if alive_at.elapsed() >= LIFE_INTERVAL => {
                    // An agent's silence has a limit, and thinking is none.
                    handle.say("");
                    alive_at = Instant::now();
                }
                Piece::Life => {}
            }
        }
        let ending = answer.answer.ending();
        if matches!(ending, Ending::Length | Ending::Filtered) {
            // The last of them may be half a call, and right JSON by chance.
            calls.clear();
        }
        let wants_calls = !calls.is_empty() && !answer_only;
        self.judge(from, &ending, wants_calls)?;
        Ok(Answered { calls, raw: answer.answer.raw(), answer_only })
    }

    fn say(&mut self, from: usize, text: &str) -> Result<(), Stopped> {
        if !self.streaming {
            self.streaming = true;
            if from > 0 {
                self.reply.push_str(ROUND_BREAK);
                self.handle.say(ROUND_BREAK);
            }
        }
        self.reply.push_str(text);
        let limit = self.agent.settings.reply_bytes_max;
        if self.reply.len() > limit {
            let message = format!("the answer is longer than {limit} bytes");
            return Err(Stopped::Unfit(ProviderError::Refused(message)));
        }
        self.handle.say(text);
        Ok(())
    }

    /// Whether a complete answer is one.
    fn judge(&self, from: usize, ending: &Ending, wants_calls: bool) -> Result<(), Stopped> {
        let reason = match ending {
            Ending::Complete => "stop",
            Ending::Calls => "tool_calls",
            Ending::Length => "length",
            Ending::Filtered => "content_filter",
            Ending::Other(word) => word,
        };
        let said = |from: usize| !self.reply.get(from..).unwrap_or_default().trim().is_empty();
        if wants_calls {
            return Ok(());
        }
        // Nothing behind its calls is an answer if it said something before them.
        if !said(from) && !said(self.round_from) {
            let message = format!("the provider gave an empty answer (finish reason: {reason})");
            return Err(Stopped::Unfit(match ending {
                Ending::Filtered | Ending::Length => ProviderError::Refused(message),
                _ => ProviderError::Broken(message),
            }));
        }
        if matches!(ending, Ending::Length | Ending::Filtered) {
            // What was said was shown; half an answer is worth more to its reader than none.
            tracing::warn!(reason, model = self.model.name, "the answer is not whole");
        }
        Ok(())
    }
}

/// An answer whose cost is told whenever and however it ends, also where the run is dropped.
struct Booked<'a> {
    answer: Box<dyn Answer + 'a>,
    handle: &'a dyn TurnHandle,
}

impl Drop for Booked<'_> {
    fn drop(&mut self) {
        let Some(usage) = self.answer.usage() else { return };
        let (input, cached) = (usage.input_tokens, usage.cached_tokens);
        tracing::debug!(input, cached, output = usage.output_tokens, "provider usage");
        self.handle.used(usage);
    }
}

/// How long to wait before the next try of a request, or none if that is the gateway's to do.
fn retry_pause(
    settings: &TurnSettings,
    retries: u32,
    retry_after: Option<Duration>,
) -> Option<Duration> {
    if retries >= settings.retries_max {
        return None;
    }
    let pause = settings.retry_pause.saturating_mul(1 << retries.min(16));
    let pause = pause.min(settings.retry_pause_max);
    // The server knows best, in both directions.
    Some(retry_after.unwrap_or(pause)).filter(|pause| *pause <= settings.retry_pause_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_waits_as_asked_within_limits() {
        let settings = TurnSettings {
            retries_max: 3,
            retry_pause: Duration::from_millis(500),
            retry_pause_max: Duration::from_secs(1),
            ..TurnSettings::default()
        };
        let check = |retries, after: Option<u64>, expect: Option<u64>| {
            let pause = retry_pause(&settings, retries, after.map(Duration::from_millis));
            assert_eq!(pause, expect.map(Duration::from_millis), "{retries} {after:?}");
        };
        check(0, None, Some(500));
        check(1, None, Some(1000));
        check(2, None, Some(1000));
        check(3, None, None);
        check(0, Some(0), Some(0));
        check(0, Some(1000), Some(1000));
        check(0, Some(1001), None);
        check(3, Some(0), None);
    }
}
