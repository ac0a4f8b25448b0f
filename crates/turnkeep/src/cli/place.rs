//! Where the server is: as typed, else the socket in the data folder, else its address.

use std::path::PathBuf;

use anyhow::{Context as _, bail};

use super::args::ApiArgs;
use super::output;
use crate::config::{self, Env};

/// The socket's name in the data folder.
pub(super) const SOCKET_NAME: &str = "turnkeep.sock";

/// The variable that names the server.
const SERVER_VARIABLE: &str = "TURNKEEP_SERVER";

/// How a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Over a unix socket.
    Socket(PathBuf),
    /// Over TCP; without a slash at its end.
    Url(String),
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(path) => write!(formatter, "unix:{}", path.display()),
            Self::Url(url) => formatter.write_str(url),
        }
    }
}

/// The server that is named, if one is.
pub(super) fn named(args: &ApiArgs, env: &Env) -> anyhow::Result<Option<Place>> {
    if let Some(text) = &args.server {
        return parse(text).map(Some).context("--server");
    }
    if let Some(text) = env.get(SERVER_VARIABLE).filter(|text| !text.is_empty()) {
        return parse(text).map(Some).context(SERVER_VARIABLE);
    }
    Ok(None)
}

/// Finds the server that is meant.
pub(super) fn find(args: &ApiArgs, env: &Env) -> anyhow::Result<Place> {
    if let Some(place) = named(args, env)? {
        return Ok(place);
    }
    let (whereabouts, problems) = config::meant(&args.config.flags(), env)?;
    let socket = whereabouts.data_dir.join(SOCKET_NAME);
    if socket.exists() {
        if !problems.is_empty() {
            // A server that runs can be asked whatever became of its file meanwhile.
            output::complain(&format!(
                "note: the configuration has mistakes, see `turnkeep check`; the server of {} is \
                 asked",
                whereabouts.data_dir.display()
            ));
        }
        return Ok(Place::Socket(socket));
    }
    if !problems.is_empty() {
        return Err(problems.into());
    }
    // Who names a folder means the server of that folder, and no other one.
    if args.config.names_data_dir(env) {
        return Ok(Place::Socket(socket));
    }
    Ok(Place::Url(format!("http://{}", whereabouts.listen)))
}

fn parse(text: &str) -> anyhow::Result<Place> {
    let text = text.trim();
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(Place::Socket(path.trim_start_matches("//").into()));
    }
    match reqwest::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
            Ok(Place::Url(text.trim_end_matches('/').to_owned()))
        }
        _ => {
            bail!("must be like http://127.0.0.1:7878 or unix:/path/to/turnkeep.sock, not {text:?}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_urls_or_sockets() {
        let check = |text: &str, expect: Option<&str>| {
            let place = parse(text).ok().map(|place| place.to_string());
            assert_eq!(place.as_deref(), expect, "{text}");
        };
        check("http://127.0.0.1:7878/", Some("http://127.0.0.1:7878"));
        check("https://example.org/turnkeep", Some("https://example.org/turnkeep"));
        check("unix:/run/t.sock", Some("unix:/run/t.sock"));
        check("unix:t.sock", Some("unix:t.sock"));
        check("127.0.0.1:7878", None);
        check("ftp://example.org", None);
        check("", None);
    }
}
