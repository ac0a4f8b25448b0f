//! Asks an agent whether something said in a group is for us, where a group is configured so.
//!
//! The agent gets a turn of its own that is in no session: it can read nothing, keep nothing and
//! call no tool, and what it answers is a yes or it is none.

use std::future::{pending, ready};
use std::sync::Arc;

use turnkeep_core::SessionKey;
use turnkeep_core::ids::{Attempt, QuestionId, RunTag, Seq, TurnGroupId};
use turnkeep_core::journal::SupersedeChoice;
use turnkeep_core::message::{MessageBody, Pending};
use turnkeep_core::moderation::Ruling;
use turnkeep_core::policy::{Trust, channel_facts};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::agent::{
    Declined, HistoryEntry, Permission, RecordedCall, Revoked, SlotGuard, SupersedeQuestion,
    ToolCall, TurnContext, TurnHandle,
};
use turnkeep_core::ports::moderator::Checkup;
use turnkeep_core::session_key::SessionKind;
use turnkeep_core::tool::ToolOutcome;
use turnkeep_core::usage::Usage;

use crate::clock;
use crate::money::Reports;
use crate::service::Gateway;
use crate::slots::Slots;

impl Gateway {
    /// What this agent says of a message; none where it can't be asked.
    pub(crate) async fn judged(
        &self,
        key: &SessionKey,
        agent: &str,
        body: &MessageBody,
    ) -> Option<Checkup> {
        let setup = self.setup();
        let Some(configured) = setup.agents.get(agent).cloned() else {
            tracing::warn!(agent, "no agent of this name can say whether a message is for us");
            return None;
        };
        let (tenant, channel, peer) = (key.tenant(), key.channel(), key.peer());
        let names = setup.settings.routing.group(&tenant, &channel, &peer);
        let names = names.map(|group| group.names.join(", ")).unwrap_or_default();
        // A brain shall not take it for a turn of the group itself.
        let session =
            SessionKey::new(&tenant, agent, &channel, SessionKind::Isolated, &peer).ok()?;
        let turn = clock::fresh_turn();
        let message = Pending {
            seq: Seq(1),
            at: clock::now(),
            trust: Trust::Public,
            alone: false,
            group: None,
            body: Arc::new(MessageBody {
                message_id: Arc::clone(&body.message_id),
                sender: Arc::clone(&body.sender),
                text: question(&names, &body.text).into(),
            }),
        };
        let tag = RunTag { turn, epoch: self.store().epoch(), attempt: Attempt(1) };
        let handle = Aside {
            slots: configured.slots,
            key: session.clone(),
            tag,
            group: key.clone(),
            reports: Reports::new((key.agent() != agent).then(|| agent.into())),
            gateway: self.clone(),
        };
        let context = TurnContext {
            session,
            tag,
            group: TurnGroupId(turn.0),
            trust: Trust::Public,
            facts: *channel_facts(&channel)?,
            messages: vec![message],
            resume: false,
            handle: Arc::new(handle),
        };
        match configured.agent.run(context).await {
            Ok(finished) => {
                let yes = finished.reply.as_deref().is_some_and(is_yes);
                let ruling = if yes { Ruling::Addressed } else { Ruling::Context };
                Some(Checkup { ruling, reason: None })
            }
            Err(failure) => {
                let error = &*failure.error;
                tracing::warn!(agent, error, "it could not say whether a message is for us");
                None
            }
        }
    }
}

fn question(names: &str, said: &str) -> String {
    let us = if names.is_empty() { "you, the assistant," } else { names };
    format!(
        "Somebody wrote this in a group chat in which {us} takes part:\n\n{said}\n\nIs it said to \
         {us} so that an answer is expected? Answer with one word, yes or no."
    )
}

/// Whether an answer begins with yes and with nothing else.
fn is_yes(answer: &str) -> bool {
    let word: String = answer.trim().chars().take_while(|letter| letter.is_alphabetic()).collect();
    word.eq_ignore_ascii_case("yes")
}

/// The handle of a turn that is in no session.
struct Aside {
    slots: Arc<Slots>,
    key: SessionKey,
    tag: RunTag,
    /// The session that it costs something.
    group: SessionKey,
    reports: Reports,
    gateway: Gateway,
}

const LOOKS_ONLY: &str = "nothing is done here: this is a question about a message";

impl TurnHandle for Aside {
    fn mail(&self) -> BoxFuture<'_, Result<Vec<Pending>, Revoked>> {
        Box::pin(ready(Ok(Vec::new())))
    }

    fn has_mail(&self) -> bool {
        false
    }

    fn mail_arrived(&self) -> BoxFuture<'_, ()> {
        Box::pin(pending())
    }

    fn commit_point(&self) -> BoxFuture<'_, Result<(), Declined>> {
        Box::pin(ready(Err(Declined::Refused(LOOKS_ONLY))))
    }

    fn say(&self, _: &str) {}

    fn ask(&self, _: &str) -> BoxFuture<'_, Result<Pending, Declined>> {
        Box::pin(ready(Err(Declined::Refused(LOOKS_ONLY))))
    }

    fn confirm(&self, _: &str) -> BoxFuture<'_, Result<Option<Pending>, Declined>> {
        Box::pin(ready(Err(Declined::Refused(LOOKS_ONLY))))
    }

    fn emit(&self, _: &str, _: &str) -> BoxFuture<'_, Result<(), Revoked>> {
        Box::pin(ready(Ok(())))
    }

    fn intend(&self, _: ToolCall) -> BoxFuture<'_, Result<Permission, Revoked>> {
        Box::pin(ready(Ok(Permission::Refused(LOOKS_ONLY))))
    }

    fn returned(&self, _: Seq, _: ToolOutcome, _: &str) -> BoxFuture<'_, Result<(), Revoked>> {
        Box::pin(ready(Ok(())))
    }

    fn recorded(&self) -> BoxFuture<'_, Result<Vec<RecordedCall>, String>> {
        Box::pin(ready(Ok(Vec::new())))
    }

    /// Whoever asks gives up by letting go of the whole run.
    fn cancelled(&self) -> BoxFuture<'_, ()> {
        Box::pin(pending())
    }

    fn question(&self) -> BoxFuture<'_, SupersedeQuestion> {
        Box::pin(pending())
    }

    fn answer(&self, _: QuestionId, _: SupersedeChoice) {}

    fn finish_now(&self) -> bool {
        false
    }

    fn slot(&self) -> BoxFuture<'_, Box<dyn SlotGuard>> {
        Box::pin(self.slots.take(&self.key))
    }

    fn history(&self, _: usize) -> BoxFuture<'_, Result<Vec<HistoryEntry>, String>> {
        Box::pin(ready(Ok(Vec::new())))
    }

    /// It is of no turn that there is a row of, and the group pays for it.
    fn used(&self, usage: Usage) {
        self.reports.send(&self.gateway, &self.group, self.tag, usage);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        for yes in ["yes", "Yes.", " YES, it is", "yes"] {
            assert!(is_yes(yes), "{yes}");
        }
        for no in ["no", "", "yesterday", "echo: yes", "I think yes", "да"] {
            assert!(!is_yes(no), "{no}");
        }
        assert!(question("Turnkeep, tk", "hello").contains("hello"));
    }
}
