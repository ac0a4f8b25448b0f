//! The agents as the gateway meets them: through their port, against a scripted handle and, for
//! `openai`, a server that speaks the protocol with its unhappy parts.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

mod anthropic;
mod anthropic_trouble;
mod brain_server;
mod command;
mod command_lies;
mod echo;
mod handle;
mod http_brain;
mod http_lies;
mod mcp;
mod messages;
mod model_approval;
mod model_tools;
mod model_trouble;
mod open;
mod openai;
mod openai_mail;
mod openai_trouble;
mod prepare;
mod reminders;
mod server;
mod toolbox;
mod worktrees;
