//! `turnkeep check --explain`: what a session lives by, who decided it, and how long its next
//! message would be waited upon.

use std::sync::Arc;

use anyhow::Context as _;
use serde_json::{Value, json};
use turnkeep_core::accumulation::{
    Adaptive, Hint, RHYTHM_SAMPLES_MIN, Rhythm, WINDOW_MS_MAX, WINDOW_MS_MIN, adaptive, window_ms,
};
use turnkeep_core::policy::{CHANNELS, WindowMode, channel_facts};
use turnkeep_core::{Policy, Session, SessionKey};

use super::output;
use crate::config::policy::{Explained, with_choice};
use crate::config::{self, Resolved};
use crate::wiring;

/// Whose policy is explained.
#[derive(Clone)]
pub(super) struct Wanted {
    tenant: String,
    agent: String,
    channel: String,
    /// One session, which may have chosen and learnt something itself.
    session: Option<SessionKey>,
}

/// Reads a session's key, or what all sessions of a kind have in common.
pub(super) fn wanted(text: &str) -> Result<Wanted, String> {
    let parts: Vec<&str> = text.split(':').collect();
    if let [tenant, agent, channel] = parts[..] {
        let [tenant, agent, channel] = [tenant, agent, channel].map(str::to_owned);
        return Ok(Wanted { tenant, agent, channel, session: None });
    }
    let key: SessionKey = text.parse().map_err(|_| {
        "must be a session's key, like default:default:web:dm:anna, or TENANT:AGENT:CHANNEL"
            .to_owned()
    })?;
    let (tenant, agent, channel) = (key.tenant(), key.agent(), key.channel());
    Ok(Wanted { tenant, agent, channel, session: Some(key) })
}

/// Prints the explanation. What the next message says is `saying`.
pub(super) fn run(
    resolved: &Resolved,
    wanted: &Wanted,
    saying: Option<&str>,
    json: bool,
) -> anyhow::Result<()> {
    let Wanted { tenant, agent, channel, session } = wanted;
    let known =
        resolved.explain(tenant, agent, channel).zip(resolved.policy(tenant, agent, channel));
    let (mut lines, policy) = known.with_context(|| unknown(resolved, agent, channel))?;
    let stored = stored(resolved, session.as_ref());
    with_choice(&mut lines, stored.as_ref().and_then(|stored| stored.busy));
    let window = stored.as_ref().map(|stored| Window::of(&policy, stored, saying));
    if json {
        let keys: Vec<Value> = lines.iter().map(key_as_json).collect();
        let name = session.as_ref().map(SessionKey::as_str);
        let mut shown = json!({"tenant_id": tenant, "agent_id": agent, "channel": channel,
                               "session": name, "keys": keys});
        shown["rhythm"] = json!(window.as_ref().map(|window| window.rhythm));
        shown["window"] = json!(window.as_ref().map(Window::as_json));
        return output::line(&serde_json::to_string_pretty(&shown)?);
    }
    let source = lines.iter().find(|line| line.key == "window_ms");
    let source = source.map_or_else(String::new, Explained::decided_by);
    let rows: Vec<[String; 3]> = lines
        .iter()
        .map(|line| [line.key.to_owned(), line.value.clone(), line.decided_by()])
        .collect();
    output::table(["key", "value", "decided by"], &rows)?;
    let Some(window) = window else { return Ok(()) };
    output::line("")?;
    output::table(["window of the next message", "ms", "because"], &window.rows(&source, saying))
}

/// What of it is not there, and what there is.
fn unknown(resolved: &Resolved, agent: &str, channel: &str) -> String {
    let mut wrong = Vec::new();
    if !resolved.agents.contains_key(agent) {
        let agents: Vec<&str> = resolved.agents.keys().map(String::as_str).collect();
        wrong.push(format!("no agent {agent:?} is configured; agents are {}", agents.join(", ")));
    }
    if channel_facts(channel).is_none() {
        let channels = CHANNELS.map(|facts| facts.name);
        wrong
            .push(format!("there is no channel {channel:?}; channels are {}", channels.join(", ")));
    }
    wrong.join("\n")
}

/// What is known of the session; none if that can't be read.
fn stored(resolved: &Resolved, session: Option<&SessionKey>) -> Option<Arc<Session>> {
    let Some(key) = session else { return Some(Arc::default()) };
    match wiring::stores::session(&resolved.stored(), key) {
        Ok(Some(stored)) => Some(stored),
        Ok(None) => {
            output::complain("note: nobody has written in this session yet");
            Some(Arc::default())
        }
        Err(error) => {
            output::complain(&format!(
                "note: what the session chose and learnt itself can't be read: {error:#}"
            ));
            None
        }
    }
}

fn key_as_json(line: &Explained) -> Value {
    let (section, at) = line.typed.clone().unzip();
    json!({"key": line.key, "value": config::as_json(&line.value), "layer": line.layer.as_str(),
           "section": section, "at": at})
}

