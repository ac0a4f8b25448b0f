//! Connections: what is asked of every one of them, and TLS.
//!
//! The server ends what takes too long, and the system ends a connection whose other side is gone
//! within seconds; otherwise a failover would leave everybody waiting for a machine that is off.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::{Client, Config};
use tokio_rustls::{TlsConnector, client};

use super::open::PostgresError;
use super::settings::{PostgresSettings, PostgresTls};
use super::trouble::Result;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a read or a change waits for a free connection.
const WAIT: Duration = Duration::from_secs(5);

/// Plans must not depend on how few rows stood in a table when they were made: they are kept, and the
/// rows become more. Whatever is asked often has an index.
const PLANS: &str = " -c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off";
/// Nor, in the writer, on the values of one batch.
const WRITER: &str = " -c plan_cache_mode=force_generic_plan";

/// Makes connections to the one database.
#[derive(Clone)]
pub(super) struct Connector {
    config: Config,
    options: String,
    tls: MakeTls,
}

impl Connector {
    /// Reads the address; nothing is connected yet.
    pub(super) fn new(settings: &PostgresSettings) -> std::result::Result<Self, PostgresError> {
        let mut config: Config = settings.url.parse().map_err(|error: tokio_postgres::Error| {
            // The client's own words name the part that is wrong, never what stands in it.
            PostgresError::Settings(format!("the database's address can't be read: {error}"))
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(PostgresError::Settings("the database's address names no host".into()));
        }
        let schema = checked_schema(&settings.schema)?;
        let ms = |time: Duration| time.as_millis().max(1);
        let mut options = config.get_options().map_or(String::new(), |given| format!("{given} "));
        options.push_str(&format!(
            "-c search_path={schema} -c statement_timeout={} -c lock_timeout={} \
             -c idle_in_transaction_session_timeout=5s -c client_connection_check_interval=2s \
             -c client_min_messages=warning -c jit=off{PLANS}",
            ms(settings.statement_timeout),
            ms(settings.lock_timeout),
        ));
        let tls = match encrypted(&config, settings.tls) {
            true => MakeTls(Some(Arc::new(client_config(settings)?))),
            false => MakeTls(None),
        };
        let mode = if tls.0.is_some() { SslMode::Require } else { SslMode::Disable };
        config
            .ssl_mode(mode)
            .connect_timeout(CONNECT)
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .tcp_user_timeout(Duration::from_secs(8))
            .keepalives_idle(Duration::from_secs(5))
            .keepalives_interval(Duration::from_secs(2))
            .keepalives_retries(3)
            .application_name(format!("turnkeep-{}", settings.node));
        Ok(Self { config, options, tls })
    }

    /// Sees to it that what is reported as committed is on the disk.
    pub(super) fn durable(&mut self) {
        self.options.push_str(" -c synchronous_commit=on");
    }

    /// Where the database is, without the password.
    pub(super) fn place(&self) -> String {
        let ports = self.config.get_ports();
        // One for each host, or one for all of them, or none where it is the usual one.
        let port = |place: usize| ports.get(place).or(ports.first()).copied().unwrap_or(5432);
        let hosts = self.config.get_hosts().iter().enumerate().map(|(place, host)| match host {
            Host::Tcp(name) => format!("{name}:{}", port(place)),
            Host::Unix(path) => format!("{}:{}", path.display(), port(place)),
        });
        let hosts: Vec<String> = hosts.collect();
        format!("{}/{}", hosts.join(","), self.config.get_dbname().unwrap_or_default())
    }

    /// A connection for anything but the commits; it ends with its client.
    pub(super) async fn connect(&self) -> Result<Client> {
        self.with_options("").await
    }

    /// One for the writer.
    pub(super) async fn connect_writer(&self) -> Result<Client> {
        self.with_options(WRITER).await
    }

    async fn with_options(&self, more: &str) -> Result<Client> {
        let mut config = self.config.clone();
        config.options(format!("{}{more}", self.options));
        let connect = tokio::time::timeout(2 * CONNECT, config.connect(self.tls.clone()));
        let Ok(connected) = connect.await else {
            return Err(super::trouble::Trouble::Busy("it doesn't answer".into()));
        };
        let (client, connection) = connected?;
        // It says why it ended to whoever waits for an answer; nobody else has to know.
        tokio::spawn(connection);
        Ok(client)
    }

    /// The connections for reads and changes.
    pub(super) fn pool(&self, size: usize) -> std::result::Result<Pool, PostgresError> {
        let mut config = self.config.clone();
        config.options(self.options.clone());
        let recycle = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(config, self.tls.clone(), recycle);
        let pool = Pool::builder(manager)
            .max_size(size.max(1))
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(WAIT))
            .create_timeout(Some(2 * CONNECT))
            .recycle_timeout(Some(CONNECT));
        pool.build().map_err(|error| PostgresError::Settings(error.to_string()))
    }
}

