//! Who may read the numbers: whoever comes over the socket, and with keys in place an operator's
//! key that may read, as the page for operators says.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::Command;

use super::Home;
use super::store_kit::store;
use super::told::Told;

/// Asks over the socket in the data folder.
fn over_the_socket(home: &Home) -> Told {
    let mut socket = UnixStream::connect(home.dir.path().join("data/turnkeep.sock")).unwrap();
    let request = "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    Told::read(body)
}

fn made_key(home: &Home, of: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnkeep"));
    command.args(["keys", "create", "--scope", "read"]).args(of);
    let data = home.dir.path().join("data");
    let output = command.arg("--data-dir").arg(&data).envs(store(&data)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_key_reads_the_numbers_and_the_socket_needs_none() {
    let home = Home::new().await;
    assert_eq!(home.told().await.value("turnkeep_ready", &[]), 1.0);
    let operator = made_key(&home, &["--operator"]);
    let tenant = made_key(&home, &["--tenant", "acme"]);
    let url = format!("{}/metrics", home.server.address);
    for (key, status) in [(None, 401), (Some("nonsense"), 401), (Some(&*tenant), 403)] {
        let request = home.client.get(&url);
        let request = if let Some(key) = key { request.bearer_auth(key) } else { request };
        assert_eq!(request.send().await.unwrap().status().as_u16(), status, "{key:?}");
    }
    let answer = home.client.get(&url).bearer_auth(&operator).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let told = Told::read(&answer.text().await.unwrap());
    assert_eq!(told.value("turnkeep_access_refused_total", &[("reason", "failed")]), 1.0);
    assert_eq!(told.value("turnkeep_access_refused_total", &[("reason", "forbidden")]), 1.0);
    assert_eq!(told.value("turnkeep_http_responses_total", &[("class", "4xx")]), 3.0);
    assert_eq!(over_the_socket(&home).families(), told.families());
}
