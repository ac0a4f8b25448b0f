//! Reads the file into [`Raw`] and finds every mistake in its form.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use turnkeep_core::policy::{CHANNELS, channel_facts};
use turnkeep_core::session_key::SEGMENT_BYTES_MAX;

use super::budgets::{BudgetKeys, PriceKeys, UsageKeys};
use super::cron::{CronKeys, CronRaw};
use super::hatchet::HatchetKeys;
use super::people::{GroupKeys, GroupRaw, UserKeys, UserRaw};
use super::problem::{Lines, Problems, suggestion};
use super::raw::{
    AgentKeys, AgentRaw, AnthropicKeys, ChannelKeys, ChannelRaw, CommandKeys, EchoKeys,
    GatewayKeys, GuardKeys, HttpBrainKeys, LanguageRaw, ListenerKeys, ListenerRaw, ModelKeys,
    PolicyKeys, Raw, TelemetryKeys, TopKeys, WordKeys,
};
use super::redis::RedisKeys;
use super::section::{Key, Section, find, found};
use super::signal::{SignalAccountKeys, SignalAccountRaw, SignalKeys};
use super::slips::{self, Mend};
use super::store::StoreKeys;
use super::switchboard::SwitchboardKeys;
use super::tools::{ToolServerKeys, ToolServerRaw};
use super::value::Scalar;

/// The sections of the file.
pub(super) const TABLES: [&str; 20] = [
    "store",
    "redis",
    "hatchet",
    "gateway",
    "guard",
    "telemetry",
    "switchboard",
    "accumulation",
    "channels",
    "agents",
    "tenants",
    "budgets",
    "usage",
    "prices",
    "listeners",
    "tools",
    "signal",
    "users",
    "groups",
    "cron",
];

/// Every section's keys and where they belong.
pub(super) const HOMES: [(&str, &[Key]); 27] = [
    ("at the top of the file, before any [section]", TopKeys::KEYS),
    ("in [store]", StoreKeys::KEYS),
    ("in [redis]", RedisKeys::KEYS),
    ("in [hatchet]", HatchetKeys::KEYS),
    ("in [gateway]", GatewayKeys::KEYS),
    ("in [guard]", GuardKeys::KEYS),
    ("in [telemetry]", TelemetryKeys::KEYS),
    ("in [switchboard]", SwitchboardKeys::KEYS),
    ("in [accumulation] or [accumulation.LANGUAGE]", WordKeys::KEYS),
    ("in [channels.NAME]", ChannelKeys::KEYS),
    ("in [channels.NAME], [agents.NAME] or [tenants.NAME]", PolicyKeys::KEYS),
    ("in [agents.NAME]", AgentKeys::KEYS),
    ("in [agents.NAME]", EchoKeys::KEYS),
    ("in [agents.NAME]", ModelKeys::KEYS),
    ("in [agents.NAME]", AnthropicKeys::KEYS),
    ("in [agents.NAME]", CommandKeys::KEYS),
    ("in [agents.NAME]", HttpBrainKeys::KEYS),
    ("in [budgets]", BudgetKeys::KEYS),
    ("in [usage]", UsageKeys::KEYS),
    ("in [prices.MODEL]", PriceKeys::KEYS),
    ("in [listeners.NAME]", ListenerKeys::KEYS),
    ("in [tools.NAME]", ToolServerKeys::KEYS),
    ("in [signal]", SignalKeys::KEYS),
    ("in [signal.accounts.NAME]", SignalAccountKeys::KEYS),
    ("in [users.NAME]", UserKeys::KEYS),
    ("in [groups.NAME]", GroupKeys::KEYS),
    ("in [cron.NAME]", CronKeys::KEYS),
];

/// Which part of a file matters to who reads it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Everything, for a server.
    All,
    /// What stands before any section, and the store, for who looks at data.
    Store,
    /// Only what stands before any section, for a client.
    Top,
}

