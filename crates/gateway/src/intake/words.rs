//! What is heard as text for an agent: who said it, what it refers to, what came along.
//!
//! Names and texts come from strangers. What could turn the direction of words, hide in them or
//! look like another line is taken out of names; texts keep what a text may hold.

use std::fmt::Write as _;

use turnkeep_core::ports::intake::{Attachment, Quoted};

/// The longest name that is shown, in characters.
const NAME_CHARS_MAX: usize = 40;
/// So much is shown of what a message refers to, in characters.
const QUOTE_CHARS_MAX: usize = 200;
/// So many attachments are listed; the rest are counted.
const ATTACHMENTS_MAX: usize = 20;
/// The longest name of a file that is shown, in characters.
const FILE_CHARS_MAX: usize = 80;

/// Stands before the hash of an attachment.
const HASH_MARK: &str = "sha256 ";

/// What takes no room, or turns the direction of what stands around it.
const fn is_unseen(character: char) -> bool {
    matches!(character,
        '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
        | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}' | '\u{2800}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}'
        | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF9}'..='\u{FFFC}' | '\u{E0000}'..='\u{E0FFF}')
}

/// One line of what can be seen, cut to so many characters.
fn line(text: &str, chars_max: usize) -> String {
    let seen = text.chars().filter(|character| !is_unseen(*character));
    let plain = seen.map(|character| if character.is_control() { ' ' } else { character });
    let plain: String = plain.collect();
    let mut line = String::new();
    for word in plain.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    match line.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", line[..end].trim_end()),
        None => line,
    }
}

/// A name as it may be shown; none if nothing is left of it.
pub(super) fn name(text: &str) -> Option<String> {
    // A colon ends the name where it stands before what was said.
    let cleaned = line(&text.replace([':', '：'], " "), NAME_CHARS_MAX);
    (!cleaned.is_empty()).then_some(cleaned)
}

/// A text without control characters, which no message may hold.
pub(super) fn text(text: &str) -> String {
    let keep = |character: &char| !character.is_control() || matches!(character, '\n' | '\t');
    text.replace("\r\n", "\n").replace('\r', "\n").chars().filter(keep).collect()
}

/// The line that stands before a message that refers to another one.
fn quote(quoted: &Quoted) -> Option<String> {
    let shown = line(&quoted.text, QUOTE_CHARS_MAX);
    (!shown.is_empty()).then(|| format!("> {shown}\n"))
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1000 => format!("{bytes} bytes"),
        1000..1_000_000 => format!("{} kB", bytes.div_ceil(1000)),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
    }
}

/// `[photo.jpg, image/jpeg, 120 kB, sha256 …]`
fn attachment(attachment: &Attachment) -> String {
    let Attachment { name, media_type, bytes, hash, left_out } = attachment;
    let name = name.as_deref().map(|name| line(name, FILE_CHARS_MAX)).unwrap_or_default();
    let name = if name.is_empty() { "a file".to_owned() } else { name };
    let mut shown = format!("[{name}, {}, {}", line(media_type, FILE_CHARS_MAX), size(*bytes));
    // A String takes everything.
    let _ = match (hash, left_out) {
        (Some(hash), _) => write!(shown, ", {HASH_MARK}{}]", line(hash, 64)),
        (None, Some(why)) => write!(shown, ", not stored: {why}]"),
        (None, None) => write!(shown, ", not stored]"),
    };
    shown
}

/// Everything that one message says, but who said it; empty if it says nothing.
pub(super) fn message(said: &str, quoted: Option<&Quoted>, attachments: &[Attachment]) -> String {
    let mut whole = text(said).trim().to_owned();
    for one in attachments.iter().take(ATTACHMENTS_MAX) {
        if !whole.is_empty() {
            whole.push('\n');
        }
        whole.push_str(&attachment(one));
    }
    if let Some(more) = attachments.len().checked_sub(ATTACHMENTS_MAX).filter(|more| *more > 0) {
        let _ = write!(whole, "\n[and {more} more]");
    }
    match quoted.and_then(quote) {
        Some(quote) if !whole.is_empty() => quote + &whole,
        _ => whole,
    }
}

/// An edit, as a message of its own.
pub(super) fn edit(said: &str) -> String {
    let now = text(said);
    let now = now.trim();
    if now.is_empty() { String::new() } else { format!("(edit of an earlier message) {now}") }
}

/// A sign put to a message.
pub(super) fn reaction(sign: &str, of: &str) -> String {
    format!("(reacted with {} to: …{})", line(sign, 16), line(tail(of), 16))
}

/// The end of a name, which tells it from its neighbours.
fn tail(name: &str) -> &str {
    let chars = name.chars().count();
    name.char_indices().nth(chars.saturating_sub(6)).map_or("", |(at, _)| &name[at..])
}

/// Whether a sign says yes or no, whatever its colour.
pub(super) fn yes_or_no(sign: &str) -> Option<bool> {
    let bare = |character: &char| {
        !matches!(character, '\u{1F3FB}'..='\u{1F3FF}') && !is_unseen(*character)
    };
    match sign.chars().filter(bare).collect::<String>().as_str() {
        "👍" => Some(true),
        "👎" => Some(false),
        _ => None,
    }
}

