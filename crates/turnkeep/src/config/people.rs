//! Who is known by name, and in which groups we take part.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use turnkeep_core::policy::{CHANNELS, Trust, channel_facts};
use turnkeep_core::session_key::SEGMENT_BYTES_MAX;
use turnkeep_gateway::intake::routing::{Group, Trigger, User};

use super::problem::{Origin, Problems, suggestion};
use super::resolved::{or, text};
use super::section::Section;
use super::value::{Range, Scalar, Set, Setting, Texts};

/// Whose users and groups are that name no tenant.
const TENANT: &str = "default";
/// Users and groups at most.
const EACH_MAX: usize = 10_000;
/// Names of one user, or words for one group, at most.
const NAMES_MAX: usize = 100;
/// What has as many digits and nothing else is a telephone number.
const DIGITS_MIN: usize = 5;

section! {
    /// Somebody who is known by name.
    struct UserKeys {
        /// The names under which channels vouch for them, as `CHANNEL:NAME`. A `*` at the end
        /// stands for anything, and so for many people: they are trusted alike, and each keeps the
        /// name of their own. An exact name wins over a pattern, a longer pattern over a shorter.
        ids: Texts => "[\"signal:+4915112345678\", \"signal:0a1b2c3d-0000-4000-8000-000000000000\"]";
        /// How far they are trusted: `owner`, `full`, `inner`, `familiar` or `public`.
        trust: Trust = "\"familiar\"";
        /// Which agent answers them in direct chats, where that is not the account's.
        agent: String => "\"default\"";
        /// Where they are known.
        tenant: String = "\"default\"";
    }
}

section! {
    /// A group in which we take part. In one that is not listed nothing is heard.
    struct GroupKeys {
        /// The channel's name of it, as `CHANNEL:NAME`; the log tells it once somebody wrote there.
        /// Required.
        id: String => "\"signal:tL9rJ0cD3hUb6Ej4GZkq2w==\"";
        /// Which agent answers there, where that is not the account's.
        agent: String => "\"default\"";
        /// What tells that a message is for us: `mention` (it names us or refers to something that
        /// we said), `always`, `regex` (a mention, or `pattern` is found in it) or `llm` (a mention,
        /// or `trigger_agent` says so). What is not for us is kept for the next turn to read.
        trigger: TriggerKind = "\"mention\"";
        /// Words that name us, beside a real mention.
        names: Texts => "[\"Turnkeep\"]";
        /// The regular expression of `trigger = "regex"`.
        pattern: String => "'(?i)^bot\\b'";
        /// The agent that is asked where `trigger = "llm"`; a small one will do.
        trigger_agent: String => "\"small\"";
        /// Nobody is trusted more there.
        ceiling: Trust = "\"familiar\"";
        /// Whose group it is.
        tenant: String = "\"default\"";
    }
}

/// What tells that a message in a group is for us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum TriggerKind {
    #[default]
    Mention,
    Always,
    Regex,
    Llm,
}

const TRIGGERS: [(&str, TriggerKind); 4] = [
    ("mention", TriggerKind::Mention),
    ("always", TriggerKind::Always),
    ("regex", TriggerKind::Regex),
    ("llm", TriggerKind::Llm),
];

impl Setting for TriggerKind {
    fn expected(_: Range) -> String {
        format!("one of {}", TRIGGERS.map(|(word, _)| word).join(", "))
    }

    fn schema(_: Range) -> Value {
        json!({"enum": TRIGGERS.map(|(word, _)| word)})
    }

    fn read(scalar: &Scalar, _: Range) -> Option<Self> {
        let typed = scalar.text()?;
        TRIGGERS.into_iter().find_map(|(word, trigger)| (word == typed).then_some(trigger))
    }

    fn shown(&self) -> String {
        let word = TRIGGERS.into_iter().find_map(|(word, one)| (one == *self).then_some(word));
        format!("{:?}", word.unwrap_or_default())
    }
}

/// One user as typed.
#[derive(Clone, Debug)]
pub(super) struct UserRaw {
    pub(super) at: Origin,
    pub(super) keys: UserKeys,
}

/// One group as typed.
#[derive(Clone, Debug)]
pub(super) struct GroupRaw {
    pub(super) at: Origin,
    pub(super) keys: GroupKeys,
}

/// Users and groups as typed.
#[derive(Clone, Debug, Default)]
pub(super) struct PeopleRaw {
    pub(super) users: BTreeMap<String, UserRaw>,
    pub(super) groups: BTreeMap<String, GroupRaw>,
}

impl PeopleRaw {
    /// Their sections with their names.
    pub(super) fn sections(&self) -> Vec<(String, &dyn Section)> {
        let mut sections: Vec<(String, &dyn Section)> = Vec::new();
        for (name, user) in &self.users {
            sections.push((format!("users.{name}"), &user.keys));
        }
        for (name, group) in &self.groups {
            sections.push((format!("groups.{name}"), &group.keys));
        }
        sections
    }
}

