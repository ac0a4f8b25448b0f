//! What begins with a slash, line by line.

use serde_json::{Value, json};

use super::place::Here;
use super::{Do, For, Plain, get, label, post};
use crate::ports::{Method, Request};
use crate::text::{one_line, segment};

const HELP: &str = "\
/new [NAME]       a new session, and talk there
/switch WHICH     talk in another one: its number, name, id or key
/sessions         list them
/rename NAME      name this one
/stop             stop the turn that runs here
/reset            a new conversation in this session
/close            close this session
/status           how it is here
/quit             leave
//TEXT            say something that begins with a slash
A line that ends in a backslash goes on in the next line.";

impl Plain {
    pub(super) fn command(&mut self, text: &str) -> Vec<Do> {
        let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        let seat = self.options.seat.clone();
        match name {
            "help" => vec![Do::Note(HELP.into())],
            "quit" | "exit" => {
                self.ended = true;
                Vec::new()
            }
            "new" => {
                let mut body = json!({ "seat": seat });
                if !rest.is_empty() {
                    body["name"] = rest.into();
                }
                vec![self.ask(For::Open, post("/v1/switchboard".into(), body))]
            }
            "switch" if !rest.is_empty() => {
                let path = format!("/v1/switchboard/{}/switch", segment(rest));
                vec![self.ask(For::Open, post(path, json!({ "seat": seat })))]
            }
            "switch" => vec![Do::Note("/switch takes a number, a name, an id or a key".into())],
            "sessions" => vec![self.ask(For::List, get("/v1/switchboard?limit=100".into()))],
            "rename" | "stop" | "reset" | "close" | "status" => match self.here.clone() {
                Some(here) => vec![self.command_here(name, rest, &here)],
                None => {
                    self.failed = true;
                    vec![Do::Note("there is no session; /new begins one".into())]
                }
            },
            other => {
                self.failed |= !self.options.interactive;
                let other = one_line(other);
                vec![Do::Note(format!(
                    "there is no /{other}; /help lists what there is, and // says it"
                ))]
            }
        }
    }

    /// One that is about the session that is talked in.
    fn command_here(&mut self, name: &str, rest: &str, here: &Here) -> Do {
        let row = format!("/v1/switchboard/{}", segment(&here.key));
        match name {
            "rename" => {
                let name = if rest.is_empty() { Value::Null } else { rest.into() };
                let body = Some(json!({ "name": name }));
                let path = format!("{row}/name");
                self.ask(For::Done("renamed"), Request { method: Method::Put, path, body })
            }
            "stop" => self.ask(For::Done("stopped"), here.stop()),
            "reset" => {
                let request = post(format!("{}/new", here.path), json!({}));
                self.ask(For::Done("begun anew"), request)
            }
            "close" => {
                let seat = json!({ "seat": self.options.seat });
                self.ask(For::Close, post(format!("{row}/close"), seat))
            }
            _ => self.ask(For::List, get(row)),
        }
    }

    pub(super) fn command_answered(&mut self, asked_for: &For, body: &Value) -> Vec<Do> {
        match asked_for {
            For::Open => self.open(body),
            For::List => listed(body).into_iter().map(Do::Note).collect(),
            For::Close => {
                let mut todo =
                    vec![Do::Note(format!("session {} is closed", label(&body["closed"])))];
                if let Some(worktree) = body["worktree"].as_str() {
                    todo.push(Do::Note(one_line(worktree)));
                }
                if body["next"].is_object() {
                    todo.extend(self.open(&body["next"]));
                } else {
                    self.leave_place();
                    todo.push(Do::Note("there is no other one: /new makes one".into()));
                }
                todo
            }
            // It ended by itself, and the next one is not what was meant.
            For::Done(_) if body["result"] == "other_turn" => {
                self.turn_told(body["turn_id"].as_str());
                vec![Do::Note("that turn is over; /stop again stops the one that is open".into())]
            }
            For::Done(words) => {
                let said = body["result"].as_str().unwrap_or(words);
                vec![Do::Note(one_line(&said.replace('_', " ")))]
            }
            For::Active | For::Standing(_) | For::Message | For::Read => Vec::new(),
        }
    }
}

/// The rows of an answer, a line each.
fn listed(body: &Value) -> Vec<String> {
    let Some(rows) = body["sessions"].as_array() else { return vec![row_line(body)] };
    let mut lines: Vec<String> = rows.iter().map(row_line).collect();
    let (total, waiting) = (body["total"].as_u64(), body["waiting"].as_u64());
    let total = total.unwrap_or(0);
    lines.push(format!("{total} sessions, {} wait for you", waiting.unwrap_or(0)));
    lines
}

fn row_line(row: &Value) -> String {
    let state = row["state"].as_str().unwrap_or("unknown").replace('_', " ");
    let mut line = format!("{}: {}", label(row), one_line(&state));
    if let Some(unread) = row["unread"].as_u64().filter(|unread| *unread > 0) {
        line +=
            &if unread >= 100 { ", 99+ unread".to_owned() } else { format!(", {unread} unread") };
    }
    if let Some(text) = row["waiting"]["text"].as_str() {
        line += &format!(", waits for you: {}", one_line(text));
    }
    line
}
