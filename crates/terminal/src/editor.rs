//! The input: some lines of text, a cursor among characters as people count them, and what was
//! said before.

use std::ops::Range;

use unicode_segmentation::GraphemeCursor;

use crate::text::{grapheme_width, graphemes};

/// The longest text that can be typed or pasted, in bytes.
pub(crate) const INPUT_BYTES_MAX: usize = 256 * 1024;

/// How many sent texts are kept for one session.
const HISTORY_MAX: usize = 100;

/// How many columns a tab takes in the input.
const TAB: usize = 4;

/// A text that is being written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Editor {
    text: String,
    /// Where the cursor stands, in bytes; always between two characters.
    at: usize,
    /// The column that moving up and down aims at.
    goal: Option<usize>,
    /// What was cut last.
    cut: String,
    history: Vec<String>,
    /// Which of the history is shown, and what stood there before.
    recalled: Option<(usize, String)>,
}

impl Editor {
    /// The text as it is.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether nothing was typed.
    pub(crate) const fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Puts a text where the cursor stands. Says whether all of it found room.
    pub(crate) fn insert(&mut self, text: &str) -> bool {
        let text = typed(text);
        let mut room = INPUT_BYTES_MAX.saturating_sub(self.text.len()).min(text.len());
        while !text.is_char_boundary(room) {
            room -= 1;
        }
        self.text.insert_str(self.at, &text[..room]);
        self.at += room;
        self.settle();
        room == text.len()
    }

    /// Replaces all of it; the cursor stands behind it.
    pub(crate) fn set(&mut self, text: &str) {
        self.text.clear();
        self.at = 0;
        self.insert(text);
    }

    /// Takes the text out, for sending; it goes into the history.
    pub(crate) fn take(&mut self) -> String {
        let text = std::mem::take(&mut self.text);
        self.at = 0;
        self.goal = None;
        self.recalled = None;
        self.remember(text.clone());
        text
    }

    /// Puts a text into the history.
    pub(crate) fn remember(&mut self, text: String) {
        if text.trim().is_empty() || self.history.last() == Some(&text) {
            return;
        }
        if self.history.len() == HISTORY_MAX {
            self.history.remove(0);
        }
        self.history.push(text);
    }

    /// Deletes the character before the cursor.
    pub(crate) fn backspace(&mut self) {
        let from = self.before();
        self.text.replace_range(from..self.at, "");
        self.at = from;
        self.settle();
    }

    /// Deletes the character behind the cursor.
    pub(crate) fn delete(&mut self) {
        let to = self.behind();
        self.text.replace_range(self.at..to, "");
        self.settle();
    }

    /// Moves by one character.
    pub(crate) fn left(&mut self) {
        self.at = self.before();
        self.goal = None;
    }

    /// Moves by one character.
    pub(crate) fn right(&mut self) {
        self.at = self.behind();
        self.goal = None;
    }

    /// Moves to the beginning of the word.
    pub(crate) fn word_left(&mut self) {
        self.at = self.word_start();
        self.goal = None;
    }

    /// Moves to the end of the word.
    pub(crate) fn word_right(&mut self) {
        let rest = &self.text[self.at..];
        let word = rest.find(|one: char| !one.is_whitespace()).unwrap_or(rest.len());
        let end = rest[word..].find(char::is_whitespace).unwrap_or(rest.len() - word);
        self.at += word + end;
        self.goal = None;
        self.settle();
    }

    /// Moves to the beginning of the line.
    pub(crate) fn home(&mut self) {
        self.at = self.line_start();
        self.goal = None;
    }

    /// Moves to the end of the line.
    pub(crate) fn end(&mut self) {
        self.at = self.line_end();
        self.goal = None;
    }

    /// Cuts what stands before the cursor on its line.
    pub(crate) fn cut_before(&mut self) {
        self.cut_out(self.line_start()..self.at);
    }

    /// Cuts what stands behind the cursor on its line; at the end of the line, its break.
    pub(crate) fn cut_behind(&mut self) {
        let end = self.line_end();
        self.cut_out(self.at..if end == self.at { self.behind() } else { end });
    }

