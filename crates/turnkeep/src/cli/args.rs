//! Everything that can be typed, with its help.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::builder::{EnumValueParser, PossibleValue, TypedValueParser};
use clap::error::{ContextKind, ContextValue};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use turnkeep_core::{SessionKey, TurnId};

use super::bench::LoadArgs;
use super::listeners::ListenersArgs;
use super::sessions::SessionsArgs;
use crate::config::{Env, Flags, Stored, check_text};
use crate::role::Role;

const TOP_EXAMPLES: &str = "\
Examples:
  turnkeep serve                       a gateway with an echo agent on http://127.0.0.1:7878
  turnkeep send hello                  one message, and the reply to it
  turnkeep sessions                    who talks to it
  turnkeep attach                      all of it on one screen
  turnkeep check --config my.toml      what is wrong with a configuration

A flag wins over an environment variable (TURNKEEP_…), that over the file, that over the default.
The exit code is 0 when it worked, 1 when it failed or was refused, 2 when it was typed wrongly, 3
when the answer to a message is a question.";

/// A turn gateway between people and AI agents: one turn at a time in every conversation, and
/// nothing that was accepted is ever lost.
#[derive(Parser)]
#[command(name = "turnkeep", version, after_help = TOP_EXAMPLES, max_term_width = 100)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

/// The commands.
#[derive(Subcommand)]
pub(super) enum Command {
    /// Run the gateway
    Serve(ServeArgs),
    /// Run turns for the gateways that share its database, and talk to nobody
    Worker(WorkerArgs),
    /// Watch and steer many sessions in this terminal
    Attach(Box<super::attach::AttachArgs>),
    /// Send a message and print the reply
    Send(SendArgs),
    /// List, look at and steer conversations
    Sessions(SessionsArgs),
    /// Look at turns
    Turns(TurnsArgs),
    /// Look at messages that could not be answered, retry or discard them
    #[command(alias = "dead-letters")]
    Deadletters(DeadLettersArgs),
    /// Look at replies that were not sent or perhaps not, and send them again
    Deliveries(super::deliveries::DeliveriesArgs),
    /// Look at who is told of events, and at callbacks that nobody took
    Listeners(ListenersArgs),
    /// See what was used, in tokens and money
    Usage(super::usage::UsageArgs),
    /// See who is restricted or blocked, and change that
    Guard(super::guard::GuardArgs),
    /// Export everything that is stored of a customer, or erase it
    Customers(super::customers::CustomersArgs),
    /// Hold a brain of your own against the contract
    Brain(super::brain::BrainArgs),
    /// Read the configuration and tell every mistake
    Check(super::check::CheckArgs),
    /// See what is done at its time; run, pause, make and forget jobs
    Cron(super::cron::CronArgs),
    /// Have somebody told something at its time
    Remind(Box<super::remind::RemindArgs>),
    /// Make somebody known by a one-time code, and see who is
    Pair(super::pair::PairArgs),
    /// Link a Signal account, and see how the accounts are
    Signal(super::signal::SignalArgs),
    /// Tell what is missing, and how to mend it
    Doctor(super::doctor::DoctorArgs),
    /// Reach for the servers of tools and show what they have
    Tools(super::tools::ToolsArgs),
    /// Have the server read its configuration anew
    Reload(super::reload::ReloadArgs),
    /// Make, list, replace and end API keys; let people sign in on the web page
    Keys(super::keys::KeysArgs),
    /// Prove on stored data that no message was lost
    Audit(AuditCommandArgs),
    /// Copy everything that is stored into one file, also while the server runs
    Backup(super::backup::BackupArgs),
    /// Put a backup in the place of a data folder's database
    Restore(super::restore::RestoreArgs),
    /// Move everything that is stored from SQLite into PostgreSQL, or back
    Migrate(super::migrate::MigrateArgs),
    /// Drive a server with many users and show what happened
    Bench(BenchArgs),
    /// Print the completions of a shell
    #[command(
        after_help = "Example:\n  turnkeep completions bash > /etc/bash_completion.d/turnkeep"
    )]
    Completions {
        /// Which shell
        shell: Shell,
    },
}

