//! Turnkeep: a turn gateway between people and AI agents.
//!
//! This crate is the shell around the others: it parses the command line, reads the
//! configuration, and wires the concrete adapters to the gateway.

mod audit;
mod bench;
mod brain_check;
mod cli;
mod config;
mod dispatch;
mod hints;
mod killpoint;
mod logging;
mod process;
mod reload;
mod role;
mod serve;
mod signal;
mod telemetry;
mod wiring;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Whoever makes a TLS connection needs a provider; a second call can only find the first one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    cli::run()
}
