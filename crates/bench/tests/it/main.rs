//! The load generator as its callers see it, against a small server in memory.

mod fake;

mod picture;
mod runs;
