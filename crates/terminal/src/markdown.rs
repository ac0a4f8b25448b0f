//! What agents write, as lines of the screen.
//!
//! Everything stays readable without colours: headings keep their signs, code its marks, a link
//! shows its address. A single line break is one here too, because that is how people chat.

#[cfg(test)]
mod fuzz;
mod table;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use crate::lines::{Hang, Line, wrap, wrap_hard};
use crate::text::{harmless, one_line};
use crate::theme::Look;
use table::Table;

/// Lists and quotes that are indented further than so many others are not.
const DEPTH_MAX: usize = 6;

/// A text that is markdown, in so many columns.
pub(crate) fn markdown(text: &str, columns: usize) -> Vec<Line> {
    let options =
        Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut writer = Writer { columns, ..Writer::default() };
    for event in Parser::new_ext(text, options) {
        writer.event(event);
    }
    writer.flush();
    writer.out
}

/// A text as it is, in so many columns.
pub(crate) fn plain(text: &str, look: Look, columns: usize) -> Vec<Line> {
    let text = harmless(text);
    let lines = text.split('\n').map(|line| Line::of(line, look));
    lines.flat_map(|line| wrap(&line, Hang::default(), look, columns)).collect()
}

/// What stands before the lines of a quote or of a list's item.
struct Block {
    first: Option<String>,
    rest: String,
}

#[derive(Default)]
struct Writer {
    columns: usize,
    out: Vec<Line>,
    line: Line,
    looks: Vec<Look>,
    blocks: Vec<Block>,
    /// How many blocks were begun too deep to be shown.
    deeper: usize,
    /// The number of the next item in each list; none where items have no numbers.
    lists: Vec<Option<u64>>,
    /// An empty line stands before what comes next.
    apart: bool,
    /// The lines of a block of code.
    code: Option<String>,
    /// Where links lead, and what stood there when they began.
    links: Vec<(String, String)>,
    table: Option<Table>,
}

