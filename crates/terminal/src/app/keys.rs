//! What keys, pastes and the mouse do.

use ratatui_crossterm::crossterm::event::{
    Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};

use super::leaving::Leaving;
use super::{App, Panel};
use crate::ports::Effect;

/// How many lines the wheel moves.
const WHEEL: isize = 3;

impl App {
    pub(super) fn on_terminal(&mut self, event: Event) {
        let typed = matches!(event, Event::Key(_) | Event::Paste(_) | Event::Mouse(_));
        if typed && self.swallows(&event) {
            return;
        }
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => self.on_key(key),
            Event::Key(_) | Event::Resize(..) => {}
            Event::Paste(text) => {
                self.note_key();
                self.type_in(&text);
            }
            Event::Mouse(mouse) if self.options.mouse => self.on_mouse(mouse),
            Event::Mouse(_) => {}
            Event::FocusGained => self.focused = true,
            Event::FocusLost => self.focused = false,
        }
    }

    /// Who is leaving types for what comes behind this, unless they leave at once or stay.
    fn swallows(&mut self, event: &Event) -> bool {
        match self.leaving {
            Leaving::Left => true,
            Leaving::Waits { .. } => match event {
                Event::Key(KeyEvent { code: KeyCode::Esc, .. }) => {
                    self.leaving = Leaving::Stays;
                    self.toast = None;
                    true
                }
                Event::Key(key) => !is_leaving(key),
                _ => true,
            },
            Leaving::Stays | Leaving::Asked { .. } => false,
        }
    }

    fn on_key(&mut self, key: KeyEvent) {
        self.note_key();
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let alt = key.modifiers.contains(KeyModifiers::ALT);
        if !is_leaving(&key) {
            self.leaving = Leaving::Stays;
        }
        match key.code {
            KeyCode::Char(one) if control => self.on_control(one),
            KeyCode::Char(one) if alt => self.on_alt(one),
            KeyCode::Char(one) => self.type_in(one.encode_utf8(&mut [0; 4])),
            KeyCode::Enter if alt || key.modifiers.contains(KeyModifiers::SHIFT) => {
                self.type_in("\n")
            }
            KeyCode::Enter => self.enter(),
            KeyCode::Tab => self.complete(false),
            KeyCode::BackTab => self.complete(true),
            KeyCode::Esc => self.escape(),
            KeyCode::F(1) => self.panel = Some(Panel::help()),
            KeyCode::PageUp => self.page(true),
            KeyCode::PageDown => self.page(false),
            KeyCode::Up if alt => self.neighbour(false),
            KeyCode::Down if alt => self.neighbour(true),
            KeyCode::Home if control => self.show_top(),
            KeyCode::End if control => self.show_end(),
            KeyCode::End if !self.at_end() => self.show_end(),
            code => self.on_edit(code, control || alt),
        }
    }

    fn on_edit(&mut self, code: KeyCode, by_words: bool) {
        let columns = self.drawn.input_columns;
        let editor = self.editor_mut();
        match code {
            KeyCode::Backspace if by_words => editor.cut_word(),
            KeyCode::Backspace => editor.backspace(),
            KeyCode::Delete => editor.delete(),
            KeyCode::Left if by_words => editor.word_left(),
            KeyCode::Left => editor.left(),
            KeyCode::Right if by_words => editor.word_right(),
            KeyCode::Right => editor.right(),
            KeyCode::Home => editor.home(),
            KeyCode::End => editor.end(),
            KeyCode::Up => editor.up(columns),
            KeyCode::Down => editor.down(columns),
            _ => return,
        }
        self.suggest();
    }

    fn on_control(&mut self, one: char) {
        match one.to_ascii_lowercase() {
            'c' => self.leave(),
            'd' if self.editor().is_none_or(|editor| editor.is_empty()) => self.leave(),
            'n' => self.next_waiting(),
            'x' => self.stop(),
            'l' => self.effects.push(Effect::Redraw),
            'j' => self.type_in("\n"),
            'm' => self.enter(),
            'i' => self.complete(false),
            'h' => self.on_edit(KeyCode::Backspace, false),
            one => {
                let editor = self.editor_mut();
                match one {
                    'a' => editor.home(),
                    'e' => editor.end(),
                    'b' => editor.left(),
                    'f' => editor.right(),
                    'd' => editor.delete(),
                    'k' => editor.cut_behind(),
                    'u' => editor.cut_before(),
                    'w' => editor.cut_word(),
                    'y' => editor.paste_cut(),
                    _ => return,
                }
                self.suggest();
            }
        }
    }

    fn on_alt(&mut self, one: char) {
        match one {
            '1'..='9' => self.switch_number(u32::from(one) - u32::from('0')),
            'b' => self.on_edit(KeyCode::Left, true),
            'f' => self.on_edit(KeyCode::Right, true),
            _ => {}
        }
    }

    fn type_in(&mut self, text: &str) {
        if !self.editor_mut().insert(text) {
            self.complain("the input is full: the rest was left out");
        }
        self.suggest();
    }

    fn enter(&mut self) {
        self.submit();
        self.suggest();
    }

    fn escape(&mut self) {
        if self.panel.take().is_some() {
            return;
        }
        if self.completion.items.is_empty() {
            self.toast = None;
            self.show_end();
        } else {
            self.completion = super::Completion::default();
        }
    }

    fn page(&mut self, up: bool) {
        let rows = isize::try_from(self.drawn.talk_rows.saturating_sub(2).max(1)).unwrap_or(1);
        self.scroll(if up { rows } else { -rows });
    }

    fn scroll(&mut self, up: isize) {
        if let Some(panel) = &mut self.panel {
            return panel.scroll(up);
        }
        let tail = self.tail();
        if self.shown.is_some()
            && let Some(talk) = self.conversations.front_mut()
        {
            talk.scroll(up, &tail);
        }
    }

    fn at_end(&self) -> bool {
        self.talk().is_none_or(|talk| talk.paper.at_end())
    }

    fn show_end(&mut self) {
        if let Some(talk) = self.conversations.front_mut() {
            talk.paper.show_end();
        }
    }

    fn show_top(&mut self) {
        if let Some(talk) = self.conversations.front_mut() {
            talk.scroll_to_top();
        }
    }

    fn on_mouse(&mut self, mouse: MouseEvent) {
        match mouse.kind {
            MouseEventKind::ScrollUp => self.scroll(WHEEL),
            MouseEventKind::ScrollDown => self.scroll(-WHEEL),
            MouseEventKind::Down(MouseButton::Left) => self.on_click(mouse.column, mouse.row),
            _ => {}
        }
    }

    fn on_click(&mut self, column: u16, row: u16) {
        if self.drawn.waits == Some(row) {
            return self.next_waiting();
        }
        let (from, rows, columns) = self.drawn.list;
        let Some(line) = row.checked_sub(from).filter(|line| *line < rows && column < columns)
        else {
            return;
        };
        let clicked = self.board.rows().get(self.drawn.list_from + usize::from(line)).cloned();
        if let Some(clicked) = clicked {
            self.switch(&clicked);
        }
    }
}

/// Whether a key leaves.
const fn is_leaving(key: &KeyEvent) -> bool {
    key.modifiers.contains(KeyModifiers::CONTROL) && matches!(key.code, KeyCode::Char('c' | 'd'))
}
