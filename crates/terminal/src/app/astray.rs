//! Sessions that go or change under somebody's hands: what was typed for one of them is kept, and
//! does not go to another one by accident.

use super::leaving::Leaving;
use super::{App, Pending};
use crate::board::Row;
use crate::conversation::Conversation;

/// Keys that come within this after the screen changed by itself were meant for what it showed.
const ASTRAY_MS: i64 = 3_000;

/// How much of a text is quoted, in characters.
const QUOTE_MAX: usize = 300;

/// The screen shows another session, and nobody here asked for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Astray {
    /// Whose first key comes later than this has seen it.
    until: i64,
    /// A key came before, or something had been typed.
    typing: bool,
    why: &'static str,
}

/// To which sessions that are gone somebody was writing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Writing {
    /// To the one that is shown.
    pub(super) here: bool,
    /// To others, before they came here.
    pub(super) elsewhere: bool,
}

impl App {
    /// Whether somebody here is on the way to another session.
    pub(super) fn is_moving(&self) -> bool {
        self.pending.values().any(|pending| {
            matches!(pending, Pending::Switch | Pending::Create | Pending::Close { .. })
        })
    }

    /// Sessions are gone. What was typed for them, and what was not sent, is kept for whatever is
    /// shown next. Says to whom somebody was writing.
    pub(super) fn leave_behind(&mut self, gone: &[String]) -> Writing {
        let mut writing = Writing::default();
        if gone.is_empty() {
            return writing;
        }
        self.conversations.retain(|talk| !gone.contains(&talk.session));
        self.give_up_unsent(gone);
        for session in gone {
            let Some(mut editor) = self.editors.remove(session) else { continue };
            if editor.text().trim().is_empty() {
                continue;
            }
            if self.shown_session() == Some(session) {
                writing.here = true;
            } else {
                writing.elsewhere = true;
            }
            self.strays.push(editor.take());
        }
        writing
    }

    /// What was shown is gone, and something else is shown, or nothing.
    pub(super) fn lose(&mut self, writing: bool, why: &'static str) {
        let until = self.now.saturating_add(ASTRAY_MS);
        self.astray = Some(Astray { until, typing: writing, why });
    }

    /// A key came: whether it was meant for what is shown depends on when.
    pub(super) fn note_key(&mut self) {
        let now = self.now;
        if let Some(astray) = &mut self.astray {
            astray.typing |= now <= astray.until;
            if !astray.typing {
                self.astray = None;
            }
        }
    }

    /// Whether what is being done is meant for the session that is shown. Where that changed under
    /// the person's hands it is done the second time only.
    pub(super) fn is_meant(&mut self, again: &str) -> bool {
        let Some(astray) = self.astray.take() else { return true };
        let whom = self.row().map_or_else(|| "a new session".to_owned(), Row::title);
        self.complain(format!("{}; {again} {whom}", astray.why));
        false
    }

    /// Texts without a session come back with Up in the one that is shown.
    pub(super) fn settle_strays(&mut self) {
        if self.strays.is_empty() || (self.shown.is_none() && self.is_moving()) {
            return;
        }
        for text in std::mem::take(&mut self.strays) {
            self.editor_mut().remember(text);
        }
    }

    /// What was typed before there was a session goes on in the first one.
    pub(super) fn carry_over(&mut self, session: &str) {
        let Some(begun) = self.editors.remove("") else { return };
        match self.editors.get_mut(session) {
            None => drop(self.editors.insert(session.to_owned(), begun)),
            Some(editor) if editor.is_empty() => editor.set(begun.text()),
            Some(editor) => editor.remember(begun.text().to_owned()),
        }
    }

    /// Gives texts back that can't be sent: into the session's input where nothing else stands there;
    /// else they come back with Up, and are quoted.
    pub(super) fn give_back(&mut self, session: &str, texts: Vec<String>, words: &str) {
        if matches!(self.leaving, Leaving::Waits { told: false, .. }) {
            self.leaving = Leaving::Stays;
        }
        let shown = self.shown_session().unwrap_or_default() == session;
        let gone = !shown && self.board.by_session(session).is_none();
        let whole = texts.join("\n");
        if gone {
            self.strays.extend(texts);
        } else {
            let editor = self.editors.entry(session.to_owned()).or_default();
            if editor.is_empty() {
                if editor.insert(&whole) {
                    return self.complain(words);
                }
                editor.set("");
            }
            texts.into_iter().for_each(|text| editor.remember(text));
        }
        let quote: String = whole.chars().take(QUOTE_MAX).collect();
        self.complain(format!("{words}: {quote}"));
    }

    /// Who has the agent's place is to be asked anew.
    pub(super) fn doubt_operators(&mut self) {
        self.conversations.iter_mut().for_each(Conversation::doubt_operator);
    }
}
