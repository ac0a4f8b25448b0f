//! Signal: which accounts, how signal-cli is reached, and what is taken from whom.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use turnkeep_core::policy::Trust;
use turnkeep_core::session_key::SEGMENT_BYTES_MAX;

use super::command::{self, Program};
use super::paths;
use super::problem::{Origin, Problems, suggestion};
use super::resolved::{AgentSettings, or, text};
use super::secret::Told;
use super::section::Section;
use super::trust::Unknown;
use super::value::{Range, Scalar, Set, Setting, Texts};

/// The one account where no name is given to it.
const ONLY: &str = "default";
/// The tenant of an account that names none.
const TENANT: &str = "default";
/// The program, where nothing else is typed.
const PROGRAM: &str = "signal-cli";
/// The folder of signal-cli's own things, in the data folder.
const CONFIG_DIR: &str = "signal";
/// The largest attachment that is stored, if nothing else is typed.
const ATTACHMENT_BYTES_MAX: u64 = 25 << 20;
/// How much all of them may be together, if nothing else is typed.
const ATTACHMENTS_TOTAL_BYTES_MAX: u64 = 5 << 30;
/// Longest name of an account.
const NAME_CHARS_MAX: usize = 32;

section! {
    /// Signal, spoken by signal-cli.
    struct SignalKeys {
        /// The account's telephone number. Without it `[signal.accounts.NAME]` says which there are.
        number: Number => "\"+4915112345678\"";
        /// Whose account it is.
        tenant: String = "\"default\"";
        /// Which agent answers where neither the user nor the group names one.
        agent: String = "\"default\"";
        /// How signal-cli is started, with arguments of its own if it needs some. No shell is asked;
        /// a program without a slash is looked for in PATH.
        command: Texts = "\"signal-cli\"";
        /// Where a signal-cli that runs already is, instead of `command`: `unix:PATH`,
        /// `tcp://HOST:PORT` or `http://HOST:PORT`.
        address: SignalAddress => "\"tcp://127.0.0.1:7583\"";
        /// Where signal-cli keeps its accounts and keys, its `--config`. Without it `signal` in the
        /// data folder.
        config_dir: PathBuf => "\"~/.local/share/signal-cli\"";
        /// What becomes of somebody unknown who writes to us alone: `deny` answers nothing, `pair`
        /// lets them in with a one-time code, `public` answers them with the least trust.
        unknown: Unknown = "\"deny\"";
        /// The largest attachment that is stored, in bytes; 0 stores none.
        attachments_bytes_max: u64 [0, 104_857_600] = "26214400";
        /// How much all stored attachments may be together, in bytes. What comes when they are is
        /// named and not stored.
        attachments_total_bytes_max: u64 [0, 1_099_511_627_776] = "5368709120";
        /// The least trust whose attachments are stored.
        attachments_trust: Trust = "\"familiar\"";
        /// Whether senders see that their message was read, once it is stored.
        receipts: bool = "true";
    }
}

section! {
    /// One account of several.
    struct SignalAccountKeys {
        /// Its telephone number. Required.
        number: Number => "\"+4915112345678\"";
        /// Whose account it is. A tenant has one account.
        tenant: String = "\"default\"";
        /// Which agent answers where neither the user nor the group names one.
        agent: String = "\"default\"";
    }
}

/// What was typed of Signal.
#[derive(Clone, Debug, Default)]
pub(super) struct SignalRaw {
    /// Where the section begins, if there is one.
    pub(super) at: Option<Origin>,
    pub(super) keys: SignalKeys,
    pub(super) accounts: BTreeMap<String, SignalAccountRaw>,
}

/// One account as typed.
#[derive(Clone, Debug)]
pub(super) struct SignalAccountRaw {
    pub(super) at: Origin,
    pub(super) keys: SignalAccountKeys,
}

impl SignalRaw {
    /// Where a section names no account, one that stands in for it; whether it was needed.
    pub(super) fn stand_in(&mut self) -> bool {
        let Some(at) = &self.at else { return false };
        if self.keys.number.is_some() || !self.accounts.is_empty() {
            return false;
        }
        self.keys.number = Some(Set { value: Number("+10000000".into()), origin: at.clone() });
        true
    }

