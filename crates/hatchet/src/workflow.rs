//! The workflow of a turn, its four steps, and what a run of it is given.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use turnkeep_core::ports::dispatch::TurnStep;
use uuid::Uuid;

use crate::trouble::{HatchetError, clipped};
use crate::wire;

/// The workflow's name, without a namespace.
const NAME: &str = "LogicalTurnWorkflow";
/// How long a namespace may be.
const NAMESPACE_BYTES_MAX: usize = 32;
/// How what a run is given is written. Who knows only an older one leaves the run to others.
const FORMAT: u32 = 1;
/// What a run is given are ids: this is far more than they need.
const INPUT_BYTES_MAX: usize = 16 << 10;
/// The longest that a step may take: the engine counts in 32 bits of milliseconds in places.
const TIMEOUT_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long each step may take, from when a worker was given it. A step that takes longer is
/// cancelled and given out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// One commit.
    pub acquire: Duration,
    /// The longest that a turn gathers.
    pub accumulate: Duration,
    /// The longest that an agent may work, and some more.
    pub run_agent: Duration,
    /// The last commit.
    pub commit_and_respond: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            acquire: Duration::from_secs(60),
            accumulate: Duration::from_secs(120),
            run_agent: Duration::from_secs(900),
            commit_and_respond: Duration::from_secs(60),
        }
    }
}

impl Timeouts {
    const fn of(&self, step: TurnStep) -> Duration {
        match step {
            TurnStep::Acquire => self.acquire,
            TurnStep::Accumulate => self.accumulate,
            TurnStep::RunAgent => self.run_agent,
            TurnStep::CommitAndRespond => self.commit_and_respond,
        }
    }
}

/// The workflow as it is registered. Gateways and workers of one cluster have the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workflow {
    /// Keeps the workflows of several clusters in one tenant of an engine apart.
    pub namespace: Option<Arc<str>>,
    /// How long steps may take.
    pub timeouts: Timeouts,
    /// How long a run may wait for a worker. The engine ends it then without a word, so this is
    /// longer than anybody waits.
    pub queued_for: Duration,
    /// How often a step that failed is given out again; those of lost workers don't count.
    pub retries: u32,
    /// How long the same turn under the same epoch is not started a second time.
    pub unique_for: Duration,
}

impl Default for Workflow {
    fn default() -> Self {
        Self {
            namespace: None,
            timeouts: Timeouts::default(),
            queued_for: Duration::from_secs(24 * 3600),
            retries: 3,
            unique_for: Duration::from_secs(24 * 3600),
        }
    }
}

impl Workflow {
    /// Its name at the engine.
    #[must_use]
    pub fn name(&self) -> String {
        self.namespace.as_ref().map_or_else(|| NAME.into(), |space| format!("{space}_{NAME}"))
    }

    /// What the engine calls a step. It wants small letters only.
    #[must_use]
    pub fn action(&self, step: TurnStep) -> String {
        format!("{}:{}", self.name().to_ascii_lowercase(), step.as_str())
    }

    /// The step that the engine calls that.
    pub(crate) fn step(&self, action: &str) -> Option<TurnStep> {
        TurnStep::ALL.into_iter().find(|step| self.action(*step) == action)
    }

    pub(crate) fn check(&self) -> Result<(), HatchetError> {
        if let Some(space) = &self.namespace {
            let fits = |one: u8| one.is_ascii_lowercase() || one.is_ascii_digit() || one == b'-';
            if space.is_empty() || space.len() > NAMESPACE_BYTES_MAX || !space.bytes().all(fits) {
                return Err(HatchetError::Settings(format!(
                    "the namespace {space:?} has to be 1 to {NAMESPACE_BYTES_MAX} of a-z, 0-9 and -"
                )));
            }
        }
        let steps = TurnStep::ALL.map(|step| (step.as_str(), self.timeouts.of(step)));
        let others = [("the queue", self.queued_for), ("uniqueness", self.unique_for)];
        for (what, time) in steps.into_iter().chain(others) {
            if time < Duration::from_secs(1) || time > TIMEOUT_MAX {
                return Err(HatchetError::Settings(format!(
                    "the time of {what}, {time:?}, has to be between a second and {TIMEOUT_MAX:?}"
                )));
            }
        }
        Ok(())
    }

