//! `turnkeep attach` over HTTPS, with a key: a proxy that speaks TLS stands before the server.

use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::authority::{Authority, Shown};
use crate::kit::{Home, said, wrote};

/// A proxy that shows a certificate.
struct Proxy {
    url: String,
    /// Connections on which the client went on after it had seen that.
    trusted: Arc<AtomicUsize>,
}

impl Proxy {
    async fn before(home: &Home, shown: Shown) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider);
        let key = PrivateKeyDer::Pkcs8(shown.key.into());
        let config = config
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(shown.certificate)], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let server = home.address().strip_prefix("http://").unwrap().to_owned();
        let trusted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&trusted);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (acceptor, server) = (acceptor.clone(), server.clone());
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    let Ok(mut client) = acceptor.accept(client).await else { return };
                    count.fetch_add(1, Ordering::SeqCst);
                    let mut server = TcpStream::connect(server).await.unwrap();
                    // Either may hang up.
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { url, trusted }
    }
}

/// What comes of a line with `attach --plain` there, with this key, for who trusts this authority.
async fn attach(home: &Home, url: &str, key: &str, authority: &Authority) -> Output {
    let file = home.path("authority.pem");
    std::fs::write(&file, authority.pem()).unwrap();
    let lines = home.path("lines");
    std::fs::write(&lines, "are you there?\n").unwrap();
    let mut command = home.turnkeep(&["attach", "--plain", "--server", url]);
    command.env("SSL_CERT_FILE", file).env("TURNKEEP_KEY", key);
    command.stdin(std::fs::File::open(lines).unwrap());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_server_behind_tls_answers_who_has_a_key() {
    let home = Home::started();
    let args = ["keys", "create", "--tenant", "acme", "--scope", "read,send"];
    let key = home.prints(&args);
    let authority = Authority::new();
    let proxy = Proxy::before(&home, authority.certify("localhost")).await;
    let output = attach(&home, &proxy.url, key.trim(), &authority).await;
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(wrote(&output), "you: are you there?\nagent: echo: are you there?\n");
    assert!(proxy.trusted.load(Ordering::SeqCst) > 0);
    // It is the key's tenant that was spoken to.
    assert!(home.prints(&["sessions", "board", "--tenant", "acme"]).contains("acme:"));
    let output = attach(&home, &proxy.url, "tk_wrong", &authority).await;
    assert_eq!((output.status.code(), wrote(&output)), (Some(1), String::new()));
    assert!(said(&output).contains("key"), "{}", said(&output));
}

#[tokio::test]
async fn a_certificate_that_proves_nothing_is_refused() {
    let home = Home::started();
    let (ours, theirs) = (Authority::new(), Authority::new());
    let check = async |shown: Shown, why: &str| {
        let proxy = Proxy::before(&home, shown).await;
        let output = attach(&home, &proxy.url, "tk_secret", &ours).await;
        let told = said(&output);
        assert_eq!((output.status.code(), wrote(&output)), (Some(1), String::new()), "{told}");
        let expect = format!("{} is not trusted: invalid peer certificate: {why}", proxy.url);
        assert!(told.contains(&expect) && told.contains("Nothing was sent."), "{told}");
        assert_eq!(proxy.trusted.load(Ordering::SeqCst), 0);
    };
    // One that somebody else signed, and one of another name.
    check(theirs.certify("localhost"), "").await;
    check(ours.certify("example.org"), "certificate not valid for name").await;
}
