//! The real binary with a model that asks for tools, and a real server of tools from a registry; and
//! with kill -9, of one and of the other, in the middle of a call.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tokio::time::{interval, timeout};

use crate::crash_kit::{Server, client};
use crate::kit::{LOOK, PATIENCE, Place, ask, gone, node, say, until};
use crate::parrot;
use crate::port_kit::free_port;

/// The program of the server that shows everything there is, as the project's own scripts install it.
fn everything() -> PathBuf {
    let server = "../../target/tools/node_modules/@modelcontextprotocol/server-everything";
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join(server).join("dist/index.js");
    assert!(program.exists(), "there is no {}: `make setup` installs it", program.display());
    program
}

/// The keys of an agent that has all tools of `shop`, which is this server.
async fn with_tools(server: &str) -> String {
    let agent = parrot::start().await;
    format!("{agent}\ntools = [\"shop.*\"]\n[tools.shop]\n{server}\n")
}

fn over_streams(place: &Place) -> String {
    // The last argument is for those who look for the process.
    let mark = place.path().display();
    let program = everything();
    format!("command = [{:?}, {program:?}, \"stdio\", \"{mark}\"]", node())
}

async fn serve(place: &Place, agent: &str) -> Server {
    place.serve_with_tools(agent, "window_ms = 0").await
}

