//! The real binary reads its configuration anew: what changes, what doesn't, and that nobody who
//! writes meanwhile notices.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(dead_code, reason = "the kit is shared with tests that need more of it")]

mod crash_kit;
mod store_kit;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crash_kit::{Person, Server, audit, client, compare, logged};
use serde_json::{Value, json};

/// Nothing here takes long; what does is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server with a configuration that is written anew.
struct Home {
    dir: tempfile::TempDir,
    server: Option<Server>,
    client: reqwest::Client,
}

impl Home {
    fn new(toml: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut home = Self { dir, server: None, client: client() };
        home.write(toml);
        home.start();
        home
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("turnkeep.toml")
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn write(&self, toml: &str) {
        std::fs::write(self.config(), toml).unwrap();
    }

    fn start(&mut self) {
        self.server = Some(Server::start(&self.config(), &self.data(), &[]).unwrap());
    }

    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    fn address(&self) -> &str {
        &self.server().address
    }

    /// Types a command beside the server; its exit code, what it printed, what it complained of.
    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_turnkeep"))
            .args(args)
            .arg("--data-dir")
            .arg(self.data())
            .arg("--config")
            .arg(self.config())
            .envs(store_kit::store(&self.data()))
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// Has the server read this.
    async fn reload(&self, toml: &str) -> Value {
        self.write(toml);
        let url = format!("{}/v1/reload", self.address());
        let answer = self.client.post(url).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
        answer.json().await.unwrap()
    }

    async fn say(&self, fields: Value) -> (u16, Value) {
        let url = format!("{}/v1/chat", self.address());
        let answer = self.client.post(url).json(&fields).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// What it is told, in short: an action or a reason.
    async fn told(&self, customer: &str, text: &str) -> String {
        let (_, value) = self.say(json!({"customer_id": customer, "message": text})).await;
        let said = value["rejection_reason"].as_str().or(value["action"].as_str());
        said.unwrap_or_else(|| panic!("{value}")).to_owned()
    }

    async fn metric(&self, name: &str) -> f64 {
        let url = format!("{}/metrics", self.address());
        let text = self.client.get(url).send().await.unwrap().text().await.unwrap();
        let line = text.lines().find(|line| line.split(' ').next() == Some(name));
        line.unwrap_or("none 0").rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// Asks again and again until it is so.
    async fn until(&self, name: &str, value: f64) {
        let asked = async {
            while self.metric(name).await < value {
                tokio::task::yield_now().await;
            }
        };
        let asked = tokio::time::timeout(PATIENCE, asked).await;
        assert!(asked.is_ok(), "{name} never came to {value}");
    }

    async fn get(&self, path: &str) -> Value {
        let url = format!("{}{path}", self.address());
        self.client.get(url).send().await.unwrap().json().await.unwrap()
    }

    /// The log once it says this.
    async fn logged(&self, what: &str) -> String {
        logged(&self.config(), what).await
    }

    /// Sends a signal to the server.
    fn signal(&self, name: &str) {
        let pid = self.server().child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }
}

const APPLIED: &str = "turnkeep_config_reloads_total{outcome=\"applied\"}";
const REFUSED: &str = "turnkeep_config_reloads_total{outcome=\"refused\"}";
const UNLIMITED: &str = "[gateway]\nrate_limiting_enabled = false\n";

/// One of several configurations that differ in everything a message meets on its way.
fn nth(round: u32) -> String {
    let (delay, busy) = [(0, "collect"), (7, "absorb"), (3, "queue")][round as usize % 3];
    let window = round % 5 * 9;
    format!(
        "{UNLIMITED}[guard]\nterms = [\"nobody says {round}\"]\n\
         [agents.default]\nkind = \"echo\"\ndelay_ms = {delay}\n\
         [agents.guest{round}]\nkind = \"echo\"\n\
         [channels.web]\nwindow_ms = {window}\n[channels.api]\nbusy_policy = \"{busy}\"\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_who_writes_meanwhile_notices() {
    let mut home = Home::new(&nth(0));
    let people: Vec<Arc<Person>> = (0..6)
        .map(|number| Person::new(&format!("p{number}"), ["api", "web"][number % 2]))
        .collect();
    let over = Arc::new(AtomicBool::new(false));
    let writing: Vec<_> = people
        .iter()
        .map(|person| {
            let (person, over) = (Arc::clone(person), Arc::clone(&over));
            let (client, address) = (home.client.clone(), home.address().to_owned());
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    person.write(&client, &address, 5).await;
                }
            })
        })
        .collect();
    let (mut applied, mut refused) = (0.0, 0.0);
    for round in 1..=40 {
        // Each fourth file is wrong, and changes nothing.
        let wrong = round % 4 == 0;
        home.write(&if wrong { format!("{}kindd = 1\n", nth(round)) } else { nth(round) });
        home.signal("-HUP");
        if wrong {
            refused += 1.0;
            home.until(REFUSED, refused).await;
        } else {
            applied += 1.0;
            home.until(APPLIED, applied).await;
        }
        assert_eq!(home.metric("turnkeep_config_ok").await, f64::from(u8::from(!wrong)));
    }
    over.store(true, Ordering::Relaxed);
    for task in writing {
        task.await.unwrap();
    }
    for person in &people {
        person.settle(&home.client, home.address()).await;
        assert!(person.acknowledged.lock().unwrap().len() > 20, "{} was held up", person.name);
        compare(&home.client, home.address(), person).await;
    }
    let live = audit(&home.data()).unwrap();
    assert!(live.contains("+ 0 open + 0 dead letters"), "{live}");
    home.logged("unknown key \"kindd\" in [channels.api]").await;
    home.server.take();
    audit(&home.data()).unwrap();
}

/// A turn that stays open for as long as the test takes.
const BUSY: &str = "[agents.default]\nkind = \"echo\"\ndelay_ms = 3600000\n";

#[tokio::test]
async fn sessions_that_are_open_live_by_the_new_policy() {
    let home = Home::new(BUSY);
    assert_eq!(home.told("anna", "one").await, "workflow_started");
    assert_eq!(home.told("anna", "two").await, "queued");
    let policy = |keys: &str| format!("{BUSY}[channels.api]\n{keys}");
    let reloaded = home.reload(&policy("busy_policy = \"reject\"")).await;
    assert_eq!(reloaded["changed"], json!(["channels.api"]));
    assert_eq!(home.told("anna", "three").await, "session_busy");
    home.reload(&policy("max_queue_size = 2")).await;
    assert_eq!(home.told("anna", "three").await, "queued");
    assert_eq!(home.told("anna", "four").await, "queue_full");
    // Without a queue, what can't be absorbed is refused, and what waits already is kept.
    let off = format!("{BUSY}[gateway]\nmessage_queue_enabled = false\n");
    home.reload(&off).await;
    assert_eq!(home.told("anna", "four").await, "session_busy");
    assert_eq!(home.told("bert", "one").await, "workflow_started");
    assert_eq!(home.told("bert", "two").await, "session_busy");
    home.reload(&format!("{off}[tenants.default]\nbusy_policy = \"absorb\"\n")).await;
    assert_eq!(home.told("bert", "two").await, "event_sent");
    assert_eq!(home.get("/v1/sessions/default%3Adefault%3Aapi%3Adm%3Aanna").await["queued"], 2);
    assert_eq!(home.told("bert", "cheap pills").await, "event_sent");
    home.reload(&format!("{BUSY}[guard]\nterms = [\"cheap pills\"]\n")).await;
    assert_eq!(home.told("bert", "cheap pills").await, "abuse_detected:term");
}

/// The keys of the gateway that have been there from the beginning, each switched while it runs.
#[tokio::test]
async fn every_switch_of_the_gateway_switches() {
    let home = Home::new(BUSY);
    let gateway = |keys: &str| format!("[gateway]\n{keys}\n{BUSY}");
    let slow = "[tenants.default]\nrate_per_minute = 1\nrate_burst = 1\n";
    home.reload(&format!("{BUSY}{slow}")).await;
    assert_eq!(home.told("anna", "one").await, "workflow_started");
    assert_eq!(home.told("anna", "two").await, "rate_limit_exceeded");
    home.reload(&format!("{}{slow}", gateway("rate_limiting_enabled = false"))).await;
    assert_eq!(home.told("anna", "two").await, "queued");
    let terms = "[guard]\nterms = [\"cheap pills\"]\n";
    home.reload(&format!("{}{terms}", gateway("abuse_detection_enabled = false"))).await;
    assert_eq!(home.told("anna", "cheap pills").await, "queued");
    home.reload(&format!("{BUSY}{terms}")).await;
    assert_eq!(home.told("bert", "cheap pills").await, "abuse_detected:term");
    home.reload(&gateway("max_queue_size_per_session = 2")).await;
    assert_eq!(home.told("anna", "four").await, "queue_full");
    for to in ["true", "false"] {
        home.reload(&gateway(&format!("fallback_to_sync = {to}"))).await;
        assert_eq!(home.told(to, "hi").await, "workflow_started");
    }
    // Nobody writes to anna's session any more; the reload itself wakes it.
    home.reload(&gateway("queue_ttl_seconds = 1")).await;
    let dead = async {
        loop {
            let page = home.get("/v1/deadletters").await;
            let letters = page["dead_letters"].as_array().unwrap().clone();
            if letters.len() == 2 {
                return letters;
            }
        }
    };
    let letters = tokio::time::timeout(PATIENCE, dead).await.unwrap();
    assert!(letters.iter().all(|letter| letter["reason"] == "expired"), "{letters:?}");
}

#[tokio::test]
async fn limits_names_and_the_log_are_reloaded() {
    let home = Home::new("");
    let by_name = || async {
        let request = home.client.get(format!("{}/healthz", home.address()));
        request.header("host", "chat.example.org").send().await.unwrap().status().as_u16()
    };
    assert_eq!(by_name().await, 421);
    let quiet = "hosts = [\"chat.example.org\"]\nlog_level = \"error\"\n\
                 [gateway]\nmessage_bytes_max = 1024\nbody_bytes_max = 2048\n";
    let reloaded = home.reload(quiet).await;
    assert_eq!(reloaded["changed"], json!(["gateway", "hosts", "log_level"]));
    assert_eq!(by_name().await, 200);
    let long = "x".repeat(1025);
    assert_eq!(home.say(json!({"customer_id": "a", "message": long})).await.0, 422);
    let long = "x".repeat(2049);
    assert_eq!(home.say(json!({"customer_id": "a", "message": long})).await.0, 413);
    let said = |id: &'static str| json!({"customer_id": "a", "message": "hi", "id": id});
    assert_eq!(home.say(said("in-silence")).await.0, 202);
    home.reload("").await;
    assert_eq!(home.say(said("told-again")).await.0, 202);
    let log = home.logged("told-again").await;
    assert!(!log.contains("in-silence"), "{log}");
}

#[tokio::test]
async fn what_needs_a_restart_and_what_is_wrong_is_said() {
    let home = Home::new("");
    home.write("data_dir = \"elsewhere\"\n[gateway]\nconnections_max = 7\n");
    // A flag wins over the file, so the folder is the same.
    let (code, out, said) = home.run(&["reload"]);
    assert_eq!((code, out.as_str()), (0, "nothing changed\n"));
    assert_eq!(said, "needs a restart: gateway.connections_max\n");
    assert_eq!(home.get("/readyz").await, json!({"status": "ok"}));
    home.write("[channels.web]\nwindow_m = 1\n[listeners.crm]\nurl = \"https://h\"\n");
    let (code, _, said) = home.run(&["reload"]);
    assert_eq!(code, 1);
    assert!(said.contains("turnkeep.toml:2: unknown key \"window_m\" in [channels.web]"), "{said}");
    assert!(said.contains("turnkeep.toml:3: [listeners.crm] needs \"secret_file\""), "{said}");
    let ready = json!({"status": "ok", "config": "last reload failed"});
    assert_eq!(home.get("/readyz").await, ready);
    home.logged("unknown key \"window_m\"").await;
    home.reload("").await;
    assert_eq!(home.get("/readyz").await, json!({"status": "ok"}));
}

fn with_second(delay_ms: u32) -> String {
    format!("[agents.second]\nkind = \"echo\"\ndelay_ms = {delay_ms}\n{WITHOUT}")
}

const WITHOUT: &str = "[agents.default]\nkind = \"echo\"\n";

/// Sends to the second agent and waits for what becomes of it.
fn answered(home: &Home, text: &str) -> tokio::task::JoinHandle<Value> {
    let body = json!({"customer_id": "anna", "agent_id": "second", "message": text});
    let url = format!("{}/v1/chat?wait=60", home.address());
    let sent = home.client.post(url).json(&body).send();
    tokio::spawn(async move { sent.await.unwrap().json().await.unwrap() })
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_of_an_agent_that_is_gone_wait_for_it() {
    const SESSION: &str = "/v1/sessions/default%3Asecond%3Aapi%3Adm%3Aanna";
    const WAITING: &str = "turnkeep_turns_without_agent";
    let mut home = Home::new(&with_second(1500));
    let one = answered(&home, "one");
    home.until("turnkeep_runs_total", 1.0).await;
    let two = answered(&home, "two");
    home.until("turn_gateway_decision_total{action=\"queued\"}", 1.0).await;
    let reloaded = home.reload(WITHOUT).await;
    assert_eq!(reloaded["changed"], json!(["agents.second"]));
    // What runs ends as it began, what is new is refused, and what waits goes on waiting.
    let (status, refused) =
        home.say(json!({"customer_id": "anna", "agent_id": "second", "message": "three"})).await;
    assert_eq!((status, &refused["field"]), (422, &json!("agent_id")));
    let nobody = SESSION.replace("second", "nobody");
    for (deed, expect) in [("opt-in", 422), ("close", 404)] {
        let url = format!("{}{nobody}/{deed}", home.address());
        assert_eq!(home.client.post(url).send().await.unwrap().status(), expect, "{deed}");
    }
    assert_eq!(one.await.unwrap()["reply"], "echo: one");
    home.until(WAITING, 1.0).await;
    home.logged("its agent is not configured any more").await;
    assert_eq!(home.get(SESSION).await["state"], "processing");
    home.reload(&with_second(0)).await;
    assert_eq!(two.await.unwrap()["reply"], "echo: two");
    // The same over a restart, and one may stop it.
    home.reload(&with_second(3_600_000)).await;
    let (_, accepted) =
        home.say(json!({"customer_id": "anna", "agent_id": "second", "message": "four"})).await;
    home.server.take();
    home.write(WITHOUT);
    home.start();
    home.until(WAITING, 1.0).await;
    let stopped = home.client.post(format!("{}{SESSION}/stop", home.address()));
    let stopped: Value = stopped.send().await.unwrap().json().await.unwrap();
    assert_eq!(
        (&stopped["result"], &stopped["turn_id"]),
        (&json!("stopped"), &accepted["turn_id"])
    );
    assert_eq!(home.get(SESSION).await["state"], "idle");
    home.server.take();
    audit(&home.data()).unwrap();
}

#[tokio::test]
async fn what_a_session_chose_itself_is_explained() {
    const KEY: &str = "default:default:api:dm:anna";
    let mut home = Home::new("[channels.api]\nbusy_policy = \"queue\"\nwindow_ms = 5\n");
    let explain = |home: &Home| {
        let (code, out, said) = home.run(&["check", "--explain", KEY]);
        assert_eq!(code, 0, "{said}");
        (out.lines().find(|line| line.starts_with("busy_policy")).unwrap().to_owned(), said)
    };
    let (line, said) = explain(&home);
    assert!(line.starts_with("busy_policy\t\"queue\"\t[channels.api] ("), "{line}");
    assert_eq!(said, "note: nobody has written in this session yet\n");
    home.told("anna", "hello").await;
    let url = format!("{}/v1/sessions/{}/queue", home.address(), KEY.replace(':', "%3A"));
    let chosen = home.client.post(url).json(&json!({"busy_policy": "absorb"})).send().await;
    assert_eq!(chosen.unwrap().status(), 200);
    let own = ("busy_policy\t\"absorb\"\tthe session itself".to_owned(), String::new());
    assert_eq!(explain(&home), own);
    home.server.take();
    assert_eq!(explain(&home), own);
    let nowhere = Path::new("/nowhere");
    let output = Command::new(env!("CARGO_BIN_EXE_turnkeep"))
        .args(["check", "--json", "--explain", KEY, "--data-dir"])
        .arg(nowhere)
        .current_dir(home.dir.path())
        .output()
        .unwrap();
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &shown["session"]), (Some(0), &json!(KEY)));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with("note: what the session chose and learnt itself can't be read: "),
        "{said}"
    );
}