    /// Its sections with their names.
    pub(super) fn sections(&self) -> Vec<(String, &dyn Section)> {
        let mut sections: Vec<(String, &dyn Section)> = vec![("signal".to_owned(), &self.keys)];
        for (name, account) in &self.accounts {
            sections.push((format!("signal.accounts.{name}"), &account.keys));
        }
        sections
    }
}

/// Signal as it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignalSettings {
    /// At least one; no two of one tenant.
    pub(crate) accounts: Vec<SignalAccount>,
    /// How signal-cli is reached.
    pub(crate) way: SignalWay,
    /// What becomes of strangers.
    pub(crate) unknown: Unknown,
    /// The largest attachment that is stored.
    pub(crate) attachments_bytes_max: u64,
    /// How much all of them may be together.
    pub(crate) attachments_total_bytes_max: u64,
    /// The least trust whose attachments are stored.
    pub(crate) attachments_trust: Trust,
    /// Whether senders see that their message was read.
    pub(crate) receipts: bool,
}

/// One account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignalAccount {
    /// Its name here.
    pub(crate) name: String,
    /// Its telephone number, like +4915112345678.
    pub(crate) number: String,
    /// Whose it is.
    pub(crate) tenant: String,
    /// Who answers where nobody else is named.
    pub(crate) agent: String,
}

/// How signal-cli is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SignalWay {
    /// It is a process of ours.
    Child {
        /// The program and its arguments.
        command: Vec<String>,
        /// Where it keeps accounts and keys.
        config_dir: PathBuf,
    },
    /// It listens on a unix socket.
    Unix(PathBuf),
    /// It listens on TCP, at HOST:PORT.
    Tcp(String),
    /// It listens as an HTTP server; without a slash at its end.
    Http(String),
}

impl std::fmt::Display for SignalWay {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            // Only the program: its arguments may be anything.
            Self::Child { command, .. } => formatter.write_str(&command[0]),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
            Self::Tcp(place) => write!(formatter, "tcp://{place}"),
            Self::Http(url) => formatter.write_str(url),
        }
    }
}

/// What is configured of Signal; none if nothing is, or if something is wrong with it.
pub(super) fn signal(
    raw: &SignalRaw,
    agents: &BTreeMap<String, AgentSettings>,
    data_dir: &Path,
    told: &mut Told<'_>,
) -> Option<SignalSettings> {
    let at = raw.at.as_ref()?;
    let keys = &raw.keys;
    let accounts = accounts(raw, at, agents, told.problems);
    let way = way(keys, at, data_dir, told);
    Some(SignalSettings {
        accounts,
        way: way?,
        unknown: or(keys.unknown.as_ref(), Unknown::Deny),
        attachments_bytes_max: or(keys.attachments_bytes_max.as_ref(), ATTACHMENT_BYTES_MAX),
        attachments_total_bytes_max: or(
            keys.attachments_total_bytes_max.as_ref(),
            ATTACHMENTS_TOTAL_BYTES_MAX,
        ),
        attachments_trust: or(keys.attachments_trust.as_ref(), Trust::Familiar),
        receipts: or(keys.receipts.as_ref(), true),
    })
}

/// Two ways for one channel's replies would be one too many.
pub(super) fn spooled(raw: &SignalRaw, set: &Set<PathBuf>, problems: &mut Problems) {
    if raw.at.is_some() {
        let text = "\"spool\" in [channels.signal] and [signal] exclude each other: replies leave \
                    through one of them";
        problems.add(&set.origin, text);
    }
}

/// One account as typed, at either place.
struct Typed<'a> {
    name: &'a str,
    place: String,
    at: &'a Origin,
    number: &'a Set<Number>,
    tenant: Option<&'a Set<String>>,
    agent: Option<&'a Set<String>>,
}

fn accounts(
    raw: &SignalRaw,
    at: &Origin,
    agents: &BTreeMap<String, AgentSettings>,
    problems: &mut Problems,
) -> Vec<SignalAccount> {
    let typed = typed(raw, at, problems);
    let mut accounts: Vec<SignalAccount> = Vec::new();
    for one in typed {
        let account = account(&one, agents, problems);
        let twice = |other: &&SignalAccount| other.number == account.number;
        if let Some(other) = accounts.iter().find(twice) {
            let text = format!(
                "{} has the number of [signal.accounts.{}]: each account stands here once",
                one.place, other.name
            );
            problems.add(&one.number.origin, text);
        }
        if let Some(other) = accounts.iter().find(|other| other.tenant == account.tenant) {
            let text = format!(
                "{} and [signal.accounts.{}] are both of the tenant \"{}\": a tenant has one account, \
                 from which its replies are sent",
                one.place, other.name, account.tenant
            );
            problems.add(one.tenant.map_or(one.at, |set| &set.origin), text);
        }
        accounts.push(account);
    }
    accounts
}

