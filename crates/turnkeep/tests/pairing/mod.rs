//! `turnkeep pair`: a code is printed once, listed without itself, and ended.

use crate::{Server, json, run};

#[test]
fn a_code_is_printed_once_and_ended() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let config = "[users.alice]\ntrust = \"owner\"\nids = \"signal:+49151\"\n";
    let data = format!("data_dir = {:?}\n", dir.join("data"));
    std::fs::write(dir.join("turnkeep.toml"), data + config).unwrap();
    let _server = Server::start(dir);
    let (code, out, said) = run(dir, &["pair", "new", "--user", "alice", "--minutes", "5"]);
    assert_eq!(code, 0, "{said}");
    let letters = out.trim_end();
    assert_eq!(letters.len(), 9, "{out}");
    assert!(said.contains("is known as alice (owner)"), "{said}");
    assert!(said.contains("no account of this tenant takes codes"), "{said}");
    let (code, out, _) = run(dir, &["pair"]);
    assert_eq!(code, 0);
    assert!(out.contains("alice") && out.contains("waiting") && !out.contains(letters), "{out}");
    let (code, _, said) = run(dir, &["pair", "new", "--user", "alice", "--trust", "public"]);
    assert_eq!(code, 1);
    assert!(said.contains("the configuration trusts alice as owner"), "{said}");
    let (code, ..) = run(dir, &["pair", "new", "--user", "bob", "--trust", "boss"]);
    assert_eq!(code, 2);
    let list = json(dir, &["pair", "list"]);
    let id = list["pairings"][0]["id"].as_str().unwrap();
    let (code, out, _) = run(dir, &["pair", "revoke", id]);
    assert!(code == 0 && out.contains("revoked"), "{out}");
    let (code, _, said) = run(dir, &["pair", "revoke", id]);
    assert!(code == 1 && said.contains("there is no pairing"), "{said}");
    let (_, _, said) = run(dir, &["pair"]);
    assert!(said.contains("nobody is paired"), "{said}");
}
