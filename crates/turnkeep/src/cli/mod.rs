//! The command line: what can be typed, and the commands that are clients of a running server.

mod args;
mod attach;
mod backup;
mod bench;
mod brain;
mod check;
mod client;
mod cron;
mod customers;
mod dead_letters;
mod deliveries;
mod dispatch;
mod doctor;
mod explain;
mod guard;
mod keys;
mod listeners;
mod operators;
mod output;
mod pair;
mod partial;
mod place;
mod qr;
mod reload;
mod remind;
mod restore;
mod send;
mod session_file;
mod sessions;
mod signal;
mod tools;
mod turns;
mod usage;
mod worktrees;

pub(crate) use args::{AuditArgs, BenchArgs};
pub(crate) use dispatch::run;
