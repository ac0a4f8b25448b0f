//! What a brain says, read field by field. A mistake is told by its field, never by what stood
//! there: that may be a user's text or a secret.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use turnkeep_core::accumulation::Hint;
use turnkeep_core::ids::{QuestionId, Seq};
use turnkeep_core::journal::SupersedeChoice;
use turnkeep_core::ports::agent::{Artifact, Inputs, ToolCall};
use turnkeep_core::session::input::{Finished, RunFailure};
use turnkeep_core::tool::{SideEffects, ToolOutcome};
use turnkeep_core::usage::Usage;

use super::{
    ASKED_BYTES_MAX, EMIT_DETAIL_BYTES_MAX, EMIT_NAME_BYTES_MAX, ERROR_CHARS_MAX, ID_BYTES_MAX,
    MODEL_BYTES_MAX, RETRY_AFTER_S_MAX, VERSION_BYTES_MAX,
};

/// One object of a brain.
#[derive(Debug, PartialEq)]
pub(super) enum FromBrain {
    Say(String),
    /// It waits for an answer under this name.
    Request(String, Request),
    Emit {
        name: String,
        detail: String,
    },
    Choose(QuestionId, SupersedeChoice),
    Used(Usage),
    Finished(Finished),
    Failed(RunFailure),
}

/// What is answered under a name.
#[derive(Debug, PartialEq)]
pub(super) enum Request {
    TakeMail,
    CommitPoint,
    /// The text, and whether only what is said after it is an answer.
    Ask(String, bool),
    Intend(ToolCall),
    Returned {
        call: Seq,
        outcome: ToolOutcome,
        output: String,
    },
    Keep(Artifact),
    Recall {
        name: String,
        inputs: Inputs,
    },
}

/// Every type there is, for whoever mistypes one.
const TYPES: &str = "say, take_mail, commit_point, ask, emit, intend, returned, keep, recall, used, \
                     choose, finished, failed";

/// Reads one line; none if it is blank.
///
/// # Errors
/// What is wrong with it, as the end of a sentence that begins with the line.
pub(super) fn read(line: &[u8]) -> Result<Option<FromBrain>, String> {
    let text = std::str::from_utf8(line).map_err(|_| "is not UTF-8".to_owned())?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    // What the parser says of its place is kept, what it says of the text is not.
    let value: Value = serde_json::from_str(text)
        .map_err(|error| format!("is not JSON (at byte {} of the line)", error.column()))?;
    let Value::Object(fields) = value else {
        return Err("is not a JSON object".to_owned());
    };
    let fields = Fields(fields);
    let said = match fields.text("type", 1..=100)?.as_str() {
        "say" => FromBrain::Say(fields.text("text", 0..=usize::MAX)?),
        "take_mail" => fields.request(Request::TakeMail)?,
        "commit_point" => fields.request(Request::CommitPoint)?,
        "ask" => fields.ask()?,
        "emit" => FromBrain::Emit {
            name: fields.text("name", 1..=EMIT_NAME_BYTES_MAX)?,
            detail: fields.optional_text("detail", EMIT_DETAIL_BYTES_MAX)?.unwrap_or_default(),
        },
        "intend" => fields.intend()?,
        "returned" => fields.returned()?,
        "keep" => fields.keep()?,
        "recall" => {
            let (name, inputs) = (fields.text("name", 1..=usize::MAX)?, fields.inputs()?);
            fields.request(Request::Recall { name, inputs })?
        }
        "used" => fields.used()?,
        "choose" => {
            let question = u32::try_from(fields.whole("question_id")?)
                .map_err(|_| "has a \"question_id\" that is too large".to_owned())?;
            let choices = "supersede, absorb_continue, absorb_restart, queue or force_complete";
            let choice = fields.word("choice", choices)?;
            FromBrain::Choose(QuestionId(question), choice.ok_or_else(|| missing("choice"))?)
        }
        "finished" => fields.finished()?,
        "failed" => fields.failed()?,
        _ => return Err(format!("has a \"type\" that is not one of {TYPES}")),
    };
    Ok(Some(said))
}

