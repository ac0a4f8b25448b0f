//! The engine that gives turns to workers: what may be said of it, and what it needs.

use std::time::Duration;

use super::{load_layers, load_text};
use crate::config::Env;
use crate::config::store::Tls;

const STORE: &str = "[store]\nkind = \"postgres\"\nurl_env = \"DATABASE_URL\"\n";
const TOKEN: &str = "head.claims.signature";

fn env() -> Env {
    Env::from([
        ("DATABASE_URL", "postgres://tk@db/turnkeep"),
        ("TOKEN", TOKEN),
        ("WRONG", "secret"),
    ])
}

/// What is said of this section, without the folder.
fn complaints(section: &str) -> String {
    let text = format!("{STORE}[hatchet]\n{section}");
    let text = load_layers(&text, &env(), &[]).unwrap_err().to_string();
    text.lines().map(|line| line.split_once(": ").unwrap().1).collect::<Vec<_>>().join("\n")
}

#[test]
fn an_engine_is_used_as_it_is_said() {
    assert_eq!(load_text("").unwrap().hatchet, None);
    let least = format!("{STORE}[hatchet]\ntoken_env = \"TOKEN\"\n");
    let hatchet = load_layers(&least, &env(), &[]).unwrap().hatchet.unwrap();
    assert_eq!(hatchet.token.expose(), TOKEN);
    assert_eq!((hatchet.address, hatchet.namespace, hatchet.tls), (None, None, None));
    assert_eq!((hatchet.dispatch_timeout, hatchet.slots), (Duration::from_secs(10), 200));
    assert!(!hatchet.fallback);
    let more = format!(
        "{least}address = \"[::1]:7070\"\nnamespace = \"north-1\"\ntls = \"off\"\n\
         tls_authorities = \"/ca.pem\"\ndispatch_timeout_ms = 2000\nslots = 5\n\
         [gateway]\nfallback_to_sync = true\n"
    );
    let resolved = load_layers(&more, &env(), &[]).unwrap();
    assert_eq!(resolved.notes, [] as [&str; 0]);
    let hatchet = resolved.hatchet.unwrap();
    assert_eq!(hatchet.address.as_deref(), Some("[::1]:7070"));
    assert_eq!((hatchet.namespace.as_deref(), hatchet.tls), (Some("north-1"), Some(Tls::Off)));
    assert_eq!(hatchet.tls_authorities, Some("/ca.pem".into()));
    assert_eq!((hatchet.dispatch_timeout, hatchet.slots), (Duration::from_secs(2), 5));
    assert!(hatchet.fallback);
}

#[test]
fn mistakes_are_told_and_nothing_secret_is() {
    let check = |section: &str, expect: &str| assert_eq!(complaints(section), expect, "{section}");
    check(
        "slots = 5",
        "[hatchet] needs \"token_file\" or \"token_env\", which name where the engine's token is",
    );
    check(
        "token_env = \"WRONG\"",
        "the token in [hatchet] is none of an engine: it has three parts with dots between them, as \
         `hatchet-admin token create` prints it",
    );
    for address in ["host", "host:", ":7070", "host:0", "http://host:7070", "a@host:7070"] {
        let section = format!("token_env = \"TOKEN\"\naddress = \"{address}\"");
        let expect = format!("\"address\" in [hatchet] must be host:port, not \"{address}\"");
        check(&section, &expect);
    }
    check(
        "token_env = \"TOKEN\"\nnamespace = \"North\"",
        "\"namespace\" in [hatchet] must be 1 to 32 small letters, digits and -, not \"North\"",
    );
    let alone = load_layers("[hatchet]\ntoken_env = \"TOKEN\"", &env(), &[]).unwrap_err();
    let why = "\"token_env\" in [hatchet] is of no use without [store] kind = \"postgres\": a server \
               that has its store to itself runs its turns itself";
    assert!(alone.to_string().ends_with(why), "{alone}");
}
