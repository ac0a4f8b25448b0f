//! One attempt of the brain on a stage.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use turnkeep_core::ids::TurnId;
use turnkeep_core::ports::agent::Agent;
use turnkeep_core::session::input::{Finished, RunFailure};

use super::Wants;
use super::report::{Found, quoted, shown};
use super::stage::{Deed, Permit, Script, Stage};

/// What a message says that needs no act.
pub(super) const PLAIN: &str = "Hello! This is a check, nothing needs to be done.";

/// Plays attempts of one brain.
pub(super) struct Play<'a> {
    agent: &'a Arc<dyn Agent>,
    pub(super) wants: &'a Wants,
}

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum Ended {
    Finished(Finished),
    Failed(RunFailure),
    /// It asked its user this, and nobody answers.
    Asked(String),
    /// It took too long; whether it had said anything at all.
    Late(Duration, bool),
}

/// An attempt.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) ended: Ended,
    pub(super) deeds: Vec<Deed>,
    pub(super) took: Duration,
}

impl<'a> Play<'a> {
    pub(super) const fn new(agent: &'a Arc<dyn Agent>, wants: &'a Wants) -> Self {
        Self { agent, wants }
    }

    /// The first attempt of a new turn in which nothing may be done.
    pub(super) fn script(&self, text: &str) -> Script {
        Script {
            turn: TurnId(uuid::Uuid::now_v7()),
            attempt: 1,
            text: text.to_owned(),
            mail: None,
            question: None,
            stop: false,
            answer: self.wants.answer.clone(),
            permit: Permit::Nothing,
            done: Vec::new(),
        }
    }

    /// Plays it to its end, which is enforced.
    pub(super) async fn run(&self, script: Script) -> Run {
        let stage = Stage::new(script);
        let begun = Instant::now();
        let Some(turn) = stage.turn() else {
            let error = "the turn can't be made".into();
            let failure = RunFailure { error, retry: false, retry_after_ms: None };
            return Run { ended: Ended::Failed(failure), deeds: Vec::new(), took: Duration::ZERO };
        };
        let ended = tokio::select! {
            said = self.agent.run(turn) => match said {
                Ok(finished) => Ended::Finished(finished),
                Err(failure) => Ended::Failed(failure),
            },
            text = stage.unanswered() => Ended::Asked(text),
            () = sleep(self.wants.timeout) => Ended::Late(self.wants.timeout, stage.spoke()),
        };
        Run { ended, deeds: stage.deeds(), took: begun.elapsed() }
    }
}

impl Run {
    /// What is found where it is enough that it finishes: `right` says what came of it then.
    pub(super) fn found(&self, right: impl FnOnce(&Finished) -> Found) -> Found {
        match &self.ended {
            Ended::Finished(finished) => right(finished),
            Ended::Failed(failure) => Found::Wrong(failure.error.to_string()),
            Ended::Asked(text) => Found::Open(format!(
                "it asks its user {} and waits; --answer TEXT says what the user answers",
                quoted(text)
            )),
            Ended::Late(limit, spoke) => {
                Found::Wrong(format!("{}; --timeout gives it longer", late(*limit, *spoke)))
            }
        }
    }
}

/// What is said of a brain that took too long. What it wrote may still be in a buffer of its own.
pub(super) fn late(limit: Duration, spoke: bool) -> String {
    let silent = " and had said nothing at all: does it flush its output after each line?";
    format!("it had not finished after {}{}", shown(limit), if spoke { "" } else { silent })
}
