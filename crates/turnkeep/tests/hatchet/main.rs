//! The real program as a gateway and workers, a real engine between them, and what happens when one
//! of them goes.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "../../../hatchet/tests/hatchet/engine.rs"]
mod engine;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use engine::{Engine, make_database};
use turnkeep_hatchet::{HatchetClient, HatchetSettings, Triggered, TurnRun, Workflow};
use uuid::Uuid;

/// Far longer than anything takes that comes at all: an engine that was killed gives nothing out for
/// a minute.
const PATIENCE: Duration = Duration::from_secs(240);

/// Other servers that run turns, as one sees them.
const RUNNERS: &str = "turnkeep_cluster_nodes{runs=\"yes\"}";

/// Servers of one deployment.
struct Deployment {
    folder: tempfile::TempDir,
}

/// One of them. It goes with this.
struct Server {
    process: Child,
    data_dir: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Deployment {
    fn new(engine: &Engine, name: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let secret = |file: &str, text: &str| {
            let path = folder.path().join(file);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        };
        secret("url", &make_database(name));
        secret("token", engine.token_text());
        let config = format!(
            "[store]\nkind = \"postgres\"\nurl_file = \"url\"\nnode_timeout_ms = 3000\n\
             [hatchet]\ntoken_file = \"token\"\nnamespace = \"{name}\"\n{more}"
        );
        fs::write(folder.path().join("turnkeep.toml"), config).unwrap();
        Self { folder }
    }

    fn command(&self, data_dir: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_turnkeep"));
        command.args(words).arg("--config").arg(self.folder.path().join("turnkeep.toml"));
        command.arg("--data-dir").arg(data_dir);
        command
    }

    /// Starts one, and waits until it listens.
    fn start(&self, name: &str, words: &[&str]) -> Server {
        let data_dir = self.folder.path().join(name);
        let mut command = self.command(&data_dir, words);
        command.args(["--listen", "127.0.0.1:0"]);
        let log = fs::File::create(self.folder.path().join(format!("{name}.log"))).unwrap();
        let mut process = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("listening"), "{line}{}", self.logs());
        Server { process, data_dir }
    }

    fn gateway(&self) -> Server {
        self.start("gateway", &["serve", "--role", "gateway"])
    }

    fn worker(&self, name: &str) -> Server {
        self.start(name, &["worker"])
    }

    /// Sends a message to a gateway; the reply to it.
    fn send(&self, gateway: &Server, customer: &str, text: &str) -> String {
        let mut command = self.command(&gateway.data_dir, &["send", "--as", customer, text]);
        let told = command.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(told.stdout).unwrap();
        assert!(told.status.success(), "{said}{:?}{}", told.stderr, self.logs());
        said.trim().to_owned()
    }

    /// Asks until it is so.
    fn until(&self, so: impl Fn() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !so() {
            assert!(Instant::now() < until, "{}", self.logs());
        }
    }

    /// What all of them logged, for a test that fails.
    fn logs(&self) -> String {
        let entries = fs::read_dir(self.folder.path()).unwrap().flatten();
        let logs = entries.filter(|entry| entry.path().extension().is_some_and(|end| end == "log"));
        let texts = logs.map(|log| {
            format!("\n{:?}\n{}", log.path(), fs::read_to_string(log.path()).unwrap_or_default())
        });
        texts.collect()
    }
}

