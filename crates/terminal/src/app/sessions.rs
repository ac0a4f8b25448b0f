//! Which session is shown, and how that changes.

use serde_json::{Value, json};

use super::astray::Writing;
use super::{App, Pending, board_path};
use crate::board::Row;
use crate::conversation::{Conversation, STRETCH};
use crate::ports::{Answer, Effect, Failure, Link, Method, SseEvent};
use crate::text::{one_line, segment};

/// Sessions that are asked for at the start, before all are known.
const FIRST_ROWS: usize = 100;

/// The longest text of a notification, in characters.
const NOTICE_MAX: usize = 120;

/// How long after the connection stands again the first word of the board is waited for; where
/// nothing changed, none comes.
const DOUBT_MS: i64 = 1_000;

/// A conversation that fell behind by more places than this is opened anew, from near its end.
const BEHIND_MAX: u64 = 5 * STRETCH;

/// The session that is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) number: u32,
    pub(crate) session: String,
}

impl App {
    pub(super) fn on_link(&mut self, link: Link) {
        // While it was away anybody may have taken the agent's place, or given it back.
        self.doubt_operators();
        if link == Link::Up {
            self.asks_operator_at = 0;
            self.doubtful_until = self.now.saturating_add(DOUBT_MS);
            self.retry_unsent();
            if let Some(which) = self.options.session.clone().filter(|_| !self.began) {
                self.switch_to(&which);
            }
            self.began = true;
            // What was marked may never have arrived.
            self.marked = (String::new(), 0);
        }
        if link == Link::Connecting && !self.board.known {
            self.ask_first_page();
        }
        self.link = link;
    }

    /// The stream begins with all sessions, however many; the first ones are to be seen at once.
    fn ask_first_page(&mut self) {
        let seat = segment(&self.options.seat);
        let path = format!("/v1/switchboard?limit={FIRST_ROWS}&seat={seat}");
        self.send(Pending::FirstPage, Method::Get, path, None);
    }

    /// Where it fails, the stream says why, or tells them all.
    pub(super) fn on_first_page(&mut self, result: Result<Answer, Failure>) {
        let Ok(answer) = result else { return };
        if !self.board.preview(&answer.body) {
            return;
        }
        let active = self.board.active.map(|number| (number, self.board.row(number).cloned()));
        match active {
            Some((_, Some(row))) => self.show_first(&row),
            Some((number, None)) => {
                let path = board_path(&number.to_string(), "");
                self.send(Pending::FirstActive, Method::Get, path, None);
            }
            None => {}
        }
    }

    pub(super) fn on_first_active(&mut self, result: Result<Answer, Failure>) {
        if let Ok(answer) = result
            && !self.board.known
            && let Some(row) = self.board.take(&answer.body)
        {
            self.show_first(&row);
        }
    }

    /// Shows what was active here, unless the person wants something else.
    fn show_first(&mut self, row: &Row) {
        if self.shown.is_none() && self.options.session.is_none() && !self.is_moving() {
            self.show(row);
        }
    }

    pub(super) fn on_board(&mut self, data: &str) {
        let first = !self.board.known;
        let Some(changes) = self.board.apply(data) else {
            self.complain("the server told of its sessions in words that this client doesn't know");
            return;
        };
        self.doubtful_until = 0;
        for number in changes.began_to_wait {
            self.ring_for(number);
        }
        self.renumber();
        let before = self.shown_session().map(ToOwned::to_owned);
        let lost = before.as_ref().is_some_and(|shown| changes.gone.contains(shown));
        let writing = self.leave_behind(&changes.gone);
        let told = self.board.active != self.told_active || first;
        let moves = self.is_moving();
        if lost {
            self.shown = None;
            self.effects.push(Effect::Unfollow);
        }
        self.tell_of_lost(lost && !moves, writing);
        let active = self.board.active.map(|number| self.board.row(number).cloned());
        // One whose row isn't there yet can't be shown, so it isn't noted either.
        if active != Some(None) {
            self.told_active = self.board.active;
        }
        let elsewhere = (told && !moves) || self.shown.is_none();
        match active.flatten().filter(|_| elsewhere) {
            Some(row) => self.show(&row),
            // Nobody chose yet: what wants somebody, or was written last.
            None if first && self.shown.is_none() && !moves => self.show_some(),
            None => {}
        }
        if lost && (writing.here || !moves) {
            self.lose(writing.here, "the session was closed elsewhere");
        } else if !lost
            && !moves
            && (!first || before.is_some())
            && self.shown_session() != before.as_deref()
        {
            let writing = before.is_none() && self.editor().is_some_and(|one| !one.is_empty());
            self.lose(writing, "this seat went elsewhere");
        }
        self.catch_up();
    }

