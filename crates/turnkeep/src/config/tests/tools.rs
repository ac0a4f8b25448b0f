//! Servers of tools, as typed and as used.

use std::time::Duration;

use turnkeep_core::tool::SideEffects;

use super::{check, load_text};
use crate::config::tools::{ToolServerSettings, ToolWay};

const AGENT: &str = "[agents.default]\nkind = \"openai\"\nbase_url = \"http://localhost/v1\"\n\
                     model = \"m\"\n";

#[test]
fn a_server_has_its_way_and_its_rules() {
    let text = format!(
        "{AGENT}tools = [\"shop.*\", \"time.now\"]\n\
         [tools.shop]\ncommand = [\"npx\", \"shop\"]\nenv = {{ A = \"b\" }}\ntimeout_seconds = 5\n\
         approval = \"refund\"\nerrors_mean_not_done = true\n\
         [tools.shop.effects]\nrefund = \"compensatable\"\n\"get_*\" = \"pure\"\n\
         [tools.shop.keys]\nrefund = \"/order/id\"\n\
         [tools.time]\nurl = \"https://time.example.org/mcp?key=1\"\ntrust_annotations = true\n"
    );
    let resolved = load_text(&text).unwrap();
    assert_eq!(resolved.notes, Vec::<String>::new());
    let shop = &resolved.tools["shop"];
    let ToolWay::Command(program) = &shop.way else { panic!("{shop:?}") };
    assert_eq!(program.command, ["npx", "shop"]);
    let mut effects = shop.effects.clone();
    effects.sort();
    let expect = [("get_*", SideEffects::Pure), ("refund", SideEffects::Compensatable)]
        .map(|(name, effects)| (name.to_owned(), effects));
    assert_eq!(effects, expect);
    assert_eq!(shop.keys, [("refund".to_owned(), "/order/id".to_owned())]);
    assert_eq!(shop.approval, ["refund"]);
    assert_eq!(shop.timeout, Duration::from_secs(5));
    assert!(shop.errors_mean_not_done && !shop.trust_annotations);
    let time = &resolved.tools["time"];
    let expect = ToolServerSettings {
        way: ToolWay::Http("https://time.example.org/mcp?key=1".to_owned(), None),
        timeout: Duration::from_secs(60),
        effects: Vec::new(),
        keys: Vec::new(),
        approval: Vec::new(),
        trust_annotations: true,
        errors_mean_not_done: false,
    };
    assert_eq!(*time, expect);
    // What stands in an address may be secret.
    assert_eq!(time.told(), "https://time.example.org, 60 s; others as it says");
    assert!(!format!("{time:?}").contains("key=1"));
}

#[test]
fn every_mistake_is_told() {
    let with = |text: &str| format!("{AGENT}tools = \"shop.*\"\n{text}");
    let check = |text: &str, expect: &str| check(&with(text), expect);
    check("[tools.shop]\n", "turnkeep.toml:6: [tools.shop] needs \"command\" or \"url\"");
    check(
        "[tools.shop]\ncommand = \"a\"\nurl = \"https://b\"\n",
        "turnkeep.toml:8: \"command\" and \"url\" in [tools.shop] exclude each other",
    );
    check(
        "[tools.shop]\ncommand = \"a\"\ntoken_env = \"B\"\n",
        "turnkeep.toml:8: \"token_env\" in [tools.shop] is of no use without \"url\"",
    );
    check(
        "[tools.shop]\nurl = \"https://b\"\nenv = { A = \"b\" }\n",
        "turnkeep.toml:8: \"env\" in [tools.shop] is of no use without \"command\"",
    );
    check(
        "[tools.shop]\ncommand = \"npx shop\"\n",
        "turnkeep.toml:7: \"command\" in [tools.shop] is started without a shell; it must be a list, \
         like [\"python3\", \"brain.py\"]",
    );
    check(
        "[tools.shop]\ncommand = \"a\"\neffects = { refund = \"safe\" }\n",
        "turnkeep.toml:8: \"refund\" in [tools.shop.effects] must be pure, idempotent, compensatable or \
         irreversible, not \"safe\"",
    );
    check(
        "[tools.shop]\ncommand = \"a\"\nkeys = { refund = \"order_id\" }\n",
        "turnkeep.toml:8: \"refund\" in [tools.shop.keys] must be a JSON pointer like \"/order_id\", not \
         \"order_id\"; did you mean \"/order_id\"?",
    );
    check(
        "[tools.shop]\ncommand = \"a\"\n[tools.my__shop]\ncommand = \"a\"\n",
        "turnkeep.toml:8: the name of a tool server has 1 to 32 of a-z, A-Z, 0-9, - and _, with \
         single _ only, and none at its ends",
    );
    check(
        "[tools.shpo]\ncommand = \"a\"\n",
        "turnkeep.toml:5: \"tools\" in [agents.default]: there is no [tools.shop]; did you mean \
         \"shpo\"?",
    );
}

