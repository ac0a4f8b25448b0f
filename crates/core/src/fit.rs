//! Fits a reply to its channel: markdown stripped where it isn't rendered, long text split.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::policy::ChannelFacts;

/// The parts of a reply, each short enough for the channel, in order. Empty text gives none.
#[must_use]
pub fn fit(text: &Arc<str>, facts: &ChannelFacts) -> SmallVec<[Arc<str>; 1]> {
    let whole = text;
    let plain;
    let text = if facts.markdown {
        &**text
    } else {
        plain = strip_markdown(text);
        &plain
    };
    let text = text.trim();
    // A text that needs no fitting is shared, not copied.
    let share = |part: &str| {
        if part.len() == whole.len() && facts.markdown { Arc::clone(whole) } else { part.into() }
    };
    let limit = facts.chars_max.map_or(usize::MAX, |limit| limit as usize);
    let mut parts = SmallVec::new();
    let mut rest = text;
    while !rest.is_empty() {
        // No text has more characters than bytes.
        let at = if rest.len() <= limit { rest.len() } else { split_at(rest, limit) };
        let part = rest[..at].trim_end();
        if !part.is_empty() {
            parts.push(share(part));
        }
        rest = rest[at..].trim_start();
    }
    parts
}

/// Where to cut: at a paragraph, else a line, a sentence, a word, else in the middle of one.
fn split_at(text: &str, chars_max: usize) -> usize {
    let Some((hard, _)) = text.char_indices().nth(chars_max) else { return text.len() };
    let window = &text[..hard];
    // A cut in the first third would waste the part, so the next finer kind is tried.
    let good = |at: &usize| *at > hard / 3;
    let sentence =
        || [". ", "! ", "? "].iter().filter_map(|end| window.rfind(end)).max().map(|at| at + 1);
    window
        .rfind("\n\n")
        .filter(good)
        .or_else(|| window.rfind('\n').filter(good))
        .or_else(|| sentence().filter(good))
        .or_else(|| {
            // A word that ends exactly at the limit is a good cut too.
            let ends_here = text[hard..].starts_with(char::is_whitespace);
            if ends_here { Some(hard) } else { window.rfind(char::is_whitespace) }
        })
        .filter(|at| *at > 0)
        .unwrap_or(hard)
}

/// Markdown read as plain text: marks go, words and link addresses stay.
fn strip_markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        if !out.is_empty() {
            out.push('\n');
        }
        if fenced {
            out.push_str(line);
        } else {
            strip_line(line, &mut out);
        }
    }
    out
}

fn strip_line(line: &str, out: &mut String) {
    let hashes = line.trim_start_matches('#');
    let line =
        if hashes.len() < line.len() { hashes.strip_prefix(' ').unwrap_or(line) } else { line };
    let line = line.strip_prefix("> ").unwrap_or(line);
    let mut rest = line;
    while let Some(at) = rest.find(['*', '`', '[', '_']) {
        out.push_str(&rest[..at]);
        let tail = &rest[at..];
        if let Some((code, after)) = code_span(tail) {
            out.push_str(code);
            rest = after;
            continue;
        }
        if let Some((label, address, after)) = link(tail) {
            out.push_str(label);
            out.push_str(" (");
            out.push_str(address);
            out.push(')');
            rest = after;
            continue;
        }
        let mark = tail.chars().next().unwrap_or(' ');
        let marks = tail.len() - tail.trim_start_matches(mark).len();
        let before = out.chars().next_back();
        let after = tail[marks..].chars().next();
        if is_mark(mark, before, after) {
            rest = &tail[marks..];
        } else {
            out.push_str(&tail[..marks]);
            rest = &tail[marks..];
        }
    }
    out.push_str(rest);
}

/// Whether this is emphasis or code rather than a sign that stands for itself (`2 * 3`, `a_b`).
fn is_mark(mark: char, before: Option<char>, after: Option<char>) -> bool {
    let word = |side: Option<char>| side.is_some_and(char::is_alphanumeric);
    let space = |side: Option<char>| side.is_none_or(char::is_whitespace);
    match mark {
        '[' => false,
        '_' => !(word(before) && word(after) || space(before) && space(after)),
        '`' => true,
        _ => !(space(before) && space(after)),
    }
}

