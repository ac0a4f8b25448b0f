//! What both kinds of engines are met with.

use std::time::Duration;

use tokio::time::timeout;
use turnkeep_hatchet::{HatchetSettings, Token, TurnRun, Worker, WorkerReport, Workflow};
use uuid::Uuid;

/// Far longer than anything takes that comes at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// The settings of a client with workflows of its own.
pub(crate) fn settings(token: Token, space: &str) -> HatchetSettings {
    let workflow = Workflow { namespace: Some(space.into()), ..Workflow::default() };
    HatchetSettings { workflow, ..HatchetSettings::new(token, "tests") }
}

/// A run of a new turn of this session.
pub(crate) fn run(session: &str) -> TurnRun {
    TurnRun {
        turn: Uuid::now_v7(),
        epoch: 7,
        round: 0,
        session: session.into(),
        tenant: "home".into(),
        cluster: "tests".into(),
    }
}

/// Waits until a worker does this.
pub(crate) async fn until(worker: &Worker, is_so: impl Fn(&WorkerReport) -> bool) -> WorkerReport {
    let waited = timeout(PATIENCE, worker.until(is_so)).await;
    waited.unwrap_or_else(|_| panic!("{:?}", worker.report()))
}
