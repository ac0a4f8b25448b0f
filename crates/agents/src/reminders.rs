//! Tools with which a model has its user told something later: built in, and only for turns that are
//! trusted enough.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use turnkeep_core::policy::Trust;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::agent::TurnContext;
use turnkeep_core::ports::reminders::{AskedBy, Reminder, Reminders, Wanted};
use turnkeep_core::tool::{SideEffects, ToolOutcome};

use crate::mcp::matches;
use crate::tools::{Origin, Said, Tool, ToolSpec, Toolbox};

/// The name under which agents ask for these tools, as if it were a server's.
pub const REMINDERS: &str = "reminders";
/// Turns that are trusted less have none of them.
const TRUST_MIN: Trust = Trust::Inner;
/// Everything is done in memory and with one write.
const TIMEOUT: Duration = Duration::from_secs(10);

const REMIND_ME: &str = "remind_me";
const LIST: &str = "list_reminders";
const CANCEL: &str = "cancel_reminder";

/// Reminders for the user that a model talks with.
pub struct ReminderTools {
    port: Arc<dyn Reminders>,
    /// Which of the tools are wanted.
    patterns: Vec<String>,
}

impl ReminderTools {
    /// Those that an agent wants, as `reminders.PATTERN`; none if it wants none.
    #[must_use]
    pub fn wanted(port: Arc<dyn Reminders>, wanted: &[String]) -> Option<Self> {
        let of_it = wanted.iter().filter_map(|wanted| {
            let (server, pattern) = wanted.split_once('.')?;
            (server == REMINDERS).then(|| pattern.to_owned())
        });
        let patterns: Vec<String> = of_it.collect();
        (!patterns.is_empty()).then_some(Self { port, patterns })
    }
}

impl Toolbox for ReminderTools {
    fn tools(&self) -> BoxFuture<'_, (Vec<Tool>, Vec<String>)> {
        // Whose they are is known in a turn only.
        Box::pin(async { (Vec::new(), Vec::new()) })
    }

    fn call<'a>(&'a self, _: &'a Tool, _: &'a str) -> BoxFuture<'a, Said> {
        Box::pin(async { refused("there is no such tool") })
    }

    fn for_turn(&self, turn: &TurnContext) -> Option<Arc<dyn Toolbox>> {
        let by = AskedBy { session: turn.session.clone(), group: turn.group, trust: turn.trust };
        if turn.trust < TRUST_MIN {
            return None;
        }
        let port = Arc::clone(&self.port);
        let patterns = self.patterns.clone();
        Some(Arc::new(OfTurn { port, by, patterns }))
    }
}

/// The tools of one turn.
struct OfTurn {
    port: Arc<dyn Reminders>,
    by: AskedBy,
    patterns: Vec<String>,
}

impl OfTurn {
    fn all(&self) -> Vec<Tool> {
        let text = |about: &str| json!({"type": "string", "description": about});
        let when = [
            ("text", text("What the user is told then, in your own words to them.")),
            ("in", text("In how long: 20m, 2h 30m, 3 days. This or at.")),
            (
                "at",
                text(
                    "When: 18:30 is the next time that the clock shows it; or 2030-01-01 18:30. \
                     This or in.",
                ),
            ),
            (
                "zone",
                text("The time zone of at, like Europe/Berlin, where it is not the server's."),
            ),
        ];
        let when =
            Value::Object(when.map(|(name, about)| (name.to_owned(), about)).into_iter().collect());
        let tools = [
            tool(
                REMIND_ME,
                "Has the user of this conversation told something later, once, whether you run or \
                 not.",
                json!({"type": "object", "properties": when, "required": ["text"]}),
                SideEffects::Idempotent,
            ),
            tool(
                LIST,
                "Lists the reminders of this conversation that are still to come, and tells what \
                 time it is.",
                json!({"type": "object", "properties": {}}),
                SideEffects::Pure,
            ),
            tool(
                CANCEL,
                "Cancels a reminder of this conversation.",
                json!({
                    "type": "object",
                    "properties": {"name": text("The reminder's name.")},
                    "required": ["name"],
                }),
                SideEffects::Idempotent,
            ),
        ];
        let wanted = |tool: &Tool| {
            let name = tool.origin.as_ref().map_or("", |origin| &origin.name);
            self.patterns.iter().any(|pattern| matches(pattern, name))
        };
        tools.into_iter().filter(wanted).collect()
    }

    async fn remind(&self, arguments: &Value) -> Said {
        let text = |name: &str| arguments[name].as_str().map(str::to_owned);
        let when = match (text("in"), text("at")) {
            (Some(ahead), None) => Wanted::In(ahead),
            (None, Some(at)) => Wanted::At(at),
            _ => return refused("say either in or at"),
        };
        let told = text("text").unwrap_or_default();
        match self.port.remind(&self.by, when, text("zone"), told).await {
            Ok(reminder) => done(format!("will be told: {}", line(&reminder))),
            Err(why) => refused(&why),
        }
    }

    fn list(&self) -> Said {
        match self.port.reminders(&self.by) {
            Ok((all, now)) if all.is_empty() => done(format!("none; it is {now}")),
            Ok((all, now)) => {
                let lines: Vec<String> = all.iter().map(line).collect();
                done(format!("it is {now}\n{}", lines.join("\n")))
            }
            Err(why) => refused(&why),
        }
    }

    async fn cancel(&self, arguments: &Value) -> Said {
        let name = arguments["name"].as_str().unwrap_or_default().to_owned();
        match self.port.cancel(&self.by, name).await {
            Ok(()) => done("cancelled".to_owned()),
            Err(why) => refused(&why),
        }
    }
}

impl Toolbox for OfTurn {
    fn tools(&self) -> BoxFuture<'_, (Vec<Tool>, Vec<String>)> {
        let tools = self.all();
        Box::pin(async { (tools, Vec::new()) })
    }

    fn call<'a>(&'a self, tool: &'a Tool, arguments: &'a str) -> BoxFuture<'a, Said> {
        Box::pin(async move {
            let Ok(arguments) = serde_json::from_str::<Value>(arguments) else {
                return refused("the arguments are no JSON");
            };
            match tool.origin.as_ref().map(|origin| origin.name.as_str()) {
                Some(REMIND_ME) => self.remind(&arguments).await,
                Some(LIST) => self.list(),
                Some(CANCEL) => self.cancel(&arguments).await,
                _ => refused("there is no such tool"),
            }
        })
    }
}

fn tool(name: &str, description: &str, schema: Value, effects: SideEffects) -> Tool {
    Tool {
        spec: ToolSpec {
            name: format!("{REMINDERS}__{name}"),
            description: description.to_owned(),
            schema,
        },
        origin: Some(Origin { server: REMINDERS.to_owned(), name: name.to_owned() }),
        effects,
        key: None,
        approval: false,
        timeout: TIMEOUT,
    }
}

fn line(Reminder { name, at, text }: &Reminder) -> String {
    format!("{name} at {at}: {text}")
}

fn done(output: String) -> Said {
    Said { outcome: ToolOutcome::Done, output }
}

fn refused(why: &str) -> Said {
    Said { outcome: ToolOutcome::Failed, output: why.to_owned() }
}