/// What both ways of reaching it have in common.
async fn check(place: &Place, tools: &str) {
    let server = serve(place, &with_tools(tools).await).await;
    let answer = ask(&server, r#"shop__echo {"message":"moin"}"#).await;
    assert_eq!(answer["reply"], "Echo: moin");
    let answer = ask(&server, r#"shop__get-sum {"a":19,"b":23}"#).await;
    assert_eq!(answer["reply"], "The sum of 19 and 23 is 42.");
    // The server itself finds what its schema does not tell.
    let answer = ask(&server, r#"shop__get-tiny-image {}"#).await;
    let reply = answer["reply"].as_str().unwrap();
    assert!(reply.contains("[image, image/png, about "), "{reply}");
    let seen = until(&server, "tool.returned").await;
    assert!(seen.contains("\"outcome\":\"done\""), "{seen}");
    let numbers = client().get(format!("{}/metrics", server.address)).send().await.unwrap();
    let numbers = numbers.text().await.unwrap();
    let calls = "turn_gateway_tool_calls_total{outcome=\"done\"} 3\n";
    assert!(numbers.contains(calls), "{numbers}");
    place.audit();
}

#[tokio::test]
async fn a_real_server_is_asked_over_its_streams() {
    let place = Place::new();
    check(&place, &over_streams(&place)).await;
}

/// A process that ends with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_real_server_is_asked_over_http() {
    let place = Place::new();
    let port = free_port();
    let mut command = Command::new(node());
    command.arg(everything()).arg("streamableHttp").env("PORT", port.to_string());
    let server = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut server = Ends(server.unwrap());
    // No turn waits long for a server that refuses it. What it complains of later is heard, too.
    let mut said = BufReader::new(server.0.stderr.take().unwrap()).lines();
    let listens = said.find(|line| line.as_ref().unwrap().contains("listening on port"));
    listens.expect("it has ended").unwrap();
    std::thread::spawn(move || said.count());
    check(&place, &format!("url = \"http://127.0.0.1:{port}/mcp\"")).await;
}

/// The process of the server that this place started.
fn process_of(place: &Place) -> Option<String> {
    let mark = place.path().display().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut names = processes.filter_map(|process| process.file_name().into_string().ok());
    names.find(|name| {
        let said = std::fs::read_to_string(format!("/proc/{name}/cmdline")).unwrap_or_default();
        said.split('\0').any(|word| word == mark) && said.contains("server-everything")
    })
}

#[tokio::test]
async fn a_server_that_is_killed_in_a_call_leaves_it_unknown() {
    let place = Place::new();
    // What it hears is noted before it does anything with it.
    let ear = place.path().join("ear.cjs");
    std::fs::write(&ear, NOTES).unwrap();
    let tools = over_streams(&place).replacen(", ", &format!(", \"--require\", {ear:?}, "), 1);
    let agent = with_tools(&format!("{tools}\nenv = {{ NOTED = {:?} }}", noted(&place))).await;
    let server = serve(&place, &agent).await;
    let long = r#"shop__trigger-long-running-operation {"duration":1000,"steps":2}"#;
    let first = say(&server, long, "").await;
    until_called(&place).await;
    let pid = process_of(&place).expect("there is no server of tools");
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    let seen = until(&server, "turn.completed").await;
    assert!(seen.contains("\"outcome\":\"unknown\""), "{seen}");
    assert!(seen.contains("the connection to the tool server ended before it answered"), "{seen}");
    let answer = ask(&server, r#"shop__echo {"message":"back"}"#).await;
    assert_eq!(answer["reply"], "Echo: back");
    assert_ne!(answer["turn_id"], first["turn_id"]);
    place.audit();
}

/// Where a server notes what it is told.
fn noted(place: &Place) -> PathBuf {
    place.path().join("noted")
}

/// Has a program of Node note so.
const NOTES: &str = "const emit = process.stdin.emit;
process.stdin.emit = function (name, data) {
  if (name === 'data') require('fs').appendFileSync(process.env.NOTED, data);
  return emit.apply(this, arguments);
};
";

/// Returns once a call has come to the server.
async fn until_called(place: &Place) {
    let called = async {
        let mut look = interval(LOOK);
        while told(place, "tools/call").is_empty() {
            look.tick().await;
        }
    };
    timeout(PATIENCE, called).await.expect("it was never called");
}

/// What the server was told, by method.
fn told(place: &Place, method: &str) -> Vec<Value> {
    let noted = std::fs::read_to_string(noted(place)).unwrap_or_default();
    let messages = noted.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages.filter(|message| message["method"] == method).collect()
}

#[tokio::test]
async fn a_call_under_way_is_not_made_again_after_a_kill() {
    let place = Place::new();
    let liar = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agents/tests/agents/mcp/liar.py");
    let tools = format!(
        "command = [\"python3\", {liar:?}]\nenv = {{ NOTED = {:?} }}\n\
         keys = {{ hang = \"/order_id\" }}",
        noted(&place)
    );
    let agent = with_tools(&tools).await;
    let mut server = serve(&place, &agent).await;
    say(&server, r#"shop__hang {"order_id":17}"#, "").await;
    until_called(&place).await;
    server.kill();
    drop(server);

    let server = place.serve(&agent, "window_ms = 0");
    let seen = until(&server, "turn.completed").await;
    let calls = told(&place, "tools/call");
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert_eq!(calls[0]["params"]["arguments"]["order_id"], 17);
    assert!(seen.contains("nobody knows"), "{seen}");
    place.audit();
}

#[tokio::test]
async fn a_server_of_tools_lives_as_long_as_its_section_is_the_same() {
    let place = Place::new();
    let tools = over_streams(&place);
    let agent = with_tools(&tools).await;
    let mut server = serve(&place, &agent).await;
    ask(&server, r#"shop__echo {"message":"a"}"#).await;
    let first = process_of(&place).unwrap();
    let reload = async |agent: &str| {
        place.write(agent, "window_ms = 0");
        let url = format!("{}/v1/reload", server.address);
        let answer = client().post(url).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
        answer.text().await.unwrap()
    };
    let told = reload(&agent.replace("[tools.shop]", "system_prompt = \"hi\"\n[tools.shop]")).await;
    assert!(told.contains("agents.default") && !told.contains("tools.shop"), "{told}");
    ask(&server, r#"shop__echo {"message":"b"}"#).await;
    assert_eq!(process_of(&place).as_ref(), Some(&first), "it goes on");
    let told = reload(&format!("{agent}effects = {{ echo = \"pure\" }}\n")).await;
    assert!(told.contains("tools.shop"), "{told}");
    timeout(PATIENCE, gone(&first)).await.expect("the old one lives");
    let answer = ask(&server, r#"shop__echo {"message":"c"}"#).await;
    assert_eq!(answer["reply"], "Echo: c");
    let second = process_of(&place).unwrap();
    assert_ne!(second, first);
    // Nothing of it is left when the gateway ends.
    let pid = server.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    server.child.wait().unwrap();
    timeout(PATIENCE, gone(&second)).await.expect("it outlives the gateway");
}

#[tokio::test]
async fn a_server_that_never_starts_keeps_nobody_from_an_answer() {
    let place = Place::new();
    let tools = "command = [\"false\"]";
    let server = place.serve(&with_tools(tools).await, "window_ms = 0");
    let answer = ask(&server, "hello").await;
    assert_eq!(answer["reply"], "hello");
    let said = Command::new(env!("CARGO_BIN_EXE_turnkeep"))
        .args(["tools", "--config"])
        .arg(place.path().join("turnkeep.toml"))
        .output()
        .unwrap();
    assert_eq!(said.status.code(), Some(1));
    let said = String::from_utf8(said.stderr).unwrap();
    assert_eq!(said, "shop is away: its process exited with status 1\n");
}

#[test]
fn the_command_shows_what_there_is_and_what_holds_for_it() {
    let place = Place::new();
    let rules = "effects = { \"get-*\" = \"pure\" }\nkeys = { echo = \"/message\" }\n\
                 approval = [\"echo\", \"ecko\"]";
    let config = place.path().join("turnkeep.toml");
    let text = format!(
        "[agents.default]\nkind = \"echo\"\n[tools.shop]\n{}\n{rules}\n",
        over_streams(&place)
    );
    std::fs::write(&config, &text).unwrap();
    let run = |arguments: &[&str]| {
        let mut tools = Command::new(env!("CARGO_BIN_EXE_turnkeep"));
        let said =
            tools.arg("tools").args(arguments).arg("--config").arg(&config).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (said.status.code(), text(said.stdout), text(said.stderr))
    };
    let (code, shown, notes) = run(&["shop"]);
    assert_eq!(code, Some(1), "{notes}");
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[0], "tool\teffects\tkey\tapproval\tdescription");
    assert_eq!(
        lines[1],
        "shop.echo\tirreversible\t/message\tby the user\tEchoes back the input string"
    );
    assert!(
        shown.contains("\nshop.get-sum\tpure\t\t\tReturns the sum of two numbers\n"),
        "{shown}"
    );
    assert!(notes.starts_with("shop is there: mcp-servers/everything "), "{notes}");
    let stray =
        "note: \"approval\" of shop: no tool of shop is called \"ecko\"; did you mean \"echo\"?\n";
    assert!(notes.ends_with(stray), "{notes}");
    let (code, shown, _) = run(&["--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        (code, &shown["servers"][0]["tools"][0]["model_name"]),
        (Some(1), &Value::from("shop__echo"))
    );
    std::fs::write(&config, text.replace(", \"ecko\"", "")).unwrap();
    let (code, _, notes) = run(&["shop"]);
    assert_eq!((code, notes.lines().count()), (Some(0), 1), "{notes}");
    let (code, _, notes) = run(&["shpo"]);
    assert_eq!((code, notes.as_str()), (Some(1), "there is no [tools.shpo]\n"));
}

#[test]
fn names_that_mean_nothing_are_told() {
    let place = Place::new();
    let liar = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agents/tests/agents/mcp/liar.py");
    let agent = format!(
        "kind = \"openai\"\nbase_url = \"http://127.0.0.1:1/v1\"\nmodel = \"m\"\n\
         tools = [\"shop.ecko\", \"shop.hang\"]\n[tools.shop]\ncommand = [\"python3\", {liar:?}]\n\
         env = {{ NOTED = {:?} }}\nkeys = {{ echo = \"/txt\" }}",
        noted(&place)
    );
    let config = place.write(&agent, "window_ms = 0");
    let mut tools = Command::new(env!("CARGO_BIN_EXE_turnkeep"));
    let said = tools.args(["tools", "--config"]).arg(config).output().unwrap();
    let said = String::from_utf8(said.stderr).unwrap();
    let notes: Vec<&str> = said.lines().skip(1).collect();
    assert_eq!(
        notes,
        [
            "note: \"keys\" of shop: \"echo\" has no argument \"/txt\", so no call of it can be made; \
             did you mean \"/text\"?",
            "note: \"tools\" of agent \"default\": no tool of shop is called \"ecko\"; did you mean \
             \"echo\"?",
        ],
        "{said}"
    );
}

#[test]
fn a_server_over_http_is_asked_past_any_proxy_of_the_environment() {
    let place = Place::new();
    let liar = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agents/tests/agents/mcp/liar.py");
    let mut server = Command::new("python3");
    server.arg(liar).arg("--http").env("NOTED", place.path().join("noted"));
    let mut server = Ends(server.stdout(Stdio::piped()).spawn().unwrap());
    let mut port = String::new();
    let out = server.0.stdout.as_mut().unwrap();
    BufReader::new(out).read_line(&mut port).unwrap();
    let config = place.path().join("turnkeep.toml");
    let url = format!("url = \"http://127.0.0.1:{}/mcp\"", port.trim());
    std::fs::write(&config, format!("[agents.default]\nkind = \"echo\"\n[tools.shop]\n{url}\n"))
        .unwrap();
    // Nobody listens on that port.
    let proxies = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
    let said = Command::new(env!("CARGO_BIN_EXE_turnkeep"))
        .args(["tools", "--config"])
        .arg(config)
        .envs(proxies.map(|name| (name, "http://127.0.0.1:1")))
        .env_remove("no_proxy")
        .env_remove("NO_PROXY")
        .output()
        .unwrap();
    let (said, error) =
        (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(error.starts_with("shop is there: liar 1"), "{said}{error}");
}

#[test]
fn whatever_tools_may_do_is_part_of_the_agents_version() {
    let place = Place::new();
    let agent = "kind = \"openai\"\nbase_url = \"http://127.0.0.1:1/v1\"\nmodel = \"m\"\n\
                 tools = [\"shop.*\"]\n[tools.shop]\ncommand = [\"false\"]";
    let version = |rules: &str| {
        let config = place.write(&format!("{agent}\n{rules}"), "window_ms = 0");
        let mut check = Command::new(env!("CARGO_BIN_EXE_turnkeep"));
        let said = check.args(["check", "--config"]).arg(config).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let version = said.split(", version m#").nth(1).expect(&said);
        version.chars().take_while(char::is_ascii_alphanumeric).collect::<String>()
    };
    let rules =
        ["", "approval = [\"refund\"]", "trust_annotations = true", "errors_mean_not_done = true"];
    let versions: std::collections::BTreeSet<String> =
        rules.iter().map(|rules| version(rules)).collect();
    assert_eq!(versions.len(), rules.len(), "{versions:?}");
    assert_eq!(version("trust_annotations = false"), version(""));
}
