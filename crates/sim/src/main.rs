//! The simulator's command line: plays schedules, hunts mutants, shows coverage, replays a seed.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use turnkeep_sim::coverage::Coverage;
use turnkeep_sim::hunt::{FAILURES_MAX, Hunted, Report, hunt, median, run};
use turnkeep_sim::mutants::MUTANTS;
use turnkeep_sim::{Stock, World};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Plays seeded schedules against Turnkeep's rules and reports every broken promise.
#[derive(Debug, Parser)]
#[command(name = "turnkeep-sim", version)]
struct Arguments {
    /// How many schedules to play.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    schedules: u64,
    /// The first seed; the following ones count up from it.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Threads; as many as there are cores if absent.
    #[arg(long, value_name = "J")]
    jobs: Option<usize>,
    /// Plant every mistake this build knows and show how fast it is found.
    #[arg(long)]
    mutants: bool,
    /// Show which branches were reached, and which never.
    #[arg(long)]
    coverage: bool,
    /// Play one seed and print everything that happened.
    #[arg(long, value_name = "SEED")]
    log: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let jobs = arguments.jobs.unwrap_or(cores).max(1);
    let stocks = match (0..jobs).map(|_| Stock::prepare()).collect::<Result<Vec<_>, _>>() {
        Ok(stocks) => stocks,
        Err(error) => {
            eprintln!("the ingress refused what it should let in: {error}");
            return ExitCode::from(2);
        }
    };
    if let Some(seed) = arguments.log {
        return replay(&stocks[0], seed);
    }
    if arguments.mutants {
        return hunt_mutants(&stocks[0], arguments.seed);
    }
    soak(&stocks, &arguments)
}

fn replay(stock: &Stock, seed: u64) -> ExitCode {
    let (verdict, log) = World::new(stock).play_logged(seed, None);
    print!("{log}");
    println!("seed {seed}: {} steps, {} messages", verdict.steps, verdict.messages);
    for violation in &verdict.violations {
        println!("BROKEN {violation}");
    }
    if verdict.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn soak(stocks: &[Stock], arguments: &Arguments) -> ExitCode {
    let bar = progress_bar(arguments.schedules);
    let began = Instant::now();
    let report = run(stocks, arguments.seed, arguments.schedules, &|done| bar.inc(done));
    bar.finish_and_clear();
    print_report(&report, stocks.len(), began.elapsed());
    if arguments.coverage {
        print_coverage(&report.coverage);
    }
    for failure in &report.failures {
        println!("seed {}: replay it with --log {}", failure.seed, failure.seed);
        for violation in &failure.violations {
            println!("    BROKEN {violation}");
        }
    }
    if report.failures.is_empty() {
        return ExitCode::SUCCESS;
    }
    if report.failures.len() >= FAILURES_MAX {
        println!("stopped: {FAILURES_MAX} failing seeds are enough");
    }
    ExitCode::FAILURE
}

fn progress_bar(schedules: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = "{bar:40} {human_pos} of {human_len} schedules, {per_sec}, {eta} left";
    let style =
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(schedules).with_style(style)
}

fn print_report(report: &Report, jobs: usize, took: Duration) {
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let rate = |count: u64, time: Duration| count as f64 / time.as_secs_f64().max(1e-9);
    println!(
        "{} schedules in {:.1} s on {jobs} threads: {:.0} a second, {:.0} a second a core, {:.0} steps a second a core",
        report.schedules,
        took.as_secs_f64(),
        rate(report.schedules, took),
        rate(report.schedules, report.busy),
        rate(report.steps, report.busy),
    );
    println!(
        "a median schedule: {} steps, {} messages, {} sessions",
        median(&report.step_counts),
        median(&report.message_counts),
        turnkeep_sim::stock::SESSIONS,
    );
}

fn print_coverage(coverage: &Coverage) {
    println!("\n{:<18} {:<16} {:<26} {:>10}", "stage", "input", "outcome", "times");
    for (stage, kind, outcome, count) in coverage.reached() {
        println!("{stage:<18} {kind:<16} {outcome:<26} {count:>10}");
    }
    println!("\nnever reached:");
    for (stage, kind) in coverage.never() {
        println!("    {stage} x {kind}");
    }
    for reason in coverage.reasons_never_given() {
        println!("    ignored because: {reason}");
    }
}

fn hunt_mutants(stock: &Stock, seed: u64) -> ExitCode {
    let hunted = hunt(stock, seed);
    println!(
        "{:<52} {:>9} {:>9} {:>8} {:>8}  broke",
        "mutant", "schedules", "at most", "ms", "seed"
    );
    for Hunted { name, bound, schedules, seed, violation, took } in &hunted {
        let found = schedules.map_or_else(|| "NOT FOUND".to_owned(), |count| count.to_string());
        let short: String = violation.chars().take(60).collect();
        let millis = took.as_secs_f64() * 1000.0;
        println!("{name:<52} {found:>9} {bound:>9} {millis:>8.1} {seed:>8}  {short}");
    }
    if hunted.len() < MUTANTS.len() {
        let left = MUTANTS.len() - hunted.len();
        println!("{left} more need a build with --features mutants");
    }
    if hunted.iter().all(|one| one.schedules.is_some()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