    /// How the engine is told of it. One run of a session at a time is a hint: the record decides.
    pub(crate) fn definition(&self) -> wire::CreateWorkflowVersionRequest {
        let task = |(at, step): (usize, TurnStep)| wire::CreateTaskOpts {
            readable_id: step.as_str().into(),
            action: self.action(step),
            timeout: seconds(self.timeouts.of(step)),
            inputs: "{}".into(),
            parents: at
                .checked_sub(1)
                .map(|one| TurnStep::ALL[one].as_str().into())
                .into_iter()
                .collect(),
            retries: self.retries.try_into().unwrap_or(i32::MAX),
            schedule_timeout: Some(seconds(self.queued_for)),
        };
        wire::CreateWorkflowVersionRequest {
            name: self.name(),
            description: "One turn of a session".into(),
            // Not ours: nodes of two versions would take turns in replacing each other's.
            version: "1".into(),
            tasks: TurnStep::ALL.into_iter().enumerate().map(task).collect(),
            sticky: Some(wire::STICKY_SOFT),
            concurrency_arr: vec![wire::Concurrency {
                expression: "input.session".into(),
                max_runs: Some(1),
                limit_strategy: Some(wire::GROUP_ROUND_ROBIN),
            }],
            idempotency: Some(wire::IdempotencyConfig {
                expression: "input.key".into(),
                ttl_ms: self.unique_for.as_millis().try_into().unwrap_or(i64::MAX),
                method: Some(wire::IDEMPOTENCY_TTL),
            }),
        }
    }
}

/// A duration as the engine reads it. It takes no bare numbers.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{}s", time.as_millis().div_ceil(1000))
}

/// What a run is about: ids, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnRun {
    /// The turn.
    pub turn: Uuid,
    /// Under whose ownership. Another epoch is another run.
    pub epoch: u64,
    /// How often it was triggered like this before, in vain. Another round is another run.
    pub round: u32,
    /// The session, one of whose runs goes at a time.
    pub session: Arc<str>,
    /// Whose session it is.
    pub tenant: Arc<str>,
    /// Which cluster triggers it: its workers leave the runs of others alone.
    pub cluster: Arc<str>,
}

