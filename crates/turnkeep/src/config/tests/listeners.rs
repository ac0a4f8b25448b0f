//! Listeners and reply callbacks: what is refused, and what comes of the rest.

use std::path::{Path, PathBuf};

use super::{check, load_layers, load_text};
use crate::config::Env;

/// 32 bytes in base64, with its prefix.
const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn env() -> Env {
    Env::from([("S", SECRET)])
}

fn said(toml: &str, env: &Env) -> String {
    let said =
        load_layers(toml, env, &[]).map_or_else(|problems| problems.to_string(), |_| "".into());
    said.lines()
        .map(|line| line.split_once("turnkeep.toml:").map_or(line, |(_, rest)| rest))
        .collect::<Vec<_>>()
        .join("\n")
}

fn secret_file(dir: &Path, text: &str, mode: u32) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.join("secret");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn a_listener_is_resolved() {
    let toml = "[agents.default]\nkind = \"echo\"\n[listeners.crm]\n\
                url = \"https://crm.example.org/hook/?token=hidden\"\nsecret_env = \"S\"\n\
                pattern = [\"turn.*\", \"session.closed\"]\ntenant = \"acme\"\n\
                agent = \"default\"\ninclude_text = true";
    let resolved = load_layers(toml, &env(), &[]).unwrap();
    let [crm] = &resolved.listeners[..] else { panic!("{:?}", resolved.listeners) };
    assert_eq!(crm.name, "crm");
    assert_eq!(crm.url, "https://crm.example.org/hook/?token=hidden");
    assert_eq!(crm.receiver(), "https://crm.example.org");
    assert_eq!(crm.secrets[0].expose(), b"0123456789abcdef0123456789abcdef");
    assert!(crm.include_text);
    assert_eq!(crm.selector.tenant.as_deref(), Some("acme"));
    assert_eq!(crm.selector.agent.as_deref(), Some("default"));
    let matches = |name| crm.selector.pattern.matches(name);
    assert!(matches("turn.failed") && matches("session.closed") && !matches("session.reset"));
    let shown = format!("{:?}", crm.secrets);
    assert!(!shown.contains("0123") && !shown.contains("48"), "{shown}");
}

#[test]
fn what_a_listener_lacks_is_said() {
    check(
        "[listeners.crm]",
        "turnkeep.toml:1: [listeners.crm] needs \"url\"\n\
         turnkeep.toml:1: [listeners.crm] needs \"secret_file\" or \"secret_env\"",
    );
    check(
        "[listeners.crm]\nurl = \"https://h\"\nsecret_env = \"NO\"",
        "turnkeep.toml:3: \"secret_env\" in [listeners.crm]: NO is not set",
    );
    check(
        "[listeners.crm]\nurl = \"https://h\"\nsecret_env = \"A\"\nsecret_file = \"b\"",
        "turnkeep.toml:3: \"secret_file\" and \"secret_env\" in [listeners.crm] exclude each other",
    );
    check(
        "[listeners.crm]\nurls = 1",
        "turnkeep.toml:1: [listeners.crm] needs \"secret_file\" or \"secret_env\"\n\
         turnkeep.toml:2: unknown key \"urls\" in [listeners.crm]; did you mean \"url\"?",
    );
    check(
        "[listener.crm]",
        "turnkeep.toml:1: unknown key \"listener\"; did you mean \"listeners\"?",
    );
}

#[test]
fn a_wrong_pattern_is_named_with_the_right_one() {
    let head = "[listeners.crm]\nurl = \"https://h\"\nsecret_env = \"S\"\n";
    let check = |pattern: &str, expect: &str| {
        assert_eq!(said(&format!("{head}pattern = {pattern}"), &env()), expect);
    };
    check("\"*\"", "");
    check("[\"turn.completed\"]", "");
    check(
        "\"turn.complete\"",
        "4: \"pattern\" in [listeners.crm]: no event is called \"turn.complete\"; did you mean \
         \"turn.completed\"?",
    );
    check(
        "[\"turn.*\", \"sesion.*\"]",
        "4: \"pattern\" in [listeners.crm]: no event is called \"sesion.*\"; did you mean \
         \"session.*\"?",
    );
    check(
        "[]",
        "4: \"pattern\" in [listeners.crm] must be a text or a list of texts, not an empty list",
    );
    check(
        "[1]",
        "4: \"pattern\" in [listeners.crm] must be a text or a list of texts, not a list of anything else",
    );
}