pub(super) fn turn_id(text: &str) -> Result<TurnId, String> {
    let wrong = "must be the id of a turn, like 01a1fcd5-a651-76c6-aa4e-e12d4de32f93";
    text.parse().map_err(|_| wrong.to_owned())
}

fn log_level(text: &str) -> Result<String, String> {
    check_text("log_level", text)
}

fn log_format(text: &str) -> Result<String, String> {
    check_text("log_format", text)
}

fn listen(text: &str) -> Result<String, String> {
    check_text("listen", text)
}

/// Which configuration is meant.
#[derive(Args, Clone, Default)]
pub(super) struct ConfigArgs {
    /// The configuration file [env: TURNKEEP_CONFIG] [default: ./turnkeep.toml if there is one]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Where the store and the socket live [env: TURNKEEP_DATA_DIR]
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<String>,
}

impl ConfigArgs {
    pub(super) fn flags(&self) -> Flags {
        let keys = self.data_dir.iter().map(|dir| ("data_dir", dir.clone())).collect();
        Flags { config: self.config.clone(), keys }
    }

    /// The same as it was typed, for another command.
    pub(super) fn typed(&self) -> Vec<std::ffi::OsString> {
        let config = self.config.iter().flat_map(|file| ["--config".into(), file.clone().into()]);
        let data_dir = self.data_dir.iter().flat_map(|dir| ["--data-dir".into(), dir.into()]);
        config.chain(data_dir).collect()
    }

    /// Whether the data folder was typed, here or into the environment.
    pub(super) fn names_data_dir(&self, env: &Env) -> bool {
        self.data_dir.is_some() || env.get("TURNKEEP_DATA_DIR").is_some_and(|dir| !dir.is_empty())
    }
}

/// What a server can be told with flags.
#[derive(Args, Clone, Default)]
pub(super) struct ServerFlags {
    #[command(flatten)]
    config: ConfigArgs,
    /// Address and port of the API; port 0 takes a free one [env: TURNKEEP_LISTEN] [default:
    /// 127.0.0.1:7878]
    #[arg(long, value_name = "ADDRESS", value_parser = listen)]
    listen: Option<String>,
    /// What is logged, like info or info,turnkeep_gateway=debug [env: TURNKEEP_LOG_LEVEL]
    #[arg(long, value_name = "LEVEL", value_parser = log_level)]
    log_level: Option<String>,
    /// How log lines look, text or json [env: TURNKEEP_LOG_FORMAT]
    #[arg(long, value_name = "FORMAT", value_parser = log_format)]
    log_format: Option<String>,
}

impl ServerFlags {
    pub(super) fn flags(&self) -> Flags {
        let mut flags = self.config.flags();
        let keys = [
            ("listen", &self.listen),
            ("log_level", &self.log_level),
            ("log_format", &self.log_format),
        ];
        let typed = keys.into_iter().filter_map(|(key, text)| Some((key, text.clone()?)));
        flags.keys.extend(typed);
        flags
    }
}

/// `serve`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  turnkeep serve
  turnkeep serve --listen 127.0.0.1:0 --data-dir /tmp/try
  TURNKEEP_LOG_FORMAT=json turnkeep serve --config /etc/turnkeep/turnkeep.toml")]
pub(super) struct ServeArgs {
    #[command(flatten)]
    pub(super) server: ServerFlags,
    /// What it does: everything, or all but run turns (see `turnkeep worker`); the latter needs a
    /// database that workers share
    #[arg(long, value_name = "ROLE", value_parser = RoleParser, default_value = "all")]
    pub(super) role: ServeRole,
    /// Leave the terminal's session, so that it outlives whoever started it
    #[arg(long, hide = true)]
    pub(super) detached: bool,
}

/// What a server that talks to clients does beside that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ServeRole {
    /// Run turns, too
    All,
    /// Leave turns to workers
    Gateway,
}

