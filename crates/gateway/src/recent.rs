//! What was said last in a session, kept by its task: so most runs need not read the journal to know
//! the conversation before them. A copy within bounds; where it doesn't reach, the journal is read.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use turnkeep_core::ids::{Seq, TurnId};
use turnkeep_core::journal::{EventBody, Heard, ImportedRole, NoticeSource};
use turnkeep_core::ports::agent::{HistoryEntry, Role};
use turnkeep_core::{Event, SessionKey};

/// Lines that are kept of one session: more than most agents ask for.
const LINES_MAX: usize = 128;
/// Bytes of text that are kept of one session.
const BYTES_MAX: usize = 32 * 1024;
/// Bytes that are kept of all of them together.
const BYTES_OF_ALL_MAX: usize = 64 * 1024 * 1024;

/// What may be kept of so many sessions together.
pub(crate) fn bytes_max(sessions: usize) -> usize {
    BYTES_OF_ALL_MAX.min(sessions.saturating_mul(BYTES_MAX))
}

/// What a journal entry is to the conversation.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) seq: Seq,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    /// Somebody said something.
    Line {
        role: Role,
        text: Arc<str>,
        /// The place that it left, if it was a dead letter.
        retry_of: Option<Seq>,
        /// It was not said to the agent.
        aside: bool,
    },
    /// The line at this place was not said to the agent after all.
    Aside(Seq),
    /// The line at this place was not let through: the agent never gets it.
    Withheld(Seq),
    /// A turn began.
    Began(TurnId),
}

impl Entry {
    /// None if it is nothing to it.
    pub(crate) fn of(event: &Event) -> Option<Self> {
        let user = |text: &Arc<str>, retry_of, aside| {
            let (role, text) = (Role::User, text.clone());
            What::Line { role, text, retry_of, aside }
        };
        let line = |role, text: &Arc<str>| {
            let (text, retry_of, aside) = (text.clone(), None, false);
            What::Line { role, text, retry_of, aside }
        };
        let what = match &event.body {
            EventBody::TurnStarted { turn_id, .. } => What::Began(*turn_id),
            EventBody::MessageAccepted { text, retry_of, .. } => user(text, *retry_of, false),
            EventBody::MessageContext { text, of: None, .. } => user(text, None, true),
            EventBody::MessageContext { of: Some(message), .. } => What::Aside(*message),
            EventBody::GuardRefused { message, .. } => What::Withheld(*message),
            EventBody::TurnCompleted { reply: Some(reply), by: Some(_), .. } => {
                line(Role::Operator, reply)
            }
            EventBody::SessionNotice { text, source: NoticeSource::Operator, .. } => {
                line(Role::Operator, text)
            }
            EventBody::TurnCompleted { reply: Some(reply), .. }
            | EventBody::TurnCancelled { reply: Some(reply), .. } => line(Role::Agent, reply),
            EventBody::TurnWaitingForInput { text, .. } => line(Role::Agent, text),
            // The customer read it in the agent's place, and may come back to it.
            EventBody::SessionNotice {
                text,
                source: NoticeSource::Unasked | NoticeSource::Scheduled,
                ..
            } => line(Role::Agent, text),
            EventBody::HistoryImported(imported) => {
                let role = match imported.role {
                    ImportedRole::User => Role::User,
                    ImportedRole::Operator => Role::Operator,
                    ImportedRole::Agent | ImportedRole::Notice => Role::Agent,
                };
                let (text, retry_of) = (imported.text.clone(), None);
                match imported.heard {
                    Heard::Said => What::Line { role, text, retry_of, aside: false },
                    Heard::Aside => What::Line { role, text, retry_of, aside: true },
                    Heard::Never => return None,
                }
            }
            _ => return None,
        };
        Some(Self { seq: event.seq, what })
    }

    /// What it adds to the conversation.
    pub(crate) fn line(&self) -> Option<HistoryEntry> {
        match &self.what {
            // Its words are gone, so it says nothing.
            What::Line { text, .. } if text.is_empty() => None,
            What::Line { role, text, .. } => {
                Some(HistoryEntry { seq: self.seq, role: *role, text: text.clone() })
            }
            What::Aside(_) | What::Withheld(_) | What::Began(_) => None,
        }
    }

    fn bytes(&self) -> usize {
        let text = match &self.what {
            What::Line { text, .. } => text.len(),
            What::Aside(_) | What::Withheld(_) | What::Began(_) => 0,
        };
        size_of::<Self>() + text
    }
}

