//! What a run asks its user: one question at a time, and none that was answered before it began.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use turnkeep_core::ids::{QuestionId, Seq};
use turnkeep_core::message::Pending;
use turnkeep_core::ports::agent::Declined;
use turnkeep_core::session::{AgentAnswer, AgentInput};
use turnkeep_core::tool::Denied;

use super::{ANSWERED, Idle, Paused, Revoked, RunHandle, lock};
use crate::follow::find_asked;

/// A run's questions.
#[derive(Default)]
pub(super) struct Asks {
    /// One is open.
    open: AtomicBool,
    /// The one that was answered while no run was there.
    answered: Mutex<Option<QuestionId>>,
}

impl Asks {
    pub(super) fn new(answered: Option<QuestionId>) -> Self {
        Self { open: AtomicBool::new(false), answered: Mutex::new(answered) }
    }
}

/// Closes a question, however it ends.
struct Open<'a>(&'a AtomicBool);

impl<'a> Open<'a> {
    /// None if another one is open: there is one user, one answer, and one clock.
    fn new(open: &'a AtomicBool) -> Option<Self> {
        (!open.swap(true, Ordering::AcqRel)).then_some(Self(open))
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl RunHandle {
    /// Waits for the user's answer; none where mail has to be read before the question may be put.
    pub(super) async fn put_to_user(
        &self,
        text: Arc<str>,
        confirm: bool,
    ) -> Result<Option<Pending>, Declined> {
        let waiting = Declined::Refused(Denied::Waiting.as_str());
        let _open = Open::new(&self.asks.open).ok_or(waiting)?;
        self.shared.clear(ANSWERED);
        let told = match self.ask_again(&text).await? {
            Some(told) => told,
            None if confirm => self.request(move |token| AgentInput::Confirm(token, text)).await?,
            None => self.request(move |token| AgentInput::Ask(token, text)).await?,
        };
        let question = match told {
            AgentAnswer::Asked(question) => question,
            AgentAnswer::NotAllowed(denied) => return Err(Declined::Refused(denied.as_str())),
            AgentAnswer::MailFirst => {
                self.shared.mail_waiting();
                return Ok(None);
            }
            _ => return Err(Revoked.into()),
        };
        let _paused = Paused::new(&self.shared);
        let _idle = Idle::new(&self.gateway);
        loop {
            self.shared.wait_for(ANSWERED).await;
            self.shared.clear(ANSWERED);
            let answer = lock(&self.shared.rare).answer.take();
            if let Some((_, message)) = answer.filter(|(to, _)| *to == question) {
                self.note_given(std::slice::from_ref(&message));
                return Ok(Some(message));
            }
        }
    }

    /// Whether the user has answered just this, when no run was there to hear it.
    async fn ask_again(&self, text: &str) -> Result<Option<AgentAnswer>, Revoked> {
        let Some(question) = lock(&self.asks.answered).take() else { return Ok(None) };
        let before = Seq(self.first.0.saturating_sub(1));
        let found = find_asked(&*self.gateway.0.store, &self.key, before, question).await;
        // Without the words, the user is asked once more.
        let asked = found.ok().flatten().and_then(|found| found.asked);
        if asked.is_none_or(|asked| *asked.text != *text) {
            return Ok(None);
        }
        let told = self.request_or_refused(move |token| AgentInput::AskAgain(token, question));
        let told = told.await?;
        Ok(matches!(told, AgentAnswer::Asked(_)).then_some(told))
    }
}
