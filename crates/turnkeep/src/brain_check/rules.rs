//! Every rule that is checked: its name, what is expected, and where the contract says so.

/// Something that a brain has to do, or not to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Names it in JSON.
    pub(crate) name: &'static str,
    /// What is expected, as the end of a sentence about the brain.
    pub(crate) expected: &'static str,
    /// The section of docs/brains.md.
    section: &'static str,
}

impl Rule {
    /// Where the contract says so.
    pub(crate) fn see(&self) -> String {
        format!("docs/brains.md#{}", self.section)
    }
}

macro_rules! rules {
    ($($constant:ident: $name:literal, $expected:literal, $section:literal;)*) => {
        $(
            pub(super) const $constant: &Rule =
                &Rule { name: $name, expected: $expected, section: $section };
        )*
        /// All of them.
        #[cfg(test)]
        pub(super) const ALL: &[&Rule] = &[$($constant),*];
    };
}

rules! {
    FINISHES: "finishes", "answers a plain turn and finishes", "what-a-brain-must-do";
    MAIL: "mail", "goes on when mail waits, and takes it or leaves it", "what-a-brain-is-told";
    QUESTION: "question", "answers what shall become of a new message", "what-a-brain-is-told";
    FINISH_NOW: "finish_now", "ends when it is asked to finish", "what-a-brain-is-told";
    AGAIN: "again", "answers a second attempt of the same turn", "what-a-brain-must-do";
    PARALLEL: "parallel", "answers several turns at once without mixing them up", "the-contract";
    INTENDS: "intends", "asks before it acts, and tells what came of it", "what-a-brain-must-do";
    REFUSED: "refused", "goes on without the act when it is refused", "what-a-brain-is-told";
    MAIL_FIRST: "mail_first", "takes its mail when it is told to before an act",
        "what-a-brain-is-told";
    KNOWN: "known", "does nothing else where an act may have been done", "what-a-brain-must-do";
    RESUMED: "resumed", "does nothing new when it is run again after it acted",
        "what-a-brain-must-do";
    UNKNOWN: "unknown", "ignores fields and types that it doesn't know", "the-contract";
    SILENT: "silent", "says nothing after its last word, and ends its output within 2 seconds",
        "what-a-brain-must-do";
    INPUT_ENDS: "input_ends", "ends within 2 seconds when its standard input ends",
        "what-a-brain-must-do";
    BROKEN: "broken", "ends on input that is no JSON, without hanging", "the-contract";
    SIGNED: "signed", "answers 401 to what is not signed with its secret", "signatures";
    STALE: "stale", "answers 401 to a timestamp that is ten minutes away", "signatures";
    REPLAYED: "replayed", "answers 409 to a turn or a resume whose webhook-id it knows", "signatures";
    OLDER: "older", "answers 409 to an attempt that is not higher than the one it knows",
        "signatures";
    NEWER: "newer", "ends an older attempt when a newer one comes", "what-is-resumed";
    STREAMED: "streamed", "streams its answer as numbered events", "over-http";
    REPEATED: "repeated", "takes what it is told again with 2xx", "over-http";
    STREAM_RESUMED: "stream_resumed", "streams on from behind the last event, or says 404",
        "what-is-resumed";
    LOST: "lost", "answers 404, 409 or 410 about a turn that it doesn't have", "statuses";
    CANCELLED: "cancelled", "takes a cancel with 2xx and has the turn no more", "what-is-resumed";
    NONSENSE: "nonsense", "answers 400 to a body that is no JSON or has an unknown type, and goes on",
        "over-http";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_name_of_its_own_and_a_section() {
        let page = include_str!("../../../../docs/brains.md");
        let headings = page.lines().filter(|line| line.starts_with('#'));
        let anchors: Vec<String> = headings
            .map(|line| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-"))
            .collect();
        for (at, rule) in ALL.iter().enumerate() {
            assert!(anchors.iter().any(|anchor| anchor == rule.section), "{rule:?}");
            assert!(ALL[..at].iter().all(|before| before.name != rule.name), "{rule:?}");
        }
    }
}
