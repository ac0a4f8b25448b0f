//! `turnkeep bench`; not written yet.

use std::process::ExitCode;

use crate::cli::BenchArgs;

/// Does what was asked.
pub(crate) fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not written yet: {args:?}")
}
