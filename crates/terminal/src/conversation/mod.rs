//! One session's conversation: its last stretch from the journal as it lives, and older pages
//! before that as somebody scrolls up to them.

mod entry;
mod events;
mod history;

use std::collections::VecDeque;

pub(crate) use entry::{Entry, Kind};
pub(crate) use history::OlderPage;

use crate::scroll::Paper;

/// How far behind the end of the journal a conversation begins when it is opened.
pub(crate) const STRETCH: u64 = 400;

/// How many entries are kept; beyond, the oldest are forgotten and fetched again when needed.
const ENTRIES_MAX: usize = 20_000;

/// How much text is kept of one conversation, in bytes.
const TEXT_BYTES_MAX: usize = 12 * 1024 * 1024;

/// The longest draft that is kept; of a longer one its end, in bytes.
const DRAFT_BYTES_MAX: usize = 32 * 1024;

/// What the agent is saying right now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Draft {
    turn: String,
    attempt: u64,
    /// What it said so far.
    pub(crate) text: String,
    /// The stream was taken up again: the next piece is the whole draft.
    stale: bool,
}

/// The turn that is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Its id.
    pub(crate) id: String,
    /// What it does, in a few words; empty where its session's state says enough.
    pub(crate) activity: String,
}

/// One session's conversation.
#[derive(Debug, Default)]
pub(crate) struct Conversation {
    /// Whose it is.
    pub(crate) session: String,
    entries: VecDeque<Entry>,
    text_bytes: usize,
    /// Everything of the journal behind this place is in here.
    oldest: u64,
    /// Everything up to this place was applied.
    pub(crate) last_seq: u64,
    /// Where the history begins; what stood before was forgotten.
    first_seq: u64,
    /// Where the next older page begins, if the one before it was full too early.
    cut_short: Option<u64>,
    /// Where the journal ended when it was opened; until then nothing older is asked for.
    awaited: u64,
    /// Whether older entries are on their way.
    pub(crate) fetching: bool,
    /// What the agent is saying.
    pub(crate) draft: Option<Draft>,
    /// The open turn.
    pub(crate) turn: Option<Turn>,
    /// The agent is at work.
    pub(crate) typing: bool,
    /// Who answers in the agent's place.
    pub(crate) operator: Option<String>,
    /// Whether that is so: the entry that says it may stand before the first one that was read.
    pub(crate) operator_known: bool,
    /// The place of the journal as of which it is told.
    operator_at: u64,
    /// Whether its stream stood since it was opened.
    pub(crate) live: bool,
    /// Why it can't be followed, if it can't.
    pub(crate) trouble: Option<String>,
    /// Where in it the screen stands.
    pub(crate) paper: Paper,
}

impl Conversation {
    /// A conversation of which nothing is known but where its journal ends.
    pub(crate) fn open(session: &str, last_seq: u64) -> Self {
        let from = last_seq.saturating_sub(STRETCH);
        Self {
            session: session.to_owned(),
            oldest: from,
            last_seq: from,
            awaited: last_seq,
            ..Self::default()
        }
    }

    /// What is in it, oldest first.
    pub(crate) const fn entries(&self) -> &VecDeque<Entry> {
        &self.entries
    }

    /// Where an entry stands, or would.
    pub(crate) fn index_of(&self, seq: u64) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&seq, |entry| entry.seq)
    }

    /// The newest question that nobody answered, and whether it asks for a yes.
    pub(crate) fn open_question(&self) -> Option<bool> {
        self.entries.iter().rev().take(200).find_map(|entry| match entry.kind {
            Kind::Question { approval, open: true, .. } => Some(approval),
            _ => None,
        })
    }

    /// How many things were said behind a place.
    pub(crate) fn said_behind(&self, seq: u64) -> usize {
        let newer = self.entries.iter().rev().take_while(|entry| entry.seq > seq);
        newer.filter(|entry| entry.is_said()).count()
    }

    /// The stream stands (again): drafts and typing will be told anew.
    pub(crate) fn following(&mut self) {
        self.live = true;
        self.trouble = None;
        self.typing = false;
        if let Some(draft) = &mut self.draft {
            draft.stale = true;
        }
    }

    /// Forgets everything; what comes next stands behind this place.
    pub(crate) fn clear(&mut self, after: u64) {
        let session = std::mem::take(&mut self.session);
        *self =
            Self { session, oldest: after, last_seq: after, live: self.live, ..Self::default() };
    }

    /// What the server says of who has the agent's place, as of a place of the journal.
    pub(crate) fn learn_operator(&mut self, by: Option<String>, as_of: u64) {
        self.operator_known = true;
        if as_of >= self.operator_at {
            (self.operator, self.operator_at) = (by, as_of);
        }
    }

    /// Who has the agent's place may not be what was told last.
    pub(crate) const fn doubt_operator(&mut self) {
        self.operator_known = false;
    }

    /// How much text it holds, in bytes.
    pub(crate) const fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    /// Adds an entry at its place; what stands there already stays.
    fn add(&mut self, entry: Entry) {
        let Err(at) = self.index_of(entry.seq) else { return };
        self.text_bytes += entry.text.len();
        self.entries.insert(at, entry);
        // Whether the beginning is still on the screen shows when it is drawn.
        self.paper.at_top = false;
        self.shed();
    }

    /// Forgets the oldest entries where there are too many, unless somebody is reading up there.
    fn shed(&mut self) {
        let full = self.entries.len() > ENTRIES_MAX || self.text_bytes > TEXT_BYTES_MAX;
        if !full || (!self.paper.at_end() && !self.is_crammed()) {
            return;
        }
        let keep = (self.entries.len() * 3 / 4).min(ENTRIES_MAX * 3 / 4);
        while self.entries.len() > keep.max(1) {
            if let Some(gone) = self.entries.pop_front() {
                self.text_bytes -= gone.text.len();
                self.oldest = gone.seq;
            }
        }
        self.paper.forget_lines();
    }

    /// Whether no more may be fetched.
    fn is_crammed(&self) -> bool {
        self.entries.len() > 2 * ENTRIES_MAX || self.text_bytes > 2 * TEXT_BYTES_MAX
    }

    /// Changes an entry that is there.
    fn change(&mut self, seq: u64, change: impl FnOnce(&mut Kind)) {
        if let Ok(at) = self.index_of(seq) {
            let entry = &mut self.entries[at];
            change(&mut entry.kind);
            entry.rev = entry.rev.wrapping_add(1);
        }
    }
}
