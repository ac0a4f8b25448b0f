//! Tools from servers that speak MCP, over the standard streams of a process or streamable HTTP.
//!
//! | module | its job |
//! | --- | --- |
//! | `settings` | where a server is and what holds for its tools |
//! | `tool_set` | the tools of one agent, from several servers |
//! | `server` | one server: started, watched, started again |
//! | `listing` | its tools, named and bounded, each with its rules |
//! | `names` | patterns, and names as models take them |
//! | `connection` | one connection and the calls on it; `client` what the server may want of us, `bounds` how much of it |
//! | `stdio` | messages over a process's streams; `lines` cuts and bounds them, `scan` finds whose answer it is, `stderr` hears the rest |
//! | `unreached` | why a server over HTTP did not begin, for a person |
//! | `outcome` | what came of a call, as far as anybody can say |
//! | `content` | what a tool said, as text |
//!
//! Whether a call may be made is not decided here: whoever calls has asked before.

mod bounds;
mod client;
mod connection;
mod content;
mod lines;
mod listing;
mod names;
mod outcome;
mod scan;
mod server;
mod settings;
mod stderr;
mod stdio;
mod tool_set;
mod unreached;

#[cfg(test)]
mod fuzz;

pub(crate) use names::matches;
pub use server::{ToolServer, ToolServerReport};
pub use settings::{
    SERVER_NAME_CHARS_MAX, ToolPolicy, ToolServerSettings, ToolWay, is_server_name,
};
pub use tool_set::ToolSet;
