//! Whether something said in a group is said to us.

use super::routing::{Group, Trigger};

/// What a message in a group is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Addressed {
    /// It is for us.
    Yes,
    /// It is not.
    No,
    /// Somebody has to be asked.
    Perhaps,
}

/// Looks at what was said. Whoever names us or refers to us is heard, whatever the trigger is.
pub(super) fn addressed(
    group: &Group,
    said: &str,
    mentions_us: bool,
    quotes_us: bool,
) -> Addressed {
    if mentions_us || quotes_us || group.names.iter().any(|name| names(said, name)) {
        return Addressed::Yes;
    }
    match &group.trigger {
        Trigger::Always => Addressed::Yes,
        Trigger::Regex(pattern) if pattern.is_match(said) => Addressed::Yes,
        Trigger::Mention | Trigger::Regex(_) => Addressed::No,
        Trigger::Llm(_) => Addressed::Perhaps,
    }
}

/// Whether a name stands in a text as words of its own, in any case.
fn names(text: &str, name: &str) -> bool {
    let (text, name) = (text.to_lowercase(), name.to_lowercase());
    if name.is_empty() {
        return false;
    }
    let is_word = |character: Option<char>| character.is_some_and(char::is_alphanumeric);
    text.match_indices(&name).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + name.len()..]);
        !is_word(before.chars().next_back()) && !is_word(after.chars().next())
    })
}

/// What is left of a message behind the mention that it begins with.
pub(super) fn without_mention<'t>(group: &Group, said: &'t str, mentions_us: bool) -> &'t str {
    let said = said.trim();
    let bare = said.strip_prefix('@').unwrap_or(said);
    for name in &group.names {
        let begins = bare.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
        if begins {
            let rest = bare[name.len()..].trim_start_matches([':', ',']);
            if rest.starts_with(char::is_whitespace) {
                return rest.trim();
            }
        }
    }
    // A real mention is spelt out as the provider has it: one word, a number or another id.
    match said.split_once(char::is_whitespace) {
        Some((_, rest)) if mentions_us && said.starts_with('@') => rest.trim(),
        _ => said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use turnkeep_core::Trust;

    fn group(trigger: Trigger) -> Group {
        Group {
            name: "family".into(),
            tenant: "default".into(),
            channel: "signal".into(),
            id: "g".into(),
            agent: None,
            trigger,
            names: vec!["Turnkeep".to_owned(), "tk".to_owned()],
            ceiling: Trust::Familiar,
        }
    }

    #[test]
    fn each_trigger_hears_what_it_should() {
        let regex = || Trigger::Regex(regex::Regex::new("(?i)^bot").unwrap());
        let llm = || Trigger::Llm("judge".into());
        let check = |trigger: Trigger, said: &str, expect: Addressed| {
            let group = group(trigger);
            assert_eq!(addressed(&group, said, false, false), expect, "{said}");
            assert_eq!(addressed(&group, said, true, false), Addressed::Yes, "{said}");
            assert_eq!(addressed(&group, said, false, true), Addressed::Yes, "{said}");
        };
        check(Trigger::Mention, "hello", Addressed::No);
        check(Trigger::Mention, "hello turnkeep!", Addressed::Yes);
        check(Trigger::Mention, "TK, are you there", Addressed::Yes);
        check(Trigger::Mention, "what is a turnkeeper", Addressed::No);
        check(Trigger::Mention, "hatk", Addressed::No);
        check(Trigger::Always, "hello", Addressed::Yes);
        check(regex(), "Bot, hello", Addressed::Yes);
        check(regex(), "robot, hello", Addressed::No);
        check(regex(), "robot tk", Addressed::Yes);
        check(llm(), "hello", Addressed::Perhaps);
        check(llm(), "hello tk", Addressed::Yes);
    }

    #[test]
    fn a_mention_before_a_command_is_no_part_of_it() {
        let group = group(Trigger::Mention);
        let check = |said: &str, mentions_us: bool, expect: &str| {
            assert_eq!(without_mention(&group, said, mentions_us), expect, "{said}");
        };
        check("/stop", false, "/stop");
        check("@Turnkeep /stop", false, "/stop");
        check("turnkeep: /stop", false, "/stop");
        check("tk,  /stop ", false, "/stop");
        check("@+4915100 /stop", true, "/stop");
        check("@+4915100 /stop", false, "@+4915100 /stop");
        check("@+4915100 what does /new", true, "what does /new");
        check("turnkeeper /stop", false, "turnkeeper /stop");
        check("tkü /stop", false, "tkü /stop");
    }
}
