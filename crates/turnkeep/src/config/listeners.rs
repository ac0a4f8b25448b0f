//! Who is told of events by callbacks: listeners, and the reply callbacks of agents.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use turnkeep_core::listen::{ENDINGS, NAME_CHARS_MAX, Pattern, Selector, pattern_words};
use turnkeep_core::network::{Network, may_reach};

use super::problem::{Origin, Problems, suggestion};
use super::raw::{AgentRaw, ListenerRaw, Raw};
use super::secret::{Named, Told, secret};
use super::value::{Endpoint, Paths, Set, Texts};

/// What a secret begins with, by the scheme of Standard Webhooks.
const SECRET_PREFIX: &str = "whsec_";
/// How many bytes a secret may have, by the same scheme.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// How many secrets may sign at once. Two do while one takes the other's place.
const SECRETS_MAX: usize = 4;

/// One who is told of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenerSettings {
    /// Its name; `agents/NAME` for an agent's reply callback.
    pub(crate) name: String,
    /// Where its callbacks go.
    pub(crate) url: String,
    /// What they are signed with, each of them; at least one.
    pub(crate) secrets: Vec<SigningSecret>,
    /// The pattern as typed.
    pub(crate) pattern: Vec<String>,
    /// Which events it gets.
    pub(crate) selector: Selector,
    /// Whether it sees texts.
    pub(crate) include_text: bool,
}

impl ListenerSettings {
    /// Its address without what may be secret in it.
    pub(crate) fn receiver(&self) -> String {
        let url = reqwest::Url::parse(&self.url).ok();
        url.map_or_else(String::new, |url| url.origin().ascii_serialization())
    }
}

/// The bytes behind `whsec_`; never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SigningSecret(Vec<u8>);

impl SigningSecret {
    /// The secret, for the one place that signs with it.
    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SigningSecret(…)")
    }
}

/// Every listener there is, in the order of their names.
pub(super) fn listeners(
    raw: &Raw,
    agents: &[String],
    told: &mut Told<'_>,
) -> Vec<ListenerSettings> {
    let allowed = allowed(raw);
    let mut found = Vec::new();
    for (name, listener) in &raw.listeners {
        check_name(name, &listener.at, told.problems);
        found.extend(one(name, listener, agents, &allowed, told));
    }
    for (name, agent) in &raw.agents {
        found.extend(callback(name, agent, &allowed, told));
    }
    found
}

/// Where callbacks may go beside the open internet.
pub(super) fn allowed(raw: &Raw) -> Vec<Network> {
    let set = raw.gateway.callbacks_may_reach.as_ref();
    set.map(|set| set.value.0.clone()).unwrap_or_default()
}

/// A name stands in paths and in the names of callbacks.
fn check_name(name: &str, at: &Origin, problems: &mut Problems) {
    let plain = |one: char| one.is_ascii_alphanumeric() || matches!(one, '-' | '_');
    if !(1..=NAME_CHARS_MAX).contains(&name.len()) || !name.chars().all(plain) {
        let rule = format!("1 to {NAME_CHARS_MAX} of a-z, A-Z, 0-9, - and _");
        problems.add(at, format!("the name of a listener has {rule}"));
    }
}

fn one(
    name: &str,
    raw: &ListenerRaw,
    agents: &[String],
    allowed: &[Network],
    told: &mut Told<'_>,
) -> Option<ListenerSettings> {
    let place = format!("[listeners.{name}]");
    let keys = &raw.keys;
    let url = match &keys.url {
        Some(url) => address("url", &place, url, allowed, told.problems),
        None => {
            told.problems.lacks(&place, &["url"], &raw.at, &format!("{place} needs \"url\""));
            None
        }
    };
    if keys.secret_file.is_none() && keys.secret_env.is_none() {
        let text = format!("{place} needs \"secret_file\" or \"secret_env\"");
        told.problems.lacks(&place, &["secret_file", "secret_env"], &raw.at, &text);
    }
    let named = NamedSecrets {
        place: &place,
        file: ("secret_file", keys.secret_file.as_ref()),
        env: ("secret_env", keys.secret_env.as_ref()),
    };
    let secrets = signing_secrets(&named, told);
    let agent = keys.agent.as_ref();
    if let Some(set) = agent.filter(|set| !agents.contains(&set.value)) {
        let known: Vec<&str> = agents.iter().map(String::as_str).collect();
        let mend = suggestion(&set.value, &known);
        told.problems
            .add(&set.origin, format!("no agent of {place} is called {:?}{mend}", set.value));
    }
    let typed = keys.pattern.as_ref();
    let pattern = typed.map_or_else(|| vec!["*".to_owned()], |set| set.value.0.clone());
    let meant = match Pattern::of(pattern.iter().map(String::as_str)) {
        Ok(meant) => Some(meant),
        Err(unknown) => {
            let words = pattern_words();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let text =
                format!("\"pattern\" in {place}: {unknown}{}", suggestion(&unknown.0, &words));
            told.problems.add(typed.map_or(&raw.at, |set| &set.origin), text);
            None
        }
    };
    Some(ListenerSettings {
        name: name.to_owned(),
        url: url?,
        secrets: secrets?,
        pattern,
        selector: Selector {
            pattern: meant?,
            tenant: keys.tenant.as_ref().map(|set| set.value.clone()),
            agent: agent.map(|set| set.value.clone()),
        },
        include_text: keys.include_text.as_ref().is_some_and(|set| set.value),
    })
}

