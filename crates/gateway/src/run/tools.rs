//! What a run does with its tools: the name of each act, the bounds of what goes on record, and the
//! texts of what is known, which stand in the journal only. Whether a call may be made is the core's
//! to say.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use turnkeep_core::ids::Seq;
use turnkeep_core::journal::EventBody;
use turnkeep_core::ports::agent::{Permission, RecordedCall, Revoked, ToolCall};
use turnkeep_core::session::{AgentAnswer, AgentInput};
use turnkeep_core::tool::{Act, ActName, Intent, ToolOutcome};

use super::{RunHandle, lock};
use crate::trace::names;

/// The longest name of a tool, and the longest key of a call, in bytes.
const NAME_BYTES_MAX: usize = 200;
/// The longest input of a call; a longer one is refused, because a part of it would name another act.
const INPUT_BYTES_MAX: usize = 64 << 10;
/// The longest output on record; a longer one is cut.
const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// Stands at the end of what was cut.
const CUT: &str = " … (cut)";
/// Journal entries read at once: an intent and its result are seldom far apart.
const PAGE: usize = 16;

impl RunHandle {
    pub(super) async fn ask_leave(&self, call: ToolCall) -> Result<Permission, Revoked> {
        if let Some(reason) = out_of_bounds(&call) {
            self.shared.heard();
            return Ok(Permission::Refused(reason));
        }
        let name = name_of(&call);
        let ToolCall { tool, effects, input, compensates, .. } = call;
        let intent =
            Box::new(Intent { tool: Arc::clone(&tool), effects, name, input, compensates });
        match self.request(move |token| AgentInput::Intend(token, intent)).await? {
            AgentAnswer::Call(seq) => {
                self.note_call(seq, tool);
                Ok(Permission::Call(seq))
            }
            AgentAnswer::Known(act) => {
                self.note("tool not called", &tool, act.outcome());
                let known = self.calls_of(std::slice::from_ref(&*act)).await;
                let known = known.ok().and_then(|mut known| known.pop());
                Ok(known.map_or(Permission::Refused(UNREADABLE), Permission::Known))
            }
            AgentAnswer::MailFirst => {
                // Also where the mail came with a question, which raises no flag: whoever waits for
                // mail now must not wait in vain.
                self.shared.mail_waiting();
                Ok(Permission::MailFirst)
            }
            AgentAnswer::NotAllowed(denied) => Ok(Permission::Refused(denied.as_str())),
            _ => Err(Revoked),
        }
    }

    pub(super) async fn tell_result(
        &self,
        call: Seq,
        outcome: ToolOutcome,
        output: Arc<str>,
    ) -> Result<(), Revoked> {
        self.request(move |token| AgentInput::Returned(token, call, outcome, output)).await?;
        let mut rare = lock(&self.shared.rare);
        let at = rare.calls.iter().position(|(open, _)| *open == call);
        let tool = at.map(|at| rare.calls.swap_remove(at).1);
        drop(rare);
        if let Some(tool) = tool {
            self.note("tool returned", &tool, outcome);
        }
        Ok(())
    }

    /// Acts with their texts, in the same order. What was forgotten meanwhile is empty; that it was
    /// done is not.
    pub(super) async fn calls_of(&self, acts: &[Act]) -> Result<Vec<RecordedCall>, String> {
        let results = acts.iter().filter_map(|act| act.result.map(|(_, seq)| seq));
        let mut places: Vec<Seq> = acts.iter().map(|act| act.call).chain(results).collect();
        places.sort_unstable();
        let (mut texts, mut read_to) = (BTreeMap::new(), Seq(0));
        for place in places {
            if place <= read_to {
                continue;
            }
            let (store, after) = (&self.gateway.0.store, Seq(place.0.saturating_sub(1)));
            let page = store.events(&self.key, after, PAGE).await.map_err(|e| e.to_string())?;
            read_to = page.last().map_or(place, |last| last.seq);
            texts.extend(page.into_iter().map(|event| (event.seq, event.body)));
            texts.retain(|_, body| {
                matches!(body, EventBody::ToolIntended { .. } | EventBody::ToolReturned { .. })
            });
        }
        Ok(acts.iter().map(|act| recorded(act, &texts)).collect())
    }

    /// For the attempt's span: which tool, and never what went into it or came out.
    fn note_call(&self, call: Seq, tool: Arc<str>) {
        let mut rare = lock(&self.shared.rare);
        let Some(span) = &mut rare.span else { return };
        span.event_with("tool called", || vec![(names::TOOL, tool.to_string().into())]);
        rare.calls.push((call, tool));
    }

    fn note(&self, what: &'static str, tool: &Arc<str>, outcome: ToolOutcome) {
        self.shared.trace(|span| {
            span.event_with(what, || {
                let outcome = outcome.as_str();
                vec![(names::TOOL, tool.to_string().into()), (names::OUTCOME, outcome.into())]
            });
        });
    }
}

const UNREADABLE: &str = "it was done or may have been, and what is known of it can't be read now";

fn out_of_bounds(call: &ToolCall) -> Option<&'static str> {
    let named = |name: &str| (1..=NAME_BYTES_MAX).contains(&name.len());
    if !named(&call.tool) {
        Some("the name of a tool has 1 to 200 bytes")
    } else if call.key.as_ref().is_some_and(|key| !named(key)) {
        Some("the key of a call has 1 to 200 bytes")
    } else if call.input.len() > INPUT_BYTES_MAX {
        Some("the input of a call is longer than 65536 bytes")
    } else {
        None
    }
}

