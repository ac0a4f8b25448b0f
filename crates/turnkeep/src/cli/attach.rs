//! `turnkeep attach`: many sessions in one terminal; with `--plain` one of them, line by line.

mod api;
mod events;
mod files;
mod meet;
mod seat;
mod start;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use clap::Args;
use turnkeep_terminal::plain::{self, PlainOptions};
use turnkeep_terminal::ports::Options;
use turnkeep_terminal::run::{self, By};
use uuid::Uuid;

use super::args::ApiArgs;
use super::client::Client;
use super::{output, place};
use crate::config::Env;
use api::Api;
use seat::Seat;

/// What a process says that was ended by a signal: this and the signal's number.
const SIGNALLED: u8 = 128;

const EXAMPLES: &str = "\
Examples:
  turnkeep attach                          every session on one screen; Ctrl-C twice leaves
  turnkeep attach --start                  the same, and starts a server if none runs
  turnkeep attach --session 'api work'     that session first
  TURNKEEP_KEY=… turnkeep attach --server https://example.org
  echo 'are you there?' | turnkeep attach --plain

Leaving stops nothing: the server goes on, and the next attach finds everything as it was.

A seat is a place from which somebody watches; each has an active session of its own, which it finds
again. Without --seat it is the first of t1, t2, … that no other attach of this user on this machine
has right now.

With --plain nothing is drawn and nothing moves: a line that is read is a message, what is said is
written as lines, whole, with who said it. A line that ends in a backslash goes on in the next one;
/help lists the commands. What this program says itself goes to standard error. From a pipe a line
is sent once the one before is answered, or a question waits for it. At the end of the input it
leaves when the last answer is there: 0 when everything was answered, 1 when something failed, was
refused or was stopped, 3 when the conversation waits for an answer.

The exit code without --plain is 0, 1 where it can't be shown or the server refuses, and 128 and the
number of the signal that ended it.";

/// `attach`.
#[derive(Args)]
#[command(after_help = EXAMPLES, mut_arg("json", |json| json.hide(true)))]
pub(super) struct AttachArgs {
    /// The name of this place of watching: letters, digits, `.`, `_` and `-` [default: the first of
    /// t1, t2, … that is free]
    #[arg(long, value_name = "NAME", value_parser = seat::name)]
    seat: Option<String>,
    /// The session to begin with: its number, name, the beginning of its id, or its key [default:
    /// the seat's active one]
    #[arg(long, value_name = "WHICH")]
    session: Option<String>,
    /// Whose sessions [default: the key's tenant, else default]
    #[arg(long, value_name = "NAME", env = "TURNKEEP_TENANT", hide_env_values = true)]
    tenant: Option<String>,
    /// Line by line, for pipes and screen readers
    #[arg(long)]
    plain: bool,
    /// Start a server of this data folder if none runs
    #[arg(long)]
    start: bool,
    /// No colours [env: NO_COLOR]
    #[arg(long)]
    no_color: bool,
    /// Hear the mouse: click a session, scroll with the wheel
    #[arg(long)]
    mouse: bool,
    /// Ring the bell when a session begins to wait for you
    #[arg(long)]
    bell: bool,
    /// Tell the desktop when a session begins to wait for you, where the terminal can (OSC 9)
    #[arg(long)]
    notify: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// Attaches, and leaves when the person does.
pub(super) async fn run(args: AttachArgs) -> anyhow::Result<ExitCode> {
    if args.api.json {
        bail!("attach has no --json; `turnkeep sessions --json` and `turnkeep send --json` have");
    }
    if !args.plain
        && let Some(why) = turnkeep_terminal::screen::missing()
    {
        bail!("{why}; `turnkeep attach --plain` goes line by line and needs none");
    }
    let env = Env::of_process();
    let started = if args.start { start::if_none_runs(&args.api, &env).await? } else { None };
    if started.is_none() {
        meet::may_connect(&place::find(&args.api, &env)?)?;
    }
    let client = Client::new(&args.api)?;
    let place = client.place().to_string();
    let api = Arc::new(Api::new(client, args.tenant.clone()));
    meet::server(&api).await?;
    let seat = Seat::take(args.seat.clone(), &place)?;
    let nonce = Uuid::now_v7().to_string();
    if args.plain {
        let options = PlainOptions {
            seat: seat.name.clone(),
            session: args.session,
            interactive: std::io::stdin().is_terminal(),
            nonce,
        };
        return Ok(ExitCode::from(plain::run(api, options).await?));
    }
    let options = Options {
        seat: seat.name.clone(),
        session: args.session,
        color: !args.no_color && env.get("NO_COLOR").is_none_or(str::is_empty),
        mouse: args.mouse,
        bell: args.bell,
        notify: args.notify,
        place,
        nonce,
        utc_offset_s: utc_offset_s(),
    };
    let ended = run::run(api, options).await?;
    for line in &ended.given_up {
        output::complain(line);
    }
    match ended.by {
        By::Person => {
            output::complain("the server goes on; `turnkeep attach` comes back");
            Ok(ExitCode::SUCCESS)
        }
        By::Signal(number) => Ok(ExitCode::from(SIGNALLED.saturating_add(number))),
    }
}

fn utc_offset_s() -> i32 {
    jiff::tz::TimeZone::system().to_offset(jiff::Timestamp::now()).seconds()
}
