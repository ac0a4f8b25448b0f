//! What an expression of dashboard or rules asks for, held against what is told.

use std::collections::BTreeSet;

use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{self, Call, Expr, LabelModifier, VectorSelector};

use super::told::Told;

/// Labels that Prometheus itself puts on every sample, and metrics that it makes.
const ITS_LABELS: [&str; 2] = ["instance", "job"];
const ITS_METRICS: [&str; 1] = ["up"];

/// What Grafana puts into an expression before it asks.
pub(crate) fn filled_in(expr: &str) -> String {
    expr.replace("$__rate_interval", "5m").replace("\"$instance\"", "\".*\"")
}

/// The metrics that it asks for.
pub(crate) fn metrics(expr: &str) -> Result<BTreeSet<String>, String> {
    let parsed = parser::parse(expr)?;
    Ok(selectors(&parsed).into_iter().filter_map(|one| one.name.clone()).collect())
}

/// Everything in an expression that nothing tells, in words.
pub(crate) fn mistakes(expr: &str, told: &Told) -> Vec<String> {
    match parser::parse(expr) {
        Err(error) => vec![format!("no PromQL: {error}")],
        Ok(parsed) => {
            let mut found = Vec::new();
            for selector in selectors(&parsed) {
                check_selector(selector, told, &mut found);
            }
            check_within(&parsed, told, &mut found);
            found
        }
    }
}

/// The expressions right below one.
fn below(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::Aggregate(aggregate) => [Some(&aggregate.expr), aggregate.param.as_ref()]
            .into_iter()
            .flatten()
            .map(|one| &**one)
            .collect(),
        Expr::Unary(unary) => vec![&unary.expr],
        Expr::Binary(binary) => vec![&binary.lhs, &binary.rhs],
        Expr::Paren(paren) => vec![&paren.expr],
        Expr::Subquery(subquery) => vec![&subquery.expr],
        Expr::Call(call) => call.args.args.iter().map(|one| &**one).collect(),
        _ => Vec::new(),
    }
}

fn selectors(expr: &Expr) -> Vec<&VectorSelector> {
    match expr {
        Expr::VectorSelector(selector) => vec![selector],
        Expr::MatrixSelector(matrix) => vec![&matrix.vs],
        other => below(other).into_iter().flat_map(selectors).collect(),
    }
}

fn check_selector(selector: &VectorSelector, told: &Told, found: &mut Vec<String>) {
    let Some(name) = &selector.name else {
        return found.push("a selector without a name".to_owned());
    };
    if ITS_METRICS.contains(&name.as_str()) {
        return;
    }
    if told.of(name).next().is_none() {
        return found.push(format!("nobody tells {name}"));
    }
    for matcher in &selector.matchers.matchers {
        if !ITS_LABELS.contains(&matcher.name.as_str()) && !is_met(matcher, name, told) {
            found.push(format!("no {name} has {matcher}"));
        }
    }
}

/// Whether a sample has the label with such a value; for a negation, whether one has the label.
fn is_met(matcher: &Matcher, name: &str, told: &Told) -> bool {
    told.of(name).filter_map(|sample| sample.labels.get(&matcher.name)).any(|value| {
        matches!(matcher.op, MatchOp::NotEqual | MatchOp::NotRe(_)) || matcher.is_match(value)
    })
}

/// Labels that the samples below have.
fn labels_below<'a>(expr: &'a Expr, told: &'a Told) -> BTreeSet<&'a str> {
    let names = selectors(expr).into_iter().filter_map(|selector| selector.name.as_deref());
    let labels = names.flat_map(|name| told.of(name)).flat_map(|sample| sample.labels.keys());
    labels.map(String::as_str).chain(ITS_LABELS).collect()
}

