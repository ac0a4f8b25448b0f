//! `turnkeep sessions save` and `load`: a session as a file, and a new session of one.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use serde_json::Value;
use turnkeep_core::import::{FILE_BYTES_MAX, LINES_MAX};

use super::client::{Client, Lines, with_query};
use super::partial::Target;
use super::sessions::{WhichArgs, path, show_or_json};
use super::{output, sessions};

/// `sessions save`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  turnkeep sessions save 'api work' api-work.ndjson
  turnkeep sessions save 3 - | gzip > three.gz

Whoever has the file can read everything that was said. docs/session-file.md says what it holds.")]
pub(super) struct SaveArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// Where it goes, a file that only you may read; `-` is standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

/// `sessions load`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  turnkeep sessions load api-work.ndjson
  turnkeep sessions load api-work.ndjson --name 'api work' --agent coder

The new session begins with what was said in the other one. Nothing is run, answered or sent again.")]
pub(super) struct LoadArgs {
    /// The file; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What the new session shall be called, 1 to 64 characters
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Which agent goes on with it [default: default]
    #[arg(long, value_name = "NAME", env = "TURNKEEP_AGENT", hide_env_values = true)]
    agent: Option<String>,
}

pub(super) const CUT_OFF: &str = "the file was cut off; try again, and see the server's log";

/// Saves a session.
pub(super) async fn save(
    client: &Client,
    args: SaveArgs,
    tenant: Option<&str>,
    json: bool,
) -> anyhow::Result<()> {
    let target = match is_standard(&args.file) {
        true => None,
        false => Some(Target::new(args.file, args.force)?),
    };
    let key = args.which.which.key(client, tenant).await?;
    let lines = client.lines(Method::GET, &path(&key, "/file")).await?;
    let Some(target) = target else {
        let mut out = io::stdout().lock();
        let events = copy(lines, &mut out).await?;
        out.flush()?;
        note_size(events.0, events.1);
        return Ok(());
    };
    let mut partial = target.begin()?;
    let (events, bytes) = copy(lines, &mut partial.file).await?;
    partial.publish()?;
    note_size(events, bytes);
    let file = target.file.display();
    if json {
        let saved = serde_json::json!({
            "session": key, "file": target.file, "events": events, "bytes": bytes,
        });
        return output::line(&saved.to_string());
    }
    output::line(&format!("{file} holds {key} as it was: {events} entries, {bytes} bytes"))
}

/// Whether standard input or output is meant.
fn is_standard(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// Copies a whole file; how many entries and bytes it has.
async fn copy(mut lines: Lines<'_>, out: &mut impl Write) -> anyhow::Result<(u64, u64)> {
    let template = "{spinner} {human_pos} of {human_len} entries [{wide_bar}] {eta} left";
    let style = ProgressStyle::with_template(template)?.progress_chars("=> ");
    let bar = ProgressBar::new(0).with_style(style);
    let (mut count, mut bytes, mut events) = (0_u64, 0_u64, None);
    while let Some(line) = lines.next().await? {
        writeln!(out, "{line}").context("the file can't be written")?;
        bytes += line.len() as u64 + 1;
        if count == 0 {
            let header: Value = serde_json::from_str(&line).unwrap_or_default();
            let place = |name: &str| header[name].as_u64().unwrap_or_default();
            bar.set_length(place("last_seq").saturating_sub(place("first_seq").saturating_sub(1)));
        }
        events = end_of(&line);
        bar.set_position(count);
        count += 1;
    }
    bar.finish_and_clear();
    let events = events.filter(|events| events + 2 == count).context(CUT_OFF)?;
    Ok((events, bytes))
}

/// The last line is no longer than this. Every entry is, and nothing else is looked at twice.
pub(super) const END_BYTES_MAX: usize = 200;

/// How many entries the file's last line says there are, if it is that.
pub(super) fn end_of(line: &str) -> Option<u64> {
    if line.len() > END_BYTES_MAX {
        return None;
    }
    let line: Value = serde_json::from_str(line).unwrap_or_default();
    (line["type"] == "end").then(|| line["events"].as_u64())?
}

/// What can't be loaded again should be known before it is needed.
fn note_size(events: u64, bytes: u64) {
    if bytes > FILE_BYTES_MAX as u64 {
        output::complain(&format!(
            "note: the file has {events} entries and {bytes} bytes; one of more than \
             {FILE_BYTES_MAX} bytes or {LINES_MAX} messages can't be loaded again"
        ));
    }
}

/// Makes a new session of a file.
pub(super) async fn load(
    client: &Client,
    args: LoadArgs,
    tenant: Option<&str>,
    json: bool,
) -> anyhow::Result<()> {
    let file = if is_standard(&args.file) {
        read(io::stdin().lock(), "standard input")?
    } else {
        let name = args.file.display().to_string();
        read(File::open(&args.file).with_context(|| format!("{name} can't be read"))?, &name)?
    };
    let query = [("name", args.name), ("agent", args.agent), ("tenant", tenant.map(Into::into))];
    let bar = ProgressBar::new_spinner()
        .with_style(ProgressStyle::with_template("{spinner} {elapsed} the file is being loaded")?);
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    let answer = client.post_lines(&with_query("/v1/sessions/file", &query), file).await;
    bar.finish_and_clear();
    show_or_json(&answer?, json, sessions::fields)
}

fn read(file: impl Read, name: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = FILE_BYTES_MAX as u64;
    file.take(most + 1).read_to_end(&mut bytes).with_context(|| format!("{name} can't be read"))?;
    ensure!(
        bytes.len() as u64 <= most,
        "{name} is longer than the {most} bytes that can be loaded"
    );
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_known_by_its_type() {
        let check = |line: &str, expect: Option<u64>| assert_eq!(end_of(line), expect, "{line}");
        check(r#"{"type":"end","events":3,"sha256":"00"}"#, Some(3));
        check(r#"{"type":"session.closed","seq":3,"at":1}"#, None);
        check("{", None);
    }

    #[test]
    fn a_file_that_is_too_long_is_refused_before_it_is_sent() {
        let refused = read(io::repeat(b'x'), "it").unwrap_err().to_string();
        assert_eq!(refused, "it is longer than the 33554432 bytes that can be loaded");
        assert_eq!(read(&b"ab"[..], "it").unwrap(), b"ab");
    }
}
