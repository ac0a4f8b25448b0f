//! From what was typed to what is done, and to an exit code.

use std::io;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, CommandFactory as _, FromArgMatches as _};

use super::args::{AuditArgs, AuditCommandArgs, Cli, Command, ServerFlags};
use super::{
    attach, backup, brain, check, cron, customers, dead_letters, deliveries, doctor, guard, keys,
    listeners, migrate, output, pair, reload, remind, restore, send, sessions, signal, tools,
    turns, usage,
};
use crate::config::{self, Env};
use crate::reload::Source;
use crate::role::Role;

/// It failed or was refused.
pub(super) const FAILED: u8 = 1;

/// Arguments that name somebody, or something of theirs.
const NAMES: [&str; 11] = [
    "account", "agent", "by", "cancel", "customer", "seat", "session", "tenant", "to", "user",
    "which",
];

/// Parses the command line and does what it says.
pub(crate) fn run() -> ExitCode {
    let mut command = Cli::command();
    let matches = command.get_matches_mut();
    if let Some(argument) = empty_name(&command, &matches) {
        let why = format!("{argument} is empty: say whom or which one you mean");
        command.error(ErrorKind::InvalidValue, why).exit();
    }
    let parsed = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let Some(command) = parsed.command else {
        let help = Cli::command().render_help();
        return finish(output::line(&help.to_string()).map(|()| ExitCode::SUCCESS));
    };
    finish(dispatch(command))
}

/// The first name that was typed and is empty, like `--as "$NAME"` where the variable is not set:
/// somebody else would be meant instead. An empty variable of our own is one that is not set.
fn empty_name(command: &clap::Command, matches: &ArgMatches) -> Option<String> {
    let typed = |argument: &&Arg| {
        let id = argument.get_id().as_str();
        NAMES.contains(&id) && matches.value_source(id) == Some(ValueSource::CommandLine)
    };
    let empty = |argument: &&Arg| {
        let raw = matches.get_raw(argument.get_id().as_str());
        raw.into_iter().flatten().any(|text| text.is_empty())
    };
    if let Some(argument) = command.get_arguments().filter(typed).find(empty) {
        return Some(argument.to_string());
    }
    let (name, below) = matches.subcommand()?;
    empty_name(command.find_subcommand(name)?, below)
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(args) => serve(&args.server, args.detached, args.role.into()),
        Command::Worker(args) => serve(&args.server, false, Role::Worker),
        Command::Attach(args) => client(attach::run(*args)),
        Command::Send(args) => client(send::run(args)),
        Command::Sessions(args) => client(sessions::run(args)),
        Command::Turns(args) => client(turns::run(args)),
        Command::Deadletters(args) => client(dead_letters::run(args)),
        Command::Deliveries(args) => client(deliveries::run(args)),
        Command::Listeners(args) => client(listeners::run(args)),
        Command::Usage(args) => client(usage::run(args)),
        Command::Guard(args) => client(guard::run(args)),
        Command::Cron(args) => client(cron::run(args)),
        Command::Remind(args) => client(remind::run(*args)),
        Command::Pair(args) => client(pair::run(args)),
        Command::Customers(args) => client(customers::run(args)),
        Command::Keys(args) => client(keys::run(args)),
        Command::Brain(args) => brain::run(args),
        Command::Check(args) => check::run(&args),
        Command::Doctor(args) => client(doctor::run(args)),
        Command::Signal(args) => client(signal::run(args)),
        Command::Tools(args) => client(tools::run(args)),
        Command::Reload(args) => client(reload::run(args)),
        Command::Audit(args) => audit(&args),
        Command::Backup(args) => client(backup::run(args)),
        Command::Restore(args) => client(restore::run(args)),
        Command::Migrate(args) => migrate::run(&args),
        Command::Bench(args) => crate::bench::run(args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "turnkeep", &mut script);
            output::bytes(&script)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn serve(server: &ServerFlags, detached: bool, role: Role) -> anyhow::Result<ExitCode> {
    let (flags, env) = (server.flags(), Env::of_process());
    let resolved = config::load(&flags, &env)?;
    if detached {
        rustix::process::setsid().context("can't leave the terminal's session")?;
    }
    crate::serve::run(resolved, Source { flags, env }, role)
}

fn audit(args: &AuditCommandArgs) -> anyhow::Result<ExitCode> {
    if let Some(file) = &args.backup {
        return backup::audit(file, args.json);
    }
    let place = config::stored(&args.config.flags(), &Env::of_process())?;
    crate::audit::run(AuditArgs { place, file: None, json: args.json })
}

/// Runs a command that only talks to a server.
fn client(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("can't start the runtime")?;
    runtime.block_on(command)
}

fn finish(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    let error = match outcome {
        Ok(code) => return code,
        Err(error) => error,
    };
    // A reader that has seen enough (`| head`) is no failure.
    let closed = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    if error.chain().any(|cause| cause.downcast_ref().is_some_and(closed)) {
        return ExitCode::SUCCESS;
    }
    output::complain(&format!("{error:#}"));
    ExitCode::from(FAILED)
}
