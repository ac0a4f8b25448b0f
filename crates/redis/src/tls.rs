//! Encrypted connections: to whom they may be, and what stands in the way, as a sentence that says
//! what to do.
//!
//! A server's certificate has to be good for the host in the address, by an authority that is
//! trusted. There is no less than that: who wants none of it asks for a plain connection.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use rustls::{CertificateError, ClientConfig, Error, RootCertStore};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::health::State;
use crate::settings::{Settings, Unfit};

/// Who is trusted, for all addresses.
#[derive(Clone)]
pub(crate) struct Trust {
    config: Arc<ClientConfig>,
    /// Where the authorities stand, if not in the machine's own place.
    file: Option<PathBuf>,
}

impl Trust {
    /// Reads the authorities; they hold until the process ends.
    pub(crate) fn read(settings: &Settings) -> Result<Self, Unfit> {
        let file = settings.tls_authorities.clone();
        let roots = roots(file.as_deref())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Unfit { field: "addresses", what: error.to_string() })?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { config: Arc::new(config), file })
    }
}

fn roots(file: Option<&Path>) -> Result<RootCertStore, Unfit> {
    let mut roots = RootCertStore::empty();
    let Some(file) = file else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    let unread = |why: String| {
        let what = format!("the authorities in {}: {why}", file.display());
        Unfit { field: "tls_authorities", what }
    };
    for certificate in CertificateDer::pem_file_iter(file).map_err(|why| unread(why.to_string()))? {
        let certificate = certificate.map_err(|why| unread(why.to_string()))?;
        roots.add(certificate).map_err(|why| unread(why.to_string()))?;
    }
    if roots.is_empty() { Err(unread("there is none".to_owned())) } else { Ok(roots) }
}

/// A server that is spoken to by TLS only.
#[derive(Clone)]
pub(crate) struct Encrypted {
    trust: Trust,
    host: String,
    port: u16,
    name: ServerName<'static>,
}

impl Encrypted {
    pub(crate) fn new(trust: Trust, host: &str, port: u16) -> Result<Self, InvalidDnsNameError> {
        let name = ServerName::try_from(host.to_owned())?;
        Ok(Self { trust, host: host.to_owned(), port, name })
    }

    /// A connection on which nothing was said yet but who the server is.
    pub(crate) async fn connect(&self, until: Instant) -> Result<TlsStream<TcpStream>, State> {
        let stream = match timeout_at(until, reach(&self.host, self.port)).await {
            Ok(reached) => reached.map_err(|error| State::Down(error.to_string()))?,
            Err(_) => return Err(State::Down("connecting took too long".to_owned())),
        };
        let connector = TlsConnector::from(Arc::clone(&self.trust.config));
        match timeout_at(until, connector.connect(self.name.clone(), stream)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(self.unmet(&error)),
            // A Redis without TLS takes our greeting for a command whose end is yet to come.
            Err(_) => Err(State::Down(
                "it is silent to a greeting by TLS: it hangs, or the port in the address is not \
                 the one for TLS (`tls-port`)"
                    .to_owned(),
            )),
        }
    }

    /// Why there is no connection.
    fn unmet(&self, error: &io::Error) -> State {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        match inner {
            Some(error) => State::Refused(self.sentence(error)),
            None => State::Down(format!(
                "it ended the connection while TLS was agreed upon ({error}): look whether the \
                 port in the address is the one for TLS (`tls-port`)"
            )),
        }
    }

    fn sentence(&self, error: &Error) -> String {
        match error {
            Error::InvalidCertificate(why) => self.doubted(why),
            Error::InvalidMessage(_) => {
                "it does not speak TLS at that port: name the one for TLS (`tls-port`) in the \
                 address, or write redis:// there to have nothing encrypted"
                    .to_owned()
            }
            Error::AlertReceived(alert) => format!(
                "it refuses our TLS ({alert:?}): it must take TLS 1.2 or 1.3 and want no \
                 certificate of ours (`tls-auth-clients no`)"
            ),
            other => format!("TLS with it fails: {other}"),
        }
    }

    fn doubted(&self, why: &CertificateError) -> String {
        let host = &self.host;
        match why {
            // The second where an authority has the name of one that is trusted.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => match &self
                .trust
                .file
            {
                None => "its certificate is by nobody whom this machine trusts: name the file of \
                         its authority in `tls_authorities`"
                    .to_owned(),
                Some(file) => format!(
                    "its certificate is by nobody in {}: put its authority there \
                     (`tls_authorities`)",
                    file.display()
                ),
            },
            CertificateError::NotValidForNameContext { presented, .. } => {
                let names: Vec<&str> = presented.iter().map(|name| bare(name)).collect();
                let names = if names.is_empty() { "no host".into() } else { names.join(", ") };
                format!(
                    "its certificate is for {names} and not for {host}: name in the address a \
                     host that stands in the certificate"
                )
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired: give it a new one".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not good yet: compare the clocks of both machines".to_owned()
            }
            CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
                "its certificate is an authority's own (CA:TRUE): give it one that this authority \
                 has signed"
                    .to_owned()
            }
            other => format!("its certificate is no good: {other}"),
        }
    }
}

/// A certificate's name without what kind of name it is.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

/// The first of the host's addresses that takes a connection.
async fn reach(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut tries = JoinSet::new();
    for address in lookup_host((host, port)).await? {
        tries.spawn(TcpStream::connect(address));
    }
    let mut last = io::Error::other("the host has no address");
    while let Some(tried) = tries.join_next().await {
        match tried.map_err(io::Error::other).flatten() {
            Ok(stream) => {
                // Small pieces go out as they are written.
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::pki_types::ServerName;
    use rustls::{AlertDescription, CertificateError, ClientConfig, Error, RootCertStore};

    use super::{Encrypted, Trust};

    fn encrypted() -> Encrypted {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map(|config| config.with_root_certificates(RootCertStore::empty()));
        let config = config.expect("there are some").with_no_client_auth();
        let trust = Trust { config: Arc::new(config), file: None };
        Encrypted::new(trust, "cache", 6379).expect("a name")
    }

    #[test]
    fn what_stands_in_the_way_is_a_sentence_that_says_what_to_do() {
        let check = |error: Error, expect: &str| {
            let said = encrypted().sentence(&error);
            assert!(said.starts_with(expect), "{said}");
        };
        let names = |presented: &[&str]| {
            let expected = ServerName::try_from("cache").expect("a name");
            let presented = presented.iter().map(|&name| name.to_owned()).collect();
            Error::from(CertificateError::NotValidForNameContext { expected, presented })
        };
        check(names(&[]), "its certificate is for no host and not for cache: name");
        let two = names(&["DnsName(\"a\")", "IpAddress(10.0.0.1)"]);
        check(two, "its certificate is for a, 10.0.0.1 and not for cache: name");
        check(CertificateError::Expired.into(), "its certificate has expired: give it");
        check(CertificateError::NotValidYet.into(), "its certificate is not good yet: compare");
        check(CertificateError::Revoked.into(), "its certificate is no good: Revoked");
        let alert = Error::AlertReceived(AlertDescription::HandshakeFailure);
        check(alert, "it refuses our TLS (HandshakeFailure): it must");
    }
}
