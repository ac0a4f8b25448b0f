//! A session as a file: `save` writes one, `load` makes a new session of one. What its lines hold is
//! the core's business (`core::import`); here they are read, written and hashed.

pub(super) mod load;
pub(super) mod save;

use sha2::{Digest as _, Sha256};

/// Files that are read at once; each holds its conversation in memory until it is whole.
pub(super) const LOADS_MAX: usize = 2;

/// What was hashed, as files have it.
fn in_digits(hash: Sha256) -> String {
    use std::fmt::Write as _;
    hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a text can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
