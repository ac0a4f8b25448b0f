//! Puts an answer together from its events: its words, its calls, and its blocks as they came.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

use super::wire::{Counts, Delta, ErrorBody, Event, Start};
use crate::model::provider::{Call, Ending};
use crate::provider_http::short;

/// Blocks of one answer.
const BLOCKS_MAX: usize = 1024;
/// What one answer may hold beside the reply: thoughts, calls, what servers' own tools said.
const EXTRA_BYTES_MAX: usize = 4 << 20;
/// Where arguments that are no JSON object stand when they are given back.
const NOT_JSON: &str = "INVALID_JSON";

/// What an event brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Words for the user.
    Text(String),
    /// Nothing for the user, but it works.
    Life,
    /// The answer is complete.
    End,
}

/// Why an answer is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// The provider says so itself.
    Error(ErrorBody),
    /// It is not as it should be, in words.
    Broken(&'static str),
    /// There is more of it than there may be, in words.
    TooMuch(String),
}

/// An answer as far as it came.
pub(super) struct Draft {
    bytes: usize,
    bytes_max: usize,
    begun: bool,
    ended: bool,
    counts: Option<Counts>,
    stop_reason: Option<String>,
    blocks: Vec<Block>,
    calls: VecDeque<Call>,
}

struct Block {
    /// As it began.
    fields: Map<String, Value>,
    open: bool,
    /// More of its text, thought, signature or input.
    text: String,
    signature: String,
    citations: Vec<Value>,
}

impl Draft {
    /// Of an answer whose words may have this many bytes.
    pub(super) fn new(reply_bytes_max: usize) -> Self {
        Self {
            bytes: 0,
            bytes_max: reply_bytes_max.saturating_add(EXTRA_BYTES_MAX),
            begun: false,
            ended: false,
            counts: None,
            stop_reason: None,
            blocks: Vec::new(),
            calls: VecDeque::new(),
        }
    }

    /// Takes the data of the next event.
    pub(super) fn take(&mut self, data: &str) -> Result<News, Wrong> {
        let event = serde_json::from_str::<Event>(data).map_err(|_| {
            Wrong::Broken("the provider sent something that is no event of an answer")
        })?;
        match event {
            Event::MessageStart { message } => self.start(message),
            Event::ContentBlockStart { index, content_block } => {
                // What a block holds at its start is kept whole.
                self.count(data.len())?;
                self.open(index, content_block)
            }
            Event::ContentBlockDelta { index, delta } => self.more(index, delta),
            Event::ContentBlockStop { index } => {
                self.block(index)?.open = false;
                Ok(News::Life)
            }
            Event::MessageDelta { delta, usage } => {
                self.stop_reason = delta.stop_reason.or(self.stop_reason.take());
                self.counted(usage);
                Ok(News::Life)
            }
            Event::MessageStop => self.end(),
            Event::Error { error } => Err(Wrong::Error(error)),
            Event::Other => Ok(News::Life),
        }
    }

    /// Whether anything of the answer came.
    pub(super) const fn has_begun(&self) -> bool {
        !self.blocks.is_empty()
    }

    /// Whether it is complete.
    pub(super) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// The next of its calls, once it is complete.
    pub(super) fn next_call(&mut self) -> Option<Call> {
        self.calls.pop_front()
    }

    /// What was counted so far; none if nothing was.
    pub(super) const fn counts(&self) -> Option<Counts> {
        self.counts
    }

    /// Why it ended.
    pub(super) fn ending(&self) -> Ending {
        match self.stop_reason.as_deref() {
            Some("max_tokens" | "model_context_window_exceeded") => Ending::Length,
            Some("refusal") => Ending::Filtered,
            // Whatever the reason is called, calls want to be answered.
            _ if self.blocks.iter().any(Block::is_call) => Ending::Calls,
            Some("end_turn" | "stop_sequence" | "tool_use") => Ending::Complete,
            Some(other) => Ending::Other(short(other)),
            None => Ending::Other("none given".to_owned()),
        }
    }

    /// Its blocks as they came, but for what can't be given back.
    pub(super) fn blocks(&self) -> Vec<Value> {
        self.blocks.iter().filter_map(Block::whole).collect()
    }

    fn start(&mut self, message: Start) -> Result<News, Wrong> {
        if self.begun {
            return Err(Wrong::Broken("the provider began its answer twice"));
        }
        self.begun = true;
        self.counted(message.usage);
        Ok(News::Life)
    }

    fn open(&mut self, index: usize, fields: Map<String, Value>) -> Result<News, Wrong> {
        if index != self.blocks.len() {
            return Err(Wrong::Broken("the provider sent the parts of its answer out of order"));
        }
        if index >= BLOCKS_MAX {
            return Err(Wrong::TooMuch(format!("the answer has more than {BLOCKS_MAX} parts")));
        }
        let text = fields.get("text").and_then(Value::as_str).unwrap_or_default().to_owned();
        let block = Block {
            fields,
            open: true,
            text: String::new(),
            signature: String::new(),
            citations: Vec::new(),
        };
        let is_text = block.is("text");
        self.blocks.push(block);
        Ok(if is_text && !text.is_empty() { News::Text(text) } else { News::Life })
    }

