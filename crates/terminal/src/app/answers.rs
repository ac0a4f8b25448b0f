//! What came of requests.

use serde_json::Value;

use super::{App, Panel, Pending};
use crate::conversation::Conversation;
use crate::editor::Editor;
use crate::ports::{Answer, Failure};
use crate::text::{one_line, width};

impl App {
    pub(super) fn on_answer(&mut self, tag: u64, result: Result<Answer, Failure>) {
        let Some(pending) = self.pending.remove(&tag) else { return };
        match pending {
            Pending::Message { id } => self.on_sent(&id, result),
            Pending::Older { session, page } => match result {
                Ok(answer) => self.with(&session, |talk| talk.take_older(&page, &answer.body)),
                Err(_) => self.with(&session, Conversation::miss_older),
            },
            Pending::Create => self.on_created(tag, result),
            Pending::Operator { session } => self.on_operator(&session, result),
            Pending::FirstPage => self.on_first_page(result),
            Pending::FirstActive => self.on_first_active(result),
            pending => match result {
                Ok(answer) => self.on_done(tag, pending, &answer.body),
                Err(failure) => self.on_failed(&pending, &failure),
            },
        }
    }

    fn on_created(&mut self, tag: u64, result: Result<Answer, Failure>) {
        let words = match result {
            Ok(answer) => match self.board.take(&answer.body) {
                Some(row) => {
                    self.arrive(tag, &row);
                    self.address_unsent(&row.session);
                    return self.say(format!("session {} begins", row.title()));
                }
                // Somebody closed it already.
                None => "no session begun: it is gone already".to_owned(),
            },
            Err(failure) => format!("no session begun: {failure}"),
        };
        self.return_unaddressed(&words);
    }

    fn on_done(&mut self, tag: u64, pending: Pending, body: &Value) {
        match pending {
            Pending::Switch => {
                if let Some(row) = self.board.take(body) {
                    self.arrive(tag, &row);
                }
            }
            Pending::Close { session } => self.on_closed(session.as_deref(), body),
            Pending::Rename => {
                if let Some(row) = self.board.take(body) {
                    self.say(format!("this is {} now", row.title()));
                }
            }
            Pending::Read => drop(self.board.take(body)),
            Pending::Stop => self.say(match body["result"].as_str() {
                Some("stopped") => "stopped",
                Some("stopping") => "ends after what it is doing now",
                Some("nothing_runs") => "nothing runs here",
                Some("other_turn") => "that turn is over; another one runs: Ctrl-X stops that",
                _ => "told to stop",
            }),
            Pending::Reset => self.say("a new conversation begins here"),
            Pending::Queue => {
                let policy = one_line(body["busy_policy"].as_str().unwrap_or("as configured"));
                self.say(format!("what comes while the agent works: {policy}"));
            }
            Pending::Status => self.panel = Some(Panel::status(body)),
            Pending::Stats => self.panel = Some(Panel::stats(body)),
            Pending::Save { file } => {
                let bytes = body["bytes"].as_u64().unwrap_or(0);
                self.say(format!("saved {bytes} bytes to {}", one_line(&file)));
            }
            Pending::Load { file } => {
                let number = body["number"].as_u64().map(|number| number.to_string());
                let which = number.as_deref().or(body["session"].as_str()).unwrap_or_default();
                let called = one_line(which);
                self.say(format!("loaded {} as session {called}", one_line(&file)));
                // It took its time: whoever went on to something else is left there.
                let stays = self.moved < tag && self.editor().is_none_or(Editor::is_empty);
                if stays && !which.is_empty() {
                    self.switch_to(which);
                }
            }
            Pending::Create
            | Pending::Message { .. }
            | Pending::Older { .. }
            | Pending::FirstPage
            | Pending::FirstActive
            | Pending::Operator { .. } => {}
        }
    }

    fn on_closed(&mut self, session: Option<&str>, body: &Value) {
        let closed = body["closed"]["session"].as_str().or(session).unwrap_or_default().to_owned();
        let name = match body["closed"]["number"].as_u64() {
            Some(number) => format!("session {number}"),
            None => "the session".to_owned(),
        };
        if self.shown_session() == Some(closed.as_str()) {
            let writing = self.leave_behind(&[closed]);
            self.shown = None;
            match self.board.take(&body["next"]) {
                Some(row) => self.settle_at(&row),
                None => self.effects.push(crate::ports::Effect::Unfollow),
            }
            if writing.here {
                self.lose(true, "the session is closed");
            }
        }
        self.say(format!("{name} is closed; what was said there stays with the server"));
        if let Some(worktree) = body["worktree"].as_str() {
            self.tell_of_worktree(&name, worktree);
        }
    }

    /// What became of a session's worktree, whole: what stays may be somebody's work.
    fn tell_of_worktree(&mut self, name: &str, worktree: &str) {
        let words = format!("{name} is closed; {}", one_line(worktree));
        if width(&words) <= self.drawn.columns {
            self.say(words);
        } else {
            self.panel = Some(Panel::worktree(name, worktree));
        }
    }

    fn on_failed(&mut self, pending: &Pending, failure: &Failure) {
        let what = match pending {
            // Told again by the next event, or tried again with the next one.
            Pending::Read => {
                self.marked = (String::new(), 0);
                return;
            }
            Pending::Switch => {
                // The seat may be where it was; what the server says next counts.
                self.told_active = None;
                self.show_another();
                "not switched"
            }
            Pending::Close { .. } => {
                // What was switched to meanwhile may not be shown.
                self.told_active = None;
                "not closed"
            }
            Pending::Rename => "not renamed",
            Pending::Stop => "not stopped",
            Pending::Reset => "no new conversation",
            Pending::Queue => "not set",
            Pending::Save { .. } => "not saved",
            Pending::Load { .. } => "not loaded",
            _ => "not told",
        };
        self.complain(format!("{what}: {failure}"));
    }
}
