//! The same conversation line by line, for pipes and screen readers: nothing moves, nothing is drawn
//! over, and no line holds anything that steers a terminal.
//!
//! [`Plain`] is the pure half: lines and answers in, lines and requests out. [`run`] does it.
//!
//! A line that is typed is a message; one that ends in a backslash goes on in the next line. Where
//! lines come from a pipe, one waits until what the last one asked for is settled, so that a
//! question's answer is simply the next line. A message belongs to the session in which its line
//! was taken, and no line is taken while it isn't settled which one that is.

mod commands;
mod journal;
mod messages;
mod place;
mod run;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};

use serde_json::Value;

use crate::follow::Told;
use crate::ports::{Answer, Failure, Method, Request};
use crate::text::{harmless, one_line};
use messages::Message;
use place::Here;

pub use run::run;

/// Everything that was said is answered.
pub const DONE: u8 = 0;
/// Something failed, was refused or was not answered.
pub const FAILED: u8 = 1;
/// The input is at its end, and the conversation waits for an answer.
pub const ASKED: u8 = 3;

/// Messages that may wait to be sent.
const PENDING_MAX: usize = 64;
/// How much of what was missed is told at the beginning, in entries of the journal.
const MISSED_MAX: u64 = 200;
/// Where nobody types, a server that is away for so many ticks is given up.
const AWAY_TICKS_MAX: u32 = 60;

/// What a person chose at the start.
#[derive(Clone, Debug)]
pub struct PlainOptions {
    /// The name of this place of watching.
    pub seat: String,
    /// The session to talk in, as it was typed; else the seat's active one, else a new one.
    pub session: Option<String>,
    /// Whether somebody types. Else lines come from a pipe or a file.
    pub interactive: bool,
    /// Begins the ids of the messages of this run; nobody else may have it.
    pub nonce: String,
}

/// What happens.
#[derive(Clone, Debug)]
pub(crate) enum Hear {
    /// A line was read.
    Line(String),
    /// A line was read that is no text.
    NoText,
    /// There are no more lines.
    End,
    /// A second went by.
    Tick,
    /// The stream of a session tells something.
    Stream(String, Told),
    /// What came of a request.
    Answer(u64, Result<Answer, Failure>),
}

/// What is to be done about it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Do {
    /// A line of the conversation.
    Say(String),
    /// Something that this program says itself.
    Note(String),
    /// Send this, and tell the answer.
    Send(u64, Request),
    /// Follow this session behind a place of its journal, and no other one.
    Follow(String, u64),
    /// Leave with this code.
    Leave(u8),
}

/// What a request was for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum For {
    /// Which session the seat shows.
    Active,
    /// A row to talk in from now on.
    Open,
    /// How the session is that is talked in now.
    Standing(String),
    /// The message that is first in line.
    Message,
    /// A list to print.
    List,
    /// A session that was closed.
    Close,
    /// Something that says in these words that it was done.
    Done(&'static str),
    /// Nothing that anybody waits for.
    Read,
}

/// The conversation, line by line.
pub(crate) struct Plain {
    options: PlainOptions,
    /// None before the first one stands, and where the last one was closed.
    here: Option<Here>,
    /// A session was talked in already.
    began: bool,
    /// For so many ticks a line may have been typed for a session that could not be gone to.
    astray: u32,
    requests: VecDeque<(u64, For)>,
    tag_last: u64,
    messages_said: u64,
    /// The lines so far of a message that goes on.
    begun: Option<String>,
    /// Messages that nobody has said yet are taken, the first one first.
    pending: VecDeque<Message>,
    /// The first of them is being sent.
    sending: bool,
    /// The server has them, and their entries have not come by yet.
    unseen: BTreeSet<String>,
    /// The places of those that are not settled.
    open: BTreeSet<u64>,
    /// The conversation waits for an answer.
    asked: bool,
    /// The question that the next message answers.
    question: Option<u64>,
    /// Up to here something was missed that is told before anything else; given up after a second.
    missed_to: Option<u64>,
    /// So many requests of commands are not answered yet.
    commands: u32,
    failed: bool,
    ended: bool,
    away: Option<u32>,
    left: bool,
}

impl Plain {
    pub(crate) fn new(options: PlainOptions) -> Self {
        Self {
            options,
            here: None,
            began: false,
            astray: 0,
            requests: VecDeque::new(),
            tag_last: 0,
            messages_said: 0,
            begun: None,
            pending: VecDeque::new(),
            sending: false,
            unseen: BTreeSet::new(),
            open: BTreeSet::new(),
            asked: false,
            question: None,
            missed_to: None,
            commands: 0,
            failed: false,
            ended: false,
            away: None,
            left: false,
        }
    }

    /// Whether it is time for the next line.
    pub(crate) fn wants_line(&self) -> bool {
        let early = !self.began || self.missed_to.is_some() || !self.is_settled();
        if self.ended || early || self.pending.len() >= PENDING_MAX {
            return false;
        }
        let said = self.pending.is_empty() && self.unseen.is_empty() && self.commands == 0;
        self.options.interactive || (said && (self.asked || self.open.is_empty()))
    }

    pub(crate) fn hear(&mut self, hear: Hear) -> Vec<Do> {
        let mut todo = match hear {
            Hear::Line(line) => self.line(&line),
            Hear::NoText => self.no_text(),
            Hear::End => self.end_of_lines(),
            Hear::Tick => self.tick(),
            Hear::Stream(session, told) => self.told(&session, told),
            Hear::Answer(tag, result) => self.answered(tag, result),
        };
        self.leave_if_done(&mut todo);
        todo
    }

