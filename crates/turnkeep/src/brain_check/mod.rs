//! `turnkeep brain check`: plays the gateway against somebody's own brain and says what it does
//! right and wrong.
//!
//! | module | its job |
//! | --- | --- |
//! | `rules` | every rule that is checked: its name, what is expected, where the contract says so |
//! | `stage` | a turn's handle that follows a script and notes what the brain did |
//! | `play` | one attempt of the brain on a stage |
//! | `turns` | rules of a turn: it finishes, takes mail, answers questions, works beside others |
//! | `acts` | rules of acts: it asks first, and does nothing twice |
//! | `line` | the contract by hand, for what no gateway would say |
//! | `process` | a brain's process, by hand |
//! | `posts` | a brain's server, by hand: POSTs that no gateway would send |
//! | `served` | rules of a server: signatures, replays, what is resumed |
//! | `report` | what came of it, for people and as JSON |
//!
//! Wherever it can be, a brain is driven by the adapter that ships, so that what is checked is what
//! will be run. **It acts only where it is told to**: whatever it asks for is refused, unless a
//! message was given that makes it act.

mod acts;
mod line;
mod play;
mod posts;
mod process;
mod report;
mod rules;
mod served;
mod stage;
mod turns;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use turnkeep_core::ports::agent::Agent;

use play::Play;
pub(crate) use report::{Check, Found, Report};
use rules::Rule;

/// Who is checked.
pub(crate) struct Subject {
    /// As it is shown.
    pub(crate) name: String,
    /// The adapter that would run it.
    pub(crate) agent: Arc<dyn Agent>,
    /// How it is reached by hand.
    pub(crate) way: Way,
}

/// How the objects travel.
pub(crate) enum Way {
    /// Over the standard streams of a process.
    Process(Program),
    /// To and from a server.
    Http(Address),
}

/// What is started.
pub(crate) struct Program {
    /// The program and its arguments.
    pub(crate) command: Vec<String>,
    /// Where.
    pub(crate) dir: PathBuf,
    /// Beside PATH, HOME and LANG.
    pub(crate) env: BTreeMap<String, String>,
}

/// Where a server is.
pub(crate) struct Address {
    /// What is posted to.
    pub(crate) url: String,
    /// What every POST is signed with; at least one.
    pub(crate) secrets: Vec<Vec<u8>>,
}

/// How it is checked.
pub(crate) struct Wants {
    /// What makes it act; it is let act then, once.
    pub(crate) message: Option<String>,
    /// What its user says if it asks.
    pub(crate) answer: Option<String>,
    /// How long it may take over one turn.
    pub(crate) timeout: Duration,
}

/// Who watches.
pub(crate) trait Watcher {
    /// Something is about to be checked.
    fn begins(&mut self, expected: &str);
    /// It was.
    fn ends(&mut self, check: &Check);
}

/// Checks every rule, one after the other.
pub(crate) async fn check(subject: &Subject, wants: &Wants, watcher: &mut dyn Watcher) -> Report {
    let mut book = Book { watcher, checks: Vec::new() };
    let reached = match &subject.way {
        Way::Process(program) => process::reach(program),
        Way::Http(address) => served::reach(address, wants).await,
    };
    match reached {
        Ok(()) => everything(subject, wants, &mut book).await,
        // One line says as much as all of them would.
        Err(wrong) => book.note(rules::FINISHES, Found::Wrong(wrong)),
    }
    Report { subject: subject.name.clone(), checks: book.checks }
}

async fn everything(subject: &Subject, wants: &Wants, book: &mut Book<'_>) {
    let play = Play::new(&subject.agent, wants);
    turns::check(&play, book).await;
    acts::check(&play, book).await;
    match &subject.way {
        Way::Process(program) => process::check(program, wants, book).await,
        Way::Http(address) => served::check(address, wants, book).await,
    }
}

/// What was checked, while somebody watches.
struct Book<'a> {
    watcher: &'a mut dyn Watcher,
    checks: Vec<Check>,
}

impl Book<'_> {
    fn begins(&mut self, rule: &Rule) {
        self.watcher.begins(rule.expected);
    }

    fn note(&mut self, rule: &'static Rule, found: Found) {
        let check = Check { rule, found };
        self.watcher.ends(&check);
        self.checks.push(check);
    }
}
