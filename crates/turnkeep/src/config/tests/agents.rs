//! Agents, channels and switches: what contradicts itself and what is read from elsewhere.

use std::path::PathBuf;
use std::time::Duration;

use super::{check, load_layers, load_text};
use crate::config::command::CommandSettings;
use crate::config::http_brain::HttpBrainSettings;
use crate::config::model::{ModelSettings, Thinking};
use crate::config::problem::Problems;
use crate::config::secret::ApiKey;
use crate::config::{AgentSettings, Env};

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
        "turnkeep.toml:3: \"model\" in [agents.a] is for kind = \"openai\" or \"anthropic\"; this \
         agent's kind is \"echo\"",
    );
    check(
        "[agents.a]\nkind = \"openai\"\ndelay_ms = 1",
        "turnkeep.toml:1: [agents.a] needs \"base_url\"\n\
         turnkeep.toml:1: [agents.a] needs \"model\"\n\
         turnkeep.toml:3: \"delay_ms\" in [agents.a] is for kind = \"echo\"; this agent's kind is \
         \"openai\"",
    );
    check(
        "[agents.a]\nkind = \"ecoh\"",
        "turnkeep.toml:2: \"kind\" in [agents.a] must be one of echo, openai, anthropic, command, \
         http, not \"ecoh\"; did you mean \"echo\"?",
    );
    check(
        "[agents.a]\nkind = \"openai\"\nmodel = \"m\"\n\
         base_url = \"https://h/v1/chat/completions/\"",
        "turnkeep.toml:4: \"base_url\" in [agents.a] must end before /chat/completions, which is \
         put behind it; it looks like \"https://api.openai.com/v1\"",
    );
    let notes = load_text("[agents.a]\nkind = \"echo\"").unwrap().notes;
    assert_eq!(notes, ["no agent is called \"default\": messages that name no agent are refused"]);
}

fn openai(extra: &str, env: &Env) -> Result<ModelSettings, Problems> {
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
    assert_eq!(
        settings,
        ModelSettings {
            base_url: "http://h/v1".into(),
            model: "m".into(),
            system_prompt: None,
            version: None,
            fallback: None,
            models: Vec::new(),
            api_key: None,
            temperature: Some(1.0),
            tokens_max: None,
            tools: Vec::new(),
            history_messages_max: 50,
            history_tokens_max: 8000,
            concurrency_max: None,
            timeout: Duration::from_secs(120),
            retries_max: 2,
        }
    );
}

#[test]
fn whoever_stands_in_for_a_model_asks_one_too() {
    let fallback = |name: &str, more: &str| {
        let extra = format!("fallback = {name:?}\nversion = \"3\"\n[agents.other]\n{more}");
        openai(&extra, &Env::default())
    };
    let model = "kind = \"anthropic\"\nmodel = \"c\"";
    let settings = fallback("other", model).unwrap();
    assert_eq!(settings.fallback.as_deref(), Some("other"));
    assert_eq!(settings.version.as_deref(), Some("3"));
    let choice = |name: &str, more: &str| {
        openai(&format!("models = [{name:?}]\n[agents.other]\n{more}"), &Env::default())
    };
    assert_eq!(choice("other", model).unwrap().models, ["other"]);
    let said = choice("nobody", model).unwrap_err().to_string();
    assert!(said.ends_with("\"models\" in [agents.default]: \"nobody\" is no agent"), "{said}");
    for (name, more, what) in [
        ("default", model, "\"default\" is the agent itself"),
        ("other", "kind = \"echo\"", "\"other\" asks no model"),
        ("nobody", model, "\"nobody\" is no agent"),
    ] {
        let said = fallback(name, more).unwrap_err().to_string();
        let expected = format!("turnkeep.toml:5: \"fallback\" in [agents.default]: {what}");
        assert!(said.ends_with(&expected), "{said}");
    }
}

