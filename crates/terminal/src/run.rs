//! Runs the app on a terminal: keys and streams in, requests and frames out.
//!
//! One loop owns the app. A key is drawn at once; what streams in is drawn at most once a frame, so
//! that a busy server costs no more than a quiet one.

mod hands;
mod writes;

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use crate::app::App;
use crate::crossterm::event::Event;
use crate::draw::draw;
use crate::follow::Following;
use crate::ports::{Effect, Failure, Incoming, Link, Options, Server, TICK_MS};
use crate::screen::{self, Screen};
use crate::text::segment;
use hands::Hands;

/// What streams in is drawn no sooner than this after what was drawn last.
const FRAME: Duration = Duration::from_millis(16);
/// News that may wait for the app; a stream that has more waits in its connection.
const NEWS_MAX: usize = 1024;
/// Keys that may wait.
const KEYS_MAX: usize = 1024;
/// News that are taken before keys are looked for again.
const NEWS_AT_ONCE: usize = 64;

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Why.
    pub by: By,
    /// What is lost by it, a line each: what was typed and not sent, or not answered.
    pub given_up: Vec<String>,
}

/// Why it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The person left.
    Person,
    /// The process was told to end, by the signal of this number.
    Signal(u8),
}

/// What a terminal says that is closed, where it says anything.
const HANGUP: u8 = 1;

/// Shows the terminal until the person leaves, or something ends it. An error is one of the terminal.
pub async fn run(server: Arc<dyn Server>, options: Options) -> io::Result<Ended> {
    let mut signals = Signals::new()?;
    let screen = Screen::take(options.mouse)?;
    let (key, mut keys) = mpsc::channel(KEYS_MAX);
    screen::read_keys(key)?;
    let (news, mut heard) = mpsc::channel(NEWS_MAX);
    let mut seated = Seated::new(screen, Hands::new(server, news), options);
    seated.begin()?;
    let mut tick = tokio::time::interval(Duration::from_millis(TICK_MS));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            Some(event) = keys.recv() => {
                seated.key(event)?;
                // What was typed or pasted in one go is drawn in one go.
                while let Ok(event) = keys.try_recv() {
                    seated.key(event)?;
                }
                seated.draw()?;
            }
            told = signals.next() => match told {
                Signalled::Continue => seated.take_again()?,
                Signalled::End(number) => {
                    seated.hear(Incoming::Ending)?;
                    return Ok(seated.ended(By::Signal(number)));
                }
            },
            Some(incoming) = heard.recv() => {
                seated.hear(incoming)?;
                for _ in 1..NEWS_AT_ONCE {
                    let Ok(incoming) = heard.try_recv() else { break };
                    seated.hear(incoming)?;
                }
            }
            _ = tick.tick() => {
                if screen::gone() {
                    return Ok(seated.ended(By::Signal(HANGUP)));
                }
                seated.hear(Incoming::Tick)?;
            }
            () = tokio::time::sleep_until(seated.drawn_at + FRAME), if seated.changed => {
                seated.draw()?;
            }
        }
        if seated.left {
            return Ok(seated.ended(By::Person));
        }
        if screen::panicked() {
            return Err(io::Error::other("a part of this terminal failed; the server goes on"));
        }
    }
}

/// The app before its screen.
struct Seated {
    app: App,
    screen: Screen,
    hands: Hands,
    board: Option<Following>,
    board_path: String,
    /// The screen doesn't show yet what the app knows.
    changed: bool,
    drawn_at: Instant,
    left: bool,
}

impl Seated {
    fn new(screen: Screen, hands: Hands, options: Options) -> Self {
        let board_path = format!("/v1/switchboard/events?seat={}", segment(&options.seat));
        Self {
            app: App::new(options),
            screen,
            hands,
            board: None,
            board_path,
            changed: true,
            drawn_at: Instant::now(),
            left: false,
        }
    }

    fn begin(&mut self) -> io::Result<()> {
        let (columns, rows) = self.screen.size()?;
        self.key(Event::Resize(columns, rows))?;
        self.hear(Incoming::Link(Link::Connecting))?;
        self.draw()?;
        self.board = Some(self.hands.watch_board(self.board_path.clone()));
        Ok(())
    }

    fn key(&mut self, event: Event) -> io::Result<()> {
        self.hear(Incoming::Terminal(event))
    }

    fn ended(&self, by: By) -> Ended {
        Ended { by, given_up: self.app.given_up() }
    }

    fn hear(&mut self, incoming: Incoming) -> io::Result<()> {
        if let Incoming::Answer { tag, .. } = &incoming {
            self.hands.answered(*tag);
        }
        for effect in self.app.on(incoming, now_ms()) {
            match effect {
                Effect::Bell => self.screen.ring()?,
                Effect::Notify(text) => self.screen.notify(&text)?,
                Effect::Redraw => self.screen.clear()?,
                Effect::Quit => self.left = true,
                other => self.hands.act(other),
            }
        }
        self.changed |= self.app.take_dirty();
        Ok(())
    }

    fn take_again(&mut self) -> io::Result<()> {
        self.screen.take_again()?;
        self.draw()
    }

    fn draw(&mut self) -> io::Result<()> {
        if screen::panicked() {
            // The terminal is given back already.
            return Ok(());
        }
        let app = &mut self.app;
        self.screen.draw(|frame| draw(app, frame))?;
        self.drawn_at = Instant::now();
        self.changed = false;
        Ok(())
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Why there is no switchboard to watch.
pub(crate) fn no_board(failure: &Failure) -> String {
    match failure {
        Failure::Refused { status: 404, .. } => {
            "the server has no switchboard: it is another version of Turnkeep than this one".into()
        }
        other => other.to_string(),
    }
}

/// What a signal asks for.
enum Signalled {
    /// The process was stopped, and goes on.
    Continue,
    /// It is to end.
    End(u8),
}

/// The signals that matter here; Ctrl-C is a key while the terminal is ours.
struct Signals {
    terminate: Signal,
    hangup: Signal,
    interrupt: Signal,
    goes_on: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            goes_on: signal(SignalKind::from_raw(libc::SIGCONT))?,
        })
    }

    async fn next(&mut self) -> Signalled {
        tokio::select! {
            _ = self.terminate.recv() => Signalled::End(15),
            _ = self.hangup.recv() => Signalled::End(1),
            _ = self.interrupt.recv() => Signalled::End(2),
            _ = self.goes_on.recv() => Signalled::Continue,
        }
    }
}
