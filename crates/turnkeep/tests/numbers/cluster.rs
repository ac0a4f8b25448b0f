//! What deploy/ has for several servers, held against the program: its words, its configuration, and
//! what a unit or a service has to say so that a server that was put out comes back.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::read;

const UNITS: [&str; 2] =
    ["deploy/systemd/turnkeep@.service", "deploy/systemd/turnkeep-worker@.service"];
const COMPOSE: &str = "deploy/cluster/compose.yml";
const CONFIG: &str = "deploy/cluster/turnkeep.toml";

/// Whether the program knows these words.
fn is_understood(words: &[String]) -> bool {
    let mut program = Command::new(env!("CARGO_BIN_EXE_turnkeep"));
    program.args(words).arg("--help").output().unwrap().status.success()
}

/// The keys of a unit with their values, those of one name in their order.
fn unit(path: &str) -> BTreeMap<String, Vec<String>> {
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in read(path).lines().filter(|line| !line.is_empty() && !line.starts_with(['#', '[']))
    {
        let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{path}: {line}"));
        keys.entry(key.to_owned()).or_default().push(value.to_owned());
    }
    keys
}

#[test]
fn a_unit_starts_what_there_is_and_starts_it_again() {
    for path in UNITS {
        let unit = unit(path);
        let line = unit["ExecStart"][0].replace("${ROLE}", "gateway").replace("%i", "one");
        let words: Vec<String> = line.split(' ').skip(1).map(str::to_owned).collect();
        assert!(is_understood(&words), "{path}: {line}");
        assert_eq!(unit["Restart"], ["always"], "{path}");
        assert_eq!(unit["KillMode"], ["mixed"], "{path}: agents are ended by the server");
        assert_eq!(unit["TimeoutStopSec"], ["60"], "{path}");
    }
}

#[test]
fn both_units_are_shut_in_alike() {
    let own = ["Description", "Environment", "ExecStart"];
    let [server, worker] = UNITS.map(|path| {
        let mut unit = unit(path);
        unit.retain(|key, _| !own.contains(&key.as_str()));
        unit
    });
    assert_eq!(server, worker);
}

#[test]
fn what_is_composed_is_understood() {
    let compose: Value = serde_saphyr::from_str(&read(COMPOSE)).unwrap();
    let services = compose["services"].as_object().unwrap();
    let ours = services.iter().filter(|(_, service)| service["image"] == "turnkeep");
    let mut roles: BTreeMap<String, usize> = BTreeMap::new();
    for (name, service) in ours {
        let words = service["command"].as_array().unwrap().iter();
        let words: Vec<String> = words.map(|word| word.as_str().unwrap().to_owned()).collect();
        assert!(is_understood(&words), "{name}: {words:?}");
        assert_eq!(service["restart"], "always", "{name}");
        assert_eq!(service["environment"]["TURNKEEP_STORE_NODE"], **name, "each has its own name");
        *roles.entry(words[0].clone()).or_default() += 1;
        for volume in service["volumes"].as_array().unwrap() {
            let (from, _) = volume.as_str().unwrap().split_once(':').unwrap();
            let known = from == "./turnkeep.toml" || compose["volumes"].get(from).is_some();
            assert!(known, "{name}: {volume}");
        }
    }
    assert_eq!(roles, BTreeMap::from([("serve".to_owned(), 3), ("worker".to_owned(), 2)]));
}

#[test]
fn the_configuration_of_a_cluster_is_in_order() {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(CONFIG);
    let mut program = Command::new(env!("CARGO_BIN_EXE_turnkeep"));
    program.arg("check").arg("--config").arg(config);
    program.env("DATABASE_URL", "postgres://turnkeep@postgres/turnkeep?sslmode=disable");
    let output = program.env("REDIS_URL", "redis://redis").output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("PostgreSQL, schema turnkeep"), "{told}");
}
