//! A Redis that is spoken to by TLS, and what is said where that can't be.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use turnkeep_redis::{Active, Health, Heard, Held, Limit, News, RedisHints, Settings, State};

use crate::kit::{Server, connected, impatient, soon};
use crate::port_kit::free_port;

/// An authority, and a certificate for `localhost` by it that the server can read.
const CERTIFICATES: &str = r#"
set -e
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }
key ca.key
openssl req -x509 -new -key ca.key -days 2 -subj "/CN=an authority" -out ca.pem
key server.key
openssl req -x509 -new -key server.key -CA ca.pem -CAkey ca.key -days 2 -subj /CN=localhost \
  -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE -out server.pem
chmod 644 ca.key server.key
"#;

/// A folder with these, in which everybody can read.
fn certificates() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).expect("our own folder");
    let mut shell = Command::new("sh");
    shell.args(["-c", CERTIFICATES]).current_dir(folder.path());
    let made = shell.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(made.expect("a shell").success(), "openssl is installed and does it");
    folder
}

/// A Redis that speaks TLS only, but for the socket of the tests, and asks for a password.
struct Encrypted {
    server: Server,
    folder: TempDir,
    port: u16,
}

impl Encrypted {
    fn new(clients: &str) -> Self {
        Self::of("server", clients)
    }

    /// With the certificate of this name.
    fn of(name: &str, clients: &str) -> Self {
        let (folder, port) = (certificates(), free_port());
        let file = |name: String| folder.path().join(name).display().to_string();
        let (ca, number) = (file("ca.pem".to_owned()), port.to_string());
        let (cert, key) = (file(format!("{name}.pem")), file(format!("{name}.key")));
        let server = Server::with(
            &[
                ["--tls-port", &number],
                ["--tls-auth-clients", clients],
                ["--tls-ca-cert-file", &ca],
                ["--tls-cert-file", &cert],
                ["--tls-key-file", &key],
                ["--requirepass", "sesame"],
            ]
            .concat(),
        );
        Self { server, folder, port }
    }

    /// As whoever trusts its authority.
    fn settings(&self, node: &str) -> Settings {
        let address = format!("rediss://:sesame@localhost:{}", self.port);
        let tls_authorities = Some(self.folder.path().join("ca.pem"));
        Settings { addresses: vec![address], tls_authorities, ..self.server.settings(node) }
    }
}

/// Both connections are said to be so, and so it is told to who only looks.
async fn told(settings: Settings, is_it: impl Fn(&State) -> Option<&str>, words: &[&str]) {
    let looked = RedisHints::look(settings.clone()).await.expect_err("it can't be had");
    let node = RedisHints::start(settings).expect("usable settings");
    let known = |health: &Health| ![&health.calls, &health.listening].contains(&&State::Starting);
    let health = soon(node.until(known)).await;
    for state in [&health.calls, &health.listening] {
        let why = is_it(state).unwrap_or_else(|| panic!("{state}"));
        assert!(!why.contains("sesame"), "{why}");
        for said in [why, &looked] {
            assert!(words.iter().all(|word| said.contains(word)), "{said}");
        }
    }
}

fn refused(state: &State) -> Option<&str> {
    if let State::Refused(why) = state { Some(why) } else { None }
}

fn down(state: &State) -> Option<&str> {
    if let State::Down(why) = state { Some(why) } else { None }
}

/// Where it depends on what arrives first: why, or that it hangs up.
fn refused_or_down(state: &State) -> Option<&str> {
    refused(state).or(down(state))
}

#[tokio::test]
async fn calls_and_news_are_encrypted_and_come_back_with_it() {
    let mut redis = Encrypted::new("no");
    let (one, two) = (redis.settings("one"), redis.settings("two"));
    assert_eq!(RedisHints::look(one.clone()).await, Ok(None));
    let (one, two) = (connected(one).await, connected(two).await);
    let mut ear = two.listen().expect("there is room");
    assert_eq!(soon(ear.next()).await, News::Missed);
    let mine = Active { epoch: 1, turn: "t".to_owned(), node: "one".to_owned() };
    assert_eq!(one.hold("s", &mine).await, Ok(Held::Ours));
    assert_eq!(two.active("s").await, Ok(Some(mine)));
    let limit = Limit { name: "x", per_minute: 60, burst: 1 };
    assert_eq!(one.take("t", &[limit]).await.expect("it is there").refused, None);
    assert_eq!(one.tell("two", &News::Work).await, Ok(Heard::Somebody));
    assert_eq!(soon(ear.next()).await, News::Work);

    redis.server.kill();
    soon(two.until(|health| !health.calls.is_up() && !health.listening.is_up())).await;
    redis.server.begin();
    assert_eq!(soon(ear.next()).await, News::Missed);
    soon(one.until(Health::is_up)).await;
    assert_eq!(one.tell("two", &News::Work).await, Ok(Heard::Somebody));
    assert_eq!(soon(ear.next()).await, News::Work);
}

