//! The agents as the gateway meets them: through their port, against a scripted handle and, for
//! `openai`, a server that speaks the protocol with its unhappy parts.

#![expect(clippy::unwrap_used, reason = "a test says what is wrong by panicking")]

mod command;
mod command_lies;
mod echo;
mod handle;
mod openai;
mod openai_mail;
mod openai_trouble;
mod server;
