//! `turnkeep serve`; not written yet.

use std::process::ExitCode;

use crate::config::Resolved;

/// Runs the server until it is told to stop.
pub(crate) fn run(resolved: Resolved) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not written yet: {resolved:?}")
}