/// Each row has a line of its own, and the right word is the nearest one.
#[test]
fn every_misspelt_value_is_told_with_its_row() {
    let with =
        |text: &str| format!("{AGENT}tools = \"shop.*\"\n[tools.shop]\ncommand = \"a\"\n{text}");
    let check = |text: &str, expect: &str| check(&with(text), expect);
    check(
        "[tools.shop.effects]\nrefund = \"irreversable\"\nfind = \"pure\"\nbook = true\n\"\" = \"pure\"\n",
        "turnkeep.toml:9: \"refund\" in [tools.shop.effects] must be pure, idempotent, compensatable or \
         irreversible, not \"irreversable\"; did you mean \"irreversible\"?\n\
         turnkeep.toml:11: \"book\" in [tools.shop.effects] must be pure, idempotent, compensatable or \
         irreversible, not true\n\
         turnkeep.toml:12: \"\" in [tools.shop.effects] is no name of a tool, which has 1 to 200 bytes \
         without control characters",
    );
    check(
        "effects = { refund = \"Pure\" }",
        "turnkeep.toml:8: \"refund\" in [tools.shop.effects] must be pure, idempotent, compensatable or \
         irreversible, not \"Pure\"; did you mean \"pure\"?",
    );
    check(
        "[tools.shop.keys]\nrefund = \"$.order\"\nbook = 1\n",
        "turnkeep.toml:9: \"refund\" in [tools.shop.keys] must be a JSON pointer like \"/order_id\", not \
         \"$.order\"\n\
         turnkeep.toml:10: \"book\" in [tools.shop.keys] must be a JSON pointer like \"/order_id\", not 1",
    );
    check(
        "effects = \"pure\"",
        "turnkeep.toml:8: \"effects\" in [tools.shop] must be a table of names of tools, each pure, \
         idempotent, compensatable or irreversible, like { \"get_*\" = \"pure\" }, not \"pure\"",
    );
    check(
        "approval = [true]",
        "turnkeep.toml:8: \"approval\" in [tools.shop] must be a text or a list of texts, not a list of \
         anything else",
    );
    check(
        "approval = [\"refund\", \"\"]",
        "turnkeep.toml:8: \"approval\" in [tools.shop]: \"\" is no name of a tool",
    );
    let many: String = (0..1002).map(|at| format!("t{at} = \"pure\"\n")).collect();
    let said =
        super::load_text(&with(&format!("[tools.shop.effects]\n{many}"))).unwrap_err().to_string();
    let end = " in [tools.shop.effects] is one too many; 1000 may stand there";
    assert!(said.lines().count() == 1 && said.ends_with(end), "{said}");
    // What stands in an environment may be secret.
    let said =
        super::load_text(&with("env = { \"1A\" = \"hidden\", B = 7 }")).unwrap_err().to_string();
    assert!(!said.contains("hidden"), "{said}");
    let end = "\"B\" in [tools.shop.env] must be a text without zero bytes, in quotes";
    assert!(said.lines().count() == 2 && said.ends_with(end), "{said}");
}

#[test]
fn tools_are_for_agents_that_ask_a_model() {
    check(
        "[agents.default]\nkind = \"echo\"\ntools = \"shop.*\"\n[tools.shop]\ncommand = \"a\"\n",
        "turnkeep.toml:3: \"tools\" in [agents.default] is for kind = \"openai\" or \"anthropic\"; \
         this agent's kind is \"echo\"",
    );
    check(
        &format!("{AGENT}tools = [\"shop\"]\n[tools.shop]\ncommand = \"a\"\n"),
        "turnkeep.toml:5: \"tools\" in [agents.default]: \"shop\" must be like \"SERVER.TOOL\" or \
         \"SERVER.*\"",
    );
}

#[test]
fn a_server_that_nobody_uses_or_anybody_can_read_is_noted() {
    let text = format!("{AGENT}[tools.shop]\nurl = \"http://shop.example.org/mcp\"\n");
    let notes = load_text(&text).unwrap().notes;
    assert!(notes[0].ends_with("no agent has tools of [tools.shop]; name them in \"tools\" of an agent, like \"shop.*\""), "{notes:?}");
    assert!(notes[1].contains("\"url\" in [tools.shop] is not https"), "{notes:?}");
}
