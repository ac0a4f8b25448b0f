//! The conversation before a turn, as its agent gets it: read from the journal, which holds more than
//! what was said.

use turnkeep_core::Event;
use turnkeep_core::ids::{Seq, TurnId};
use turnkeep_core::journal::{EventBody, NoticeSource};
use turnkeep_core::ports::agent::{HistoryEntry, Role};

use super::RunHandle;

/// Journal entries read for each line that was asked for: a turn has about this many.
const ENTRIES_PER_LINE: u64 = 6;
/// So many at most, where tools or trouble left many entries between the lines.
const ENTRIES_PER_LINE_MAX: u64 = 96;

/// What was found so far.
#[derive(Default)]
struct Found {
    lines: Vec<HistoryEntry>,
    /// Places that retried dead letters left.
    retried: Vec<Seq>,
    /// The turn's own beginning was read.
    began: bool,
}

impl RunHandle {
    pub(super) async fn lines_before(&self, limit: usize) -> Result<Vec<HistoryEntry>, String> {
        let wanted = limit as u64;
        let reach = |per_line: u64| {
            let entries = wanted.saturating_mul(per_line);
            Seq(self.first.0.saturating_sub(entries).max(self.history_from.0))
        };
        let (mut found, mut per_line) = (Found::default(), ENTRIES_PER_LINE);
        let mut after = reach(per_line);
        self.read(after, None, &mut found).await?;
        while found.lines.len() < limit
            && after > self.history_from
            && per_line < ENTRIES_PER_LINE_MAX
        {
            per_line *= 4;
            let until = std::mem::replace(&mut after, reach(per_line));
            let newer = std::mem::take(&mut found.lines);
            self.read(after, Some(until), &mut found).await?;
            found.lines.extend(newer);
            found.drop_retried();
        }
        found.drop_retried();
        let mut lines = found.lines;
        Ok(lines.split_off(lines.len().saturating_sub(limit)))
    }

    /// Reads what stands behind `after`, up to `until` or to where the turn began with all of its
    /// messages.
    async fn read(&self, after: Seq, until: Option<Seq>, found: &mut Found) -> Result<(), String> {
        let mut cursor = after;
        while until.map_or(cursor < self.last || !found.began, |until| cursor < until) {
            let store = &self.gateway.0.store;
            let page = store.events(&self.key, cursor, 256).await.map_err(|e| e.to_string())?;
            let Some(last) = page.last() else { break };
            cursor = last.seq;
            for event in page {
                if until.is_some_and(|until| event.seq > until) {
                    break;
                }
                found.began |= begins(&event, self.shared.tag.turn);
                if event.seq <= self.last {
                    found.retried.extend(retry_of(&event));
                }
                // What was said before this turn began, but of what users said only what came
                // before its own messages: they may have waited for a reply to others.
                let before = |line: &HistoryEntry| match line.role {
                    Role::User => line.seq < self.first,
                    // While the agent ended what it could not lay down, an operator may have spoken.
                    Role::Operator => true,
                    Role::Agent => until.is_some() || !found.began,
                };
                found.lines.extend(line_of(event).filter(before));
            }
        }
        Ok(())
    }
}

impl Found {
    /// What a person had tried again was said once: it stands where it was taken anew.
    fn drop_retried(&mut self) {
        self.lines.retain(|line| !self.retried.contains(&line.seq));
    }
}

/// Whether a turn begins with this entry.
fn begins(event: &Event, turn: TurnId) -> bool {
    matches!(&event.body, EventBody::TurnStarted { turn_id, .. } if *turn_id == turn)
}

/// The place that a retried dead letter left.
const fn retry_of(event: &Event) -> Option<Seq> {
    match &event.body {
        EventBody::MessageAccepted { retry_of, .. } => *retry_of,
        _ => None,
    }
}

/// What an entry adds to the conversation.
fn line_of(event: Event) -> Option<HistoryEntry> {
    let (role, text) = match event.body {
        EventBody::MessageAccepted { text, .. } => (Role::User, text),
        EventBody::TurnCompleted { reply: Some(reply), by: Some(_), .. } => (Role::Operator, reply),
        EventBody::SessionNotice { text, source: NoticeSource::Operator, .. } => {
            (Role::Operator, text)
        }
        EventBody::TurnCompleted { reply: Some(reply), .. }
        | EventBody::TurnCancelled { reply: Some(reply), .. } => (Role::Agent, reply),
        EventBody::TurnWaitingForInput { text, .. } => (Role::Agent, text),
        // The customer read it in the agent's place, and may come back to it.
        EventBody::SessionNotice { text, source: NoticeSource::Unasked, .. } => (Role::Agent, text),
        _ => return None,
    };
    Some(HistoryEntry { seq: event.seq, role, text })
}
