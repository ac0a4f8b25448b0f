//! What can be typed behind `turnkeep sessions`.

use clap::{Args, Subcommand, value_parser};
use turnkeep_core::TurnId;

use super::super::args::{ApiArgs, PageArgs, turn_id};
use super::super::operators::{OperatorArgs, PauseArgs, ReplyArgs};
use super::super::session_file::{LoadArgs, SaveArgs};
use super::super::worktrees::WorktreesArgs;
use super::which::Which;

/// `sessions`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  turnkeep sessions
  turnkeep sessions create --name 'api work'
  turnkeep sessions waiting
  turnkeep sessions messages 'api work'
  turnkeep sessions stop default:default:web:dm:anna

WHICH is a session's number on the switchboard, its name, at least two digits of its id, or its key,
tenant:agent:channel:kind:peer.")]
pub(in crate::cli) struct SessionsArgs {
    #[command(subcommand)]
    pub(super) command: Option<SessionsCommand>,
    /// Whose sessions are meant [default: all where they are listed, else default]
    #[arg(long, value_name = "NAME", global = true)]
    pub(super) tenant: Option<String>,
    #[command(flatten)]
    pub(super) api: ApiArgs,
}

/// One session.
#[derive(Args, Clone)]
pub(in crate::cli) struct WhichArgs {
    /// Its number, its name, at least two digits of its id, or its key
    #[arg(value_name = "WHICH")]
    pub(in crate::cli) which: Which,
}

/// What can be done with sessions.
#[derive(Subcommand)]
pub(super) enum SessionsCommand {
    /// List them by their keys, closed ones too (this is what `sessions` alone does)
    List(PageArgs),
    /// List those on the switchboard by their numbers
    Board(BoardArgs),
    /// List those that wait for a person
    Waiting,
    /// Tell what they take, and what to do about it
    Stats,
    /// Put to sleep what is idle for long; no conversation is deleted
    Cleanup,
    /// Open one
    Create(CreateArgs),
    /// Have a seat look at one
    Switch(SwitchArgs),
    /// Call one by a name
    Rename(RenameArgs),
    /// Note how far one was read
    Read(ReadArgs),
    /// Wake one up
    Touch(WhichArgs),
    /// Show how one stands
    Show(WhichArgs),
    /// Show what was said, oldest first
    Messages {
        #[command(flatten)]
        which: WhichArgs,
        #[command(flatten)]
        page: PageArgs,
    },
    /// Stop its open turn
    Stop {
        #[command(flatten)]
        which: WhichArgs,
        /// Only if this turn is the open one
        #[arg(long, value_name = "ID", value_parser = turn_id)]
        turn: Option<TurnId>,
    },
    /// Start afresh: stop its turn, cancel what waits and forget the history
    New(WhichArgs),
    /// Close it
    Close(CloseArgs),
    /// Save it as a file
    Save(SaveArgs),
    /// Make a new session of a file
    Load(LoadArgs),
    /// See the git worktrees that agents keep for sessions, and remove them
    Worktrees(WorktreesArgs),
    /// Take the agent's place there
    Pause(PauseArgs),
    /// Answer there in the agent's place
    Reply(ReplyArgs),
    /// Give the agent its place back
    HandBack(OperatorArgs),
    /// Note that its customer takes messages that nobody asked for
    OptIn(WhichArgs),
    /// Note that its customer takes none; what waits is not told either
    OptOut(WhichArgs),
}

/// `sessions board`.
#[derive(Args)]
pub(super) struct BoardArgs {
    /// Mark what this seat looks at
    #[arg(long, value_name = "SEAT")]
    pub(super) seat: Option<String>,
    /// Only those in this state, like processing
    #[arg(long, value_name = "STATE")]
    pub(super) state: Option<String>,
    #[command(flatten)]
    pub(super) page: PageArgs,
}

/// `sessions create`.
#[derive(Args)]
pub(super) struct CreateArgs {
    /// What it shall be called, 1 to 64 characters
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
    /// Which agent answers [default: default]
    #[arg(long, value_name = "NAME", env = "TURNKEEP_AGENT", hide_env_values = true)]
    pub(super) agent: Option<String>,
    /// The seat that looks at it from now on
    #[arg(long, value_name = "SEAT")]
    pub(super) seat: Option<String>,
}

/// `sessions switch`.
#[derive(Args)]
pub(super) struct SwitchArgs {
    #[command(flatten)]
    pub(super) which: WhichArgs,
    /// Which seat: 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'
    #[arg(long, value_name = "SEAT")]
    pub(super) seat: String,
}

/// `sessions rename`.
#[derive(Args)]
pub(super) struct RenameArgs {
    #[command(flatten)]
    pub(super) which: WhichArgs,
    /// Its name from now on
    #[arg(value_name = "NAME", required_unless_present = "clear", conflicts_with = "clear")]
    pub(super) name: Option<String>,
    /// Take its name away
    #[arg(long)]
    pub(super) clear: bool,
}

/// `sessions read`.
#[derive(Args)]
pub(super) struct ReadArgs {
    #[command(flatten)]
    pub(super) which: WhichArgs,
    /// The last place that was read [default: everything that is there]
    #[arg(long, value_name = "SEQ", value_parser = value_parser!(u64))]
    pub(super) seq: Option<u64>,
}

/// `sessions close`.
#[derive(Args)]
pub(super) struct CloseArgs {
    #[command(flatten)]
    pub(super) which: WhichArgs,
    /// Tell what this seat looks at next
    #[arg(long, value_name = "SEAT")]
    pub(super) seat: Option<String>,
}
