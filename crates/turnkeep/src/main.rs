//! Turnkeep.
fn main() {}
