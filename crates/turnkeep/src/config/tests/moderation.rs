//! The external check of messages.

use super::*;
use turnkeep_core::moderation::{Moderation, Ruling};

fn rule(toml: &str) -> Option<Moderation> {
    load_text(toml).unwrap().policy("default", "default", "web").unwrap().moderation
}

#[test]
fn a_check_is_part_of_every_policy() {
    assert_eq!(rule(""), None);
    let url = "[guard]\nmoderation_url = \"http://127.0.0.1:9000/check\"\n";
    assert_eq!(rule(url), Some(Moderation { timeout_ms: 3000, default: Ruling::Allow }));
    let told = format!("{url}moderation_timeout_ms = 500\nmoderation_default = \"refuse\"");
    assert_eq!(rule(&told), Some(Moderation { timeout_ms: 500, default: Ruling::Refuse }));
    let resolved = load_text(url).unwrap();
    let settings = resolved.moderation.unwrap();
    assert_eq!((&*settings.url, settings.secret), ("http://127.0.0.1:9000/check", None));
}

#[test]
fn its_secret_is_never_shown() {
    let env = Env::from([("CHECK_KEY", "tell-nobody")]);
    let text = "[guard]\nmoderation_url = \"https://check.example.org\"\nmoderation_secret_env = \"CHECK_KEY\"";
    let resolved = load_layers(text, &env, &[]).unwrap();
    let settings = resolved.moderation.unwrap();
    assert_eq!(settings.secret.as_ref().unwrap().expose(), "tell-nobody");
    assert!(!format!("{settings:?}").contains("tell-nobody"));
}

#[test]
fn mistakes_are_told() {
    check(
        "[guard]\nmoderation_default = \"allow\"\nmoderation_timeout_ms = 1000",
        "turnkeep.toml:2: \"moderation_default\" in [guard] is of no use without \"moderation_url\"\n\
         turnkeep.toml:3: \"moderation_timeout_ms\" in [guard] is of no use without \"moderation_url\"",
    );
    check(
        "[guard]\nmoderation_url = \"ftp://example.org\"",
        "turnkeep.toml:2: \"moderation_url\" in [guard] must be an address that begins with http:// or \
         https://, without a password in it, not \"ftp://example.org\"",
    );
    check(
        "[guard]\nmoderation_url = \"http://example.org\"\nmoderation_timeout_ms = 60000",
        "turnkeep.toml:3: \"moderation_timeout_ms\" in [guard] must be a whole number from 1 to 50000, not 60000",
    );
    check(
        "[guard]\nmoderation_url = \"http://example.org\"\nmoderation_default = \"maybe\"",
        "turnkeep.toml:3: \"moderation_default\" in [guard] must be one of allow, refuse, not \"maybe\"",
    );
}
