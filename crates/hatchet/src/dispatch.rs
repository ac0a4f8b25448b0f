//! What a worker is told: run this step, stop that one.

use std::sync::Arc;

use serde_json::{Map, Value};
use turnkeep_core::ports::dispatch::TurnStep;
use uuid::Uuid;

use crate::trouble::clipped;
use crate::wire;
use crate::workflow::{TurnRun, Workflow};

/// The ids and a few outputs are what a step is given.
const PAYLOAD_BYTES_MAX: usize = 256 << 10;

/// One handing out of one step: what reports are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    pub(crate) worker: Arc<str>,
    pub(crate) job: String,
    pub(crate) job_run: String,
    pub(crate) task: String,
    pub(crate) task_run: Arc<str>,
    pub(crate) name: String,
    pub(crate) retry: i32,
}

impl Action {
    fn of(worker: &Arc<str>, told: &mut wire::AssignedAction) -> Self {
        Self {
            worker: Arc::clone(worker),
            job: std::mem::take(&mut told.job_id),
            job_run: std::mem::take(&mut told.job_run_id),
            task: std::mem::take(&mut told.task_id),
            task_run: std::mem::take(&mut told.task_run_external_id).into(),
            name: std::mem::take(&mut told.action_id),
            retry: told.retry_count,
        }
    }

    /// What a dispatch and its cancellation have in common: the step's run, and how often it was
    /// given out before.
    #[must_use]
    pub fn key(&self) -> (Arc<str>, u32) {
        (Arc::clone(&self.task_run), self.retry())
    }

    /// How often this step of this run was given out before.
    #[must_use]
    pub fn retry(&self) -> u32 {
        self.retry.try_into().unwrap_or_default()
    }
}

/// A step of a turn to be run, perhaps not for the first time, perhaps much too late.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// What it is about, as it was triggered.
    pub run: TurnRun,
    /// Which step.
    pub step: TurnStep,
    /// How often it was given out before: to a worker that is lost, or that failed.
    pub retry: u32,
    /// The engine's id of the run, which cancels it.
    pub run_id: Arc<str>,
    /// What the steps before said, by their names.
    pub outputs: Map<String, Value>,
    /// What reports name.
    pub action: Action,
}

/// A step that nobody needs any more: the run was cancelled, or its time is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancelled {
    /// The turn and its epoch, if the engine told.
    pub turn: Option<(Uuid, u64)>,
    /// Which step, if it is one of ours.
    pub step: Option<TurnStep>,
    /// The engine's id of the run.
    pub run_id: Arc<str>,
    /// What was to be run; [`Action::key`] finds the dispatch.
    pub action: Action,
}

/// What a worker hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Run a step.
    Start(Box<Dispatch>),
    /// Stop one. One that nobody knows is nothing to worry about.
    Cancel(Box<Cancelled>),
}

/// What was made of something that a stream brought.
#[derive(Debug)]
pub(crate) enum Read {
    Order(Order),
    /// Something of a later version, or nonsense.
    Unknown(i32),
    /// A step that can't be run, and why. It is answered as failed.
    Broken {
        action: Box<Action>,
        why: String,
        /// Somebody else may be able to.
        again: bool,
    },
}

pub(crate) fn read(
    mut told: wire::AssignedAction,
    worker: &Arc<str>,
    workflow: &Workflow,
    cluster: &str,
) -> Read {
    let step = workflow.step(&told.action_id);
    let action = Action::of(worker, &mut told);
    let run_id: Arc<str> = std::mem::take(&mut told.workflow_run_id).into();
    match told.action_type {
        wire::CANCEL_STEP_RUN => {
            let turn = told.additional_metadata.as_deref().and_then(turn_of);
            Read::Order(Order::Cancel(Box::new(Cancelled { turn, step, run_id, action })))
        }
        wire::START_STEP_RUN => match start(&told.action_payload, step, &action, cluster) {
            Ok((run, step, outputs)) => {
                let retry = action.retry();
                let dispatch = Dispatch { run, step, retry, run_id, outputs, action };
                Read::Order(Order::Start(Box::new(dispatch)))
            }
            Err((why, again)) => Read::Broken { action: Box::new(action), why, again },
        },
        other => Read::Unknown(other),
    }
}

type Started = (TurnRun, TurnStep, Map<String, Value>);

fn start(
    payload: &str,
    step: Option<TurnStep>,
    action: &Action,
    cluster: &str,
) -> Result<Started, (String, bool)> {
    let broken = |why: String| (why, false);
    let Some(step) = step else {
        let name = clipped(&action.name, 100);
        return Err((format!("this worker has no step {name:?}"), true));
    };
    if payload.len() > PAYLOAD_BYTES_MAX {
        let bytes = payload.len();
        return Err(broken(format!("it was given {bytes} bytes, more than {PAYLOAD_BYTES_MAX}")));
    }
    let mut payload: Map<String, Value> = serde_json::from_str(payload)
        .map_err(|error| broken(format!("what it was given is no JSON object: {error}")))?;
    let input = payload.get("input").unwrap_or(&Value::Null);
    if let Some(why) = TurnRun::too_new(input) {
        return Err((why, true));
    }
    let run = TurnRun::read(input)
        .map_err(|name| broken(format!("its input has no usable field {name}")))?;
    if *run.cluster != *cluster {
        let theirs = clipped(&run.cluster, 100);
        return Err((format!("it is a run of cluster {theirs:?}, this is {cluster:?}"), true));
    }
    let outputs = match payload.remove("parents") {
        Some(Value::Object(outputs)) => outputs,
        _ => Map::new(),
    };
    Ok((run, step, outputs))
}

/// The turn that a run's metadata names.
fn turn_of(metadata: &str) -> Option<(Uuid, u64)> {
    if metadata.len() > PAYLOAD_BYTES_MAX {
        return None;
    }
    let metadata: Value = serde_json::from_str(metadata).ok()?;
    let text = |name: &str| metadata.get(name).and_then(Value::as_str);
    Some((Uuid::try_parse(text("turn")?).ok()?, text("epoch")?.parse().ok()?))
}
