//! What a cluster's nodes tell each other through Redis: hints, never the record
//! (`turnkeep_core::ports::hints`).
//!
//! Four things: who runs which session's turn ([`Active`]), wake-ups ([`News`]), rates that all
//! nodes share ([`Limit`]), and streamed text for watchers on other nodes. Losing all
//! of it costs latency, never a message: whoever hears [`News::Missed`] looks into the record, and
//! whoever gets a [`Trouble`] goes on without.
//!
//! Nothing here waits longer than its limit, and while Redis is away nothing is asked at all: two
//! keepers, one for calls and one for what is published, connect again by themselves.

mod active;
mod answers;
mod counts;
mod health;
mod hints;
mod hub;
mod limits;
mod link;
mod names;
mod news;
mod place;
mod port;
mod settings;
mod strange;
mod text;
mod tls;
mod trouble;

pub use active::{Active, Held};
pub use counts::Counts;
pub use health::{Health, State};
pub use hints::RedisHints;
pub use limits::{LIMITS_MAX, Limit, Passed};
pub use news::{Heard, Listening, News, Watched, Watching};
pub use port::node_name;
pub use settings::{Settings, Unfit};
pub use trouble::Trouble;
