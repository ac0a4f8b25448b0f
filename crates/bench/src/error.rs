//! What can keep a run from happening at all; everything later is counted, not raised.

use std::io;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The plan contradicts itself; the text says how to mend it.
    #[error("the plan can't be run: {0}")]
    Plan(String),
    /// There is nobody to drive.
    #[error("no server is named")]
    NoServer,
    /// Nothing answered at the address when the run was to begin.
    #[error("no server answers at {target}: {source}; is `turnkeep serve` running there?")]
    Unreachable {
        /// The address as the caller gave it.
        target: String,
        /// What the operating system said.
        source: io::Error,
    },
}