/// The code that begins here, as `CommonMark` has it, and what comes after it. Nothing in it is a mark:
/// whoever is asked whether `rm *` may be called must read just that.
fn code_span(tail: &str) -> Option<(&str, &str)> {
    let run = |text: &str| text.len() - text.trim_start_matches('`').len();
    let fence = run(tail);
    if fence == 0 {
        return None;
    }
    let inner = &tail[fence..];
    let mut end = inner.find('`')?;
    while run(&inner[end..]) != fence {
        end += run(&inner[end..]);
        end += inner[end..].find('`')?;
    }
    let (code, after) = (&inner[..end], &inner[end + fence..]);
    let bare = code.strip_prefix(' ').and_then(|code| code.strip_suffix(' '));
    Some((bare.filter(|code| !code.trim_matches(' ').is_empty()).unwrap_or(code), after))
}

fn link(tail: &str) -> Option<(&str, &str, &str)> {
    let inner = tail.strip_prefix('[')?;
    let (label, rest) = inner.split_once("](")?;
    let (address, after) = rest.split_once(')')?;
    (!label.contains('[') && !address.contains(char::is_whitespace))
        .then_some((label, address, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::channel_facts;
    use proptest::prelude::*;

    fn check(channel: &str, text: &str, expect: &[&str]) {
        let parts = fit(&text.into(), channel_facts(channel).unwrap());
        assert_eq!(parts.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), expect, "{text}");
    }

    #[test]
    fn markdown_is_stripped_where_it_is_not_rendered() {
        check(
            "signal",
            "# Title\n\n**bold** and `code`, 2 * 3, snake_case",
            &["Title\n\nbold and code, 2 * 3, snake_case"],
        );
        check(
            "signal",
            "see [the page](https://a.example/x_y)",
            &["see the page (https://a.example/x_y)"],
        );
        check(
            "signal",
            "May I call `a__b` (server shop)? note: ``\"keep __init__ and `x`\"``, path: \
             `\"/data/*.bak, /data/*.tmp\"`, to: `\"[anna@example.org](https://evil.example)\"`",
            &["May I call a__b (server shop)? note: \"keep __init__ and `x`\", path: \
               \"/data/*.bak, /data/*.tmp\", to: \"[anna@example.org](https://evil.example)\""],
        );
        check("signal", "`` `a ``, ` `, ```b`` c``` `d", &["`a,  , b`` c d"]);
        check("web", "**bold**", &["**bold**"]);
        check("web", "", &[]);
    }

    #[test]
    fn long_text_is_split_at_the_best_place() {
        let first = "a ".repeat(60);
        let text =
            format!("{first}end. Then more words that do not fit into the first part at all");
        let parts = fit(&text.as_str().into(), channel_facts("sms").unwrap());
        assert_eq!(&*parts[0], format!("{first}end."));
        assert_eq!(parts.len(), 2);
        check("sms", &"x".repeat(161), &[&"x".repeat(160), "x"]);
    }

    proptest! {
        #[test]
        fn code_is_kept_as_it_stands(code in "[a`*_\\[\\]() #>\\\\]{1,40}") {
            prop_assume!(!code.trim_matches(' ').is_empty());
            let longest = code.split(|one| one != '`').map(str::len).max().unwrap_or(0);
            let fence = "`".repeat(longest + 1);
            let text = format!("x {fence} {code} {fence} y");
            let parts = fit(&text.into(), channel_facts("signal").unwrap());
            prop_assert_eq!(&*parts[0], format!("x {code} y"));
        }

        #[test]
        fn parts_fit_and_lose_no_word(text in "[a-zé .!?\n]{0,900}") {
            let facts = channel_facts("sms").unwrap();
            let parts = fit(&text.as_str().into(), facts);
            prop_assert!(parts.iter().all(|part| part.chars().count() <= 160 && !part.is_empty()));
            let squeeze = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(squeeze(&parts.concat()), squeeze(&text));
        }
    }
}
