//! The load generator behind `turnkeep bench`: many users talk to one server at the
//! same time, and afterwards a table and a picture say what they saw.
//!
//! It knows the server by its HTTP contract only (`POST /v1/chat`, `GET /metrics`), so
//! it measures a server on another machine as well as one started by the caller. It
//! neither starts a server nor fills its store; both belong to the binary.
//!
//! - [`Plan`] says who sends how much; [`run`] does it and returns a [`Report`].
//! - A *closed* run (`Plan::wait`) follows each message to its answer, as a person would:
//!   one connection a user, the next message after the answer to the last.
//! - An *open* run only measures how fast messages are accepted; a few connections
//!   carry all users, so that 100,000 users need no 100,000 sockets.
//!
//! Client and server often share the same few cores, so a request has to be cheap here:
//! one task and one kept-alive connection a user, a request head made once, a body
//! assembled from prepared pieces, counters behind locks nobody else wants.

mod error;
mod plan;

mod answer;
mod connection;
mod dial;
mod request;

mod book;
mod timeline;

mod driver;
mod gauge;
mod progress;
mod run;
mod slow;

mod figures;
mod picture;
mod report;
mod table;
mod verdict;

pub use dial::{Dial, TcpDial};
pub use error::BenchError;
pub use plan::Plan;
pub use report::{Ended, FloodFigures, Mode, Percentiles, Report, ServerFigures, Spread};
pub use run::{run, run_over, run_until};
pub use slow::SlowFigures;
pub use verdict::Verdict;
