//! `turnkeep sessions board`, `waiting`, `create` and whatever else is asked of the switchboard.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::client::{Client, with_query};
use super::super::output::{self, cell, short_cell, time_cell};
use super::args::{BoardArgs, CreateArgs, ReadArgs, RenameArgs, SwitchArgs};
use super::which::Which;
use super::{more, query, show_or_json};

/// What the system of the server doesn't say.
const UNKNOWN: &str = "unknown";

/// A server, whose sessions are meant, and how the answer is shown.
#[derive(Clone, Copy)]
pub(super) struct Board<'a> {
    pub(super) client: &'a Client,
    pub(super) tenant: Option<&'a str>,
    pub(super) json: bool,
}

impl Board<'_> {
    /// Lists sessions by their numbers.
    pub(super) async fn list(self, args: BoardArgs) -> anyhow::Result<()> {
        let seat = args.seat.is_some();
        let mut asked = query(args.page).to_vec();
        asked.extend([("seat", args.seat), ("state", args.state)]);
        self.page(asked, seat, "no sessions yet; try `turnkeep sessions create`").await
    }

    /// Lists those that wait for a person.
    pub(super) async fn waiting(self) -> anyhow::Result<()> {
        self.page(vec![("waiting", Some("true".to_owned()))], false, "no session waits").await
    }

    async fn page(
        self,
        mut asked: Vec<(&'static str, Option<String>)>,
        seat: bool,
        nothing: &str,
    ) -> anyhow::Result<()> {
        asked.push(("tenant", self.tenant.map(str::to_owned)));
        let answer = self.client.get(&with_query("/v1/switchboard", &asked)).await?;
        show_or_json(&answer, self.json, |page| {
            let active = page["active"].as_u64().filter(|_| seat);
            let sessions = page["sessions"].as_array().into_iter().flatten();
            let rows: Vec<[String; 7]> = sessions.map(|session| row(session, active)).collect();
            if rows.is_empty() {
                output::complain(nothing);
            }
            let head = ["number", "name", "state", "unread", "queued", "waits for", "session"];
            output::table(head, &rows)?;
            more(page);
            Ok(())
        })
    }

    /// Tells what the sessions take.
    pub(super) async fn stats(self) -> anyhow::Result<()> {
        let asked = [("tenant", self.tenant.map(str::to_owned))];
        let answer = self.client.get(&with_query("/v1/switchboard/stats", &asked)).await?;
        show_or_json(&answer, self.json, |stats| {
            let mut rows = Vec::new();
            for part in ["sessions", "resources", "limits"] {
                let numbers = stats[part].as_object().into_iter().flatten();
                rows.extend(numbers.map(|(name, number)| {
                    let unknown = part == "resources" && number.is_null();
                    let number = if unknown { UNKNOWN.into() } else { cell(&stats[part], name) };
                    [part.to_owned(), name.clone(), number]
                }));
            }
            for open in stats["most_open"].as_array().into_iter().flatten() {
                let files = match &open["open_files"] {
                    Value::Null => UNKNOWN.to_owned(),
                    _ => cell(open, "open_files"),
                };
                rows.push([
                    format!("session {}", cell(open, "number")),
                    "open_files".into(),
                    files,
                ]);
            }
            output::table(["of", "what", "number"], &rows)?;
            for advice in stats["recommendations"].as_array().into_iter().flatten() {
                let (text, of) = (cell(advice, "text"), cell(advice, "sessions"));
                let of = if of.is_empty() { of } else { format!(" (sessions {of})") };
                output::complain(&format!("{text}{of}"));
            }
            Ok(())
        })
    }

    /// Tidies up.
    pub(super) async fn cleanup(self) -> anyhow::Result<()> {
        let asked = [("tenant", self.tenant.map(str::to_owned))];
        let path = with_query("/v1/switchboard/cleanup", &asked);
        super::act(self.client, &path, &json!({}), self.json).await
    }

    /// Opens a session.
    pub(super) async fn create(self, args: CreateArgs) -> anyhow::Result<()> {
        let given = [
            ("name", args.name.as_deref()),
            ("agent_id", args.agent.as_deref()),
            ("tenant_id", self.tenant),
            ("seat", args.seat.as_deref()),
        ];
        let given = given.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let body: Value =
            given.map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
        self.act("/v1/switchboard", &body).await
    }

    /// Has a seat look at a session.
    pub(super) async fn switch(self, args: SwitchArgs) -> anyhow::Result<()> {
        let body = json!({ "seat": args.seat });
        self.act(&args.which.which.on_the_board("/switch", self.tenant), &body).await
    }

    /// Names a session, or takes its name away.
    pub(super) async fn rename(self, args: RenameArgs) -> anyhow::Result<()> {
        let path = args.which.which.on_the_board("/name", self.tenant);
        let name = args.name.filter(|_| !args.clear);
        let answer = self.client.put(&path, &json!({ "name": name })).await?;
        show_or_json(&answer, self.json, shown)
    }

    /// Notes how far a session was read.
    pub(super) async fn read(self, args: ReadArgs) -> anyhow::Result<()> {
        let body = args.seq.map_or_else(|| json!({}), |seq| json!({ "seq": seq }));
        self.act(&args.which.which.on_the_board("/read", self.tenant), &body).await
    }

    /// Wakes a session up.
    pub(super) async fn touch(self, which: &Which) -> anyhow::Result<()> {
        self.act(&which.on_the_board("/touch", self.tenant), &json!({})).await
    }

    /// Closes a session and tells what a seat looks at next.
    pub(super) async fn close(self, which: &Which, seat: String) -> anyhow::Result<()> {
        let path = which.on_the_board("/close", self.tenant);
        let answer = self.client.post(&path, &json!({ "seat": seat }), Duration::ZERO).await?;
        show_or_json(&answer, self.json, |done| {
            let rows = ["closed", "next"].map(|field| {
                let session = &done[field];
                [
                    field.to_owned(),
                    cell(session, "number"),
                    called(session),
                    cell(session, "session"),
                ]
            });
            output::table(["", "number", "name", "session"], &rows)?;
            // What stays may be somebody's work.
            if let Some(worktree) = done["worktree"].as_str() {
                output::complain(worktree);
            }
            Ok(())
        })
    }

    async fn act(self, path: &str, body: &Value) -> anyhow::Result<()> {
        let answer = self.client.post(path, body, Duration::ZERO).await?;
        show_or_json(&answer, self.json, shown)
    }
}