#[test]
fn claude_needs_no_more_than_a_name() {
    let anthropic = |extra: &str| {
        let head = "[agents.default]\nkind = \"anthropic\"\nmodel = \"c\"\n";
        let mut resolved = load_text(&format!("{head}{extra}")).unwrap();
        match resolved.agents.remove("default") {
            Some(AgentSettings::Anthropic(settings)) => settings,
            other => panic!("{other:?}"),
        }
    };
    let settings = anthropic("");
    assert_eq!(settings.model.base_url, "https://api.anthropic.com");
    assert_eq!(settings.model.tokens_max, Some(4096));
    assert_eq!((settings.cache, settings.thinking), (true, Thinking::Unsaid));
    let settings = anthropic("thinking_budget_tokens = 2000\ncache = false");
    assert_eq!(settings.model.tokens_max, Some(6096));
    assert_eq!((settings.cache, settings.thinking), (false, Thinking::Budget(2000)));
    let settings = anthropic("adaptive_thinking = true\nbase_url = \"http://h/\"");
    assert_eq!((&*settings.model.base_url, settings.thinking), ("http://h", Thinking::Adaptive));
    assert_eq!(anthropic("adaptive_thinking = false").thinking, Thinking::Unsaid);
    let notes = |extra: &str| {
        let head = "[agents.default]\nkind = \"anthropic\"\nmodel = \"c\"\n";
        load_layers(&format!("{head}{extra}"), &Env::from([("KEY", "k")]), &[]).unwrap().notes
    };
    let note = "[agents.default] has no \"api_key_env\" and no \"api_key_file\"; \
                https://api.anthropic.com answers nobody without a key";
    assert_eq!(notes(""), [note]);
    assert_eq!(notes("api_key_env = \"KEY\""), [""; 0]);
    assert_eq!(notes("base_url = \"http://h\""), [""; 0]);
    let wrong = |lines: &str, said: &str| {
        check(&format!("[agents.a]\nkind = \"anthropic\"\nmodel = \"c\"\n{lines}"), said);
    };
    wrong(
        "base_url = \"https://api.anthropic.com/v1/messages\"",
        "turnkeep.toml:4: \"base_url\" in [agents.a] must end before /v1/messages, which is put \
         behind it; it looks like \"https://api.anthropic.com\"",
    );
    wrong(
        "temperature = 1.5",
        "turnkeep.toml:4: \"temperature\" in [agents.a] is at most 1 with kind = \"anthropic\"",
    );
    wrong(
        "temperature = 1\nadaptive_thinking = true\nthinking_budget_tokens = 2000\nmax_tokens = 2000",
        "turnkeep.toml:4: \"temperature\" in [agents.a] can't be set for a model that thinks\n\
         turnkeep.toml:6: \"adaptive_thinking\" and \"thinking_budget_tokens\" in [agents.a] exclude \
         each other\n\
         turnkeep.toml:6: \"thinking_budget_tokens\" in [agents.a] must be less than max_tokens = \
         2000, which it is part of",
    );
    check(
        "[agents.a]\nkind = \"openai\"\nbase_url = \"http://h\"\nmodel = \"m\"\ncache = true",
        "turnkeep.toml:5: \"cache\" in [agents.a] is for kind = \"anthropic\"; this agent's kind is \
         \"openai\"",
    );
}

