//! The load generator as its callers see it, against a small server in memory.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod fake;

mod load;
mod picture;
mod runs;
