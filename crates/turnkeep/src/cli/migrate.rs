//! `turnkeep migrate`: everything out of SQLite into PostgreSQL, or back.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::{ArgGroup, Args};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use super::args::{AuditArgs, ConfigArgs, at_least_one};
use super::output;
use crate::config::store::StoreSettings;
use crate::config::{self, Env, Flags, Stored};
use crate::wiring::moving::{self, Far, Job, Step, Told};

/// How often a table that takes long is told of where nobody sees a bar.
const TELL: Duration = Duration::from_secs(10);

/// `migrate`.
#[derive(Args)]
#[command(
    group = ArgGroup::new("what").required(true).args(["to", "to_data_dir", "undo"]),
    after_help = "\
From the store of --config (or of the data folder) into the one that --to names, which must be
empty. No server may run on either. Killed or broken off at any point, the same command goes on
where it stopped; until it has ended no server starts on either. At the end both sides are compared
and audited. The source stays as it is, but no server starts there any more.

The address of a database stands in a file or a variable, as for a server: never on a command line.
Attachments, worktrees and what signal-cli keeps stay in the data folder. See docs/migrate.md.

Examples:
  turnkeep migrate --to postgres.toml               from the data folder into its [store]
  turnkeep migrate --config postgres.toml --to-data-dir /srv/turnkeep     and back
  turnkeep migrate --undo                           stay, or come back, to where it was"
)]
pub(super) struct MigrateArgs {
    /// The configuration whose [store] everything moves into
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// The data folder whose SQLite file everything moves into
    #[arg(long, value_name = "DIR")]
    to_data_dir: Option<PathBuf>,
    /// Have servers start again on the store of --config that was, or is being, moved away
    #[arg(long)]
    undo: bool,
    /// Rows that one transaction writes at most
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = at_least_one)]
    rows: usize,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Does what was asked.
