//! A model behind Anthropic's Messages API.
//!
//! | module | its job |
//! | --- | --- |
//! | [`settings`](AnthropicSettings) | what can be set |
//! | `request` | the conversation as the protocol wants it, and what of it may be remembered |
//! | `client` | one request and its streamed answer |
//! | `answer` | puts an answer together from its events |
//! | `wire` | the events' JSON, and what errors mean |
//!
//! **Calls** are told at the very end of an answer: one that was cut for its length may end in the
//! middle of a call's arguments, and half a call is none.
//!
//! **Thoughts** are no part of the reply. With the calls that follow from them they are given back as
//! they came, signature and all, because the model refuses to go on without them.
//!
//! **What is remembered.** Each request marks how far its beginning may be kept by the provider: the
//! tools, the instructions, what the user said last before the calls of this turn (which the next
//! turn begins with, too), and the end (which the next request of this turn begins with).

mod answer;
mod client;
mod request;
mod settings;
mod wire;

#[cfg(test)]
mod fuzz;

pub use settings::{AnthropicSettings, Thinking};