/// Users and groups as they are used.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeopleSettings {
    /// In the order of their names.
    pub(crate) users: Vec<User>,
    /// The same.
    pub(crate) groups: Vec<Group>,
}

/// Makes them of what was typed; `agents` are the names of those that are configured.
pub(super) fn people(
    raw: &PeopleRaw,
    agents: &[String],
    problems: &mut Problems,
) -> PeopleSettings {
    let mut taken = BTreeMap::new();
    let each = raw.users.iter().take(EACH_MAX);
    let users = each.filter_map(|(name, user)| one_user(name, user, agents, &mut taken, problems));
    let users = users.collect();
    let mut taken = BTreeMap::new();
    let each = raw.groups.iter().take(EACH_MAX);
    let groups =
        each.filter_map(|(name, group)| one_group(name, group, agents, &mut taken, problems));
    let groups = groups.collect();
    let most = raw.users.values().nth(EACH_MAX).map(|user| &user.at);
    if let Some(at) = most.or_else(|| raw.groups.values().nth(EACH_MAX).map(|group| &group.at)) {
        problems.add(at, format!("there may be at most {EACH_MAX} users and {EACH_MAX} groups"));
    }
    PeopleSettings { users, groups }
}

/// Who has a name already: by tenant, channel and name.
type Taken = BTreeMap<(String, &'static str, String), String>;

fn one_user(
    name: &str,
    raw: &UserRaw,
    agents: &[String],
    taken: &mut Taken,
    problems: &mut Problems,
) -> Option<User> {
    let place = format!("[users.{name}]");
    let keys = &raw.keys;
    check_agent("agent", &place, keys.agent.as_ref(), agents, problems);
    let tenant = tenant(&place, keys.tenant.as_ref(), problems)?;
    let mut ids = Vec::new();
    if let Some(set) = &keys.ids {
        if set.value.0.len() > NAMES_MAX {
            problems.add(&set.origin, format!("\"ids\" in {place} may be {NAMES_MAX} at most"));
        }
        for typed in set.value.0.iter().take(NAMES_MAX) {
            let said = |why: String| format!("\"ids\" in {place}: {why}");
            let (channel, id) = match address(typed) {
                Ok(id) => id,
                Err(why) => {
                    problems.add(&set.origin, said(why));
                    continue;
                }
            };
            let begins = id.strip_suffix('*').unwrap_or(id);
            if begins.contains('*') {
                let text = format!("{typed:?}: a * stands at the end or nowhere");
                problems.add(&set.origin, said(text));
                continue;
            }
            if channel == "signal" && is_number_gone_wrong(begins) {
                let text =
                    "a telephone number begins with a + and its country, and holds no blanks";
                problems.add(&set.origin, said(format!("{typed:?}: {text}")));
                continue;
            }
            let key = (tenant.clone(), channel, id.to_owned());
            match taken.insert(key, place.clone()) {
                Some(other) => {
                    problems.add(&set.origin, said(format!("{typed:?} stands in {other} already")));
                }
                None => ids.push((channel.into(), id.into())),
            }
        }
    }
    Some(User {
        name: name.into(),
        tenant: tenant.into(),
        trust: or(keys.trust.as_ref(), Trust::Familiar),
        agent: text(keys.agent.as_ref()).map(Arc::from),
        ids,
    })
}

/// Whether somebody meant a telephone number, and Signal writes it otherwise. Signal's own ids have
/// dashes too, but in groups of their own.
fn is_number_gone_wrong(id: &str) -> bool {
    let parts = [' ', '-', '(', ')', '/', '.'];
    let is_like_one = |c: char| c.is_ascii_digit() || c == '+' || parts.contains(&c);
    let is_one =
        |id: &str| id.strip_prefix('+').is_some_and(|id| id.bytes().all(|b| b.is_ascii_digit()));
    let is_own = id.as_bytes().get(8) == Some(&b'-') && !id.starts_with('+');
    let digits = id.bytes().filter(u8::is_ascii_digit).count();
    digits >= DIGITS_MIN && id.chars().all(is_like_one) && !is_one(id) && !is_own
}

fn one_group(
    name: &str,
    raw: &GroupRaw,
    agents: &[String],
    taken: &mut Taken,
    problems: &mut Problems,
) -> Option<Group> {
    let place = format!("[groups.{name}]");
    let keys = &raw.keys;
    check_agent("agent", &place, keys.agent.as_ref(), agents, problems);
    let trigger = trigger(&place, raw, agents, problems);
    let tenant = tenant(&place, keys.tenant.as_ref(), problems)?;
    let Some(set) = &keys.id else {
        problems.lacks(&place, &["id"], &raw.at, &format!("{place} needs \"id\""));
        return None;
    };
    let said = |why: String| format!("\"id\" in {place}: {why}");
    let (channel, id) = match address(&set.value) {
        Ok(found) => found,
        Err(why) => {
            problems.add(&set.origin, said(why));
            return None;
        }
    };
    if let Some(other) = taken.insert((tenant.clone(), channel, id.to_owned()), place.clone()) {
        problems.add(&set.origin, said(format!("this group stands in {other} already")));
        return None;
    }
    let names = keys.names.as_ref().map_or_else(Vec::new, |set| set.value.0.clone());
    if names.len() > NAMES_MAX || names.iter().any(|name| name.trim().is_empty()) {
        let origin = keys.names.as_ref().map_or(&raw.at, |set| &set.origin);
        let text = format!("\"names\" in {place} are up to {NAMES_MAX} words, none of them empty");
        problems.add(origin, text);
    }
    Some(Group {
        name: name.into(),
        tenant: tenant.into(),
        channel: channel.into(),
        id: id.into(),
        agent: text(keys.agent.as_ref()).map(Arc::from),
        trigger: trigger?,
        names: names.iter().map(|name| name.trim().to_owned()).collect(),
        ceiling: or(keys.ceiling.as_ref(), Trust::Familiar),
    })
}

/// The trigger with what belongs to it, and nothing else.
fn trigger(
    place: &str,
    raw: &GroupRaw,
    agents: &[String],
    problems: &mut Problems,
) -> Option<Trigger> {
    let keys = &raw.keys;
    let kind = or(keys.trigger.as_ref(), TriggerKind::Mention);
    let at = keys.trigger.as_ref().map_or(&raw.at, |set| &set.origin);
    let own = [
        ("pattern", keys.pattern.as_ref(), TriggerKind::Regex),
        ("trigger_agent", keys.trigger_agent.as_ref(), TriggerKind::Llm),
    ];
    for (key, set, of) in own {
        let word = of.shown();
        match set {
            Some(set) if kind != of => {
                let text = format!("\"{key}\" in {place} is for trigger = {word}");
                problems.add(&set.origin, text);
            }
            None if kind == of => {
                let text = format!("trigger = {word} in {place} needs \"{key}\"");
                problems.lacks(place, &[key], at, &text);
            }
            _ => {}
        }
    }
    check_agent("trigger_agent", place, keys.trigger_agent.as_ref(), agents, problems);
    match kind {
        TriggerKind::Mention => Some(Trigger::Mention),
        TriggerKind::Always => Some(Trigger::Always),
        TriggerKind::Llm => Some(Trigger::Llm(text(keys.trigger_agent.as_ref())?.into())),
        TriggerKind::Regex => {
            let set = keys.pattern.as_ref()?;
            match Trigger::regex(&set.value) {
                Ok(trigger) => Some(trigger),
                Err(why) => {
                    let text = format!("\"pattern\" in {place} is no regular expression: {why}");
                    problems.add(&set.origin, text);
                    None
                }
            }
        }
    }
}

/// `CHANNEL:NAME` in its two parts.
fn address(typed: &str) -> Result<(&'static str, &str), String> {
    let Some((channel, id)) = typed.split_once(':') else {
        return Err(format!("{typed:?} needs a channel before it, like \"signal:{typed}\""));
    };
    let Some(facts) = channel_facts(channel) else {
        let known: Vec<&str> = CHANNELS.iter().map(|facts| facts.name).collect();
        let mend = suggestion(channel, &known);
        return Err(format!("{typed:?}: there is no channel {channel:?}{mend}"));
    };
    if id.is_empty() || id.len() > SEGMENT_BYTES_MAX || id.chars().any(char::is_control) {
        return Err(format!(
            "{typed:?}: a name has 1 to {SEGMENT_BYTES_MAX} bytes without control characters"
        ));
    }
    Ok((facts.name, id))
}

fn tenant(place: &str, set: Option<&Set<String>>, problems: &mut Problems) -> Option<String> {
    let Some(set) = set else { return Some(TENANT.to_owned()) };
    let text = &set.value;
    if text.len() > SEGMENT_BYTES_MAX || text.chars().any(char::is_control) {
        let rule = format!("1 to {SEGMENT_BYTES_MAX} bytes without control characters");
        problems.add(&set.origin, format!("\"tenant\" in {place} has {rule}"));
        return None;
    }
    Some(text.clone())
}

fn check_agent(
    key: &str,
    place: &str,
    set: Option<&Set<String>>,
    agents: &[String],
    problems: &mut Problems,
) {
    if let Some(set) = set.filter(|set| !agents.contains(&set.value)) {
        let known: Vec<&str> = agents.iter().map(String::as_str).collect();
        let mend = suggestion(&set.value, &known);
        let text = format!("\"{key}\" in {place}: no agent is called {:?}{mend}", set.value);
        problems.add(&set.origin, text);
    }
}
