//! Many small cases: what is typed, and what comes of it or what is said to it.

use std::path::PathBuf;
use std::time::Duration;

use turnkeep_core::policy::{AmbiguousDelivery, BusyPolicy, CHANNELS, WindowMode};

use super::problem::Problems;
use super::resolved::{ApiKey, LogFormat, OpenAiSettings};
use super::*;

/// What comes of this file, with nothing else set.
fn load_text(toml: &str) -> Result<Resolved, Problems> {
    load_layers(toml, &Env::default(), &[])
}

fn load_layers(
    toml: &str,
    env: &Env,
    keys: &[(&'static str, &str)],
) -> Result<Resolved, Problems> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("turnkeep.toml");
    std::fs::write(&path, toml).unwrap();
    let keys = keys.iter().map(|(key, text)| (*key, (*text).to_owned())).collect();
    load(&Flags { config: Some(path), keys }, env)
}

/// The file as given makes these complaints, one a line; none if it is right. The folder of the
/// file is left out.
fn check(toml: &str, expect: &str) {
    let said = load_text(toml).map_or_else(|problems| problems.to_string(), |_| String::new());
    let dir_less: Vec<&str> =
        said.lines().map(|line| line.find("turnkeep.toml:").map_or(line, |at| &line[at..])).collect();
    assert_eq!(dir_less.join("\n"), expect, "for\n{toml}");
}

fn check_policy(toml: &str, session: &str, expect: &[(&str, &str, &str)]) {
    let resolved = load_text(toml).unwrap();
    let parts: Vec<&str> = session.split(':').collect();
    let lines = resolved.explain(parts[0], parts[1], parts[2]).unwrap();
    for (key, value, layer) in expect {
        let line = lines.iter().find(|line| line.key == *key).unwrap();
        assert_eq!(line.value, *value, "{key} of {session}");
        assert!(line.layer.starts_with(layer), "{key} of {session}: {}", line.layer);
    }
}

#[test]
fn nothing_has_to_be_typed() {
    let env = Env::from([("HOME", "/home/anna")]);
    let resolved = load_layers("", &env, &[]).unwrap();
    assert_eq!(resolved.listen.to_string(), "127.0.0.1:7878");
    assert_eq!(resolved.data_dir, PathBuf::from("/home/anna/.local/share/turnkeep"));
    assert_eq!(resolved.shutdown_grace, Duration::from_secs(10));
    assert_eq!(resolved.log.format, LogFormat::Text);
    assert_eq!(resolved.gateway.connections_per_address_max, 10_000);
    assert_eq!(resolved.gateway.wait_max, Duration::from_secs(300));
    let Some(AgentSettings::Echo(echo)) = resolved.agents.get("default") else {
        panic!("no echo agent: {:?}", resolved.agents);
    };
    assert_eq!(echo.delay, Duration::from_millis(400));
    assert!(resolved.notes.is_empty(), "{:?}", resolved.notes);
}

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
        "turnkeep.toml:1: unknown key \"queue_ttl_seconds\"; it belongs in [gateway]",
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
    check("[agents]\nanna = \"echo\"", r#"turnkeep.toml:2: [agents.anna] must be a section, not "echo""#);
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
         collect, queue, reject, agent, not \"absrob\"",
    );
    check(
        "listen = 7878",
        "turnkeep.toml:1: \"listen\" must be an address and a port, like \"127.0.0.1:7878\", not \
         7878",
    );
    check(
        "log_text = \"yes\"",
        "turnkeep.toml:1: \"log_text\" must be true or false, not \"yes\"",
    );
    check("data_dir = []", "turnkeep.toml:1: \"data_dir\" must be a path, not a list");
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
    check(
        "\n[channels.web]\nwindow_ms = true\nbusy = 1\n[agents.a]\ndelay_ms = 1\n[gateway]\nx = 1\n",
        "turnkeep.toml:3: \"window_ms\" in [channels.web] must be a whole number from 0 to 60000, \
         not true\n\
         turnkeep.toml:4: unknown key \"busy\" in [channels.web]; did you mean \"busy_policy\"?\n\
         turnkeep.toml:5: [agents.a] needs kind = \"echo\" or \"openai\"\n\
         turnkeep.toml:8: unknown key \"x\" in [gateway]; known are rate_limiting_enabled, \
         abuse_detection_enabled, message_queue_enabled, fallback_to_sync, queue_ttl_seconds, \
         max_queue_size_per_session, message_bytes_max, body_bytes_max, connections_max, \
         connections_per_address_max, header_timeout_seconds, wait_seconds_max",
    );
}