#[test]
fn names_agents_and_addresses_are_checked() {
    let rest = "secret_env = \"S\"\nurl = ";
    let check = |toml: &str, expect: &str| assert_eq!(said(toml, &env()), expect, "{toml}");
    check(
        &format!("[listeners.\"c.m\"]\n{rest}\"https://h\""),
        "1: the name of a listener has 1 to 64 of a-z, A-Z, 0-9, - and _",
    );
    check(
        &format!(
            "[agents.clerk]\nkind = \"echo\"\n[listeners.crm]\nagent = \"clark\"\n{rest}\"https://h\""
        ),
        "4: no agent of [listeners.crm] is called \"clark\"; did you mean \"clerk\"?",
    );
    let closed = |address: &str| {
        format!(
            "3: \"url\" in [listeners.crm] leads to {address}, which is not on the open internet; \
             allow it with callbacks_may_reach in [gateway]"
        )
    };
    check(&format!("[listeners.crm]\n{rest}\"http://10.0.0.5/x\""), &closed("10.0.0.5"));
    check(&format!("[listeners.crm]\n{rest}\"http://localhost:80\""), &closed("127.0.0.1"));
    check(&format!("[listeners.crm]\n{rest}\"http://[::1]/\""), &closed("::1"));
    check(&format!("[listeners.crm]\n{rest}\"http://0x7f.1/\""), &closed("127.0.0.1"));
    let allowed = format!(
        "[gateway]\ncallbacks_may_reach = [\"127.0.0.0/8\"]\n[listeners.crm]\n{rest}\
         \"http://localhost:80\""
    );
    check(&allowed, "");
    let networks = load_layers(&allowed, &env(), &[]).unwrap().callbacks_may_reach;
    assert_eq!(networks, ["127.0.0.0/8".parse().unwrap()]);
    for wrong in ["ftp://h", "https://me:word@h/", "h"] {
        let said = said(&format!("[listeners.crm]\n{rest}{wrong:?}"), &env());
        assert!(said.contains("must be an address that begins with http://"), "{said}");
    }
    check(
        "[gateway]\ncallbacks_may_reach = [\"127.0.0.1/8\"]",
        "2: \"callbacks_may_reach\" in [gateway] must be a list of networks, like \
         [\"10.0.0.0/8\", \"fd00::/8\"], not [\"127.0.0.1/8\"]",
    );
}

#[test]
fn secrets_are_checked_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let load = |text: &str, mode| {
        let path = secret_file(dir.path(), text, mode);
        let toml = format!("[listeners.crm]\nurl = \"https://h\"\nsecret_file = {path:?}");
        load_text(&toml).map_err(|problems| problems.to_string())
    };
    assert!(load(&format!("{SECRET}\n"), 0o600).is_ok());
    let open = load(SECRET, 0o604).unwrap_err();
    assert!(open.contains("is open to everybody on this machine; chmod 600 it"), "{open}");
    let short = "whsec_c2hvcnQ=";
    for wrong in ["0123456789012345678901234567890123456789", "whsec_!!!", short, "whsec_"] {
        let said = load(wrong, 0o600).unwrap_err();
        assert!(said.contains("it must be whsec_ and 24 to 64 bytes in base64"), "{said}");
        assert!(!said.contains("0123") && !said.contains("c2hvcn"), "{said}");
    }
}

#[test]
fn several_secrets_sign_while_one_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    let old = secret_file(dir.path(), SECRET, 0o600);
    let listener = |keys: &str| format!("[listeners.crm]\nurl = \"https://h\"\n{keys}");
    let count =
        |keys: &str| load_layers(&listener(keys), &env(), &[]).unwrap().listeners[0].secrets.len();
    assert_eq!(count(&format!("secret_file = [{old:?}, {old:?}]")), 2);
    assert_eq!(count("secret_env = [\"S\", \"S\", \"S\", \"S\"]"), 4);
    assert_eq!(count("secret_env = [\"S\"]"), 1);
    let check = |keys: &str, expect: &str| assert_eq!(said(&listener(keys), &env()), expect);
    let place = "in [listeners.crm]";
    check(
        "secret_env = [\"S\", \"S\", \"S\", \"S\", \"S\"]",
        &format!("3: \"secret_env\" {place} names 5 secrets; at most 4 sign"),
    );
    check(
        "secret_env = [\"A\", \"S\", \"B\"]",
        &format!(
            "3: \"secret_env\" {place}: A is not set\n3: \"secret_env\" {place}: B is not set"
        ),
    );
    check(
        "secret_env = [\"S\", \"S\"]\nsecret_file = [\"a\", \"b\"]",
        &format!("3: \"secret_file\" and \"secret_env\" {place} exclude each other"),
    );
    let wanted = format!("3: \"secret_file\" {place} must be a path or a list of paths");
    check("secret_file = []", &wanted);
    check("secret_file = [\"\"]", &wanted);
    let agent = format!(
        "[agents.default]\nkind = \"echo\"\ncallback_url = \"https://h\"\n\
         callback_secret_file = [{old:?}, \"secret\"]"
    );
    let said = load_text(&agent).unwrap_err().to_string();
    assert!(said.contains("there is no file that can be read"), "{said}");
}

#[test]
fn an_agent_may_have_a_reply_callback() {
    let dir = tempfile::tempdir().unwrap();
    let path = secret_file(dir.path(), SECRET, 0o600);
    let toml = format!(
        "[agents.default]\nkind = \"echo\"\ncallback_url = \"https://app.example.org/r\"\n\
         callback_secret_file = {path:?}"
    );
    let resolved = load_text(&toml).unwrap();
    let [callback] = &resolved.listeners[..] else { panic!("{:?}", resolved.listeners) };
    assert_eq!(callback.name, "agents/default");
    assert!(callback.include_text);
    assert_eq!(callback.pattern, ["turn.completed", "turn.failed"]);
    assert_eq!(callback.selector.agent.as_deref(), Some("default"));
    check(
        "[agents.default]\nkind = \"echo\"\ncallback_url = \"https://h\"",
        "turnkeep.toml:3: \"callback_url\" in [agents.default] needs \"callback_secret_file\" or \
         \"callback_secret_env\"",
    );
    check(
        "[agents.default]\nkind = \"echo\"\ncallback_secret_file = \"x\"",
        "turnkeep.toml:3: \"callback_secret_file\" in [agents.default] needs \"callback_url\"",
    );
}
