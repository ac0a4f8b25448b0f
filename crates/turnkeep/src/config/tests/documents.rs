//! The example, the schema, the declared defaults and the examples of the documents are true.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{check, load_text};
use crate::config::problem::Problems;
use crate::config::{changes, example, raw, read, schema, section};

/// The example with every key switched on.
fn switched_on() -> String {
    let on = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') && !rest.is_empty() => rest.to_owned(),
        _ => line.to_owned(),
    };
    example().lines().map(on).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_knows_every_key_and_every_key_is_known() {
    check(&example(), "");
    let mut problems = Problems::default();
    let raw = read::read_file("example".as_ref(), &switched_on(), read::Scope::All, &mut problems);
    assert_eq!(problems.to_string(), "");
    let typed = |section: &dyn section::Section| {
        let names: Vec<&str> = section.shown().iter().map(|shown| shown.0).collect();
        let known: Vec<&str> = section.keys().iter().map(|key| key.name).collect();
        assert_eq!(names, known);
    };
    typed(&raw.top);
    typed(&raw.gateway);
    typed(&raw.channels["signal"].own);
    typed(&raw.channels["web"].policy);
    typed(&raw.agents["default"].own);
    typed(&raw.agents["default"].model);
    typed(&raw.agents["claude"].anthropic);
    typed(&raw.agents["parrot"].echo);
    typed(&raw.agents["shop"].command);
    typed(&raw.agents["support"].http);
    typed(&raw.listeners["crm"].keys);
    typed(&raw.guard);
    typed(&raw.money.budgets.all);
    typed(&raw.money.usage);
    typed(&raw.money.prices["gpt-4.1-mini"]);
    typed(&raw.telemetry);
    typed(&raw.signal.keys);
    typed(&raw.signal.accounts["home"].keys);
}

/// Whatever is told of sections as a whole knows each of them.
#[test]
fn every_key_stands_in_a_section_that_reloads_and_schema_know() {
    let mut problems = Problems::default();
    let raw = read::read_file("example".as_ref(), &switched_on(), read::Scope::All, &mut problems);
    let sections = raw.sections();
    for (home, keys) in read::HOMES {
        for key in keys {
            let told = sections.iter().any(|(_, section)| section.holds(key.name));
            assert!(told, "Raw::sections() doesn't tell of \"{}\" {home}", key.name);
        }
    }
    for (section, key) in changes::FIXED {
        let known = sections.iter().any(|(label, typed)| label == section && typed.holds(key));
        assert!(known, "[{section}] has no \"{key}\" that could be fixed");
    }
}

/// As JSON, without what TOML has and JSON has not.
fn as_json(toml: &str) -> Value {
    toml::from_str(toml).unwrap_or_else(|error| panic!("{error}\n{toml}"))
}

fn schema_says(toml: &str) -> Vec<String> {
    let validator = jsonschema::draft202012::new(&schema::document()).unwrap();
    let value = as_json(toml);
    validator
        .iter_errors(&value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

#[test]
fn the_schema_is_one_and_takes_what_the_loader_takes() {
    jsonschema::draft202012::meta::validate(&schema::document()).unwrap();
    // The example shows both ways to name a secret; a file may have only one.
    let one_way: String = switched_on()
        .lines()
        .filter(|line| !line.contains("_env = "))
        .map(|line| format!("{line}\n"))
        .collect();
    let right = [
        &*one_way,
        "",
        "hosts = \"chat.example.org\"\ntrusted_proxies = []",
        "[agents.a]\nkind = \"echo\"\n[agents.a.policy]\nwindow_ms = 0",
        "[listeners.crm]\nurl = \"https://h\"\nsecret_env = \"S\"\npattern = [\"turn.*\"]",
        "[agents.default]\nkind = \"openai\"\nmodel = \"m\"\nbase_url = \"http://h\"\n\
         temperature = 1",
        "[tenants.acme]\nmessage_queue_enabled = false",
        "[channels.web.budgets]\nturn_cost = 1\n[tenants.a.budgets]\nrefused_text = \"\"",
        "[agents.a]\nkind = \"command\"\ncommand = [\"x\", \"y\"]\n[agents.a.env]\nA = \"b\"",
        "[agents.a]\nkind = \"http\"\nurl = \"http://h\"\nsecret_env = [\"A\", \"B\"]",
        "[agents.a]\nkind = \"anthropic\"\nmodel = \"m\"\ncache = false",
        "[signal]\nnumber = \"+4915112345678\"\naddress = \"unix:/s\"",
        "[signal.accounts.a]\nnumber = \"+4915112345678\"\ntenant = \"t\"",
        "[tools.a]\nurl = \"http://h\"\n[tools.a.effects]\n\"get_*\" = \"pure\"",
    ];
    for toml in right {
        assert_eq!(schema_says(toml), [""; 0], "for\n{toml}");
    }
}

#[test]
fn the_schema_refuses_what_the_loader_refuses() {
    let wrong = [
        "lisen = \"127.0.0.1:1\"",
        "listen = 7878",
        "listen = \"nowhere\"",
        "[gateway]\nconnections_max = 0",
        "[gateway]\nlisten = \"127.0.0.1:1\"",
        "[channels.pigeon]",
        "[channels.web]\nbusy_policy = \"absrob\"",
        "[channels.web]\nwindow_ms = 1.5",
        "[agents.a]",
        "[agents.a]\nkind = \"eko\"",
        "[agents.a]\nkind = \"echo\"\nmodel = \"m\"",
        "[agents.a]\nkind = \"openai\"\nmodel = \"m\"",
        "[agents.a]\nkind = \"openai\"\nmodel = \"m\"\nbase_url = \"http://h\"\ncache = true",
        "[agents.a]\nkind = \"anthropic\"",
        "[agents.a]\nkind = \"anthropic\"\nmodel = \"m\"\nthinking_budget_tokens = 10",
        "[agents.a]\nkind = \"echo\"\ncallback_url = \"https://h\"",
        "[agents.a]\nkind = \"command\"",
        "[agents.a]\nkind = \"command\"\ncommand = \"x\"\nmodel = \"m\"",
        "[agents.a]\nkind = \"command\"\ncommand = \"x\"\nenv = { A = 1 }",
        "[agents.a]\nkind = \"command\"\ncommand = \"x\"\nenv = { \"A=B\" = \"c\" }",
        "[agents.a]\nkind = \"http\"\nurl = \"http://h\"",
        "[signal]",
        "[signal]\nnumber = \"015112345678\"",
        "[signal]\nnumber = \"+4915112345678\"\nunknown = \"nobody\"",
        "[signal]\nnumber = \"+4915112345678\"\naddress = \"nowhere\"",
        "[signal.accounts.a]\ntenant = \"t\"",
        "[tools.a]",
        "[tools.a]\ncommand = \"x\"\neffects = { refund = \"safe\" }",
        "[tools.a]\ncommand = \"x\"\nkeys = { refund = \"order_id\" }",
        "[agents.a]\nkind = \"http\"\nsecret_env = \"A\"",
        "[agents.a]\nkind = \"http\"\nurl = \"ftp://h\"\nsecret_env = \"A\"",
        "[agents.a.policy]\nkind = \"echo\"",
        "[listeners.crm]\nurl = \"https://h\"",
        "[listeners.crm]\nurl = \"https://h\"\nsecret_env = \"A\"\nsecret_file = \"b\"",
        "[tenants.acme]\nspool = \"x\"",
        "[tenants.acme.budgets]\nwindow_ms = 1",
        "[budgets]\nturn_tokens = -1",
        "[prices.m]\ninput = 1",
        "[telemetry]\notlp_endpoint = \"http://h\"\nsample_ratio = 1.5",
    ];
    for toml in wrong {
        assert!(!schema_says(toml).is_empty(), "the schema takes\n{toml}");
        assert!(load_text(toml).is_err(), "the loader takes\n{toml}");
    }
}

/// Every TOML block of the documents that is a configuration.
fn blocks() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = docs.chain([root.join("README.md")]);
    let pages = pages.filter(|path| path.extension().is_some_and(|end| end == "md"));
    let mut blocks = Vec::new();
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        for block in text.split("```toml\n").skip(1) {
            let block = block.split("```").next().unwrap_or_default();
            blocks.push((page.clone(), block.to_owned()));
        }
    }
    blocks
}