/// The account of the section itself, or those that have sections of their own.
fn typed<'a>(raw: &'a SignalRaw, at: &'a Origin, problems: &mut Problems) -> Vec<Typed<'a>> {
    let SignalKeys { number, tenant, agent, .. } = &raw.keys;
    if raw.accounts.is_empty() {
        let Some(number) = number else {
            problems
                .add(at, "[signal] needs \"number\", or a [signal.accounts.NAME] for each account");
            return Vec::new();
        };
        let (tenant, agent) = (tenant.as_ref(), agent.as_ref());
        return vec![Typed { name: ONLY, place: "[signal]".to_owned(), at, number, tenant, agent }];
    }
    let own = [
        number.as_ref().map(|set| ("number", &set.origin)),
        tenant.as_ref().map(|set| ("tenant", &set.origin)),
        agent.as_ref().map(|set| ("agent", &set.origin)),
    ];
    for (key, origin) in own.into_iter().flatten() {
        let text = format!(
            "\"{key}\" in [signal] belongs into [signal.accounts.NAME] where there are any"
        );
        problems.add(origin, text);
    }
    let mut typed = Vec::new();
    for (name, account) in &raw.accounts {
        let (place, at) = (format!("[signal.accounts.{name}]"), &account.at);
        check_name(name, at, problems);
        let SignalAccountKeys { number, tenant, agent } = &account.keys;
        match number {
            Some(number) => {
                let (tenant, agent) = (tenant.as_ref(), agent.as_ref());
                typed.push(Typed { name, place, at, number, tenant, agent });
            }
            None => problems.add(at, format!("{place} needs \"number\"")),
        }
    }
    typed
}

/// It stands in logs and numbers.
fn check_name(name: &str, at: &Origin, problems: &mut Problems) {
    let plain = |one: char| one.is_ascii_alphanumeric() || matches!(one, '-' | '_');
    if !(1..=NAME_CHARS_MAX).contains(&name.len()) || !name.chars().all(plain) {
        let rule = format!("1 to {NAME_CHARS_MAX} of a-z, A-Z, 0-9, - and _");
        problems.add(at, format!("the name of an account has {rule}"));
    }
}

fn account(
    typed: &Typed<'_>,
    agents: &BTreeMap<String, AgentSettings>,
    problems: &mut Problems,
) -> SignalAccount {
    let Typed { name, place, at, number, tenant, agent } = typed;
    if let Some(set) = tenant
        && (set.value.len() > SEGMENT_BYTES_MAX || set.value.chars().any(char::is_control))
    {
        let rule = format!("1 to {SEGMENT_BYTES_MAX} bytes without control characters");
        problems.add(&set.origin, format!("\"tenant\" in {place} has {rule}"));
    }
    let answers = text(*agent).unwrap_or_else(|| "default".to_owned());
    if !agents.contains_key(&answers) {
        let known: Vec<&str> = agents.keys().map(String::as_str).collect();
        let mend = suggestion(&answers, &known);
        let text = format!("\"agent\" in {place}: there is no [agents.{answers}]{mend}");
        problems.add(agent.map_or(*at, |set| &set.origin), text);
    }
    SignalAccount {
        name: (*name).to_owned(),
        number: number.value.0.clone(),
        tenant: text(*tenant).unwrap_or_else(|| TENANT.to_owned()),
        agent: answers,
    }
}