/// Five gaps of one burst, and what the next message would be waited upon because of them.
#[tokio::test]
async fn what_a_session_learnt_is_explained() {
    const KEY: &str = "default:default:web:dm:anna";
    let quiet = "[agents.default]\nkind = \"echo\"\ndelay_ms = 3600000\n";
    let mut home = Home::new(&format!("{quiet}[channels.web]\nwindow_ms = 1000\n"));
    for at in 0..6 {
        let said =
            json!({"customer_id": "anna", "message": format!("part {at}"), "channel": "web"});
        assert_eq!(home.say(said).await.0, 202);
    }
    let told = home.get(&format!("/v1/sessions/{}", KEY.replace(':', "%3A"))).await;
    let explain = |home: &Home, more: &[&str]| {
        let (code, out, said) = home.run(&[&["check", "--explain", KEY], more].concat());
        assert_eq!((code, &*said), (0, ""), "{out}");
        out
    };
    let shown: Value = serde_json::from_str(&explain(&home, &["--json"])).unwrap();
    assert_eq!((&shown["rhythm"], &shown["rhythm"]["samples"]), (&told["rhythm"], &json!(5)));
    // From here on nothing moves any more: what is stored is enough.
    home.server.take();
    let shown: Value =
        serde_json::from_str(&explain(&home, &["--json", "--saying", "about order #"])).unwrap();
    let number = |name: &str| shown["window"]["adaptive"][name].as_f64().unwrap();
    let rhythm = |name: &str| shown["rhythm"][name].as_u64().unwrap();
    let middle = rhythm("p50_ms").midpoint(rhythm("p95_ms"));
    let (shaped, factor) = (1600.0, 0.8_f64.powf(number("nth") - 1.0));
    assert_eq!((number("base_ms"), number("shape_ms"), number("hint_ms")), (1000.0, 600.0, 0.0));
    assert_eq!(number("rhythm_ms"), (0.4 * (middle as f64 - shaped)).round());
    let sum = (0.6 * shaped + 0.4 * middle as f64) * factor;
    assert_eq!(number("sum_ms"), sum.round());
    assert_eq!(shown["window"]["window_ms"], sum.round().clamp(200.0, 3000.0) as u64);
    let text = explain(&home, &["--saying", "about order #"]);
    let line = |part: &str| {
        let (_, window) = text.split_once("window of the next message\tms\tbecause\n").unwrap();
        window.lines().find(|line| line.starts_with(part)).unwrap().to_owned()
    };
    assert!(line("base").starts_with("base\t1000\twindow_ms is [channels.web] ("), "{text}");
    assert_eq!(line("shape"), "shape\t+600\twhat is written: \"about order #\"");
    let rhythm = format!("rhythm\t{}\t40 % of the way to {middle}, ", number("rhythm_ms"));
    assert!(line("rhythm").starts_with(&rhythm) && line("rhythm").ends_with("5 samples"), "{text}");
    assert!(line("sum").contains("200 to 3000"), "{text}");
}

