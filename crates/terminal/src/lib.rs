//! The terminal client: many sessions on one screen, and the one that waits for you in sight.
//!
//! It knows no other crate of ours. It speaks the HTTP API, however that is reached.

mod app;
mod board;
mod conversation;
mod draw;
mod editor;
mod follow;
mod lines;
mod markdown;
mod moment;
mod paint;
pub mod plain;
pub mod ports;
pub mod run;
pub mod screen;
mod scroll;
mod text;
mod theme;

pub use app::App;
pub use draw::draw;
pub use ratatui_crossterm::crossterm;
pub use text::segment;
