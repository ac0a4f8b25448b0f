//! All that the terminal knows, and what becomes of everything that happens.
//!
//! Pure: the time comes in with each event, and what is to be done goes out as effects.

mod answers;
mod astray;
mod commands;
mod completion;
mod keys;
mod leaving;
mod operators;
mod panel;
mod sending;
mod sessions;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crate::board::{Board, Row};
use crate::conversation::{Conversation, OlderPage};
use crate::editor::Editor;
use crate::lines::Line;
use crate::paint::{Manner, activity_line, draft_lines, unsent_lines};
use crate::ports::{Effect, Incoming, Link, Method, Options, Request};
use crate::text::segment;

use astray::Astray;
pub(crate) use completion::Completion;
use leaving::Leaving;
pub(crate) use panel::Panel;
use sending::Unsent;
use sessions::Shown;

/// How many conversations are kept besides the one that is shown.
const CONVERSATIONS_MAX: usize = 8;

/// How much text all of them may hold, in bytes; beyond, those seen longest ago are forgotten.
const CONVERSATIONS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How many sessions keep what was typed for them.
const EDITORS_MAX: usize = 500;

/// How long a word about what was done stays.
const TOAST_MS: i64 = 8_000;

/// Within this a second Ctrl-C leaves.
const LEAVE_MS: i64 = 3_000;

const DAY_MS: i64 = 86_400_000;

/// What an answer is an answer to.
#[derive(Clone, Debug, PartialEq)]
enum Pending {
    /// The first sessions, before the stream tells all of them.
    FirstPage,
    /// The active one, which is not among those.
    FirstActive,
    Switch,
    Create,
    Close {
        session: Option<String>,
    },
    Rename,
    Read,
    Stop,
    Reset,
    Queue,
    Status,
    Stats,
    Save {
        file: String,
    },
    Load {
        file: String,
    },
    Message {
        id: String,
    },
    Older {
        session: String,
        page: OlderPage,
    },
    Operator {
        session: String,
    },
}

/// A word about what was done, or what could not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Toast {
    pub(crate) text: String,
    pub(crate) wrong: bool,
    until: i64,
}

/// Where things stood when they were drawn last: what keys and the mouse refer to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Drawn {
    /// The rows of the list: the first line of the screen, how many, and how wide.
    pub(crate) list: (u16, u16, u16),
    /// The index of the list's first row.
    pub(crate) list_from: usize,
    /// The line that says who waits, if there is one.
    pub(crate) waits: Option<u16>,
    /// How many columns the screen has.
    pub(crate) columns: usize,
    /// How many columns the input has.
    pub(crate) input_columns: usize,
    /// How many rows the conversation has.
    pub(crate) talk_rows: usize,
}

/// All that the terminal knows.
pub struct App {
    pub(crate) options: Options,
    pub(crate) now: i64,
    pub(crate) link: Link,
    pub(crate) board: Board,
    pub(crate) shown: Option<Shown>,
    /// The one that is shown, then those that were, most recent first.
    conversations: VecDeque<Conversation>,
    editors: BTreeMap<String, Editor>,
    unsent: Vec<Unsent>,
    pending: BTreeMap<u64, Pending>,
    tags: u64,
    /// Until then what the board says may be from before the connection was lost.
    doubtful_until: i64,
    /// The tag of the newest wish to be in another session.
    moved: u64,
    messages: u64,
    pub(crate) toast: Option<Toast>,
    pub(crate) panel: Option<Panel>,
    pub(crate) completion: Completion,
    leaving: Leaving,
    /// What is shown changed under somebody's hands.
    astray: Option<Astray>,
    /// Texts whose sessions are gone, for whatever is shown next.
    strays: Vec<String>,
    /// Not before then it is asked again who has the agent's place.
    asks_operator_at: i64,
    focused: bool,
    /// What the server said last of this seat's active session.
    told_active: Option<u32>,
    /// The session that was asked for at the start is shown, or could not be.
    began: bool,
    /// Up to where which session is marked as read.
    marked: (String, u64),
    pub(crate) drawn: Drawn,
    pub(crate) manner: Manner,
    effects: Vec<Effect>,
    dirty: bool,
}