fn missing(name: &str) -> String {
    format!("needs \"{name}\"")
}

struct Fields(Map<String, Value>);

impl Fields {
    /// A field; null is as good as none.
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn optional_text(&self, name: &str, bytes_max: usize) -> Result<Option<String>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let text = value.as_str().ok_or_else(|| format!("has a \"{name}\" that is not a text"))?;
        if text.len() > bytes_max {
            return Err(format!("has a \"{name}\" of more than {bytes_max} bytes"));
        }
        Ok(Some(text.to_owned()))
    }

    fn text(&self, name: &str, bytes: std::ops::RangeInclusive<usize>) -> Result<String, String> {
        let text = self.optional_text(name, *bytes.end())?.ok_or_else(|| missing(name))?;
        if text.len() < *bytes.start() {
            return Err(format!("has a \"{name}\" that is empty"));
        }
        Ok(text)
    }

    fn whole(&self, name: &str) -> Result<u64, String> {
        let value = self.get(name).ok_or_else(|| missing(name))?;
        value.as_u64().ok_or_else(|| format!("has a \"{name}\" that is not a whole number from 0"))
    }

    fn optional_whole(&self, name: &str) -> Result<Option<u64>, String> {
        self.get(name).map(|_| self.whole(name)).transpose()
    }

    /// A list; none is an empty one.
    fn list<T>(
        &self,
        name: &str,
        of: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Vec<T>, String> {
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        let items = value.as_array().map(|items| items.iter().map(read).collect());
        items.flatten().ok_or_else(|| format!("has a \"{name}\" that is not a list of {of}"))
    }

    /// A word of a closed list.
    fn word<T: DeserializeOwned>(&self, name: &str, words: &str) -> Result<Option<T>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let word = value.as_str().and_then(|_| serde_json::from_value(value.clone()).ok());
        word.map(Some).ok_or_else(|| format!("has a \"{name}\" that is not {words}"))
    }

    fn request(&self, request: Request) -> Result<FromBrain, String> {
        Ok(FromBrain::Request(self.text("id", 1..=ID_BYTES_MAX)?, request))
    }

    fn ask(&self) -> Result<FromBrain, String> {
        let confirm = self.truth("confirm")?.unwrap_or(false);
        self.request(Request::Ask(self.text("text", 1..=ASKED_BYTES_MAX)?, confirm))
    }

    fn truth(&self, name: &str) -> Result<Option<bool>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let truth = value.as_bool().map(Some);
        truth.ok_or_else(|| format!("has a \"{name}\" that is not true or false"))
    }

    fn intend(&self) -> Result<FromBrain, String> {
        let kinds = "pure, idempotent, compensatable or irreversible";
        let effects: Option<SideEffects> = self.word("effects", kinds)?;
        self.request(Request::Intend(ToolCall {
            tool: self.text("tool", 1..=usize::MAX)?.into(),
            effects: effects.unwrap_or_default(),
            key: self.optional_text("key", usize::MAX)?.map(Into::into),
            input: self.optional_text("input", usize::MAX)?.unwrap_or_default().into(),
            compensates: self.optional_whole("compensates")?.map(Seq),
        }))
    }

    fn returned(&self) -> Result<FromBrain, String> {
        let outcome: Option<ToolOutcome> = self.word("outcome", "done, failed or unknown")?;
        self.request(Request::Returned {
            call: Seq(self.whole("call")?),
            outcome: outcome.ok_or_else(|| missing("outcome"))?,
            output: self.optional_text("output", usize::MAX)?.unwrap_or_default(),
        })
    }

    fn keep(&self) -> Result<FromBrain, String> {
        self.request(Request::Keep(Artifact {
            name: self.text("name", 1..=usize::MAX)?.into(),
            inputs: self.inputs()?,
            depends: self.list("depends", "texts", |item| item.as_str().map(Into::into))?,
            content: self.text("content", 0..=usize::MAX)?.into(),
        }))
    }

    /// `{messages, text}`, each of which may be absent.
    fn inputs(&self) -> Result<Inputs, String> {
        let inputs = match self.get("inputs") {
            None => Self(Map::new()),
            Some(Value::Object(fields)) => Self(fields.clone()),
            Some(_) => return Err("has \"inputs\" that are not an object".to_owned()),
        };
        Ok(Inputs {
            messages: inputs.list("messages", "places", |item| item.as_u64().map(Seq))?,
            text: inputs.optional_text("text", usize::MAX)?.unwrap_or_default().into(),
        })
    }

    fn used(&self) -> Result<FromBrain, String> {
        let count = |name: &str| self.optional_whole(name).map(Option::unwrap_or_default);
        Ok(FromBrain::Used(Usage {
            model: self.text("model", 1..=MODEL_BYTES_MAX)?.into(),
            input_tokens: self.whole("input_tokens")?,
            output_tokens: self.whole("output_tokens")?,
            cached_tokens: count("cached_tokens")?,
            cache_write_tokens: count("cache_write_tokens")?,
            cost_micros: self.optional_whole("cost_micros")?,
        }))
    }

    fn finished(&self) -> Result<FromBrain, String> {
        let used = self.optional_whole("used")?.map(Seq);
        let hint: Option<Hint> = self.word("hint", "none, awaiting_field or followup_expected")?;
        Ok(FromBrain::Finished(Finished {
            reply: self.optional_text("reply", usize::MAX)?.map(Into::into),
            used,
            hint: hint.unwrap_or_default(),
            version: self.optional_text("version", VERSION_BYTES_MAX)?.map(Into::into),
        }))
    }

    fn failed(&self) -> Result<FromBrain, String> {
        let error = self.text("error", 1..=usize::MAX)?;
        let retry = self.truth("retry")?.unwrap_or(true);
        let retry_after_ms = match self.get("retry_after_s") {
            None => None,
            Some(value) => {
                let seconds = value.as_f64().filter(|s| (0.0..=RETRY_AFTER_S_MAX).contains(s));
                let wrong = "has a \"retry_after_s\" that is not a number from 0 to 86400";
                Some((seconds.ok_or(wrong)? * 1000.0) as u64)
            }
        };
        let error = error.chars().filter(|one| !one.is_control());
        let error: String = error.take(ERROR_CHARS_MAX).collect();
        Ok(FromBrain::Failed(RunFailure { error: error.into(), retry, retry_after_ms }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expect: &str) {
        let said = read(line.as_bytes()).unwrap_err();
        assert_eq!(said, expect, "for {line}");
        assert!(!said.contains("SECRET"), "{said}");
    }

    #[test]
    fn mistakes_name_the_field_and_never_what_stood_there() {
        check("SECRET", "is not JSON (at byte 1 of the line)");
        check("{\"type\":\"say\",\"text\":\"SECRET", "is not JSON (at byte 28 of the line)");
        check("[\"SECRET\"]", "is not a JSON object");
        check("{}", "needs \"type\"");
        check("{\"type\":\"SECRET\"}", &format!("has a \"type\" that is not one of {TYPES}"));
        check("{\"type\":7}", "has a \"type\" that is not a text");
        check("{\"type\":\"say\",\"text\":[\"SECRET\"]}", "has a \"text\" that is not a text");
        check("{\"type\":\"take_mail\"}", "needs \"id\"");
        check("{\"type\":\"take_mail\",\"id\":\"\"}", "has a \"id\" that is empty");
        let long = format!("{{\"type\":\"take_mail\",\"id\":\"{}\"}}", "S".repeat(101));
        check(&long, "has a \"id\" of more than 100 bytes");
        check("{\"type\":\"ask\",\"id\":\"1\",\"text\":null}", "needs \"text\"");
        check(
            "{\"type\":\"intend\",\"id\":\"1\",\"tool\":\"t\",\"effects\":\"SECRET\"}",
            "has a \"effects\" that is not pure, idempotent, compensatable or irreversible",
        );
        check(
            "{\"type\":\"returned\",\"id\":\"1\",\"call\":-1,\"outcome\":\"done\"}",
            "has a \"call\" that is not a whole number from 0",
        );
        check("{\"type\":\"returned\",\"id\":\"1\",\"call\":1}", "needs \"outcome\"");
        check(
            "{\"type\":\"finished\",\"used\":\"SECRET\"}",
            "has a \"used\" that is not a whole number from 0",
        );
        check(
            "{\"type\":\"finished\",\"hint\":5}",
            "has a \"hint\" that is not none, awaiting_field or followup_expected",
        );
        check(
            "{\"type\":\"choose\",\"question_id\":1,\"choice\":{}}",
            "has a \"choice\" that is not supersede, absorb_continue, absorb_restart, queue or \
             force_complete",
        );
        check(
            "{\"type\":\"intend\",\"id\":\"1\",\"tool\":\"t\",\"compensates\":\"SECRET\"}",
            "has a \"compensates\" that is not a whole number from 0",
        );
        check("{\"type\":\"keep\",\"id\":\"1\",\"name\":\"a\"}", "needs \"content\"");
        let recall = |fields: &str| format!("{{\"type\":\"recall\",\"id\":\"1\",{fields}}}");
        check(&recall("\"name\":\"\""), "has a \"name\" that is empty");
        check(
            &recall("\"name\":\"a\",\"inputs\":[\"SECRET\"]"),
            "has \"inputs\" that are not an object",
        );
        check(
            &recall("\"name\":\"a\",\"inputs\":{\"messages\":[\"SECRET\"]}"),
            "has a \"messages\" that is not a list of places",
        );
        check("{\"type\":\"used\",\"model\":\"m\"}", "needs \"input_tokens\"");
        let long = format!("{{\"type\":\"finished\",\"version\":\"{}\"}}", "S".repeat(101));
        check(&long, "has a \"version\" of more than 100 bytes");
        check("{\"type\":\"failed\"}", "needs \"error\"");
        check(
            "{\"type\":\"failed\",\"error\":\"x\",\"retry\":\"SECRET\"}",
            "has a \"retry\" that is not true or false",
        );
        check(
            "{\"type\":\"failed\",\"error\":\"x\",\"retry_after_s\":-1}",
            "has a \"retry_after_s\" that is not a number from 0 to 86400",
        );
        assert_eq!(read(b"\xff{}").unwrap_err(), "is not UTF-8");
    }

    #[test]
    fn what_is_not_said_has_a_meaning() {
        let say = |line: &str| read(line.as_bytes()).unwrap();
        assert_eq!(say("  \r"), None);
        let finished = FromBrain::Finished(Finished::default());
        assert_eq!(say("{\"type\":\"finished\",\"reply\":null,\"later\":[1]}"), Some(finished));
        let line = "{\"type\":\"used\",\"model\":\"m\",\"input_tokens\":7,\"output_tokens\":2}";
        let (input_tokens, output_tokens) = (7, 2);
        let usage = Usage { model: "m".into(), input_tokens, output_tokens, ..Usage::default() };
        assert_eq!(say(line), Some(FromBrain::Used(usage)));
        let recall = Request::Recall { name: "plan".into(), inputs: Inputs::default() };
        let line =
            "{\"type\":\"recall\",\"id\":\"a\",\"name\":\"plan\",\"inputs\":{\"text\":null}}";
        assert_eq!(say(line), Some(FromBrain::Request("a".into(), recall)));
        let failure = RunFailure { error: "ab".into(), retry: true, retry_after_ms: Some(1500) };
        let line = "{\"type\":\"failed\",\"error\":\"a\\u0007b\",\"retry_after_s\":1.5}";
        assert_eq!(say(line), Some(FromBrain::Failed(failure)));
        let call = ToolCall {
            tool: "refund".into(),
            effects: SideEffects::Irreversible,
            ..ToolCall::default()
        };
        let line = "{\"type\":\"intend\",\"id\":\"a\",\"tool\":\"refund\"}";
        assert_eq!(say(line), Some(FromBrain::Request("a".into(), Request::Intend(call))));
    }
}
