//! A row and what is known beside it: what nobody has read, what was asked, what went wrong; and what
//! follows from that for what is shown.

use std::sync::Arc;

use super::heard::{AskedAt, Heard, Trouble};
use super::{Row, UNREAD_MAX, Waiting, WaitingKind};
use crate::ids::{QuestionId, Seq};
use crate::session::SessionStatus;

/// A row and what is known beside it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) row: Arc<Row>,
    /// The version at which it last changed.
    pub(super) stamp: u64,
    /// The newest places that nobody has read, at most [`UNREAD_MAX`].
    pub(super) unread: Vec<Seq>,
    /// Up to here it is known what was said.
    pub(super) counted: Seq,
    /// What was asked last, as far as that was heard.
    pub(super) asked: Option<AskedAt>,
    /// What went wrong and was neither read nor made good.
    pub(super) trouble: Option<Trouble>,
    /// A person made it here, and nobody has written in it yet.
    pub(super) made: bool,
}

impl Entry {
    /// What the entries up to `up_to` said, as far as it was not known yet.
    pub(super) fn hear(&mut self, heard: &Heard, up_to: Seq) {
        let (counted, read) = (self.counted, self.row.read_seq);
        self.unread.extend(heard.said.iter().filter(|seq| **seq > counted && **seq > read));
        let over = self.unread.len().saturating_sub(UNREAD_MAX);
        self.unread.drain(..over);
        self.counted = self.counted.max(up_to);
        if let Some(asked) = &heard.asked {
            self.asked = Some(asked.clone());
        }
        if heard.relieved {
            self.trouble = None;
        }
        if let Some(trouble) = heard.trouble.as_ref().filter(|trouble| trouble.seq > read) {
            self.trouble = Some(trouble.clone());
        }
        for letter in &heard.discarded {
            self.trouble.take_if(|trouble| trouble.is_over_without(*letter));
        }
    }

    pub(super) fn forget_past(&mut self) {
        self.unread.clear();
        self.counted = Seq(0);
        (self.asked, self.trouble) = (None, None);
        Arc::make_mut(&mut self.row).read_seq = Seq(0);
    }

    /// Makes what is shown agree with what is known.
    pub(super) fn refresh(&mut self, question: Option<QuestionId>, operator: Option<&Arc<str>>) {
        let waiting = self.waiting(question, operator);
        let unread = u32::try_from(self.unread.len()).unwrap_or(u32::MAX);
        let row = Arc::make_mut(&mut self.row);
        (row.waiting, row.unread) = (waiting, unread);
    }

    fn waiting(&self, id: Option<QuestionId>, operator: Option<&Arc<str>>) -> Option<Waiting> {
        let before = self.row.waiting.as_ref();
        let since = self.row.updated_at;
        match self.row.state {
            SessionStatus::WaitingForInput => {
                let asked = self.asked.as_ref().filter(|asked| Some(asked.id) == id);
                let Some(asked) = asked else {
                    // Its words stand in the journal, which is read soon.
                    let kind = WaitingKind::Question;
                    return Some(Waiting { kind, text: "".into(), since, question_id: id });
                };
                let kind =
                    if asked.confirm { WaitingKind::Approval } else { WaitingKind::Question };
                let (text, since) = (Arc::clone(&asked.text), asked.at);
                Some(Waiting { kind, text, since, question_id: id })
            }
            SessionStatus::WaitingForOperator => {
                let before = before.filter(|before| before.kind == WaitingKind::Operator);
                let since = before.map_or(since, |before| before.since);
                let text = operator.cloned().unwrap_or_default();
                Some(Waiting { kind: WaitingKind::Operator, text, since, question_id: None })
            }
            _ => self.trouble.as_ref().map(|trouble| Waiting {
                kind: WaitingKind::Error,
                text: Arc::clone(&trouble.text),
                since: trouble.at,
                question_id: None,
            }),
        }
    }

    /// Drops what was said before, but for a question that is open.
    pub(super) fn drop_texts(&mut self) {
        let open = self.row.waiting.as_ref().and_then(|waiting| waiting.question_id);
        self.asked = self.asked.take().filter(|asked| Some(asked.id) == open);
        let Some(trouble) = &mut self.trouble else { return };
        trouble.text = Arc::default();
        let row = Arc::make_mut(&mut self.row);
        if let Some(waiting) = &mut row.waiting
            && waiting.kind == WaitingKind::Error
        {
            waiting.text = Arc::default();
        }
    }

    pub(super) fn lacks_text(&self) -> bool {
        let asks = |waiting: &&Waiting| matches!(waiting.kind, WaitingKind::Question);
        self.row.waiting.as_ref().filter(asks).is_some_and(|waiting| waiting.text.is_empty())
    }

    /// What waits for the operator, as it is shown.
    pub(super) fn operator_text(&self) -> Option<Arc<str>> {
        let waiting = self.row.waiting.as_ref()?;
        matches!(waiting.kind, WaitingKind::Operator).then(|| Arc::clone(&waiting.text))
    }
}
