//! What may be used, what it costs, and how long that is remembered by days.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};
use turnkeep_core::budget::{Budgets, Limit, OnExceeded, Scope, Window};
use turnkeep_core::usage::Price;
use turnkeep_gateway::money::Prices;

use super::policy::{Decider, Explained};
use super::problem::{Problems, suggestion};
use super::raw::Raw;
use super::section::Section;
use super::value::{Range, Scalar, Set, Setting};

section! {
    /// How much may be used. The same keys may stand in `[tenants.NAME.budgets]`,
    /// `[agents.NAME.budgets]` and `[channels.NAME.budgets]`; the last of these that has a key
    /// decides it.
    struct BudgetKeys {
        /// How many tokens one turn may use, all its attempts together; 0 is without limit. Then its
        /// agent is asked to finish; at twice as many the turn is given up.
        turn_tokens: u64 [0, 1_000_000_000_000] = "0";
        /// The same in money.
        turn_cost: f64 [0, 1_000_000_000] = "0.0";
        /// How many tokens one conversation may use on a day, in UTC; 0 is without limit.
        session_tokens_per_day: u64 [0, 1_000_000_000_000] = "0";
        /// The same in money.
        session_cost_per_day: f64 [0, 1_000_000_000] = "0.0";
        /// How many tokens one conversation may use in a month of the calendar.
        session_tokens_per_month: u64 [0, 1_000_000_000_000] = "0";
        /// The same in money.
        session_cost_per_month: f64 [0, 1_000_000_000] = "0.0";
        /// How many tokens one customer may use on a day, in all conversations but groups.
        customer_tokens_per_day: u64 [0, 1_000_000_000_000] = "0";
        /// The same in money.
        customer_cost_per_day: f64 [0, 1_000_000_000] = "0.0";
        /// How many tokens one customer may use in a month.
        customer_tokens_per_month: u64 [0, 1_000_000_000_000] = "0";
        /// The same in money.
        customer_cost_per_month: f64 [0, 1_000_000_000] = "0.0";
        /// How many tokens all customers of a tenant may use on a day together. Meant for
        /// `[tenants.NAME.budgets]`.
        tenant_tokens_per_day: u64 [0, 1_000_000_000_000] = "0";
        /// The same in money.
        tenant_cost_per_day: f64 [0, 1_000_000_000] = "0.0";
        /// How many tokens all customers of a tenant may use in a month together.
        tenant_tokens_per_month: u64 [0, 1_000_000_000_000] = "0";
        /// The same in money.
        tenant_cost_per_month: f64 [0, 1_000_000_000] = "0.0";
        /// What follows when a budget of a day or a month is used up: `refuse` refuses messages until
        /// it is over, `degrade` has the agent `degrade_to` answer.
        on_exceeded: OnExceeded = "\"refuse\"";
        /// The agent that answers then.
        degrade_to: String => "\"cheap\"";
        /// What people are told once a day when their messages are refused; nothing if it is empty.
        refused_text: Told = "\"The budget for today is used up. Please try again later.\"";
        /// What people are told once a day when another agent answers; nothing if it is empty.
        degraded_text: Told = "\"A budget is used up, so a simpler assistant answers for now.\"";
    }
}

section! {
    /// How what was used is kept and shown.
    struct UsageKeys {
        /// The currency of all prices and costs; it is shown, and nothing is done with it.
        currency: String = "\"USD\"";
        /// After how many days the sums of single days are put together; 0 is never.
        days_kept: u32 [0, 36_500] = "400";
    }
}

section! {
    /// What a million tokens of one model cost.
    struct PriceKeys {
        /// Of questions.
        input_per_million: f64 [0, 1_000_000] = "0.0";
        /// Of answers.
        output_per_million: f64 [0, 1_000_000] = "0.0";
        /// Of what of questions is read from the provider's cache; without it as `input_per_million`.
        cached_per_million: f64 [0, 1_000_000] => "0.25";
        /// Of what of questions is written to the provider's cache; without it as
        /// `input_per_million`.
        cache_write_per_million: f64 [0, 1_000_000] => "3.0";
    }
}

/// A text that may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told(pub(super) String);

impl Setting for Told {
    fn expected(_: Range) -> String {
        "a text".into()
    }

    fn schema(_: Range) -> Value {
        json!({"type": "string"})
    }

    fn read(scalar: &Scalar, _: Range) -> Option<Self> {
        scalar.text().map(|text| Self(text.to_owned()))
    }

    fn shown(&self) -> String {
        self.0.shown()
    }
}

const WORDS: [(&str, OnExceeded); 2] =
    [("refuse", OnExceeded::Refuse), ("degrade", OnExceeded::Degrade)];

