//! The security battery: attackers against the real binary, and a healthy client that must not
//! notice. `docs/threat-model.md` says which threat each test stands for.
//!
//! The attackers come from 127.0.0.2 to 127.0.0.9, the healthy client from 127.0.0.1, so that the
//! server can tell them apart as it would tell machines apart.
//!
//! | module | its attacks |
//! | --- | --- |
//! | [`doors`] | keys, tenants, names, origins, forwarded headers, guessing |
//! | [`framing`] | requests that two servers would read in two ways |
//! | [`bodies`] | bodies that are too great, too slow, compressed |
//! | [`crowds`] | thousands of slow connections, a million names |
//! | [`streams`] | readers that don't read, places that are none |
//! | [`words`] | secrets and terminal escapes where a person looks |

#![expect(clippy::unwrap_used, reason = "a test may fail loudly, its helpers too")]

mod bodies;
mod crowds;
mod doors;
mod framing;
mod kit;
#[path = "../store_kit/mod.rs"]
mod store_kit;
mod streams;
mod words;