#[test]
fn slips_of_the_pen_have_a_line() {
    let said = load_text("log_text = true\nlisten = \n[gateway\n").unwrap_err().to_string();
    assert!(said.contains("turnkeep.toml:2: "), "{said}");
    let said = load_text("log_text = true\nlog_text = true\n").unwrap_err().to_string();
    assert!(said.contains("turnkeep.toml:2: duplicate key"), "{said}");
}

#[test]
fn only_own_addresses_are_listened_on() {
    check("listen = \"[::1]:0\"", "");
    check("listen = \"localhost:7878\"", "");
    check("listen = \"[::ffff:127.0.0.1]:7878\"", "");
    check(
        "listen = \"0.0.0.0:80\"",
        "turnkeep.toml:1: \"listen\" is 0.0.0.0:80, which other machines can reach, and there are \
         no API keys yet: anybody could read and write every conversation. Listen on 127.0.0.1:80 \
         and let a proxy that checks who is asking stand in front of it",
    );
    let said = load_layers("", &Env::from([("TURNKEEP_LISTEN", "[::]:80")]), &[]).unwrap_err();
    assert!(said.to_string().starts_with("TURNKEEP_LISTEN: "), "{said}");
}

#[test]
fn flags_win_over_variables_over_the_file() {
    let file = "listen = \"127.0.0.1:1\"\nlog_level = \"warn\"\n[gateway]\nconnections_max = 5\n";
    let env = Env::from([
        ("TURNKEEP_LISTEN", "127.0.0.1:2"),
        ("TURNKEEP_LOG_LEVEL", "debug"),
        ("TURNKEEP_LOG_TEXT", "1"),
        ("TURNKEEP_LOG_FORMAT", ""),
        ("TURNKEEP_GATEWAY_CONNECTIONS_MAX", "7"),
    ]);
    let resolved = load_layers(file, &env, &[("listen", "127.0.0.1:3")]).unwrap();
    assert_eq!(resolved.listen.port(), 3);
    assert_eq!(resolved.log.level, "debug");
    assert!(resolved.log.text);
    assert_eq!(resolved.gateway.connections_max, 7);
    assert_eq!(resolved.gateway.connections_per_address_max, 7);
    let resolved = load_text(file).unwrap();
    assert_eq!((resolved.listen.port(), resolved.gateway.connections_max), (1, 5));
}