impl Setting for OnExceeded {
    fn expected(_: Range) -> String {
        "\"refuse\" or \"degrade\"".into()
    }

    fn schema(_: Range) -> Value {
        json!({"enum": WORDS.map(|(word, _)| word)})
    }

    fn read(scalar: &Scalar, _: Range) -> Option<Self> {
        let text = scalar.text()?;
        WORDS.iter().find(|(word, _)| *word == text).map(|(_, meant)| *meant)
    }

    fn shown(&self) -> String {
        let word = WORDS.iter().find(|(_, meant)| meant == self);
        word.map_or_else(String::new, |(word, _)| (*word).to_owned().shown())
    }
}

/// Budgets as typed, by layer.
#[derive(Clone, Debug, Default)]
pub(super) struct BudgetLayers {
    pub(super) all: BudgetKeys,
    pub(super) tenants: BTreeMap<String, BudgetKeys>,
    pub(super) agents: BTreeMap<String, BudgetKeys>,
    pub(super) channels: BTreeMap<&'static str, BudgetKeys>,
}

impl BudgetLayers {
    /// Each with its name in the file.
    pub(super) fn sections(&self) -> Vec<(String, &dyn Section)> {
        let mut sections: Vec<(String, &dyn Section)> = vec![("budgets".to_owned(), &self.all)];
        let named = |sort: &str, name: &str| format!("{sort}.{name}.budgets");
        let tenants = self.tenants.iter();
        sections.extend(tenants.map(|(name, keys)| (named("tenants", name), keys as _)));
        let agents = self.agents.iter();
        sections.extend(agents.map(|(name, keys)| (named("agents", name), keys as _)));
        let channels = self.channels.iter();
        sections.extend(channels.map(|(name, keys)| (named("channels", name), keys as _)));
        sections
    }

    fn layers(
        &self,
        tenant: &str,
        agent: &str,
        channel: &str,
    ) -> [(Decider, String, Option<&BudgetKeys>); 4] {
        [
            (Decider::Gateway, "[budgets]".to_owned(), Some(&self.all)),
            (Decider::Tenant, format!("[tenants.{tenant}.budgets]"), self.tenants.get(tenant)),
            (Decider::Agent, format!("[agents.{agent}.budgets]"), self.agents.get(agent)),
            (Decider::Channel, format!("[channels.{channel}.budgets]"), self.channels.get(channel)),
        ]
    }

    /// What holds for such sessions; none if nothing is limited.
    pub(super) fn resolve(&self, tenant: &str, agent: &str, channel: &str) -> Option<Arc<Budgets>> {
        let mut budgets = Budgets {
            refused_text: "The budget for today is used up. Please try again later.".into(),
            degraded_text: "A budget is used up, so a simpler assistant answers for now.".into(),
            ..Budgets::default()
        };
        for (.., keys) in self.layers(tenant, agent, channel) {
            keys.into_iter().for_each(|keys| apply(keys, &mut budgets));
        }
        budgets.limits_anything().then(|| Arc::new(budgets))
    }

    /// What was typed of it, and where.
    pub(super) fn explain(&self, tenant: &str, agent: &str, channel: &str) -> Vec<Explained> {
        let mut lines: Vec<Explained> = Vec::new();
        for (layer, section, keys) in self.layers(tenant, agent, channel) {
            for (key, value, origin) in keys.into_iter().flat_map(Section::shown) {
                let typed = Some((section.clone(), origin.to_string()));
                let line = Explained { key, value, layer, typed };
                match lines.iter_mut().find(|known| known.key == key) {
                    Some(known) => *known = line,
                    None => lines.push(line),
                }
            }
        }
        lines
    }

    /// Whoever shall answer instead must be there.
    pub(super) fn check<'a>(
        &self,
        agents: impl Iterator<Item = &'a str> + Clone,
        problems: &mut Problems,
    ) {
        let layers = [&self.all].into_iter().chain(self.tenants.values());
        for keys in layers.chain(self.agents.values()).chain(self.channels.values()) {
            if let Some(Set { value, origin }) = &keys.degrade_to
                && !agents.clone().any(|agent| agent == value)
            {
                let known: Vec<&str> = agents.clone().collect();
                let mend = suggestion(value, &known);
                problems
                    .add(origin, format!("\"degrade_to\": no agent is called \"{value}\"{mend}"));
            }
            let named = keys.degrade_to.is_some() || self.all.degrade_to.is_some();
            if let Some(Set { value: OnExceeded::Degrade, origin }) = &keys.on_exceeded
                && !named
            {
                let text =
                    "\"on_exceeded\" = \"degrade\" needs \"degrade_to\", the agent that answers";
                problems.add(origin, text.to_owned());
            }
        }
    }
}

