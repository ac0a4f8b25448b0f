//! Dashboard, rules and pages, held against what a server tells that has lived through everything.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::asked::{filled_in, metrics, mistakes};
use super::told::Told;
use super::{Home, read};

const DASHBOARD: &str = "deploy/grafana/turnkeep.json";
const RULES: &str = "deploy/prometheus/alerts.yml";
const EXAMPLE: &str = "deploy/prometheus/prometheus.yml";
const PAGE: &str = "docs/operations.md";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    name: String,
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    alert: String,
    expr: String,
    r#for: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

fn rules() -> Vec<Rule> {
    let rules: Rules = serde_saphyr::from_str(&read(RULES)).unwrap();
    assert!(rules.groups.iter().all(|group| group.name == "turnkeep"));
    rules.groups.into_iter().flat_map(|group| group.rules).collect()
}

fn panels() -> Vec<Value> {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    dashboard["panels"].as_array().unwrap().clone()
}

/// Whose questions they are, and the expressions.
fn expressions() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for panel in panels() {
        let title = panel["title"].as_str().unwrap().to_owned();
        for target in panel["targets"].as_array().into_iter().flatten() {
            all.push((title.clone(), filled_in(target["expr"].as_str().unwrap())));
        }
    }
    all.extend(rules().into_iter().map(|rule| (rule.alert, rule.expr)));
    all
}

/// The name of a heading in a link: what is neither letter nor digit goes, blanks are hyphens.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let kept = |one: char| match one {
        ' ' => Some('-'),
        one if one.is_alphanumeric() || one == '-' || one == '_' => Some(one.to_ascii_lowercase()),
        _ => None,
    };
    headings
        .map(|line| line.trim_start_matches('#').trim().chars().filter_map(kept).collect())
        .collect()
}

/// What a page explains, those in backticks at the beginning of a row of a table, with the labels
/// that it names.
fn explained(page: &str) -> BTreeMap<String, BTreeSet<String>> {
    let cells = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let each = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(|entry| {
        let (name, labels) = entry.split_once('{').unwrap_or((entry, ""));
        let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
        (name.to_owned(), labels.map(str::to_owned).collect())
    });
    each.collect()
}