/// A session's name; in quotes where one could not see how many words it has.
pub(super) fn called(session: &Value) -> String {
    let name = cell(session, "name");
    if name.contains(char::is_whitespace) { format!("\"{name}\"") } else { name }
}

/// How many are unread, as it is counted.
fn unread(session: &Value) -> String {
    match session["unread"].as_u64() {
        Some(100..) => "99+".to_owned(),
        _ => cell(session, "unread"),
    }
}

fn row(session: &Value, active: Option<u64>) -> [String; 7] {
    let number = cell(session, "number");
    let is_active = active.is_some() && session["number"].as_u64() == active;
    let waiting = &session["waiting"];
    let waits = if waiting.is_object() {
        format!("{}: {}", cell(waiting, "kind"), short_cell(waiting, "text"))
    } else {
        String::new()
    };
    [
        if is_active { format!("{number}*") } else { number },
        called(session),
        cell(session, "state"),
        unread(session),
        cell(session, "queued"),
        waits,
        cell(session, "session"),
    ]
}

/// One session, a field a line.
fn shown(session: &Value) -> anyhow::Result<()> {
    const FIELDS: [&str; 6] = ["number", "id", "session", "agent_id", "state", "queued"];
    let mut rows: Vec<[String; 2]> =
        FIELDS.into_iter().map(|field| [field.to_owned(), cell(session, field)]).collect();
    rows.insert(2, ["name".to_owned(), called(session)]);
    rows.push(["unread".to_owned(), unread(session)]);
    if session["waiting"].is_object() {
        let kind = cell(&session["waiting"], "kind");
        rows.push([
            "waits for".to_owned(),
            format!("{kind}: {}", cell(&session["waiting"], "text")),
        ]);
    }
    rows.push(["active".to_owned(), cell(session, "active")]);
    rows.push(["created_at".to_owned(), time_cell(session, "created_at")]);
    output::table(["field", "value"], &rows)
}