fn apply(keys: &BudgetKeys, budgets: &mut Budgets) {
    let pairs = [
        (Scope::Session, Window::Day, &keys.session_tokens_per_day, &keys.session_cost_per_day),
        (
            Scope::Session,
            Window::Month,
            &keys.session_tokens_per_month,
            &keys.session_cost_per_month,
        ),
        (Scope::Customer, Window::Day, &keys.customer_tokens_per_day, &keys.customer_cost_per_day),
        (
            Scope::Customer,
            Window::Month,
            &keys.customer_tokens_per_month,
            &keys.customer_cost_per_month,
        ),
        (Scope::Tenant, Window::Day, &keys.tenant_tokens_per_day, &keys.tenant_cost_per_day),
        (Scope::Tenant, Window::Month, &keys.tenant_tokens_per_month, &keys.tenant_cost_per_month),
    ];
    limit(&mut budgets.turn, &keys.turn_tokens, &keys.turn_cost);
    for (scope, window, tokens, cost) in pairs {
        limit(&mut budgets.limits[scope as usize][window as usize], tokens, cost);
    }
    if let Some(set) = &keys.on_exceeded {
        budgets.on_exceeded = set.value;
    }
    if let Some(set) = &keys.degrade_to {
        budgets.degrade_to = Some(set.value.as_str().into());
    }
    if let Some(set) = &keys.refused_text {
        budgets.refused_text = set.value.0.as_str().into();
    }
    if let Some(set) = &keys.degraded_text {
        budgets.degraded_text = set.value.0.as_str().into();
    }
}

fn limit(limit: &mut Limit, tokens: &Option<Set<u64>>, cost: &Option<Set<f64>>) {
    if let Some(set) = tokens {
        limit.tokens = set.value;
    }
    if let Some(set) = cost {
        limit.cost_micros = micros(set.value);
    }
}

/// Money as typed, in millionths; a value that is not zero stays so.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what may be typed is from 0 to a bound far below"
)]
fn micros(money: f64) -> u64 {
    (money * 1e6).ceil() as u64
}

/// Everything about money as typed.
#[derive(Clone, Debug, Default)]
pub(super) struct MoneyRaw {
    pub(super) usage: UsageKeys,
    /// By the model's name.
    pub(super) prices: BTreeMap<String, PriceKeys>,
    pub(super) budgets: BudgetLayers,
}

impl MoneyRaw {
    /// Each section with its name in the file.
    pub(super) fn sections(&self) -> Vec<(String, &dyn Section)> {
        let mut sections = self.budgets.sections();
        sections.push(("usage".to_owned(), &self.usage));
        let prices = self.prices.iter();
        sections.extend(prices.map(|(model, keys)| (format!("prices.{model}"), keys as _)));
        sections
    }
}

/// Prices by model, and what is told of them.
pub(super) fn prices(raw: &MoneyRaw) -> Prices {
    let (built_in, usage) = (Prices::default(), &raw.usage);
    let each = raw.prices.iter();
    let each = each.map(|(model, keys)| (Arc::from(model.as_str()), price_of(keys)));
    Prices {
        by_model: each.collect::<HashMap<_, _>>(),
        currency: usage.currency.as_ref().map_or(built_in.currency, |set| set.value.clone()),
        days_kept: usage.days_kept.as_ref().map_or(built_in.days_kept, |set| set.value),
    }
}

/// A budget in money that is blind to a model.
pub(super) fn unpriced(raw: &Raw, notes: &mut Vec<String>) {
    let sections = raw.money.budgets.sections();
    let costs = sections.iter().flat_map(|(_, section)| section.shown());
    if !costs.into_iter().any(|(key, value, _)| key.contains("_cost") && value != "0.0") {
        return;
    }
    for (name, agent) in &raw.agents {
        let Some(Set { value: model, origin }) = &agent.model.model else { continue };
        if !raw.money.prices.contains_key(model) {
            notes.push(format!(
                "{origin}: what {model:?} costs is not known ([prices.{model:?}]), so no budget in \
                 money holds [agents.{name}]"
            ));
        }
    }
}

fn price_of(keys: &PriceKeys) -> Price {
    let typed = |set: &Option<Set<f64>>| set.as_ref().map(|set| micros(set.value));
    let input_micros = typed(&keys.input_per_million).unwrap_or(0);
    Price {
        input_micros,
        output_micros: typed(&keys.output_per_million).unwrap_or(0),
        cached_micros: typed(&keys.cached_per_million).unwrap_or(input_micros),
        cache_write_micros: typed(&keys.cache_write_per_million).unwrap_or(input_micros),
    }
}
