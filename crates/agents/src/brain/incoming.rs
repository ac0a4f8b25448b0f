//! What a brain says, read field by field. A mistake is told by its field, never by what stood
//! there: that may be a user's text or a secret.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use turnkeep_core::accumulation::Hint;
use turnkeep_core::ids::{QuestionId, Seq};
use turnkeep_core::journal::SupersedeChoice;
use turnkeep_core::ports::agent::ToolCall;
use turnkeep_core::session::input::{Finished, RunFailure};
use turnkeep_core::tool::{SideEffects, ToolOutcome};

use super::{
    ASKED_BYTES_MAX, EMIT_DETAIL_BYTES_MAX, EMIT_NAME_BYTES_MAX, ERROR_CHARS_MAX, ID_BYTES_MAX,
    RETRY_AFTER_S_MAX,
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
    Finished(Finished),
    Failed(RunFailure),
}

/// What is answered under a name.
#[derive(Debug, PartialEq)]
pub(super) enum Request {
    TakeMail,
    CommitPoint,
    Ask(String),
    Intend(ToolCall),
    Returned { call: Seq, outcome: ToolOutcome, output: String },
}

/// Every type there is, for whoever mistypes one.
const TYPES: &str = "say, take_mail, commit_point, ask, emit, intend, returned, choose, finished, \
                     failed";

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
        "ask" => fields.request(Request::Ask(fields.text("text", 1..=ASKED_BYTES_MAX)?))?,
        "emit" => FromBrain::Emit {
            name: fields.text("name", 1..=EMIT_NAME_BYTES_MAX)?,
            detail: fields.optional_text("detail", EMIT_DETAIL_BYTES_MAX)?.unwrap_or_default(),
        },
        "intend" => fields.intend()?,
        "returned" => fields.returned()?,
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

    /// A word of a closed list.
    fn word<T: DeserializeOwned>(&self, name: &str, words: &str) -> Result<Option<T>, String> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let word = value.as_str().and_then(|_| serde_json::from_value(value.clone()).ok());
        word.map(Some).ok_or_else(|| format!("has a \"{name}\" that is not {words}"))
    }

    fn request(&self, request: Request) -> Result<FromBrain, String> {
        Ok(FromBrain::Request(self.text("id", 1..=ID_BYTES_MAX)?, request))
    }

    fn intend(&self) -> Result<FromBrain, String> {
        let kinds = "pure, idempotent, compensatable or irreversible";
        let effects: Option<SideEffects> = self.word("effects", kinds)?;
        self.request(Request::Intend(ToolCall {
            tool: self.text("tool", 1..=usize::MAX)?.into(),
            effects: effects.unwrap_or_default(),
            key: self.optional_text("key", usize::MAX)?.map(Into::into),
            input: self.optional_text("input", usize::MAX)?.unwrap_or_default().into(),
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

    fn finished(&self) -> Result<FromBrain, String> {
        let used = self.get("used").map(|_| self.whole("used").map(Seq)).transpose()?;
        let hint: Option<Hint> = self.word("hint", "none, awaiting_field or followup_expected")?;
        Ok(FromBrain::Finished(Finished {
            reply: self.optional_text("reply", usize::MAX)?.map(Into::into),
            used,
            hint: hint.unwrap_or_default(),
            version: None,
        }))
    }

    fn failed(&self) -> Result<FromBrain, String> {
        let error = self.text("error", 1..=usize::MAX)?;
        let retry = match self.get("retry") {
            None => true,
            Some(value) => value
                .as_bool()
                .ok_or_else(|| "has a \"retry\" that is not true or false".to_owned())?,
        };
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
        let failure = RunFailure { error: "ab".into(), retry: true, retry_after_ms: Some(1500) };
        let line = "{\"type\":\"failed\",\"error\":\"a\\u0007b\",\"retry_after_s\":1.5}";
        assert_eq!(say(line), Some(FromBrain::Failed(failure)));
        let call = ToolCall {
            tool: "refund".into(),
            effects: SideEffects::Irreversible,
            key: None,
            input: "".into(),
        };
        let line = "{\"type\":\"intend\",\"id\":\"a\",\"tool\":\"refund\"}";
        assert_eq!(say(line), Some(FromBrain::Request("a".into(), Request::Intend(call))));
    }
}