/// A schema's name stands in options and statements, so it holds nothing that means something
/// there.
fn checked_schema(schema: &str) -> std::result::Result<&str, PostgresError> {
    let begins = schema.starts_with(|first: char| first.is_ascii_lowercase() || first == '_');
    let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if begins && schema.len() <= 63 && schema.bytes().all(rest) && !schema.starts_with("pg_") {
        return Ok(schema);
    }
    Err(PostgresError::Settings(format!(
        "the schema {schema:?} must be 1-63 of a-z, 0-9 and _, beginning with no digit nor with \
         pg_"
    )))
}

fn encrypted(config: &Config, tls: PostgresTls) -> bool {
    let local = |host: &Host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => matches!(name.as_str(), "localhost" | "127.0.0.1" | "::1"),
    };
    match tls {
        PostgresTls::Verify => true,
        PostgresTls::Off => false,
        PostgresTls::Auto if config.get_ssl_mode() == SslMode::Disable => false,
        PostgresTls::Auto => !config.get_hosts().iter().all(local),
    }
}

fn client_config(settings: &PostgresSettings) -> std::result::Result<ClientConfig, PostgresError> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = &settings.ca_file {
        let unread = |why: String| {
            PostgresError::Settings(format!("the authorities in {}: {why}", file.display()))
        };
        let read = CertificateDer::pem_file_iter(file).map_err(|why| unread(why.to_string()))?;
        for certificate in read {
            let certificate = certificate.map_err(|why| unread(why.to_string()))?;
            roots.add(certificate).map_err(|why| unread(why.to_string()))?;
        }
        if roots.is_empty() {
            return Err(unread("there is none".into()));
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| PostgresError::Settings(error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Makes TLS connections, or none.
#[derive(Clone)]
struct MakeTls(Option<Arc<ClientConfig>>);

/// Makes one of them.
struct Handshake {
    config: Option<Arc<ClientConfig>>,
    host: String,
}

/// A connection that is encrypted.
struct Encrypted<S>(client::TlsStream<S>);

type Unencrypted = Box<dyn std::error::Error + Send + Sync>;

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for MakeTls {
    type Stream = Encrypted<S>;
    type TlsConnect = Handshake;
    type Error = Unencrypted;

    fn make_tls_connect(&mut self, host: &str) -> std::result::Result<Handshake, Unencrypted> {
        Ok(Handshake { config: self.0.clone(), host: host.to_owned() })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Handshake {
    type Stream = Encrypted<S>;
    type Error = Unencrypted;
    type Future =
        Pin<Box<dyn Future<Output = std::result::Result<Encrypted<S>, Unencrypted>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let config = self.config.ok_or("TLS is off")?;
            let host = ServerName::try_from(self.host)?;
            Ok(Encrypted(TlsConnector::from(config).connect(host, stream).await?))
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Encrypted<S> {
    fn channel_binding(&self) -> ChannelBinding {
        // The server is known by its certificate, which is always checked.
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Encrypted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Encrypted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_for_whatever_is_not_on_this_machine() {
        let check = |url: &str, tls: PostgresTls, expect: bool| {
            assert_eq!(encrypted(&url.parse().unwrap(), tls), expect, "{url} {tls:?}");
        };
        check("postgres://u@db.example/t", PostgresTls::Auto, true);
        check("postgres://u@localhost,db.example/t", PostgresTls::Auto, true);
        check("postgres://u@db.example/t?sslmode=disable", PostgresTls::Auto, false);
        check("postgres://u@db.example/t?sslmode=disable", PostgresTls::Verify, true);
        check("postgres://u@localhost/t", PostgresTls::Auto, false);
        check("postgres://u@127.0.0.1/t", PostgresTls::Verify, true);
        check("host=/run/postgresql user=u", PostgresTls::Auto, false);
        check("postgres://u@db.example/t", PostgresTls::Off, false);
    }

    #[test]
    fn a_schema_that_could_mean_something_else_is_refused() {
        for good in ["turnkeep", "t1", "_a"] {
            assert!(checked_schema(good).is_ok(), "{good}");
        }
        for bad in ["", "1a", "a b", "a,public", "A", "pg_temp", "ä", &"a".repeat(64)] {
            assert!(checked_schema(bad).is_err(), "{bad}");
        }
    }
}
