//! Servers of tools over HTTP.

use std::process::{Child, Command, Stdio};

use serde_json::json;
use turnkeep_agents::{ToolServer, ToolServerSettings, ToolWay, Toolbox as _};
use turnkeep_core::tool::ToolOutcome::{self, Done, Failed, Unknown};

use super::{Liar, PATIENCE, arguments, with_tls};

/// The script as a server of its own; it ends with the test.
struct Server {
    child: Child,
    liar: Liar,
    settings: ToolServerSettings,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(token: Option<&str>) -> Self {
        Self::wanting(None, token)
    }

    /// One that refuses who does not show this, and what it is shown.
    fn wanting(wanted: Option<&str>, token: Option<&str>) -> Self {
        use std::io::BufRead as _;
        with_tls();
        let (mut child, mut own) = (None, None);
        let liar = Liar::new(|settings| {
            let ToolWay::Command(program) = &settings.way else { return };
            let mut started = Command::new(&program.command[0])
                .args([&program.command[1], "--http"])
                .envs(&program.env)
                .envs(wanted.map(|wanted| ("TOKEN", wanted)))
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut port = String::new();
            let out = started.stdout.as_mut().unwrap();
            std::io::BufReader::new(out).read_line(&mut port).unwrap();
            child = Some(started);
            let url = format!("http://127.0.0.1:{}/mcp", port.trim());
            settings.way = ToolWay::Http { url, token: token.map(str::to_owned) };
            own = Some(settings.clone());
        });
        Self { child: child.unwrap(), liar, settings: own.unwrap() }
    }
}

#[tokio::test]
async fn a_server_over_http_is_asked_with_its_token() {
    let server = Server::start(Some("sesame"));
    server.liar.check("echo", r#"{"text":"moin"}"#, Done, "moin").await;
    for message in server.liar.noted() {
        assert_eq!(message["authorization"], "Bearer sesame", "{message}");
    }
}

#[tokio::test]
async fn a_status_says_what_came_of_the_call() {
    let server = Server::start(None);
    for (code, outcome, words) in [
        (429, Failed, "the tool server refused the call: too many requests"),
        (500, Unknown, "the tool server answered with status 500"),
        (503, Unknown, "the tool server answered with status 503"),
    ] {
        let arguments = arguments(json!({"code": code}));
        server.liar.check("status", &arguments, outcome, words).await;
    }
    let check = async |name: &str, arguments: &str, outcome: ToolOutcome| {
        let said = server.liar.call(name, arguments).await;
        assert_eq!(said.outcome, outcome, "{name} {arguments}: {}", said.output);
    };
    check("status", r#"{"code":400}"#, Unknown).await;
    check("status", r#"{"code":302}"#, Unknown).await;
    check("shapeless", "{}", Unknown).await;
    check("huge", "{}", Unknown).await;
    check("echo", r#"{"text":"still here"}"#, Done).await;
}

#[tokio::test]
async fn a_server_that_is_gone_was_not_called() {
    let mut server = Server::start(None);
    let (echo, die) = (server.liar.tool("echo").await, server.liar.tool("die").await);
    let said = server.liar.tools.call(&die, "{}").await;
    assert_eq!(said.outcome, Unknown, "{}", said.output);
    server.child.wait().unwrap();
    let said = server.liar.tools.call(&echo, r#"{"text":"a"}"#).await;
    assert_eq!(said.outcome, Failed, "{}", said.output);
}

#[tokio::test]
async fn why_a_server_is_away_is_told_with_its_address() {
    let mut server = Server::wanting(Some("sesame"), None);
    let ToolWay::Http { url, .. } = server.settings.way.clone() else { panic!("over HTTP") };
    let origin = url.strip_suffix("/mcp").unwrap().to_owned();
    let why = async |token: Option<&str>| {
        let way = ToolWay::Http { url: url.clone(), token: token.map(str::to_owned) };
        let tried = ToolServer::start(ToolServerSettings { way, ..server.settings.clone() });
        tokio::time::timeout(PATIENCE, tried.report()).await.unwrap().state
    };
    let keys = "\"token_file\" or \"token_env\" in [tools.shop]";
    let refused = format!("{origin} refused with status 401: it ");
    assert_eq!(why(None).await, Err(format!("{refused}wants a token, which {keys} names")));
    let wrong = format!("{refused}does not take the token that {keys} names");
    assert_eq!(why(Some("open")).await, Err(wrong));
    assert!(why(Some("sesame")).await.is_ok());
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let gone = format!("it can't be reached at {origin}: Connection refused (os error 111)");
    assert_eq!(why(None).await, Err(gone));
}