impl App {
    /// The terminal before anything happened.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options,
            now: 0,
            link: Link::Connecting,
            board: Board::default(),
            shown: None,
            conversations: VecDeque::new(),
            editors: BTreeMap::new(),
            unsent: Vec::new(),
            pending: BTreeMap::new(),
            tags: 0,
            doubtful_until: 0,
            moved: 0,
            messages: 0,
            toast: None,
            panel: None,
            completion: Completion::default(),
            leaving: Leaving::default(),
            astray: None,
            strays: Vec::new(),
            asks_operator_at: 0,
            focused: true,
            told_active: None,
            began: false,
            marked: (String::new(), 0),
            drawn: Drawn { columns: 80, input_columns: 80, talk_rows: 20, ..Drawn::default() },
            manner: Manner::default(),
            effects: Vec::new(),
            dirty: true,
        }
    }

    /// Takes what happened at a moment (milliseconds since 1970), and says what is to be done.
    pub fn on(&mut self, incoming: Incoming, now: i64) -> Vec<Effect> {
        self.now = self.now.max(now);
        let ticks = matches!(incoming, Incoming::Tick);
        self.dirty |= !ticks || self.animates();
        match incoming {
            Incoming::Terminal(event) => self.on_terminal(event),
            Incoming::Tick => {}
            Incoming::Link(link) => self.on_link(link),
            Incoming::Board(event) => self.on_board(&event.data),
            Incoming::Following(session) => {
                self.with(&session, Conversation::following);
            }
            Incoming::Session { session, event } => self.on_session(&session, &event),
            Incoming::Unfollowed { session, failure } => {
                let why = failure.to_string();
                self.with(&session, |talk| talk.trouble = Some(why));
            }
            Incoming::Answer { tag, result } => self.on_answer(tag, result),
            Incoming::Ending => self.quit(),
        }
        self.settle();
        std::mem::take(&mut self.effects)
    }

    /// Whether something changed since it was asked last, so that the screen is to be drawn.
    pub fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.dirty)
    }

    /// The key of the session that is shown.
    #[must_use]
    pub fn shown_session(&self) -> Option<&str> {
        self.shown.as_ref().map(|shown| shown.session.as_str())
    }

    /// How much text of conversations is held, in bytes.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        self.conversations.iter().map(Conversation::text_bytes).sum()
    }

    /// The conversation that is shown.
    pub(crate) fn talk(&self) -> Option<&Conversation> {
        self.shown.as_ref().and(self.conversations.front())
    }

    /// The row of the session that is shown, if the switchboard told of it.
    pub(crate) fn row(&self) -> Option<&Row> {
        let shown = self.shown.as_ref()?;
        self.board.row(shown.number).filter(|row| row.session == shown.session)
    }

    /// What is being written.
    pub(crate) fn editor(&self) -> Option<&Editor> {
        self.editors.get(self.shown_session().unwrap_or_default())
    }

    fn editor_mut(&mut self) -> &mut Editor {
        let session = self.shown_session().unwrap_or_default().to_owned();
        if self.editors.len() >= EDITORS_MAX && !self.editors.contains_key(&session) {
            let empty = self.editors.iter().find(|(_, editor)| editor.is_empty());
            let gone = empty.or_else(|| self.editors.iter().next()).map(|(key, _)| key.clone());
            gone.and_then(|gone| self.editors.remove(&gone));
        }
        self.editors.entry(session).or_default()
    }

    /// The window of the conversation that is shown.
    pub(crate) fn window(&mut self, columns: usize, rows: usize) -> Vec<Line> {
        let local = self.now.saturating_add(i64::from(self.options.utc_offset_s) * 1000);
        self.manner = Manner {
            columns,
            // The same all day, so that lines are not made anew; the day is the local one.
            today: self.now.saturating_sub(local.rem_euclid(DAY_MS)),
            utc_offset_s: self.options.utc_offset_s,
            own: self.row().is_none_or(|row| row.channel == "terminal"),
        };
        self.drawn.talk_rows = rows;
        let tail = self.tail();
        let manner = self.manner.clone();
        match self.conversations.front_mut().filter(|_| self.shown.is_some()) {
            Some(talk) => talk.window(&manner, rows, &tail),
            None => Vec::new(),
        }
    }

    /// What stands behind the journal: messages on their way, the draft, what the agent does.
    fn tail(&self) -> Rc<[Line]> {
        let mut lines = Vec::new();
        let Some(talk) = self.talk() else { return lines.into() };
        let online = self.link == Link::Up;
        for unsent in self.unsent.iter().filter(|unsent| unsent.session == talk.session) {
            lines.extend(unsent_lines(&unsent.text, unsent.word(online), &self.manner));
        }
        if let Some(draft) = talk.draft.as_ref().filter(|draft| !draft.text.is_empty()) {
            lines.extend(draft_lines(&draft.text, &self.manner));
        }
        let activity = talk.turn.as_ref().map_or("", |turn| turn.activity.as_str());
        if !activity.is_empty() {
            lines.extend(activity_line(activity, &self.manner));
        } else if talk.typing && talk.draft.is_none() && talk.open_question().is_none() {
            lines.extend(activity_line("the agent is typing…", &self.manner));
        }
        lines.into()
    }

    /// Whether something on the screen moves by itself.
    fn animates(&self) -> bool {
        let toast = self.toast.as_ref().is_some_and(|toast| toast.until <= self.now);
        toast || self.leaving != Leaving::Stays || matches!(self.link, Link::Down { .. })
    }

    /// What follows from how things stand, whatever happened.
    fn settle(&mut self) {
        if self.toast.as_ref().is_some_and(|toast| toast.until <= self.now) {
            self.toast = None;
        }
        self.settle_strays();
        self.settle_operator();
        self.send_next();
        self.fetch_older();
        self.mark_read();
        self.forget_some();
        self.settle_leaving();
    }

    fn fetch_older(&mut self) {
        if self.link != Link::Up || self.shown.is_none() {
            return;
        }
        let Some(talk) = self.conversations.front_mut() else { return };
        if !talk.live || !talk.paper.at_top {
            return;
        }
        if let Some(page) = talk.older() {
            let session = talk.session.clone();
            let path = page.path.clone();
            self.send(Pending::Older { session, page }, Method::Get, path, None);
        }
    }

    /// Who sees the end of a conversation has read it.
    fn mark_read(&mut self) {
        if self.link != Link::Up || !self.focused {
            return;
        }
        let (Some(row), Some(talk)) = (self.row(), self.talk()) else { return };
        let failed = row.waiting.as_ref().is_some_and(|waiting| waiting.kind == "error");
        let is_new = row.unread > 0 || failed;
        let seen = talk.live && talk.paper.at_end() && talk.last_seq > row.read_seq;
        let marked = self.marked.0 == talk.session && self.marked.1 >= talk.last_seq;
        if !is_new || !seen || marked || talk.last_seq < row.last_seq {
            return;
        }
        let seq = talk.last_seq;
        let path = board_path(&talk.session, "/read");
        self.marked = (talk.session.clone(), seq);
        let body = serde_json::json!({ "seq": seq });
        self.send(Pending::Read, Method::Post, path, Some(body));
    }

    /// Conversations that were seen long ago are forgotten; they are fetched again when needed.
    fn forget_some(&mut self) {
        while self.conversations.len() > 1
            && (self.conversations.len() > CONVERSATIONS_MAX
                || self.text_bytes() > CONVERSATIONS_BYTES_MAX)
        {
            self.conversations.pop_back();
        }
    }

    fn with(&mut self, session: &str, change: impl FnOnce(&mut Conversation)) {
        if let Some(talk) = self.conversations.iter_mut().find(|talk| talk.session == session) {
            change(talk);
        }
    }

    fn send(
        &mut self,
        pending: Pending,
        method: Method,
        path: String,
        body: Option<serde_json::Value>,
    ) {
        let tag = self.expect(pending);
        self.effects.push(Effect::Send { tag, request: Request { method, path, body } });
    }

    fn expect(&mut self, pending: Pending) -> u64 {
        self.tags += 1;
        self.pending.insert(self.tags, pending);
        self.tags
    }

    fn say(&mut self, text: impl Into<String>) {
        let until = self.now.saturating_add(TOAST_MS);
        self.toast = Some(Toast { text: text.into(), wrong: false, until });
    }

    fn complain(&mut self, text: impl Into<String>) {
        let until = self.now.saturating_add(TOAST_MS);
        self.toast = Some(Toast { text: text.into(), wrong: true, until });
    }
}

/// The address of a session on the switchboard.
fn board_path(which: &str, rest: &str) -> String {
    format!("/v1/switchboard/{}{rest}", segment(which))
}

/// The address of a session's conversation.
fn session_path(session: &str, rest: &str) -> String {
    format!("/v1/sessions/{}{rest}", segment(session))
}
