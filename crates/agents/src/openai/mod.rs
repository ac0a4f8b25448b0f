//! Any server that speaks OpenAI's chat completions: hosted ones, Ollama, vLLM, llama.cpp.
//!
//! | module | its job |
//! | --- | --- |
//! | [`settings`](OpenAiSettings) | what can be set |
//! | `client` | one request and its streamed answer |
//! | `wire` | the protocol's JSON |
//! | `assembly` | calls that come in pieces |
//!
//! What a turn does with it stands in [`model`](crate::model).

mod assembly;
mod client;
mod settings;
mod wire;

#[cfg(test)]
mod fuzz;

pub use settings::OpenAiSettings;
