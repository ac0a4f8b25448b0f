//! `turnkeep audit`: reads every journal and holds it against the invariants and against what is
//! stored beside it. Works while a server runs and after it was killed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use turnkeep_core::audit::Checker;
use turnkeep_core::ids::Seq;
use turnkeep_core::{Session, SessionKey};
use turnkeep_stores::Reads;

use crate::cli::AuditArgs;
use crate::wiring::stores;

/// Sessions, dead letters and entries that are read at once.
const PAGE: usize = 1000;
/// Findings that are printed; a broken store repeats itself.
const FINDINGS_MAX: usize = 100;

/// Stands for the session where all of them are meant.
const WHOLE: &str = "the store as a whole";

/// What was read and what was found.
#[derive(Debug, Default, Serialize)]
struct Report {
    sessions: u64,
    entries: u64,
    accepted: u64,
    committed: u64,
    cancelled: u64,
    discarded: u64,
    retried: u64,
    /// Of the accepted ones, those that were commands to the gateway.
    commands: u64,
    /// Of the accepted ones, those that were not said to the agent.
    context: u64,
    open: u64,
    dead_letters: u64,
    /// Of the accepted ones, those that were too old for their tenant.
    forgotten_by_retention: u64,
    /// Of the accepted ones, those that went with their customer.
    forgotten_by_erasure: u64,
    /// Of the forgotten ones, those that were dead letters.
    forgotten_dead_letters: u64,
    findings: Vec<Finding>,
    /// Findings beyond those listed.
    more: u64,
}

/// A broken invariant and where it shows.
#[derive(Debug, Serialize)]
struct Finding {
    session: String,
    invariant: &'static str,
    seq: u64,
    what: String,
}

impl Report {
    fn found(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.more += 1;
        }
    }
}

