//! What the attacks share: the real binary, connections from chosen addresses, requests byte by byte.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::store_kit::store;

/// Where the healthy client is.
pub(crate) const HEALTHY: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// Nothing takes so long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// One of the eight addresses that attackers have.
pub(crate) fn attacker(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, 2 + u8::try_from(number % 8).unwrap())
}

/// A folder of its own for everything.
pub(crate) struct Home(tempfile::TempDir);

impl Home {
    pub(crate) fn new(config: &str) -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        std::fs::write(home.path("turnkeep.toml"), config).unwrap();
        home
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_turnkeep"));
        command.env_clear().env("HOME", self.0.path()).current_dir(self.0.path());
        command.env("TURNKEEP_DATA_DIR", self.path("data")).envs(store(&self.path("data")));
        command.env("TURNKEEP_CONFIG", self.path("turnkeep.toml"));
        command
    }

    pub(crate) fn output(&self, args: &[&str]) -> Output {
        self.command().args(args).output().unwrap()
    }

    /// What a command prints that works.
    pub(crate) fn run(&self, args: &[&str]) -> String {
        let output = self.output(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {said}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    pub(crate) fn key(&self, args: &[&str]) -> String {
        self.run(&[&["keys", "create"], args].concat())
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.path("log")).unwrap()).into_owned()
    }

    pub(crate) fn serve(&self, log_level: &str, env: &[(&str, &str)]) -> Server {
        let log = std::fs::File::create(self.path("log")).unwrap();
        let mut child = self
            .command()
            .args(["serve", "--listen", "127.0.0.1:0", "--log-level", log_level])
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").map(str::to_owned);
        let address = address.unwrap_or_else(|| panic!("it did not start: {}", self.log()));
        Server { child, address: address.parse().unwrap() }
    }
}

/// The server under attack.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// A connection from this address.
    pub(crate) async fn dial(&self, from: Ipv4Addr) -> std::io::Result<TcpStream> {
        dial(self.address, from).await
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, from: Ipv4Addr, request: &Request<'_>) -> Answer {
        self.raw(from, request.bytes().as_slice()).await
    }

    /// These bytes, and what is said until the server closes.
    pub(crate) async fn raw(&self, from: Ipv4Addr, bytes: &[u8]) -> Answer {
        let mut stream = self.dial(from).await.unwrap();
        // A server that has refused already may have closed its side.
        let _ = stream.write_all(bytes).await;
        Answer::read(&mut stream).await
    }

    /// Memory in use, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Connections that it holds, as the system has them.
    pub(crate) fn connections(&self) -> usize {
        const ESTABLISHED: &str = "01";
        let port = format!(":{:04X}", self.address.port());
        let held = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields[1].ends_with(&port) && fields[3] == ESTABLISHED
        };
        std::fs::read_to_string("/proc/net/tcp").unwrap().lines().filter(|line| held(line)).count()
    }

    /// Somebody who does nothing wrong is served.
    pub(crate) async fn is_well(&self, key: &str) {
        let body = r#"{"customer_id": "healthy", "message": "hello"}"#;
        let answer = self.ask(HEALTHY, &Request::post("/v1/chat?wait=30", key, body)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }

    /// Ends as it should, so that the log is whole.
    pub(crate) fn end(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) async fn dial(to: SocketAddr, from: Ipv4Addr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    socket.connect(to).await
}

/// A request that is well-formed, unless its parts are not.
pub(crate) struct Request<'a> {
    pub(crate) line: String,
    pub(crate) headers: Vec<(&'a str, &'a str)>,
    pub(crate) key: &'a str,
    pub(crate) body: &'a str,
    /// The length that is announced, where it is not the body's.
    pub(crate) announced: Option<usize>,
    pub(crate) stays: bool,
}

impl<'a> Request<'a> {
    pub(crate) fn of(line: &str, key: &'a str) -> Self {
        Self {
            line: line.to_owned(),
            headers: vec![("host", "localhost")],
            key,
            body: "",
            announced: None,
            stays: false,
        }
    }

    pub(crate) fn post(path: &str, key: &'a str, body: &'a str) -> Self {
        Self { body, ..Self::of(&format!("POST {path}"), key) }
    }

    /// On a connection that stays open.
    pub(crate) fn staying(self) -> Self {
        Self { stays: true, ..self }
    }

    pub(crate) fn with(mut self, name: &'a str, value: &'a str) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        use std::fmt::Write as _;
        let mut text = format!("{} HTTP/1.1\r\n", self.line);
        for (name, value) in &self.headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        if !self.key.is_empty() {
            let _ = write!(text, "authorization: Bearer {}\r\n", self.key);
        }
        if !self.body.is_empty() || self.announced.is_some() {
            text.push_str("content-type: application/json\r\n");
        }
        if self.line.starts_with("POST") {
            let length = self.announced.unwrap_or(self.body.len());
            let _ = write!(text, "content-length: {length}\r\n");
        }
        if !self.stays {
            text.push_str("connection: close\r\n");
        }
        let _ = write!(text, "\r\n{}", self.body);
        text.into_bytes()
    }
}

/// What the server said.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// 0 where it just closed.
    pub(crate) status: u16,
    /// Everything, as it came.
    pub(crate) text: String,
}

impl Answer {
    /// Reads until the server closes, or breaks off.
    async fn read(stream: &mut TcpStream) -> Self {
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(PATIENCE, async {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut piece).await {
                bytes.extend_from_slice(&piece[..count]);
            }
        });
        assert!(read.await.is_ok(), "no end: {:?}", String::from_utf8_lossy(&bytes));
        Self::of(&bytes)
    }

    pub(crate) fn of(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let status = text.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        Self { status, text }
    }

    pub(crate) fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(self.body()).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let head = self.text.split("\r\n\r\n").next()?;
        head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// How many answers there are.
    pub(crate) fn count(&self) -> usize {
        self.text.matches("HTTP/1.1 ").count()
    }
}

/// A connection that is used again and again, with answers that say how long they are.
pub(crate) struct Line {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Line {
    pub(crate) const fn new(stream: TcpStream) -> Self {
        Self { stream, bytes: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next answer; none if the server has closed.
    pub(crate) async fn next(&mut self) -> Option<Answer> {
        let mut piece = [0; 16 * 1024];
        loop {
            if let Some(answer) = self.whole() {
                return Some(answer);
            }
            let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut piece)).await;
            match read.expect("no answer") {
                Ok(count @ 1..) => self.bytes.extend_from_slice(&piece[..count]),
                _ => return None,
            }
        }
    }

    fn whole(&mut self) -> Option<Answer> {
        let end = self.bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let length = Answer::of(&self.bytes[..end]).header("content-length")?.parse::<usize>();
        let whole = end + length.unwrap();
        (self.bytes.len() >= whole).then(|| {
            let rest = self.bytes.split_off(whole);
            Answer::of(&std::mem::replace(&mut self.bytes, rest))
        })
    }
}