#[test]
fn wrong_variables_are_named() {
    let env = Env::from([
        ("TURNKEEP_GATEWAY_CONNECTIONS_MAX", "many"),
        ("TURNKEEP_LOG_FORMAT", "xml"),
    ]);
    let said = load_layers("", &env, &[]).unwrap_err();
    assert_eq!(
        said.to_string(),
        "TURNKEEP_GATEWAY_CONNECTIONS_MAX: must be a whole number from 1 to 1000000, not \
         \"many\"\n\
         TURNKEEP_LOG_FORMAT: must be one of text, json, not \"xml\""
    );
    let env = Env::from([("TURNKEEP_LISTN", "x"), ("TURNKEEP_PORT", "tcp://10.0.0.1:80")]);
    let notes = load_layers("", &env, &[]).unwrap().notes;
    assert_eq!(
        notes,
        [r#"TURNKEEP_LISTN: no such variable; did you mean "TURNKEEP_LISTEN"?"#]
    );
}

#[test]
fn files_that_are_named_have_to_be_there() {
    let flags = Flags { config: Some("/nowhere/t.toml".into()), keys: Vec::new() };
    let said = load(&flags, &Env::default()).unwrap_err().to_string();
    assert!(said.starts_with("--config: can't read /nowhere/t.toml: "), "{said}");
    let env = Env::from([("TURNKEEP_CONFIG", "/nowhere/t.toml")]);
    let said = load(&Flags::default(), &env).unwrap_err().to_string();
    assert!(said.starts_with("TURNKEEP_CONFIG: can't read /nowhere/t.toml: "), "{said}");
}

#[test]
fn the_users_own_file_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("turnkeep");
    std::fs::create_dir(&base).unwrap();
    std::fs::write(base.join("turnkeep.toml"), "data_dir = \"here\"\nlog_text = true").unwrap();
    let env = Env::from([("XDG_CONFIG_HOME", dir.path().to_str().unwrap())]);
    let resolved = load(&Flags::default(), &env).unwrap();
    assert!(resolved.log.text);
    assert_eq!(resolved.source, Some(base.join("turnkeep.toml")));
    assert_eq!(resolved.data_dir, base.join("here"));
}

#[test]
fn data_folders_follow_the_rules_of_the_desktop() {
    let check = |env: Env, expect: &str| {
        let place = locate(&Flags::default(), &env).unwrap();
        assert_eq!(place.data_dir, PathBuf::from(expect));
    };
    check(Env::default(), "./turnkeep-data");
    check(Env::from([("HOME", "")]), "./turnkeep-data");
    check(Env::from([("XDG_DATA_HOME", "/d"), ("HOME", "/h")]), "/d/turnkeep");
    check(Env::from([("XDG_DATA_HOME", "relative"), ("HOME", "/h")]), "/h/.local/share/turnkeep");
    check(Env::from([("TURNKEEP_DATA_DIR", "~/x"), ("HOME", "/h")]), "/h/x");
    check(Env::from([("TURNKEEP_DATA_DIR", "x"), ("HOME", "/h")]), "x");
}

#[test]
fn clients_forgive_what_does_not_concern_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.toml");
    std::fs::write(&path, "listen = \"127.0.0.1:9\"\n[channels.web]\nwindow_m = 1").unwrap();
    let place = locate(&Flags { config: Some(path), keys: Vec::new() }, &Env::default()).unwrap();
    assert_eq!(place.listen.port(), 9);
}

const LAYERS: &str = r#"
[gateway]
max_queue_size_per_session = 7
queue_ttl_seconds = 60
[tenants.acme]
busy_policy = "queue"
errors_max = 1
max_queue_size = 8
[agents.default]
kind = "echo"
busy_policy = "reject"
[agents.default.policy]
window_ms = 42
[agents.other]
kind = "echo"
[channels.web]
window_ms = 43
"#;

#[test]
fn channel_wins_over_agent_over_tenant_over_gateway() {
    check_policy(LAYERS, "acme:default:web", &[
        ("window_ms", "43", "[channels.web] ("),
        ("busy_policy", "\"reject\"", "[agents.default] ("),
        ("errors_max", "1", "[tenants.acme] ("),
        ("max_queue_size", "8", "[tenants.acme] ("),
        ("queue_ttl_seconds", "60", "[gateway] ("),
        ("window_mode", "\"adaptive\"", "built in"),
    ]);
    check_policy(LAYERS, "someone:other:api", &[
        ("window_ms", "0", "built in"),
        ("busy_policy", "\"collect\"", "built in"),
        ("max_queue_size", "7", "[gateway] ("),
    ]);
    let resolved = load_text(LAYERS).unwrap();
    assert!(resolved.policy("acme", "nobody", "web").is_none());
    assert!(resolved.policy("acme", "default", "pigeon").is_none());
    let policy = resolved.policy("acme", "default", "web").unwrap();
    assert_eq!((policy.window_ms, policy.busy), (43, BusyPolicy::Reject));
    assert_eq!((policy.queue_ttl_ms, policy.inbox_max), (60_000, 8));
    check(
        "[agents.a]\nkind = \"echo\"\nwindow_ms = 1\n[agents.a.policy]\nwindow_ms = 2",
        "turnkeep.toml:5: \"window_ms\" in [agents.a.policy] is set twice",
    );
}

