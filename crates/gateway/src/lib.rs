//! Does what the rules say. Knows the core and its ports, and no adapter.
//!
//! The way of a message, in reading order: [`ingress`] lets it in, the registry finds its session's
//! task, [`driver`] is that session's life without IO, the task does the IO around it, a run is one
//! attempt of an agent, and the outbox sends what was committed. [`service`] is the handle that
//! everybody else holds; [`lifecycle`] is the process's start and end.

pub mod access;
pub mod care;
pub mod clock;
mod cluster;
pub mod dispatch;
pub mod driver;
pub mod follow;
pub mod guard;
pub mod http;
pub mod ingress;
pub mod intake;
pub mod killpoint;
pub mod lifecycle;
pub mod listeners;
pub mod live;
pub mod money;
pub mod service;

mod decisions;
mod hearing;
mod hints;
mod import;
mod mail;
mod metrics;
mod moderation;
mod operators;
mod outbox;
mod overload;
mod people;
mod recent;
mod registry;
mod run;
mod schedule;
mod setup;
mod slots;
pub mod switchboard;
mod task;
mod trace;
mod unasked;
mod worktrees;

pub use follow::{Asked, Settled};
pub use ingress::{FieldError, Policies, Submission, UnknownPart};
pub use live::{Draft, Subscription, Tick};
pub use overload::UNDECIDED_MAX;
pub use people::{CODE_LASTS, CODE_LASTS_MAX, MadePairing, NewPairing, PairingError};
pub use run::panic_text;
pub use schedule::{JobView, ReminderDesk, ScheduleError};
pub use service::{Follow, Gateway, Parts, Refusal, Settings, Submitted};
pub use setup::{Current, Replacement};
pub use unasked::Notified;
