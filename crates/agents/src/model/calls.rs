//! The calls of one answer: which may be made, in which order, and what came of each.
//!
//! Every call gets a result, whatever happens: made, known, refused, or not done because something
//! else came first. Pure calls that stand next to each other run side by side; any other call waits
//! for those before it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use turnkeep_core::message::Pending;
use turnkeep_core::ports::agent::{
    Declined, Permission, RecordedCall, Revoked, ToolCall, TurnHandle,
};
use turnkeep_core::tool::{CALLS_OPEN_MAX, SideEffects, ToolOutcome};

use super::arguments::{self, Arguments};
use super::asking::LIFE_INTERVAL;
use super::consent::{self, Consent};
use super::provider::{Call, CallResult};
use super::turn::{Stopped, Turn};
use super::{approval, telling};
use crate::tools::{Said, Tool, ToolSpec, Toolbox};

/// How long a toolbox may take to say what it has.
const LISTING_TIME: Duration = Duration::from_secs(30);
/// Tools that a model is shown; more only confuse it, and some providers refuse them.
const TOOLS_MAX: usize = 128;
/// How long mail is waited for that has to be read before a call, and how often.
const MAIL_PATIENCE: Duration = Duration::from_secs(5);
const MAIL_TRIES: u32 = 3;

/// The tools of one attempt.
pub(super) struct Tools<'a> {
    tools: Vec<(Tool, &'a dyn Toolbox)>,
    specs: Vec<ToolSpec>,
}

impl<'a> Tools<'a> {
    /// What there is now, and what is away.
    pub(super) async fn open(toolboxes: &'a [Arc<dyn Toolbox>]) -> (Self, Vec<String>) {
        let listings = toolboxes.iter().map(|toolbox| timeout(LISTING_TIME, toolbox.tools()));
        let mut tools: Vec<(Tool, &dyn Toolbox)> = Vec::new();
        let mut away = Vec::new();
        for (listing, toolbox) in join_all(listings).await.into_iter().zip(toolboxes) {
            let Ok((listed, absent)) = listing else {
                away.push("some, which did not say in time what they are".to_owned());
                continue;
            };
            away.extend(absent);
            for tool in listed {
                let name = &tool.spec.name;
                if tools.iter().any(|(known, _)| known.spec.name == *name) {
                    tracing::warn!(%name, "two tools have one name; the first one counts");
                } else if tools.len() < TOOLS_MAX {
                    tools.push((tool, &**toolbox));
                } else {
                    tracing::warn!(%name, "left out: a model is shown {TOOLS_MAX} tools at most");
                }
            }
        }
        let specs = tools.iter().map(|(tool, _)| tool.spec.clone()).collect();
        (Self { tools, specs }, away)
    }

    pub(super) fn specs(&self) -> &[ToolSpec] {
        &self.specs
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tools.is_empty()
    }

    /// What a call amounts to; else what is wrong with it, for the model.
    fn understand(&self, call: &Call) -> Result<Act<'_>, String> {
        let found = self.tools.iter().find(|(tool, _)| tool.spec.name == call.tool);
        let Some((tool, toolbox)) = found else {
            let name = telling::within(&call.tool, 100);
            return Err(format!("not done: there is no tool {name:?}"));
        };
        let arguments = arguments::read(&call.arguments, &tool.spec.schema, tool.key.as_deref());
        let arguments = arguments.map_err(|wrong| format!("not done: {wrong}"))?;
        Ok(Act { tool, toolbox: *toolbox, arguments })
    }
}

/// A call that is understood.
struct Act<'a> {
    tool: &'a Tool,
    toolbox: &'a dyn Toolbox,
    arguments: Arguments,
}

/// What came of a call.
enum Came {
    /// Its result: the content, and whether it is an error.
    Result(String, bool),
    /// The gateway wants mail read before it.
    MailFirst,
    /// This mail has to be read before it; what the model is told of the call.
    Mail(Vec<Pending>, &'static str),
    /// A message has to be read before it that can't be had.
    Held,
    /// The user did not allow it.
    Denied(String),
}

impl Turn<'_> {
    /// Makes the calls; gives back the result of each, and mail that was taken meanwhile.
    pub(super) async fn call_all(
        &mut self,
        calls: &[Call],
    ) -> Result<(Vec<CallResult>, Vec<Pending>), Stopped> {
        let tools = self.tools;
        let acts: Vec<Result<Act<'_>, String>> =
            calls.iter().map(|call| tools.understand(call)).collect();
        let mut came: Vec<(String, bool)> = Vec::with_capacity(calls.len());
        let (mut mail, mut instead) = (Vec::new(), None);
        while let Some(act) = acts.get(came.len()) {
            if self.handle.finish_now() {
                instead = Some(telling::FINISHING);
            }
            if let Some(instead) = instead {
                came.push((instead.to_owned(), true));
                continue;
            }
            let act = match act {
                Ok(act) => act,
                Err(wrong) => {
                    came.push((wrong.clone(), true));
                    continue;
                }
            };
            let rest = acts.get(came.len()..).unwrap_or_default();
            let together: Vec<&Act<'_>> =
                rest.iter().map_while(side_by_side).take(CALLS_OPEN_MAX).collect();
            if together.len() > 1 {
                came.extend(self.call_together(&together).await?);
                continue;
            }
            match self.call_one(act).await? {
                Came::Result(content, is_error) => came.push((content, is_error)),
                Came::Denied(content) => {
                    came.push((content, true));
                    instead = Some(telling::DECIDE_AGAIN);
                }
                Came::Mail(taken, told) => {
                    mail = taken;
                    came.push((told.to_owned(), true));
                    instead = Some(telling::MAIL_FIRST);
                }
                Came::Held | Came::MailFirst => instead = Some(telling::MAIL_HELD),
            }
        }
        let result = |(call, (content, is_error)): (&Call, _)| CallResult {
            id: call.id.clone(),
            content,
            is_error,
        };
        Ok((calls.iter().zip(came).map(result).collect(), mail))
    }