/// What somebody said in a group, with who said it. Further lines stand in from the margin, so that
/// none of them looks like something that somebody else said.
pub(super) fn said_by(name: &str, said: &str) -> String {
    format!("{name}: {}", said.replace('\n', "\n  "))
}

/// What was said, of a message that was made here: without who said it, what it refers to and what
/// came along.
pub(crate) fn bare(message: &str, in_group: bool) -> String {
    let said = match message.split_once(": ") {
        Some((_, said)) if in_group => said,
        _ => message,
    };
    let lines = said.lines().filter(|line| !line.starts_with("> "));
    line(&lines.collect::<Vec<_>>().join(" "), QUOTE_CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_one_visible_line() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(name(text).as_deref(), expect, "{text:?}");
        };
        check("Alice", Some("Alice"));
        check("  Al\u{200B}ice\u{202E}  B. ", Some("Alice B."));
        check("Bob: I am Alice", Some("Bob I am Alice"));
        check("a\nowner: b", Some("a owner b"));
        check("\u{200B}\u{202E}\u{2066} \t", None);
        check("", None);
        check("Zoë 🦊", Some("Zoë 🦊"));
        let long = name(&"x".repeat(500)).unwrap();
        assert_eq!(long, format!("{}…", "x".repeat(NAME_CHARS_MAX)));
    }

    #[test]
    fn a_message_tells_what_came_along() {
        let photo = Attachment {
            name: Some("pho\u{202E}to.jpg".into()),
            media_type: "image/jpeg".into(),
            bytes: 119_001,
            hash: Some("ab12".into()),
            left_out: None,
        };
        let large = Attachment {
            name: None,
            media_type: "video/mp4".into(),
            bytes: 31_460_000,
            hash: None,
            left_out: Some("it is too large"),
        };
        let both = [photo.clone(), large];
        let shown = "[photo.jpg, image/jpeg, 120 kB, sha256 ab12]\n[a file, video/mp4, 31.4 MB, not \
                     stored: it is too large]";
        assert_eq!(message("look", None, &both), format!("look\n{shown}"));
        assert_eq!(message(" \u{7} ", None, &both), shown);
        let many = vec![photo; 22];
        assert!(message("x", None, &many).ends_with("\n[and 2 more]"));
        assert_eq!(message("", None, &[]), "");
    }

    #[test]
    fn a_quote_is_one_line_before_the_rest() {
        let quoted =
            |text: &str| Quoted { message_id: "1".into(), author: "+49".into(), text: text.into() };
        assert_eq!(message("yes", Some(&quoted("one\ntwo")), &[]), "> one two\nyes");
        assert_eq!(message("yes", Some(&quoted("")), &[]), "yes");
        assert_eq!(message("", Some(&quoted("one")), &[]), "");
        let long = message("yes", Some(&quoted(&"y".repeat(999))), &[]);
        assert_eq!(long, format!("> {}…\nyes", "y".repeat(QUOTE_CHARS_MAX)));
        assert_eq!(bare(&said_by("Al", &message("yes", Some(&quoted("a")), &[])), true), "yes");
        assert_eq!(bare("a: b", false), "a: b");
    }

    #[test]
    fn texts_lose_what_no_message_may_hold() {
        assert_eq!(text("a\r\nb\rc\u{0}\u{7}\td"), "a\nb\nc\td");
        assert_eq!(edit(" new "), "(edit of an earlier message) new");
        assert_eq!(edit("\u{7}"), "");
    }

    proptest! {
        /// Whatever somebody calls themselves, it is one line without what hides or ends it.
        #[test]
        fn no_name_looks_like_something_else(typed in any::<String>()) {
            if let Some(name) = name(&typed) {
                prop_assert!(!name.is_empty() && name.chars().count() <= NAME_CHARS_MAX + 1);
                let hides = |one: char| one.is_control() || is_unseen(one) || one == ':';
                prop_assert!(!name.contains(hides), "{name:?}");
            }
        }

        /// Whatever is heard, the text that is made of it passes the ingress.
        #[test]
        fn no_text_holds_what_no_message_may(
            said in any::<String>(), quoted in any::<String>(), file in any::<String>(),
        ) {
            let quoted = Quoted { message_id: "1".into(), author: "a".into(), text: quoted.into() };
            let file = Attachment {
                name: Some(file.as_str().into()),
                media_type: file.as_str().into(),
                bytes: 1,
                hash: Some(file.as_str().into()),
                left_out: None,
            };
            let texts =
                [message(&said, Some(&quoted), &[file]), edit(&said), reaction(&said, &said)];
            for text in texts {
                let bad = |one: char| one.is_control() && !matches!(one, '\n' | '\t');
                prop_assert!(!text.contains(bad), "{text:?}");
                prop_assert!(bare(&text, true).chars().count() <= QUOTE_CHARS_MAX + 1);
            }
        }
    }

    #[test]
    fn signs_say_yes_and_no_in_every_colour() {
        assert_eq!(yes_or_no("👍"), Some(true));
        assert_eq!(yes_or_no("👍🏽"), Some(true));
        assert_eq!(yes_or_no("👎🏿\u{FE0F}"), Some(false));
        assert_eq!(yes_or_no("❤️"), None);
        assert_eq!(reaction("❤️", "1699999123456"), "(reacted with ❤ to: …123456)");
        assert_eq!(reaction("❤", ""), "(reacted with ❤ to: …)");
    }
}
