//! The line of the log for each decision.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Home, TEXT};

/// What every line of a decision has, beside what every line of the log has.
const FIELDS: [&str; 5] = ["session_key", "action", "message_id", "workflow_run_id", "latency_ms"];

#[tokio::test(flavor = "multi_thread")]
async fn every_decision_is_a_line_of_the_log_without_its_text() {
    let home = Home::new().await;
    home.live_through_everything().await;
    let lines = home.end();
    let decisions: Vec<&Value> =
        lines.iter().filter(|line| line["message"] == "gateway_decision").collect();
    assert_eq!(decisions.len(), 11);
    for line in &decisions {
        let given = FIELDS.iter().filter(|field| !line[**field].is_null());
        assert_eq!(given.count(), FIELDS.len(), "{line}");
        assert!(line["latency_ms"].as_f64().unwrap() > 0.0, "{line}");
        assert!(line["session_key"].as_str().unwrap().split(':').count() == 5, "{line}");
        assert_ne!(line["message_id"], "", "{line}");
        let has_turn = line["workflow_run_id"] != "";
        let (action, reason) = (line["action"].as_str().unwrap(), &line["reason"]);
        match action {
            "workflow_started" | "event_sent" | "duplicate" => {
                assert!(has_turn && reason.is_null(), "{line}");
            }
            "queued" => assert!(!has_turn && reason.is_null(), "{line}"),
            "rejected" => assert!(!has_turn && reason.is_string(), "{line}"),
            other => panic!("an unknown action: {other}"),
        }
    }
    let actions: BTreeSet<&str> =
        decisions.iter().map(|line| line["action"].as_str().unwrap()).collect();
    let all = ["duplicate", "event_sent", "queued", "rejected", "workflow_started"];
    assert!(actions.iter().eq(&all), "{actions:?}");
    let of_anna = decisions.iter().filter(|line| line["message_id"] == "m-1");
    let turns: BTreeSet<&str> =
        of_anna.map(|line| line["workflow_run_id"].as_str().unwrap()).collect();
    assert_eq!(turns.len(), 1, "a twin is told of the first one's turn");
    for line in &lines {
        let line = line.to_string();
        assert!(!line.contains(TEXT) && !line.contains("cheap pills"), "{line}");
    }
}
