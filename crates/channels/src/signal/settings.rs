//! Which accounts there are, how signal-cli is reached, and how long anything is waited for.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::keeping::Attachments;

/// Everything that the channel is told.
#[derive(Clone, Debug)]
pub struct SignalSettings {
    /// Our accounts; no two with the same name, number or tenant.
    pub accounts: Vec<SignalAccount>,
    /// How signal-cli is reached.
    pub way: Way,
    /// Where attachments are kept, and what earlier versions kept besides.
    pub data_dir: PathBuf,
    /// Largest attachment that is stored; 0 stores none.
    pub attachments_bytes_max: u64,
    /// Where they are stored, in the same folder.
    pub attachments: Arc<Attachments>,
    /// Whether people see that their messages were read.
    pub receipts: bool,
    /// How long anything is waited for.
    pub patience: Patience,
}

impl SignalSettings {
    /// Where earlier versions kept what lies beside the account's keys now, so that another server finds
    /// it that comes to have those.
    pub(super) fn earlier(&self) -> PathBuf {
        self.data_dir.join("signal")
    }
}

/// One account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalAccount {
    /// Its configured name.
    pub name: Arc<str>,
    /// Its telephone number, with `+`.
    pub number: Arc<str>,
    /// Whose sessions use it.
    pub tenant: Arc<str>,
}

/// How signal-cli is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// A process of ours.
    Child {
        /// The program and its first arguments.
        command: Vec<String>,
        /// Where it keeps its accounts.
        config_dir: PathBuf,
    },
    /// The socket of a daemon.
    Unix(PathBuf),
    /// The host and port of a daemon.
    Tcp(String),
    /// The address of a daemon that speaks HTTP, up to the port.
    Http(String),
}

impl Way {
    /// Reads `unix:PATH`, `tcp://HOST:PORT` or `http://HOST:PORT`.
    ///
    /// # Errors
    /// It is none of these; the text says which there are.
    pub fn from_address(address: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{address:?} is no address of signal-cli: unix:/PATH, tcp://HOST:PORT or \
                 http://HOST:PORT"
            )
        };
        if let Some(path) = address.strip_prefix("unix:") {
            let path = Path::new(path.strip_prefix("//").unwrap_or(path));
            return path.is_absolute().then(|| Self::Unix(path.into())).ok_or_else(wrong);
        }
        if let Some(host) = address.strip_prefix("tcp://") {
            let host = host.trim_end_matches('/');
            return has_port(host).then(|| Self::Tcp(host.into())).ok_or_else(wrong);
        }
        if let Some(rest) = address.strip_prefix("http://").or(address.strip_prefix("https://")) {
            let host = rest.trim_end_matches('/');
            if !host.is_empty() && !host.contains(['/', '?', '#', '@']) {
                return Ok(Self::Http(address.trim_end_matches('/').into()));
            }
        }
        Err(wrong())
    }
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':').is_some_and(|(name, port)| {
        !name.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

/// How long anything is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the answer to a message that was sent; what comes later is unknown.
    pub send: Duration,
    /// For every other answer.
    pub call: Duration,
    /// For "typing" to be shown.
    pub typing: Duration,
    /// From one question whether it is there to the next.
    pub ping_every: Duration,
    /// For any sign on a connection that hears, before it is asked for one.
    pub silence: Duration,
    /// Before it is started or reached again, at first and at most.
    pub again: (Duration, Duration),
    /// Before an envelope is offered again that could not be made durable, at first and at most.
    pub offer: (Duration, Duration),
    /// Before receiving counts as stuck on an envelope.
    pub stuck: Duration,
    /// From the first sign that what it hears is broken off, before it is started again.
    pub broken: Duration,
    /// Without a connection to Signal's servers, before it is started again.
    pub cut_off: Duration,
    /// For another account to ask for a file that one dealt with.
    pub aside: Duration,
    /// For a process to end by itself.
    pub end: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            // Below the outbox's own limit, so that what happened can still be said.
            send: Duration::from_secs(50),
            call: Duration::from_secs(30),
            typing: Duration::from_secs(5),
            ping_every: Duration::from_secs(30),
            silence: Duration::from_secs(60),
            again: (Duration::from_secs(1), Duration::from_secs(60)),
            offer: (Duration::from_millis(500), Duration::from_secs(30)),
            stuck: Duration::from_secs(30),
            broken: Duration::from_secs(60),
            cut_off: Duration::from_secs(600),
            aside: Duration::from_secs(600),
            end: Duration::from_secs(5),
        }
    }
}

/// The next pause, twice as long as the last.
pub(super) fn longer(pause: Duration, limits: (Duration, Duration)) -> Duration {
    (pause * 2).clamp(limits.0, limits.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str, expect: Option<Way>) {
        assert_eq!(Way::from_address(address).ok(), expect, "{address}");
    }

    #[test]
    fn addresses() {
        check("unix:/run/s/socket", Some(Way::Unix("/run/s/socket".into())));
        check("unix:///run/s/socket", Some(Way::Unix("/run/s/socket".into())));
        check("tcp://127.0.0.1:7583", Some(Way::Tcp("127.0.0.1:7583".into())));
        check("tcp://[::1]:7583/", Some(Way::Tcp("[::1]:7583".into())));
        check("http://127.0.0.1:8080/", Some(Way::Http("http://127.0.0.1:8080".into())));
        for wrong in
            ["", "unix:run", "tcp://x", "tcp://x:0", "tcp://:1", "http://", "http://x/y", "ftp://x"]
        {
            check(wrong, None);
        }
    }

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let limits = (Duration::from_secs(1), Duration::from_secs(60));
        let mut pause = Duration::ZERO;
        let pauses: Vec<u64> = (0..8)
            .map(|_| {
                pause = longer(pause, limits);
                pause.as_secs()
            })
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