/// Counters of what was forgotten. Sessions share them, so one that forgets lets a few others read
/// their journals again.
const SLOTS: usize = 256;

/// How much everybody keeps, and how often something was forgotten.
#[derive(Debug)]
pub(crate) struct Kept {
    bytes: AtomicUsize,
    /// What was read before something was forgotten may hold what nobody may see any more.
    forgotten: [AtomicU64; SLOTS],
}

impl Default for Kept {
    fn default() -> Self {
        Self { bytes: AtomicUsize::new(0), forgotten: [const { AtomicU64::new(0) }; SLOTS] }
    }
}

impl Kept {
    /// Something of a session's past is gone, or says something else now.
    pub(crate) fn forget(&self, key: &SessionKey) {
        self.forgotten[slot_of(key)].fetch_add(1, Ordering::AcqRel);
    }

    fn forgotten(&self, slot: usize) -> u64 {
        self.forgotten.get(slot).map_or(0, |count| count.load(Ordering::Acquire))
    }
}

fn slot_of(key: &SessionKey) -> usize {
    let mut hasher = DefaultHasher::new();
    key.as_str().hash(&mut hasher);
    usize::try_from(hasher.finish() % SLOTS as u64).unwrap_or_default()
}

/// The newest entries of one session without a gap.
#[derive(Clone, Debug)]
pub(crate) struct Recent {
    entries: VecDeque<Entry>,
    /// Everything behind this place is here.
    from: Seq,
    /// Up to this.
    last: Seq,
    bytes: usize,
    /// How often something was forgotten before, by which counter.
    forgotten: u64,
    slot: usize,
}

impl Recent {
    /// The entries in order, and the place behind which none is missing; none if something was
    /// forgotten meanwhile.
    pub(crate) fn read(&self, kept: &Kept) -> Option<(Seq, impl Iterator<Item = &Entry>)> {
        let same = self.forgotten == kept.forgotten(self.slot);
        same.then(|| (self.from, self.entries.iter()))
    }

    fn push(&mut self, entry: Entry) {
        // Only the turn that runs is asked for.
        if let (What::Began(_), Some(What::Began(_))) =
            (&entry.what, self.entries.back().map(|entry| &entry.what))
        {
            self.drop_at(self.entries.len() - 1);
        }
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        while self.entries.len() > LINES_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.entries.front() else { break };
            self.from = oldest.seq;
            self.drop_at(0);
        }
    }

    fn drop_at(&mut self, at: usize) {
        if let Some(entry) = self.entries.remove(at) {
            self.bytes -= entry.bytes();
        }
    }
}

/// What one task keeps.
#[derive(Debug)]
pub(crate) struct Memory {
    kept: Arc<Kept>,
    slot: usize,
    recent: Option<Arc<Recent>>,
    /// How much of the common sum is its.
    counted: usize,
}

impl Memory {
    pub(crate) fn new(kept: Arc<Kept>, key: &SessionKey) -> Self {
        Self { kept, slot: slot_of(key), recent: None, counted: 0 }
    }

    /// For a run that begins.
    pub(crate) fn recent(&self) -> Option<Arc<Recent>> {
        self.recent.clone()
    }

    /// How much is kept: bytes, and lines of the conversation.
    pub(crate) fn kept(&self) -> (usize, usize) {
        let lines = |recent: &Arc<Recent>| {
            recent.entries.iter().filter(|entry| entry.line().is_some()).count()
        };
        (self.counted, self.recent.as_ref().map_or(0, lines))
    }

    /// Nothing is kept any more.
    pub(crate) fn clear(&mut self) {
        self.recent = None;
        self.count();
    }

    /// The session stands here now: what is kept holds only if it reaches up to that place.
    pub(crate) fn loaded(&mut self, last: Seq) {
        if self.recent.as_ref().is_some_and(|recent| recent.last != last) {
            self.recent = None;
        }
        self.count();
    }

    /// These are durable: all entries behind `after` up to `last` that belong to the conversation.
    pub(crate) fn add(&mut self, after: Seq, last: Seq, entries: Vec<Entry>) {
        let slot = self.slot;
        let forgotten = self.kept.forgotten(slot);
        let follows = |recent: &Arc<Recent>| recent.last == after && recent.forgotten == forgotten;
        let recent = self.recent.take().filter(follows).unwrap_or_else(|| {
            let entries = VecDeque::new();
            Arc::new(Recent { entries, from: after, last: after, bytes: 0, forgotten, slot })
        });
        let recent = self.recent.insert(recent);
        let mine = Arc::make_mut(recent);
        for entry in entries {
            mine.push(entry);
        }
        mine.last = last;
        self.count();
        if self.kept.bytes.load(Ordering::Relaxed) > BYTES_OF_ALL_MAX {
            self.recent = None;
            self.count();
        }
    }