#[test]
fn every_example_in_the_documents_is_right() {
    let blocks = blocks();
    assert!(blocks.len() >= 3, "where are the examples?");
    for (page, block) in blocks {
        let page = page.display();
        // Part of an agent or a listener may be shown; form is what counts there.
        let mut problems = Problems::default();
        read::read_file("example".as_ref(), &block, read::Scope::All, &mut problems);
        assert_eq!(problems.to_string(), "", "{page}:\n{block}");
        assert_eq!(schema_says(&block), [""; 0], "{page}:\n{block}");
        let secrets = ["there is no file that can be read", "is not set"];
        let said = load_text(&block).map_or_else(|wrong| wrong.to_string(), |_| String::new());
        let wrong = said.lines().filter(|line| !secrets.iter().any(|end| line.contains(end)));
        assert_eq!(wrong.collect::<Vec<_>>(), [""; 0], "{page}:\n{block}");
    }
}

#[test]
fn declared_defaults_are_the_true_ones() {
    let only_defaults = |keys: &'static [section::Key]| {
        let lines =
            keys.iter().filter_map(|key| Some(format!("{} = {}\n", key.name, key.default?)));
        lines.collect::<String>()
    };
    let agents = format!(
        "[agents.default]\nkind = \"openai\"\nbase_url = \"http://h\"\nmodel = \"m\"\n{}\
         [agents.claude]\nkind = \"anthropic\"\nmodel = \"m\"\n{}\
         [agents.parrot]\nkind = \"echo\"\n{}\
         [agents.shop]\nkind = \"command\"\ncommand = \"x\"\ndir = \"/\"\n{}",
        only_defaults(raw::ModelKeys::KEYS),
        only_defaults(raw::AnthropicKeys::KEYS),
        only_defaults(raw::EchoKeys::KEYS),
        only_defaults(raw::CommandKeys::KEYS),
    );
    let toml = format!(
        "{}[gateway]\n{}{agents}[channels.web]\n{}",
        only_defaults(raw::TopKeys::KEYS),
        only_defaults(raw::GatewayKeys::KEYS),
        only_defaults(raw::PolicyKeys::KEYS),
    );
    let bare = "[agents.default]\nkind = \"openai\"\nbase_url = \"http://h\"\nmodel = \"m\"\n\
                [agents.claude]\nkind = \"anthropic\"\nmodel = \"m\"\n\
                [agents.parrot]\nkind = \"echo\"\n\
                [agents.shop]\nkind = \"command\"\ncommand = \"x\"\ndir = \"/\"";
    let (typed, silent) = (load_text(&toml).unwrap(), load_text(bare).unwrap());
    assert_eq!(typed.policy("t", "parrot", "web"), silent.policy("t", "parrot", "web"));
    assert_eq!(typed.gateway, silent.gateway);
    assert_eq!(typed.agents, silent.agents);
    assert_eq!(typed.log, silent.log);
    assert_eq!((typed.listen, typed.shutdown_grace), (silent.listen, silent.shutdown_grace));
}