/// How long the next message would be waited upon, if it came now.
struct Window {
    mode: WindowMode,
    window_ms: u64,
    total_ms: u32,
    nth: u32,
    hint: Hint,
    rhythm: Rhythm,
    /// Where it is adaptive.
    sum: Option<Adaptive>,
}

impl Window {
    fn of(policy: &Policy, session: &Session, saying: Option<&str>) -> Self {
        let (nth, hint, rhythm) = (session.next_of_burst(), session.hint, session.rhythm.rhythm());
        let sum = adaptive(policy, saying, nth, hint, rhythm);
        Self {
            mode: policy.window_mode,
            window_ms: match &sum {
                Some(sum) => sum.window_ms,
                None => window_ms(policy, saying.unwrap_or_default(), nth, hint, rhythm),
            },
            total_ms: policy.window_total_ms,
            nth,
            hint,
            rhythm,
            sum,
        }
    }

    fn as_json(&self) -> Value {
        let parts = self.sum.map(|sum| {
            json!({
                "base_ms": whole(sum.base_ms),
                "shape_ms": whole(sum.shape_ms),
                "rhythm_ms": sum.rhythm_ms.map(whole),
                "hint": self.hint,
                "hint_ms": whole(sum.hint_ms),
                "nth": self.nth,
                "factor": sum.factor,
                "sum_ms": whole(sum.sum_ms),
                "min_ms": WINDOW_MS_MIN,
                "max_ms": WINDOW_MS_MAX,
            })
        });
        json!({"mode": self.mode, "window_ms": self.window_ms, "total_ms": self.total_ms,
               "adaptive": parts})
    }

    /// Part, milliseconds, reason. `source` is who decided `window_ms`.
    fn rows(&self, source: &str, saying: Option<&str>) -> Vec<[String; 3]> {
        let row = |part: &str, ms: String, because: String| [part.to_owned(), ms, because];
        let Some(sum) = &self.sum else {
            let because = match self.mode {
                WindowMode::Off => "window_mode is off".to_owned(),
                WindowMode::Fixed => format!("window_mode is fixed; window_ms is {source}"),
                WindowMode::Adaptive => format!("a window_ms of 0 never waits; it is {source}"),
            };
            return vec![row("window", self.window_ms.to_string(), because)];
        };
        let shape = match saying {
            Some(text) => format!("what is written: {text:?}"),
            None => "it depends on what is written; try --saying TEXT".to_owned(),
        };
        let hint = match self.hint {
            Hint::None => "the agent's last answer gave no hint",
            Hint::AwaitingField => "the agent's last answer waits for a field",
            Hint::FollowupExpected => "the agent's last answer expects more",
        };
        let rhythm_ms = sum.rhythm_ms.map_or_else(|| "+0".to_owned(), signed);
        let place = format!("it would be message {} of its turn", self.nth);
        vec![
            row("base", whole(sum.base_ms).to_string(), format!("window_ms is {source}")),
            row("shape", signed(sum.shape_ms), shape),
            row("rhythm", rhythm_ms, self.because_of_rhythm()),
            row("hint", signed(sum.hint_ms), hint.to_owned()),
            row("times", format!("{:.2}", sum.factor), place),
            row("sum", whole(sum.sum_ms).to_string(), clamped(sum)),
            row(
                "window",
                self.window_ms.to_string(),
                format!("a whole burst waits {} at most", self.total_ms),
            ),
        ]
    }

    fn because_of_rhythm(&self) -> String {
        let Rhythm { samples, p50_ms, p95_ms } = self.rhythm;
        match self.rhythm.midpoint_ms() {
            Some(middle) => format!(
                "40 % of the way to {middle}, the middle of p50 {p50_ms} and p95 {p95_ms}, from \
                 {samples} samples"
            ),
            None if samples == 0 => "not known yet".to_owned(),
            None => format!(
                "{samples} samples (p50 {p50_ms}, p95 {p95_ms}); it counts from \
                 {RHYTHM_SAMPLES_MIN} on"
            ),
        }
    }
}

fn clamped(sum: &Adaptive) -> String {
    let bounds = format!("{WINDOW_MS_MIN} to {WINDOW_MS_MAX}");
    match whole(sum.sum_ms) {
        ms if ms < WINDOW_MS_MIN => format!("raised to {WINDOW_MS_MIN}: it must be {bounds}"),
        ms if ms > WINDOW_MS_MAX => format!("cut to {WINDOW_MS_MAX}: it must be {bounds}"),
        _ => format!("within {bounds}"),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "windows are far from that long")]
fn whole(ms: f64) -> i64 {
    ms.round() as i64
}

fn signed(ms: f64) -> String {
    format!("{:+}", whole(ms))
}
