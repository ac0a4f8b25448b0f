//! Servers of tools: where each is, and what holds for its tools.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use turnkeep_core::tool::SideEffects;

use super::command::{self, CommandSettings, Program};
use super::http_brain::is_here;
use super::pairs::Pairs;
use super::problem::{Origin, Problems, nearest, suggestion};
use super::raw::AgentRaw;
use super::resolved::{or, seconds};
use super::secret::{ApiKey, Named, Told, secret};
use super::value::{Endpoint, Range, Scalar, Set, Setting, Texts};

/// How long a call may take, if nothing else is typed.
const TIMEOUT_SECONDS: u64 = 60;
/// Longest pattern of names, and patterns of one table.
const PATTERN_BYTES_MAX: usize = 200;
const PATTERNS_MAX: usize = 1000;
/// What tools may do to the world, as it is typed.
const EFFECTS: [&str; 4] = ["pure", "idempotent", "compensatable", "irreversible"];
/// Longest name of a server.
const NAME_CHARS_MAX: usize = 32;

section! {
    /// One server of tools. Either `command` or `url` says where it is.
    struct ToolServerKeys {
        /// The program and its arguments, which speaks MCP over its standard input and output. No
        /// shell is asked; a program without a slash is looked for in PATH.
        command: Texts => "[\"npx\", \"-y\", \"@example/shop-mcp\"]";
        /// Where it is started; without it the file's own folder.
        dir: PathBuf => "\"/srv/shop\"";
        /// Its environment, beside PATH, HOME and LANG.
        env: Pairs => "{ SHOP = \"https://shop.example.org\" }";
        /// Variables whose values are secrets, and the file that holds each; refused if everybody on
        /// the machine can read it.
        env_files: Pairs => "{ SHOP_KEY = \"/etc/turnkeep/shop.key\" }";
        /// Where a server is that speaks MCP over streamable HTTP.
        url: Endpoint => "\"https://tools.example.org/mcp\"";
        /// The file that holds a token, which is sent along as a bearer token; refused if everybody
        /// on the machine can read it. This or `token_env`, or none.
        token_file: PathBuf => "\"/etc/turnkeep/tools.token\"";
        /// The environment variable that holds it.
        token_env: String => "\"TOOLS_TOKEN\"";
        /// How long one call may take. What it did is unknown then.
        timeout_seconds: u64 [1, 3600] = "60";
        /// What its tools do to the world: `pure` nothing, `idempotent` the same however often,
        /// `compensatable` something that another act takes back, `irreversible` something that
        /// stays. In a name `*` stands for anything, and the most exact name wins. A tool that is
        /// not named is irreversible.
        effects: EffectsTable => "{ \"get_*\" = \"pure\", cancel_order = \"irreversible\" }";
        /// Which argument tells one act of a tool from another, like an order's number, as a JSON
        /// pointer. Without one all arguments together do.
        keys: KeysTable => "{ cancel_order = \"/order_id\" }";
        /// Tools that are called only after the user said yes to it, each time.
        approval: Texts => "[\"cancel_order\"]";
        /// Believes what the server says of tools that `effects` does not name: that one only reads,
        /// or that it does the same however often.
        trust_annotations: bool = "false";
        /// A tool that says that it failed has done nothing, so that it may be called again. Without
        /// this nobody knows, unless it is pure.
        errors_mean_not_done: bool = "false";
    }
}

/// One server as typed.
#[derive(Clone, Debug)]
pub(super) struct ToolServerRaw {
    pub(super) at: Origin,
    pub(super) keys: ToolServerKeys,
}

/// A server of tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ToolServerSettings {
    /// How it is reached.
    pub(crate) way: ToolWay,
    /// For one call.
    pub(crate) timeout: Duration,
    /// What its tools do, by patterns of their names.
    pub(crate) effects: Vec<(String, SideEffects)>,
    /// The argument that names an act.
    pub(crate) keys: Vec<(String, String)>,
    /// What needs a person's yes.
    pub(crate) approval: Vec<String>,
    /// Whether its own word counts where nothing is said here.
    pub(crate) trust_annotations: bool,
    /// Whether what failed was certainly not done.
    pub(crate) errors_mean_not_done: bool,
}

