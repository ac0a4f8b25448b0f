//! The agents that answer, one module an agent protocol.
//!
//! An agent gets one turn and its handle, and gives back a reply or a failure. What a failure
//! leads to, when a turn is tried again and who is told is decided elsewhere; agents never touch
//! a store or a channel.
//!
//! | module | what it is |
//! | --- | --- |
//! | `brain` | a program in any language: the protocol, knowing nothing of how it travels |
//! | [`command`] | a brain that is a process of ours, over its standard streams |
//! | [`echo`] | built in: repeats what it was told, for demos, tests and measurements |
//! | [`openai`] | any server that speaks OpenAI's chat completions, hosted or at home |

mod brain;
pub mod command;
pub mod echo;
pub mod openai;

pub use command::{CommandAgent, CommandSettings};
pub use echo::EchoAgent;
pub use openai::{KeySource, OpenAiAgent, OpenAiError, OpenAiSettings};
