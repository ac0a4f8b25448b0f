//! The example and the declared defaults are true.

use super::{check, load_text};
use crate::config::problem::Problems;
use crate::config::{example, raw, read, section};

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
    typed(&raw.agents["default"].openai);
    typed(&raw.agents["parrot"].echo);
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
         [agents.parrot]\nkind = \"echo\"\n{}",
        only_defaults(raw::OpenAiKeys::KEYS),
        only_defaults(raw::EchoKeys::KEYS),
    );
    let toml = format!(
        "{}[gateway]\n{}{agents}[channels.web]\n{}",
        only_defaults(raw::TopKeys::KEYS),
        only_defaults(raw::GatewayKeys::KEYS),
        only_defaults(raw::PolicyKeys::KEYS),
    );
    let bare = "[agents.default]\nkind = \"openai\"\nbase_url = \"http://h\"\nmodel = \"m\"\n\
                [agents.parrot]\nkind = \"echo\"";
    let (typed, silent) = (load_text(&toml).unwrap(), load_text(bare).unwrap());
    assert_eq!(typed.policy("t", "parrot", "web"), silent.policy("t", "parrot", "web"));
    assert_eq!(typed.gateway, silent.gateway);
    assert_eq!(typed.agents, silent.agents);
    assert_eq!(typed.log, silent.log);
    assert_eq!((typed.listen, typed.shutdown_grace), (silent.listen, silent.shutdown_grace));
}
