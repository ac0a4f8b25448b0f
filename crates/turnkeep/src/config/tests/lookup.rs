//! Where the configuration and the data are found, and which layer wins.

use std::path::PathBuf;
use std::time::Duration;

use super::{check, load_layers, load_text};
use crate::config::resolved::LogFormat;
use crate::config::{AgentSettings, Env, Flags, load, locate};

#[test]
fn nothing_has_to_be_typed() {
    let env = Env::from([("HOME", "/home/anna")]);
    let resolved = load_layers("", &env, &[]).unwrap();
    assert_eq!(resolved.listen.to_string(), "127.0.0.1:7878");
    assert_eq!(resolved.data_dir, PathBuf::from("/home/anna/.local/share/turnkeep"));
    assert_eq!(resolved.shutdown_grace, Duration::from_secs(10));
    assert_eq!(resolved.log.format, LogFormat::Text);
    assert_eq!(resolved.gateway.connections_per_address_max, 10_000);
    assert_eq!(resolved.gateway.wait_max, Duration::from_secs(300));
    let Some(AgentSettings::Echo(echo)) = resolved.agents.get("default") else {
        panic!("no echo agent: {:?}", resolved.agents);
    };
    assert_eq!(echo.delay, Duration::from_millis(400));
    assert!(resolved.notes.is_empty(), "{:?}", resolved.notes);
}

#[test]
fn addresses_are_written_in_many_ways() {
    check("listen = \"[::1]:0\"", "");
    check("listen = \"localhost:7878\"", "");
    check("listen = \"[::ffff:127.0.0.1]:7878\"", "");
}

#[test]
fn flags_win_over_variables_over_the_file() {
    let file = "listen = \"127.0.0.1:1\"\nlog_level = \"warn\"\n[gateway]\nconnections_max = 5\n";
    let env = Env::from([
        ("TURNKEEP_LISTEN", "127.0.0.1:2"),
        ("TURNKEEP_LOG_LEVEL", "debug"),
        ("TURNKEEP_LOG_TEXT", "1"),
        ("TURNKEEP_LOG_FORMAT", ""),
        ("TURNKEEP_GATEWAY_CONNECTIONS_MAX", "7"),
    ]);
    let resolved = load_layers(file, &env, &[("listen", "127.0.0.1:3")]).unwrap();
    assert_eq!(resolved.listen.port(), 3);
    assert_eq!(resolved.log.level, "debug");
    assert!(resolved.log.text);
    assert_eq!(resolved.gateway.connections_max, 7);
    assert_eq!(resolved.gateway.connections_per_address_max, 7);
    let resolved = load_text(file).unwrap();
    assert_eq!((resolved.listen.port(), resolved.gateway.connections_max), (1, 5));
}

#[test]
fn wrong_variables_are_named() {
    let env =
        Env::from([("TURNKEEP_GATEWAY_CONNECTIONS_MAX", "many"), ("TURNKEEP_LOG_FORMAT", "xml")]);
    let said = load_layers("", &env, &[]).unwrap_err();
    assert_eq!(
        said.to_string(),
        "TURNKEEP_GATEWAY_CONNECTIONS_MAX: must be a whole number from 1 to 1000000, not \
         \"many\"\n\
         TURNKEEP_LOG_FORMAT: must be one of text, json, not \"xml\""
    );
    let env = Env::from([("TURNKEEP_LISTN", "x"), ("TURNKEEP_PORT", "tcp://10.0.0.1:80")]);
    let notes = load_layers("", &env, &[]).unwrap().notes;
    assert_eq!(notes, [r#"TURNKEEP_LISTN: no such variable; did you mean "TURNKEEP_LISTEN"?"#]);
}

#[test]
fn files_that_are_named_have_to_be_there() {
    let flags = Flags { config: Some("/nowhere/t.toml".into()), keys: Vec::new() };
    let said = load(&flags, &Env::default()).unwrap_err().to_string();
    assert!(said.starts_with("--config: can't read /nowhere/t.toml: "), "{said}");
    let env = Env::from([("TURNKEEP_CONFIG", "/nowhere/t.toml")]);
    let said = load(&Flags::default(), &env).unwrap_err().to_string();
    assert!(said.starts_with("TURNKEEP_CONFIG: can't read /nowhere/t.toml: "), "{said}");
}

#[test]
fn the_users_own_file_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("turnkeep");
    std::fs::create_dir(&base).unwrap();
    std::fs::write(base.join("turnkeep.toml"), "data_dir = \"here\"\nlog_text = true").unwrap();
    let env = Env::from([("XDG_CONFIG_HOME", dir.path().to_str().unwrap())]);
    let resolved = load(&Flags::default(), &env).unwrap();
    assert!(resolved.log.text);
    assert_eq!(resolved.source, Some(base.join("turnkeep.toml")));
    assert_eq!(resolved.data_dir, base.join("here"));
}

#[test]
fn data_folders_follow_the_rules_of_the_desktop() {
    let check = |env: Env, expect: &str| {
        let place = locate(&Flags::default(), &env).unwrap();
        assert_eq!(place.data_dir, PathBuf::from(expect));
    };
    check(Env::default(), "./turnkeep-data");
    check(Env::from([("HOME", "")]), "./turnkeep-data");
    check(Env::from([("XDG_DATA_HOME", "/d"), ("HOME", "/h")]), "/d/turnkeep");
    check(Env::from([("XDG_DATA_HOME", "relative"), ("HOME", "/h")]), "/h/.local/share/turnkeep");
    check(Env::from([("TURNKEEP_DATA_DIR", "~/x"), ("HOME", "/h")]), "/h/x");
    check(Env::from([("TURNKEEP_DATA_DIR", "x"), ("HOME", "/h")]), "x");
}

#[test]
fn clients_forgive_what_does_not_concern_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.toml");
    let flags = Flags { config: Some(path.clone()), keys: Vec::new() };
    std::fs::write(&path, "listen = \"127.0.0.1:9\"\n[channels.web]\nwindow_m = 1").unwrap();
    assert_eq!(locate(&flags, &Env::default()).unwrap().listen.port(), 9);
    std::fs::write(&path, "data_dir = 9").unwrap();
    let said = locate(&flags, &Env::default()).unwrap_err().to_string();
    assert!(said.ends_with("\"data_dir\" must be a path, not 9"), "{said}");
}
