//! The durable snapshot: what one version writes, its neighbours read.

use super::*;

#[test]
fn a_snapshot_reads_back_but_for_the_bodies_that_the_store_fills_in() {
    let mut bench = Bench::on(
        "signal",
        Policy {
            busy: BusyPolicy::Agent,
            window_ms: 0,
            ..Policy::built_in(*channel_facts("signal").unwrap())
        },
    );
    bench.say("one");
    bench.finish("ok");
    bench.say("two");
    bench.say("three");
    bench.say_as("four", Trust::Owner);
    let text = serde_json::to_string(&bench.session).unwrap();
    let mut read: Session = serde_json::from_str(&text).unwrap();
    for (read, known) in read.bodies_mut().zip(bench.session.clone().bodies_mut()) {
        assert!(read.1.text.is_empty());
        *read.1 = Arc::clone(known.1);
    }
    for (read, known) in read.outbox.parts.iter_mut().zip(&bench.session.outbox.parts) {
        read.text = Arc::clone(&known.text);
    }
    assert_eq!(read, bench.session);
}

#[test]
fn missing_fields_have_defaults_and_unknown_ones_are_ignored() {
    let read: Session = serde_json::from_str("{}").unwrap();
    assert_eq!(read, Session::default());
    let newer = r#"{"epoch":3,"last_seq":7,"closed":true,"from_the_future":{"a":[1]}}"#;
    let read: Session = serde_json::from_str(newer).unwrap();
    assert_eq!((read.epoch, read.last_seq, read.closed), (Epoch(3), Seq(7), true));
}

#[test]
fn an_idle_session_is_small() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    bench.say("one");
    bench.finish("ok");
    let text = serde_json::to_string(&bench.session).unwrap();
    assert!(text.len() < 250, "{} bytes: {text}", text.len());
}
