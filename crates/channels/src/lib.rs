//! The ways messages go out, one module a channel.
//!
//! A channel here does one thing: it takes a part of a reply that is already committed and fitted,
//! gives it to a provider, and says truthfully whether the provider has it. Order, retries,
//! rates and fallbacks are the outbox's business, and messages come in through the gateway's
//! ingress.
//!
//! Channels whose clients pull (`web`, `api`, `terminal`) have no adapter: what such a client reads
//! is the journal, so a reply is delivered by the commit that writes it.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`signal`] | Signal, through signal-cli; it also hears |
//! | [`spool`] | any push channel whose carrier is another program that reads a file |
//! | [`moderation`] | no channel: asks an external check about a message |
//! | [`webhook`] | no channel: carries callbacks of listeners to whoever runs them |
//! | `outward` | what every HTTP client of ours refuses |

pub mod moderation;
mod outward;
pub mod signal;
pub mod spool;
pub mod webhook;

pub use moderation::HttpModerator;
pub use signal::{SignalChannel, SignalSettings};
pub use spool::SpoolChannel;
pub use webhook::{WebhookClient, WebhookCourier};