    fn count(&mut self) {
        let now = self.recent.as_ref().map_or(0, |recent| recent.bytes);
        let before = std::mem::replace(&mut self.counted, now);
        if now >= before {
            self.kept.bytes.fetch_add(now - before, Ordering::Relaxed);
        } else {
            self.kept.bytes.fetch_sub(before - now, Ordering::Relaxed);
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.recent = None;
        self.count();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(peer: &str) -> SessionKey {
        format!("tenant:agent:api:dm:{peer}").parse().unwrap()
    }

    fn said(seq: u64, text: &str) -> Entry {
        let text = text.into();
        let what = What::Line { role: Role::User, text, retry_of: None, aside: false };
        Entry { seq: Seq(seq), what }
    }

    fn places(memory: &Memory) -> (Seq, Vec<u64>) {
        let recent = memory.recent().unwrap();
        let (from, entries) = recent.read(&memory.kept).unwrap();
        (from, entries.map(|entry| entry.seq.0).collect())
    }

    #[test]
    fn what_is_kept_has_no_gap() {
        let mut memory = Memory::new(Arc::default(), &key("a"));
        memory.add(Seq(0), Seq(2), vec![said(1, "a")]);
        memory.add(Seq(2), Seq(5), vec![said(4, "b")]);
        assert_eq!(places(&memory), (Seq(0), vec![1, 4]));
        // Somebody else wrote in between.
        memory.add(Seq(6), Seq(8), vec![said(7, "c")]);
        assert_eq!(places(&memory), (Seq(6), vec![7]));
        memory.loaded(Seq(8));
        assert_eq!(places(&memory), (Seq(6), vec![7]));
        memory.loaded(Seq(9));
        assert!(memory.recent().is_none());
    }

    #[test]
    fn a_line_that_leaves_moves_the_beginning() {
        let mut memory = Memory::new(Arc::default(), &key("a"));
        let lines = (1..=LINES_MAX as u64 + 2).map(|seq| said(seq, "a")).collect();
        memory.add(Seq(0), Seq(LINES_MAX as u64 + 2), lines);
        let (from, kept) = places(&memory);
        assert_eq!((from, kept.len(), kept[0]), (Seq(2), LINES_MAX, 3));
        let long = "a".repeat(BYTES_MAX);
        memory.add(Seq(130), Seq(131), vec![said(131, &long)]);
        assert_eq!(places(&memory), (Seq(131), vec![]), "too long for anybody");
    }

    #[test]
    fn what_is_forgotten_is_not_read_and_what_goes_is_not_counted() {
        let kept: Arc<Kept> = Arc::default();
        let mut memory = Memory::new(Arc::clone(&kept), &key("a"));
        memory.add(Seq(0), Seq(1), vec![said(1, "a")]);
        let of_a_run = memory.recent().unwrap();
        assert!(of_a_run.read(&kept).is_some());
        let mut others = ('b'..='z').map(|peer| key(&peer.to_string()));
        let other = others.find(|other| slot_of(other) != slot_of(&key("a"))).unwrap();
        kept.forget(&other);
        assert!(of_a_run.read(&kept).is_some(), "what others forget is nothing to it");
        kept.forget(&key("a"));
        assert!(of_a_run.read(&kept).is_none());
        memory.add(Seq(1), Seq(2), vec![said(2, "b")]);
        assert_eq!(places(&memory), (Seq(1), vec![2]));
        assert!(kept.bytes.load(Ordering::Relaxed) > 0);
        drop(memory);
        assert_eq!(kept.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn everybody_together_keeps_no_more_than_the_limit() {
        let kept: Arc<Kept> = Arc::default();
        kept.bytes.store(BYTES_OF_ALL_MAX, Ordering::Relaxed);
        let mut memory = Memory::new(Arc::clone(&kept), &key("a"));
        memory.add(Seq(0), Seq(1), vec![said(1, "a")]);
        assert!(memory.recent().is_none());
        assert_eq!(kept.bytes.load(Ordering::Relaxed), BYTES_OF_ALL_MAX);
    }
}