    fn tell_of_lost(&mut self, lost: bool, writing: Writing) {
        // What was not sent is told already, and matters more.
        let told = self.toast.as_ref().is_some_and(|toast| toast.wrong);
        match (lost, writing) {
            _ if told => {}
            (true, Writing { here: true, .. }) => self
                .complain("the session was closed elsewhere; Up brings back what you were writing"),
            (_, Writing { elsewhere: true, .. }) => {
                self.complain("a session was closed; Up brings back what you were writing to it");
            }
            (true, _) if self.toast.is_none() => self.say("the session was closed elsewhere"),
            _ => {}
        }
    }

    /// What is shown may have another number than it had.
    fn renumber(&mut self) {
        let Some(shown) = &mut self.shown else { return };
        let holds = self.board.row(shown.number).is_some_and(|row| row.session == shown.session);
        if !holds && let Some(row) = self.board.by_session(&shown.session) {
            shown.number = row.number;
        }
    }

    /// A session could not be switched to; where none is shown, another one is.
    pub(super) fn show_another(&mut self) {
        if self.shown.is_some() || !self.board.known || self.is_moving() {
            return;
        }
        match self.board.active.and_then(|number| self.board.row(number)).cloned() {
            Some(row) => self.settle_at(&row),
            None => self.show_some(),
        }
    }

    /// Shows a session that makes sense where none was chosen.
    fn show_some(&mut self) {
        let row = self.board.waiting().next().or_else(|| self.board.rows().last()).cloned();
        if let Some(row) = row {
            self.switch(&row);
        }
    }

    pub(super) fn on_session(&mut self, session: &str, event: &SseEvent) {
        let Some(talk) = self.conversations.iter_mut().find(|talk| talk.session == session) else {
            return;
        };
        // What an earlier stream said still comes in before the new one stands.
        if !talk.live {
            return;
        }
        let told = talk.apply(event);
        talk.live = told.follow_from.is_none();
        if let Some(id) = told.accepted {
            self.unsent.retain(|unsent| unsent.id != id);
        }
        if let Some(after) = told.follow_from
            && self.shown_session() == Some(session)
        {
            self.effects.push(Effect::Follow { session: session.to_owned(), after });
        }
    }

    /// Shows a session, and tells the server that it is active here.
    pub(super) fn switch(&mut self, row: &Row) {
        self.show(row);
        self.switch_to(&row.session);
    }

    /// Asks the server to make a session active here; its answer shows it.
    pub(super) fn switch_to(&mut self, which: &str) {
        self.astray = None;
        let body = json!({ "seat": self.options.seat });
        self.send(Pending::Switch, Method::Post, board_path(which, "/switch"), Some(body));
        self.moved = self.tags;
    }

    pub(super) fn show(&mut self, row: &Row) {
        let shown = Shown { number: row.number, session: row.session.clone() };
        if self.shown.as_ref() == Some(&shown) {
            return;
        }
        if self.shown.is_none() {
            self.carry_over(&row.session);
        }
        self.completion = super::Completion::default();
        self.panel = None;
        let at = self.conversations.iter().position(|talk| talk.session == row.session);
        let kept = at.and_then(|at| self.conversations.remove(at));
        let behind = |talk: &Conversation| row.last_seq.saturating_sub(talk.last_seq) > BEHIND_MAX;
        let talk = kept.filter(|talk| !behind(talk));
        let mut talk = talk.unwrap_or_else(|| Conversation::open(&row.session, row.last_seq));
        talk.live = false;
        talk.draft = None;
        talk.typing = false;
        talk.doubt_operator();
        talk.paper.show_end();
        let after = talk.last_seq;
        self.conversations.push_front(talk);
        self.effects.push(Effect::Follow { session: row.session.clone(), after });
        self.shown = Some(shown);
    }