#[test]
fn keys_come_from_variables_or_private_files() {
    let expose =
        |settings: &ModelSettings| settings.api_key.as_ref().map(ApiKey::expose).map(String::from);
    let env = Env::from([("KEY", " abc\n")]);
    let settings = openai("api_key_env = \"KEY\"", &env).unwrap();
    assert_eq!(expose(&settings).as_deref(), Some("abc"));
    assert!(!format!("{settings:?}").contains("abc"));
    let said = openai("api_key_env = \"KEY\"", &Env::default()).unwrap_err().to_string();
    assert!(said.ends_with("\"api_key_env\" in [agents.default]: KEY is not set"), "{said}");
    let said = openai("api_key_env = \"KEY\"\napi_key_file = \"f\"", &env).unwrap_err().to_string();
    assert!(said.ends_with("exclude each other"), "{said}");

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let extra = format!("api_key_file = {:?}", path.to_str().unwrap());
    let said = openai(&extra, &env).unwrap_err().to_string();
    assert!(said.contains("there is no file that can be read"), "{said}");
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

/// Whoever typed a key wrongly made one mistake, and whoever names the agent made none.
#[test]
fn a_mistake_is_told_once() {
    check(
        "[agents.a]\nkind = \"http\"\nurl = \"ftp://h\"\nsecret_env = 1\n\
         [budgets]\non_exceeded = \"degrade\"\ndegrade_to = \"a\"",
        "turnkeep.toml:3: \"url\" in [agents.a] must be an address that begins with http:// or \
         https://, without a password in it, not \"ftp://h\"\n\
         turnkeep.toml:4: \"secret_env\" in [agents.a] must be a text or a list of texts",
    );
    check(
        "[agents.a]\nkind = \"openai\"\nbase_url = \"h\"\nmodel = 1",
        "turnkeep.toml:3: \"base_url\" in [agents.a] must be an address that begins with http:// or \
         https://, not \"h\"\n\
         turnkeep.toml:4: \"model\" in [agents.a] must be a text that is not empty, not 1",
    );
    check(
        "[agents.a]\nkind = \"command\"\ncommand = []",
        "turnkeep.toml:3: \"command\" in [agents.a] must be a text or a list of texts, not an empty \
         list",
    );
    check(
        "[guard]\nmoderation_url = 1\nmoderation_timeout_ms = 500",
        "turnkeep.toml:2: \"moderation_url\" in [guard] must be an address that begins with http:// \
         or https://, without a password in it, not 1",
    );
    check(
        "[tools.shop]\ncommand = 1",
        "turnkeep.toml:2: \"command\" in [tools.shop] must be a text or a list of texts, not 1",
    );
}

/// A program that is not there now may be there later: no mistake.
#[test]
fn a_program_that_is_missing_is_noted() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display().to_string();
    let file = |name: &str, mode: u32| {
        let path = dir.path().join(name);
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    file("brain", 0o700);
    file("notes", 0o600);
    let env = Env::from([("PATH", path.as_str())]);
    let notes = |section: &str| {
        let model = "kind = \"openai\"\nbase_url = \"http://h\"\nmodel = \"m\"\n";
        let text = format!("[agents.default]\n{model}\n{section}");
        let notes = load_layers(&text, &env, &[]).unwrap().notes;
        notes.into_iter().filter(|note| note.contains("\"command\"")).collect::<Vec<_>>()
    };
    let tools = |command: &str| notes(&format!("tools = \"t.*\"\n[tools.t]\ncommand = {command}"));
    assert_eq!(tools("\"brain\""), [""; 0]);
    let [note] = &tools("[\"brian\", \"x\"]")[..] else { panic!("one note") };
    let said = format!(
        "turnkeep.toml:8: \"command\" in [tools.t]: no program \"brian\" is in the PATH, which is \
         {path:?}"
    );
    assert!(note.ends_with(&said), "{note}");
    let [note] = &tools("\"notes\"")[..] else { panic!("one note") };
    assert!(note.contains("no program \"notes\" is in the PATH"), "{note}");
    let [note] = &tools("\"./notes\"")[..] else { panic!("one note") };
    assert!(note.ends_with("/notes is no file that can be started"), "{note}");
    let agent =
        |more: &str| notes(&format!("[agents.a]\nkind = \"command\"\ncommand = \"brain\"\n{more}"));
    assert_eq!(agent(""), [""; 0]);
    // Its own PATH is the one that counts.
    let [note] = &agent("env = { PATH = \"/nowhere\" }")[..] else { panic!("one note") };
    assert!(note.ends_with("is in the PATH, which is \"/nowhere\""), "{note}");
}

fn command(extra: &str) -> Result<CommandSettings, Problems> {
    let head = "[agents.default]\nkind = \"command\"\n";
    let mut resolved =
        load_layers(&format!("{head}{extra}"), &Env::from([("HOME", "/home/a")]), &[])?;
    match resolved.agents.remove("default") {
        Some(AgentSettings::Command(settings)) => Ok(settings),
        other => panic!("{other:?}"),
    }
}

#[test]
fn programs_are_started_as_typed() {
    let settings = command("command = [\"python3\", \"a b.py\"]").unwrap();
    assert_eq!(settings.command, ["python3", "a b.py"]);
    assert_eq!((settings.processes_max, settings.env.len()), (4, 0));
    assert!(settings.dir.is_absolute(), "{:?}", settings.dir);
    let settings = command("command = \"./brain\"\ndir = \"~/shop\"").unwrap();
    assert!(settings.command[0].starts_with('/') && settings.command[0].ends_with("/brain"));
    assert_eq!(settings.dir, PathBuf::from("/home/a/shop"));
    check("[agents.a]\nkind = \"command\"", "turnkeep.toml:1: [agents.a] needs \"command\"");
    check(
        "[agents.a]\nkind = \"command\"\ncommand = \"python3 brain.py\"\ndelay_ms = 1",
        "turnkeep.toml:3: \"command\" in [agents.a] is started without a shell; it must be a list, \
         like [\"python3\", \"brain.py\"]\n\
         turnkeep.toml:4: \"delay_ms\" in [agents.a] is for kind = \"echo\"; this agent's kind is \
         \"command\"",
    );
    check(
        "[agents.a]\nkind = \"command\"\ncommand = \"x\"\nenv = { \"A=\" = \"hidden\" }",
        "turnkeep.toml:4: \"A=\" in [agents.a.env] is no name of a variable: letters, digits and _, no \
         digit first",
    );
}

#[test]
fn a_program_gets_its_secrets_from_private_files() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    std::fs::write(&path, "xyz\n").unwrap();
    let mode = |mode| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let extra = format!("command = \"x\"\nenv = {{ A = \"b\" }}\nenv_files = {{ KEY = {path:?} }}");
    mode(0o644);
    let said = command(&extra).unwrap_err().to_string();
    assert!(said.contains("KEY in \"env_files\" in [agents.default]: "), "{said}");
    assert!(said.ends_with("is open to everybody on this machine; chmod 600 it"), "{said}");
    mode(0o600);
    let settings = command(&extra).unwrap();
    assert_eq!(settings.secrets["KEY"].expose(), "xyz");
    assert_eq!(settings.env["A"], "b");
    assert!(!format!("{settings:?}").contains("xyz"));
    let twice = extra.replace("A =", "KEY =");
    let said = command(&twice).unwrap_err().to_string();
    assert!(
        said.ends_with("KEY stands in both \"env\" and \"env_files\" in [agents.default]"),
        "{said}"
    );
}

