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
//! | [`http_brain`] | a brain that is a server of a team's own, over signed POSTs and event streams |
//! | [`mcp`] | tools for agents that ask a model, from servers that speak MCP |
//! | `reminders` | tools with which a model has its user told something later, built in |
//! | [`echo`] | built in: repeats what it was told, for demos, tests and measurements |
//! | [`model`] | an agent that asks a model: a turn, whoever provides the model |
//! | [`openai`] | any server that speaks OpenAI's chat completions, hosted or at home |
//! | [`anthropic`] | Anthropic's Messages API |
//! | `provider_http` | how both are reached |
//! | `outward` | what every HTTP client of ours refuses |

pub mod anthropic;
mod brain;
pub mod command;
pub mod echo;
pub mod http_brain;
pub mod mcp;
pub mod model;
pub mod openai;
mod outward;
mod provider_http;
mod reminders;
mod tools;

pub use anthropic::{AnthropicSettings, Thinking};
pub use command::{CommandAgent, CommandSettings, WorktreeSettings, worktree_id};
pub use echo::EchoAgent;
pub use http_brain::{HttpBrainAgent, HttpBrainError, HttpBrainSettings};
pub use mcp::{ToolPolicy, ToolServer, ToolServerSettings, ToolSet, ToolWay};
pub use model::{ModelAgent, TurnSettings};
pub use openai::OpenAiSettings;
pub use provider_http::{KeySource, ProviderSetupError};
pub use reminders::{REMINDERS, ReminderTools};
pub use tools::{Origin, Said, Tool, ToolSpec, Toolbox};
