//! Lines of differently looking pieces, broken to a width.

use crate::text::{grapheme_width, graphemes, width};
use crate::theme::Look;

/// Some text of one look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// What stands there; no line breaks, nothing that steers a terminal.
    pub(crate) text: String,
    /// How it looks.
    pub(crate) look: Look,
}

/// One line of the screen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line(pub(crate) Vec<Piece>);

impl Line {
    /// A line of one piece.
    pub(crate) fn of(text: impl Into<String>, look: Look) -> Self {
        Self(vec![Piece { text: text.into(), look }])
    }

    /// The line with one more piece; what looks alike becomes one.
    pub(crate) fn push(&mut self, text: &str, look: Look) {
        if text.is_empty() {
            return;
        }
        match self.0.last_mut() {
            Some(last) if last.look == look => last.text.push_str(text),
            _ => self.0.push(Piece { text: text.to_owned(), look }),
        }
    }

    /// The line with one more piece.
    pub(crate) fn and(mut self, text: &str, look: Look) -> Self {
        self.push(text, look);
        self
    }

    /// How many columns it takes.
    #[cfg(test)]
    pub(crate) fn width(&self) -> usize {
        self.0.iter().map(|piece| width(&piece.text)).sum()
    }
}

/// What stands before the lines of a text: before the first, and before those that follow.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hang<'a> {
    /// Before the first line.
    pub(crate) first: &'a str,
    /// Before the others.
    pub(crate) rest: &'a str,
}

/// One word, or the space between two.
struct Word<'a> {
    pieces: Vec<(&'a str, Look)>,
    width: usize,
    blank: bool,
}

/// Breaks pieces between words, and within those that are wider than a line.
pub(crate) fn wrap(line: &Line, hang: Hang<'_>, hang_look: Look, columns: usize) -> Vec<Line> {
    let mut out = Vec::new();
    let mut begun = Line::default().and(hang.first, hang_look);
    let mut used = width(hang.first);
    // On a screen that leaves no room, the text matters more than what stands before it.
    let indent = if width(hang.rest) + 4 > columns { "" } else { hang.rest };
    if indent.is_empty() && used + 4 > columns {
        (begun, used) = (Line::default(), 0);
    }
    let columns = columns.max(2);
    let mut fresh = true;
    let mut blank: Option<Word<'_>> = None;
    for word in words(line) {
        if word.blank {
            if !fresh || out.is_empty() {
                blank = Some(word);
            }
            continue;
        }
        let space = blank.as_ref().map_or(0, |space| space.width);
        if !fresh && used + space + word.width > columns {
            out.push(std::mem::replace(&mut begun, Line::default().and(indent, hang_look)));
            used = width(indent);
            blank = None;
        }
        if let Some(space) = blank.take()
            && used + space.width < columns
        {
            put(&mut begun, &space);
            used += space.width;
        }
        if used + word.width <= columns {
            put(&mut begun, &word);
            used += word.width;
        } else {
            used = cut(&word, &mut begun, used, &mut out, (indent, hang_look), columns);
        }
        fresh = false;
    }
    out.push(begun);
    out
}

/// Breaks at any character, and keeps every space: for code.
pub(crate) fn wrap_hard(line: &Line, hang: Hang<'_>, hang_look: Look, columns: usize) -> Vec<Line> {
    let indent = if width(hang.rest) + 4 > columns { "" } else { hang.rest };
    let first = if indent.is_empty() { "" } else { hang.first };
    let mut out = Vec::new();
    let mut begun = Line::default().and(first, hang_look);
    let pieces: Vec<_> = line.0.iter().map(|piece| (piece.text.as_str(), piece.look)).collect();
    let word = Word { pieces, width: 0, blank: false };
    cut(&word, &mut begun, width(first), &mut out, (indent, hang_look), columns.max(2));
    out.push(begun);
    out
}

fn put(line: &mut Line, word: &Word<'_>) {
    for (text, look) in &word.pieces {
        line.push(text, *look);
    }
}

/// Puts a word that is wider than the line, character by character. Says how full the last line is.
fn cut(
    word: &Word<'_>,
    begun: &mut Line,
    mut used: usize,
    out: &mut Vec<Line>,
    (indent, hang_look): (&str, Look),
    columns: usize,
) -> usize {
    for (text, look) in &word.pieces {
        for grapheme in graphemes(text) {
            let wide = grapheme_width(grapheme);
            if used + wide > columns {
                out.push(std::mem::replace(begun, Line::default().and(indent, hang_look)));
                used = width(indent);
            }
            begun.push(grapheme, *look);
            used += wide;
        }
    }
    used
}