impl Writer {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) => self.text(&text, self.look()),
            Event::Html(text) | Event::InlineHtml(text) => self.text(&text, Look::Dim),
            // Blanks in code are meant, so they stay.
            Event::Code(text) => {
                let code = harmless(&text).replace('\n', " ");
                self.text(&format!("`{code}`"), Look::Code);
            }
            Event::InlineMath(text) | Event::DisplayMath(text) => self.text(&text, Look::Code),
            Event::FootnoteReference(name) => self.text(&format!("[{name}]"), Look::Dim),
            Event::SoftBreak | Event::HardBreak => self.break_line(),
            Event::Rule => {
                self.begin();
                self.line.push(&"─".repeat(self.columns.min(20)), Look::Line);
                self.finish();
            }
            Event::TaskListMarker(done) => {
                self.text(if done { "[x] " } else { "[ ] " }, Look::Plain);
            }
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Heading { level, .. } => {
                self.begin();
                self.line.push(&format!("{} ", "#".repeat(level as usize)), Look::Dim);
                self.looks.push(Look::Heading);
            }
            Tag::BlockQuote(_) => {
                self.begin();
                self.open(Block { first: None, rest: "> ".to_owned() });
            }
            Tag::CodeBlock(kind) => {
                self.begin();
                let name = match &kind {
                    CodeBlockKind::Fenced(name) => one_line(name),
                    CodeBlockKind::Indented => String::new(),
                };
                self.line.push(&format!("┌─ {name}"), Look::Line);
                self.flush();
                self.code = Some(String::new());
            }
            Tag::List(number) => {
                // A list within a list follows its item without a gap.
                if self.lists.is_empty() {
                    self.begin()
                } else {
                    self.flush()
                }
                self.lists.push(number);
            }
            Tag::Item => self.item(),
            Tag::Table(_) => {
                self.begin();
                self.table = Some(Table::default());
            }
            Tag::TableHead | Tag::TableRow => self.table_part(Table::row),
            Tag::TableCell => self.table_part(Table::cell),
            Tag::Emphasis => self.looks.push(Look::Leaning),
            Tag::Strong => self.looks.push(Look::Strong),
            Tag::Strikethrough => self.looks.push(Look::Struck),
            Tag::Link { dest_url, .. } => {
                self.links.push((one_line(&dest_url), String::new()));
                self.looks.push(Look::Link);
            }
            Tag::Image { dest_url, .. } => {
                self.text("[image: ", Look::Dim);
                self.links.push((one_line(&dest_url), String::new()));
                self.looks.push(Look::Dim);
            }
            _ => self.begin(),
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(_) => {
                self.looks.pop();
                self.finish();
            }
            TagEnd::BlockQuote(_) => {
                self.flush();
                self.close();
                self.apart = true;
            }
            TagEnd::CodeBlock => self.end_code(),
            TagEnd::List(_) => {
                self.flush();
                self.lists.pop();
                self.apart = self.lists.is_empty();
            }
            TagEnd::Item => {
                self.flush();
                self.close();
                self.apart = false;
            }
            TagEnd::Table => self.end_table(),
            TagEnd::TableHead | TagEnd::TableRow | TagEnd::TableCell => {}
            TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough => {
                self.looks.pop();
            }
            TagEnd::Link => self.end_link(""),
            TagEnd::Image => self.end_link("]"),
            _ => self.finish(),
        }
    }

    fn look(&self) -> Look {
        self.looks.last().copied().unwrap_or(Look::Plain)
    }

    fn text(&mut self, text: &str, look: Look) {
        let text = harmless(text);
        if let Some(code) = &mut self.code {
            code.push_str(&text);
            return;
        }
        if let Some((_, said)) = self.links.last_mut() {
            said.push_str(&text);
        }
        if let Some(table) = &mut self.table {
            return table.text(&text);
        }
        for (index, line) in text.split('\n').enumerate() {
            if index > 0 {
                self.break_line();
            }
            self.line.push(line, look);
        }
    }

    fn break_line(&mut self) {
        match &mut self.table {
            Some(table) => table.text(" "),
            None => self.flush(),
        }
    }

    fn item(&mut self) {
        self.flush();
        let first = match self.lists.last_mut() {
            Some(Some(number)) => {
                *number = number.saturating_add(1);
                format!("{}. ", *number - 1)
            }
            _ => "• ".to_owned(),
        };
        let rest = " ".repeat(first.chars().count());
        self.open(Block { first: Some(first), rest });
    }

    fn end_link(&mut self, closing: &str) {
        self.looks.pop();
        let Some((address, said)) = self.links.pop() else { return };
        self.text(closing, Look::Dim);
        let same = said == address || address.strip_prefix("mailto:") == Some(said.as_str());
        if !same && !address.is_empty() {
            self.text(&format!(" ({address})"), Look::Dim);
        }
    }

    fn end_code(&mut self) {
        let code = self.code.take().unwrap_or_default();
        let (_, outer) = self.hang();
        let hang = format!("{outer}│ ");
        for line in code.strip_suffix('\n').unwrap_or(&code).split('\n') {
            let line = Line::of(line, Look::Code);
            let hang = Hang { first: &hang, rest: &hang };
            self.out.extend(wrap_hard(&line, hang, Look::Line, self.columns));
        }
        self.line.push("└─", Look::Line);
        self.finish();
    }

    fn table_part(&mut self, begin: impl FnOnce(&mut Table)) {
        if let Some(table) = &mut self.table {
            begin(table);
        }
    }

    fn end_table(&mut self) {
        let Some(table) = self.table.take() else { return };
        let (_, outer) = self.hang();
        let hang = Hang { first: &outer, rest: &outer };
        for line in table.lines(self.columns.saturating_sub(outer.len())) {
            self.out.extend(wrap(&line, hang, Look::Line, self.columns));
        }
        self.apart = true;
    }

    fn open(&mut self, block: Block) {
        if self.blocks.len() < DEPTH_MAX { self.blocks.push(block) } else { self.deeper += 1 }
    }

    fn close(&mut self) {
        match self.deeper {
            0 => drop(self.blocks.pop()),
            _ => self.deeper -= 1,
        }
    }

    /// What stands before the next line, and before those that follow it.
    fn hang(&mut self) -> (String, String) {
        let (mut first, mut rest) = (String::new(), String::new());
        for block in &mut self.blocks {
            first.push_str(block.first.take().as_deref().unwrap_or(&block.rest));
            rest.push_str(&block.rest);
        }
        (first, rest)
    }

    /// A block begins: what was begun ends, and an empty line stands between the two.
    fn begin(&mut self) {
        self.flush();
        if std::mem::take(&mut self.apart) && !self.out.is_empty() {
            let outer: String = self.blocks.iter().map(|block| block.rest.as_str()).collect();
            self.out.push(Line::of(outer.trim_end(), Look::Line));
        }
    }

    /// A block ends.
    fn finish(&mut self) {
        self.flush();
        self.apart = true;
    }

    fn flush(&mut self) {
        let line = std::mem::take(&mut self.line);
        if line.0.is_empty() {
            return;
        }
        let (first, rest) = self.hang();
        let hang = Hang { first: &first, rest: &rest };
        self.out.extend(wrap(&line, hang, Look::Line, self.columns));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, columns: usize, expect: &[&str]) {
        let lines = markdown(text, columns);
        let shown: Vec<String> = lines
            .iter()
            .map(|line| line.0.iter().map(|piece| piece.text.as_str()).collect())
            .collect();
        assert_eq!(shown, expect, "{text:?} in {columns}");
    }

    #[test]
    fn texts_are_paragraphs_of_lines() {
        check("", 40, &[]);
        check("one\ntwo\n\nthree", 40, &["one", "two", "", "three"]);
        check(
            "# Title\ntext **strong** and `code`",
            40,
            &["# Title", "", "text strong and `code`"],
        );
        check("a [link](https://x.org) b", 40, &["a link (https://x.org) b"]);
        check("<https://x.org>", 40, &["https://x.org"]);
        check("![a cat](cat.png)", 40, &["[image: a cat] (cat.png)"]);
        check("> said\n> so\n\nand", 40, &["> said", "> so", "", "and"]);
        check("a\n\n---\n\nb", 12, &["a", "", "────────────", "", "b"]);
    }

    #[test]
    fn lists_are_indented() {
        check(
            "- one\n- two words\n  - three\n\nend",
            9,
            &["• one", "• two", "  words", "  • three", "", "end"],
        );
        check("9. nine\n10. ten", 40, &["9. nine", "10. ten"]);
        check("- [x] done\n- [ ] open", 40, &["• [x] done", "• [ ] open"]);
        let deep = "> ".repeat(500) + "deep";
        check(&deep, 40, &[&("> ".repeat(DEPTH_MAX) + "deep")]);
    }

    #[test]
    fn code_is_set_apart_and_kept_as_it_is() {
        check(
            "so:\n```rust\nfn main() {\n    x();\n}\n```\nthen",
            40,
            &["so:", "", "┌─ rust", "│ fn main() {", "│     x();", "│ }", "└─", "", "then"],
        );
        // Half of a block, as it comes while it is being written.
        check("```\nlong line of code", 12, &["┌─", "│ long line ", "│ of code", "└─"]);
    }

    #[test]
    fn a_question_about_a_call_shows_all_of_its_arguments() {
        check(
            "May I call `a__b` (server shop)? note: ``\"keep __init__ and `x`\"``, path: \
             `\"/data/*.bak, /data/*.tmp\"`, to: `\"[anna@example.org](https://evil.example)\"`\n\
             Reply \"yes\"",
            200,
            &[
                "May I call `a__b` (server shop)? note: `\"keep __init__ and `x`\"`, path: \
                 `\"/data/*.bak, /data/*.tmp\"`, to: `\"[anna@example.org](https://evil.example)\"`",
                "Reply \"yes\"",
            ],
        );
        check("`` `a ``, `a    b`, ````c```d````", 80, &["``a`, `a    b`, `c```d`"]);
    }

    #[test]
    fn tables_stand_in_columns() {
        check("| a | long |\n|---|---|\n| one | 2 |", 40, &["a   │ long", "────┼─────", "one │ 2"]);
    }

    #[test]
    fn nothing_gets_past_as_an_entity() {
        check("a&#27;[2Jb &#8238;c", 40, &["a␛[2Jb c"]);
        check("[x](http://a/\u{1b}]0;evil\u{7})", 60, &["[x](http://a/␛]0;evil␇)"]);
    }
}