impl From<ServeRole> for Role {
    fn from(role: ServeRole) -> Self {
        match role {
            ServeRole::All => Self::All,
            ServeRole::Gateway => Self::Gateway,
        }
    }
}

/// Reads a role, and says where the one is that is no flag of `serve`.
#[derive(Clone)]
struct RoleParser;

impl TypedValueParser for RoleParser {
    type Value = ServeRole;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<ServeRole, clap::Error> {
        let read = EnumValueParser::new().parse_ref(command, arg, value);
        read.map_err(|mut error| {
            if value == "worker" {
                let tip = "a worker is started with `turnkeep worker`".into();
                error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
            }
            error
        })
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let all = ServeRole::value_variants().iter();
        Some(Box::new(all.filter_map(ServeRole::to_possible_value)))
    }
}

/// `worker`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  turnkeep worker --config cluster.toml --data-dir /var/lib/turnkeep-worker --listen 127.0.0.1:7879

It answers GET /healthz, /readyz and /metrics, and nothing else. It needs [store] kind = \"postgres\",
the same database and the same configuration of agents and channels as the gateways.")]
pub(super) struct WorkerArgs {
    #[command(flatten)]
    pub(super) server: ServerFlags,
}

/// Where the server is and how its answer is shown.
#[derive(Args, Clone)]
pub(super) struct ApiArgs {
    /// The server, http://HOST:PORT or unix:PATH [env: TURNKEEP_SERVER] [default: the socket in
    /// the data folder, else http://127.0.0.1:7878]
    #[arg(long, value_name = "URL", global = true)]
    pub(super) server: Option<String>,
    /// The file that holds the API key for a server over TCP [env: TURNKEEP_KEY, the key itself]
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) key_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) config: ConfigArgs,
    /// Print the server's JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
}

/// Channels that a command line can speak for.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum SendChannel {
    /// Bursts are gathered, as from a chat page
    Web,
    /// Every message is answered at once
    Api,
}

/// `send`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  turnkeep send hello
  turnkeep send --as anna --channel web 'and what about tomorrow?'
  git diff | turnkeep send --agent reviewer -
  turnkeep send --wait 0 'no hurry'

If the connection is lost the same message is sent again under the same id, so it is never taken
twice. Where the agent asks back, the question is printed and the exit code is 3; the next message
is the answer to it.")]
pub(super) struct SendArgs {
    /// Who speaks [default: $USER]
    #[arg(long = "as", value_name = "NAME", env = "TURNKEEP_AS", hide_env_values = true)]
    pub(super) customer: Option<String>,
    /// The way it comes
    #[arg(long, value_enum, default_value = "api")]
    pub(super) channel: SendChannel,
    /// Which agent answers [default: default]
    #[arg(long, value_name = "NAME", env = "TURNKEEP_AGENT", hide_env_values = true)]
    pub(super) agent: Option<String>,
    /// Whose deployment it is [default: default]
    #[arg(long, value_name = "NAME", env = "TURNKEEP_TENANT", hide_env_values = true)]
    pub(super) tenant: Option<String>,
    /// How long to wait for the reply; 0 doesn't wait
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(0..=300))]
    pub(super) wait: u64,
    /// The message's id; the same id is never taken twice [default: a new one]
    #[arg(long, value_name = "ID")]
    pub(super) id: Option<String>,
    /// What to say; - reads it from standard input
    #[arg(required = true, value_name = "MESSAGE")]
    pub(super) message: Vec<String>,
    #[command(flatten)]
    pub(super) api: ApiArgs,
}

/// A page of a list.
#[derive(Args, Clone, Default)]
pub(super) struct PageArgs {
    /// How many at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) limit: Option<u32>,
    /// Only what comes behind this one
    #[arg(long, value_name = "PLACE")]
    pub(super) after: Option<String>,
}

/// `turns`.
#[derive(Args)]
pub(super) struct TurnsArgs {
    #[command(subcommand)]
    pub(super) command: TurnsCommand,
    #[command(flatten)]
    pub(super) api: ApiArgs,
}

