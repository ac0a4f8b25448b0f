//! What the journal says that matters to somebody who watches many sessions: what was said to the
//! user, what is asked, and what went wrong.

use std::sync::Arc;

use super::UNREAD_MAX;
use super::name::in_one_line;
use crate::ids::{QuestionId, Seq, Timestamp};
use crate::journal::{Event, EventBody};

/// What some entries of one journal say, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Where something was said to the user; the newest [`UNREAD_MAX`] places.
    pub said: Vec<Seq>,
    /// What was asked last.
    pub asked: Option<AskedAt>,
    /// What went wrong last, unless a turn succeeded since.
    pub trouble: Option<Trouble>,
    /// A turn succeeded, or a new conversation began, and what went wrong before is over.
    pub relieved: bool,
    /// Dead letters that were given up; the newest [`UNREAD_MAX`].
    pub discarded: Vec<Seq>,
}

/// A question as it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedAt {
    /// Names it.
    pub id: QuestionId,
    /// A yes is wanted rather than an answer.
    pub confirm: bool,
    /// In one line.
    pub text: Arc<str>,
    /// When.
    pub at: Timestamp,
}

/// Something that a person has to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The place that tells of it.
    pub seq: Seq,
    /// In one line.
    pub text: Arc<str>,
    /// When.
    pub at: Timestamp,
    /// The messages that became dead letters by it and were not given up since.
    pub letters: Vec<Seq>,
}

impl Trouble {
    /// A dead letter was given up; whether nothing is left of the trouble by that.
    pub(super) fn is_over_without(&mut self, letter: Seq) -> bool {
        let before = self.letters.len();
        self.letters.retain(|seq| *seq != letter);
        self.letters.is_empty() && before > 0
    }
}

impl Heard {
    /// What these entries say.
    #[must_use]
    pub fn of(events: &[Event]) -> Self {
        let mut heard = Self::default();
        events.iter().for_each(|event| heard.add(event));
        heard
    }

    /// One more entry.
    pub fn add(&mut self, event: &Event) {
        match &event.body {
            EventBody::TurnWaitingForInput { question_id, text, confirm, .. } => {
                let text = in_one_line(text);
                let (id, confirm) = (*question_id, *confirm);
                self.asked = Some(AskedAt { id, confirm, text, at: event.at });
                self.say(event.seq);
            }
            EventBody::TurnCompleted { reply, .. } => {
                self.relieve();
                if reply.is_some() {
                    self.say(event.seq);
                }
            }
            EventBody::TurnCancelled { reply: Some(_), .. } | EventBody::SessionNotice { .. } => {
                self.say(event.seq);
            }
            EventBody::SessionReset { .. } => self.relieve(),
            EventBody::TurnFailed { error, messages, .. } => self.fail(event, error, messages),
            EventBody::MessageExpired { messages } => {
                let count = messages.len();
                let text = format!("{count} queued messages waited too long");
                self.fail(event, &text, messages);
            }
            EventBody::MessageDiscarded { message } => self.discard(*message),
            _ => {}
        }
    }

    fn say(&mut self, seq: Seq) {
        if self.said.len() == UNREAD_MAX {
            self.said.remove(0);
        }
        self.said.push(seq);
    }

    fn relieve(&mut self) {
        self.trouble = None;
        self.relieved = true;
    }

    fn discard(&mut self, letter: Seq) {
        self.trouble.take_if(|trouble| trouble.is_over_without(letter));
        if self.discarded.len() == UNREAD_MAX {
            self.discarded.remove(0);
        }
        self.discarded.push(letter);
    }

    fn fail(&mut self, event: &Event, text: &str, letters: &[Seq]) {
        let text = in_one_line(text);
        let letters = letters.to_vec();
        self.trouble = Some(Trouble { seq: event.seq, text, at: event.at, letters });
    }
}