fn check_expressions(told: &Told) {
    let expressions = expressions();
    assert!(expressions.len() > 60, "{}", expressions.len());
    let wrong: Vec<String> = expressions
        .iter()
        .flat_map(|(title, expr)| {
            let mistakes = mistakes(expr, told);
            mistakes.into_iter().map(move |mistake| format!("{title}: {mistake}\n  {expr}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn check_page(told: &Told) {
    let page = read(PAGE);
    let explained = explained(&page);
    let strange: Vec<_> =
        told.families().into_iter().filter(|family| !explained.contains_key(*family)).collect();
    assert!(strange.is_empty(), "{PAGE} says nothing of {strange:?}");
    for family in told.families() {
        let samples = told.samples.iter().filter(|sample| told.family(&sample.name) == family);
        let labels = samples.flat_map(|sample| sample.labels.keys().cloned());
        let labels: BTreeSet<String> = labels.filter(|label| label != "le").collect();
        assert_eq!(explained[family], labels, "the labels of {family} in {PAGE}");
        assert!(told.kinds.contains_key(family), "{family} has no type");
        assert!(told.described.contains(family), "{family} does not say what it is about");
    }
    // And the other way round: what is explained there is there.
    let told_names = told.families();
    let ours = ["turn_gateway_", "turnkeep_", "process_"];
    let gone = explained.keys().filter(|name| ours.iter().any(|prefix| name.starts_with(prefix)));
    let gone: Vec<_> = gone.filter(|name| !told_names.contains(name.as_str())).collect();
    assert!(gone.is_empty(), "{PAGE} explains what nobody tells: {gone:?}");
}

/// What is counted right, where it is known how much it must be.
fn check_values(told: &Told) {
    let check = |name: &str, labels: &[(&str, &str)], expect: f64| {
        assert_eq!(told.value(name, labels), expect, "{name} {labels:?}");
    };
    let decided = "turn_gateway_decision_total";
    for (action, count) in [("workflow_started", 6.0), ("event_sent", 1.0), ("queued", 1.0)] {
        check(decided, &[("action", action)], count);
    }
    check(decided, &[("action", "rejected")], 2.0);
    check("turn_gateway_rejected_total", &[("reason", "abuse_detected:term")], 1.0);
    check("turn_gateway_rejected_total", &[("reason", "rate_limit_exceeded")], 1.0);
    check("turn_gateway_rejected_total", &[("reason", "queue_full")], 0.0);
    check("turnkeep_duplicates_total", &[], 1.0);
    check("turn_gateway_latency_ms_count", &[], 10.0);
    check("turn_gateway_queue_depth", &[("session_key_pattern", "*:*:api:dm:*")], 1.0);
    check("turnkeep_runs_active", &[], 2.0);
    check("turnkeep_run_failures_total", &[], 1.0);
    check("turnkeep_turns_total", &[("status", "failed")], 1.0);
    check("turnkeep_outbox_parts", &[], 0.0);
    check("turn_gateway_tokens_total", &[("agent", "default"), ("kind", "input")], 3.0);
    check("turn_gateway_tokens_total", &[("agent", "default"), ("kind", "output")], 6.0);
    check("turn_gateway_cost_micros_total", &[("agent", "default")], 6.0);
    check("turn_gateway_budget_refusals_total", &[("scope", "tenant")], 0.0);
    check("turnkeep_outbox_oldest_seconds", &[], 0.0);
    check("turnkeep_slots_limit", &[("agent", "broken")], 8.0);
    check("turnkeep_slots_limit", &[("agent", "slow")], f64::INFINITY);
    check("turnkeep_slots_used", &[("agent", "broken")], 0.0);
    for name in ["turnkeep_ready", "turnkeep_store_ready", "turnkeep_config_ok"] {
        check(name, &[], 1.0);
    }
    check("turnkeep_draining", &[], 0.0);
    check("turnkeep_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    let batches = told.value("turnkeep_store_batches_total", &[]);
    for histogram in ["turnkeep_store_sync_seconds", "turnkeep_store_batch_jobs"] {
        assert!(
            batches > 0.0 && told.value(&format!("{histogram}_count"), &[]) > 0.0,
            "{histogram}"
        );
    }
    let ends: Vec<&str> =
        told.of("turn_gateway_latency_ms_bucket").map(|one| one.labels["le"].as_str()).collect();
    assert_eq!(ends, ["1", "5", "10", "25", "50", "100", "+Inf"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboard_rules_and_pages_agree_with_what_is_told() {
    let home = Home::new().await;
    let told = home.live_through_everything().await;
    check_values(&told);
    check_expressions(&told);
    check_page(&told);
    for sample in &told.samples {
        for (label, value) in &sample.labels {
            let private = ["anna", "bert", "cleo", "tight", "m-1"];
            assert!(!private.iter().any(|name| value.contains(name)), "{label}={value}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_watches_is_counted() {
    let home = Home::new().await;
    let watch = format!("{}/v1/sessions/default:default:web:dm:anna/events", home.server.address);
    let stream = home.client.get(watch).send().await.unwrap();
    assert_eq!(stream.status(), 200);
    home.until("a watcher", |told| told.value("turnkeep_watchers", &[]) == 1.0).await;
    drop(stream);
    home.until("nobody who watches", |told| told.value("turnkeep_watchers", &[]) == 0.0).await;
}

#[test]
fn every_panel_says_what_it_shows() {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<_> = variables.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["datasource", "instance"]);
    assert_eq!(dashboard["id"], Value::Null, "an id belongs to one Grafana only");
    let (mut rows, mut ids, mut titles) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let mut taken: Vec<[u64; 4]> = Vec::new();
    for panel in panels() {
        let title = panel["title"].as_str().unwrap().to_owned();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        let [x, y, w, h] =
            ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(x + w <= 24, "{title} hangs over the edge");
        let apart = |other: &[u64; 4]| {
            x + w <= other[0]
                || other[0] + other[2] <= x
                || y + h <= other[1]
                || other[1] + other[3] <= y
        };
        assert!(taken.iter().all(apart), "{title} lies on another one");
        taken.push([x, y, w, h]);
        if panel["type"] == "row" {
            rows.push(title);
            continue;
        }
        assert!(title.ends_with('?'), "{title} asks nothing");
        assert!(panel["description"].as_str().unwrap().ends_with('.'), "{title}");
        assert!(!panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap().is_empty(), "{title}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{title}");
        for target in targets {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let expr = target["expr"].as_str().unwrap();
            let asked = metrics(&filled_in(expr)).unwrap().len();
            let chosen = expr.matches("{instance=~\"$instance\"}").count();
            assert!(asked > 0 && chosen >= asked, "{title} shows other instances: {expr}");
        }
        assert!(titles.insert(title.clone()), "{title} twice");
    }
    let expect = [
        "Who waits",
        "Decisions",
        "Turns",
        "Store",
        "Guard",
        "Money",
        "Callbacks",
        "Process",
        "Cluster",
    ];
    assert_eq!(rows, expect);
}

#[test]
fn every_alert_says_what_to_do() {
    let page = read(PAGE);
    let headings = anchors(&page);
    let rules = rules();
    let names: BTreeSet<_> = rules.iter().map(|rule| rule.alert.as_str()).collect();
    assert!(names.len() == rules.len() && rules.len() > 15, "{names:?}");
    for Rule { alert, r#for, labels, annotations, .. } in &rules {
        assert!(["critical", "warning"].contains(&labels["severity"].as_str()), "{alert}");
        let number = r#for.strip_suffix(['s', 'm']).unwrap();
        assert!(number.parse::<u32>().is_ok(), "{alert}: {for}", for = r#for);
        assert!(!annotations["summary"].is_empty(), "{alert}");
        let heading = annotations["runbook"].strip_prefix("docs/operations.md#").unwrap();
        assert!(headings.contains(heading), "{alert}: {PAGE} has no heading {heading}");
        let (_, behind) = page.split_once(&format!("### {alert}\n")).unwrap();
        let section = behind.split("\n#").next().unwrap();
        for part in ["**Means:** ", "**Look:** ", "**Do:** "] {
            assert!(section.contains(part), "{alert} lacks {part}");
        }
    }
    for heading in page.lines().filter_map(|line| line.strip_prefix("### Turnkeep")) {
        let alert = format!("Turnkeep{heading}");
        assert!(names.contains(alert.as_str()), "there is no alert {alert} any more");
    }
}

/// What a summary names of an alert, its samples must have.
#[tokio::test(flavor = "multi_thread")]
async fn summaries_name_labels_that_are_there() {
    let home = Home::new().await;
    let told = home.live_through_everything().await;
    for rule in rules() {
        let asked = metrics(&rule.expr).unwrap();
        for label in rule.annotations["summary"].split("$labels.").skip(1) {
            let label = label.split(' ').next().unwrap();
            let mut samples = asked.iter().flat_map(|name| told.of(name));
            let known = label == "instance" || samples.any(|one| one.labels.contains_key(label));
            // A label that was summed over is gone.
            let summed = rule.expr.contains("sum ") && label != "instance";
            assert!(known, "{}: nothing has the label {label}", rule.alert);
            assert!(!summed || rule.expr.contains(label), "{}: {label} is summed over", rule.alert);
        }
    }
}

#[test]
fn the_example_for_prometheus_uses_the_rules() {
    let example: Value = serde_saphyr::from_str(&read(EXAMPLE)).unwrap();
    assert_eq!(example["rule_files"][0], "alerts.yml");
    let job = &example["scrape_configs"][0];
    assert_eq!(job["job_name"], "turnkeep");
    assert!(job["authorization"]["credentials_file"].is_string());
    let up = rules().into_iter().find(|rule| rule.alert == "TurnkeepDown").unwrap();
    assert!(up.expr.contains("job=\"turnkeep\""), "the rules know it by another name");
}