fn way(keys: &SignalKeys, at: &Origin, data_dir: &Path, told: &mut Told<'_>) -> Option<SignalWay> {
    let SignalKeys { command, address, config_dir, .. } = keys;
    let Some(Set { value: SignalAddress(way), origin }) = address else {
        let config_dir = match config_dir {
            Some(set) => std::path::absolute(paths::meant(set, told.env)).ok(),
            None => std::path::absolute(data_dir.join(CONFIG_DIR)).ok(),
        };
        let config_dir = config_dir.unwrap_or_else(|| data_dir.join(CONFIG_DIR));
        open_to_all(&config_dir, keys.config_dir.as_ref().map_or(at, |set| &set.origin), told);
        let command = match command {
            Some(_) => started(command.as_ref(), at, told)?,
            None => vec![PROGRAM.to_owned()],
        };
        return Some(SignalWay::Child { command, config_dir });
    };
    if command.is_some() {
        let text = "\"command\" and \"address\" in [signal] exclude each other";
        told.problems.add(origin, text);
    }
    if let Some(set) = config_dir {
        let text = "\"config_dir\" in [signal] is of no use with \"address\": whoever started that \
                    signal-cli told it its folder";
        told.problems.add(&set.origin, text);
    }
    if let Some(host) = away(way) {
        told.notes.push(format!(
            "{origin}: \"address\" in [signal] is not on this machine: whoever reaches {host} can \
             read every message and write in your name"
        ));
    }
    Some(way.clone())
}

fn started(typed: Option<&Set<Texts>>, at: &Origin, told: &mut Told<'_>) -> Option<Vec<String>> {
    let program = Program {
        place: "[signal]",
        at,
        command: typed,
        dir: None,
        stays: true,
        env: None,
        env_files: None,
    };
    command::program(&program, 1, told).map(|settings| settings.command)
}

/// signal-cli's folder holds the keys of the account.
fn open_to_all(config_dir: &Path, origin: &Origin, told: &mut Told<'_>) {
    let data = config_dir.join("data");
    if paths::is_open_to_others(&data) {
        told.notes.push(format!(
            "{origin}: {} is open to everybody on this machine, and holds the account's keys; chmod \
             700 it",
            data.display()
        ));
    }
}

/// The host, if that is another machine.
fn away(way: &SignalWay) -> Option<String> {
    let url = match way {
        SignalWay::Child { .. } | SignalWay::Unix(_) => return None,
        SignalWay::Tcp(place) => format!("tcp://{place}"),
        SignalWay::Http(url) => url.clone(),
    };
    let url = reqwest::Url::parse(&url).ok()?;
    let host = url.host_str()?;
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    let here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
    (!here).then(|| host.to_owned())
}

/// A telephone number as Signal writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Number(pub(super) String);

impl Setting for Number {
    fn expected(_: Range) -> String {
        "a telephone number with its country, like \"+4915112345678\"".into()
    }

    fn schema(_: Range) -> Value {
        json!({"type": "string", "pattern": "^\\+[1-9][0-9]{4,14}$"})
    }

    fn read(scalar: &Scalar, _: Range) -> Option<Self> {
        let typed = scalar.text()?;
        let digits = typed.strip_prefix('+')?;
        let usable = (5..=15).contains(&digits.len()) && !digits.starts_with('0');
        (usable && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| Self(typed.to_owned()))
    }

    fn shown(&self) -> String {
        format!("{:?}", self.0)
    }
}

/// Where a signal-cli listens.
#[derive(Clone, Debug)]
pub(super) struct SignalAddress(pub(super) SignalWay);

impl Setting for SignalAddress {
    fn expected(_: Range) -> String {
        "like \"unix:/run/signal-cli/socket\", \"tcp://127.0.0.1:7583\" or \"http://127.0.0.1:8080\""
            .into()
    }

    fn schema(_: Range) -> Value {
        json!({"type": "string", "pattern": "^(unix:/|tcp://|https?://)"})
    }

    fn read(scalar: &Scalar, _: Range) -> Option<Self> {
        let typed = scalar.text()?.trim();
        if let Some(path) = typed.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let usable = path.starts_with('/') && !path.contains('\0');
            return usable.then(|| Self(SignalWay::Unix(path.into())));
        }
        let url = reqwest::Url::parse(typed).ok()?;
        let bare = url.username().is_empty() && url.password().is_none();
        let bare = bare && matches!(url.path(), "" | "/") && url.query().is_none();
        if !bare || url.fragment().is_some() {
            return None;
        }
        let host = url.host_str().filter(|host| !host.is_empty())?;
        match url.scheme() {
            "tcp" => Some(Self(SignalWay::Tcp(format!("{host}:{}", url.port()?)))),
            "http" | "https" => Some(Self(SignalWay::Http(typed.trim_end_matches('/').to_owned()))),
            _ => None,
        }
    }

    fn shown(&self) -> String {
        format!("{:?}", self.0.to_string())
    }
}
