//! Where the server lives: its file, its folder, its port.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use super::{CONFIGURATION, Findings};
use crate::config::{Resolved, Whereabouts, is_open_to_others};
use crate::serve::SOCKET;
use crate::wiring::{hatchet, hints, stores};

/// What a server writes to in its data folder.
const FILES: [&str; 4] = ["turnkeep.lock", "turnkeep.db", "turnkeep.db-wal", "turnkeep.db-shm"];

/// How long a server may take to say that it is ready.
const PATIENCE: Duration = Duration::from_secs(5);

/// The file is right; what is noted of it is told.
pub(super) fn configuration(resolved: &Resolved, findings: &mut Findings) {
    match &resolved.source {
        Some(path) => findings.ok(CONFIGURATION, format!("{} is in order", path.display())),
        None => findings.note(
            CONFIGURATION,
            "there is no file, so the defaults hold; `turnkeep check --example > turnkeep.toml` \
             makes one",
        ),
    }
    for note in &resolved.notes {
        findings.note(CONFIGURATION, note.as_str());
    }
}

/// Whether something can be written there, and to what it holds if everything is kept in it.
pub(super) fn data_folder(dir: &Path, keeps_all: bool, findings: &mut Findings) {
    let shown = dir.display();
    let Ok(metadata) = std::fs::metadata(dir) else {
        let mut above = dir.ancestors().skip(1);
        let there = above.find(|path| path.exists()).unwrap_or(Path::new("."));
        if is_writable(there) {
            findings.ok("data folder", format!("{shown} will be made at the first start"));
        } else {
            let mend = "make it and give it to the user that runs turnkeep, or name another one with \
                        data_dir";
            findings.missing("data folder", format!("{shown} can't be made"), mend);
        }
        return;
    };
    if !metadata.is_dir() || !is_writable(dir) {
        let text = format!("{shown} is no folder that can be written to");
        findings.missing(
            "data folder",
            text,
            "give it to the user that runs turnkeep, or name another one with data_dir",
        );
    } else if let Some(why) = keeps_all.then(|| kept_from(dir)).flatten() {
        let mend = "give it to the user that runs turnkeep, or name another one with data_dir";
        findings.missing("data folder", why, mend);
    } else if is_open_to_others(dir) {
        findings.note(
            "data folder",
            format!("{shown} is open to everybody on this machine; chmod 700 it"),
        );
    } else {
        findings.ok("data folder", format!("{shown} can be written to"));
    }
}

/// A database, if everything is kept in one.
pub(super) async fn database(resolved: &Resolved, findings: &mut Findings) {
    match stores::look(&resolved.stored()).await {
        Ok(None) => {}
        Ok(Some(seen)) => {
            findings.ok("database", seen.said);
            if seen.nobody_runs {
                findings.missing(
                    "workers",
                    "no server that is in runs turns, so what people write waits",
                    "start `turnkeep worker`, or a server of the role \"all\"",
                );
            }
        }
        Err(error) => findings.missing(
            "database",
            format!("{error:#}"),
            "mend it, or name another one in [store]; docs/postgres.md tells what it must be like",
        ),
    }
}

/// A Redis server, if one is used.
pub(super) async fn redis(resolved: &Resolved, findings: &mut Findings) {
    match hints::look(resolved).await {
        Ok(None) => {}
        Ok(Some(said)) => findings.ok("redis", said),
        Err(error) => findings.missing(
            "redis",
            format!("{error:#}"),
            "mend it, or name another one in [redis]; servers go on without it meanwhile",
        ),
    }
}

/// A workflow engine, if one is used.
pub(super) async fn engine(resolved: &Resolved, findings: &mut Findings) {
    match hatchet::look(resolved).await {
        Ok(None) => {}
        Ok(Some(said)) => findings.ok("hatchet", said),
        Err(error) => findings.missing(
            "hatchet",
            format!("{error:#}"),
            "mend it, or take [hatchet] out: workers take turns by themselves then; docs/hatchet.md \
             tells how to set an engine up",
        ),
    }
}

/// The first file in the folder that a server must write to and can't, and why.
fn kept_from(dir: &Path) -> Option<String> {
    FILES.iter().find_map(|name| {
        let file = dir.join(name);
        match OpenOptions::new().read(true).write(true).open(&file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Some(format!("{} can't be written to: {error}", file.display()))
            }
            _ => None,
        }
    })
}

/// Tried with a file that never gets a name.
fn is_writable(dir: &Path) -> bool {
    tempfile::tempfile_in(dir).is_ok()
}

/// A server that runs, or a port for one.
pub(super) async fn server(whereabouts: &Whereabouts, findings: &mut Findings) {
    let socket = whereabouts.data_dir.join(SOCKET);
    if let Some(answer) = readiness(&socket).await {
        match (answer["status"].as_str(), answer["reason"].as_str()) {
            (Some("ok"), _) => findings.ok("server", "it runs and takes messages"),
            (_, reason) => {
                let text = format!(
                    "it runs and takes no messages: {}",
                    reason.unwrap_or("no reason told")
                );
                findings.missing("server", text, "its log tells more");
            }
        }
        if let Some(hints) = answer["hints"].as_str() {
            findings.note("server", format!("it goes on without hints: {hints}"));
        }
        if let (Some(state @ ("away" | "stuck")), Some(reason)) =
            (answer["dispatch"]["state"].as_str(), answer["dispatch"]["reason"].as_str())
        {
            let since = answer["dispatch"]["since"].as_str().unwrap_or("a while ago");
            let text = format!("it goes on without the engine, which is {state} since {since}");
            findings.note("server", format!("{text}: {reason}"));
        }
        if let Some(config) = answer["config"].as_str() {
            let text = format!("it lives by an older configuration: {config}");
            if findings.is_missing(CONFIGURATION) {
                // What is wrong with the file was told.
                findings.note("server", text);
            } else {
                findings.missing("server", text, "`turnkeep reload` tells what is wrong");
            }
        }
        return;
    }
    let address = whereabouts.listen;
    match TcpListener::bind(address) {
        Ok(_) => findings
            .ok("server", format!("none runs, and {address} is free for one: `turnkeep serve`")),
        Err(error) => findings.missing(
            "server",
            format!("none runs with this data folder, and {address} can't be had: {error}"),
            "stop whoever listens there, or choose another address with --listen or listen",
        ),
    }
}

/// What the server of this socket says; none if nobody answers there.
pub(super) async fn ask(socket: &Path, path: &str) -> Option<serde_json::Value> {
    let client = reqwest::Client::builder().unix_socket(socket.to_owned()).timeout(PATIENCE);
    let request = client.build().ok()?.get(format!("http://localhost{path}"));
    request.send().await.ok()?.json().await.ok()
}

async fn readiness(socket: &Path) -> Option<serde_json::Value> {
    if !socket.exists() {
        return None;
    }
    ask(socket, "/readyz").await
}