/// Reads the text of a file; what is wrong with it goes to `problems`.
pub(super) fn read_file(path: &Path, text: &str, scope: Scope, problems: &mut Problems) -> Raw {
    let lines = Lines::new(path, text);
    let (document, errors) = DeTable::parse_recoverable(text);
    slips::form(text, &errors, &lines, problems);
    if !errors.is_empty() {
        // What the parser guessed behind a slip of the pen would only be misread.
        return Raw::default();
    }
    let mut reader = Reader { lines, problems };
    let mut raw = Raw::default();
    let top = document.get_ref();
    reader.keys(top, "", &TABLES, &mut [&mut raw.top]);
    if scope == Scope::Top {
        return raw;
    }
    if let Some((table, label)) = reader.table(top, "", "store") {
        reader.keys(table, &label, &[], &mut [&mut raw.store]);
    }
    if scope == Scope::Store {
        return raw;
    }
    if let Some((table, label)) = reader.table(top, "", "redis") {
        reader.keys(table, &label, &[], &mut [&mut raw.redis]);
    }
    if let Some((table, label)) = reader.table(top, "", "hatchet") {
        reader.keys(table, &label, &[], &mut [&mut raw.hatchet]);
    }
    if let Some((table, label)) = reader.table(top, "", "gateway") {
        reader.keys(table, &label, &[], &mut [&mut raw.gateway]);
    }
    if let Some((table, label)) = reader.table(top, "", "guard") {
        reader.keys(table, &label, &[], &mut [&mut raw.guard]);
    }
    if let Some((table, label)) = reader.table(top, "", "telemetry") {
        reader.keys(table, &label, &[], &mut [&mut raw.telemetry]);
    }
    if let Some((table, label)) = reader.table(top, "", "switchboard") {
        reader.keys(table, &label, &[], &mut [&mut raw.switchboard]);
    }
    reader.words(top, &mut raw);
    reader.channels(top, &mut raw);
    reader.agents(top, &mut raw);
    reader.tenants(top, &mut raw);
    reader.money(top, &mut raw);
    reader.listeners(top, &mut raw);
    reader.tools(top, &mut raw);
    reader.signal(top, &mut raw);
    reader.people(top, &mut raw);
    reader.cron(top, &mut raw);
    raw
}

type Pair<'t, 'i> = (&'t Spanned<std::borrow::Cow<'i, str>>, &'t Spanned<DeValue<'i>>);

struct Reader<'p> {
    lines: Lines,
    problems: &'p mut Problems,
}