/// A reply callback is a listener on how the agent's turns end, with the texts.
fn callback(
    name: &str,
    agent: &AgentRaw,
    allowed: &[Network],
    told: &mut Told<'_>,
) -> Option<ListenerSettings> {
    let place = format!("[agents.{name}]");
    let own = &agent.own;
    let named = NamedSecrets {
        place: &place,
        file: ("callback_secret_file", own.callback_secret_file.as_ref()),
        env: ("callback_secret_env", own.callback_secret_env.as_ref()),
    };
    let file = own.callback_secret_file.as_ref().map(|set| ("callback_secret_file", &set.origin));
    let env = own.callback_secret_env.as_ref().map(|set| ("callback_secret_env", &set.origin));
    let url = match (&own.callback_url, file.or(env)) {
        (None, None) => return None,
        (Some(url), Some(_)) => url,
        (Some(Set { origin, .. }), None) => {
            let keys = ["callback_secret_file", "callback_secret_env"];
            let text =
                format!("\"callback_url\" in {place} needs \"{}\" or \"{}\"", keys[0], keys[1]);
            told.problems.lacks(&place, &keys, origin, &text);
            return None;
        }
        (None, Some((key, origin))) => {
            let text = format!("\"{key}\" in {place} needs \"callback_url\"");
            told.problems.lacks(&place, &["callback_url"], origin, &text);
            return None;
        }
    };
    let url = address("callback_url", &place, url, allowed, told.problems);
    let secrets = signing_secrets(&named, told);
    Some(ListenerSettings {
        name: format!("agents/{name}"),
        url: url?,
        secrets: secrets?,
        pattern: ENDINGS.map(str::to_owned).into(),
        selector: Selector {
            pattern: Pattern::of(ENDINGS).ok()?,
            tenant: None,
            agent: Some(name.to_owned()),
        },
        include_text: true,
    })
}

/// An address that can be seen to be closed is a mistake now, not a failure later.
fn address(
    key: &str,
    place: &str,
    set: &Set<Endpoint>,
    allowed: &[Network],
    problems: &mut Problems,
) -> Option<String> {
    let url = &set.value.0;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let address: Option<IpAddr> =
        if host == "localhost" { Some(Ipv4Addr::LOCALHOST.into()) } else { host.parse().ok() };
    match address.filter(|address| !may_reach(*address, allowed)) {
        Some(closed) => {
            let text = format!(
                "\"{key}\" in {place} leads to {closed}, which is not on the open internet; allow \
                 it with callbacks_may_reach in [gateway]"
            );
            problems.add(&set.origin, text);
            None
        }
        None => Some(url.to_string()),
    }
}

/// The two keys that name what is signed with, as typed.
pub(super) struct NamedSecrets<'a> {
    pub(super) place: &'a str,
    pub(super) file: (&'static str, Option<&'a Set<Paths>>),
    pub(super) env: (&'static str, Option<&'a Set<Texts>>),
}

/// Every secret, or none if something is wrong with one of them.
pub(super) fn signing_secrets(
    named: &NamedSecrets<'_>,
    told: &mut Told<'_>,
) -> Option<Vec<SigningSecret>> {
    let NamedSecrets { place, file, env } = named;
    let files: Vec<Set<PathBuf>> = file.1.map_or_else(Vec::new, |set| each(&set.value.0, set));
    let names: Vec<Set<String>> = env.1.map_or_else(Vec::new, |set| each(&set.value.0, set));
    let count = match (file.1, env.1) {
        // One complaint will do.
        (Some(_), Some(_)) => 1,
        _ => files.len().max(names.len()),
    };
    let key = if file.1.is_some() { file.0 } else { env.0 };
    let origin = file.1.map(|set| &set.origin).or(env.1.map(|set| &set.origin));
    if let Some(origin) = origin.filter(|_| count > SECRETS_MAX) {
        let text =
            format!("\"{key}\" in {place} names {count} secrets; at most {SECRETS_MAX} sign");
        told.problems.add(origin, text);
        return None;
    }
    let mut one = |at: usize| {
        let named = Named { place, file: (file.0, files.get(at)), env: (env.0, names.get(at)) };
        signing_secret(&named, told)
    };
    // All are looked at before the first mistake ends it.
    let found: Vec<Option<SigningSecret>> = (0..count).map(&mut one).collect();
    found.into_iter().collect::<Option<Vec<_>>>().filter(|secrets| !secrets.is_empty())
}

/// Each of a list, as if it were typed alone.
fn each<T: Clone, U>(values: &[T], set: &Set<U>) -> Vec<Set<T>> {
    let alone = |value: &T| Set { value: value.clone(), origin: set.origin.clone() };
    values.iter().map(alone).collect()
}

fn signing_secret(named: &Named<'_>, told: &mut Told<'_>) -> Option<SigningSecret> {
    let (text, origin) = secret(named, told)?;
    let key = if named.file.1.is_some() { named.file.0 } else { named.env.0 };
    let place = named.place;
    decode(&text)
        .map_err(|why| told.problems.add(origin, format!("\"{key}\" in {place}: {why}")))
        .ok()
}

/// The bytes of a secret. What it is stays out of the message.
pub(super) fn decode(text: &str) -> Result<SigningSecret, String> {
    let bytes = text.strip_prefix(SECRET_PREFIX).and_then(|rest| STANDARD.decode(rest).ok());
    let usable = bytes.filter(|bytes| SECRET_BYTES.contains(&bytes.len()));
    usable.map(SigningSecret).ok_or_else(|| {
        format!(
            "it must be {SECRET_PREFIX} and {} to {} bytes in base64, as from: echo \
             {SECRET_PREFIX}$(openssl rand -base64 32)",
            SECRET_BYTES.start(),
            SECRET_BYTES.end()
        )
    })
}
