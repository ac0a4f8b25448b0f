//! Turns handed to workers through the Hatchet engine.
//!
//! The engine decides which worker runs which turn, and gives a turn out again where a worker dies.
//! It does so at least once, late, and sometimes to a worker that stood still and wakes up: whoever
//! gets a dispatch compares its epoch with the record before anything else. What goes through the
//! engine are ids; messages and answers stay in the record.
//!
//! Written against engine version [`ENGINE_VERSION`]. Two things of it shape what is here:
//!
//! - It answers, and takes triggers, long before it dispatches: after a restart half a minute
//!   passes. So [`Health`] tells answers and dispatches apart.
//! - A stream that waits says nothing, not even that it is open. So heartbeats are what tells that
//!   a worker is not listened to any more, and the end of a stream opens the next one at once.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`token`] | what a token says of itself |
//! | [`workflow`] | the workflow, its four steps, and what a run of it is given |
//! | [`client`] | calls: ping, put, trigger, cancel |
//! | [`worker`] | a worker that keeps itself registered and hears dispatches |
//! | [`dispatch`] | what such a worker is told |
//! | [`report`] | what becomes of a step |
//! | [`health`] | how the engine is doing |
//! | [`port`] | the same behind the gateway's ports |
//! | [`trouble`] | errors, in classes |
//! | `wire` | the messages |
//! | `again` | how long to wait before the next try |

mod again;
pub mod client;
pub mod dispatch;
pub mod health;
pub mod port;
pub mod report;
pub mod token;
pub mod trouble;
mod wire;
pub mod worker;
pub mod workflow;

pub use client::{HatchetClient, HatchetSettings, Tls, Triggered};
pub use dispatch::{Action, Cancelled, Dispatch, Order};
pub use health::{Dispatching, Health, HealthReport, Link};
pub use port::{HatchetDispatcher, HatchetOrders, take_part};
pub use report::Report;
pub use token::{Token, TokenError};
pub use trouble::HatchetError;
pub use worker::{Listening, Worker, WorkerReport, WorkerSettings};
pub use workflow::{Timeouts, TurnRun, Workflow};

/// The version of the engine that this was written against and is tried with.
pub const ENGINE_VERSION: &str = "v0.104.7";
