//! What is said to this terminal instead of to the agent: lines that begin with a slash.

use serde_json::{Value, json};

use super::sending::Voice;
use super::{App, Panel, Pending, board_path, session_path};
use crate::ports::{Effect, Method};
use crate::text::one_line;

/// A command, as it is explained.
pub(crate) struct Command {
    /// What is typed, without the slash.
    pub(crate) name: &'static str,
    /// What comes behind it.
    pub(crate) takes: &'static str,
    /// What it does.
    pub(crate) does: &'static str,
}

const fn command(name: &'static str, takes: &'static str, does: &'static str) -> Command {
    Command { name, takes, does }
}

/// All there are, in the order in which they are explained.
pub(crate) const COMMANDS: &[Command] = &[
    command("new", "[NAME] [--agent A]", "begins a session"),
    command("switch", "NUMBER|NAME|ID", "goes to a session"),
    command("close", "[NUMBER|NAME|ID]", "closes this session, or that one"),
    command("rename", "NAME", "gives this session a name"),
    command("sessions", "", "shows all sessions and what they wait for"),
    command("stop", "", "ends the turn that runs (Ctrl-X)"),
    command("reset", "", "begins a new conversation in this session"),
    command("queue", "[WORD]", "says what becomes of messages while the agent works"),
    command("status", "", "shows how this session stands"),
    command("stats", "", "shows what all sessions use"),
    command("model", "[NAME]", "shows or sets which agent or model answers"),
    command("save", "FILE", "writes this session into a file"),
    command("load", "FILE", "begins a session from such a file"),
    command("help", "", "shows commands and keys (F1)"),
    command("quit", "", "leaves; every session goes on"),
];

/// What may become of messages while the agent works.
pub(crate) const POLICIES: [(&str, &str); 6] = [
    ("absorb", "the turn takes them in"),
    ("collect", "they wait, and the next turn takes them all"),
    ("queue", "they wait, each for a turn of its own"),
    ("supersede", "a new turn begins with them"),
    ("reject", "they are refused"),
    ("default", "what is configured"),
];

impl App {
    /// Does what was typed: a command, or a text for the agent.
    pub(super) fn submit(&mut self) {
        let text = self.editor().map_or("", |editor| editor.text()).to_owned();
        if text.trim().is_empty() {
            return;
        }
        if let Some(rest) = text.strip_prefix("//") {
            if !self.is_meant("Enter again sends this to") {
                return;
            }
            self.editor_mut().take();
            return self.send_text(format!("/{rest}"));
        }
        let Some(line) = text.strip_prefix('/') else {
            if !self.is_meant("Enter again sends this to") {
                return;
            }
            self.editor_mut().take();
            return self.send_text(text);
        };
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        // The input changes with the session, so it is taken before anything happens.
        if self.is_done(name, rest.trim(), &text) {
            self.panel_of(name);
        }
    }

    /// What a command shows besides what it does.
    fn panel_of(&mut self, name: &str) {
        match name {
            "help" => self.panel = Some(Panel::help()),
            "sessions" => self.panel = Some(Panel::sessions(&self.board)),
            _ => {}
        }
    }

    /// Does a command; one that can't be done stays in the input, and is explained.
    fn is_done(&mut self, name: &str, rest: &str, typed: &str) -> bool {
        let Some(known) = COMMANDS.iter().find(|command| command.name == name) else {
            self.complain(unknown(name));
            return false;
        };
        let needs = !known.takes.is_empty() && !known.takes.starts_with('[');
        if needs && rest.is_empty() {
            self.complain(format!("/{name} needs {}", known.takes));
            return false;
        }
        if known.takes.is_empty() && !rest.is_empty() {
            self.complain(format!("/{name} takes nothing behind it"));
            return false;
        }
        let here = ["rename", "save", "stop", "reset", "queue", "status", "model"];
        let needs_session = here.contains(&name) || (name == "close" && rest.is_empty());
        if needs_session && self.shown.is_none() {
            self.complain("there is no session yet: /new begins one");
            return false;
        }
        if needs_session && !self.is_meant(&format!("Enter again does /{name} in")) {
            return false;
        }
        match self.act(name, rest, typed) {
            Ok(()) => true,
            Err(why) => {
                self.complain(why);
                false
            }
        }
    }

