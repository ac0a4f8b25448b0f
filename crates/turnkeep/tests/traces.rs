//! The real binary tells a collector what became of messages: as part of the senders' traces, from
//! the request to the delivered reply, without a word of what was said. A collector that is down
//! costs spans and nothing else.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(dead_code, reason = "the kit is shared with tests that need more of it")]

mod crash_kit;
mod store_kit;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crash_kit::{Server, client};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Nothing here takes long; what does is broken.
const PATIENCE: Duration = Duration::from_secs(60);
/// Stands in everything that anybody says, here and at the provider.
const SECRET: &str = "velvet";

/// What arrived at the other side so far.
#[derive(Clone, Default)]
struct Arrived {
    spans: Vec<Value>,
    /// Of requests with spans.
    resources: Vec<Value>,
    authorization: Vec<String>,
    /// What the provider was told of traces.
    asked: Vec<Option<String>>,
}

/// A collector of spans and a provider of answers in one.
struct World {
    address: SocketAddr,
    arrived: watch::Receiver<Arrived>,
    /// Until it is open, the agent `gated` waits.
    gate: watch::Sender<bool>,
}

impl World {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, arrived) = watch::channel(Arrived::default());
        let (gate, opened) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (sender, opened) = (sender.clone(), opened.clone());
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    while serve(&mut stream, &sender, opened.clone()).await.is_some() {}
                });
            }
        });
        Self { address, arrived, gate }
    }

    /// Everything that arrived, once it is enough.
    async fn until(&mut self, enough: impl Fn(&[Value]) -> bool) {
        let wait = self.arrived.wait_for(|arrived| enough(&arrived.spans));
        assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "{:#?}", self.now().spans);
    }

    fn now(&self) -> Arrived {
        self.arrived.borrow().clone()
    }
}

/// Answers one request.
async fn serve(
    stream: &mut BufReader<TcpStream>,
    sender: &watch::Sender<Arrived>,
    mut opened: watch::Receiver<bool>,
) -> Option<()> {
    let mut request = String::new();
    stream.read_line(&mut request).await.ok()?;
    let path = request.split(' ').nth(1)?.to_owned();
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers.get("content-length")?.parse().unwrap()];
    stream.read_exact(&mut body).await.ok()?;
    let body: Value = serde_json::from_slice(&body).unwrap();
    let (status, kind, answer) = match &*path {
        "/otlp/v1/traces" => {
            assert_eq!(headers["content-type"], "application/json");
            sender.send_modify(|arrived| {
                let resource = &body["resourceSpans"][0];
                arrived.resources.push(resource["resource"].clone());
                arrived.authorization.extend(headers.get("authorization").cloned());
                let spans = resource["scopeSpans"][0]["spans"].as_array().unwrap();
                arrived.spans.extend(spans.iter().cloned());
            });
            ("200 OK", "application/json", "{}".to_owned())
        }
        "/v1/chat/completions" | "/gated/chat/completions" => {
            if path.starts_with("/gated") {
                opened.wait_for(|open| *open).await.ok()?;
            }
            let asked = headers.get("traceparent").cloned();
            sender.send_modify(|arrived| arrived.asked.push(asked));
            let chunk =
                json!({"choices": [{"delta": {"content": SECRET}, "finish_reason": "stop"}]});
            ("200 OK", "text/event-stream", format!("data: {chunk}\n\ndata: [DONE]\n\n"))
        }
        "/broken/chat/completions" => {
            let said = format!("I don't like {}", body["messages"]);
            ("400 Bad Request", "text/plain", said)
        }
        other => panic!("nobody asks for {other}"),
    };
    let length = answer.len();
    let head =
        format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all((head + &answer).as_bytes()).await.ok()
}