/// The labels that are named to go by, and buckets for quantiles.
fn check_within(expr: &Expr, told: &Told, found: &mut Vec<String>) {
    let named = match expr {
        Expr::Aggregate(aggregate) => aggregate.modifier.as_ref(),
        Expr::Binary(binary) => {
            binary.modifier.as_ref().and_then(|modifier| modifier.matching.as_ref())
        }
        _ => None,
    };
    if let Some(named) = named {
        let known = labels_below(expr, told);
        for label in &named.labels().labels {
            if !known.contains(label.as_str()) {
                found.push(format!("nothing in {expr} has the label {label}"));
            }
        }
    }
    if let Expr::Call(Call { func, args }) = expr
        && func.name == "histogram_quantile"
    {
        check_quantile(args.args.last().map(|one| &**one), told, found);
    }
    for inner in below(expr) {
        check_within(inner, told, found);
    }
}

fn check_quantile(of: Option<&Expr>, told: &Told, found: &mut Vec<String>) {
    let Some(of) = of else { return found.push("a quantile of nothing".to_owned()) };
    for selector in selectors(of) {
        let name = selector.name.as_deref().unwrap_or_default();
        let kind = told.kinds.get(told.family(name)).map(String::as_str);
        if !name.ends_with("_bucket") || kind != Some("histogram") {
            found.push(format!("a quantile of {name}, which is no histogram's bucket"));
        }
    }
    let keeps_le = match of {
        Expr::Aggregate(aggregate) => match &aggregate.modifier {
            Some(LabelModifier::Include(kept)) => kept.labels.iter().any(|label| label == "le"),
            Some(LabelModifier::Exclude(gone)) => gone.labels.iter().all(|label| label != "le"),
            None => false,
        },
        _ => true,
    };
    if !keeps_le {
        found.push("a quantile over a sum without le".to_owned());
    }
}

#[test]
fn what_nobody_tells_is_found() {
    let told = Told::read(
        "a_total{kind=\"x\"} 1\nb 1\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_sum 1\nh_count 1\n\
         # TYPE g_bucket gauge\ng_bucket{le=\"1\"} 1\n",
    );
    let check = |expr: &str, expect: &[&str]| assert_eq!(mistakes(expr, &told), expect, "{expr}");
    check("sum by (kind, instance) (rate(a_total{kind=\"x\", job=~\"t.*\"}[5m])) / 2 > 0.5", &[]);
    check("a_total{kind=~\"x|y\"} and on (kind) a_total{kind!=\"x\"}", &[]);
    check("up == 0", &[]);
    check("histogram_quantile(0.9, sum by (le) (rate(h_bucket[5m])))", &[]);
    check("rate(c_total[5m]) + b", &["nobody tells c_total"]);
    check("max(max_over_time((-c)[1h:5m]))", &["nobody tells c"]);
    check("topk(scalar(c), b)", &["nobody tells c"]);
    check("a_total{kind=\"y\"}", &["no a_total has kind=\"y\""]);
    check("a_total{sort!=\"y\"}", &["no a_total has sort!=\"y\""]);
    check("sum by (sort) (b)", &["nothing in sum by (sort) (b) has the label sort"]);
    check("b / on (kind) b", &["nothing in b / on (kind) b has the label kind"]);
    check("{kind=\"x\"}", &["a selector without a name"]);
    check(
        "histogram_quantile(0.9, rate(h_sum[5m]))",
        &["a quantile of h_sum, which is no histogram's bucket"],
    );
    check(
        "histogram_quantile(0.9, g_bucket)",
        &["a quantile of g_bucket, which is no histogram's bucket"],
    );
    check(
        "histogram_quantile(0.9, sum(rate(h_bucket[5m])))",
        &["a quantile over a sum without le"],
    );
    for wrong in ["rate(a_total)", "rat(a_total[5m])", "sum(", "sum by (kind) a_total[5m]", "a b"] {
        let said = mistakes(wrong, &told);
        assert!(said.len() == 1 && said[0].starts_with("no PromQL: "), "{wrong}: {said:?}");
    }
    assert_eq!(
        filled_in("rate(a_total{instance=~\"$instance\"}[$__rate_interval])"),
        "rate(a_total{instance=~\".*\"}[5m])"
    );
    assert_eq!(metrics("a / on () b"), Ok(BTreeSet::from(["a".to_owned(), "b".to_owned()])));
}
