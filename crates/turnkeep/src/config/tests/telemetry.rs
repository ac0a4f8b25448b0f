//! Where spans are sent, and what goes along.

use super::{check, load_layers, load_text};
use crate::config::Env;
use crate::config::telemetry::headers;

#[test]
fn there_are_no_traces_unless_somebody_wants_them() {
    assert_eq!(load_text("").unwrap().telemetry, None);
    assert_eq!(load_text("[telemetry]").unwrap().telemetry, None);
    let settings = |toml: &str| load_text(&format!("[telemetry]\n{toml}")).unwrap().telemetry;
    let plain = settings("otlp_endpoint = \"http://127.0.0.1:4318\"").unwrap();
    assert_eq!(
        (&*plain.url, &*plain.service_name),
        ("http://127.0.0.1:4318/v1/traces", "turnkeep")
    );
    assert!(plain.headers.is_empty() && (plain.sample_ratio - 1.0).abs() < f64::EPSILON);
    let told = settings(
        "otlp_endpoint = \"https://o.example/otlp/?x=1\"\nservice_name = \"shop\"\nsample_ratio = 0",
    );
    let told = told.unwrap();
    assert_eq!((&*told.url, &*told.service_name), ("https://o.example/otlp/v1/traces?x=1", "shop"));
    assert!(told.sample_ratio.abs() < f64::EPSILON);
}

#[test]
fn variables_say_it_too() {
    let env = Env::from([
        ("TURNKEEP_TELEMETRY_OTLP_ENDPOINT", "http://h"),
        ("TURNKEEP_TELEMETRY_SAMPLE_RATIO", "0.5"),
        ("TURNKEEP_TELEMETRY_HEADERS_ENV", "H"),
        ("H", "authorization=Bearer%20tell-nobody, x-team=a"),
    ]);
    let settings = load_layers("", &env, &[]).unwrap().telemetry.unwrap();
    assert_eq!(settings.url, "http://h/v1/traces");
    assert_eq!(settings.headers["authorization"], "Bearer tell-nobody");
    assert_eq!(settings.headers["x-team"], "a");
    let shown = format!("{settings:?}");
    assert!(!shown.contains("nobody"), "{shown}");
}

#[test]
fn mistakes_are_told() {
    check(
        "[telemetry]\nservice_name = \"s\"\nsample_ratio = 1",
        "turnkeep.toml:2: \"service_name\" in [telemetry] is of no use without \"otlp_endpoint\"\n\
         turnkeep.toml:3: \"sample_ratio\" in [telemetry] is of no use without \"otlp_endpoint\"",
    );
    check(
        "[telemetry]\notlp_endpoint = \"http://h:4318/v1/traces/\"",
        "turnkeep.toml:2: \"otlp_endpoint\" in [telemetry] must end before /v1/traces, which is put \
         behind it; it looks like \"http://127.0.0.1:4318\"",
    );
    check(
        "[telemetry]\notlp_endpoint = \"grpc://h:4317\"",
        "turnkeep.toml:2: \"otlp_endpoint\" in [telemetry] must be an address that begins with \
         http:// or https://, without a password in it, not \"grpc://h:4317\"",
    );
    check(
        "[telemetry]\notlp_endpoint = \"http://h\"\nsample_ratio = 2",
        "turnkeep.toml:3: \"sample_ratio\" in [telemetry] must be a number from 0 to 1, not 2",
    );
}

#[test]
fn headers_are_read() {
    let right = |text: &str, expect: &[(&str, &str)]| {
        let read = headers(text).unwrap();
        let read = read.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
        assert_eq!(read.collect::<Vec<_>>(), expect, "{text}");
    };
    right("a=1", &[("a", "1")]);
    right(" A = x=y ,, b=%2C+%25 ", &[("a", "x=y"), ("b", ",+%")]);
    for wrong in ["", ",", "a", "a=", "=1", "a b=1", "a=%2", "a=%zz", "a=%+1", "a=%0A", "é=1"] {
        let why = headers(wrong).unwrap_err();
        assert!(
            why.contains("it must be name=value") || why.contains("no header"),
            "{wrong}: {why}"
        );
    }
}