/// The words of a line, and the spaces between them; a word may hold several looks.
fn words(line: &Line) -> Vec<Word<'_>> {
    let mut words: Vec<Word<'_>> = Vec::new();
    for piece in &line.0 {
        let mut rest = piece.text.as_str();
        while let Some(first) = rest.chars().next() {
            let blank = first == ' ';
            let wide = !blank && is_wide(first);
            let end = rest.char_indices().skip(1).find(|(_, one)| {
                (*one == ' ') != blank || (!blank && (wide || is_wide(*one)) && breaks_before(*one))
            });
            let (text, behind) = rest.split_at(end.map_or(rest.len(), |(at, _)| at));
            rest = behind;
            let breakable = wide && breaks_before(first);
            match words.last_mut() {
                Some(last) if last.blank == blank && (blank || !(breakable || ends_wide(last))) => {
                    last.width += width(text);
                    last.pieces.push((text, piece.look));
                }
                _ => {
                    let pieces = vec![(text, piece.look)];
                    words.push(Word { pieces, width: width(text), blank });
                }
            }
        }
    }
    words
}

fn ends_wide(word: &Word<'_>) -> bool {
    let last = word.pieces.last().and_then(|(text, _)| text.chars().next_back());
    last.is_some_and(is_wide)
}

/// Scripts that are written without spaces: a line may end between any two of their characters.
fn is_wide(character: char) -> bool {
    matches!(character, '\u{2e80}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}' | '\u{ff00}'..='\u{ffdc}' | '\u{20000}'..='\u{3fffd}')
}

/// Marks that a line doesn't begin with.
fn breaks_before(character: char) -> bool {
    !matches!(character, '、' | '。' | '，' | '．' | '！' | '？' | '）' | '」' | '』' | '：' | '；')
        && unicode_width::UnicodeWidthChar::width(character).unwrap_or(0) > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[Line]) -> Vec<String> {
        lines.iter().map(|line| line.0.iter().map(|piece| piece.text.as_str()).collect()).collect()
    }

    fn check(text: &str, columns: usize, expect: &[&str]) {
        let line = Line::of(text, Look::Plain);
        let lines = wrap(&line, Hang::default(), Look::Plain, columns);
        assert_eq!(texts(&lines), expect, "{text} in {columns}");
        assert!(lines.iter().all(|line| line.width() <= columns));
    }

    #[test]
    fn lines_break_between_words() {
        check("", 10, &[""]);
        check("one two three", 8, &["one two", "three"]);
        check("one two three", 80, &["one two three"]);
        check("  two spaces", 80, &["  two spaces"]);
        check("a   b", 80, &["a   b"]);
        check("abcdefghij", 4, &["abcd", "efgh", "ij"]);
        check("a bcdefghij", 4, &["a", "bcde", "fghi", "j"]);
        check("ends with spaces   ", 9, &["ends with", "spaces"]);
    }

    #[test]
    fn wide_characters_break_anywhere_but_before_a_stop() {
        check("日本語の文章。", 8, &["日本語の", "文章。"]);
        check("日本語。", 6, &["日本", "語。"]);
        check("ab日本", 4, &["ab日", "本"]);
        check("👩\u{200d}🚀👩\u{200d}🚀", 3, &["👩\u{200d}🚀", "👩\u{200d}🚀"]);
    }

    #[test]
    fn what_hangs_before_a_text_gives_way_to_it() {
        let line = Line::of("one two three", Look::Plain);
        let hang = Hang { first: "- ", rest: "  " };
        assert_eq!(texts(&wrap(&line, hang, Look::Dim, 9)), ["- one two", "  three"]);
        assert_eq!(texts(&wrap(&line, hang, Look::Dim, 4)), ["one", "two", "thre", "e"]);
        let code = Line::of("a  b", Look::Code);
        let hang = Hang { first: "│ ", rest: "│ " };
        assert_eq!(texts(&wrap_hard(&code, hang, Look::Dim, 80)), ["│ a  b"]);
    }
}