/// A configuration that sends spans there.
fn configure(dir: &Path, host: SocketAddr, more: &str) -> PathBuf {
    let config = dir.join("turnkeep.toml");
    let text = format!(
        "[telemetry]\notlp_endpoint = \"http://{host}/otlp\"\nservice_name = \"shop\"\n{more}\n\
         [agents.default]\nkind = \"echo\"\ndelay_ms = 1500\n\
         [agents.model]\nkind = \"openai\"\nmodel = \"m\"\nbase_url = \"http://{host}/v1\"\n\
         [agents.broken]\nkind = \"openai\"\nmodel = \"m\"\nbase_url = \"http://{host}/broken\"\n\
         [agents.gated]\nkind = \"openai\"\nmodel = \"m\"\nbase_url = \"http://{host}/gated\"\n\
         [guard]\nterms = [\"cheap pills\"]\n\
         [channels.signal]\nspool = \"spool.jsonl\"\nwindow_mode = \"fixed\"\nwindow_ms = 5000\n"
    );
    std::fs::write(&config, text).unwrap();
    config
}

/// A sender's span: the trace, the span, and the header that tells of them.
fn sender(number: u8, sampled: bool) -> (String, String, String) {
    let (trace, span) = (format!("{number:02x}").repeat(16), format!("{number:02x}").repeat(8));
    let header = format!("00-{trace}-{span}-0{}", u8::from(sampled));
    (trace, span, header)
}

/// Sends a message; says how it was answered.
async fn say(server: &Server, query: &str, traceparent: Option<&str>, body: Value) -> u16 {
    let mut request = client().post(format!("{}/v1/chat{query}", server.address));
    if let Some(traceparent) = traceparent {
        request = request.header("traceparent", traceparent).header("tracestate", "shop=7");
    }
    request.json(&body).send().await.unwrap().status().as_u16()
}

/// The server's numbers, once this line is among them.
async fn numbers(server: &Server, line: &str) -> String {
    let client = client();
    let look = async {
        loop {
            let answer = client.get(format!("{}/metrics", server.address)).send().await.unwrap();
            let numbers = answer.text().await.unwrap();
            if numbers.contains(line) {
                return numbers;
            }
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("never says {line}"))
}

/// Asks it to end, and waits until it did.
async fn end(mut server: Server) {
    let pid = server.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let ended = tokio::task::spawn_blocking(move || server.child.wait().unwrap());
    let ended = tokio::time::timeout(PATIENCE, ended).await.expect("it does not end").unwrap();
    assert!(ended.success(), "{ended}");
}

/// What stands behind an attribute's name.
fn attribute(span: &Value, name: &str) -> Value {
    let all = span["attributes"].as_array().unwrap();
    let found = all.iter().find(|attribute| attribute["key"] == format!("turnkeep.{name}"));
    let value = found.map(|attribute| attribute["value"].as_object().unwrap().values().next());
    value.flatten().cloned().unwrap_or_default()
}

fn http_status(span: &Value) -> String {
    let all = span["attributes"].as_array().unwrap();
    let status = all.iter().find(|one| one["key"] == "http.response.status_code").unwrap();
    status["value"]["intValue"].as_str().unwrap().to_owned()
}

/// The only span of this name in this trace.
fn only<'a>(spans: &'a [Value], trace: &str, name: &str) -> &'a Value {
    let found: Vec<&Value> =
        spans.iter().filter(|span| span["traceId"] == trace && span["name"] == name).collect();
    let [one] = found[..] else { panic!("{} of {name} in {trace}: {spans:#?}", found.len()) };
    one
}

fn names(spans: &[Value], trace: &str) -> Vec<String> {
    let of = spans.iter().filter(|span| span["traceId"] == trace);
    let mut names: Vec<String> = of.map(|span| span["name"].as_str().unwrap().into()).collect();
    names.sort();
    names
}

fn events(span: &Value) -> Vec<&str> {
    let all = span["events"].as_array().into_iter().flatten();
    all.map(|event| event["name"].as_str().unwrap()).collect()
}

/// The request's span and the one of its message, which is part of it.
fn message<'a>(spans: &'a [Value], trace: &str, parent: &str) -> &'a Value {
    let request = only(spans, trace, "POST /v1/chat");
    assert_eq!((&request["parentSpanId"], &request["kind"]), (&json!(parent), &json!(2)));
    let decide = only(spans, trace, "decide");
    assert_eq!(decide["parentSpanId"], request["spanId"]);
    assert_eq!(
        (&request["traceState"], &decide["traceState"]),
        (&json!("shop=7"), &json!("shop=7"))
    );
    decide
}