    /// Cuts the word before the cursor.
    pub(crate) fn cut_word(&mut self) {
        self.cut_out(self.word_start()..self.at);
    }

    /// Puts back what was cut last.
    pub(crate) fn paste_cut(&mut self) {
        let cut = self.cut.clone();
        self.insert(&cut);
    }

    /// Moves a row up; on the first row, to what was said before.
    pub(crate) fn up(&mut self, columns: usize) {
        if !self.vertically(columns, |row| row.checked_sub(1)) {
            self.recall(|shown, all| {
                shown.map_or(all.checked_sub(1), |shown| shown.checked_sub(1))
            });
        }
    }

    /// Moves a row down; on the last row, to what was said after.
    pub(crate) fn down(&mut self, columns: usize) {
        if !self.vertically(columns, |row| Some(row + 1)) {
            self.recall(|shown, _| shown.map(|shown| shown + 1));
        }
    }

    /// The rows of the text in so many columns, as ranges of bytes. There is always one.
    pub(crate) fn rows(&self, columns: usize) -> Vec<Range<usize>> {
        let columns = columns.max(2);
        let mut rows = Vec::new();
        let mut line_from = 0;
        for line in self.text.split('\n') {
            let (mut from, mut at, mut used) = (line_from, line_from, 0);
            for grapheme in graphemes_whole(line) {
                let wide = column_width(grapheme);
                if used + wide > columns {
                    rows.push(from..at);
                    (from, used) = (at, 0);
                }
                used += wide;
                at += grapheme.len();
            }
            rows.push(from..at);
            line_from = at + 1;
        }
        // The cursor behind a full row needs one of its own.
        if let Some(last) = rows.last().cloned()
            && self.at == last.end
            && columns_of(&self.text[last.clone()]) >= columns
        {
            rows.push(last.end..last.end);
        }
        rows
    }

    /// In which row and column the cursor stands.
    pub(crate) fn place(&self, columns: usize) -> (usize, usize) {
        let rows = self.rows(columns);
        let row = rows.iter().rposition(|row| row.start <= self.at).unwrap_or(0);
        (row, columns_of(&self.text[rows[row].start..self.at]))
    }

    fn vertically(&mut self, columns: usize, to: impl Fn(usize) -> Option<usize>) -> bool {
        let rows = self.rows(columns);
        let (row, column) = self.place(columns);
        let Some(range) = to(row).and_then(|row| rows.get(row)) else { return false };
        let goal = self.goal.unwrap_or(column);
        let (mut at, mut used) = (range.start, 0);
        for grapheme in graphemes_whole(&self.text[range.clone()]) {
            if used + column_width(grapheme) > goal {
                break;
            }
            used += column_width(grapheme);
            at += grapheme.len();
        }
        self.at = at;
        self.goal = Some(goal);
        true
    }

    fn recall(&mut self, to: impl Fn(Option<usize>, usize) -> Option<usize>) {
        let shown = self.recalled.as_ref().map(|(shown, _)| *shown);
        let Some(next) = to(shown, self.history.len()) else { return };
        let before = match self.recalled.take() {
            Some((_, before)) => before,
            None => self.text.clone(),
        };
        match self.history.get(next).cloned() {
            Some(text) => {
                self.set(&text);
                self.recalled = Some((next, before));
            }
            None => self.set(&before),
        }
    }

    fn cut_out(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        self.cut = self.text[range.clone()].to_owned();
        self.at = range.start;
        self.text.replace_range(range, "");
        self.settle();
    }

    fn line_start(&self) -> usize {
        self.text[..self.at].rfind('\n').map_or(0, |at| at + 1)
    }

    fn line_end(&self) -> usize {
        self.text[self.at..].find('\n').map_or(self.text.len(), |at| self.at + at)
    }

