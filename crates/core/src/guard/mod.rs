//! The guard's rules, pure: who is let in before anything is spent on a message.
//!
//! In reading order: [`gcra`] is the arithmetic of a rate with a burst; [`window`] counts what
//! happened lately; [`abuse`] is what can be wrong with a message; [`severity`] is what follows from
//! it and for how long; [`customer`] is all that is remembered of one customer.

pub mod abuse;
pub mod customer;
pub mod gcra;
pub mod severity;
pub mod window;

pub use abuse::{AbuseKind, TextShape};
pub use customer::{Customer, Heard, Pace};
pub use gcra::{Bucket, Rate};
pub use severity::{RESTRICTED, Severity, Standing, follows, tighter};
pub use window::Window;
