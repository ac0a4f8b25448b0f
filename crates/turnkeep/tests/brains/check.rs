//! `turnkeep brain check`: the examples keep every rule, and one that lies is found wanting in each.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::http::secret;
use crate::kit::node;

/// Every rule that only a process, or only a server can keep.
const OF_PROCESSES: [&str; 2] = ["input_ends", "broken"];
const OF_SERVERS: [&str; 10] = [
    "streamed",
    "signed",
    "stale",
    "replayed",
    "older",
    "newer",
    "repeated",
    "stream_resumed",
    "lost",
    "cancelled",
];
/// And the rest.
const OF_ALL: [&str; 13] = [
    "finishes",
    "mail",
    "question",
    "finish_now",
    "again",
    "parallel",
    "refused",
    "mail_first",
    "known",
    "intends",
    "resumed",
    "unknown",
    "silent",
];

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn example(path: &str) -> String {
    here("../../examples/brains").join(path).display().to_string()
}

fn liar() -> String {
    here("tests/brains/liar.py").display().to_string()
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_turnkeep"))
            .args(["brain", "check"])
            .args(arguments)
            .current_dir(&self.0)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("SECRET", secret())
            .env_remove("TURNKEEP_CONFIG")
            .output()
            .unwrap()
    }

    /// Checks, and says how that ended.
    fn check(&self, arguments: &[&str]) -> (bool, Value) {
        let output = self.run(&[&["--json"], arguments].concat());
        let report = serde_json::from_slice(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        (output.status.success(), report.unwrap_or_else(|error| panic!("{error}: {said}")))
    }

    /// Starts a server that is told a port at its end, and says where it listens.
    fn serve(&self, command: &[&str]) -> Served {
        let mut child = Command::new(command[0])
            .args(&command[1..])
            .arg("0")
            .current_dir(&self.0)
            .env("BRAIN_SECRET", secret())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Served { child, url }
    }
}

