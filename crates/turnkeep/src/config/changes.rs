//! What differs between two configurations, and what of it needs a restart.

use std::collections::{BTreeMap, BTreeSet};

use super::Resolved;
use super::listeners::ListenerSettings;
use super::raw::Raw;

/// Keys that hold from the start to the end of a server, beside all of `[store]`, `[redis]` and
/// `[hatchet]`; all others can be reloaded.
pub(super) const FIXED: [(&str, &str); 11] = [
    ("", "listen"),
    ("", "data_dir"),
    ("", "log_format"),
    ("gateway", "connections_max"),
    ("gateway", "connections_per_address_max"),
    ("gateway", "header_timeout_seconds"),
    ("telemetry", "otlp_endpoint"),
    ("telemetry", "service_name"),
    ("telemetry", "sample_ratio"),
    ("telemetry", "headers_file"),
    ("telemetry", "headers_env"),
];

/// Whether a key needs a restart.
pub(super) fn is_fixed(section: &str, key: &str) -> bool {
    ["store", "redis", "hatchet"].contains(&section) || FIXED.contains(&(section, key))
}

/// Every key that was typed, by section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Typed(BTreeMap<String, BTreeMap<&'static str, String>>);

impl Typed {
    pub(super) fn of(raw: &Raw) -> Self {
        let mut typed: BTreeMap<String, BTreeMap<&'static str, String>> = BTreeMap::new();
        for (label, section) in raw.sections() {
            let keys = section.shown().into_iter().map(|(key, value, _)| (key, value));
            typed.entry(label).or_default().extend(keys);
        }
        Self(typed)
    }

    /// The keys that are not the same in both, with their sections.
    fn differences<'a>(&'a self, other: &'a Self) -> BTreeSet<(&'a str, &'static str)> {
        let all = |typed: &'a Self| {
            let sections = typed.0.iter();
            sections.flat_map(|(label, keys)| keys.keys().map(move |key| (&**label, *key)))
        };
        let differ =
            |(label, key): &(&str, &'static str)| self.get(label, key) != other.get(label, key);
        all(self).chain(all(other)).filter(differ).collect()
    }

    fn get(&self, label: &str, key: &str) -> Option<&String> {
        self.0.get(label)?.get(key)
    }
}

/// What a reload changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// By section, like `agents.default`; keys of the top by their own names.
    pub(crate) changed: Vec<String>,
    /// Keys that are not as they were at the start, and can't be changed while it runs.
    pub(crate) needs_restart: Vec<String>,
}

impl Changes {
    /// From `before` to `now`, in a server that was started with `began`.
    pub(crate) fn between(began: &Resolved, before: &Resolved, now: &Resolved) -> Self {
        let mut changed: BTreeSet<String> = BTreeSet::new();
        for (label, key) in before.typed.differences(&now.typed) {
            if !is_fixed(label, key) {
                changed.insert(if label.is_empty() { key.to_owned() } else { label.to_owned() });
            }
        }
        // What is read from elsewhere, like a secret, changes without a key that does; and a section
        // without a single key may come and go.
        let names = before.agents.keys().chain(now.agents.keys());
        let agents = names.filter(|name| before.agents.get(*name) != now.agents.get(*name));
        changed.extend(agents.map(|name| format!("agents.{name}")));
        let all = before.listeners.iter().chain(&now.listeners);
        let one_sided = |one: &&ListenerSettings| {
            !(before.listeners.contains(one) && now.listeners.contains(one))
        };
        changed.extend(all.filter(one_sided).map(|one| match one.name.strip_prefix("agents/") {
            Some(agent) => format!("agents.{agent}"),
            None => format!("listeners.{}", one.name),
        }));
        let names = before.tools.keys().chain(now.tools.keys());
        let tools = names.filter(|name| before.tools.get(*name) != now.tools.get(*name));
        changed.extend(tools.map(|name| format!("tools.{name}")));
        if before.signal != now.signal {
            changed.insert("signal".to_owned());
        }
        if before.moderation != now.moderation {
            changed.insert("guard".to_owned());
        }
        let fixed = began.typed.differences(&now.typed).into_iter();
        let fixed = fixed.filter(|(label, key)| is_fixed(label, key));
        let named = |(label, key): (&str, &str)| {
            if label.is_empty() { key.to_owned() } else { format!("{label}.{key}") }
        };
        Self { changed: changed.into_iter().collect(), needs_restart: fixed.map(named).collect() }
    }
}