/// Every policy key reaches the field it is named after: what is shown of a policy, typed into a
/// file, gives the same policy on any channel.
#[test]
fn shown_policies_can_be_typed_again() {
    for facts in CHANNELS {
        let mut policy = turnkeep_core::Policy::built_in(facts);
        policy.busy = BusyPolicy::Agent;
        policy.window_mode = WindowMode::Fixed;
        policy.ambiguous = AmbiguousDelivery::Dead;
        let numbers: [&mut u32; 8] = [
            &mut policy.window_ms,
            &mut policy.window_total_ms,
            &mut policy.inbox_max,
            &mut policy.absorbed_max,
            &mut policy.supersedes_max,
            &mut policy.errors_max,
            &mut policy.delivery_tries_max,
            &mut policy.reply_bytes_max,
        ];
        for (number, value) in numbers.into_iter().zip(71..) {
            *number = value;
        }
        let times: [&mut u64; 7] = [
            &mut policy.queue_ttl_ms,
            &mut policy.error_backoff_ms,
            &mut policy.question_ms,
            &mut policy.input_ms,
            &mut policy.turn_ms,
            &mut policy.silence_ms,
            &mut policy.delivery_backoff_ms,
        ];
        for (time, value) in times.into_iter().zip(11..) {
            *time = value * 1000;
        }
        let lines = policy::shown(&policy);
        let mut toml = format!("[channels.{}]\n", facts.name);
        for (key, value) in &lines {
            toml.push_str(&format!("{key} = {value}\n"));
        }
        let again = load_text(&toml).unwrap().policy("t", "default", facts.name).unwrap();
        assert_eq!(again, policy);
        let keys: Vec<&str> = raw::PolicyKeys::KEYS.iter().map(|key| key.name).collect();
        assert_eq!(lines.iter().map(|line| line.0).collect::<Vec<_>>(), keys);
    }
}

#[test]
fn spools_are_for_channels_that_are_pushed_to() {
    let resolved = load_text("[channels.signal]\nspool = \"/tmp/s.jsonl\"").unwrap();
    assert_eq!(resolved.spools.get("signal"), Some(&PathBuf::from("/tmp/s.jsonl")));
    check(
        "[channels.web]\nspool = \"x\"",
        "turnkeep.toml:2: \"spool\" in [channels.web] would stay empty: clients of web fetch \
         their replies themselves; it is for signal, whatsapp, sms, email, voice",
    );
}

#[test]
fn agents_have_the_keys_of_their_kind() {
    check(
        "[agents.a]\nkind = \"echo\"\nmodel = \"m\"",
        "turnkeep.toml:3: \"model\" in [agents.a] is for kind = \"openai\"; this agent's kind is \
         \"echo\"",
    );
    check(
        "[agents.a]\nkind = \"openai\"\ndelay_ms = 1",
        "turnkeep.toml:1: [agents.a] needs \"base_url\"\n\
         turnkeep.toml:1: [agents.a] needs \"model\"\n\
         turnkeep.toml:3: \"delay_ms\" in [agents.a] is for kind = \"echo\"; this agent's kind is \
         \"openai\"",
    );
    check(
        "[agents.a]\nkind = \"eko\"",
        "turnkeep.toml:1: [agents.a] needs kind = \"echo\" or \"openai\"\n\
         turnkeep.toml:2: \"kind\" in [agents.a] must be one of echo, openai, not \"eko\"",
    );
    let notes = load_text("[agents.a]\nkind = \"echo\"").unwrap().notes;
    assert_eq!(notes, ["no agent is called \"default\": messages that name no agent are refused"]);
}