pub(super) fn run(args: &MigrateArgs) -> anyhow::Result<ExitCode> {
    let env = Env::of_process();
    let from = config::stored(&args.config.flags(), &env)?;
    if args.undo {
        let other = moving::undo(&from)?;
        output::line(&format!(
            "servers start here again, on what was here then; see that none starts on {other}"
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    let to = target(args, &env)?;
    let shown = Arc::new(Shown::new()?);
    let tells = Arc::clone(&shown);
    let told: Told = Arc::new(move |step| tells.tell(step));
    let mut clean = true;
    let mut judge = || -> anyhow::Result<bool> {
        shown.end();
        let (sound, whole) = (audit("source", &from)?, audit("target", &to)?);
        clean = sound && whole;
        // What was wrong before it moved is as wrong now, and no reason to stay.
        Ok(whole || !sound)
    };
    let done = moving::run(Job { from: &from, to: &to, rows: args.rows, told, judge: &mut judge });
    shown.end();
    if !done? {
        output::complain(
            "the audit of the target found what the source doesn't have, so it was not finished: \
             the source is whole, `turnkeep migrate --undo` opens it again",
        );
        return Ok(ExitCode::FAILURE);
    }
    farewell(args, &from, &to)?;
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The store that everything moves into.
fn target(args: &MigrateArgs, env: &Env) -> anyhow::Result<Stored> {
    match (&args.to, &args.to_data_dir) {
        (_, Some(dir)) => Ok(Stored { data_dir: dir.clone(), store: StoreSettings::Sqlite }),
        (config, None) => {
            let flags = Flags { config: config.clone(), keys: Vec::new() };
            Ok(config::stored(&flags, env)?)
        }
    }
}

/// Whether every invariant holds there; what doesn't is told.
fn audit(side: &str, place: &Stored) -> anyhow::Result<bool> {
    output::line(&format!(
        "audit of the {side}, which of these rows counts sessions and journal entries:"
    ))?;
    let args = AuditArgs { place: place.clone(), file: None, json: false };
    Ok(crate::audit::run(args)? == ExitCode::SUCCESS)
}

fn farewell(args: &MigrateArgs, from: &Stored, to: &Stored) -> anyhow::Result<()> {
    let dir = |place: &Stored| {
        let dir = std::path::absolute(&place.data_dir);
        dir.unwrap_or_else(|_| place.data_dir.clone()).display().to_string()
    };
    let text = match (&args.to, &from.store) {
        (Some(file), StoreSettings::Sqlite) => format!(
            "moved. Start servers with {} from now on, and data_dir {}: attachments, \
             worktrees and what signal-cli keeps stay there. turnkeep.db there is as it was and \
             starts no server any more: keep it as a backup, or delete it",
            file.display(),
            dir(from)
        ),
        _ => format!(
            "moved. Start servers without [store] from now on, and data_dir {}: attachments, \
             worktrees and what signal-cli keeps have to be there too, so copy them from the \
             former data folder if that was another one. The database is as it was and starts no \
             server any more: keep it as a backup, or drop its schema",
            dir(to)
        ),
    };
    output::line(&text)
}

/// A bar for people, lines for everybody else.
struct Shown {
    bar: Option<ProgressBar>,
    state: Mutex<State>,
}

/// The table that is under way.
struct State {
    table: &'static str,
    verb: &'static str,
    /// When we began with it, and how many rows were there already.
    since: (Instant, u64),
    told: Instant,
}

impl Shown {
    fn new() -> anyhow::Result<Self> {
        let bar = match std::io::stdout().is_terminal() && std::io::stderr().is_terminal() {
            true => {
                let template = "{msg} {human_pos} of about {human_len} [{wide_bar}] {per_sec}";
                let style = ProgressStyle::with_template(template)?.progress_chars("=> ");
                Some(ProgressBar::new(0).with_style(style))
            }
            false => None,
        };
        let now = Instant::now();
        let state = State { table: "", verb: "", since: (now, 0), told: now };
        Ok(Self { bar, state: Mutex::new(state) })
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn tell(&self, step: Step) {
        match step {
            Step::Begun { from, to } => self.line(&format!("from {from}\ninto {to}")),
            Step::Copying(far) => self.far("copied", far),
            Step::Comparing(far) => self.far("compared", far),
            Step::Same(rows) => {
                let rows = HumanCount(rows);
                self.line(&format!("{rows} rows of all tables together, the same on both sides"));
            }
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            // Whoever reads it may be gone; the work goes on.
            None => drop(output::line(text)),
        }
    }

    fn far(&self, verb: &'static str, far: Far) {
        let Far { table, rows, of, ended } = far;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if (state.table, state.verb) != (table, verb) {
            let now = Instant::now();
            *state = State { table, verb, since: (now, rows), told: now };
        }
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{table} {verb}"));
            bar.set_length(of.max(1));
            bar.set_position(rows);
            return;
        }
        let late = state.told.elapsed() >= TELL;
        if !late && (!ended || rows == 0) {
            return;
        }
        state.told = Instant::now();
        let (since, before) = state.since;
        let rate = rate(rows - before.min(rows), since.elapsed());
        let of = if ended { String::new() } else { format!(" of about {of}") };
        self.line(&format!("{table}: {rows} rows{of} {verb}{rate}"));
    }
}

/// How many rows a second, where that says anything.
fn rate(rows: u64, took: Duration) -> String {
    if rows == 0 || took < Duration::from_millis(1) {
        return String::new();
    }
    let a_second = u128::from(rows) * 1000 / took.as_millis();
    format!(", {a_second} a second")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_told_where_there_is_one() {
        let check = |rows, ms, expect: &str| {
            assert_eq!(rate(rows, Duration::from_millis(ms)), expect);
        };
        check(5000, 500, ", 10000 a second");
        check(1, 3000, ", 0 a second");
        check(0, 500, "");
        check(7, 0, "");
    }
}
