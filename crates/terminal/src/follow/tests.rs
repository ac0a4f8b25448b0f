//! Streams that break, under a clock that only moves where nothing else does.

use std::collections::VecDeque;
use std::sync::Mutex;

use futures_util::stream;
use tokio::time::Instant;

use super::*;
use crate::ports::{Answer, Events, Later, Request};

/// What comes of opening a stream.
type Opened = Result<Vec<Result<SseEvent, Failure>>, Failure>;

/// Answers each opening with the next of these; then it never answers.
#[derive(Default)]
struct Script {
    openings: Mutex<VecDeque<Opened>>,
    /// Behind which event each was opened, and when.
    asked: Mutex<Vec<(Option<String>, Instant)>>,
}

impl Server for Script {
    fn request(&self, _: Request) -> Later<'_, Result<Answer, Failure>> {
        Box::pin(std::future::pending())
    }

    fn stream(&self, _: String, last: Option<String>) -> Later<'_, Result<Events, Failure>> {
        self.asked.lock().unwrap().push((last, Instant::now()));
        let opening = self.openings.lock().unwrap().pop_front();
        Box::pin(async move {
            match opening {
                Some(Ok(events)) => Ok(Box::pin(stream::iter(events)) as Events),
                Some(Err(failure)) => Err(failure),
                None => std::future::pending().await,
            }
        })
    }

    fn save(&self, _: String, _: String) -> Later<'_, Result<Answer, Failure>> {
        Box::pin(std::future::pending())
    }

    fn load(&self, _: String, _: String) -> Later<'_, Result<Answer, Failure>> {
        Box::pin(std::future::pending())
    }

    fn place(&self) -> String {
        "here".into()
    }
}

fn event(id: Option<&str>) -> Result<SseEvent, Failure> {
    Ok(SseEvent { id: id.map(str::to_owned), event: "x".into(), data: String::new() })
}

fn gone() -> Failure {
    Failure::Unreachable("gone".into())
}

/// Follows until so many things were told.
async fn told(openings: Vec<Opened>, many: usize) -> (Vec<Told>, Arc<Script>) {
    let script = Arc::new(Script { openings: Mutex::new(openings.into()), ..Script::default() });
    let (to, mut from) = mpsc::channel(1);
    let streams = Streams::new(script.clone());
    let _following = streams.follow("/x".into(), Some("4".into()), to, |told| told);
    let mut heard = Vec::new();
    while heard.len() < many {
        heard.push(from.recv().await.unwrap());
    }
    (heard, script)
}

#[tokio::test(start_paused = true)]
async fn a_broken_stream_goes_on_behind_its_last_event() {
    let first = Ok(vec![event(Some("5")), event(None), event(Some("7")), Err(gone())]);
    let second = Ok(vec![event(Some("8"))]);
    let (heard, script) = told(vec![first, second], 8).await;
    let lost = |why: &str| Told::Lost { why: why.into(), retry_ms: 250 };
    let told = |id: Option<&str>| Told::Event(event(id).unwrap());
    assert_eq!(
        heard,
        [
            Told::Stands,
            told(Some("5")),
            told(None),
            told(Some("7")),
            lost("gone"),
            Told::Stands,
            told(Some("8")),
            lost("the server ended it"),
        ]
    );
    let asked: Vec<_> = script.asked.lock().unwrap().iter().map(|(last, _)| last.clone()).collect();
    assert_eq!(asked, [Some("4".to_owned()), Some("7".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_to_a_bound() {
    let openings: Vec<Opened> = (0..8).map(|_| Err(gone())).collect();
    let (heard, script) = told(openings, 8).await;
    let pauses = heard.iter().map(|told| match told {
        Told::Lost { retry_ms, .. } => *retry_ms,
        other => panic!("{other:?}"),
    });
    assert_eq!(pauses.collect::<Vec<_>>(), [250, 500, 1000, 2000, 4000, 5000, 5000, 5000]);
    let asked = script.asked.lock().unwrap();
    let waited = asked.windows(2).map(|two| (two[1].1 - two[0].1).as_millis());
    assert_eq!(waited.collect::<Vec<_>>(), [250, 500, 1000, 2000, 4000, 5000, 5000]);
}

#[tokio::test(start_paused = true)]
async fn what_stands_again_has_the_others_tried_at_once() {
    let script = Arc::new(Script::default());
    let fail = || (0..6).map(|_| Err(gone()));
    script.openings.lock().unwrap().extend(fail());
    let streams = Streams::new(script.clone());
    let (to, mut from) = mpsc::channel(1);
    let _first = streams.follow("/first".into(), None, to.clone(), |told| told);
    for _ in 0..6 {
        from.recv().await.unwrap();
    }
    // It waits for 5 seconds now.
    let before = Instant::now();
    let more = [Ok(vec![event(Some("1"))]), Err(gone())];
    script.openings.lock().unwrap().extend(more);
    let _second = streams.follow("/second".into(), None, to, |told| told);
    assert_eq!(from.recv().await, Some(Told::Stands));
    while script.asked.lock().unwrap().len() < 8 {
        from.recv().await.unwrap();
    }
    assert_eq!(script.asked.lock().unwrap()[7].1, before, "it waited all the same");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_the_end() {
    let no = Failure::Refused { status: 401, kind: String::new(), detail: "no key".into() };
    let busy = Failure::Refused { status: 503, kind: String::new(), detail: "draining".into() };
    let (heard, _) = told(vec![Err(busy), Err(no.clone())], 2).await;
    assert!(matches!(&heard[0], Told::Lost { why, .. } if why == "draining"), "{heard:?}");
    assert_eq!(heard[1], Told::Refused(no));
}

#[test]
fn the_place_is_the_last_id_or_what_a_reset_says() {
    let check = |events: &[(Option<&str>, &str, &str)], expect: Option<&str>| {
        let mut last = Some("7".to_owned());
        for (id, event, data) in events {
            let id = id.map(str::to_owned);
            note(&mut last, &SseEvent { id, event: (*event).into(), data: (*data).into() });
        }
        assert_eq!(last.as_deref(), expect, "{events:?}");
    };
    check(&[], Some("7"));
    check(&[(None, "draft", "{}")], Some("7"));
    check(&[(Some("8"), "turn.started", "{}"), (None, "typing", "{}")], Some("8"));
    check(&[(None, "reset", r#"{"last_seq":3}"#)], Some("3"));
    check(&[(None, "reset", r#"{"last_seq":90,"first_seq":41}"#)], Some("40"));
    check(&[(None, "reset", r#"{"last_seq":0}"#), (Some("1"), "x", "")], Some("1"));
    check(&[(None, "reset", "what?")], None);
}

#[test]
fn some_refusals_pass() {
    let refused = |status| Failure::Refused { status, kind: String::new(), detail: String::new() };
    for (failure, expect) in [
        (gone(), true),
        (refused(503), true),
        (refused(429), true),
        (refused(404), false),
        (refused(401), false),
        (Failure::Strange(String::new()), false),
    ] {
        assert_eq!(passes(&failure), expect, "{failure:?}");
    }
}
