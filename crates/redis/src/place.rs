//! Where Redis may be, by one of its addresses, and how a connection to it is opened: as it says,
//! plain or encrypted.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo};
use redis::{ProtocolVersion, RedisError, ServerErrorKind};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::health::State;
use crate::settings::{Settings, Unfit};
use crate::tls::{Encrypted, Trust};

/// How an address begins that is spoken to by TLS.
const BY_TLS: &str = "rediss://";

/// Whoever has to show a certificate is told so only after TLS was agreed upon.
const NO_CERTIFICATE: &str =
    "it may want a certificate of ours, and we have none; set `tls-auth-clients no` there";
const PERHAPS_TLS: &str = "if that is its port for TLS, write rediss:// in the address";

/// One address.
#[derive(Clone)]
pub(crate) struct Place {
    client: Client,
    tls: Option<Encrypted>,
}

/// A connection that stands.
pub(crate) struct Opened {
    pub(crate) con: MultiplexedConnection,
    _reader: Option<Reader>,
}

/// What reads an encrypted connection; a plain one has the client's own.
struct Reader(JoinHandle<()>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Place {
    /// All of them, in the order in which they are tried.
    pub(crate) fn all(settings: &Settings) -> Result<Vec<Self>, Unfit> {
        let by_tls = |address: &String| address.starts_with(BY_TLS);
        let trust = match settings.addresses.iter().any(by_tls) {
            true => Some(Trust::read(settings)?),
            false => None,
        };
        settings.addresses.iter().map(|one| Self::new(one, settings, trust.as_ref())).collect()
    }

    fn new(address: &str, settings: &Settings, trust: Option<&Trust>) -> Result<Self, Unfit> {
        let unfit = |what: String| Unfit { field: "addresses", what };
        let rest = address.strip_prefix(BY_TLS);
        if rest.is_some_and(|rest| rest.contains('#')) {
            // Elsewhere `#insecure` has the certificate not looked at.
            let what = "what begins with rediss:// has no part behind a #: whom we speak to is \
                        always looked at";
            return Err(unfit(what.to_owned()));
        }
        // The client reads both alike; that the connection is encrypted is seen to here.
        let plain = rest.map_or(address.to_owned(), |rest| format!("redis://{rest}"));
        let read = plain.as_str().into_connection_info();
        let mut info = read.map_err(|error| unfit(error.to_string()))?;
        let mut redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        if let Some(username) = &settings.username {
            redis = redis.set_username(username);
        }
        if let Some(password) = &settings.password {
            redis = redis.set_password(password);
        }
        // Only known since 7.2; before, it is one error more in the log of Redis.
        info = info.set_redis_settings(redis.set_skip_set_lib_name());
        let tls = match (rest, trust, info.addr()) {
            (Some(_), Some(trust), ConnectionAddr::Tcp(host, port)) => {
                let tls = Encrypted::new(trust.clone(), host, *port);
                Some(tls.map_err(|error| unfit(error.to_string()))?)
            }
            (Some(_), ..) => return Err(unfit("rediss:// needs a host".to_owned())),
            (None, ..) => None,
        };
        let client = Client::open(info).map_err(|error| unfit(error.to_string()))?;
        Ok(Self { client, tls })
    }

    /// Connects within this time, and says who we are.
    pub(crate) async fn open(
        &self,
        config: AsyncConnectionConfig,
        time: Duration,
    ) -> Result<Opened, State> {
        let until = Instant::now() + time;
        let config = config.set_connection_timeout(Some(time)).set_response_timeout(None);
        let late = |_| State::Down("connecting took too long".to_owned());
        let Some(tls) = &self.tls else {
            let opening = self.client.get_multiplexed_async_connection_with_config(&config);
            let opened = timeout_at(until, opening).await.map_err(late)?;
            let con = opened.map_err(|error| self.unheard(&error))?;
            return Ok(Opened { con, _reader: None });
        };
        let stream = tls.connect(until).await?;
        let info = self.client.get_connection_info().redis_settings();
        let opening = MultiplexedConnection::new_with_config(info, stream, config);
        let opened = timeout_at(until, opening).await.map_err(late)?;
        let (con, reader) = opened.map_err(|error| self.unheard(&error))?;
        Ok(Opened { con, _reader: Some(Reader(tokio::spawn(reader))) })
    }

    /// What an error says before anything was heard from it.
    fn unheard(&self, error: &RedisError) -> State {
        let is_odd = error.is_connection_dropped() || error.kind() == ErrorKind::Parse;
        let hint = match (&self.tls, self.client.get_connection_info().addr()) {
            (Some(_), _) if error.kind() == ErrorKind::Io => NO_CERTIFICATE,
            (None, ConnectionAddr::Tcp(..)) if is_odd => PERHAPS_TLS,
            _ => return unusable(error),
        };
        let why = format!("it ended the connection before it answered ({error}): {hint}");
        if error.is_connection_dropped() { State::Down(why) } else { State::Refused(why) }
    }
}

/// What an error says about the connection.
pub(crate) fn unusable(error: &RedisError) -> State {
    let elsewhere = [
        ErrorKind::Server(ServerErrorKind::ReadOnly),
        ErrorKind::Server(ServerErrorKind::BusyLoading),
        ErrorKind::Server(ServerErrorKind::MasterDown),
        ErrorKind::Io,
    ];
    if elsewhere.contains(&error.kind()) || error.is_connection_dropped() || error.is_timeout() {
        State::Down(error.to_string())
    } else {
        State::Refused(error.to_string())
    }
}