/// What can be done with turns.
#[derive(Subcommand)]
pub(super) enum TurnsCommand {
    /// Show one
    Show {
        /// Its id
        #[arg(value_parser = turn_id)]
        id: TurnId,
    },
    /// List a session's, newest first
    List {
        /// The session's key
        session: SessionKey,
        /// How many at most
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: Option<u32>,
    },
}

/// `deadletters`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  turnkeep deadletters
  turnkeep deadletters retry 17")]
pub(super) struct DeadLettersArgs {
    #[command(subcommand)]
    pub(super) command: Option<DeadLettersCommand>,
    #[command(flatten)]
    pub(super) api: ApiArgs,
}

/// What can be done with dead letters.
#[derive(Subcommand)]
pub(super) enum DeadLettersCommand {
    /// List them (this is what `deadletters` alone does)
    List(PageArgs),
    /// Put one back into its session's queue
    Retry {
        /// Its number
        id: String,
    },
    /// Give one up
    Discard {
        /// Its number
        id: String,
    },
}

/// `audit` as typed.
#[derive(Args)]
pub(super) struct AuditCommandArgs {
    #[command(flatten)]
    pub(super) config: ConfigArgs,
    /// Audit this backup instead of the data folder
    #[arg(long, value_name = "FILE", conflicts_with = "data_dir")]
    pub(super) backup: Option<PathBuf>,
    /// Print the findings as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// What `audit` is asked.
#[derive(Clone, Debug)]
pub(crate) struct AuditArgs {
    /// Whose data.
    pub(crate) place: Stored,
    /// Any one file instead, like a backup.
    pub(crate) file: Option<PathBuf>,
    /// Print the findings as JSON.
    pub(crate) json: bool,
}

pub(super) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("must be a whole number, 1 or more".into()),
        Ok(number) => Ok(number),
    }
}

/// `bench`: how a server is driven.
#[derive(Args, Clone, Debug)]
#[command(after_help = super::bench::EXAMPLES)]
pub(crate) struct BenchArgs {
    /// Users who talk at the same time
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = at_least_one)]
    pub(crate) users: usize,
    /// Messages of each user [default: 10, or without end where --duration is given]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) messages: Option<u64>,
    /// No message is begun after so long
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) duration: Option<u64>,
    /// How long the agent works on a turn: set for the bench's own server; of a running one, say
    /// what it takes, or its work is taken for waiting
    #[arg(long, value_name = "MS", default_value_t = 200)]
    pub(crate) delay_ms: u64,
    /// Messages in a burst; a burst is answered as one
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) burst: u64,
    /// Pause between the messages of a burst
    #[arg(long, value_name = "MS", default_value_t = 50)]
    pub(crate) burst_gap_ms: u64,
    /// The channel they come on
    #[arg(long, value_name = "NAME", default_value = "api",
          value_parser = ["signal", "web", "terminal", "whatsapp", "sms", "email", "voice", "api"])]
    pub(crate) channel: String,
    /// One more user, who sends without pause over so many connections
    #[arg(long, value_name = "CONNECTIONS", value_parser = at_least_one)]
    pub(crate) flood: Option<usize>,
    /// Leave the guard of the bench's own server on, with limits that nobody meets; else it is off
    #[arg(long, conflicts_with = "server")]
    pub(crate) guard: bool,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// Don't wait for replies; measure only how fast messages are taken
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// Idle sessions to make before it begins
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) prefill: u64,
    /// A running server [default: one of its own, with a data folder that is thrown away]. Given
    /// several times, for servers of one cluster, users are spread over them
    #[arg(long, value_name = "URL")]
    pub(crate) server: Vec<String>,
    /// Draw what happened into this file (SVG)
    #[arg(long, value_name = "FILE")]
    pub(crate) picture: Option<PathBuf>,
    /// Print the numbers as JSON
    #[arg(long)]
    pub(crate) json: bool,
}