    fn word_start(&self) -> usize {
        let before = self.text[..self.at].trim_end();
        before
            .rfind(char::is_whitespace)
            .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8))
    }

    fn before(&self) -> usize {
        let mut cursor = GraphemeCursor::new(self.at, self.text.len(), true);
        cursor.prev_boundary(&self.text, 0).ok().flatten().unwrap_or(0)
    }

    fn behind(&self) -> usize {
        let mut cursor = GraphemeCursor::new(self.at, self.text.len(), true);
        cursor.next_boundary(&self.text, 0).ok().flatten().unwrap_or(self.text.len())
    }

    /// After a change: marks may have joined with what stands beside them.
    fn settle(&mut self) {
        self.goal = None;
        let mut cursor = GraphemeCursor::new(self.at, self.text.len(), true);
        if !cursor.is_boundary(&self.text, 0).unwrap_or(true) {
            self.at = self.behind();
        }
    }
}

/// What may be typed: line breaks of all kinds become one kind, and what servers refuse goes.
fn typed(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    text.chars().filter(|one| !one.is_control() || matches!(one, '\n' | '\t')).collect()
}

fn graphemes_whole(text: &str) -> impl Iterator<Item = &str> {
    unicode_segmentation::UnicodeSegmentation::graphemes(text, true)
}

fn column_width(grapheme: &str) -> usize {
    if grapheme == "\t" { TAB } else { grapheme_width(grapheme) }
}

fn columns_of(text: &str) -> usize {
    graphemes_whole(text).map(column_width).sum()
}

/// A row of the input as it is shown.
pub(crate) fn shown(row: &str) -> String {
    let mut out = String::with_capacity(row.len());
    for grapheme in graphemes(row) {
        if grapheme == "\t" {
            out.push_str(&" ".repeat(TAB));
        } else {
            out.push_str(grapheme);
        }
    }
    crate::text::harmless(&out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Editor {
        let mut editor = Editor::default();
        assert!(editor.insert(text));
        editor
    }

    #[test]
    fn characters_are_whole() {
        let mut editor = written("a👩\u{200d}🚀e\u{301}");
        editor.left();
        editor.backspace();
        assert_eq!(editor.text(), "ae\u{301}");
        editor.delete();
        assert_eq!((editor.text(), editor.at), ("a", 1));
    }

    #[test]
    fn words_and_lines_are_cut_and_put_back() {
        let mut editor = written("one two\nthree four");
        editor.cut_word();
        assert_eq!(editor.text(), "one two\nthree ");
        editor.cut_before();
        assert_eq!(editor.text(), "one two\n");
        editor.up(80);
        editor.cut_behind();
        assert_eq!(editor.text(), "\n");
        editor.paste_cut();
        assert_eq!(editor.text(), "one two\n");
        editor.cut_behind();
        assert_eq!(editor.text(), "one two");
        editor.home();
        editor.word_right();
        assert_eq!(editor.at, 3);
        editor.end();
        editor.word_left();
        assert_eq!(editor.at, 4);
    }

    #[test]
    fn up_and_down_move_by_what_is_seen() {
        let mut editor = written("abcdefgh\nxy");
        assert_eq!(editor.place(4), (2, 2));
        editor.up(4);
        assert_eq!(editor.at, 6);
        editor.up(4);
        assert_eq!(editor.at, 2);
        editor.down(4);
        editor.down(4);
        assert_eq!(editor.place(4), (2, 2));
        let full = written("abcd");
        assert_eq!(full.place(4), (1, 0), "behind a full row the next one begins");
    }

    #[test]
    fn what_was_said_comes_back_and_what_was_not_stays() {
        let mut editor = Editor::default();
        for text in ["first", "second"] {
            editor.set(text);
            editor.take();
        }
        editor.set("unsent");
        editor.up(80);
        assert_eq!(editor.text(), "second");
        editor.up(80);
        editor.up(80);
        assert_eq!(editor.text(), "first");
        editor.down(80);
        editor.down(80);
        assert_eq!(editor.text(), "unsent");
        editor.down(80);
        assert_eq!(editor.text(), "unsent");
    }

    #[test]
    fn pastes_keep_their_lines_and_have_an_end() {
        let editor = written("a\r\nb\rc\td\u{1b}[31m");
        assert_eq!(editor.text(), "a\nb\nc\td[31m");
        let mut editor = Editor::default();
        assert!(!editor.insert(&"é".repeat(INPUT_BYTES_MAX)));
        assert!(editor.text().len() <= INPUT_BYTES_MAX);
    }
}
