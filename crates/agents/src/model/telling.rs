//! What the model is told of its calls, in words and within bounds.

use serde_json::json;
use turnkeep_core::ports::agent::RecordedCall;
use turnkeep_core::tool::{SideEffects, ToolOutcome};

/// The longest result that a model is given.
pub(super) const RESULT_BYTES_MAX: usize = 64 << 10;
/// The longest note of what earlier attempts did, and the longest text of one call in it.
const NOTE_BYTES_MAX: usize = 32 << 10;
const NOTE_TEXT_BYTES_MAX: usize = 2 << 10;
/// Stands at the end of what was cut.
const CUT: &str = " … (cut)";

/// No tool may be called any more.
pub(super) const ANSWER_NOW: &str = "Note of the system, not of the user: no tool can be called any \
    more in this turn. Answer now, with what you have; say what could not be done.";
/// A call of a line behind one that came to nothing because the user wrote.
pub(super) const MAIL_FIRST: &str =
    "not done: new messages of the user arrived first. Read them and decide again.";
/// The same where the user had allowed the call itself.
pub(super) const ALLOWED_BUT_MAIL: &str = "not done yet: the user allowed it, but wrote more at the same time. Read that and decide \
     again: if it still is to be done, call it again, and the user is asked once more.";
/// A message has to be read first that can't be had.
pub(super) const MAIL_HELD: &str = "not done: a message that came before is still being checked or decided on, and can't be read \
     yet. Try again later, or tell the user that it was not done.";
/// The same where the user was asked and said something else.
pub(super) const DECIDE_AGAIN: &str =
    "not done: the user said something about another call first. Decide again.";
/// No call is made any more.
pub(super) const FINISHING: &str = "not done: the turn has to end now, without new calls.";
/// What is on record for a call that was let through although nobody had said yes to it.
pub(super) const NOT_ALLOWED_YET: &str = "not called: nobody has allowed it yet";
/// An output is none.
const NO_OUTPUT: &str = "(no output)";

/// A text of at most so many bytes, with a mark where it was cut.
pub(super) fn within(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let mut end = bytes_max.saturating_sub(CUT.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{CUT}", &text[..end])
}

/// The result of a call that was made: its content, and whether it is an error.
pub(super) fn result(effects: SideEffects, outcome: ToolOutcome, output: &str) -> (String, bool) {
    let output = if output.is_empty() { NO_OUTPUT } else { output };
    let output = within(output, RESULT_BYTES_MAX);
    match outcome {
        ToolOutcome::Done => (output, false),
        ToolOutcome::Failed => (format!("it was not done: {output}"), true),
        ToolOutcome::Unknown if effects == SideEffects::Pure => (output, true),
        ToolOutcome::Unknown => (
            format!(
                "nobody knows whether it was done: {output}\nDon't call it again for the same; \
                 tell the user that it is not known."
            ),
            true,
        ),
    }
}

/// What stands in for the result of a call that was not made, because the act is known.
pub(super) fn known(before: &RecordedCall) -> (String, bool) {
    let output = within(&before.output, RESULT_BYTES_MAX);
    match before.outcome {
        ToolOutcome::Done => {
            (format!("it was done before, and not again now. What it said then: {output}"), false)
        }
        ToolOutcome::Failed => (format!("it was tried before and not done: {output}"), true),
        ToolOutcome::Unknown => (
            "it was begun before, and nobody knows whether it was done; it was not called again. \
             Tell the user that it is not known."
                .to_owned(),
            true,
        ),
    }
}

/// What earlier attempts at this turn did, for the model to go on from there; none if nothing.
pub(super) fn recorded(calls: &[RecordedCall]) -> Option<String> {
    if calls.is_empty() {
        return None;
    }
    let mut note = "Note of the system, not of the user: an earlier attempt at this answer was \
                    interrupted. It called these tools already; go on from there and don't call \
                    them again for the same. \"unknown\" means that nobody knows whether it was \
                    done: tell the user so."
        .to_owned();
    for (at, call) in calls.iter().enumerate() {
        let line = json!({
            "tool": call.tool,
            "arguments": within(&call.input, NOTE_TEXT_BYTES_MAX),
            "outcome": call.outcome.as_str(),
            "output": within(&call.output, NOTE_TEXT_BYTES_MAX),
            "taken_back": call.compensated_by.is_some(),
        });
        let line = format!("\n{line}");
        if note.len() + line.len() > NOTE_BYTES_MAX {
            note.push_str(&format!("\n… and {} more", calls.len() - at));
            break;
        }
        note.push_str(&line);
    }
    Some(note)
}

#[cfg(test)]
mod tests {
    use super::*;
    use turnkeep_core::ids::Seq;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(within("äöü", 6), "äöü");
        let cut = within(&"ä".repeat(100), 20);
        assert!(cut.ends_with(CUT) && cut.starts_with('ä') && cut.len() <= 20, "{cut}");
        let (content, _) = result(SideEffects::Pure, ToolOutcome::Done, &"x".repeat(1 << 20));
        assert_eq!(content.len(), RESULT_BYTES_MAX);
    }

    #[test]
    fn the_note_of_what_was_done_is_bounded() {
        let call = RecordedCall {
            call: Seq(1),
            tool: "refund".into(),
            effects: SideEffects::Irreversible,
            input: "x".repeat(64 << 10).into(),
            outcome: ToolOutcome::Unknown,
            output: "y".repeat(64 << 10).into(),
            compensates: None,
            compensated_by: None,
        };
        assert_eq!(recorded(&[]), None);
        let note = recorded(&vec![call; 256]).unwrap();
        assert!(note.len() < NOTE_BYTES_MAX + 100 && note.contains("\"outcome\":\"unknown\""));
        assert!(note.ends_with(" more"), "{}", &note[note.len() - 30..]);
    }
}