impl ToolServerSettings {
    /// Where it is and what holds for its tools, without what may be secret.
    pub(crate) fn told(&self) -> String {
        let mut told = match &self.way {
            // Only the program: its arguments may be anything.
            ToolWay::Command(program) => {
                format!("{} in {}", program.command[0], program.dir.display())
            }
            ToolWay::Http(url, _) => reqwest::Url::parse(url)
                .map_or_else(|_| String::new(), |url| url.origin().ascii_serialization()),
        };
        told += &format!(", {} s", self.timeout.as_secs());
        let effects = self.effects.iter().map(|(name, effects)| (name, effects_word(*effects)));
        let rows: Vec<String> = effects.map(|(name, word)| format!("{name} {word}")).collect();
        let others =
            if self.trust_annotations { "others as it says" } else { "others irreversible" };
        told += &format!("; {}", [&rows[..], &[others.to_owned()]].concat().join(", "));
        if !self.approval.is_empty() {
            told += &format!("; the user is asked before {}", self.approval.join(", "));
        }
        told
    }
}

/// How a server is reached.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum ToolWay {
    /// As a process.
    Command(CommandSettings),
    /// Over HTTP, with a token if it wants one.
    Http(String, Option<ApiKey>),
}

impl fmt::Debug for ToolWay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(program) => program.fmt(formatter),
            Self::Http(..) => formatter.write_str("Http(…)"),
        }
    }
}

/// Every server there is.
pub(super) fn servers(
    raw: &BTreeMap<String, ToolServerRaw>,
    told: &mut Told<'_>,
) -> BTreeMap<String, ToolServerSettings> {
    let each = raw.iter().filter_map(|(name, server)| {
        check_name(name, &server.at, told.problems);
        Some((name.clone(), one(name, server, told)?))
    });
    each.collect()
}

/// It stands in front of its tools' names, and must be told from them.
fn check_name(name: &str, at: &Origin, problems: &mut Problems) {
    let plain = |one: char| one.is_ascii_alphanumeric() || matches!(one, '-' | '_');
    let ends = name.starts_with('_') || name.ends_with('_') || name.contains("__");
    if !(1..=NAME_CHARS_MAX).contains(&name.len()) || !name.chars().all(plain) || ends {
        let rule = format!(
            "1 to {NAME_CHARS_MAX} of a-z, A-Z, 0-9, - and _, with single _ only, and none at its \
             ends"
        );
        problems.add(at, format!("the name of a tool server has {rule}"));
    }
}

fn one(name: &str, raw: &ToolServerRaw, told: &mut Told<'_>) -> Option<ToolServerSettings> {
    let keys = &raw.keys;
    let place = format!("[tools.{name}]");
    let way = match (&keys.command, &keys.url) {
        (Some(_), Some(set)) => {
            let text = format!("\"command\" and \"url\" in {place} exclude each other");
            told.problems.add(&set.origin, text);
            None
        }
        (None, None) => {
            let text = format!("{place} needs \"command\" or \"url\"");
            told.problems.lacks(&place, &["command", "url"], &raw.at, &text);
            None
        }
        (Some(_), None) => process(&place, raw, told),
        (None, Some(url)) => Some(http(&place, url, keys, told)),
    };
    if let Some(set) = &keys.approval
        && let Some(strange) = set.value.0.iter().find(|name| !is_pattern(name))
    {
        let text = format!("\"approval\" in {place}: {strange:?} is no name of a tool");
        told.problems.add(&set.origin, text);
    }
    let approval = keys.approval.as_ref().map(|set| set.value.0.clone()).unwrap_or_default();
    Some(ToolServerSettings {
        way: way?,
        timeout: seconds(keys.timeout_seconds.as_ref(), TIMEOUT_SECONDS),
        effects: keys.effects.as_ref().map(|set| set.value.0.clone()).unwrap_or_default(),
        keys: keys.keys.as_ref().map(|set| set.value.0.clone()).unwrap_or_default(),
        approval,
        trust_annotations: or(keys.trust_annotations.as_ref(), false),
        errors_mean_not_done: or(keys.errors_mean_not_done.as_ref(), false),
    })
}

