//! Errors as a person may see them: one line, bounded, without what could steer a terminal.

use std::error::Error;

/// Longest part of a server's error that is passed on.
const CHARS_MAX: usize = 300;

/// One line of bounded length, without characters that could steer whoever shows it.
pub(crate) fn short(text: &str) -> String {
    let parts = |one: char| one.is_whitespace() || one.is_control();
    let mut words = text.split(parts).filter(|word| !word.is_empty());
    let mut line = words.next().unwrap_or_default().to_owned();
    for word in words {
        line.push(' ');
        line.push_str(word);
        if line.len() > 4 * CHARS_MAX {
            break;
        }
    }
    match line.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

/// An error and its causes, each said once: some layers repeat the one beneath them.
pub(crate) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

/// What lies beneath an error, which itself names the address.
pub(super) fn beneath(error: &reqwest::Error) -> String {
    let text = error.source().map(causes).unwrap_or_default();
    if !text.is_empty() {
        return text;
    }
    if error.is_timeout() { "timed out".to_owned() } else { "the connection broke".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cause_is_told_twice() {
        #[derive(Debug)]
        struct Layer(&'static str, Option<Box<Layer>>);
        impl std::fmt::Display for Layer {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(self.0)
            }
        }
        impl Error for Layer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                self.1.as_ref().map(|beneath| &**beneath as _)
            }
        }
        let layers = |words: [&'static str; 3]| {
            let [one, two, three] = words;
            causes(&Layer(one, Some(Box::new(Layer(two, Some(Box::new(Layer(three, None))))))))
        };
        assert_eq!(layers(["lost", "sending", "refused"]), "lost: sending: refused");
        assert_eq!(layers(["sending", "sending", "refused"]), "sending: refused");
        assert_eq!(layers(["tcp: refused", "refused", "refused"]), "tcp: refused");
    }

    #[test]
    fn what_a_server_says_becomes_one_short_line() {
        assert_eq!(short("<html>\n  Bad   gateway"), "<html> Bad gateway");
        assert_eq!(short("\u{1b}[31mred\u{9b}2J"), "[31mred 2J");
        assert_eq!(short(""), "");
        assert_eq!(short(&"é".repeat(5000)), format!("{}…", "é".repeat(CHARS_MAX)));
    }
}
