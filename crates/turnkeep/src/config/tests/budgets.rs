//! Budgets come from several layers, prices from the model's name.

use turnkeep_core::budget::{Limit, OnExceeded, Scope, Window};
use turnkeep_core::usage::{Price, Usage};

use super::{check, load_text};

const ECHO: &str = "[agents.default]\nkind = \"echo\"\n";

#[test]
fn the_channel_wins_over_the_agent_and_that_over_the_tenant() {
    let toml = format!(
        "{ECHO}[agents.default.budgets]\nsession_cost_per_day = 0.5\nturn_tokens = 7\n\
         [budgets]\ncustomer_tokens_per_month = 100\nturn_tokens = 5\n\
         [tenants.acme.budgets]\ncustomer_tokens_per_month = 0\nturn_tokens = 6\n\
         [channels.web.budgets]\nturn_tokens = 8\nrefused_text = \"\"\n"
    );
    let resolved = load_text(&toml).unwrap();
    let budgets = |tenant: &str, channel: &str| {
        let policy = resolved.policy(tenant, "default", channel).unwrap();
        policy.budgets.unwrap()
    };
    let turns = [("t", "api"), ("acme", "web")].map(|(tenant, channel)| {
        let budgets = budgets(tenant, channel);
        (budgets.turn.tokens, budgets.refused_text.is_empty())
    });
    assert_eq!(turns, [(7, false), (8, true)]);
    let limit = |tenant: &str, scope: Scope, window: Window| {
        budgets(tenant, "api").limits[scope as usize][window as usize]
    };
    let tokens = |tokens| Limit { tokens, cost_micros: 0 };
    assert_eq!(limit("t", Scope::Customer, Window::Month), tokens(100));
    assert_eq!(limit("acme", Scope::Customer, Window::Month), tokens(0));
    let half = Limit { tokens: 0, cost_micros: 500_000 };
    assert_eq!(limit("acme", Scope::Session, Window::Day), half);
    let lines = resolved.explain("acme", "default", "web").unwrap();
    let line = lines.iter().find(|line| line.key == "turn_tokens").unwrap();
    assert_eq!(line.value, "8");
    assert!(line.decided_by().starts_with("[channels.web.budgets]"), "{}", line.decided_by());
}

#[test]
fn nothing_is_limited_unless_it_is_said() {
    let policy = |toml: &str| load_text(toml).unwrap().policy("t", "default", "api").unwrap();
    assert_eq!(policy(ECHO).budgets, None);
    assert_eq!(policy(&format!("{ECHO}[budgets]\nturn_tokens = 0\n")).budgets, None);
}

#[test]
fn whoever_answers_instead_must_be_there() {
    let degrade = "[agents.default]\nkind = \"echo\"\n[agents.cheap]\nkind = \"echo\"\n[budgets]\n\
                   tenant_tokens_per_day = 5\non_exceeded = \"degrade\"\n";
    check(
        degrade,
        "turnkeep.toml:7: \"on_exceeded\" = \"degrade\" needs \"degrade_to\", the agent that answers",
    );
    check(
        &format!("{degrade}degrade_to = \"chep\"\n"),
        "turnkeep.toml:8: \"degrade_to\": no agent is called \"chep\"; did you mean \"cheap\"?",
    );
    let resolved = load_text(&format!("{degrade}degrade_to = \"cheap\"\n")).unwrap();
    let budgets = resolved.policy("t", "default", "api").unwrap().budgets.unwrap();
    let meant = (budgets.on_exceeded, budgets.degrade_to.as_deref());
    assert_eq!(meant, (OnExceeded::Degrade, Some("cheap")));
    check(
        &format!("{ECHO}[budgets]\non_exceeded = \"ignore\"\n"),
        "turnkeep.toml:4: \"on_exceeded\" in [budgets] must be \"refuse\" or \"degrade\", not \
         \"ignore\"",
    );
}

#[test]
fn a_price_is_of_a_million_tokens() {
    let toml = format!(
        "{ECHO}[usage]\ncurrency = \"EUR\"\ndays_kept = 0\n\
         [prices.\"gpt-4.1\"]\ninput_per_million = 2\noutput_per_million = 8.5\n\
         cached_per_million = 0.5\n"
    );
    let prices = load_text(&toml).unwrap().prices;
    let price = Price {
        input_micros: 2_000_000,
        output_micros: 8_500_000,
        cached_micros: 500_000,
        cache_write_micros: 2_000_000,
    };
    assert_eq!(prices.by_model["gpt-4.1"], price);
    assert_eq!((prices.currency.as_str(), prices.days_kept), ("EUR", 0));
    let usage = Usage { model: "gpt-4.1".into(), output_tokens: 3, ..Usage::default() };
    assert_eq!(prices.priced(usage).cost_micros, Some(26));
    check(
        "[prices]\ninput_per_million = 2\n",
        "turnkeep.toml:2: \"input_per_million\" in [prices] needs a name, as in [prices.NAME]",
    );
}

#[test]
fn a_budget_in_money_needs_a_price() {
    let notes = |rest: &str| {
        let model = "[agents.default]\nkind = \"openai\"\nbase_url = \"http://h\"\nmodel = \"m\"\n";
        load_text(&format!("{model}{rest}")).unwrap().notes.len()
    };
    assert_eq!(notes(""), 0);
    assert_eq!(notes("[budgets]\ntenant_tokens_per_day = 5\ntenant_cost_per_day = 0\n"), 0);
    assert_eq!(notes("[tenants.acme.budgets]\ntenant_cost_per_day = 5\n"), 1);
    assert_eq!(notes("[prices.m]\n[tenants.acme.budgets]\ntenant_cost_per_day = 5\n"), 0);
}
