//! What became of a step, as the engine is told.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::again::Again;
use crate::client::{HatchetClient, now};
use crate::dispatch::Action;
use crate::trouble::{HatchetError, clipped};
use crate::wire;
use crate::workflow::seconds;

/// What a step says to the ones behind it are ids and decisions.
const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// How much of a reason the engine is told.
const REASON_CHARS_MAX: usize = 2000;

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// It was begun.
    Started,
    /// It is done, and the steps behind it are given this. A step that was not run because its turn
    /// is not the same any more is done, too: nobody should try again.
    Completed(Map<String, Value>),
    /// It failed.
    Failed {
        /// Why.
        why: String,
        /// It should be given out again.
        again: bool,
    },
    /// It was stopped, because that was asked for.
    Cancelled,
}

impl HatchetClient {
    /// Tells what became of a step, once. That the engine took it does not say that it counts: for a
    /// step that it has given out again it doesn't.
    ///
    /// # Errors
    /// If the engine is not known to have heard it, or can't take it.
    pub async fn report(&self, action: &Action, report: &Report) -> Result<(), HatchetError> {
        let event = event(action, report)?;
        let _: wire::Nothing = self.call("/Dispatcher/SendStepActionEvent", event).await?;
        Ok(())
    }

    /// The same, again and again for so long where the trouble may pass: an engine that restarts
    /// should hear what was done meanwhile.
    ///
    /// # Errors
    /// The last trouble met.
    pub async fn report_within(
        &self,
        action: &Action,
        report: &Report,
        patience: Duration,
    ) -> Result<(), HatchetError> {
        let until = tokio::time::Instant::now() + patience;
        let mut again = Again::new(Duration::from_millis(200), Duration::from_secs(5));
        loop {
            match self.report(action, report).await {
                Err(error) if error.is_passing() && tokio::time::Instant::now() < until => {
                    again.wait().await;
                }
                told => return told,
            }
        }
    }

    /// Gives a running step more time.
    ///
    /// # Errors
    /// If the engine is not known to have heard it.
    pub async fn extend(&self, action: &Action, more: Duration) -> Result<(), HatchetError> {
        let asked = wire::RefreshTimeoutRequest {
            task_run_external_id: action.task_run.to_string(),
            increment_timeout_by: seconds(more),
        };
        let _: wire::Nothing = self.call("/Dispatcher/RefreshTimeout", asked).await?;
        Ok(())
    }
}

fn event(action: &Action, report: &Report) -> Result<wire::StepActionEvent, HatchetError> {
    let (event_type, event_payload, should_not_retry) = match report {
        Report::Started => (wire::STEP_STARTED, String::new(), None),
        Report::Completed(output) => (wire::STEP_COMPLETED, completed(output)?, None),
        Report::Failed { why, again } => {
            (wire::STEP_FAILED, clipped(why, REASON_CHARS_MAX), Some(!again))
        }
        Report::Cancelled => (wire::STEP_CANCELLED, String::new(), None),
    };
    Ok(wire::StepActionEvent {
        worker_id: action.worker.to_string(),
        job_id: action.job.clone(),
        job_run_id: action.job_run.clone(),
        task_id: action.task.clone(),
        task_run_external_id: action.task_run.to_string(),
        action_id: action.name.clone(),
        event_timestamp: Some(now()),
        event_type,
        event_payload,
        retry_count: Some(action.retry),
        should_not_retry,
    })
}

/// An output that the engine can keep: it makes a failure of what it can't.
fn completed(output: &Map<String, Value>) -> Result<String, HatchetError> {
    if output.iter().any(|(name, value)| name.contains('\0') || has_zero(value)) {
        return Err(HatchetError::Refused("the output of a step holds a zero byte".into()));
    }
    let text = serde_json::to_string(output)
        .map_err(|error| HatchetError::Refused(format!("the output of a step: {error}")))?;
    if text.len() > OUTPUT_BYTES_MAX {
        let (what, bytes) = ("the output of a step", text.len());
        return Err(HatchetError::TooLarge { what, bytes, max: OUTPUT_BYTES_MAX });
    }
    Ok(text)
}

fn has_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(has_zero),
        Value::Object(fields) => {
            fields.iter().any(|(name, value)| name.contains('\0') || has_zero(value))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_output_is_one_that_the_engine_can_keep() {
        let output = |value: Value| completed(json!({"a": [value]}).as_object().unwrap());
        assert_eq!(output(json!("\\u0000")).unwrap(), r#"{"a":["\\u0000"]}"#);
        assert_eq!(output(json!({"b": "\0"})).unwrap_err().class(), "refused");
        assert_eq!(output(json!({"\0": 1})).unwrap_err().class(), "refused");
        assert_eq!(output(json!("x".repeat(70_000))).unwrap_err().class(), "too_large");
    }
}