fn http_brain(extra: &str) -> Result<(HttpBrainSettings, Vec<String>), Problems> {
    let secret = format!("whsec_{}", "A".repeat(32));
    let env =
        Env::from([("OLD", secret.as_str()), ("NEW", secret.as_str()), ("SHORT", "whsec_AA")]);
    let head = "[agents.default]\nkind = \"http\"\n";
    let mut resolved = load_layers(&format!("{head}{extra}"), &env, &[])?;
    match resolved.agents.remove("default") {
        Some(AgentSettings::Http(settings)) => Ok((settings, resolved.notes)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn brains_over_http_have_an_address_and_secrets() {
    let extra = "url = \"https://h/turns\"\nsecret_env = [\"NEW\", \"OLD\"]";
    let (settings, notes) = http_brain(extra).unwrap();
    assert_eq!((&*settings.url, settings.connections_max), ("https://h/turns", 256));
    assert_eq!(settings.secrets.len(), 2);
    assert_eq!(settings.origin(), "https://h");
    assert_eq!(notes, [""; 0]);
    assert!(!format!("{settings:?}").contains("[0, 0"), "{settings:?}");
    for here in ["127.0.0.1:9000", "[::1]", "localhost:9000"] {
        let (_, notes) =
            http_brain(&format!("url = \"http://{here}/\"\nsecret_env = \"OLD\"")).unwrap();
        assert_eq!(notes, [""; 0], "{here}");
    }
    let (_, notes) = http_brain("url = \"http://brain:9000\"\nsecret_env = \"OLD\"").unwrap();
    let note = "\"url\" in [agents.default] is not https: whoever is between this machine and brain \
                can read the conversations";
    assert!(notes.len() == 1 && notes[0].ends_with(note), "{notes:?}");
    let said = http_brain("url = \"https://h\"\nsecret_env = \"SHORT\"").unwrap_err().to_string();
    assert!(
        said.contains("\"secret_env\" in [agents.default]: it must be whsec_ and 24 to 64"),
        "{said}"
    );
    check(
        "[agents.a]\nkind = \"http\"\nprocesses_max = 1",
        "turnkeep.toml:1: [agents.a] needs \"secret_file\" or \"secret_env\"\n\
         turnkeep.toml:1: [agents.a] needs \"url\"\n\
         turnkeep.toml:3: \"processes_max\" in [agents.a] is for kind = \"command\"; this agent's \
         kind is \"http\"",
    );
}

#[test]
fn every_key_of_the_gateway_is_in_effect() {
    let toml = "[gateway]\nrate_limiting_enabled = true\nabuse_detection_enabled = false\n\
                message_queue_enabled = false\nfallback_to_sync = true";
    let resolved = load_text(toml).unwrap();
    let note = "/turnkeep.toml:5: \"fallback_to_sync\" has no effect without [hatchet]: there is no \
                workflow engine to fall back from";
    assert!(resolved.notes.len() == 1 && resolved.notes[0].ends_with(note), "{:?}", resolved.notes);
    assert!(load_text("[gateway]\nfallback_to_sync = false").unwrap().notes.is_empty());
    assert!(resolved.guard.rate_limiting && !resolved.guard.abuse_detection);
    assert!(!resolved.policy("t", "default", "web").unwrap().queues);
}

#[test]
fn bodies_hold_their_messages() {
    check(
        "[gateway]\nbody_bytes_max = 2048",
        "turnkeep.toml:2: a message may have message_bytes_max = 65536 bytes, but the request \
         that brings it only body_bytes_max = 2048",
    );
}

#[test]
fn a_worktree_is_a_table_with_a_repository() {
    let settings = command("command = \"x\"\nworktree = { repository = \"~/shop\" }").unwrap();
    let own = settings.worktrees.unwrap();
    assert_eq!((own.repository, own.worktrees_max), (PathBuf::from("/home/a/shop"), 32));
    assert_eq!((own.base, own.folder), (None, None));
    let all = "worktree = { repository = \"/r\", base = \"main\", folder = \"/w\" }";
    let settings = command(&format!("command = \"x\"\n{all}\nworktrees_max = 3")).unwrap();
    let own = settings.worktrees.unwrap();
    assert_eq!((own.base.as_deref(), own.folder), (Some("main"), Some(PathBuf::from("/w"))));
    assert_eq!(own.worktrees_max, 3);
    let wrong = |typed: &str, said: &str| {
        let head = "[agents.a]\nkind = \"command\"\ncommand = \"x\"";
        check(&format!("{head}\n{typed}"), said);
    };
    wrong(
        "worktree = { repo = \"/r\" }",
        "turnkeep.toml:4: \"repo\" in [agents.a.worktree] is not known there; there are \
         repository, base, folder",
    );
    wrong(
        "worktree = { repository = 1 }",
        "turnkeep.toml:4: \"repository\" in [agents.a.worktree] must be a text that is not empty, in \
         quotes",
    );
    wrong(
        "worktree = { repository = \"/r\", base = \"--force\" }",
        "turnkeep.toml:4: \"base\" in [agents.a.worktree] is no name of a commit",
    );
    wrong(
        "worktree = { base = \"main\" }",
        "turnkeep.toml:4: \"worktree\" in [agents.a] must be a table with a repository, like \
         { repository = \"/srv/shop\", base = \"main\" }, not a section",
    );
}
