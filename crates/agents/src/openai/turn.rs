//! One turn: its requests, the retries of each, and the mail and questions that come meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use turnkeep_core::ids::Seq;
use turnkeep_core::journal::SupersedeChoice;
use turnkeep_core::message::Pending;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::agent::{SupersedeQuestion, TurnContext, TurnHandle};
use turnkeep_core::session::input::{Finished, RunFailure};

use super::client::{Answer, Client, Piece, ProviderError};
use super::conversation::Conversation;
use super::settings::OpenAiSettings;

/// Stands between what was said before some mail and what was said after.
const ROUND_BREAK: &str = "\n\n";
/// How often a model that thinks without words is reported to be alive.
const LIFE_INTERVAL: Duration = Duration::from_secs(10);

/// Answers one turn.
pub(super) async fn run(
    settings: &OpenAiSettings,
    client: &Client,
    context: TurnContext,
) -> Result<Finished, RunFailure> {
    let TurnContext { messages, handle, .. } = context;
    let handle: &dyn TurnHandle = &*handle;
    let history = handle
        .history(settings.history_messages)
        .await
        .map_err(|error| failure(&format!("the history can't be read: {error}"), true, None))?;
    let system = settings.system_prompt.as_deref();
    let mut turn = Turn {
        settings,
        client,
        handle,
        cancelled: handle.cancelled(),
        question: handle.question(),
        conversation: Conversation::new(system, &history, settings.history_tokens),
        given: None,
        reply: String::new(),
        answered: None,
        streaming: false,
        rounds: 0,
    };
    turn.add(messages);
    let ended = turn.answer_all().await;
    turn.finish(ended)
}

/// Why a turn ended without having answered everything it took.
enum Stopped {
    /// Somebody else has the turn now, or nobody.
    Revoked,
    Failed(ProviderError),
}

impl From<ProviderError> for Stopped {
    fn from(error: ProviderError) -> Self {
        Self::Failed(error)
    }
}

struct Turn<'a> {
    settings: &'a OpenAiSettings,
    client: &'a Client,
    handle: &'a dyn TurnHandle,
    cancelled: BoxFuture<'a, ()>,
    question: BoxFuture<'a, SupersedeQuestion>,
    conversation: Conversation,
    /// The last message in the conversation.
    given: Option<Seq>,
    /// What was said so far, rounds that are not complete included.
    reply: String,
    /// After the last complete round: how much of `reply` it is, and the last message it answers.
    answered: Option<(usize, Option<Seq>)>,
    /// Whether the current request's answer has begun to show.
    streaming: bool,
    /// Requests that were answered, the current one included.
    rounds: u32,
}

