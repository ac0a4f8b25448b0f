//! The terminal as ours for a while: taken, drawn on, and given back on every way out.
//!
//! What was changed is undone by [`Screen`]'s end, by a panic anywhere before its message is
//! written, and once only. Only `kill -9` leaves it as it is; `reset` helps then.

use std::io::{self, BufWriter, IsTerminal as _, Stdout, Write as _};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui_core::terminal::{Frame, Terminal};
use ratatui_crossterm::CrosstermBackend;
use tokio::sync::mpsc;

use crate::crossterm::event::{
    self, DisableBracketedPaste, DisableFocusChange, DisableMouseCapture, EnableBracketedPaste,
    EnableFocusChange, EnableMouseCapture, Event,
};
use crate::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use crate::crossterm::{cursor, execute, queue};

/// What is drawn goes out in one piece.
const BUFFER_BYTES: usize = 64 * 1024;

/// The terminal is ours right now.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// Something panicked while it was.
static PANICKED: AtomicBool = AtomicBool::new(false);

/// The terminal while it is ours.
pub(crate) struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
    mouse: bool,
}

/// Why a full screen can't be had here, if it can't.
pub fn missing() -> Option<&'static str> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Some("standard input and output are no terminal");
    }
    let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    dumb.then_some("the terminal can't place text (TERM is empty or dumb)")
}

impl Screen {
    /// Takes the terminal.
    pub(crate) fn take(mouse: bool) -> io::Result<Self> {
        give_back_on_panic();
        let backend = CrosstermBackend::new(BufWriter::with_capacity(BUFFER_BYTES, io::stdout()));
        // From here on it is given back, however far this gets.
        TAKEN.store(true, Ordering::SeqCst);
        let taken = enter(mouse).and_then(|()| Terminal::new(backend));
        match taken {
            Ok(terminal) => Ok(Self { terminal, mouse }),
            Err(error) => {
                give_back();
                Err(error)
            }
        }
    }

    /// Takes it once more: whoever had it meanwhile may have changed everything.
    pub(crate) fn take_again(&mut self) -> io::Result<()> {
        enter(self.mouse)?;
        self.terminal.clear()
    }

    /// Forgets what is on it, so that all of it is drawn anew.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        self.terminal.clear()
    }

    /// Draws what differs from what is there.
    pub(crate) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(draw).map(drop)
    }

    /// Its columns and rows.
    pub(crate) fn size(&self) -> io::Result<(u16, u16)> {
        let size = self.terminal.size()?;
        Ok((size.width, size.height))
    }

    /// Rings its bell.
    pub(crate) fn ring(&mut self) -> io::Result<()> {
        self.say("\u{7}")
    }

    /// Has it tell the desktop something.
    pub(crate) fn notify(&mut self, text: &str) -> io::Result<()> {
        let in_tmux = std::env::var_os("TMUX").is_some_and(|tmux| !tmux.is_empty());
        self.say(&notification(text, in_tmux))
    }

    fn say(&mut self, text: &str) -> io::Result<()> {
        let backend = self.terminal.backend_mut();
        backend.write_all(text.as_bytes())?;
        io::Write::flush(backend)
    }
}

/// What has a terminal tell the desktop something (OSC 9). A tmux around us keeps for itself what it
/// isn't told to hand on, each escape doubled; it does that where `allow-passthrough` is on.
fn notification(text: &str, in_tmux: bool) -> String {
    let text: String = text.chars().filter(|one| !one.is_control()).collect();
    let told = format!("\u{1b}]9;{text}\u{7}");
    if !in_tmux {
        return told;
    }
    format!("\u{1b}Ptmux;{}\u{1b}\\", told.replace('\u{1b}', "\u{1b}\u{1b}"))
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Whether anything panicked while the terminal was taken.
pub(crate) fn panicked() -> bool {
    PANICKED.load(Ordering::SeqCst)
}

/// Whether the terminal is closed. Not every way of closing it sends a signal, and reading from what
/// is closed neither ends nor waits.
pub(crate) fn gone() -> bool {
    !io::stdin().is_terminal() || !io::stdout().is_terminal()
}

/// Reads keys, pastes and sizes on a thread of their own, for reading waits. It ends with the process.
pub(crate) fn read_keys(to: mpsc::Sender<Event>) -> io::Result<()> {
    let read = move || {
        while let Ok(event) = event::read() {
            if to.blocking_send(event).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("keys".into()).spawn(read).map(drop)
}

fn enter(mouse: bool) -> io::Result<()> {
    enable_raw_mode()?;
    let mut out = io::stdout();
    queue!(out, EnterAlternateScreen, EnableBracketedPaste, EnableFocusChange)?;
    if mouse {
        queue!(out, EnableMouseCapture)?;
    }
    out.flush()
}

/// Undoes everything, and goes on where something fails: the terminal may be gone.
fn give_back() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    let mut out = io::stdout();
    let _ = execute!(out, DisableMouseCapture, DisableFocusChange, DisableBracketedPaste);
    let _ = execute!(out, LeaveAlternateScreen, cursor::Show);
    let _ = disable_raw_mode();
}

fn give_back_on_panic() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICKED.store(true, Ordering::SeqCst);
            give_back();
            before(panic);
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tmux_is_told_to_hand_a_notification_on() {
        let text = "2 waits for you: a\u{1b}]0;b\u{7}";
        assert_eq!(notification(text, false), "\u{1b}]9;2 waits for you: a]0;b\u{7}");
        assert_eq!(
            notification(text, true),
            "\u{1b}Ptmux;\u{1b}\u{1b}]9;2 waits for you: a]0;b\u{7}\u{1b}\\"
        );
    }
}