fn openai(extra: &str, env: &Env) -> Result<OpenAiSettings, Problems> {
    let head = "[agents.default]\nkind = \"openai\"\nbase_url = \"http://h/v1/\"\nmodel = \"m\"\n";
    let mut resolved = load_layers(&format!("{head}{extra}"), env, &[])?;
    match resolved.agents.remove("default") {
        Some(AgentSettings::OpenAi(settings)) => Ok(settings),
        other => panic!("{other:?}"),
    }
}

#[test]
fn models_have_sensible_bounds() {
    let settings = openai("max_concurrency = 0\ntemperature = 1", &Env::default()).unwrap();
    assert_eq!(settings, OpenAiSettings {
        base_url: "http://h/v1".into(),
        model: "m".into(),
        system_prompt: None,
        api_key: None,
        temperature: Some(1.0),
        tokens_max: None,
        history_messages_max: 50,
        history_tokens_max: 8000,
        concurrency_max: None,
        timeout: Duration::from_secs(120),
        retries_max: 2,
    });
}

#[test]
fn keys_come_from_variables_or_private_files() {
    let expose = |settings: &OpenAiSettings| settings.api_key.as_ref().map(ApiKey::expose).map(String::from);
    let env = Env::from([("KEY", " abc\n")]);
    let settings = openai("api_key_env = \"KEY\"", &env).unwrap();
    assert_eq!(expose(&settings).as_deref(), Some("abc"));
    assert!(!format!("{settings:?}").contains("abc"));
    let said = openai("api_key_env = \"KEY\"", &Env::default()).unwrap_err().to_string();
    assert!(said.ends_with("names KEY, which is not set"), "{said}");
    let said = openai("api_key_env = \"KEY\"\napi_key_file = \"f\"", &env).unwrap_err().to_string();
    assert!(said.ends_with("exclude each other"), "{said}");

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let extra = format!("api_key_file = {:?}", path.to_str().unwrap());
    let said = openai(&extra, &env).unwrap_err().to_string();
    assert!(said.contains("can't read"), "{said}");
    std::fs::write(&path, "xyz\n").unwrap();
    let mode = |mode| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o604);
    let said = openai(&extra, &env).unwrap_err().to_string();
    assert!(said.contains("is open to everybody on this machine; chmod 600 it"), "{said}");
    mode(0o600);
    assert_eq!(expose(&openai(&extra, &env).unwrap()).as_deref(), Some("xyz"));
}

#[test]
fn what_comes_later_is_said() {
    let toml = "[gateway]\nrate_limiting_enabled = true\nabuse_detection_enabled = false\n\
                message_queue_enabled = false\nfallback_to_sync = true";
    let notes = load_text(toml).unwrap().notes;
    let tails: Vec<&str> = notes.iter().filter_map(|note| note.split(".toml:").nth(1)).collect();
    assert_eq!(tails, [
        "2: rate_limiting_enabled = true is not in effect yet",
        "4: message_queue_enabled = false is not in effect yet",
        "5: fallback_to_sync = true is not in effect yet",
    ]);
}

#[test]
fn bodies_hold_their_messages() {
    check(
        "[gateway]\nbody_bytes_max = 2048",
        "turnkeep.toml:2: a message may have message_bytes_max = 65536 bytes, but the request \
         that brings it only body_bytes_max = 2048",
    );
}

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
    let raw = read::read_file("example".as_ref(), &switched_on(), &mut problems);
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
        let lines = keys.iter().filter_map(|key| Some(format!("{} = {}\n", key.name, key.default?)));
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