impl TurnRun {
    /// What the same run is known by.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}:{}:{}", self.turn, self.epoch, self.round)
    }

    /// As the engine is given it. Numbers are written as texts: the engine would read them as
    /// floating-point ones.
    pub(crate) fn input(&self) -> Result<String, HatchetError> {
        for (what, text) in
            [("session", &self.session), ("tenant", &self.tenant), ("cluster", &self.cluster)]
        {
            if text.contains('\0') {
                return Err(HatchetError::Refused(format!("the {what} holds a zero byte")));
            }
        }
        let input = json!({
            "key": self.key(),
            "session": &*self.session,
            "turn": self.turn.to_string(),
            "epoch": self.epoch.to_string(),
            "round": self.round.to_string(),
            "tenant": &*self.tenant,
            "cluster": &*self.cluster,
            "format": FORMAT.to_string(),
            "by": env!("CARGO_PKG_VERSION"),
        });
        let input = input.to_string();
        if input.len() > INPUT_BYTES_MAX {
            let (what, bytes) = ("the input of a run", input.len());
            return Err(HatchetError::TooLarge { what, bytes, max: INPUT_BYTES_MAX });
        }
        Ok(input)
    }

    /// What a run can be found by at the engine.
    pub(crate) fn metadata(&self) -> String {
        json!({"turn": self.turn.to_string(), "epoch": self.epoch.to_string()}).to_string()
    }

    /// What is written here by a version that is too new for this one, with both of them.
    pub(crate) fn too_new(input: &Value) -> Option<String> {
        let text = |name: &str| input.get(name).and_then(Value::as_str);
        // The versions before this one wrote none.
        let format = text("format").unwrap_or("1");
        if format.parse().is_ok_and(|format: u32| format <= FORMAT) {
            return None;
        }
        let (format, by) = (clipped(format, 20), clipped(text("by").unwrap_or("unknown"), 40));
        let ours = env!("CARGO_PKG_VERSION");
        Some(format!(
            "it is a run of Turnkeep {by}, of format {format:?}, and this worker ({ours}) knows \
             formats to {FORMAT}"
        ))
    }

    /// From what a worker is given; which part is missing or wrong.
    pub(crate) fn read(input: &Value) -> Result<Self, &'static str> {
        let text = |name: &'static str| input.get(name).and_then(Value::as_str).ok_or(name);
        let number = |name| text(name).and_then(|text| text.parse::<u64>().map_err(|_| name));
        Ok(Self {
            turn: Uuid::try_parse(text("turn")?).map_err(|_| "turn")?,
            epoch: number("epoch")?,
            round: number("round")?.try_into().map_err(|_| "round")?,
            session: text("session")?.into(),
            tenant: text("tenant")?.into(),
            cluster: text("cluster")?.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> TurnRun {
        TurnRun {
            turn: Uuid::from_u128(7),
            epoch: u64::MAX,
            round: 2,
            session: "api:home:%20ü\"".into(),
            tenant: "home".into(),
            cluster: "c1".into(),
        }
    }

    #[test]
    fn a_run_is_read_as_it_was_written() {
        let mut input: Value = serde_json::from_str(&run().input().unwrap()).unwrap();
        input["of a later version"] = json!({"a": [1]});
        assert_eq!(TurnRun::read(&input), Ok(run()));
        for name in ["turn", "epoch", "round", "session", "tenant", "cluster"] {
            let mut wrong = input.clone();
            wrong[name] = json!(null);
            assert_eq!(TurnRun::read(&wrong), Err(name));
        }
    }

    #[test]
    fn a_run_of_a_later_format_names_both_versions() {
        let mut input: Value = serde_json::from_str(&run().input().unwrap()).unwrap();
        assert_eq!(TurnRun::too_new(&input), None);
        input["format"] = json!("2");
        input["by"] = json!("9.9.9");
        let why = TurnRun::too_new(&input).unwrap();
        let ours = env!("CARGO_PKG_VERSION");
        assert!(why.contains("Turnkeep 9.9.9, of format \"2\""), "{why}");
        assert!(why.contains(&format!("this worker ({ours}) knows formats to 1")), "{why}");
        for (format, refused) in [(json!("1"), false), (json!(null), false), (json!("x"), true)] {
            input["format"] = format;
            assert_eq!(TurnRun::too_new(&input).is_some(), refused, "{input}");
        }
    }

    #[test]
    fn what_the_engine_can_not_keep_is_not_sent() {
        let long = TurnRun { session: "s".repeat(20_000).into(), ..run() };
        assert!(matches!(long.input(), Err(HatchetError::TooLarge { bytes: 20_000.., .. })));
        let zero = TurnRun { session: "a\0b".into(), ..run() };
        assert!(matches!(zero.input(), Err(HatchetError::Refused(why)) if why.contains("session")));
    }

    #[test]
    fn names_stay_within_what_the_engine_allows() {
        let mut workflow = Workflow { namespace: Some("c-1".into()), ..Workflow::default() };
        workflow.check().unwrap();
        assert_eq!(workflow.action(TurnStep::RunAgent), "c-1_logicalturnworkflow:run_agent");
        assert_eq!(workflow.step("c-1_logicalturnworkflow:run_agent"), Some(TurnStep::RunAgent));
        assert_eq!(workflow.step("logicalturnworkflow:run_agent"), None);
        for space in ["", "A", "a:b", "a b", "ü", &"a".repeat(33)] {
            workflow.namespace = Some(space.into());
            assert_eq!(workflow.check().unwrap_err().class(), "settings", "{space:?}");
        }
        let timeouts = Timeouts { acquire: Duration::ZERO, ..Timeouts::default() };
        let workflow = Workflow { timeouts, ..Workflow::default() };
        assert!(workflow.check().unwrap_err().to_string().contains("acquire"));
        assert_eq!(seconds(Duration::from_millis(1500)), "2s");
    }
}
