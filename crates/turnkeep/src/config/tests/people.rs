//! Who is known by name, and in which groups we take part.

use turnkeep_core::Trust;
use turnkeep_gateway::intake::routing::Trigger;

use super::{check, load_text};
use crate::config::Changes;

const HOUSE: &str = r#"
[agents.default]
kind = "echo"
[agents.small]
kind = "echo"

[users.alice]
trust = "owner"
ids = ["signal:+4915112345", "signal:0a1b:2c"]
agent = "small"

[users.germans]
ids = "signal:+49*"

[users.guest]

[groups.family]
id = "signal:g1=="
trigger = "regex"
pattern = '(?i)^bot\b'
names = ["Turnkeep", " tk "]
ceiling = "inner"

[groups.club]
id = "signal:g2"
tenant = "work"
trigger = "llm"
trigger_agent = "small"
"#;

#[test]
fn users_and_groups_are_read() {
    let people = load_text(HOUSE).unwrap().people;
    let users: Vec<(&str, Trust, usize)> =
        people.users.iter().map(|user| (&*user.name, user.trust, user.ids.len())).collect();
    assert_eq!(
        users,
        [
            ("alice", Trust::Owner, 2),
            ("germans", Trust::Familiar, 1),
            ("guest", Trust::Familiar, 0)
        ]
    );
    let ids: Vec<String> =
        people.users[0].ids.iter().map(|(channel, id)| format!("{channel} {id}")).collect();
    assert_eq!(ids, ["signal +4915112345", "signal 0a1b:2c"]);
    assert_eq!(people.users[0].agent.as_deref(), Some("small"));
    let [club, family] = &people.groups[..] else { panic!("{people:?}") };
    assert!(matches!(&club.trigger, Trigger::Llm(agent) if &**agent == "small"));
    assert_eq!((&*club.tenant, &*club.id, club.ceiling), ("work", "g2", Trust::Familiar));
    assert!(matches!(family.trigger, Trigger::Regex(_)));
    assert_eq!(
        (&*family.names, family.ceiling),
        (&["Turnkeep".into(), "tk".into()][..], Trust::Inner)
    );
}

#[test]
fn names_have_a_channel_and_stand_once() {
    check(
        "[users.a]\nids = [\"+49\", \"signa:+49\", \"signal:\", \"signal:+4*9\"]",
        "turnkeep.toml:2: \"ids\" in [users.a]: \"+49\" needs a channel before it, like \"signal:+49\"\n\
         turnkeep.toml:2: \"ids\" in [users.a]: \"signa:+49\": there is no channel \"signa\"; did you \
         mean \"signal\"?\n\
         turnkeep.toml:2: \"ids\" in [users.a]: \"signal:\": a name has 1 to 128 bytes without control \
         characters\n\
         turnkeep.toml:2: \"ids\" in [users.a]: \"signal:+4*9\": a * stands at the end or nowhere",
    );
    check(
        "[users.a]\nids = [\"signal:4915112345\", \"signal:+49 151 12345\", \"signal:4915*\"]",
        "turnkeep.toml:2: \"ids\" in [users.a]: \"signal:4915112345\": a telephone number begins with \
         a + and its country, and holds no blanks\n\
         turnkeep.toml:2: \"ids\" in [users.a]: \"signal:+49 151 12345\": a telephone number begins \
         with a + and its country, and holds no blanks",
    );
    let own = "ids = [\"signal:00000000-0000-4000-8000-000000000001\", \"signal:00000000-*\"]";
    assert!(load_text(&format!("[users.a]\n{own}")).is_ok());
    check(
        "[users.a]\nids = \"signal:1\"\n[users.b]\nids = [\"signal:2\", \"signal:1\"]",
        "turnkeep.toml:4: \"ids\" in [users.b]: \"signal:1\" stands in [users.a] already",
    );
    // Another tenant's is another one.
    check("[users.a]\nids = \"signal:1\"\n[users.b]\ntenant = \"work\"\nids = \"signal:1\"", "");
    check(
        "[groups.a]\nid = \"signal:1\"\n[groups.b]\nid = \"signal:1\"",
        "turnkeep.toml:4: \"id\" in [groups.b]: this group stands in [groups.a] already",
    );
}

#[test]
fn words_and_agents_are_checked() {
    check(
        "[users.a]\ntrust = \"boss\"\nagent = \"defualt\"\n[users.b]\nids = []",
        "turnkeep.toml:2: \"trust\" in [users.a] must be one of owner, full, inner, familiar, public, \
         not \"boss\"\n\
         turnkeep.toml:3: \"agent\" in [users.a]: no agent is called \"defualt\"; did you mean \
         \"default\"?\n\
         turnkeep.toml:5: \"ids\" in [users.b] must be a text or a list of texts, not an empty list",
    );
    check(
        "[groups.a]\ntrigger = \"sometimes\"\nnames = [\"\"]",
        "turnkeep.toml:1: [groups.a] needs \"id\"\n\
         turnkeep.toml:2: \"trigger\" in [groups.a] must be one of mention, always, regex, llm, not \
         \"sometimes\"",
    );
    check(
        "[groups.a]\nid = \"signal:1\"\nnames = [\"\"]",
        "turnkeep.toml:3: \"names\" in [groups.a] are up to 100 words, none of them empty",
    );
}

#[test]
fn a_trigger_has_what_it_needs_and_nothing_else() {
    let group = |rest: &str| format!("[groups.a]\nid = \"signal:1\"\n{rest}");
    check(
        &group("trigger = \"regex\""),
        "turnkeep.toml:3: trigger = \"regex\" in [groups.a] needs \"pattern\"",
    );
    check(
        &group("trigger = \"llm\""),
        "turnkeep.toml:3: trigger = \"llm\" in [groups.a] needs \"trigger_agent\"",
    );
    check(
        &group("pattern = \"x\"\ntrigger_agent = \"default\""),
        "turnkeep.toml:3: \"pattern\" in [groups.a] is for trigger = \"regex\"\n\
         turnkeep.toml:4: \"trigger_agent\" in [groups.a] is for trigger = \"llm\"",
    );
    check(
        &group("trigger = \"llm\"\ntrigger_agent = \"nobody\""),
        "turnkeep.toml:4: \"trigger_agent\" in [groups.a]: no agent is called \"nobody\"; known are \
         default",
    );
    let wrong = load_text(&group("trigger = \"regex\"\npattern = \"(\"")).unwrap_err().to_string();
    assert!(wrong.contains("\"pattern\" in [groups.a] is no regular expression"), "{wrong}");
}

#[test]
fn a_reload_tells_whom_it_concerns() {
    let before = load_text(HOUSE).unwrap();
    let now =
        HOUSE.replace("trust = \"owner\"", "trust = \"full\"").replace("signal:g2", "signal:g3");
    let changes = Changes::between(&before, &before, &load_text(&now).unwrap());
    assert_eq!(changes.changed, ["groups.club", "users.alice"]);
    assert!(changes.needs_restart.is_empty());
}
