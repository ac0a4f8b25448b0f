//! The picture of a run: well-formed, a lane for each user, and a colour for what went wrong.

use std::time::Duration;

use crate::fake::{Fake, Trouble};
use tokio_util::sync::CancellationToken;
use turnkeep_bench::{Plan, Report, run_over};

async fn drawn(plan: Plan, fake: Fake) -> (Report, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.svg");
    let plan = Plan { picture: Some(path.clone()), progress: false, delay_ms: 50, ..plan };
    let report = run_over(&plan, fake, CancellationToken::new()).await.unwrap();
    assert_eq!(report.picture.as_ref(), Some(&path));
    (report, std::fs::read_to_string(path).unwrap())
}

fn texts(document: &roxmltree::Document<'_>) -> Vec<String> {
    let texts = document.descendants().filter(|node| node.has_tag_name("text"));
    texts.filter_map(|node| node.text()).map(str::to_owned).collect()
}

#[tokio::test(start_paused = true)]
async fn a_lane_for_each_user_and_the_flood() {
    let plan = Plan {
        users: 7,
        messages: Some(6),
        burst: 2,
        burst_gap_ms: 10,
        channel: "<&\">".to_owned(),
        flood_connections: Some(1),
        duration: Some(Duration::from_secs(5)),
        ..Plan::default()
    };
    let fake = Fake::with(50, |message| match message.number {
        4 => Trouble::Slow(Duration::from_millis(700)),
        5 => Trouble::RateLimited(0),
        _ => Trouble::None,
    });
    let (report, svg) = drawn(plan, fake).await;
    let document = roxmltree::Document::parse(&svg).unwrap();
    let texts = texts(&document);
    for user in 0..7 {
        assert!(texts.contains(&format!("user {user}")), "no lane for user {user}");
    }
    assert!(texts.contains(&"flood (sample)".to_owned()));
    assert!(texts.contains(&report.verdict.sentence));
    assert!(texts.iter().any(|text| text.ends_with("channel <&\"> on fake:1")), "{texts:?}");
    assert!(texts.contains(&"refused".to_owned()));
    let titles = document.descendants().filter(|node| node.has_tag_name("title")).count();
    assert_eq!(titles as u64, report.complete, "every bar explains itself");
}

#[tokio::test(start_paused = true)]
async fn many_users_are_drawn_as_a_sample() {
    let plan = Plan { users: 1000, messages: Some(2), ..Plan::default() };
    let (_, svg) = drawn(plan, Fake::new(50)).await;
    let document = roxmltree::Document::parse(&svg).unwrap();
    let lanes = texts(&document).into_iter().filter(|text| text.starts_with("user ")).count();
    assert_eq!(lanes, 40);
    assert!(svg.len() < 200_000, "{} bytes", svg.len());
}

#[tokio::test(start_paused = true)]
async fn an_open_run_has_dots_only() {
    let plan = Plan { users: 50, messages: Some(2), wait: false, ..Plan::default() };
    let (_, svg) = drawn(plan, Fake::new(50)).await;
    let document = roxmltree::Document::parse(&svg).unwrap();
    assert!(document.descendants().filter(|node| node.has_tag_name("circle")).count() > 50);
    assert!(!document.descendants().any(|node| node.has_tag_name("title")));
}

#[tokio::test(start_paused = true)]
async fn a_picture_that_cannot_be_written_costs_the_picture_only() {
    let plan = Plan {
        users: 1,
        messages: Some(1),
        progress: false,
        picture: Some("/no/such/folder/run.svg".into()),
        ..Plan::default()
    };
    let report = run_over(&plan, Fake::new(50), CancellationToken::new()).await.unwrap();
    assert_eq!((report.complete, report.picture), (1, None));
    assert!(report.notes[0].contains("/no/such/folder/run.svg"));
}