    fn more(&mut self, index: usize, delta: Delta) -> Result<News, Wrong> {
        let length = match &delta {
            Delta::Text { text } => text.len(),
            Delta::InputJson { partial_json } => partial_json.len(),
            Delta::Thinking { thinking } => thinking.len(),
            Delta::Signature { signature } => signature.len(),
            Delta::Citations { citation } => citation.to_string().len(),
            Delta::Other => 0,
        };
        self.count(length)?;
        let block = self.block(index)?;
        match delta {
            Delta::Text { text } if block.is("text") => {
                block.text.push_str(&text);
                return Ok(if text.is_empty() { News::Life } else { News::Text(text) });
            }
            Delta::InputJson { partial_json } if block.fields.contains_key("input") => {
                block.text.push_str(&partial_json);
            }
            Delta::Thinking { thinking } if block.is("thinking") => {
                block.text.push_str(&thinking);
            }
            Delta::Signature { signature } if block.is("thinking") => {
                block.signature.push_str(&signature);
            }
            Delta::Citations { citation } if block.is("text") => block.citations.push(citation),
            // Of a sort that nobody here knows, or of a block of such a sort.
            _ if !block.is("text") && !block.is("thinking") && !block.is("tool_use") => {}
            Delta::Other => {}
            _ => return Err(Wrong::Broken("the provider mixed up the parts of its answer")),
        }
        Ok(News::Life)
    }

    fn end(&mut self) -> Result<News, Wrong> {
        let cut = matches!(self.ending(), Ending::Length | Ending::Filtered);
        // What was cut need not be closed.
        if !self.begun || (!cut && self.blocks.iter().any(|block| block.open)) {
            return Err(Wrong::Broken("the provider ended an answer that is not whole"));
        }
        self.ended = true;
        if self.ending() == Ending::Calls {
            self.calls = self.blocks.iter().filter_map(Block::call).collect();
        }
        Ok(News::End)
    }

    fn block(&mut self, index: usize) -> Result<&mut Block, Wrong> {
        let open = self.blocks.get_mut(index).filter(|block| block.open);
        open.ok_or(Wrong::Broken("the provider went on with a part of its answer that is not open"))
    }

    fn count(&mut self, bytes: usize) -> Result<(), Wrong> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes <= self.bytes_max {
            return Ok(());
        }
        Err(Wrong::TooMuch(format!("the answer is longer than {} bytes", self.bytes_max)))
    }

    fn counted(&mut self, counts: Option<Counts>) {
        if let Some(counts) = counts {
            self.counts.get_or_insert_default().grow(counts);
        }
    }
}

impl Block {
    fn is(&self, kind: &str) -> bool {
        self.field("type") == kind
    }

    fn is_call(&self) -> bool {
        self.is("tool_use")
    }

    fn field(&self, name: &str) -> &str {
        self.fields.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// The arguments as the model wrote them.
    fn arguments(&self) -> String {
        if !self.text.trim().is_empty() {
            return self.text.clone();
        }
        // Nothing to be said is an empty object, which need not be written.
        self.fields.get("input").map_or_else(|| "{}".to_owned(), Value::to_string)
    }

    fn call(&self) -> Option<Call> {
        self.is_call().then(|| Call {
            id: self.field("id").to_owned(),
            tool: self.field("name").to_owned(),
            arguments: self.arguments(),
        })
    }

    /// As it is given back; none where it would be refused.
    fn whole(&self) -> Option<Value> {
        let mut fields = self.fields.clone();
        let longer = |name: &str| Value::String(format!("{}{}", self.field(name), self.text));
        match self.field("type") {
            "text" => {
                let text = longer("text");
                // A text of nothing is refused.
                text.as_str().filter(|text| !text.trim().is_empty())?;
                fields.insert("text".to_owned(), text);
                if !self.citations.is_empty() {
                    fields.insert("citations".to_owned(), Value::Array(self.citations.clone()));
                }
            }
            "thinking" => {
                fields.insert("thinking".to_owned(), longer("thinking"));
                let signature = format!("{}{}", self.field("signature"), self.signature);
                fields.insert("signature".to_owned(), Value::String(signature));
            }
            _ if self.fields.contains_key("input") => {
                fields.insert("input".to_owned(), input(&self.arguments()));
            }
            _ => {}
        }
        Some(Value::Object(fields))
    }
}

/// Arguments as the protocol takes them back: always an object.
pub(super) fn input(arguments: &str) -> Value {
    if arguments.trim().is_empty() {
        return json!({});
    }
    match serde_json::from_str(arguments) {
        Ok(Value::Object(fields)) => Value::Object(fields),
        // The model sees what it wrote, and why that was no call.
        _ => json!({NOT_JSON: arguments}),
    }
}
