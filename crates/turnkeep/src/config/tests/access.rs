//! By which names the server may be called, where it listens, and which proxies are believed.

use super::super::{Env, load};
use super::{check, load_layers, load_text};

#[test]
fn nobody_is_believed_unless_named() {
    let silent = load_text("").unwrap();
    assert!(silent.hosts.is_empty() && silent.trusted_proxies.is_empty());
    let toml =
        "hosts = [\"Chat.Example.org\", \"box\"]\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]";
    let typed = load_text(toml).unwrap();
    assert_eq!(typed.hosts, ["chat.example.org", "box"]);
    let proxies: Vec<String> = typed.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["10.0.0.0/8", "::1/128"]);
    let env = Env::from([("TURNKEEP_HOSTS", "a.example, b.example")]);
    assert_eq!(load_layers("", &env, &[]).unwrap().hosts, ["a.example", "b.example"]);
}

#[test]
fn names_are_names() {
    let expect = |shown: &str| {
        format!(
            "turnkeep.toml:1: \"hosts\" must be a list of names, like [\"chat.example.org\"], \
             without https:// and without a port, not {shown}"
        )
    };
    for wrong in ["https://chat.example.org", "chat.example.org:443", "", "a..b", "a b", "*"] {
        check(&format!("hosts = [\"{wrong}\"]"), &expect(&format!("[{wrong:?}]")));
    }
    check(
        "trusted_proxies = [\"10.0.0.1/8\"]",
        "turnkeep.toml:1: \"trusted_proxies\" must be a list of networks, like [\"10.0.0.0/8\", \
         \"fd00::/8\"], not [\"10.0.0.1/8\"]",
    );
}

#[test]
fn listening_beyond_this_machine_is_told_and_left_to_the_keys() {
    let note = |listen: &str| {
        let notes = load_text(&format!("listen = \"{listen}\"")).unwrap().notes;
        notes.iter().any(|note| note.contains("starts only with an API key"))
    };
    assert!(note("0.0.0.0:7878") && note("[::]:7878") && note("192.0.2.1:80"));
    assert!(!note("127.0.0.1:7878") && !note("[::1]:7878") && !note("127.1.2.3:0"));
    assert!(load(&super::Flags::default(), &Env::default()).is_ok());
}
