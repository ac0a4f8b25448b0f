//! Names, places and values that are typed wrongly.

use super::{check, load_text};
use crate::config::raw;

#[test]
fn names_are_mended() {
    check("", "");
    check(
        "\n[channels.web]\nwindow_m = 5\n",
        r#"turnkeep.toml:3: unknown key "window_m" in [channels.web]; did you mean "window_ms"?"#,
    );
    check("lisen = \"x\"", r#"turnkeep.toml:1: unknown key "lisen"; did you mean "listen"?"#);
    check("[gatway]", r#"turnkeep.toml:1: unknown key "gatway"; did you mean "gateway"?"#);
    check("[channels.wep]", r#"turnkeep.toml:1: unknown channel "wep"; did you mean "web"?"#);
    check(
        "[channels.pigeon]",
        "turnkeep.toml:1: unknown channel \"pigeon\"; known are signal, web, terminal, whatsapp, \
         sms, email, voice, api",
    );
    check(
        "[agents.a]\nkind = \"openai\"\nbase_url = \"http://x\"\nmodel = \"m\"\napi_key = \"secret\"",
        r#"turnkeep.toml:5: unknown key "api_key" in [agents.a]; did you mean "api_key_env"?"#,
    );
}

#[test]
fn keys_in_the_wrong_place_are_sent_home() {
    check(
        "[gateway]\nlisten = \"127.0.0.1:1\"",
        "turnkeep.toml:2: unknown key \"listen\" in [gateway]; it belongs at the top of the file, \
         before any [section]",
    );
    check(
        "queue_ttl_seconds = 5",
        "turnkeep.toml:1: unknown key \"queue_ttl_seconds\"; it belongs in [gateway] or in \
         [channels.NAME], [agents.NAME] or [tenants.NAME]",
    );
    check(
        "[agents]\nkind = \"echo\"",
        "turnkeep.toml:2: \"kind\" in [agents] needs a name, as in [agents.NAME]",
    );
    check(
        "[gateway.agents]",
        "turnkeep.toml:1: unknown key \"agents\" in [gateway]; [agents] is a section of its own, \
         at the top of the file",
    );
    check("gateway = 7", "turnkeep.toml:1: [gateway] must be a section, not 7");
    check(
        "[agents]\nanna = \"echo\"",
        r#"turnkeep.toml:2: [agents.anna] must be a section, not "echo""#,
    );
}

#[test]
fn values_are_explained() {
    check(
        "[channels.web]\nwindow_ms = \"fast\"",
        "turnkeep.toml:2: \"window_ms\" in [channels.web] must be a whole number from 0 to 60000, \
         not \"fast\"",
    );
    for wrong in ["-1", "60001", "1.5", "true", "99999999999999999999"] {
        let toml = format!("[channels.web]\nwindow_ms = {wrong}");
        let said = load_text(&toml).unwrap_err().to_string();
        assert!(said.contains("must be a whole number from 0 to 60000"), "{wrong}: {said}");
    }
    check(
        "[tenants.acme]\nbusy_policy = \"absrob\"",
        "turnkeep.toml:2: \"busy_policy\" in [tenants.acme] must be one of absorb, supersede, \
         collect, queue, reject, agent, not \"absrob\"; did you mean \"absorb\"?",
    );
    check(
        "listen = 7878",
        "turnkeep.toml:1: \"listen\" must be an address and a port, like \"127.0.0.1:7878\", not \
         7878",
    );
    check("log_text = \"yes\"", "turnkeep.toml:1: \"log_text\" must be true or false, not \"yes\"");
    check("data_dir = []", "turnkeep.toml:1: \"data_dir\" must be a path, not an empty list");
    check(
        "log_level = \"inof\"",
        "turnkeep.toml:1: \"log_level\" must be one of off, error, warn, info, debug, trace, or \
         like \"info,turnkeep_gateway=debug\", not \"inof\"",
    );
    check("log_level = \"info,turnkeep=debug\"", "");
    check("[channels.web]\nwindow_ms = 0x10", "");
    check(
        "[agents.\"\"]\nkind = \"echo\"",
        "turnkeep.toml:1: the name of an agent has 1 to 128 bytes without control characters",
    );
}

#[test]
fn all_mistakes_are_told_in_order() {
    let known: Vec<&str> = raw::GatewayKeys::KEYS.iter().map(|key| key.name).collect();
    let known = known.join(", ");
    check(
        "\n[channels.web]\nwindow_ms = true\nbusy = 1\n[agents.a]\ndelay_ms = 1\n[gateway]\nx = 1\n",
        &format!(
            "turnkeep.toml:3: \"window_ms\" in [channels.web] must be a whole number from 0 to \
             60000, not true\n\
             turnkeep.toml:4: unknown key \"busy\" in [channels.web]; did you mean \
             \"busy_policy\"?\n\
             turnkeep.toml:5: [agents.a] needs kind = \"echo\", \"openai\", \"anthropic\", \"command\" or \
             \"http\"\n\
             turnkeep.toml:8: unknown key \"x\" in [gateway]; known are {known}"
        ),
    );
}

#[test]
fn slips_of_the_pen_have_a_line() {
    let said = load_text("log_text = true\nlisten = \n[gateway\n").unwrap_err().to_string();
    assert!(said.contains("turnkeep.toml:2: "), "{said}");
    let said = load_text("log_text = true\nlog_text = true\n").unwrap_err().to_string();
    assert!(said.contains("turnkeep.toml:2: duplicate key"), "{said}");
}
