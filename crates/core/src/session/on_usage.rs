//! What runs used: on record once for each report, also of runs that are over, because the money is
//! spent all the same; and what follows for a turn that used too much.

use std::sync::Arc;

use super::{FinishReason, Ignored, Machine};
use crate::budget::Limit;
use crate::ids::RunTag;
use crate::journal::{DeadReason, EventBody};
use crate::planted::{Planted, planted};
use crate::ports::store::UsageRow;
use crate::usage::{Day, Spent, Sums, Usage};

/// What a run used for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which one of this run, from 1: after a commit of which nobody knows whether it happened it
    /// comes again, and is booked once.
    pub number: u32,
    /// The agent that did the work, where it is not the session's own.
    pub agent: Option<Arc<str>>,
    /// How much, with its price if that is known.
    pub usage: Usage,
}

impl Machine<'_> {
    /// It touches the turn only if its run is the current one.
    pub(super) fn on_used(&mut self, tag: RunTag, report: &Report) {
        // A session that is gone: a late report must not bring its name back.
        let nothing_here = self.session.last_seq == crate::ids::Seq(0);
        let current = self.is_current(tag);
        if nothing_here || (!current && planted(Planted::LateUsageDropped)) {
            return self.ignore(Ignored::StaleRun);
        }
        let Report { number, agent, usage } = report;
        let known = self.session.spent.as_ref();
        if known.is_some_and(|spent| spent.is_booked(tag, *number))
            && !planted(Planted::UsageBookedTwice)
        {
            return self.ignore(Ignored::BookedUsage);
        }
        let sums = usage.sums();
        let counted = if planted(Planted::UsageUncounted) { Sums::default() } else { sums };
        let open = self.session.turn.as_ref().map(|turn| turn.id);
        let (before, now) = self.spent().book(tag, *number, &counted, open);
        let (turn_id, attempt) = (tag.turn, tag.attempt);
        let (agent, usage) = (agent.clone(), usage.clone());
        self.step.rows.usage.push(UsageRow {
            turn: turn_id,
            at: self.context.now,
            agent: agent.clone(),
            model: Arc::clone(&usage.model),
            sums,
        });
        self.journal(EventBody::UsageRecorded { turn_id, attempt, agent, usage });
        if current {
            self.limit_turn(&before, &now);
        }
    }

    fn spent(&mut self) -> &mut Spent {
        self.session.spent.get_or_insert_default()
    }

    fn turn_limit(&self) -> Limit {
        self.context.policy.budgets.as_ref().map_or_else(Limit::default, |budgets| budgets.turn)
    }

    /// At its limit a turn is asked to finish; at twice of it, it is given up, unless it did what
    /// can't be undone, or is doing something whose result has to be on record.
    fn limit_turn(&mut self, before: &Sums, now: &Sums) {
        let limit = self.turn_limit();
        let turn = self.session.turn.as_ref();
        let keeps = turn.is_some_and(|turn| turn.committed || self.is_acting(turn));
        if limit.is_used_up(now, 2) && !keeps {
            let tokens = now.tokens();
            let error = format!("the turn used {tokens} tokens, more than twice its budget");
            // Where an operator has the session, a person goes on with it.
            return match self.is_paused() {
                true => self.lay_down(Some(error.into())),
                false => self.fail(DeadReason::AgentFailed, &error.into()),
            };
        }
        if limit.is_used_up(now, 1) && !limit.is_used_up(before, 1) {
            self.finish_now(FinishReason::Budget);
        }
    }

    /// An attempt of a turn whose budget earlier ones used up begins with the end in sight.
    pub(super) fn limit_attempt(&mut self, tag: RunTag) {
        let Some(spent) = &self.session.spent else { return };
        if self.turn_limit().is_used_up(&spent.of_turn(tag.turn), 1) {
            self.finish_now(FinishReason::Budget);
        }
    }

    /// Another agent answers for now: the user is told, once a day.
    pub(super) fn on_degraded(&mut self) {
        let text = self.context.policy.budgets.as_ref().map(|all| Arc::clone(&all.degraded_text));
        let today = Day::of(self.context.now);
        let told = self.session.spent.as_ref().and_then(|spent| spent.degraded_on);
        if let Some(text) = self.worth_telling(text, told, today) {
            self.spent().degraded_on = Some(today);
            self.tell_of_budget(&text);
        }
    }

    /// A message is refused because a budget is used up: its sender is told, once a day, in a
    /// conversation that is there already. Names that nobody knows must not make sessions.
    pub(super) fn tell_refused(&mut self) {
        let text = self.context.policy.budgets.as_ref().map(|all| Arc::clone(&all.refused_text));
        let today = Day::of(self.context.now);
        let told = self.session.spent.as_ref().and_then(|spent| spent.refused_on);
        if self.session.closed || self.session.last_seq == crate::ids::Seq(0) {
            return;
        }
        if let Some(text) = self.worth_telling(text, told, today) {
            self.spent().refused_on = Some(today);
            self.tell_of_budget(&text);
        }
    }

    /// Whoever asks over a channel for programs is told by the answer.
    fn worth_telling(
        &self,
        text: Option<Arc<str>>,
        told: Option<Day>,
        today: Day,
    ) -> Option<Arc<str>> {
        let people = self.context.policy.facts.reopens;
        text.filter(|text| people && !text.is_empty() && told != Some(today))
    }

    fn tell_of_budget(&mut self, text: &Arc<str>) {
        let seq = self.journal(EventBody::notice(Arc::clone(text)));
        self.send_reply(seq, text);
    }
}