fn process(place: &str, raw: &ToolServerRaw, told: &mut Told<'_>) -> Option<ToolWay> {
    let keys = &raw.keys;
    let strange = [
        keys.token_file.as_ref().map(|set| ("token_file", &set.origin)),
        keys.token_env.as_ref().map(|set| ("token_env", &set.origin)),
    ];
    for (key, origin) in strange.into_iter().flatten() {
        told.problems.add(origin, format!("\"{key}\" in {place} is of no use without \"url\""));
    }
    let program = Program {
        place,
        at: &raw.at,
        command: keys.command.as_ref(),
        dir: keys.dir.as_ref(),
        stays: true,
        env: keys.env.as_ref(),
        env_files: keys.env_files.as_ref(),
    };
    command::program(&program, 1, told).map(ToolWay::Command)
}

fn http(place: &str, url: &Set<Endpoint>, keys: &ToolServerKeys, told: &mut Told<'_>) -> ToolWay {
    let strange = [
        keys.dir.as_ref().map(|set| ("dir", &set.origin)),
        keys.env.as_ref().map(|set| ("env", &set.origin)),
        keys.env_files.as_ref().map(|set| ("env_files", &set.origin)),
    ];
    for (key, origin) in strange.into_iter().flatten() {
        told.problems.add(origin, format!("\"{key}\" in {place} is of no use without \"command\""));
    }
    let named = Named {
        place,
        file: ("token_file", keys.token_file.as_ref()),
        env: ("token_env", keys.token_env.as_ref()),
    };
    let token = secret(&named, told).map(|(secret, _)| ApiKey(secret));
    let address = &url.value.0;
    if address.scheme() == "http" && !is_here(address) {
        told.notes.push(format!(
            "{}: \"url\" in {place} is not https: whoever is between this machine and {} can read \
             what tools are called with",
            url.origin,
            address.host_str().unwrap_or_default()
        ));
    }
    ToolWay::Http(address.to_string(), token)
}

/// Tools that need no server: reminders. A server of this name takes their place.
const BUILT_IN: &str = "reminders";

/// The tools that an agent names: `SERVER.TOOL`, with `*` for anything in the tool's name.
pub(super) fn wanted(
    agent: &str,
    typed: Option<&Set<Texts>>,
    servers: &BTreeMap<String, ToolServerRaw>,
    problems: &mut Problems,
) {
    for (text, origin) in typed.iter().flat_map(|set| set.value.0.iter().map(|t| (t, &set.origin)))
    {
        let place = format!("\"tools\" in [agents.{agent}]");
        let Some((server, _)) = text.split_once('.').filter(|(_, tool)| !tool.is_empty()) else {
            let text = format!("{place}: {text:?} must be like \"SERVER.TOOL\" or \"SERVER.*\"");
            problems.add(origin, text);
            continue;
        };
        if server != BUILT_IN && !servers.contains_key(server) {
            let own = servers.keys().map(String::as_str);
            let known: Vec<&str> = own.chain([BUILT_IN]).collect();
            let mend = suggestion(server, &known);
            problems.add(origin, format!("{place}: there is no [tools.{server}]{mend}"));
        }
    }
}

/// Tells of servers that no agent has tools of.
pub(super) fn unused(
    servers: &BTreeMap<String, ToolServerRaw>,
    agents: &BTreeMap<String, AgentRaw>,
    notes: &mut Vec<String>,
) {
    let used = |server: &str| {
        let typed = agents.values().filter_map(|agent| agent.model.tools.as_ref());
        let mut texts = typed.flat_map(|set| &set.value.0);
        texts.any(|text| text.split_once('.').is_some_and(|(name, _)| name == server))
    };
    for (name, server) in servers.iter().filter(|(name, _)| !used(name)) {
        notes.push(format!(
            "{}: no agent has tools of [tools.{name}]; name them in \"tools\" of an agent, like \
             \"{name}.*\"",
            server.at
        ));
    }
}

/// Names of tools, and what each does to the world.
#[derive(Clone, Debug)]
pub(super) struct EffectsTable(Vec<(String, SideEffects)>);