    async fn call_together(&mut self, acts: &[&Act<'_>]) -> Result<Vec<(String, bool)>, Stopped> {
        let handle = self.handle;
        let calls = join_all(acts.iter().map(|act| governed(handle, act, true)));
        let came = self.attend_to_the_end(calls).await;
        let result = |came| match came {
            Ok(Governed { came: Came::Result(content, is_error), .. }) => Ok((content, is_error)),
            // Nobody asks for mail before a pure call, or a person.
            Ok(_) => Ok((telling::MAIL_FIRST.to_owned(), true)),
            Err(Revoked) => Err(Stopped::Revoked),
        };
        came.into_iter().map(result).collect()
    }

    async fn call_one(&mut self, act: &Act<'_>) -> Result<Came, Stopped> {
        let handle = self.handle;
        if act.tool.approval {
            if self.is_on_record(act) {
                let Governed { came, .. } =
                    self.attend_to_the_end(governed(handle, act, false)).await?;
                if let Came::Result(..) = came {
                    return Ok(came);
                }
            }
            if let Some(came) = self.ask_person(act).await? {
                return Ok(came);
            }
        }
        for _ in 0..MAIL_TRIES {
            // Only an act counts, but a call that was cut off in the middle may be one.
            self.acted |= act.tool.effects != SideEffects::Pure;
            let Governed { came, made } =
                self.attend_to_the_end(governed(handle, act, true)).await?;
            if act.tool.approval {
                self.recorded.extend(made);
            }
            let Came::MailFirst = came else { return Ok(came) };
            let mail = self.mail_now(MAIL_PATIENCE).await?;
            if !mail.is_empty() {
                return Ok(Came::Mail(mail, mail_first(act)));
            }
            // There was a question about it, and it waits for its own turn now.
        }
        Ok(Came::Held)
    }

    /// Whether the act was done, or may have been, so that the gateway lets nobody do it again:
    /// there is nothing to ask a person then, and a no would be told as "not done".
    fn is_on_record(&self, act: &Act<'_>) -> bool {
        let (tool, key) = (act.tool.spec.name.as_str(), act.tool.key.as_deref());
        self.recorded.iter().any(|call| {
            let stands = match call.outcome {
                ToolOutcome::Done => true,
                ToolOutcome::Failed => false,
                ToolOutcome::Unknown => call.effects > SideEffects::Idempotent,
            };
            let undoes = call.compensates.is_some();
            stands
                && !undoes
                && call.compensated_by.is_none()
                && *call.tool == *tool
                && act.arguments.is_same_act(&call.input, key)
        })
    }

    /// Asks before anything is on record: while a person thinks, nothing has begun. None is a yes.
    async fn ask_person(&mut self, act: &Act<'_>) -> Result<Option<Came>, Stopped> {
        // What was said before the question can't be an answer to it.
        let mail = self.mail_now(Duration::ZERO).await?;
        if !mail.is_empty() {
            return Ok(Some(Came::Mail(mail, telling::MAIL_FIRST)));
        }
        let question = match approval::question(act.tool, &act.arguments.canonical) {
            Ok(question) => question,
            Err(why) => return Ok(Some(Came::Result(why, true))),
        };
        let mut said = Vec::new();
        loop {
            let put = match said.is_empty() {
                true => self.put(&question).await?,
                false => self.put(&approval::again(&question)).await?,
            };
            let answer = match put {
                Put::Answered(answer) => answer,
                Put::Instead(came) => return Ok(Some(came)),
            };
            let text = consent::bare(&answer.body, self.in_group);
            let meant = consent::of(&text);
            said.push(text);
            match meant {
                Consent::Yes => break,
                Consent::No => return Ok(Some(Came::Denied(approval::refused(&said)))),
                Consent::Unclear if said.len() <= approval::AGAIN_MAX => {}
                Consent::Unclear | Consent::Words => {
                    return Ok(Some(Came::Denied(approval::left_open(&said))));
                }
            }
        }
        if self.handle.has_mail() {
            let mail = self.handle.mail().await?;
            if !mail.is_empty() {
                return Ok(Some(Came::Mail(mail, telling::ALLOWED_BUT_MAIL)));
            }
        }
        Ok(None)
    }

    /// Puts a question to the user, behind everything that they said before it.
    async fn put(&mut self, question: &str) -> Result<Put, Stopped> {
        let handle = self.handle;
        let mut tries = 0;
        loop {
            match self.attend(handle.confirm(question)).await? {
                Ok(Some(answer)) => {
                    self.take_note_of(&answer);
                    return Ok(Put::Answered(answer));
                }
                Ok(None) => {}
                Err(Declined::Refused(why)) => {
                    return Ok(Put::Instead(Came::Result(format!("not done: {why}"), true)));
                }
                Err(Declined::Revoked(_)) => return Err(Stopped::Revoked),
            }
            tries += 1;
            // One that is held back for a check is let go soon, or never comes.
            let last = tries == MAIL_TRIES;
            let mail = self.mail_now(if last { Duration::ZERO } else { MAIL_PATIENCE }).await?;
            if !mail.is_empty() {
                return Ok(Put::Instead(Came::Mail(mail, telling::MAIL_FIRST)));
            }
            if last {
                return Ok(Put::Instead(Came::Held));
            }
        }
    }
}

/// What came of a question.
enum Put {
    /// The user answered.
    Answered(Pending),
    /// It was not put; this came of the call.
    Instead(Came),
}

/// An act that may run beside others.
fn side_by_side<'b, 'a>(act: &'b Result<Act<'a>, String>) -> Option<&'b Act<'a>> {
    let act = act.as_ref().ok()?;
    (act.tool.effects == SideEffects::Pure && !act.tool.approval).then_some(act)
}

/// What the model is told where mail comes before a call; a yes was given before it.
fn mail_first(act: &Act<'_>) -> &'static str {
    if act.tool.approval { telling::ALLOWED_BUT_MAIL } else { telling::MAIL_FIRST }
}

/// What came of a call, and what is on record of it since, if it was made.
struct Governed {
    came: Came,
    made: Option<RecordedCall>,
}

/// A call as the gateway allows it: on record before it is made, and what came of it behind it. One
/// that nobody has allowed yet is not made, whatever the gateway says, and mail comes first.
async fn governed(
    handle: &dyn TurnHandle,
    act: &Act<'_>,
    allowed: bool,
) -> Result<Governed, Revoked> {
    let Act { tool, arguments, .. } = act;
    let call = ToolCall {
        tool: tool.spec.name.as_str().into(),
        effects: tool.effects,
        key: arguments.key.as_deref().map(Into::into),
        input: arguments.canonical.as_str().into(),
        // A tool that takes another's act back is an act of its own here.
        compensates: None,
    };
    let mut on_record = None;
    let (content, is_error) = match handle.intend(call).await? {
        Permission::Call(call) if !allowed => {
            handle.returned(call, ToolOutcome::Failed, telling::NOT_ALLOWED_YET).await?;
            return Ok(Governed { came: Came::MailFirst, made: None });
        }
        Permission::Call(call) => {
            let Said { outcome, output } = made(handle, act).await;
            handle.returned(call, outcome, &output).await?;
            on_record = Some(RecordedCall {
                call,
                tool: tool.spec.name.as_str().into(),
                effects: tool.effects,
                input: arguments.canonical.as_str().into(),
                outcome,
                output: Arc::default(),
                compensates: None,
                compensated_by: None,
            });
            telling::result(tool.effects, outcome, &output)
        }
        Permission::Known(before) => telling::known(&before),
        Permission::Refused(why) => (format!("not done: {why}"), true),
        Permission::MailFirst => return Ok(Governed { came: Came::MailFirst, made: None }),
    };
    Ok(Governed { came: Came::Result(content, is_error), made: on_record })
}

/// Makes the call. A tool that takes longer than it may is left alone: nobody knows then.
async fn made(handle: &dyn TurnHandle, act: &Act<'_>) -> Said {
    let mut call = act.toolbox.call(act.tool, &act.arguments.canonical);
    let mut late = std::pin::pin!(sleep(act.tool.timeout));
    let mut alive = interval(LIFE_INTERVAL);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            said = &mut call => return said,
            () = &mut late => {
                let output = format!("no answer within {:?}", act.tool.timeout);
                return Said { outcome: ToolOutcome::Unknown, output };
            }
            // Waiting for a tool is no silence.
            _ = alive.tick() => handle.say(""),
        }
    }
}