impl Turn<'_> {
    async fn answer_all(&mut self) -> Result<(), Stopped> {
        loop {
            self.rounds += 1;
            let from = self.reply.len();
            self.complete().await?;
            self.answered = Some((self.reply.len(), self.given));
            if self.is_last_round() || !self.handle.has_mail() {
                return Ok(());
            }
            let mail = self.handle.mail().await.map_err(|_| Stopped::Revoked)?;
            if mail.is_empty() {
                return Ok(());
            }
            let said = self.reply.get(from..).unwrap_or_default();
            self.conversation.push_agent(said.trim_start());
            self.add(mail);
        }
    }

    /// One answer of the model, however many requests it takes.
    async fn complete(&mut self) -> Result<(), Stopped> {
        let mut retries = 0;
        loop {
            let from = self.reply.len();
            let slot = self.handle.slot();
            let slot = self.wait_with_mail(slot).await?;
            let outcome = self.request(from).await;
            // A pause before a retry leaves the slot to others.
            drop(slot);
            self.streaming = false;
            let pause = match outcome {
                Ok(()) => return Ok(()),
                Err(Stopped::Failed(ProviderError::Busy { message, retry_after })) => {
                    let pause = retry_pause(self.settings, retries, retry_after)
                        .filter(|_| !self.handle.finish_now());
                    let Some(pause) = pause else {
                        return Err(ProviderError::Busy { message, retry_after }.into());
                    };
                    tracing::debug!(%message, ?pause, "asks the provider again");
                    pause
                }
                Err(stopped) => return Err(stopped),
            };
            retries += 1;
            self.wait_with_mail(sleep(pause)).await?;
        }
    }

    /// One request; what it says is appended to the reply, which is `from` bytes long.
    async fn request(&mut self, from: usize) -> Result<(), Stopped> {
        let (client, settings) = (self.client, self.settings);
        let conversation = std::mem::take(&mut self.conversation);
        let trace = self.handle.trace();
        let asking = client.request(settings, conversation.messages(), trace.as_ref());
        let answer = self.attend(asking).await;
        self.conversation = conversation;
        let mut answer = answer??;
        let mut alive_at = Instant::now();
        while let Some(piece) = self.attend(answer.next()).await?? {
            match piece {
                Piece::Text(text) => self.say(from, &text)?,
                Piece::Life if alive_at.elapsed() >= LIFE_INTERVAL => {
                    // An agent's silence has a limit, and thinking is none.
                    self.handle.say("");
                    alive_at = Instant::now();
                }
                Piece::Life => {}
            }
        }
        self.judge(from, &answer)
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
        let limit = self.settings.reply_bytes_max;
        if self.reply.len() > limit {
            let message = format!("the answer is longer than {limit} bytes");
            return Err(ProviderError::Refused(message).into());
        }
        self.handle.say(text);
        Ok(())
    }

    /// Whether a complete answer is one.
    fn judge(&self, from: usize, answer: &Answer<'_>) -> Result<(), Stopped> {
        let reason = answer.finish_reason.as_deref().unwrap_or("none given");
        if let Some(usage) = answer.usage {
            let (prompt_tokens, completion_tokens) = (usage.prompt_tokens, usage.completion_tokens);
            tracing::debug!(prompt_tokens, completion_tokens, reason, "provider usage");
        }
        let said = self.reply.get(from..).unwrap_or_default();
        if said.trim().is_empty() {
            let message = format!("the provider gave an empty answer (finish reason: {reason})");
            return Err(match reason {
                "content_filter" | "length" => ProviderError::Refused(message),
                _ => ProviderError::Broken(message),
            }
            .into());
        }
        if matches!(reason, "length" | "content_filter") {
            // What was said was shown; half an answer is worth more to its reader than none.
            tracing::warn!(reason, model = self.settings.model, "the answer is not whole");
        }
        Ok(())
    }

    fn finish(self, ended: Result<(), Stopped>) -> Result<Finished, RunFailure> {
        match ended {
            Ok(()) => {}
            // Whoever cancelled has taken care of the turn already.
            Err(Stopped::Revoked) => return Err(failure("the run was cancelled", true, None)),
            Err(Stopped::Failed(error)) => {
                if self.answered.is_none() {
                    return Err(run_failure(&error));
                }
                tracing::warn!(%error, "later messages are left to the next turn");
            }
        }
        let (length, used) = self.answered.unwrap_or((self.reply.len(), self.given));
        let reply = self.reply.get(..length).unwrap_or_default();
        Ok(Finished { reply: Some(Arc::from(reply)), used, ..Finished::default() })
    }

    fn add(&mut self, messages: Vec<Pending>) {
        for message in messages {
            self.conversation.push_user(&message.body.text);
            self.given = Some(message.seq);
        }
    }

    fn is_last_round(&self) -> bool {
        self.rounds >= self.settings.rounds_max || self.handle.finish_now()
    }

    /// Waits for `work` before a request; mail that comes meanwhile goes along with the request.
    async fn wait_with_mail<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Stopped> {
        let mut work = std::pin::pin!(work);
        let handle = self.handle;
        loop {
            tokio::select! {
                biased;
                done = self.attend(work.as_mut()) => return done,
                () = handle.mail_arrived() => {}
            }
            let mail = handle.mail().await.map_err(|_| Stopped::Revoked)?;
            if mail.is_empty() {
                // It is not ours yet, or not any more: a question on it is open, or the turn is full.
                return self.attend(work).await;
            }
            self.add(mail);
        }
    }

    /// Does `work` unless the run is cancelled, and answers the gateway's questions meanwhile.
    async fn attend<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Stopped> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                () = &mut self.cancelled => return Err(Stopped::Revoked),
                asked = &mut self.question => {
                    let joins = !self.streaming && !self.is_last_round();
                    let choice =
                        if joins { SupersedeChoice::AbsorbContinue } else { SupersedeChoice::Queue };
                    self.handle.answer(asked.id, choice);
                    self.question = self.handle.question();
                }
                done = &mut work => return Ok(done),
            }
        }
    }
}

/// How long to wait before the next try of a request, or none if that is the gateway's to do.
fn retry_pause(
    settings: &OpenAiSettings,
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

fn run_failure(error: &ProviderError) -> RunFailure {
    let retry_after_ms = match error {
        ProviderError::Busy { retry_after, .. } => {
            retry_after.map(|pause| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX))
        }
        ProviderError::Broken(_) | ProviderError::Refused(_) => None,
    };
    let retry = !matches!(error, ProviderError::Refused(_));
    failure(&error.to_string(), retry, retry_after_ms)
}

fn failure(error: &str, retry: bool, retry_after_ms: Option<u64>) -> RunFailure {
    RunFailure { error: Arc::from(error), retry, retry_after_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_waits_as_asked_within_limits() {
        let settings = OpenAiSettings {
            retries_max: 3,
            retry_pause: Duration::from_millis(500),
            retry_pause_max: Duration::from_secs(1),
            ..OpenAiSettings::new("http://localhost", "model")
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