impl Reader<'_> {
    /// Puts every key of a table into the section that knows it; `tables` are read elsewhere.
    fn keys(
        &mut self,
        table: &DeTable<'_>,
        label: &str,
        tables: &[&str],
        sections: &mut [&mut dyn Section],
    ) {
        for (name, value) in table {
            let typed = name.get_ref().as_ref();
            if tables.contains(&typed) {
                continue;
            }
            let origin = self.lines.origin(name.span().start);
            let place = place(label);
            let section = sections.iter_mut().find(|section| find(section.keys(), typed).is_some());
            let Some(section) = section else {
                let known: Vec<&str> = sections
                    .iter()
                    .flat_map(|section| section.keys().iter().map(|key| key.name))
                    .chain(tables.iter().copied())
                    .collect();
                let mend = slips::mend(typed, &known);
                if let Mend::Name(meant) = mend {
                    self.problems.mistyped(place.trim_start_matches(" in "), meant);
                }
                self.problems.add(&origin, format!("unknown key \"{typed}\"{place}{mend}"));
                continue;
            };
            if section.holds(typed) {
                self.problems.add(&origin, format!("\"{typed}\"{place} is set twice"));
                continue;
            }
            let scalar = scalar(value.get_ref());
            if !section.put(typed, &scalar, &origin)
                && let Some(key) = find(section.keys(), typed)
            {
                self.problems.mistyped(place.trim_start_matches(" in "), typed);
                if self.rows(key, value.get_ref(), &join(label, typed)) {
                    continue;
                }
                let text = format!("\"{typed}\"{place} must be {}", (key.expected)());
                self.problems.add(&origin, text + &found(key, &scalar));
            }
        }
    }

    /// Tells what is wrong with single rows of a table that is one value; false if nothing is.
    fn rows(&mut self, key: &Key, value: &DeValue<'_>, label: &str) -> bool {
        let Some(table) = value.as_table() else { return false };
        let mut wrong = false;
        for (at, (name, value)) in table.iter().enumerate() {
            let typed = name.get_ref().as_ref();
            if let Some(what) = (key.wrong_row)(at, typed, &scalar(value.get_ref())) {
                let origin = self.lines.origin(name.span().start);
                self.problems.add(&origin, format!("\"{typed}\" in [{label}] {what}"));
                wrong = true;
            }
        }
        wrong
    }

    /// The table of this name within another one, and its label in messages.
    fn table<'t, 'i>(
        &mut self,
        parent: &'t DeTable<'i>,
        label: &str,
        name: &str,
    ) -> Option<(&'t DeTable<'i>, String)> {
        let (key, value) = parent.get_key_value(name)?;
        self.as_table((key, value), &join(label, name))
    }

    fn as_table<'t, 'i>(
        &mut self,
        (key, value): Pair<'t, 'i>,
        label: &str,
    ) -> Option<(&'t DeTable<'i>, String)> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            let origin = self.lines.origin(key.span().start);
            let found = scalar(value.get_ref());
            self.problems.add(&origin, format!("[{label}] must be a section, not {found}"));
        }
        table.map(|table| (table, label.to_owned()))
    }

    /// The named tables of a section, `[parent.NAME]`.
    fn named<'t, 'i>(
        &mut self,
        top: &'t DeTable<'i>,
        parent: &str,
    ) -> Vec<(Pair<'t, 'i>, &'t DeTable<'i>, String)> {
        let Some((table, label)) = self.table(top, "", parent) else {
            return Vec::new();
        };
        let mut named = Vec::new();
        for pair in table {
            let name = pair.0.get_ref().as_ref();
            let label = join(&label, name);
            if !pair.1.get_ref().is_table() && HOMES.iter().any(|home| find(home.1, name).is_some())
            {
                let origin = self.lines.origin(pair.0.span().start);
                let text = format!("\"{name}\" in [{parent}] needs a name, as in [{parent}.NAME]");
                self.problems.add(&origin, text);
            } else if let Some((table, label)) = self.as_table(pair, &label) {
                named.push((pair, table, label));
            }
        }
        named
    }

    /// Words that stand there for every language, and tables of single languages.
    fn words(&mut self, top: &DeTable<'_>, raw: &mut Raw) {
        let Some((table, label)) = self.table(top, "", "accumulation") else { return };
        let languages = || table.iter().filter(|(_, value)| value.get_ref().is_table());
        let names: Vec<&str> = languages().map(|(name, _)| name.get_ref().as_ref()).collect();
        self.keys(table, &label, &names, &mut [&mut raw.words]);
        for pair in languages() {
            let name = pair.0.get_ref().as_ref();
            let at = self.lines.origin(pair.0.span().start);
            if let Some((table, label)) = self.as_table(pair, &join(&label, name)) {
                let mut keys = WordKeys::default();
                self.keys(table, &label, &[], &mut [&mut keys]);
                raw.languages.insert(name.to_owned(), LanguageRaw { at, keys });
            }
        }
    }

    fn channels(&mut self, top: &DeTable<'_>, raw: &mut Raw) {
        for ((name, _), table, label) in self.named(top, "channels") {
            let typed = name.get_ref().as_ref();
            let Some(facts) = channel_facts(typed) else {
                let origin = self.lines.origin(name.span().start);
                let mend = suggestion(typed, &CHANNELS.map(|facts| facts.name));
                self.problems.add(&origin, format!("unknown channel \"{typed}\"{mend}"));
                continue;
            };
            let mut channel = ChannelRaw::default();
            let sections: &mut [&mut dyn Section] = &mut [&mut channel.own, &mut channel.policy];
            self.keys(table, &label, &["budgets"], sections);
            if let Some(keys) = self.budgets(table, &label) {
                raw.money.budgets.channels.insert(facts.name, keys);
            }
            raw.channels.insert(facts.name, channel);
        }
    }

    fn agents(&mut self, top: &DeTable<'_>, raw: &mut Raw) {
        for ((name, _), table, label) in self.named(top, "agents") {
            let at = self.lines.origin(name.span().start);
            self.check_name(name, "an agent");
            let mut agent = AgentRaw::new(at);
            let AgentRaw { own, echo, model, anthropic, command, http, policy, .. } = &mut agent;
            let sections: &mut [&mut dyn Section] =
                &mut [own, echo, model, anthropic, command, http, policy];
            self.keys(table, &label, &["policy", "budgets"], sections);
            if let Some((table, label)) = self.table(table, &label, "policy") {
                self.keys(table, &label, &[], &mut [policy]);
            }
            if let Some(keys) = self.budgets(table, &label) {
                raw.money.budgets.agents.insert(name.get_ref().to_string(), keys);
            }
            raw.agents.insert(name.get_ref().to_string(), agent);
        }
    }

    fn tenants(&mut self, top: &DeTable<'_>, raw: &mut Raw) {
        for ((name, _), table, label) in self.named(top, "tenants") {
            self.check_name(name, "a tenant");
            let mut policy = PolicyKeys::default();
            self.keys(table, &label, &["budgets"], &mut [&mut policy]);
            if let Some(keys) = self.budgets(table, &label) {
                raw.money.budgets.tenants.insert(name.get_ref().to_string(), keys);
            }
            raw.tenants.insert(name.get_ref().to_string(), policy);
        }
    }

    /// Budgets, prices and what is told of them.
    fn money(&mut self, top: &DeTable<'_>, raw: &mut Raw) {
        if let Some((table, label)) = self.table(top, "", "budgets") {
            self.keys(table, &label, &[], &mut [&mut raw.money.budgets.all]);
        }
        if let Some((table, label)) = self.table(top, "", "usage") {
            self.keys(table, &label, &[], &mut [&mut raw.money.usage]);
        }
        for ((name, _), table, label) in self.named(top, "prices") {
            let mut keys = PriceKeys::default();
            self.keys(table, &label, &[], &mut [&mut keys]);
            raw.money.prices.insert(name.get_ref().to_string(), keys);
        }
    }

    /// The budgets of a channel, an agent or a tenant.
    fn budgets(&mut self, table: &DeTable<'_>, label: &str) -> Option<BudgetKeys> {
        let (table, label) = self.table(table, label, "budgets")?;
        let mut keys = BudgetKeys::default();
        self.keys(table, &label, &[], &mut [&mut keys]);
        Some(keys)
    }

    fn listeners(&mut self, top: &DeTable<'_>, raw: &mut Raw) {
        for ((name, _), table, label) in self.named(top, "listeners") {
            let at = self.lines.origin(name.span().start);
            let mut keys = ListenerKeys::default();
            self.keys(table, &label, &[], &mut [&mut keys]);
            raw.listeners.insert(name.get_ref().to_string(), ListenerRaw { at, keys });
        }
    }

    fn tools(&mut self, top: &DeTable<'_>, raw: &mut Raw) {
        for ((name, _), table, label) in self.named(top, "tools") {
            let at = self.lines.origin(name.span().start);
            let mut keys = ToolServerKeys::default();
            self.keys(table, &label, &[], &mut [&mut keys]);
            raw.tools.insert(name.get_ref().to_string(), ToolServerRaw { at, keys });
        }
    }

    /// Users and groups.
    fn people(&mut self, top: &DeTable<'_>, raw: &mut Raw) {
        for ((name, _), table, label) in self.named(top, "users") {
            let at = self.lines.origin(name.span().start);
            self.check_name(name, "a user");
            let mut keys = UserKeys::default();
            self.keys(table, &label, &[], &mut [&mut keys]);
            raw.people.users.insert(name.get_ref().to_string(), UserRaw { at, keys });
        }
        for ((name, _), table, label) in self.named(top, "groups") {
            let at = self.lines.origin(name.span().start);
            let mut keys = GroupKeys::default();
            self.keys(table, &label, &[], &mut [&mut keys]);
            raw.people.groups.insert(name.get_ref().to_string(), GroupRaw { at, keys });
        }
    }

    fn cron(&mut self, top: &DeTable<'_>, raw: &mut Raw) {
        for ((name, _), table, label) in self.named(top, "cron") {
            let at = self.lines.origin(name.span().start);
            let mut keys = CronKeys::default();
            self.keys(table, &label, &[], &mut [&mut keys]);
            raw.cron.insert(name.get_ref().to_string(), CronRaw { at, keys });
        }
    }

    /// Signal itself, and its accounts if there are several.
    fn signal(&mut self, top: &DeTable<'_>, raw: &mut Raw) {
        let Some((table, label)) = self.table(top, "", "signal") else { return };
        let at = top.get_key_value("signal").map_or(0, |(key, _)| key.span().start);
        raw.signal.at = Some(self.lines.origin(at));
        self.keys(table, &label, &["accounts"], &mut [&mut raw.signal.keys]);
        let Some((table, label)) = self.table(table, &label, "accounts") else { return };
        for pair in table {
            let name = pair.0.get_ref().as_ref();
            let at = self.lines.origin(pair.0.span().start);
            if let Some((table, label)) = self.as_table(pair, &join(&label, name)) {
                let mut keys = SignalAccountKeys::default();
                self.keys(table, &label, &[], &mut [&mut keys]);
                raw.signal.accounts.insert(name.to_owned(), SignalAccountRaw { at, keys });
            }
        }
    }

    /// A name becomes a segment of session keys, so it keeps their bounds.
    fn check_name(&mut self, name: &Spanned<std::borrow::Cow<'_, str>>, what: &str) {
        let text = name.get_ref();
        let usable = (1..=SEGMENT_BYTES_MAX).contains(&text.len());
        if !usable || text.chars().any(char::is_control) {
            let origin = self.lines.origin(name.span().start);
            let rule = format!("1 to {SEGMENT_BYTES_MAX} bytes without control characters");
            self.problems.add(&origin, format!("the name of {what} has {rule}"));
        }
    }
}