#[tokio::test]
async fn a_spool_that_was_moved_away_is_let_go() {
    let home = Home::new("");
    let path = home.dir.path().canonicalize().unwrap().join("sms.jsonl");
    let (taken, taken_again) = (path.with_extension("1"), path.with_extension("2"));
    let config = format!("[channels.sms]\nspool = {path:?}\nwindow_ms = 0\n");
    home.reload(&config).await;
    let say = |text: &'static str| {
        home.say(json!({"customer_id": "anna", "message": text, "channel": "sms"}))
    };
    let written = |text: &'static str| {
        let path = path.clone();
        let reading = async move {
            loop {
                let lines = std::fs::read_to_string(&path).unwrap_or_default();
                if lines.ends_with("}\n") && lines.contains(text) {
                    assert_eq!(lines.lines().count(), 1, "{lines}");
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        async { tokio::time::timeout(PATIENCE, reading).await.expect("nothing is written") }
    };
    assert_eq!(say("one").await.0, 202);
    written("echo: one").await;
    // Without a word to the server, and with the signal that rotating programs send.
    std::fs::rename(&path, &taken).unwrap();
    assert_eq!(say("two").await.0, 202);
    written("echo: two").await;
    std::fs::rename(&path, &taken_again).unwrap();
    let applied = home.metric(APPLIED).await;
    home.signal("-HUP");
    home.until(APPLIED, applied + 1.0).await;
    assert_eq!(say("three").await.0, 202);
    written("echo: three").await;
    assert_eq!(std::fs::read_to_string(&taken).unwrap().lines().count(), 1);
    let open = std::fs::read_dir(format!("/proc/{}/fd", home.server().child.id())).unwrap();
    let open: Vec<PathBuf> =
        open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok()).collect();
    assert!(!open.contains(&taken) && !open.contains(&taken_again), "{open:?}");
}