#[tokio::test]
async fn whoever_is_not_whom_we_mean_is_told_apart() {
    let redis = Encrypted::new("no");
    let ours = redis.settings("one");
    let strange = Settings { tls_authorities: None, ..ours.clone() };
    told(strange, refused, &["by nobody whom this machine trusts", "`tls_authorities`"]).await;
    // An authority of the same name, as after a new one was made.
    let elsewhere = certificates();
    let file = elsewhere.path().join("ca.pem");
    let shown = file.display().to_string();
    let strange = Settings { tls_authorities: Some(file), ..ours.clone() };
    told(strange, refused, &["is by nobody in", &shown, "`tls_authorities`"]).await;
    let addresses = vec![format!("rediss://:sesame@127.0.0.1:{}", redis.port)];
    let strange = Settings { addresses, ..ours };
    told(strange, refused, &["is for localhost and not for 127.0.0.1", "name in the address"])
        .await;
}

#[tokio::test]
async fn an_authority_is_no_server() {
    let redis = Encrypted::of("ca", "no");
    told(redis.settings("one"), refused, &["is an authority's own (CA:TRUE)"]).await;
}

#[tokio::test]
async fn who_wants_a_certificate_of_ours_is_told_that_we_have_none() {
    let redis = Encrypted::new("yes");
    told(redis.settings("one"), refused_or_down, &["`tls-auth-clients no`"]).await;
}

#[tokio::test]
async fn a_plain_connection_to_a_port_for_tls() {
    let redis = Encrypted::new("no");
    let addresses = vec![format!("redis://:sesame@localhost:{}", redis.port)];
    let plain = Settings { addresses, tls_authorities: None, ..redis.settings("one") };
    told(plain, down, &["if that is its port for TLS, write rediss:// in the address"]).await;
}

#[tokio::test]
async fn an_encrypted_connection_to_a_port_without_tls() {
    let port = free_port().to_string();
    let server = Server::with(&["--port", &port]);
    let addresses = vec![format!("rediss://:sesame@localhost:{port}")];
    let settings = impatient(Settings { addresses, ..server.settings("one") });
    told(settings, down, &["it is silent to a greeting by TLS", "(`tls-port`)"]).await;
}

/// Somebody who answers everybody this, at a port, and what was said to it by each.
async fn who_answers(answer: &'static [u8]) -> (u16, UnboundedReceiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("a port").port();
    let (hear, heard) = unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut said = Vec::new();
            // However it ends.
            let _ = stream.write_all(answer).await;
            let _ = stream.read_to_end(&mut said).await;
            let _ = hear.send(said);
        }
    });
    (port, heard)
}

#[tokio::test]
async fn a_server_without_tls_is_told_nothing_in_the_clear() {
    let (port, mut heard) = who_answers(b"-ERR unknown command\r\n").await;
    let addresses = vec![format!("rediss://:sesame@127.0.0.1:{port}")];
    let settings = Settings { addresses, ..Server::absent(&[]).settings("one") };
    told(settings, refused, &["it does not speak TLS at that port", "or write redis://"]).await;
    // Who looked, who calls, and who listens.
    for _ in 0..3 {
        let said = soon(heard.recv()).await.expect("it goes on");
        assert!(!said.windows(6).any(|bytes| bytes == b"sesame"), "nothing is said in the clear");
    }
}

/// As others say it than Redis itself, which hangs up.
#[tokio::test]
async fn a_plain_connection_is_answered_by_tls() {
    let (port, _heard) = who_answers(b"\x15\x03\x01\x00\x02\x02\x46").await;
    let addresses = vec![format!("redis://:sesame@127.0.0.1:{port}")];
    let settings = Settings { addresses, ..Server::absent(&[]).settings("one") };
    told(settings, refused, &["if that is its port for TLS, write rediss:// in the address"]).await;
}

#[tokio::test]
async fn what_can_not_be_used_is_told_at_once() {
    let folder = certificates();
    let file = |name: &str| Some(folder.path().join(name));
    let check = |address: &str, tls_authorities: Option<PathBuf>, field: &str, words: &str| {
        let settings = Settings { tls_authorities, ..Settings::new(address, "home", "one") };
        let unfit = RedisHints::start(settings).map(drop).expect_err("it is not usable");
        assert_eq!(unfit.field, field, "{unfit}");
        assert!(unfit.what.contains(words), "{unfit}");
        assert!(!unfit.to_string().contains("sesame"), "{unfit}");
    };
    let address = "rediss://:sesame@localhost";
    check(address, file("nowhere.pem"), "tls_authorities", "nowhere.pem");
    check(address, file("server.key"), "tls_authorities", "there is none");
    let careless = format!("{address}/#insecure");
    check(&careless, file("ca.pem"), "addresses", "has no part behind a #");
    check("rediss://:sesame@", file("ca.pem"), "addresses", "");
}
