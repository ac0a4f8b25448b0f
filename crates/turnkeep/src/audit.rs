//! `turnkeep audit`; not written yet.

use std::process::ExitCode;

use crate::cli::AuditArgs;

/// Does what was asked.
pub(crate) fn run(args: AuditArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not written yet: {args:?}")
}