    /// After a long time without a connection the stream would be long: begins anew near its end.
    fn catch_up(&mut self) {
        let Some(row) = self.row() else { return };
        let (session, last_seq) = (row.session.clone(), row.last_seq);
        let Some(talk) = self.conversations.front_mut() else { return };
        if talk.live || last_seq.saturating_sub(talk.last_seq) <= BEHIND_MAX {
            return;
        }
        *talk = Conversation::open(&session, last_seq);
        let after = talk.last_seq;
        self.effects.push(Effect::Follow { session, after });
    }

    /// Shows the next session that waits.
    pub(super) fn next_waiting(&mut self) {
        let from = self.shown.as_ref().map_or(0, |shown| shown.number);
        let row = self.board.next(from, |row| row.waiting.is_some()).cloned();
        match row {
            Some(row) if Some(row.session.as_str()) == self.shown_session() => {
                self.say("no other session waits for you");
            }
            Some(row) => self.switch(&row),
            None => self.say("nobody waits for you"),
        }
    }

    /// Shows the session behind or before the one that is shown.
    pub(super) fn neighbour(&mut self, behind: bool) {
        let from = self.shown.as_ref().map_or(0, |shown| shown.number);
        let row = if behind { self.board.next(from, |_| true) } else { self.board.previous(from) };
        if let Some(row) = row.cloned() {
            self.switch(&row);
        }
    }

    /// Shows the session with a number.
    pub(super) fn switch_number(&mut self, number: u32) {
        match self.board.row(number).cloned() {
            Some(row) => self.switch(&row),
            None => self.complain(format!("there is no session {number}")),
        }
    }

    /// Begins a session.
    pub(super) fn create(&mut self, name: Option<&str>, agent: Option<&str>) {
        let mut body = json!({ "seat": self.options.seat });
        for (field, value) in [("name", name), ("agent_id", agent)] {
            if let Some(value) = value {
                body[field] = Value::from(value);
            }
        }
        self.send(Pending::Create, Method::Post, "/v1/switchboard".to_owned(), Some(body));
        self.moved = self.tags;
    }

    /// The server did what was asked for under this tag. Only the newest wish moves the screen: by
    /// the time of an earlier one's answer the person may be somewhere else, and is typing there.
    pub(super) fn arrive(&mut self, tag: u64, row: &Row) {
        // What is closed by an earlier wish doesn't take the seat from where it went since.
        let mut later = self.pending.range(tag..).map(|(_, one)| one);
        let closes = later.any(|one| matches!(one, Pending::Close { .. }));
        if tag == self.moved && !closes {
            self.settle_at(row);
        }
    }

    /// Shows the session at which the server says that this seat is.
    pub(super) fn settle_at(&mut self, row: &Row) {
        self.told_active = Some(row.number);
        self.astray = None;
        self.show(row);
    }

    fn ring_for(&mut self, number: u32) {
        let seen = self.focused && self.shown.as_ref().is_some_and(|shown| shown.number == number);
        let Some(row) = self.board.row(number).filter(|_| !seen) else { return };
        let asks = row.waiting.as_ref().map_or("", |waiting| waiting.text.as_str());
        let text = format!("{} waits for you: {}", row.title(), one_line(asks));
        let text: String = text.chars().take(NOTICE_MAX).collect();
        if self.options.bell {
            self.effects.push(Effect::Bell);
        }
        if self.options.notify {
            self.effects.push(Effect::Notify(text));
        }
    }
}
