//! Configuration: flags over environment over file over defaults, resolved once.
//!
//! What a person typed is *raw* and stays in here; everybody else sees [`Resolved`]. A key is
//! declared in one place (`raw`, with the `section!` macro), which gives its type, its range, its
//! default and its line in the reference. All mistakes are collected before any is reported.

mod problem;
mod value;
mod words;
#[macro_use]
mod section;
mod budgets;
mod changes;
pub(crate) mod command;
pub(crate) mod cron;
mod guard;
pub(crate) mod hatchet;
mod hosts;
pub(crate) mod http_brain;
mod layers;
pub(crate) mod listeners;
mod log_level;
pub(crate) mod model;
pub(crate) mod moderation;
mod notice;
mod pairs;
mod paths;
pub(crate) mod people;
pub(crate) mod policy;
mod raw;
mod read;
pub(crate) mod redis;
mod reference;
pub(crate) mod resolved;
mod schema;
mod secret;
pub(crate) mod signal;
mod slips;
pub(crate) mod store;
mod switchboard;
pub(crate) mod telemetry;
pub(crate) mod tools;
pub(crate) mod trust;
pub(crate) mod worktree;

#[cfg(test)]
mod tests;

pub(crate) use changes::Changes;
pub(crate) use cron::machine_zone;
pub(crate) use layers::{
    COMMAND_LINE, Env, Flags, check_text, load, load_without_number, locate, meant,
    misspelt_tenant, stored, typed,
};
pub(crate) use paths::is_open_to_others;
pub(crate) use reference::{example, reference};
pub(crate) use resolved::{AgentSettings, Resolved, Whereabouts};
pub(crate) use schema::{as_json, schema};
pub(crate) use secret::{ApiKey, read_secret};
pub(crate) use store::Stored;