/// Names of tools, and which of its arguments names the act.
#[derive(Clone, Debug)]
pub(super) struct KeysTable(Vec<(String, String)>);

/// Whether names of tools could be meant by it.
fn is_pattern(text: &str) -> bool {
    (1..=PATTERN_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// What is wrong with a row, if anything; `of` says it of the value.
fn wrong_row(at: usize, name: &str, of: impl FnOnce() -> Option<String>) -> Option<String> {
    if at >= PATTERNS_MAX {
        // Told once: the others would say the same.
        return (at == PATTERNS_MAX)
            .then(|| format!("is one too many; {PATTERNS_MAX} may stand there"));
    }
    if !is_pattern(name) {
        let rule = format!("1 to {PATTERN_BYTES_MAX} bytes without control characters");
        return Some(format!("is no name of a tool, which has {rule}"));
    }
    of()
}

fn rows<T>(scalar: &Scalar, of: impl Fn(&str) -> Option<T>) -> Option<Vec<(String, T)>> {
    let Scalar::Pairs(pairs) = scalar else { return None };
    let row = |(name, text): &(String, String)| {
        is_pattern(name).then_some(())?;
        Some((name.clone(), of(text)?))
    };
    pairs.iter().map(row).collect::<Option<Vec<_>>>().filter(|rows| rows.len() <= PATTERNS_MAX)
}

fn shown<'a>(rows: impl Iterator<Item = (&'a str, String)>) -> String {
    let rows: Vec<String> = rows.map(|(name, text)| format!("{name:?} = {text:?}")).collect();
    format!("{{ {} }}", rows.join(", "))
}

/// The word for an effect.
pub(crate) fn effects_word(effects: SideEffects) -> String {
    // Our own type always prints.
    json!(effects).as_str().unwrap_or_default().to_owned()
}

impl Setting for EffectsTable {
    fn expected(_: Range) -> String {
        "a table of names of tools, each pure, idempotent, compensatable or irreversible, like \
         { \"get_*\" = \"pure\" }"
            .into()
    }

    fn schema(_: Range) -> Value {
        json!({"type": "object", "additionalProperties": {"enum": EFFECTS}})
    }

    fn read(scalar: &Scalar, _: Range) -> Option<Self> {
        rows(scalar, |word| serde_json::from_value(json!(word)).ok()).map(Self)
    }

    fn wrong_row(at: usize, name: &str, value: &Scalar) -> Option<String> {
        wrong_row(at, name, || {
            let word = value.text().unwrap_or_default();
            if EFFECTS.contains(&word) {
                return None;
            }
            let near = nearest(word, EFFECTS).filter(|_| !word.is_empty());
            let mend = near.map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
            let words = "pure, idempotent, compensatable or irreversible";
            Some(format!("must be {words}, not {value}{mend}"))
        })
    }

    fn shown(&self) -> String {
        shown(self.0.iter().map(|(name, effects)| (name.as_str(), effects_word(*effects))))
    }
}

impl Setting for KeysTable {
    fn expected(_: Range) -> String {
        "a table of names of tools and JSON pointers, like { cancel_order = \"/order_id\" }".into()
    }

    fn schema(_: Range) -> Value {
        json!({"type": "object", "additionalProperties": {"type": "string", "pattern": "^/"}})
    }

    fn read(scalar: &Scalar, _: Range) -> Option<Self> {
        rows(scalar, |text| text.starts_with('/').then(|| text.to_owned())).map(Self)
    }

    fn wrong_row(at: usize, name: &str, value: &Scalar) -> Option<String> {
        wrong_row(at, name, || {
            let text = value.text().unwrap_or_default();
            if text.starts_with('/') {
                return None;
            }
            let plain = !text.is_empty() && !text.contains(['.', '$', '[']);
            let mend = if plain { format!("; did you mean \"/{text}\"?") } else { String::new() };
            Some(format!("must be a JSON pointer like \"/order_id\", not {value}{mend}"))
        })
    }

    fn shown(&self) -> String {
        shown(self.0.iter().map(|(name, pointer)| (name.as_str(), pointer.clone())))
    }
}