fn join(label: &str, name: &str) -> String {
    if label.is_empty() { name.to_owned() } else { format!("{label}.{name}") }
}

fn place(label: &str) -> String {
    if label.is_empty() { String::new() } else { format!(" in [{label}]") }
}

fn scalar(value: &DeValue<'_>) -> Scalar {
    match value {
        DeValue::Boolean(value) => Scalar::Bool(*value),
        DeValue::String(text) => Scalar::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Scalar::Other("a number that is too large"), Scalar::Whole),
        DeValue::Float(number) => {
            number.as_str().parse().map_or(Scalar::Other("a strange number"), Scalar::Real)
        }
        DeValue::Datetime(_) => Scalar::Other("a date or a time"),
        DeValue::Array(items) => {
            let texts = items.iter().map(|item| item.get_ref().as_str().map(str::to_owned));
            texts
                .collect::<Option<_>>()
                .map_or(Scalar::Other("a list of anything else"), Scalar::List)
        }
        DeValue::Table(table) => {
            let pairs = table.iter().map(|(name, value)| {
                Some((name.get_ref().to_string(), value.get_ref().as_str()?.to_owned()))
            });
            pairs.collect::<Option<_>>().map_or(Scalar::Other("a section"), Scalar::Pairs)
        }
    }
}