/// Which act a call is. Stored: what is hashed must never change.
fn name_of(call: &ToolCall) -> ActName {
    if let Some(undone) = call.compensates {
        // However and with whatever tool: a call is undone once.
        return ActName(hash_of(b"c", &[&undone.to_string()]));
    }
    match &call.key {
        Some(key) => ActName(hash_of(b"k", &[&call.tool, key])),
        None => ActName(hash_of(b"i", &[&call.tool, &call.input])),
    }
}

/// Half of a SHA-256 over some texts, told from other hashes by a marker. Stored, too.
pub(super) fn hash_of(marker: &[u8], parts: &[&str]) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(marker);
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let mut name = [0; 16];
    name.copy_from_slice(&hash.finalize()[..16]);
    name
}

/// An output as it goes on record.
pub(super) fn within_bounds(output: &str) -> Arc<str> {
    if output.len() <= OUTPUT_BYTES_MAX {
        return output.into();
    }
    let mut end = OUTPUT_BYTES_MAX - CUT.len();
    while !output.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{CUT}", &output[..end]).into()
}

fn recorded(act: &Act, texts: &BTreeMap<Seq, EventBody>) -> RecordedCall {
    let (tool, input) = match texts.get(&act.call) {
        Some(EventBody::ToolIntended { tool, input, .. }) => (Arc::clone(tool), Arc::clone(input)),
        _ => Default::default(),
    };
    let output = match act.result.and_then(|(_, seq)| texts.get(&seq)) {
        Some(EventBody::ToolReturned { output, .. }) => Arc::clone(output),
        _ => Arc::default(),
    };
    let Act { call, effects, compensates, undone_by: compensated_by, .. } = *act;
    let outcome = act.outcome();
    RecordedCall { call, tool, effects, input, outcome, output, compensates, compensated_by }
}

#[cfg(test)]
mod tests {
    use turnkeep_core::tool::SideEffects;

    use super::*;

    fn call(tool: &str, key: Option<&str>, input: &str) -> ToolCall {
        let effects = SideEffects::Irreversible;
        let (key, input, compensates) = (key.map(Into::into), input.into(), None);
        ToolCall { tool: tool.into(), effects, key, input, compensates }
    }

    #[test]
    fn an_act_is_named_by_its_key_or_else_by_its_input() {
        let name = |tool, key, input| name_of(&call(tool, key, input)).to_string();
        // These are in people's stores.
        assert_eq!(name("refund", Some("A-17"), "{}"), "26d26401babf24b544710a320229b129");
        assert_eq!(name("refund", None, "A-17"), "cbb0dfdf4fbec7869c14331ec37ca19e");
        assert_eq!(name("refund", Some("A-17"), "{}"), name("refund", Some("A-17"), "again"));
        let undo = |tool, key, undone| {
            let compensates = Some(Seq(undone));
            name_of(&ToolCall { compensates, ..call(tool, key, "{}") }).to_string()
        };
        assert_eq!(undo("cancel", None, 17), "7b4cab5043e7417293e9dff66ac575e3");
        assert_eq!(undo("cancel", None, 17), undo("drop", Some("A"), 17));
        assert_ne!(undo("cancel", None, 17), undo("cancel", None, 18));
        for (one, other) in [
            (("refund", Some("A-17"), ""), ("refund", None, "A-17")),
            (("refund", Some("A-17"), ""), ("refundA", Some("-17"), "")),
            (("refund", Some("A-17"), ""), ("pay", Some("A-17"), "")),
            (("refund", None, "17"), ("refund", None, "18")),
        ] {
            assert_ne!(name(one.0, one.1, one.2), name(other.0, other.1, other.2), "{one:?}");
        }
    }

    #[test]
    fn what_is_too_long_is_refused_or_cut() {
        let long = "x".repeat(NAME_BYTES_MAX);
        let check = |tool: &str, key: Option<&str>, input: &str, word: Option<&str>| {
            let refused = out_of_bounds(&call(tool, key, input));
            let told = refused.map(|reason| word.is_some_and(|word| reason.contains(word)));
            assert_eq!(told, word.map(|_| true), "{refused:?}");
        };
        check(&long, Some(&long), &"x".repeat(INPUT_BYTES_MAX), None);
        check(&format!("{long}x"), None, "", Some("tool"));
        check("", None, "", Some("tool"));
        check("a", Some(&format!("{long}x")), "", Some("key"));
        check("a", Some(""), "", Some("key"));
        check("a", None, &"x".repeat(INPUT_BYTES_MAX + 1), Some("65536"));

        let fits = "é".repeat(OUTPUT_BYTES_MAX / 2);
        assert_eq!(*within_bounds(&fits), *fits);
        // The cut would go through a character here.
        let cut = within_bounds(&format!("x{fits}"));
        assert!(cut.starts_with("xé") && cut.ends_with("é … (cut)"), "{}", cut.len());
        assert!((OUTPUT_BYTES_MAX - 1..=OUTPUT_BYTES_MAX).contains(&cut.len()), "{}", cut.len());
    }
}
