//! Does what the rules say. Knows the core and its ports, and no adapter.
//!
//! In reading order: [`ingress`] lets a message in, [`driver`] is one session's life without IO.

pub mod driver;
pub mod ingress;
