//! Whom we are about to talk to: whether the socket is to be trusted, somebody answers, and
//! understands us.

use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::bail;
use turnkeep_terminal::ports::{Failure, Server as _};

use super::api::Api;
use crate::cli::output;
use crate::cli::place::Place;

/// This program's version.
const OURS: &str = env!("CARGO_PKG_VERSION");

const START: &str =
    "start one with `turnkeep serve`, or have it started: `turnkeep attach --start`";

/// Looks at a socket before anything is said to it.
pub(super) fn may_connect(place: &Place) -> anyhow::Result<()> {
    let Place::Socket(path) = place else { return Ok(()) };
    let shown = path.display();
    let about = match std::fs::metadata(path) {
        Ok(about) => about,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("no Turnkeep runs here: there is no socket {shown}; {START}")
        }
        Err(error) => bail!("the socket {shown} can't be looked at: {error}"),
    };
    if !about.file_type().is_socket() {
        bail!("{shown} is no socket");
    }
    is_ours(path, about.uid())?;
    match UnixStream::connect(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            bail!("the socket {shown} is dead: its server is gone; {START}")
        }
        Err(error) => bail!("the socket {shown} can't be used: {error}"),
    }
}

/// Whoever made the socket reads what is typed, and writes what is shown. The operator of the machine
/// could do that anyway.
fn is_ours(path: &Path, owner: u32) -> anyhow::Result<()> {
    let us = rustix::process::geteuid().as_raw();
    let shown = path.display();
    if owner == us || owner == 0 {
        return Ok(());
    }
    if us == 0 {
        output::complain(&format!("note: the socket {shown} belongs to user {owner}"));
        return Ok(());
    }
    bail!(
        "the socket {shown} belongs to user {owner}, not to you: whoever that is would read \
         everything you type. Name another server with --server or --data-dir"
    )
}

/// Asks who answers. Another version is told, and is no reason to leave as long as it has what the
/// terminal needs.
pub(super) async fn server(api: &Api) -> anyhow::Result<()> {
    let health = match api.get("/healthz").await {
        Ok(answer) => answer.body,
        Err(Failure::Unreachable(why)) => {
            bail!("no Turnkeep answers at {} ({why}); {START}", api.place())
        }
        Err(failure) => return Err(failure.into()),
    };
    if health["status"].as_str() != Some("ok") {
        bail!("what answers there is no Turnkeep");
    }
    let theirs = health["version"].as_str().map(output::harmless);
    let named = theirs
        .as_deref()
        .map_or("an older version".to_owned(), |version| format!("version {version}"));
    match api.get("/v1/switchboard?limit=1").await {
        Ok(_) => {}
        Err(Failure::Refused { status: 404 | 405, .. }) => bail!(
            "the server is Turnkeep of {named}, and has no switchboard: this is {OURS}; use the \
             `turnkeep` of the server's version, or a newer server"
        ),
        Err(failure) => return Err(failure.into()),
    }
    if theirs.as_deref() != Some(OURS) {
        output::complain(&format!(
            "note: the server is Turnkeep of {named}, and this is {OURS}; what one of them doesn't \
             know is left out"
        ));
    }
    Ok(())
}
