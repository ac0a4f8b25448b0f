//! One turn: its answers, the mail and questions that come meanwhile, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use turnkeep_core::SessionKind;
use turnkeep_core::ids::Seq;
use turnkeep_core::journal::SupersedeChoice;
use turnkeep_core::message::Pending;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::agent::{
    RecordedCall, Revoked, SupersedeQuestion, TurnContext, TurnHandle,
};
use turnkeep_core::session::input::{Finished, RunFailure};

use super::calls::Tools;
use super::conversation::Conversation;
use super::provider::{Call, ProviderError};
use super::{Model, ModelAgent, telling};
use crate::tools::Toolbox;

/// Answers one turn.
pub(super) async fn run(agent: &ModelAgent, context: TurnContext) -> Result<Finished, RunFailure> {
    let of_turn = |toolbox: &Arc<dyn Toolbox>| {
        toolbox.for_turn(&context).unwrap_or_else(|| Arc::clone(toolbox))
    };
    let toolboxes: Vec<Arc<dyn Toolbox>> = agent.toolboxes.iter().map(of_turn).collect();
    let TurnContext { session, messages, handle, .. } = context;
    let handle: &dyn TurnHandle = &*handle;
    let settings = &agent.settings;
    let unreadable =
        |what: &str, error: String| failure(&format!("{what} can't be read: {error}"), true, None);
    let history = handle
        .history(settings.history_messages)
        .await
        .map_err(|error| unreadable("the history", error))?;
    let recorded =
        handle.recorded().await.map_err(|error| unreadable("what tools did before", error))?;
    let (tools, away) = Tools::open(&toolboxes).await;
    let system = instructions(settings.system_prompt.as_deref(), &away);
    let mut turn = Turn {
        agent,
        handle,
        in_group: session.kind() == SessionKind::Group,
        model: agent.chosen(handle.model().as_deref()),
        tools: &tools,
        system: system.as_deref(),
        cancelled: handle.cancelled(),
        question: handle.question(),
        conversation: Conversation::new(&history, settings.history_tokens),
        given: None,
        reply: String::new(),
        answered: None,
        recorded: Vec::new(),
        acted: false,
        streaming: false,
        told_to_answer: false,
        rounds: 0,
        tool_rounds: 0,
        round_from: 0,
    };
    turn.add(messages);
    if let Some(note) = telling::recorded(&recorded) {
        turn.conversation.push_user(&note);
    }
    turn.recorded = recorded;
    let ended = turn.answer_all().await;
    turn.finish(ended)
}

/// The prompt, and which tools are away.
fn instructions(prompt: Option<&str>, away: &[String]) -> Option<String> {
    if away.is_empty() {
        return prompt.map(str::to_owned);
    }
    let away = format!("Some tools are away now: {}.", away.join("; "));
    Some(prompt.map_or_else(|| away.clone(), |prompt| format!("{prompt}\n\n{away}")))
}

/// Why a turn ended without having answered everything it took.
pub(super) enum Stopped {
    /// Somebody else has the turn now, or nobody.
    Revoked,
    /// A request failed.
    Failed(ProviderError),
    /// There was an answer, and it is none that can be given.
    Unfit(ProviderError),
}

impl From<ProviderError> for Stopped {
    fn from(error: ProviderError) -> Self {
        Self::Failed(error)
    }
}

impl From<Revoked> for Stopped {
    fn from(_: Revoked) -> Self {
        Self::Revoked
    }
}

pub(super) struct Turn<'a> {
    pub(super) agent: &'a ModelAgent,
    pub(super) handle: &'a dyn TurnHandle,
    /// Several people talk here, and each message says who said it.
    pub(super) in_group: bool,
    /// The model that is asked now.
    pub(super) model: &'a Model,
    pub(super) tools: &'a Tools<'a>,
    pub(super) system: Option<&'a str>,
    cancelled: BoxFuture<'a, ()>,
    question: BoxFuture<'a, SupersedeQuestion>,
    pub(super) conversation: Conversation,
    /// The last message in the conversation.
    given: Option<Seq>,
    /// What was said so far, answers that are not complete included.
    pub(super) reply: String,
    /// After the last complete round: how much of `reply` it is, and the last message it answers.
    answered: Option<(usize, Option<Seq>)>,
    /// What was done for this turn group before this attempt, and calls of its own that somebody
    /// had to allow. The gateway bounds both.
    pub(super) recorded: Vec<RecordedCall>,
    /// Whether a tool did something since then.
    pub(super) acted: bool,
    /// Whether the current request's answer has begun to show.
    pub(super) streaming: bool,
    /// Whether the model knows that no tool can be called any more.
    pub(super) told_to_answer: bool,
    /// Rounds that were answered, the current one included.
    rounds: u32,
    /// Answers that might have asked for tools.
    tool_rounds: u32,
    /// Where the current round's words begin.
    pub(super) round_from: usize,
}

impl<'a> Turn<'a> {
    async fn answer_all(&mut self) -> Result<(), Stopped> {
        loop {
            self.rounds += 1;
            self.round_from = self.reply.len();
            self.complete().await?;
            self.answered = Some((self.reply.len(), self.given));
            self.acted = false;
            if self.is_last_round() || !self.handle.has_mail() {
                return Ok(());
            }
            let mail = self.handle.mail().await?;
            if mail.is_empty() {
                return Ok(());
            }
            self.add(mail);
        }
    }

