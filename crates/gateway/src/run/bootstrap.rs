//! How a conversation begins that is new to its agent, but not to whoever talks: with the last lines of
//! the same chat, where another agent had it before.

use turnkeep_core::ids::{Seq, Timestamp};
use turnkeep_core::journal::EventBody;
use turnkeep_core::ports::agent::HistoryEntry;
use turnkeep_core::ports::store::Loaded;
use turnkeep_core::{Event, SessionKey};

use super::RunHandle;
use super::history::{ENTRIES_PER_LINE, Found, Pages};
use crate::recent::Entry;

/// So many lines are taken over.
const LINES_MAX: usize = 20;

impl RunHandle {
    /// Nothing where a person began anew (`/new`), here or there, and only of channels on which a
    /// person has one chat, whichever agent answers. Whoever asks the API names the agent, and means it.
    pub(super) async fn lines_of_the_chat(
        &self,
        limit: usize,
    ) -> Result<Vec<HistoryEntry>, String> {
        if self.history_from > Seq(0) || self.facts.pull {
            return Ok(Vec::new());
        }
        let mut before: Option<(SessionKey, Loaded)> = None;
        let mut reset_at = Timestamp::MIN;
        for key in self.same_chat() {
            let store = &self.gateway.0.store;
            let loaded = store.load(&key).await.map_err(|error| error.to_string())?;
            let Some(loaded) = loaded else { continue };
            reset_at = reset_at.max(self.reset_at(&key, &loaded).await?);
            let newer =
                |(_, known): &(_, Loaded)| known.session.updated_at < loaded.session.updated_at;
            if before.as_ref().is_none_or(newer) {
                before = Some((key, loaded));
            }
        }
        let Some((key, loaded)) = before else { return Ok(Vec::new()) };
        self.last_lines(&key, &loaded, reset_at, limit.min(LINES_MAX)).await
    }

    /// The sessions of the same chat with other agents.
    fn same_chat(&self) -> Vec<SessionKey> {
        let (own, setup) = (&self.key, self.gateway.setup());
        let mut agents: Vec<&String> =
            setup.agents.keys().filter(|name| **name != own.agent()).collect();
        agents.sort_unstable();
        let key = |agent: &String| {
            SessionKey::new(&own.tenant(), agent, &own.channel(), own.kind(), &own.peer()).ok()
        };
        agents.into_iter().filter_map(key).collect()
    }

    /// When somebody began anew there.
    async fn reset_at(&self, key: &SessionKey, loaded: &Loaded) -> Result<Timestamp, String> {
        let at = loaded.session.history_from;
        if at == Seq(0) {
            return Ok(Timestamp::MIN);
        }
        let store = &self.gateway.0.store;
        let found = store.events(key, Seq(at.0 - 1), 1).await.map_err(|error| error.to_string())?;
        Ok(found.first().map_or(Timestamp::MIN, |event| event.at))
    }

    async fn last_lines(
        &self,
        key: &SessionKey,
        loaded: &Loaded,
        reset_at: Timestamp,
        limit: usize,
    ) -> Result<Vec<HistoryEntry>, String> {
        let session = &loaded.session;
        let reach = limit as u64 * ENTRIES_PER_LINE;
        let cursor = Seq(session.last_seq.0.saturating_sub(reach)).max(session.history_from);
        let mut pages = Pages { store: &*self.gateway.0.store, key, cursor };
        let mut found = Found::default();
        while pages.cursor < session.last_seq {
            let Some(page) = pages.next().await? else { break };
            for event in
                page.iter().filter(|event| event.at >= reset_at && !self.begins_with(event))
            {
                let Some(entry) = Entry::of(event) else { continue };
                found.note(&entry, session.last_seq);
                found.lines.extend(entry.line());
            }
        }
        found.drop_retried();
        let mut lines = found.last(limit);
        for line in &mut lines {
            // It stands in another journal.
            line.seq = Seq(0);
        }
        Ok(lines)
    }

    /// The message that is to be answered may have been said there first.
    fn begins_with(&self, event: &Event) -> bool {
        matches!(&event.body, EventBody::MessageAccepted { message_id, .. } if *message_id == self.first_id)
    }
}
