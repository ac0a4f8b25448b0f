//! Which server is asked where the configuration is broken, and what is said where something is there
//! and may not be touched.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::json;

use crate::{Answer, serve_one, turnkeep};

/// A user without rights.
const NOBODY: u32 = 65_534;

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A server where one is found that nobody names. It answers nobody, and knows whether it was asked.
fn bystander(home: &Path) -> UnixListener {
    let folder = home.join(".local/share/turnkeep");
    std::fs::create_dir_all(&folder).unwrap();
    let listener = UnixListener::bind(folder.join("turnkeep.sock")).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

#[test]
fn a_broken_file_leads_to_nobody_elses_server() {
    let dir = tempfile::tempdir().unwrap();
    let listener = bystander(dir.path());
    let erase = ["customers", "erase", "default", "victim", "--yes"];
    let refused = |variable: Option<&str>, flags: &[&str], expect: &str| {
        for args in [&erase[..], &["send", "hi"], &["backup", "copy.db"], &["signal", "groups"]] {
            let mut command = turnkeep(dir.path());
            command.args(args).args(flags).envs(variable.map(|file| ("TURNKEEP_CONFIG", file)));
            // Who would wait for the bystander waits not for long.
            let output = command.timeout(std::time::Duration::from_secs(20)).output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{args:?} {flags:?}: {}", said(&output));
            let said = said(&output);
            assert!(said.contains(expect), "{args:?} {flags:?}: {said}");
            assert!(listener.accept().is_err(), "{args:?} {flags:?}: somebody else was asked");
        }
    };
    let absent = "can't read /nope: No such file or directory";
    refused(None, &["--config", "/nope"], &format!("--config: {absent}"));
    refused(Some("/nope"), &[], &format!("TURNKEEP_CONFIG: {absent}"));
    let file = |text: &str| std::fs::write(dir.path().join("turnkeep.toml"), text).unwrap();
    // The same by itself and where it is named.
    for flags in [&[][..], &["--config", "turnkeep.toml"]] {
        file("data_dir = \n");
        refused(None, flags, "turnkeep.toml:1: ");
        file("data_dir = 7\n");
        refused(None, flags, "turnkeep.toml:1: \"data_dir\" must be a path, not 7");
        file("dta_dir = \"mine\"\n");
        refused(None, flags, "did you mean \"data_dir\"?");
    }
    // What was typed into the highest place counts, and nothing below it.
    file("data_dir = \".local/share/turnkeep\"\n");
    refused(None, &["--data-dir", ""], "--data-dir: must be a path");
}

#[test]
fn a_file_that_names_its_folder_soundly_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("mine");
    std::fs::create_dir(&folder).unwrap();
    let asked = |args: &[&str]| {
        let _ = std::fs::remove_file(folder.join("turnkeep.sock"));
        let listener = UnixListener::bind(folder.join("turnkeep.sock")).unwrap();
        let server = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            serve_one(stream, Answer::Say(200, json!({ "changed": [] })))
        });
        let output = turnkeep(dir.path()).arg("reload").args(args).output().unwrap();
        let said = said(&output);
        let note = "note: the configuration has mistakes, see `turnkeep check`; the server of ";
        assert!(said.starts_with(note), "{args:?}: {said}");
        assert!(said.contains("mine is asked\n"), "{args:?}: {said}");
        assert_eq!(server.join().unwrap().0, "POST /v1/reload");
    };
    let typed = folder.display().to_string();
    std::fs::write(dir.path().join("x.toml"), "data_dir = \"mine\"\nlisten = 1\n").unwrap();
    asked(&["--config", "x.toml"]);
    asked(&["--config", "/nope", "--data-dir", &typed]);
}

/// The program where a user without rights may start it.
fn for_nobody(at: &Path) -> PathBuf {
    std::fs::set_permissions(at, Permissions::from_mode(0o755)).unwrap();
    let program = at.join("turnkeep");
    // By a process of its own: what this one has open for writing, a child that another test starts
    // meanwhile has, too, and then it can't be run.
    let mut copy = std::process::Command::new("cp");
    assert!(copy.arg(env!("CARGO_BIN_EXE_turnkeep")).arg(&program).status().unwrap().success());
    program
}

/// Runs it as a user without rights, which whoever runs the test is, unless that is root.
fn as_nobody(program: &Path, args: &[&str]) -> Output {
    let at = program.parent().unwrap();
    let mut command = std::process::Command::new(program);
    command.args(args).env_clear().env("HOME", at).current_dir(at);
    if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.output().unwrap()
}