    /// A round: the model is asked until it wants no more calls.
    async fn complete(&mut self) -> Result<(), Stopped> {
        loop {
            let from = self.reply.len();
            let answer = self.ask_model().await?;
            let said = self.reply.get(from..).unwrap_or_default().trim_start().to_owned();
            self.tool_rounds += u32::from(!answer.answer_only);
            if answer.calls.is_empty() || answer.answer_only {
                if !said.is_empty() {
                    self.conversation.push_agent(&said);
                }
                return Ok(());
            }
            self.make_calls(&said, answer.calls, answer.raw).await?;
        }
    }

    /// Makes the calls of one answer. They enter the conversation with their results or not at all.
    async fn make_calls(
        &mut self,
        said: &str,
        calls: Vec<Call>,
        raw: Option<serde_json::Value>,
    ) -> Result<(), Stopped> {
        let (results, mail) = self.call_all(&calls).await?;
        self.conversation.push_calls(said, calls, raw, results);
        self.add(mail);
        if self.handle.has_mail() && !self.handle.finish_now() {
            let mail = self.handle.mail().await?;
            self.add(mail);
        }
        Ok(())
    }

    fn finish(self, ended: Result<(), Stopped>) -> Result<Finished, RunFailure> {
        match ended {
            Ok(()) => {}
            // Whoever cancelled has taken care of the turn already.
            Err(Stopped::Revoked) => return Err(failure("the run was cancelled", true, None)),
            Err(Stopped::Failed(error) | Stopped::Unfit(error)) => {
                // What a tool did for a message must not be handed on with it: the next turn knows
                // nothing of it, and would do it again.
                if self.answered.is_none() || self.acted {
                    return Err(run_failure(&error));
                }
                tracing::warn!(%error, "later messages are left to the next turn");
            }
        }
        let (length, used) = self.answered.unwrap_or((self.reply.len(), self.given));
        let reply = self.reply.get(..length).unwrap_or_default();
        Ok(Finished {
            reply: Some(Arc::from(reply)),
            used,
            version: Some(Arc::clone(self.agent.version_with(self.model))),
            ..Finished::default()
        })
    }

    pub(super) fn has_fallen_back(&self) -> bool {
        self.agent.fallback.as_ref().is_some_and(|fallback| std::ptr::eq(self.model, fallback))
    }

    fn add(&mut self, messages: Vec<Pending>) {
        for message in messages {
            self.conversation.push_user(&message.body.text);
            self.take_note_of(&message);
        }
    }

    /// What the user said is part of what the reply answers.
    pub(super) fn take_note_of(&mut self, message: &Pending) {
        self.given = self.given.max(Some(message.seq));
    }

    fn is_last_round(&self) -> bool {
        self.rounds >= self.agent.settings.rounds_max || self.handle.finish_now()
    }

    /// Whether there are tools, and none may be called any more. Bounds the requests of an attempt.
    pub(super) fn must_answer(&self) -> bool {
        let used_up = self.tool_rounds >= self.agent.settings.tool_rounds_max;
        !self.tools.is_empty() && (used_up || self.handle.finish_now())
    }

    /// Waits for `work` before a request; mail that comes meanwhile goes along with the request.
    pub(super) async fn wait_with_mail<T>(
        &mut self,
        work: impl Future<Output = T>,
    ) -> Result<T, Stopped> {
        let mut work = std::pin::pin!(work);
        let handle = self.handle;
        loop {
            tokio::select! {
                biased;
                done = self.attend(work.as_mut()) => return done,
                () = handle.mail_arrived() => {}
            }
            let mail = handle.mail().await?;
            if mail.is_empty() {
                // It is not ours yet, or not any more: a question on it is open, or the turn is full.
                return self.attend(work).await;
            }
            self.add(mail);
        }
    }

    /// Does `work` unless the run is cancelled, and answers the gateway's questions meanwhile.
    pub(super) async fn attend<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Stopped> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                () = &mut self.cancelled => return Err(Stopped::Revoked),
                asked = &mut self.question => self.answer(&asked),
                done = &mut work => return Ok(done),
            }
        }
    }

    /// The same to the end, also of a run that is to end: what tools did has to go on record.
    pub(super) async fn attend_to_the_end<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                asked = &mut self.question => self.answer(&asked),
                done = &mut work => return done,
            }
        }
    }

    /// Mail that has to be read now. Where the gateway has a question about it, that is answered
    /// first, and waited for no longer than `patience`.
    pub(super) async fn mail_now(&mut self, patience: Duration) -> Result<Vec<Pending>, Stopped> {
        let handle: &'a dyn TurnHandle = self.handle;
        let mail = handle.mail().await?;
        if !mail.is_empty() {
            return Ok(mail);
        }
        tokio::select! {
            biased;
            () = &mut self.cancelled => return Err(Stopped::Revoked),
            asked = &mut self.question => self.answer(&asked),
            () = handle.mail_arrived() => {}
            () = sleep(patience) => return Ok(Vec::new()),
        }
        Ok(handle.mail().await?)
    }

    fn answer(&mut self, asked: &SupersedeQuestion) {
        let joins = !self.streaming && !self.is_last_round();
        let choice = if joins { SupersedeChoice::AbsorbContinue } else { SupersedeChoice::Queue };
        self.handle.answer(asked.id, choice);
        self.question = self.handle.question();
    }
}

fn run_failure(error: &ProviderError) -> RunFailure {
    let retry_after_ms = match error {
        ProviderError::Busy { retry_after, .. } => {
            retry_after.map(|pause| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX))
        }
        _ => None,
    };
    let retry = matches!(error, ProviderError::Busy { .. } | ProviderError::Broken(_));
    failure(&error.to_string(), retry, retry_after_ms)
}

fn failure(error: &str, retry: bool, retry_after_ms: Option<u64>) -> RunFailure {
    RunFailure { error: Arc::from(error), retry, retry_after_ms }
}