impl Server {
    fn ask(&self, path: &str) -> String {
        let mut stream = UnixStream::connect(self.data_dir.join("turnkeep.sock")).unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn metric(&self, name: &str) -> u64 {
        let metrics = self.ask("/metrics");
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().unwrap()
    }

    fn end(mut self, signal: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        let ended = self.process.wait().unwrap();
        assert_eq!(ended.success(), signal == "TERM", "{ended}");
    }
}

#[test]
fn a_gateway_and_its_workers_share_the_work() {
    let engine = engine::shared();
    let all = Deployment::new(engine, "shared", "");
    let (gateway, one, two) = (all.gateway(), all.worker("one"), all.worker("two"));
    let until = Instant::now() + PATIENCE;
    let mut sent = 0;
    // Until each of them has run one. A worker talks to nobody.
    while [&one, &two].iter().any(|worker| worker.metric("turnkeep_runs_total") == 0) {
        assert!(Instant::now() < until, "{}", all.logs());
        let customer = format!("c{sent}");
        assert_eq!(all.send(&gateway, &customer, "hello"), "echo: hello");
        sent += 1;
    }
    assert_eq!(gateway.metric("turnkeep_runs_total"), 0);
    assert_eq!(gateway.metric("turnkeep_dispatch_handed_total"), sent);
    assert!(gateway.metric("turnkeep_dispatch_taken_total") > 0);
    assert!(one.ask("/v1/sessions").starts_with("HTTP/1.1 404"));
    assert!(one.ask("/healthz").starts_with("HTTP/1.1 200"));
    // Its sessions go on at the other one, whichever way it ends.
    one.end("KILL");
    for number in 0..sent {
        assert_eq!(all.send(&gateway, &format!("c{number}"), "again"), "echo: again");
    }
    two.end("TERM");
    drop(gateway);
    let audit = all.command(all.folder.path(), &["audit"]).output().unwrap();
    assert!(audit.status.success(), "{audit:?}");
}

#[test]
fn an_engine_that_is_gone_costs_time_only() {
    let engine = Engine::start();
    let all = Deployment::new(&engine, "away", "[gateway]\nfallback_to_sync = true\n");
    let gateway = all.gateway();
    all.until(|| gateway.ask("/readyz").contains(r#""dispatch":{"state":"ok"}"#));
    engine.end("KILL");
    // Also where nobody wants anything of it.
    all.until(|| gateway.ask("/readyz").contains(r#""dispatch":{"state":"away","since":""#));
    let ready = gateway.ask("/readyz");
    assert!(ready.starts_with("HTTP/1.1 200") && ready.contains("out of reach"), "{ready}");
    let told = all.command(&gateway.data_dir, &["doctor"]).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("it goes on without the engine, which is away since 2"), "{told}");
    // Nobody at all: the gateway runs it itself.
    assert_eq!(all.send(&gateway, "alice", "one"), "echo: one");
    assert_eq!(gateway.metric("turnkeep_dispatch_fallback_total"), 1);
    assert_eq!(gateway.metric("turnkeep_dispatch_answers"), 0);
    let worker = all.worker("one");
    all.until(|| worker.metric("turnkeep_dispatch_answers") == 0);
    // The gateway counts as one while it stands in.
    all.until(|| worker.metric(RUNNERS) == 1);
    engine.begin();
    // It answers long before it dispatches.
    let until = Instant::now() + PATIENCE;
    let mut sent = 0;
    while gateway.metric("turnkeep_dispatch_taken_total") == 0 {
        assert!(Instant::now() < until, "{}", all.logs());
        assert_eq!(all.send(&gateway, &format!("b{sent}"), "two"), "echo: two");
        sent += 1;
    }
    assert!(worker.metric("turnkeep_runs_total") > 0);
    all.until(|| gateway.ask("/readyz").contains(r#""dispatch":{"state":"ok"}"#));
    all.until(|| worker.metric(RUNNERS) == 0);
    engine.end("KILL");
}

#[test]
fn what_a_gateway_runs_itself_no_worker_begins_anew() {
    let engine = Engine::start();
    let more = "[gateway]\nfallback_to_sync = true\n[agents.default]\nkind = \"echo\"\n\
                delay_ms = 8000\n";
    let all = Deployment::new(&engine, "standing", more);
    let gateway = all.gateway();
    engine.end("KILL");
    std::thread::scope(|scope| {
        let sent = scope.spawn(|| all.send(&gateway, "alice", "one"));
        all.until(|| gateway.metric("turnkeep_dispatch_fallback_total") == 1);
        all.until(|| gateway.ask("/v1/sessions").contains(r#""state":"processing""#));
        // It has nothing to do, and looks for open work that nobody has.
        let worker = all.worker("one");
        all.until(|| worker.metric(RUNNERS) == 1);
        assert_eq!(sent.join().unwrap(), "echo: one");
        assert_eq!(worker.metric("turnkeep_runs_total"), 0);
    });
    let turns = gateway.ask("/v1/sessions/default%3Adefault%3Aapi%3Adm%3Aalice/turns");
    assert!(turns.contains(r#""attempt":1"#), "{turns}");
}

#[test]
fn what_is_wrong_is_said() {
    let engine = engine::shared();
    let all = Deployment::new(engine, "wrong", "");
    let folder = all.folder.path().join("data");
    let doctor = |all: &Deployment| {
        let told = all.command(&folder, &["doctor"]).output().unwrap();
        String::from_utf8(told.stdout).unwrap()
    };
    let said = doctor(&all);
    assert!(said.contains("answers, version v0.104.7"), "{said}");
    assert!(said.contains(engine.token().tenant()), "whose it is can be compared: {said}");
    let file = all.folder.path().join("token");
    let token = fs::read_to_string(&file).unwrap();
    let (head, rest) = token.split_once('.').unwrap();
    let (claims, _) = rest.rsplit_once('.').unwrap();
    fs::write(&file, format!("{head}.{claims}.AAAA")).unwrap();
    let said = doctor(&all);
    assert!(said.contains("\"token_file\" in [hatchet]: Hatchet refuses the token"), "{said}");
    assert!(!said.contains(claims), "{said}");
    // Nor is it a reason not to work: a worker takes what waits by itself, and both say why.
    let (gateway, worker) = (all.gateway(), all.worker("one"));
    assert_eq!(all.send(&gateway, "alice", "one"), "echo: one");
    assert_eq!(worker.metric("turnkeep_runs_total"), 1);
    assert_eq!(gateway.metric("turnkeep_dispatch_answers"), 0);
    all.until(|| all.logs().contains("Hatchet refuses the token"));
    let logs = all.logs();
    assert!(!logs.contains(claims), "{logs}");
}

/// Runs that nobody of this deployment asked for, and what is wrong with each.
fn strange_runs() -> Vec<(TurnRun, &'static str)> {
    let run = |number: u128, session: &str, cluster: &str| TurnRun {
        turn: Uuid::from_u128(number),
        epoch: 1,
        round: 0,
        session: session.into(),
        tenant: "default".into(),
        cluster: cluster.into(),
    };
    vec![
        (run(1, "no key of a session", "default/turnkeep"), "no session"),
        (run(2, "default:default:api:dm:nobody", "default/turnkeep"), "a turn that is not there"),
        (run(3, "default:default:api:dm:nobody", "north/turnkeep"), "another cluster"),
    ]
}

#[test]
fn runs_that_are_not_ours_are_refused_and_work_goes_on() {
    let engine = engine::shared();
    let all = Deployment::new(engine, "strange", "");
    let (gateway, worker) = (all.gateway(), all.worker("one"));
    assert_eq!(all.send(&gateway, "alice", "one"), "echo: one");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let workflow = Workflow { namespace: Some("strange".into()), ..Workflow::default() };
        let settings = HatchetSettings {
            workflow,
            ..HatchetSettings::new(engine.token(), "default/turnkeep")
        };
        let client = HatchetClient::new(settings).unwrap();
        for (run, what) in strange_runs() {
            let triggered = client.trigger(&run).await;
            assert!(matches!(triggered, Ok(Triggered::New(_))), "{what}: {triggered:?}");
        }
    });
    // Of another cluster's the worker says so, and gives it back.
    let until = Instant::now() + PATIENCE;
    let is_said = |logs: &str| {
        logs.lines().any(|line| line.contains("a run of cluster") && line.contains("north/"))
    };
    while !is_said(&all.logs()) {
        assert!(Instant::now() < until, "{}", all.logs());
        assert_eq!(all.send(&gateway, "alice", "two"), "echo: two");
    }
    assert_eq!(all.send(&gateway, "bob", "three"), "echo: three");
    let sessions = gateway.ask("/v1/sessions");
    assert!(sessions.contains("alice") && !sessions.contains("nobody"), "{sessions}");
    assert!(worker.ask("/readyz").starts_with("HTTP/1.1 200"));
}
