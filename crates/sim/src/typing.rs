//! What a session has learnt of its customer's typing, held against the journal: every gap is one
//! that happened, none is missing, and the windows follow from them.

use turnkeep_core::accumulation::{Rhythm, window_ms};
use turnkeep_core::ids::{Seq, Timestamp};
use turnkeep_core::journal::{Event, EventBody};
use turnkeep_core::message::Action;
use turnkeep_core::policy::WindowMode;
use turnkeep_core::session::Stage;
use turnkeep_core::{Policy, Session};

/// Samples that are kept.
const LAST: usize = 32;
/// From so many on they shape a window.
const COUNTS: usize = 5;

/// The gaps that happened in one session.
#[derive(Debug, Default)]
pub(crate) struct Typing {
    gaps: Vec<u16>,
    /// When each accepted message came that may be the earlier one of two.
    came: Vec<(Seq, Timestamp)>,
    /// The agent asked something, and nobody answered yet.
    asked: bool,
    /// What was accepted last, if nothing else was since.
    newest: Option<Seq>,
}

impl Typing {
    pub(crate) fn clear(&mut self) {
        self.gaps.clear();
        self.came.clear();
        (self.asked, self.newest) = (false, None);
    }

    /// The next entry; `open` are the messages that had no ending before it.
    pub(crate) fn observe(&mut self, event: &Event, open: &[Seq], policy: &Policy) {
        match &event.body {
            EventBody::MessageAccepted { retry_of: None, action, .. } => {
                let last = open.iter().max();
                let before =
                    self.came.iter().rev().find(|(seq, _)| Some(seq) == last).map(|(_, at)| *at);
                if let Some(gap) = before.and_then(|before| u64::try_from(event.at - before).ok())
                    && *action != Action::Context
                    && !self.asked
                    && gap <= policy.window_total_ms.into()
                {
                    self.gaps.push(u16::try_from(gap).unwrap_or(u16::MAX));
                }
                self.came.push((event.seq, event.at));
                self.newest = Some(event.seq);
            }
            EventBody::TurnWaitingForInput { .. } => self.asked = true,
            EventBody::TurnAnswered { .. }
            | EventBody::TurnProcessing { .. }
            | EventBody::TurnCompleted { .. }
            | EventBody::TurnCancelled { .. }
            | EventBody::TurnFailed { .. }
            | EventBody::TurnWaitingForOperator { .. } => self.asked = false,
            _ => {}
        }
    }

    /// What is wrong with the state that was committed with the entries up to here.
    pub(crate) fn verdict(
        &mut self,
        session: &Session,
        landed: &[Event],
        policy: &Policy,
    ) -> Option<String> {
        if policy.window_mode != WindowMode::Adaptive || policy.window_ms == 0 {
            let learnt = !session.rhythm.is_empty();
            return learnt.then(|| "a rhythm is learnt that nobody uses".to_owned());
        }
        let gaps = &self.gaps[self.gaps.len().saturating_sub(LAST)..];
        if session.rhythm.as_slice() != gaps {
            let known = session.rhythm.as_slice();
            return Some(format!("the gaps were {gaps:?}, and {known:?} are remembered"));
        }
        let window = self.window(session, landed, policy)?;
        let turn = session.turn.as_ref()?;
        let Stage::Accumulating { window: armed } = turn.stage else { return None };
        let total = i64::from(policy.window_total_ms);
        let left = (turn.started_at + total - session.updated_at).clamp(0, total).unsigned_abs();
        let short = window.min(left);
        // In the same commit the customer may have typed, which makes it longer.
        let typed = short.max(policy.window_ms.into()).min(left);
        let right = armed.duration_ms == short || armed.duration_ms == typed;
        (!right).then(|| format!("a window of {armed:?} should be {short} ms"))
    }

    /// How long the customer's last message is waited for, if this commit brought it and it
    /// joined a gathering turn.
    fn window(&mut self, session: &Session, landed: &[Event], policy: &Policy) -> Option<u64> {
        let newest = self.newest.take()?;
        if self.gaps.len() < COUNTS {
            // A window that nothing learnt has shaped is no matter of this file.
            return None;
        }
        let turn = session.turn.as_ref()?;
        let last = turn.messages.last().filter(|last| last.seq == newest)?;
        // A new turn that takes messages over has waited for none of them yet.
        let superseded = landed.iter().any(|event| match &event.body {
            EventBody::TurnStarted { supersedes: Some(_), messages, .. } => {
                messages.contains(&newest)
            }
            _ => false,
        });
        let nth = if superseded { 1 } else { u32::try_from(turn.messages.len()).unwrap_or(1) };
        Some(window_ms(policy, &last.body.text, nth, session.hint, self.rhythm()))
    }

    fn rhythm(&self) -> Rhythm {
        let last = &self.gaps[self.gaps.len().saturating_sub(LAST)..];
        let (mut gaps, count) = ([0; LAST], last.len());
        gaps[..count].copy_from_slice(last);
        gaps[..count].sort_unstable();
        let at = |percent: usize| {
            let share = (count * percent).div_ceil(100);
            gaps.get(share.saturating_sub(1)).map_or(0, |gap| u32::from(*gap))
        };
        let samples = u32::try_from(count).unwrap_or(u32::MAX);
        Rhythm { samples, p50_ms: at(50), p95_ms: at(95) }
    }
}
