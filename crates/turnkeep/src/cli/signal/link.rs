//! `turnkeep signal link`: shows what a phone has to scan, and puts the account into the file.

use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::super::args::ConfigArgs;
use super::super::dispatch::FAILED;
use super::super::{output, qr};
use crate::config::signal::SignalSettings;
use crate::config::{self, Env, Resolved};
use crate::wiring;

/// The file that is made where there is none.
const FILE: &str = "turnkeep.toml";

/// `signal link`.
#[derive(Args)]
pub(super) struct LinkArgs {
    /// What this machine is called in the phone's list of linked devices
    #[arg(long, value_name = "NAME", default_value = "Turnkeep")]
    name: String,
    /// Write the account's number into the configuration file, if that names none yet
    #[arg(long)]
    write: bool,
    /// Print the link only, for a QR code made elsewhere
    #[arg(long)]
    no_qr: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// Links, and says what to do next.
pub(super) async fn run(args: LinkArgs) -> anyhow::Result<ExitCode> {
    // The number is known only once it is linked, so a [signal] without one will do here.
    let resolved = config::load_without_number(&args.config.flags(), &Env::of_process())?;
    let show = |uri: &str| if args.no_qr { output::line(uri) } else { show(uri) };
    let number = wiring::signal::link(&resolved, &args.name, show).await?;
    output::complain(&format!("linked {number}"));
    match &resolved.signal {
        Some(signal) if knows(signal, &number) => {
            output::complain("it is configured already; (re)start the server: turnkeep serve");
        }
        Some(signal) if !signal.accounts.is_empty() => {
            output::complain(
                "the configuration names another number, and each needs a section of its own; see \
                 \"Several accounts\" in docs/signal.md:",
            );
            output::line(&format!("[signal.accounts.NAME]\nnumber = \"{number}\""))?;
            return Ok(ExitCode::from(if args.write { FAILED } else { 0 }));
        }
        _ if args.write => {
            let path = write(&resolved, &number)?;
            output::complain(&format!(
                "{} has it now; say who may write to it there ([users.NAME], docs/signal.md), and \
                 start the server: turnkeep serve",
                path.display()
            ));
        }
        _ => {
            output::complain(
                "put this into turnkeep.toml (--write does it), and start the server: turnkeep serve",
            );
            output::line(&section(&number))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn knows(signal: &SignalSettings, number: &str) -> bool {
    signal.accounts.iter().any(|account| account.number == number)
}

fn section(number: &str) -> String {
    format!("[signal]\nnumber = \"{number}\"")
}

/// Shows what has to be scanned: a picture for people, the bare text for pipes. The picture comes
/// last, so that all of it is to be seen.
fn show(uri: &str) -> anyhow::Result<()> {
    let out = std::io::stdout();
    if !out.is_terminal() {
        return output::line(uri);
    }
    let (rows, columns) = match rustix::termios::tcgetwinsize(&out) {
        Ok(size) if size.ws_row > 0 => (usize::from(size.ws_row), usize::from(size.ws_col)),
        _ => (24, 80),
    };
    let code = qr::Code::of(uri)?;
    output::complain(
        "on the phone: Signal, Settings, Linked devices, +, and scan this within some minutes",
    );
    let (lines, wide) = code.size(rows);
    if lines >= rows || wide > columns {
        output::complain(&format!(
            "this window is too small for the code, which needs {wide} columns and {} lines; make \
             it larger, or make a code of the link elsewhere",
            lines + 1
        ));
    }
    output::line(uri)?;
    output::bytes(code.drawn(rows).as_bytes())
}

/// Puts the number into the file: into its `[signal]`, else with one at its end. Where there is no
/// file, one is made.
fn write(resolved: &Resolved, number: &str) -> anyhow::Result<PathBuf> {
    let path = resolved.source.clone().unwrap_or_else(|| PathBuf::from(FILE));
    let shown = path.display().to_string();
    let before = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("can't read {shown}")),
    };
    if resolved.signal.is_none() {
        let gap = match before.chars().last() {
            None => "",
            Some('\n') => "\n",
            Some(_) => "\n\n",
        };
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path)?;
        let text = format!("{gap}{}\n", section(number));
        file.write_all(text.as_bytes()).with_context(|| format!("can't write {shown}"))?;
    } else {
        let text = with_number(&before, number).with_context(|| {
            format!("{shown} has no line [signal]; put number = \"{number}\" where Signal is")
        })?;
        replace(&path, &text).with_context(|| format!("can't write {shown}"))?;
    }
    Ok(path)
}

/// The text with the number below the head of its `[signal]`; none if no line is that head.
fn with_number(text: &str, number: &str) -> Option<String> {
    let is_head = |line: &str| {
        let bare = line.split('#').next().unwrap_or_default();
        bare.split_whitespace().collect::<String>() == "[signal]"
    };
    let mut out = String::with_capacity(text.len() + number.len() + 16);
    let mut lines = text.split_inclusive('\n');
    for line in lines.by_ref() {
        out.push_str(line);
        if is_head(line) {
            let gap = if line.ends_with('\n') { "" } else { "\n" };
            out += &format!("{gap}number = \"{number}\"\n");
            out.extend(lines);
            return Some(out);
        }
    }
    None
}

/// Replaces a file at once: whatever happens, it is the old one or the new one.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    // A link goes on pointing at it.
    let path = path.canonicalize()?;
    let mode = std::fs::metadata(&path)?.permissions().mode();
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(&path).map(drop).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_stands_below_its_head() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(with_number(text, "+49").as_deref(), expect, "{text}");
        };
        check("a = 1\n[signal]\nb = 2\n", Some("a = 1\n[signal]\nnumber = \"+49\"\nb = 2\n"));
        check("[ signal ] # ours", Some("[ signal ] # ours\nnumber = \"+49\"\n"));
        check("# [signal]\n[signal.accounts.x]\n", None);
        check("signal.unknown = \"pair\"\n", None);
    }
}