    fn line(&mut self, line: &str) -> Vec<Do> {
        let begun = self.begun.take();
        let line = line.trim_end_matches(['\n', '\r']);
        if let Some(part) = line.strip_suffix('\\') {
            self.begun = Some(begun.unwrap_or_default() + part + "\n");
            return Vec::new();
        }
        let first = begun.is_none();
        let text = begun.unwrap_or_default() + line;
        if text.trim().is_empty() {
            return Vec::new();
        }
        match text.strip_prefix('/') {
            Some(rest) if first && rest.starts_with('/') => self.message(rest.to_owned()),
            Some(rest) if first => self.command(rest),
            _ => self.message(text),
        }
    }

    /// Nothing is sent in its place: nobody has said what would stand there.
    fn no_text(&mut self) -> Vec<Do> {
        self.failed = true;
        self.begun = None;
        vec![Do::Note("not sent: the line is not valid UTF-8".into())]
    }

    fn end_of_lines(&mut self) -> Vec<Do> {
        self.ended = true;
        match self.begun.take() {
            Some(text) if !text.trim().is_empty() => self.message(text.trim_end().to_owned()),
            _ => Vec::new(),
        }
    }

    fn tick(&mut self) -> Vec<Do> {
        // Not every entry is shown to everybody.
        self.missed_to = None;
        self.astray = self.astray.saturating_sub(1);
        let mut todo: Vec<Do> = self.ask_standing().into_iter().collect();
        let Some(away) = &mut self.away else { return todo };
        *away += 1;
        // Who types may wait as long as they like, unless they want to leave.
        if *away >= AWAY_TICKS_MAX && (!self.options.interactive || self.ended) {
            self.left = true;
            let lost = if self.unseen.is_empty() {
                "given up: the server is away"
            } else {
                "given up: the server is away, and nobody knows whether the last message was taken"
            };
            return vec![Do::Note(lost.into()), Do::Leave(FAILED)];
        }
        todo.extend(self.send_next());
        todo
    }

    fn told(&mut self, session: &str, told: Told) -> Vec<Do> {
        if self.here.as_ref().is_none_or(|here| here.key != session) {
            return Vec::new();
        }
        match told {
            Told::Stands => {
                let mut todo = Vec::new();
                if self.away.take().is_some() {
                    todo.push(Do::Note("connected again".into()));
                }
                todo.extend(self.send_next());
                todo
            }
            Told::Event(event) => self.happened(&event),
            Told::Lost { why, .. } => self.lost(&why),
            Told::Refused(failure) => self.give_up(&failure),
        }
    }

    fn lost(&mut self, why: &str) -> Vec<Do> {
        if self.away.is_some() {
            return Vec::new();
        }
        self.away = Some(0);
        vec![Do::Note(format!("connection lost: {}; trying again", one_line(why)))]
    }

    fn give_up(&mut self, failure: &Failure) -> Vec<Do> {
        self.left = true;
        vec![Do::Note(one_line(&failure.to_string())), Do::Leave(FAILED)]
    }

    fn answered(&mut self, tag: u64, result: Result<Answer, Failure>) -> Vec<Do> {
        let Some(at) = self.requests.iter().position(|(one, _)| *one == tag) else {
            return Vec::new();
        };
        let Some((_, asked_for)) = self.requests.remove(at) else { return Vec::new() };
        match asked_for {
            For::Message => self.message_answered(result),
            For::Read => Vec::new(),
            For::Standing(key) => self.stands(&key, result),
            For::Active => match result {
                Ok(answer) => self.open_active(&answer.body),
                Err(failure) => self.give_up(&failure),
            },
            other => {
                self.commands = self.commands.saturating_sub(1);
                match result {
                    Ok(answer) => self.command_answered(&other, &answer.body),
                    // Without a session there is nothing to go on with.
                    Err(failure) if !self.began => self.give_up(&failure),
                    Err(failure) => self.command_failed(&other, &failure),
                }
            }
        }
    }

    fn leave_if_done(&mut self, todo: &mut Vec<Do>) {
        let busy = !self.pending.is_empty() || !self.unseen.is_empty() || self.commands > 0;
        // What was written out would be told again if nobody knew that it was read.
        let marks = self.requests.iter().any(|(_, asked_for)| *asked_for == For::Read);
        if self.left || !self.ended || busy || marks || !self.began {
            return;
        }
        if self.asked {
            self.left = true;
            todo.push(Do::Note("the conversation waits for an answer".into()));
            todo.push(Do::Leave(ASKED));
        } else if self.open.is_empty() {
            self.left = true;
            todo.push(Do::Leave(if self.failed { FAILED } else { DONE }));
        }
    }

    fn ask(&mut self, asked_for: For, request: Request) -> Do {
        self.tag_last += 1;
        if !matches!(asked_for, For::Message | For::Read | For::Active | For::Standing(_)) {
            self.commands += 1;
        }
        self.requests.push_back((self.tag_last, asked_for));
        Do::Send(self.tag_last, request)
    }
}

/// What somebody said; lines behind the first one are set in, so that a line that isn't begins
/// with who speaks.
fn told(who: &str, text: &str) -> String {
    let text = harmless(text.trim_end());
    format!("{}: {}", one_line(who), text.replace('\n', "\n  "))
}

/// A session as people call it.
fn label(row: &Value) -> String {
    let number = row["number"].as_u64().unwrap_or(0);
    match row["name"].as_str() {
        Some(name) => format!("{number} \"{}\"", one_line(name)),
        None => number.to_string(),
    }
}

fn get(path: String) -> Request {
    Request { method: Method::Get, path, body: None }
}

fn post(path: String, body: Value) -> Request {
    Request { method: Method::Post, path, body: Some(body) }
}
