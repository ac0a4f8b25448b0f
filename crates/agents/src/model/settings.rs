//! What can be set of an agent that asks a model, whoever provides the model.

use std::time::Duration;

/// How turns are answered with a model.
#[derive(Clone, Debug, PartialEq)]
pub struct TurnSettings {
    /// Stands before every conversation.
    pub system_prompt: Option<String>,
    /// What the operator calls this version of the agent; without it the model's name stands there.
    pub version: Option<String>,
    /// What is configured of its tools, in words that change whenever that does; a part of the
    /// version.
    pub tools: String,
    /// Lines of the conversation before this turn that are looked at, at most.
    pub history_messages: usize,
    /// How much of the conversation before this turn is sent along, in tokens, estimated as one
    /// for every four characters and four a message. The system prompt and the turn's own messages
    /// are not counted.
    pub history_tokens: u32,
    /// Longest reply in bytes; a longer one fails the turn.
    pub reply_bytes_max: usize,
    /// Answers that one turn may give to messages that arrived meanwhile, the first one included.
    pub rounds_max: u32,
    /// Requests of one attempt that may ask for tools; the one behind them has to answer.
    pub tool_rounds_max: u32,
    /// How often one request is tried again when the provider is busy, before the failure is the
    /// gateway's.
    pub retries_max: u32,
    /// Pause before the first of these; doubled for each later one.
    pub retry_pause: Duration,
    /// Longest such pause. Where the provider asks for more, the gateway waits instead.
    pub retry_pause_max: Duration,
    /// Requests under way at once, over all sessions; none for no limit.
    pub slots: Option<usize>,
}

impl Default for TurnSettings {
    fn default() -> Self {
        Self {
            system_prompt: None,
            version: None,
            tools: String::new(),
            history_messages: 200,
            history_tokens: 4000,
            reply_bytes_max: 1 << 20,
            rounds_max: 4,
            tool_rounds_max: 40,
            retries_max: 2,
            retry_pause: Duration::from_millis(500),
            retry_pause_max: Duration::from_secs(10),
            slots: None,
        }
    }
}
