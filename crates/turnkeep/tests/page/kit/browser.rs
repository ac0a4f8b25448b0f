//! Chromium and its driver, both of them only for one test.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use fantoccini::wd::{TimeoutConfiguration, WebDriverCompatibleCommand};
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use reqwest::{Method, Url};
use serde_json::{Value, json};

use super::person::Person;
use super::server::Server;

const FLAGS: [&str; 12] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    // Two people look at their windows at the same time; neither is in the background.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
];
/// Longer than any condition is waited for.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(120);
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) struct Browser {
    client: Client,
    // In this order: the browser ends before its profile is removed.
    _driver: Driver,
    _profile: tempfile::TempDir,
}

impl Browser {
    pub(crate) async fn start() -> Self {
        let driver = Driver::start();
        let profile = tempfile::tempdir().unwrap();
        let mut flags: Vec<String> = FLAGS.iter().map(|&flag| flag.to_owned()).collect();
        flags.push(format!("--user-data-dir={}", profile.path().display()));
        let Value::Object(wanted) = json!({
            "goog:chromeOptions": {"args": flags},
            "goog:loggingPrefs": {"browser": "ALL"},
        }) else {
            unreachable!("it is an object")
        };
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(wanted)
            .connect(&format!("http://127.0.0.1:{}", driver.port))
            .await
            .unwrap_or_else(|error| {
                panic!("Chromium does not start; `make setup` installs it: {error}")
            });
        let timeouts = TimeoutConfiguration::new(Some(SCRIPT_TIMEOUT), None, None);
        client.update_timeouts(timeouts).await.unwrap();
        Self { client, _driver: driver, _profile: profile }
    }

    /// A new window in which nobody has chosen a name yet.
    pub(crate) async fn window(&self, server: &Server) -> Person {
        Person::arrive(self.client.clone(), &server.address()).await
    }

    /// A new window with this address.
    pub(crate) async fn window_at(&self, address: &str) -> Person {
        Person::arrive(self.client.clone(), address).await
    }

    /// A new window of somebody who has entered a name.
    pub(crate) async fn person(&self, server: &Server, name: &str) -> Person {
        let mut person = self.window(server).await;
        person.enter(name).await;
        person
    }

    /// What the browser has complained about since the last call: errors of scripts, refused
    /// content, failed requests.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let log = Extra::new(Method::POST, "se/log", Some(json!({"type": "browser"})));
        let entries = self.client.issue_cmd(log).await.unwrap();
        let entries = entries.as_array().unwrap().iter();
        let bad = entries.filter(|entry| entry["level"] != "INFO" && entry["level"] != "DEBUG");
        bad.map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }

    /// Fails if the browser has complained about anything.
    pub(crate) async fn is_content(&self) {
        assert_eq!(self.complaints().await, Vec::<String>::new());
    }
}

/// A command that the WebDriver client has no method for.
#[derive(Debug)]
pub(crate) struct Extra {
    method: Method,
    path: String,
    body: Option<Value>,
}

impl Extra {
    pub(crate) fn new(method: Method, path: impl Into<String>, body: Option<Value>) -> Self {
        Self { method, path: path.into(), body }
    }
}

impl WebDriverCompatibleCommand for Extra {
    fn endpoint(
        &self,
        base: &Url,
        session: Option<&str>,
    ) -> Result<Url, <Url as std::str::FromStr>::Err> {
        base.join(&format!("session/{}/{}", session.unwrap(), self.path))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (self.method.clone(), self.body.as_ref().map(Value::to_string))
    }
}

struct Driver {
    child: Child,
    port: u16,
    /// Kept open: the driver ends if it can't write to it.
    _stdout: BufReader<ChildStdout>,
}

impl Driver {
    #[expect(clippy::zombie_processes, reason = "it is waited for when the value goes")]
    fn start() -> Self {
        let mut child = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("there is no chromedriver; `make setup` installs Chromium with it: {error}")
            });
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        loop {
            line.clear();
            assert!(
                stdout.read_line(&mut line).unwrap() > 0,
                "the driver ended before it was ready"
            );
            let port = line.split_once("successfully on port ").map(|(_, port)| port);
            if let Some(port) =
                port.and_then(|port| port.trim_end().trim_end_matches('.').parse().ok())
            {
                return Self { child, port, _stdout: stdout };
            }
        }
    }

    /// Asks the driver to end, and its browser with it: a killed one would leave Chromium behind.
    fn shut_down(&self) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(SHUTDOWN_TIMEOUT))?;
        write!(stream, "GET /shutdown HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if self.shut_down().is_err() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}