    fn act(&mut self, name: &str, rest: &str, typed: &str) -> Result<(), String> {
        let session = self.shown_session().unwrap_or_default().to_owned();
        match name {
            "new" => {
                let (title, agent) = new_of(rest)?;
                self.editor_mut().take();
                self.create(title.as_deref(), agent.as_deref());
                return Ok(());
            }
            "queue" if !rest.is_empty() && !POLICIES.iter().any(|(word, _)| *word == rest) => {
                let words: Vec<&str> = POLICIES.iter().map(|(word, _)| *word).collect();
                return Err(format!("/queue takes one of {}", words.join(", ")));
            }
            "model" => return self.model(&session, typed),
            _ => {}
        }
        self.editor_mut().take();
        match name {
            "switch" => self.switch_to(unquoted(rest)),
            "close" => {
                let (which, of) = match rest {
                    "" => (session.clone(), Some(session)),
                    which => (self.meant_by(unquoted(which)), None),
                };
                let body = json!({ "seat": self.options.seat });
                let pending = Pending::Close { session: of };
                self.send(pending, Method::Post, board_path(&which, "/close"), Some(body));
            }
            "rename" => {
                let body = json!({ "name": unquoted(rest) });
                self.send(Pending::Rename, Method::Put, board_path(&session, "/name"), Some(body));
            }
            "stop" => self.stop(),
            "reset" => self.post(Pending::Reset, session_path(&session, "/new"), json!({})),
            "queue" if rest.is_empty() => self.panel = Some(Panel::queue()),
            "queue" => {
                let policy = if rest == "default" { Value::Null } else { Value::from(rest) };
                let body = json!({ "busy_policy": policy });
                self.post(Pending::Queue, session_path(&session, "/queue"), body);
            }
            "status" => self.send(Pending::Status, Method::Get, session_path(&session, ""), None),
            "stats" => self.send(Pending::Stats, Method::Get, "/v1/switchboard/stats".into(), None),
            "save" => {
                let file = unquoted(rest).to_owned();
                let tag = self.expect(Pending::Save { file: file.clone() });
                self.effects.push(Effect::Save {
                    tag,
                    path: session_path(&session, "/file"),
                    file,
                });
            }
            "load" => {
                let file = unquoted(rest).to_owned();
                let tag = self.expect(Pending::Load { file: file.clone() });
                self.effects.push(Effect::Load { tag, path: "/v1/sessions/file".to_owned(), file });
            }
            "quit" => self.go(false),
            _ => {}
        }
        Ok(())
    }

    /// Ends the turn that runs in the session that is shown.
    pub(super) fn stop(&mut self) {
        let Some(session) = self.shown_session().map(ToOwned::to_owned) else {
            return self.complain("there is no session to stop");
        };
        if !self.is_meant("Ctrl-X again stops the turn of") {
            return;
        }
        // The one that is seen; who is only just reading what goes on means whichever runs.
        let seen = self.talk().filter(|talk| talk.live).and_then(|talk| talk.turn.as_ref());
        let body = match seen.map(|turn| turn.id.as_str()).filter(|id| !id.is_empty()) {
            Some(id) => json!({ "turn_id": id }),
            None => json!({}),
        };
        self.post(Pending::Stop, session_path(&session, "/stop"), body);
    }

    /// A number is of the session that the screen shows with it; anything else the server knows.
    fn meant_by(&self, which: &str) -> String {
        let row = which.parse().ok().and_then(|number| self.board.row(number));
        row.map_or(which, |row| &row.session).to_owned()
    }

    /// The gateway answers this itself, where its channel takes commands.
    fn model(&mut self, session: &str, typed: &str) -> Result<(), String> {
        if self.row().is_some_and(|row| row.channel != "terminal") {
            return Err("/model works in sessions of the terminal only".to_owned());
        }
        debug_assert!(!session.is_empty(), "checked before");
        self.editor_mut().take();
        self.speak(typed.trim_end().to_owned(), Voice::Command);
        Ok(())
    }

    fn post(&mut self, pending: Pending, path: String, body: Value) {
        self.send(pending, Method::Post, path, Some(body));
    }
}

fn unknown(name: &str) -> String {
    let name = one_line(name);
    let near = COMMANDS.iter().find(|command| {
        !name.is_empty() && (command.name.starts_with(&name) || name.starts_with(command.name))
    });
    match near {
        Some(near) => format!("there is no /{name}; did you mean /{}?", near.name),
        None => format!("there is no /{name}; /help lists what there is, //{name} sends it"),
    }
}

/// What stands behind `/new`: a name, an agent, in any order.
fn new_of(rest: &str) -> Result<(Option<String>, Option<String>), String> {
    let mut agent = None;
    let mut name: Vec<&str> = Vec::new();
    let mut words = rest.split_whitespace();
    while let Some(word) = words.next() {
        if let Some(given) = word.strip_prefix("--agent=") {
            agent = Some(given.to_owned());
        } else if word == "--agent" {
            agent = Some(words.next().ok_or("--agent needs the name of an agent")?.to_owned());
        } else if word.starts_with("--") {
            return Err(format!("/new knows --agent only, not {}", one_line(word)));
        } else {
            name.push(word);
        }
    }
    let name = name.join(" ");
    let name = unquoted(&name);
    Ok(((!name.is_empty()).then(|| name.to_owned()), agent))
}

/// A name as it was typed, without the quotes around it.
pub(super) fn unquoted(text: &str) -> &str {
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.unwrap_or(text).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_takes_a_name_and_an_agent() {
        let check = |rest: &str, name: Option<&str>, agent: Option<&str>| {
            let got = new_of(rest).unwrap();
            assert_eq!((got.0.as_deref(), got.1.as_deref()), (name, agent), "{rest}");
        };
        check("", None, None);
        check("api work", Some("api work"), None);
        check("\"api work\" --agent coder", Some("api work"), Some("coder"));
        check("--agent=coder x", Some("x"), Some("coder"));
        assert!(new_of("--agent").is_err());
        assert!(new_of("--what").is_err());
    }

    #[test]
    fn unknown_commands_are_explained() {
        assert_eq!(unknown("sw"), "there is no /sw; did you mean /switch?");
        assert_eq!(unknown("stopp"), "there is no /stopp; did you mean /stop?");
        assert_eq!(unknown("etc"), "there is no /etc; /help lists what there is, //etc sends it");
    }
}
