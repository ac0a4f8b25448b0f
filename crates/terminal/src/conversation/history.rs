//! Older pages of a conversation, fetched when somebody scrolls up to them.

use serde_json::Value;

use super::entry::{Entry, Kind, Standing};
use super::{Conversation, STRETCH};
use crate::moment::moment;
use crate::text::segment;

/// How many messages are asked for at once.
const PAGE: usize = 200;

/// A page of what was said before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OlderPage {
    /// It holds what stands behind this place.
    pub(crate) from: u64,
    /// And before this one.
    pub(crate) to: u64,
    /// The request's path.
    pub(crate) path: String,
}

impl Conversation {
    /// Whether nothing stands before what is here.
    pub(crate) const fn is_whole(&self) -> bool {
        self.oldest == 0 || self.oldest < self.first_seq
    }

    /// The page before what is here, if there is one, there is room, and it isn't on its way.
    pub(crate) fn older(&mut self) -> Option<OlderPage> {
        if self.is_whole() || self.fetching || self.is_crammed() || self.last_seq < self.awaited {
            return None;
        }
        self.fetching = true;
        let to = self.oldest;
        let from = self.cut_short.take().unwrap_or_else(|| to.saturating_sub(STRETCH));
        let session = segment(&self.session);
        let path = format!("/v1/sessions/{session}/messages?after={from}&limit={PAGE}");
        Some(OlderPage { from, to, path })
    }

    /// Takes a page that was fetched.
    pub(crate) fn take_older(&mut self, page: &OlderPage, body: &Value) {
        self.fetching = false;
        if page.to != self.oldest {
            return;
        }
        if let Some(first) = body["first_seq"].as_u64() {
            self.first_seq = self.first_seq.max(first);
        }
        // A page that was full before it came to what is here: what is between is asked for first.
        let next = body["next"].as_u64().filter(|next| *next > page.from && *next < page.to);
        if next.is_some() {
            self.cut_short = next;
            return;
        }
        let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
        let entries = messages.iter().filter_map(older_entry).filter(|entry| entry.seq <= page.to);
        for entry in entries.collect::<Vec<_>>().into_iter().rev() {
            if let Err(at) = self.index_of(entry.seq) {
                self.text_bytes += entry.text.len();
                self.entries.insert(at, entry);
            }
        }
        self.oldest = page.from;
    }

    /// A page could not be fetched; it may be tried again.
    pub(crate) const fn miss_older(&mut self) {
        self.fetching = false;
    }
}

fn older_entry(message: &Value) -> Option<Entry> {
    let seq = message["seq"].as_u64()?;
    let at = moment(&message["at"]).unwrap_or(0);
    let kind = match message["role"].as_str()? {
        "user" => Kind::User {
            sender: String::new(),
            standing: match message["status"].as_str() {
                Some("failed") => Standing::Failed,
                Some("cancelled") => Standing::Cancelled,
                _ => Standing::Taken,
            },
        },
        "operator" => Kind::Operator { by: message["by"].as_str().unwrap_or_default().to_owned() },
        "notice" => Kind::Notice,
        _ => Kind::Agent,
    };
    Some(Entry::new(seq, at, kind, message["text"].as_str().unwrap_or_default()))
}