#[test]
fn what_may_not_be_touched_is_not_called_absent() {
    let dir = tempfile::tempdir().unwrap();
    let program = for_nobody(dir.path());
    let (closed, open) = (dir.path().join("closed"), dir.path().join("open"));
    for folder in [&closed, &open] {
        std::fs::create_dir(folder).unwrap();
        std::fs::write(folder.join("turnkeep.db"), "").unwrap();
        std::fs::set_permissions(folder.join("turnkeep.db"), Permissions::from_mode(0o0)).unwrap();
    }
    let _listener = UnixListener::bind(open.join("turnkeep.sock")).unwrap();
    std::fs::set_permissions(open.join("turnkeep.sock"), Permissions::from_mode(0o0)).unwrap();
    std::fs::set_permissions(&open, Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&closed, Permissions::from_mode(0o0)).unwrap();
    let text = |path: &Path| path.display().to_string();
    let check = |args: &[&str], expect: &str| {
        let output = as_nobody(&program, args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", said(&output));
        assert_eq!(said(&output), format!("{expect}: Permission denied (os error 13)\n"));
    };
    let unopened = |folder: &Path| format!("the data folder {} can't be opened", folder.display());
    for folder in [&closed, &open] {
        let expect = format!("{} can't be audited: {}", folder.display(), unopened(folder));
        check(&["audit", "--data-dir", &text(folder)], &expect);
    }
    let backup = open.join("turnkeep.db");
    check(&["audit", "--backup", &text(&backup)], &format!("{} can't be read", text(&backup)));
    let socket = format!("no Turnkeep answers at unix:{}", text(&open.join("turnkeep.sock")));
    check(&["send", "--data-dir", &text(&open), "hi"], &socket);
    std::fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn doctor_tells_of_files_that_a_server_can_not_write_to() {
    let dir = tempfile::tempdir().unwrap();
    let program = for_nobody(dir.path());
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("turnkeep.db"), "").unwrap();
    std::fs::set_permissions(data.join("turnkeep.db"), Permissions::from_mode(0o400)).unwrap();
    std::fs::set_permissions(&data, Permissions::from_mode(0o700)).unwrap();
    // Only root may give files away, and is kept from none.
    for path in [&data, &data.join("turnkeep.db")] {
        let _ = chown(path, Some(NOBODY), Some(NOBODY));
    }
    let doctor = |data: &Path| {
        let output = as_nobody(&program, &["doctor", "--data-dir", data.to_str().unwrap()]);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, found) = doctor(&data);
    let expect = format!(
        "{} can't be written to: Permission denied (os error 13): give it to the user",
        data.join("turnkeep.db").display()
    );
    assert!(code == Some(1) && found.contains(&expect), "{found}");
    std::fs::set_permissions(data.join("turnkeep.db"), Permissions::from_mode(0o600)).unwrap();
    let (_, found) = doctor(&data);
    assert!(found.contains("data can be written to\n"), "{found}");
}

#[test]
fn doctor_looks_at_no_folder_that_nobody_meant() {
    let dir = tempfile::tempdir().unwrap();
    let listener = bystander(dir.path());
    let output = turnkeep(dir.path()).args(["doctor", "--config", "/nope"]).output().unwrap();
    let found = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{found}");
    assert!(found.contains("not looked at before it is known which one is meant\n"), "{found}");
    assert!(listener.accept().is_err(), "somebody else was asked");
}

#[test]
fn doctor_tells_of_folders_that_are_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let toml = "[agents.default]\nkind = \"command\"\ncommand = \"/bin/true\"\ndir = \"gone\"\n\
                [tools.shop]\ncommand = \"/bin/true\"\ndir = \"turnkeep.toml\"\n";
    std::fs::write(dir.path().join("turnkeep.toml"), toml).unwrap();
    let output = turnkeep(dir.path()).args(["doctor", "--listen", "127.0.0.1:0"]).output().unwrap();
    let found = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{found}");
    for (name, expect) in [
        ("agent default", "there is no folder "),
        ("tools shop", "turnkeep.toml is no folder: make it, or name another one as \"dir\""),
    ] {
        let told =
            |line: &&str| line.starts_with('✗') && line.contains(name) && line.contains(expect);
        assert!(found.lines().any(|line| told(&line)), "{name}: {found}");
    }
}
