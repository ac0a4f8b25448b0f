//! What the guard is told.

use turnkeep_core::guard::{AbuseKind, Rate, Severity};

use super::*;

#[test]
fn without_a_word_people_pass_and_floods_do_not() {
    let resolved = load_text("").unwrap();
    assert!(resolved.guard.rate_limiting && resolved.guard.abuse_detection);
    assert!(resolved.guard.global_rate.is_unlimited() && resolved.guard.words.is_empty());
    let policy = resolved.policy("default", "default", "web").unwrap();
    assert_eq!(policy.rate, Rate::new(120, 240));
    assert!(policy.tenant_rate.is_unlimited());
}

#[test]
fn rates_come_from_every_layer() {
    let resolved = load_text(
        "[gateway]\nglobal_rate_per_minute = 60000\nglobal_rate_burst = 5\n\
         [tenants.acme]\nrate_per_minute = 30\ntenant_rate_per_minute = 600\n\
         tenant_rate_burst = 50\n\
         [agents.default]\nkind = \"echo\"\nrate_burst = 10\n\
         [channels.sms]\nrate_per_minute = 0",
    )
    .unwrap();
    assert_eq!(resolved.guard.global_rate, Rate::new(60_000, 5));
    let policy = |tenant, channel| resolved.policy(tenant, "default", channel).unwrap();
    assert_eq!(policy("acme", "web").rate, Rate::new(30, 10));
    assert_eq!(policy("acme", "web").tenant_rate, Rate::new(600, 50));
    assert_eq!(policy("other", "web").rate, Rate::new(120, 10));
    assert!(policy("acme", "sms").rate.is_unlimited());
    let lines = resolved.explain("acme", "default", "web").unwrap();
    let line = lines.iter().find(|line| line.key == "rate_per_minute").unwrap();
    assert_eq!((line.value.as_str(), &line.decided_by()[..14]), ("30", "[tenants.acme]"));
}

#[test]
fn the_switches_are_in_effect() {
    let resolved =
        load_text("[gateway]\nrate_limiting_enabled = false\nabuse_detection_enabled = false")
            .unwrap();
    assert!(!resolved.guard.rate_limiting && !resolved.guard.abuse_detection);
    assert_eq!(resolved.notes, [""; 0]);
    let loud = load_text("[gateway]\nrate_limiting_enabled = true").unwrap();
    assert_eq!(loud.notes, [""; 0]);
}

#[test]
fn limits_severities_and_words_are_taken() {
    let guard = load_text(
        "[guard]\nflood_factor = 3\nflood_severity = \"block\"\nrepeats_max = 5\n\
         repeats_severity = \"restrict\"\nlinks_max = 0\nterms = [\"cheap pills\", \"casino\"]\n\
         terms_severity = \"permanent\"\npatterns = '\\d{16}'\npatterns_severity = \"monitor\"",
    )
    .unwrap()
    .guard;
    assert_eq!((guard.flood_factor, guard.flood_severity), (3, Severity::Block));
    assert_eq!((guard.repeats_max, guard.repeats_severity), (5, Severity::Restrict));
    assert_eq!((guard.links_max, guard.links_severity), (0, Severity::Monitor));
    assert_eq!(guard.terms_severity, Severity::Permanent);
    assert_eq!(guard.patterns_severity, Severity::Monitor);
    assert_eq!(guard.words.found("CASINO 4111111111111111"), [AbuseKind::Term, AbuseKind::Pattern]);
}

#[test]
fn words_that_can_not_be_used_are_told_where_they_stand() {
    check(
        "[guard]\npatterns = [\"ok\", \"a(\"]",
        "turnkeep.toml:2: \"patterns\" in [guard]: the pattern \"a(\" can't be used: unclosed group",
    );
    check(
        "[guard]\n\nterms = [\"ok\", \" \"]",
        "turnkeep.toml:3: \"terms\" in [guard]: the term \" \" is empty",
    );
    check(
        "[guard]\nterms = 5\nflood_severity = \"ban\"",
        "turnkeep.toml:2: \"terms\" in [guard] must be a text or a list of texts, not 5\n\
         turnkeep.toml:3: \"flood_severity\" in [guard] must be one of monitor, restrict, block, \
         permanent, not \"ban\"",
    );
    check(
        "[gateway]\nflood_factor = 5",
        "turnkeep.toml:2: unknown key \"flood_factor\" in [gateway]; it belongs in [guard]",
    );
}