fn nobody_was_quoted(spans: &[Value]) {
    for span in spans {
        let text = span.to_string();
        assert!(!text.contains(SECRET) && !text.contains("cheap pills"), "{text}");
        let time = |name: &str| span[name].as_str().unwrap().parse::<u64>().unwrap();
        assert!(time("startTimeUnixNano") <= time("endTimeUnixNano"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_is_followed_to_its_delivery() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new().await;
    let config = configure(dir.path(), world.address, "headers_env = \"OTLP_HEADERS\"");
    let env = [("OTLP_HEADERS", "authorization=Bearer%20hush")];
    let server = Server::start(&config, &dir.path().join("data"), &env).unwrap();
    let (one, first, two, second) = {
        let (one, two) = (sender(1, true), sender(2, true));
        for (number, (.., header)) in [(1, &one), (2, &two)] {
            let (id, message) = (format!("m-{number}"), format!("{SECRET} {number}"));
            let body =
                json!({"customer_id": "anna", "channel": "signal", "id": id, "message": message});
            assert_eq!(say(&server, "", Some(header), body).await, 202);
        }
        (one.0, one.1, two.0, two.1)
    };
    world.until(|spans| spans.len() >= 7).await;
    let Arrived { spans, resources, authorization, .. } = world.now();
    let all = ["POST /v1/chat", "agent attempt", "decide", "deliver", "turn"];
    assert_eq!(names(&spans, &one), all);
    assert_eq!(names(&spans, &two), ["POST /v1/chat", "decide"]);
    let decides = [message(&spans, &one, &first), message(&spans, &two, &second)];
    assert_eq!(decides.map(|span| attribute(span, "action")), ["workflow_started", "event_sent"]);
    assert_eq!(decides.map(|span| attribute(span, "message_id")), ["m-1", "m-2"]);
    let turn = only(&spans, &one, "turn");
    assert_eq!(turn["parentSpanId"], decides[0]["spanId"]);
    let links: Vec<_> =
        turn["links"].as_array().unwrap().iter().map(|link| &link["spanId"]).collect();
    assert_eq!(links, decides.map(|span| &span["spanId"]));
    assert_eq!(turn["links"][1]["traceId"], two);
    let turn_id = attribute(turn, "turn_id");
    for span in decides.into_iter().chain([only(&spans, &one, "deliver")]) {
        assert_eq!(attribute(span, "session_key"), "default:default:signal:dm:anna");
        assert_eq!(attribute(span, "turn_id"), turn_id);
    }
    let known = ["status", "attempts", "messages", "agent"].map(|name| attribute(turn, name));
    assert_eq!(known, ["complete", "1", "2", "default"]);
    let attempt = only(&spans, &one, "agent attempt");
    assert_eq!(attempt["parentSpanId"], turn["spanId"]);
    let known = ["turn_id", "attempt", "outcome"].map(|name| attribute(attempt, name));
    assert_eq!(known, [turn_id.clone(), json!("1"), json!("finished")]);
    let delivery = only(&spans, &one, "deliver");
    assert_eq!(delivery["parentSpanId"], turn["spanId"]);
    let known = ["channel", "part", "attempt", "outcome"].map(|name| attribute(delivery, name));
    assert_eq!(known, ["signal", "0", "1", "sent"]);
    for span in &spans {
        assert_eq!(span["status"], json!({"code": 0}), "{span:#}");
    }
    nobody_was_quoted(&spans);
    let resource = resources[0].to_string();
    assert!(
        resource.contains(r#"{"key":"service.name","value":{"stringValue":"shop"}}"#),
        "{resource}"
    );
    assert!(authorization.iter().all(|value| value == "Bearer hush") && !authorization.is_empty());
    let numbers = numbers(&server, "turnkeep_spans_sent_total 7\n").await;
    assert!(numbers.contains("turnkeep_spans_dropped_total 0\n"), "{numbers}");
    let log = std::fs::read_to_string(config.with_extension("log")).unwrap();
    assert!(!log.contains("hush"), "{log}");
}

/// Also: what still waits when it is told to end is sent.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_refused_or_is_not_recorded_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new().await;
    let config = configure(dir.path(), world.address, "");
    let server = Server::start(&config, &dir.path().join("data"), &[]).unwrap();
    let says = |text: &str| {
        let message = format!("{SECRET} {text}");
        json!({"customer_id": "ben", "agent_id": "gated", "message": message})
    };
    let [first, queued, refused, wrong, silent] =
        [(1, true), (2, true), (3, true), (4, true), (5, false)].map(|(n, s)| sender(n, s));
    assert_eq!(say(&server, "", Some(&first.2), says("one")).await, 202);
    let second = async {
        assert_eq!(say(&server, "?wait=60", Some(&queued.2), says("two")).await, 200);
    };
    let open = async {
        numbers(&server, "turn_gateway_decision_total{action=\"queued\"} 1\n").await;
        world.gate.send_replace(true);
    };
    tokio::join!(second, open);
    let bad = json!({"customer_id": "eve", "message": "cheap pills"});
    assert_eq!(say(&server, "", Some(&refused.2), bad).await, 403);
    assert_eq!(say(&server, "", Some(&wrong.2), json!({"message": SECRET})).await, 422);
    assert_eq!(say(&server, "?wait=60", Some(&silent.2), says("three")).await, 200);
    assert_eq!(say(&server, "?wait=60", None, says("four")).await, 200);
    end(server).await;
    let spans = world.now().spans;
    let decide = message(&spans, &queued.0, &queued.1);
    let known = ["action", "queue_position"].map(|name| attribute(decide, name));
    assert_eq!(known, ["queued", "1"]);
    // It has a turn of its own, in its own trace, and the request waited for that.
    let turns = [only(&spans, &first.0, "turn"), only(&spans, &queued.0, "turn")];
    assert_ne!(attribute(turns[0], "turn_id"), attribute(turns[1], "turn_id"));
    assert_eq!(turns[1]["parentSpanId"], decide["spanId"]);
    assert_eq!(turns[1]["links"].as_array().unwrap().len(), 1);
    assert_eq!(http_status(only(&spans, &queued.0, "POST /v1/chat")), "200");
    let decide = message(&spans, &refused.0, &refused.1);
    assert_eq!(attribute(decide, "action"), "rejected");
    let reason = attribute(decide, "reason");
    assert!(reason.as_str().unwrap().starts_with("abuse_detected:"), "{reason}");
    assert_eq!(names(&spans, &refused.0), ["POST /v1/chat", "decide"]);
    let request = only(&spans, &refused.0, "POST /v1/chat");
    assert_eq!((http_status(request), &request["status"]), ("403".into(), &json!({"code": 0})));
    assert_eq!(names(&spans, &wrong.0), ["POST /v1/chat"]);
    assert_eq!(http_status(only(&spans, &wrong.0, "POST /v1/chat")), "422");
    // Its sender doesn't record it, so nobody does: not its turn either.
    assert_eq!(names(&spans, &silent.0), [""; 0]);
    let roots: Vec<&Value> = spans.iter().filter(|span| span["parentSpanId"].is_null()).collect();
    let [root] = roots[..] else { panic!("{roots:#?}") };
    let own = root["traceId"].as_str().unwrap();
    assert_eq!(names(&spans, own), ["POST /v1/chat", "agent attempt", "decide", "turn"]);
    nobody_was_quoted(&spans);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_told_of_the_attempt_and_never_quoted() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new().await;
    let config = configure(dir.path(), world.address, "");
    let data = dir.path().join("data");
    let server = Server::start(&config, &data, &[]).unwrap();
    let says = |agent: &str| json!({"customer_id": "anna", "agent_id": agent, "message": SECRET});
    let [works, fails] = [1, 2].map(|number| sender(number, true));
    assert_eq!(say(&server, "?wait=60", Some(&works.2), says("model")).await, 200);
    assert_eq!(say(&server, "?wait=60", Some(&fails.2), says("broken")).await, 200);
    end(server).await;
    let Arrived { spans, asked, .. } = world.now();
    let attempt = only(&spans, &works.0, "agent attempt");
    assert_eq!(events(attempt), ["provider slot granted"]);
    let expect = format!("00-{}-{}-01", works.0, attempt["spanId"].as_str().unwrap());
    assert_eq!(asked, [Some(expect)]);
    let attempt = only(&spans, &fails.0, "agent attempt");
    assert_eq!(attribute(attempt, "outcome"), "failed");
    assert_eq!(attempt["status"], json!({"code": 2, "message": "the agent failed"}));
    let turn = only(&spans, &fails.0, "turn");
    assert_eq!((attribute(turn, "status"), &turn["status"]["code"]), (json!("failed"), &json!(2)));
    assert_eq!(turn["status"]["message"], "agent_failed");
    nobody_was_quoted(&spans);
}

/// A turn that a kill interrupted goes on in a trace of its own, which names the same turn.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_a_new_trace_names_the_same_turn() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new().await;
    let config = configure(dir.path(), world.address, "");
    let usual = std::fs::read_to_string(&config).unwrap();
    // The kill comes before the agent is done.
    std::fs::write(&config, usual.replace("delay_ms = 1500", "delay_ms = 60000")).unwrap();
    let data = dir.path().join("data");
    let mut server = Server::start(&config, &data, &[]).unwrap();
    let (trace, _, header) = sender(1, true);
    let body = json!({"customer_id": "anna", "message": SECRET, "id": "m-1"});
    assert_eq!(say(&server, "", Some(&header), body.clone()).await, 202);
    world.until(|spans| spans.iter().any(|span| span["name"] == "decide")).await;
    server.kill();
    std::fs::write(&config, usual).unwrap();
    let turn_id = attribute(only(&world.now().spans, &trace, "decide"), "turn_id");
    let server = Server::start(&config, &data, &[]).unwrap();
    assert_eq!(say(&server, "?wait=60", Some(&sender(2, true).2), body).await, 200);
    end(server).await;
    let spans = world.now().spans;
    let twin = message(&spans, &sender(2, true).0, &sender(2, true).1);
    assert_eq!(attribute(twin, "duplicate"), true);
    let turn = spans.iter().find(|span| span["name"] == "turn").unwrap();
    assert_eq!(attribute(turn, "turn_id"), turn_id);
    assert_eq!(
        (attribute(turn, "resumed"), attribute(turn, "status")),
        (json!(true), json!("complete"))
    );
    assert_ne!(turn["traceId"], trace);
    assert!(events(turn).contains(&"taken up again"), "{turn:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_down_costs_spans_only() {
    let dir = tempfile::tempdir().unwrap();
    // Nobody listens there on any machine; and here somebody does, and never answers.
    let gone = SocketAddr::from(([127, 0, 0, 1], 9));
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for host in [gone, mute.local_addr().unwrap()] {
        let place = dir.path().join(host.port().to_string());
        std::fs::create_dir(&place).unwrap();
        let config = configure(&place, host, "");
        let data = place.join("data");
        let server = Server::start(&config, &data, &[]).unwrap();
        for customer in ["anna", "ben"] {
            let body = json!({"customer_id": customer, "message": SECRET});
            assert_eq!(say(&server, "?wait=60", None, body).await, 200);
        }
        if host == gone {
            // Four of each message: request, decision, turn, attempt.
            let numbers = numbers(&server, "turnkeep_spans_dropped_total 8\n").await;
            assert!(numbers.contains("turnkeep_spans_sent_total 0\n"), "{numbers}");
        }
        end(server).await;
        // However often, it is said once a minute.
        let log = std::fs::read_to_string(config.with_extension("log")).unwrap();
        let said = log.matches("spans were lost").count();
        assert!(said <= 1 && (said == 1 || host != gone), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_counted_where_nobody_collects() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("turnkeep.toml");
    std::fs::write(&config, "").unwrap();
    let server = Server::start(&config, &dir.path().join("data"), &[]).unwrap();
    let body = json!({"customer_id": "anna", "message": SECRET});
    assert_eq!(say(&server, "?wait=60", Some(&sender(1, true).2), body).await, 200);
    let numbers = numbers(&server, "turnkeep_runs_total 1\n").await;
    assert!(!numbers.contains("turnkeep_spans"), "{numbers}");
}