/// A server; it ends with this.
struct Served {
    child: Child,
    url: String,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The names of the rules with this result.
fn named(report: &Value, result: &str) -> Vec<String> {
    let checks = report["checks"].as_array().unwrap().iter();
    let named = checks.filter(|check| check["result"] == result);
    named.map(|check| check["name"].as_str().unwrap().to_owned()).collect()
}

/// Everything was seen but `unseen`, and nothing is wrong.
fn keeps_all(report: &Value, rules: &[&[&str]], unseen: &[&str]) {
    assert_eq!(named(report, "wrong"), [""; 0], "{report:#}");
    let (right, open) = (named(report, "right"), named(report, "not_seen"));
    for rule in rules.concat() {
        let seen = right.iter().any(|name| name == rule);
        let may_be_open = unseen.contains(&rule) && open.iter().any(|name| name == rule);
        assert!(seen || may_be_open, "{rule} in {report:#}");
    }
}

/// Interpreters may take their time to begin.
const PATIENT: [&str; 2] = ["--timeout", "120"];
const ACTS: [&str; 4] = ["--message", "refund order 18", "--answer", "order 18"];

/// Runs a brain as a process and as a server, in a folder each.
fn is_right(command: &[&str], arguments: &[&str], unseen: &[&str]) -> [Place; 2] {
    let (alone, served) = (Place::new(), Place::new());
    let (fine, report) = alone.check(&[&PATIENT, arguments, &["--command"], command].concat());
    assert!(fine, "{report:#}");
    keeps_all(&report, &[&OF_ALL, &OF_PROCESSES], unseen);
    let server = served.serve(&[command, &["--http"]].concat());
    let (fine, report) =
        served.check(&[&PATIENT, arguments, &[&server.url, "--secret-env", "SECRET"]].concat());
    assert!(fine, "{report:#}");
    // One that is quick may have finished before a question reaches it.
    keeps_all(&report, &[&OF_ALL, &OF_SERVERS], &[unseen, &["question"]].concat());
    [alone, served]
}

/// What it may do only where it is told to act.
const UNSEEN: [&str; 5] = ["refused", "mail_first", "known", "intends", "resumed"];

#[test]
fn the_python_examples_keep_the_contract() {
    is_right(&["python3", &example("python/echo.py")], &[], &UNSEEN);
    for place in is_right(&["python3", &example("python/refund.py")], &ACTS, &["input_ends"]) {
        let refunds = std::fs::read_to_string(place.0.path().join("refunds.txt")).unwrap();
        assert_eq!(refunds, "18\n");
    }
}

#[test]
fn the_typescript_examples_keep_the_contract() {
    is_right(&[&node(), &example("typescript/echo.ts")], &[], &UNSEEN);
    for place in is_right(&[&node(), &example("typescript/refund.ts")], &ACTS, &["input_ends"]) {
        let refunds = std::fs::read_to_string(place.0.path().join("refunds.txt")).unwrap();
        assert_eq!(refunds, "18\n");
    }
}

#[test]
fn the_trips_keep_the_contract() {
    let (python, typescript) = (example("python/trip.py"), example("typescript/trip.ts"));
    for command in [["python3", &python], [&node(), &typescript]] {
        let place = Place::new();
        let arguments = [&PATIENT, &["--message", "a week in Rome", "--command"][..], &command];
        let (fine, report) = place.check(&arguments.concat());
        assert!(fine, "{report:#}");
        keeps_all(&report, &[&OF_ALL, &OF_PROCESSES], &["input_ends"]);
        let done = std::fs::read_to_string(place.0.path().join("trip.txt")).unwrap();
        assert_eq!(done.matches("booked a week, Hotel Rome\n").count(), 1, "{done}");
    }
}

#[test]
fn a_process_that_lies_is_found_out() {
    let place = Place::new();
    let lies = ["--message", "act", "--command", "python3", &liar()];
    let (fine, report) = place.check(&lies);
    assert!(!fine, "{report:#}");
    assert_eq!(named(&report, "right"), ["finishes"], "{report:#}");
    assert_eq!(named(&report, "not_seen"), [""; 0], "{report:#}");
    let wrong = report["wrong"].as_u64().unwrap();
    assert_eq!(wrong, (OF_ALL.len() - 1 + OF_PROCESSES.len()) as u64, "{report:#}");
}

/// It pays though it is refused, and tells its user the same: nobody can see that, so nobody says that
/// it was right.
#[test]
fn a_process_that_does_not_listen_is_not_called_right() {
    let place = Place::new();
    let check = |how: &str| {
        let (fine, report) =
            place.check(&["--message", "act", "--command", "python3", &liar(), how]);
        let checks = report["checks"].as_array().unwrap();
        let found = checks.iter().find(|check| check["name"] == "refused").cloned().unwrap();
        (fine, found["result"].clone(), found["came"].as_str().unwrap().to_owned())
    };
    let (fine, result, came) = check("sly");
    assert!(fine && result == "not_seen", "{came}");
    assert!(came.starts_with("it says the same as when it is allowed to act; "), "{came}");
    let paid = std::fs::read_to_string(place.0.path().join("paid.txt")).unwrap();
    assert_eq!(paid, "refused\nmail_first\nknown\ncall\n");
    let (fine, result, came) = check("deaf");
    assert!(!fine && result == "wrong", "{came}");
    assert!(came.starts_with("its commit point was refused, and it went on to “pay”"), "{came}");
}

#[test]
fn a_process_that_sleeps_is_not_waited_for() {
    let place = Place::new();
    let asleep =
        ["--timeout", "1", "--command", "sh", "-c", "echo good night >&2; exec sleep 1000"];
    let (fine, report) = place.check(&asleep);
    assert!(!fine, "{report:#}");
    assert_eq!(named(&report, "right"), [""; 0], "{report:#}");
    let wrong = named(&report, "wrong");
    for rule in ["finishes", "finish_now", "unknown"].iter().chain(&OF_PROCESSES) {
        assert!(wrong.iter().any(|name| name == rule), "{rule} in {report:#}");
    }
    let came = |rule: &str| {
        let checks = report["checks"].as_array().unwrap();
        let found = checks.iter().find(|check| check["name"] == rule).unwrap();
        found["came"].as_str().unwrap().to_owned()
    };
    let mute = "it had not finished after 1000 ms and had said nothing at all: does it flush its \
                output after each line?";
    assert_eq!(came("finishes"), format!("{mute}; --timeout gives it longer"));
    assert!(came("unknown").starts_with(mute), "{report:#}");
    assert_eq!(came("broken"), "it was still there after 1000 ms; its last words: good night");
}

#[test]
fn a_server_that_lies_is_found_out() {
    let place = Place::new();
    let server = place.serve(&["python3", &liar()]);
    let (fine, report) = place.check(&[&server.url, "--secret-env", "SECRET"]);
    assert!(!fine, "{report:#}");
    let wrong = named(&report, "wrong");
    for rule in OF_SERVERS.iter().chain(&["finishes", "unknown", "silent", "nonsense"]) {
        assert!(wrong.iter().any(|name| name == rule), "{rule} in {report:#}");
    }
}

#[test]
fn what_is_wrong_is_told_in_plain_words() {
    let place = Place::new();
    let output = place.run(&["--command", "python3", &liar(), "mute"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    let expected = "✗ answers a plain turn and finishes\n    expected  it answers a plain turn and \
                    finishes\n    came      the brain exited with status 1 before it had finished; \
                    its last words: I have nothing to say\n    see       \
                    docs/brains.md#what-a-brain-must-do\n";
    assert!(said.starts_with(expected), "{said}");
    assert!(
        said.contains("\n– asks before it acts, and tells what came of it: not seen, "),
        "{said}"
    );
    assert!(said.trim_end().ends_with("not seen"), "{said}");
}

#[test]
fn who_is_not_there_is_told_once() {
    let place = Place::new();
    let nobody = "http://127.0.0.1:9/";
    let lost = "echo '#!/no/such/python -u' > lost; chmod +x lost";
    let wrote = Command::new("sh").args(["-c", lost]).current_dir(&place.0).status();
    assert!(wrote.unwrap().success());
    for (arguments, says) in [
        (&[nobody, "--secret-env", "SECRET"][..], "it can't be reached at http://127.0.0.1:9: "),
        (&["--command", "./nobody"][..], "can't be started: No such file"),
        (&["--command", "./lost"][..], "it is there, but \"/no/such/python\" in its first line"),
    ] {
        let (fine, report) = place.check(arguments);
        let [check] = &report["checks"].as_array().unwrap()[..] else { panic!("{report:#}") };
        assert!(!fine && check["came"].as_str().unwrap().contains(says), "{report:#}");
    }
}

#[test]
fn endless_output_has_an_end() {
    let place = Place::new();
    let endless = ["--timeout", "20", "--command", "sh", "-c", "yes x | tr -d '\\n'"];
    let (fine, report) = place.check(&endless);
    assert!(!fine && report["checks"][0]["came"].as_str().unwrap().contains("1048576 bytes"));
    let wrong = named(&report, "wrong");
    assert!(wrong.iter().any(|name| name == "unknown"), "{report:#}");
}

#[test]
fn an_agent_of_the_configuration_is_checked() {
    let place = Place::new();
    let echo = example("python/echo.py");
    let config = format!(
        "[agents.default]\nkind = \"echo\"\n[agents.mine]\nkind = \"command\"\ncommand = \
         [\"python3\", {echo:?}]\n"
    );
    std::fs::write(place.0.path().join("turnkeep.toml"), config).unwrap();
    let (fine, report) = place.check(&["--agent", "mine"]);
    assert!(fine && report["brain"] == "mine", "{report:#}");
    for (name, says) in [("default", "is no brain"), ("other", "there is no agent other")] {
        let output = place.run(&["--agent", name]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains(says), "{said}");
    }
}

#[test]
fn what_can_not_be_meant_is_refused() {
    let place = Place::new();
    let check = |arguments: &[&str], says: &str, code: i32| {
        let output = place.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(says) && output.status.code() == Some(code), "{said}");
        // Nobody typed lines, or a section.
        assert!(!said.contains("the command line") && !said.contains("[agents."), "{said}");
    };
    check(&[], "<URL|--agent <NAME>|--command <PROGRAM>", 2);
    check(&["http://127.0.0.1:9"], "--secret-file FILE or --secret-env NAME", 1);
    check(&["http://127.0.0.1:9", "--secret-env", "NOT_THERE"], "NOT_THERE is not set", 1);
    check(&["ftp://example.org", "--secret-env", "SECRET"], "URL must be an address", 1);
    check(
        &["http://127.0.0.1:9", "--secret-env", "TURNKEEP_NO"],
        "--secret-env: TURNKEEP_NO is",
        1,
    );
    check(&["http://127.0.0.1:9", "--secret-file", "no"], "--secret-file: there is no file", 1);
    check(&["--command", "python3 echo.py"], "--command is started without a shell", 1);
}
