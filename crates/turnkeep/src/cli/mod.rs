//! The command line: what can be typed, and the commands that are clients of a running server.

mod args;
mod backup;
mod bench;
mod brain;
mod check;
mod client;
mod customers;
mod dead_letters;
mod dispatch;
mod explain;
mod guard;
mod keys;
mod listeners;
mod operators;
mod output;
mod place;
mod reload;
mod restore;
mod send;
mod sessions;
mod tools;
mod turns;
mod usage;

pub(crate) use args::{AuditArgs, BenchArgs};
pub(crate) use dispatch::run;