/// Does what was asked: 0 when every invariant holds, 1 when not.
pub(crate) fn run(args: AuditArgs) -> anyhow::Result<ExitCode> {
    let (reader, place) = match &args.file {
        Some(file) => (stores::file_reader(file), file.display().to_string()),
        None => (stores::reader(&args.place), stores::described(&args.place)),
    };
    let reader = reader.with_context(|| format!("{place} can't be audited"))?;
    let bar = ProgressBar::new_spinner()
        .with_style(ProgressStyle::with_template("{spinner} {human_pos} sessions read")?);
    bar.enable_steady_tick(Duration::from_millis(100));
    // One snapshot, so that all the parts are of the same moment even while a server writes.
    let mut report = None;
    reader.moment(&mut |reader| report = Some(audit(reader, &bar)))?;
    let report = report.context("nothing was read")??;
    bar.finish_and_clear();
    let text =
        if args.json { serde_json::to_string_pretty(&report)? + "\n" } else { describe(&report) };
    // A reader that has seen enough closes the pipe; the exit code is the answer all the same.
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    Ok(if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn audit(reader: &dyn Reads, bar: &ProgressBar) -> anyhow::Result<Report> {
    let mut report = Report::default();
    for what in reader.wrong()? {
        report.found(Finding { session: WHOLE.to_owned(), invariant: "I1", seq: 0, what });
    }
    let mut dead = dead_letters(reader, &mut report)?;
    let mut after: Option<SessionKey> = None;
    loop {
        let page = reader.sessions(None, after.as_ref(), PAGE)?;
        let full = page.len() == PAGE;
        for (key, loaded) in &page {
            let letters = dead.remove(key.as_str()).unwrap_or_default();
            audit_session(reader, key, &loaded.session, &letters, &mut report)?;
            bar.inc(1);
        }
        after = page.into_iter().next_back().map(|(key, _)| key);
        if !full {
            break;
        }
    }
    for (session, letters) in dead {
        for seq in letters {
            let what = "a dead letter of a session that does not exist".to_owned();
            report.found(Finding { session: session.clone(), invariant: "I2", seq: seq.0, what });
        }
    }
    Ok(report)
}

/// The stored dead letters by session.
fn dead_letters(
    reader: &dyn Reads,
    report: &mut Report,
) -> anyhow::Result<BTreeMap<String, BTreeSet<Seq>>> {
    let mut dead: BTreeMap<String, BTreeSet<Seq>> = BTreeMap::new();
    let mut after = 0;
    loop {
        let page = reader.dead_letters(after, PAGE)?;
        let Some((last, ..)) = page.last() else { return Ok(dead) };
        after = *last;
        report.dead_letters += page.len() as u64;
        for (_, key, letter) in page {
            dead.entry(key.as_str().to_owned()).or_default().insert(letter.seq);
        }
    }
}

fn audit_session(
    reader: &dyn Reads,
    key: &SessionKey,
    session: &Session,
    letters: &BTreeSet<Seq>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut checker = begin(reader, key, report)?;
    let mut cursor = checker.last_seq();
    loop {
        let page = reader.events(key, cursor, PAGE)?;
        let Some(last) = page.last() else { break };
        cursor = last.seq;
        report.entries += page.len() as u64;
        for event in &page {
            checker.observe(event);
        }
    }
    checker.finish(session);
    report.sessions += 1;
    report.accepted += checker.accepted();
    report.committed += checker.committed();
    report.cancelled += checker.cancelled();
    report.discarded += checker.discarded();
    report.retried += checker.retried();
    report.commands += checker.commands();
    report.context += checker.context();
    report.open += checker.open().len() as u64;
    for violation in checker.violations() {
        report.found(Finding {
            session: key.as_str().to_owned(),
            invariant: violation.invariant,
            seq: violation.seq.0,
            what: violation.what.clone(),
        });
    }
    let (told, summed) = (*checker.spent(), reader.usage_of_session(key)?);
    if told != summed {
        let what = format!("used by the journal: {told:?}, by the sums: {summed:?}");
        let (session, seq) = (key.as_str().to_owned(), checker.last_seq().0);
        report.found(Finding { session, invariant: "I25", seq, what });
    }
    let told: BTreeSet<Seq> = checker.dead().iter().copied().collect();
    for seq in told.symmetric_difference(letters) {
        let what = if letters.contains(seq) {
            "it is stored as a dead letter, but the journal gave it another ending"
        } else {
            "the journal made it a dead letter, but none is stored"
        };
        let (session, what) = (key.as_str().to_owned(), what.to_owned());
        report.found(Finding { session, invariant: "I2", seq: seq.0, what });
    }
    Ok(())
}

/// Where the history begins: at its beginning, or behind what was forgotten with what was known there.
fn begin(reader: &dyn Reads, key: &SessionKey, report: &mut Report) -> anyhow::Result<Checker> {
    let Some(forgotten) = reader.forgotten(key)? else { return Ok(Checker::new()) };
    report.forgotten_by_retention += forgotten.by_retention;
    report.forgotten_by_erasure += forgotten.by_erasure;
    report.forgotten_dead_letters += forgotten.letters;
    if forgotten.findings > 0 {
        let what = format!("{} findings were in what was forgotten", forgotten.findings);
        let (session, seq) = (key.as_str().to_owned(), forgotten.through.0);
        report.found(Finding { session, invariant: "I2", seq, what });
    }
    Ok(forgotten.checker)
}

/// The numbers of the first line add up: accepted is everything behind it together.
fn describe(report: &Report) -> String {
    let Report { sessions, entries, accepted, committed, cancelled, open, .. } = report;
    let Report { dead_letters, discarded, retried, .. } = report;
    let mut text = format!(
        "{sessions} sessions, {entries} journal entries: {accepted} messages accepted = \
         {committed} answered by a committed turn + {cancelled} cancelled + {open} open + \
         {dead_letters} dead letters + {discarded} discarded + {retried} tried again"
    );
    for (count, what) in [(report.commands, "commands"), (report.context, "context")] {
        if count > 0 {
            let _ = write!(text, " + {count} {what}");
        }
    }
    let Report { forgotten_by_retention: old, forgotten_by_erasure: erased, .. } = report;
    let letters = report.forgotten_dead_letters;
    if letters > 0 {
        let _ = write!(text, " + {letters} forgotten dead letters");
    }
    text.push('\n');
    if old + erased > 0 {
        let all = if report.findings.is_empty() { "; all of them had an ending" } else { "" };
        let _ = writeln!(
            text,
            "of these, {old} were forgotten for their age and {erased} with their customer{all}"
        );
    }
    for finding in &report.findings {
        let Finding { session, invariant, seq, what } = finding;
        let _ = writeln!(text, "{invariant} broken in {session}, journal place {seq}: {what}");
    }
    if report.more > 0 {
        let _ = writeln!(text, "… and {} more", report.more);
    }
    if report.findings.is_empty() {
        text.push_str("every invariant holds\n");
    }
    text
}
