//! Engines that say more than we know, or nonsense, or nothing.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prost::Message;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use turnkeep_core::ports::dispatch::TurnStep;
use turnkeep_hatchet::{
    HatchetClient, HatchetError, HatchetSettings, Listening, Order, Tls, Triggered, Worker,
    WorkerReport, WorkerSettings,
};

use crate::kit::{PATIENCE, run, settings, until};
use crate::stub::{Answer, Stub, Way, certificate, says, streams};

/// What no contract has yet.
#[derive(Clone, PartialEq, Message)]
struct More {
    #[prost(string, tag = "1")]
    text: String,
    #[prost(message, optional, boxed, tag = "2")]
    more: Option<Box<More>>,
}

/// Any answer of ours, with more in it than is known.
#[derive(Clone, PartialEq, Message)]
struct Answered {
    #[prost(string, tag = "1")]
    first: String,
    #[prost(string, tag = "2")]
    second: String,
    #[prost(message, optional, tag = "90")]
    more: Option<More>,
    #[prost(fixed64, repeated, tag = "5000")]
    numbers: Vec<u64>,
    #[prost(map = "string, double", tag = "5001")]
    named: std::collections::HashMap<String, f64>,
}

/// A dispatch, likewise.
#[derive(Clone, PartialEq, Message)]
struct Assigned {
    #[prost(string, tag = "2")]
    run: String,
    #[prost(string, tag = "8")]
    task_run: String,
    #[prost(string, tag = "9")]
    action: String,
    #[prost(int32, tag = "10")]
    kind: i32,
    #[prost(string, tag = "11")]
    payload: String,
    #[prost(int32, tag = "13")]
    retry: i32,
    #[prost(string, optional, tag = "14")]
    metadata: Option<String>,
    #[prost(message, optional, tag = "77")]
    more: Option<More>,
}

/// A report.
#[derive(Clone, PartialEq, Message)]
struct Reported {
    #[prost(string, tag = "5")]
    task_run: String,
    #[prost(int32, tag = "8")]
    kind: i32,
    #[prost(string, tag = "9")]
    payload: String,
    #[prost(int32, optional, tag = "10")]
    retry: Option<i32>,
    #[prost(bool, optional, tag = "11")]
    final_one: Option<bool>,
}

const ACTION: &str = "lies_logicalturnworkflow:run_agent";

fn more() -> Option<More> {
    let inner = More { text: "new".into(), more: None };
    Some(More { text: "new".into(), more: Some(Box::new(inner)) })
}

fn answered(first: &str, second: &str) -> Answered {
    let (numbers, named) = (vec![1, 2], [("a".to_owned(), 0.5)].into());
    Answered { first: first.into(), second: second.into(), more: more(), numbers, named }
}

fn assigned(kind: i32, payload: &Value) -> Assigned {
    Assigned {
        run: "run".into(),
        task_run: format!("task {kind}"),
        action: ACTION.into(),
        kind,
        payload: payload.to_string(),
        retry: 2,
        metadata: None,
        more: more(),
    }
}

fn input(cluster: &str) -> Value {
    json!({"input": {
        "turn": "00000000-0000-0000-0000-000000000009", "epoch": "5", "round": "0", "session": "s",
        "tenant": "home", "cluster": cluster, "since": [2027],
    }, "parents": {"acquire": {"a": 1}}, "later": {}})
}

/// A worker that comes back quickly.
fn worker(stub: &Stub) -> (Worker, mpsc::Receiver<Order>) {
    let client = HatchetClient::new(settings(stub.token(), "lies")).unwrap();
    let quick = Duration::from_millis(5);
    let settings = WorkerSettings {
        heartbeat: Duration::from_millis(20),
        again_first: quick,
        again_longest: quick,
        ..WorkerSettings::new("w", 4)
    };
    Worker::start(client, settings).unwrap()
}

/// One that registers, takes everything, and streams what comes of this.
async fn stub(stream: impl Fn() -> Answer + Send + Sync + 'static) -> Stub {
    Stub::start(move |path| match path {
        "/Dispatcher/ListenV2" => stream(),
        _ => says(&answered("tenant", "worker")),
    })
    .await
}

#[tokio::test]
async fn more_than_we_know_is_skipped() {
    let open = Mutex::new(Vec::new());
    let stub = stub(move || {
        let start = assigned(0, &input("tests"));
        let metadata = json!({"turn": "00000000-0000-0000-0000-000000000009", "epoch": "5"});
        let cancel = Assigned { metadata: Some(metadata.to_string()), ..assigned(1, &json!("")) };
        let (sender, answer) = streams(vec![start.encode_to_vec(), cancel.encode_to_vec()]);
        open.lock().unwrap().push(sender);
        answer
    })
    .await;
    let client = HatchetClient::new(settings(stub.token(), "lies")).unwrap();
    assert_eq!(client.version().await.unwrap(), "tenant");
    assert_eq!(client.trigger(&run("s")).await, Ok(Triggered::New("tenant".into())));
    assert_eq!(client.put_workflow().await.unwrap(), "tenant");
    let (worker, mut orders) = worker(&stub);
    let Some(Order::Start(start)) = orders.recv().await else { panic!("no start") };
    assert_eq!((start.run.epoch, start.step, start.retry), (5, TurnStep::RunAgent, 2));
    assert_eq!((&*start.run_id, &start.outputs["acquire"]), ("run", &json!({"a": 1})));
    let Some(Order::Cancel(cancel)) = orders.recv().await else { panic!("no cancel") };
    assert_eq!(cancel.turn, Some((start.run.turn, 5)));
    assert_eq!(worker.report().id.as_deref(), Some("worker"));
}

#[tokio::test]
async fn nonsense_is_answered_and_what_is_behind_it_comes() {
    let open = Mutex::new(Vec::new());
    let stub = stub(move || {
        let named = |name: &str, action: Assigned| Assigned { task_run: name.into(), ..action };
        let raw = |payload: &str| Assigned { payload: payload.into(), ..assigned(0, &json!(1)) };
        let foreign = Assigned { action: "other:step".into(), ..assigned(0, &input("tests")) };
        let mut negative = input("tests");
        negative["input"]["epoch"] = json!("-1");
        let mut later = input("tests");
        later["input"]["format"] = json!("2");
        let messages = [
            assigned(77, &input("tests")),
            assigned(-3, &input("tests")),
            named("no json", raw("{\"input\": {")),
            named("no object", raw("[1]")),
            named("nothing", raw("")),
            named("negative", assigned(0, &negative)),
            named("no step", foreign),
            named("no cluster", assigned(0, &input("elsewhere"))),
            named("no format", assigned(0, &later)),
            named("good", Assigned { retry: i32::MIN, ..assigned(0, &input("tests")) }),
        ];
        let (sender, answer) = streams(messages.iter().map(Message::encode_to_vec).collect());
        open.lock().unwrap().push(sender);
        answer
    })
    .await;
    let (worker, mut orders) = worker(&stub);
    let Some(Order::Start(start)) = orders.recv().await else { panic!("no start") };
    assert_eq!((&*start.action.key().0, start.retry), ("good", 0));
    let report = worker.report();
    assert_eq!((report.unknown, report.refused, report.starts), (2, 7, 1));
    let mut refused = Vec::new();
    while refused.len() < 7 {
        let report = stub.called("SendStepActionEvent").await;
        let report = Reported::decode(report).unwrap();
        assert_eq!((report.kind, report.retry), (3, Some(2)));
        assert!(!report.payload.is_empty());
        refused.push((report.task_run, report.final_one.unwrap()));
    }
    refused.sort();
    let told: Vec<_> = refused.iter().map(|(name, last)| (name.as_str(), *last)).collect();
    // Somebody else may have that step, or be of that cluster or version.
    let expected = [
        ("negative", true),
        ("no cluster", false),
        ("no format", false),
        ("no json", true),
        ("no object", true),
        ("no step", false),
        ("nothing", true),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_stream_of_nothing_but_nonsense_is_closed() {
    let stub = stub(|| {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            while sender.send(assigned(9, &json!(1)).encode_to_vec()).await.is_ok() {}
        });
        Answer::Streams(receiver)
    })
    .await;
    let (worker, _orders) = worker(&stub);
    let told = until(&worker, |told| told.streams > 2 && is_lost(told)).await;
    assert!(matches!(told.listening, Listening::Lost(HatchetError::Unreadable(_))), "{told:?}");
    assert_eq!((told.unknown, told.registrations), (100 * told.streams, 1));
}

#[tokio::test]
async fn an_endless_stream_is_not_read_ahead_of_whoever_takes_it() {
    let stub = stub(|| {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            while sender.send(assigned(0, &input("tests")).encode_to_vec()).await.is_ok() {}
        });
        Answer::Streams(receiver)
    })
    .await;
    let (worker, mut orders) = worker(&stub);
    // Twice its slots, some more, and the one in hand.
    let full = until(&worker, |told| told.starts == 2 * 4 + 64 + 1).await;
    for _ in 0..5 {
        stub.called("Heartbeat").await;
    }
    let later = worker.report();
    assert_eq!((later.starts, later.streams), (full.starts, 1));
    orders.recv().await.unwrap();
    until(&worker, |told| told.starts == full.starts + 1).await;
    // Nobody wants more.
    drop(orders);
    until(&worker, |told| told.listening == Listening::Left).await;
}

#[tokio::test]
async fn too_large_a_message_ends_the_stream_and_nothing_else() {
    let stub = stub(|| Answer::Begins(64 << 20)).await;
    let (worker, _orders) = worker(&stub);
    let told = until(&worker, |told| told.streams > 1 && is_lost(told)).await;
    assert!(matches!(told.listening, Listening::Lost(HatchetError::Unreadable(_))), "{told:?}");
}

#[tokio::test]
async fn a_stream_is_opened_anew_when_asked_and_left_with_a_word() {
    let stub = refusing(0, 0, "").await;
    let (worker, mut orders) = worker(&stub);
    until(&worker, |told| told.streams == 1).await;
    stub.called("ListenV2").await;
    worker.reopen();
    stub.called("ListenV2").await;
    assert_eq!(worker.report().streams, 2);
    worker.leave().await;
    stub.called("Unsubscribe").await;
    assert_eq!(orders.recv().await, None);
}

/// A way that swallows everything looks like an engine with nothing to say.
#[tokio::test]
async fn a_connection_that_died_in_silence_is_noticed() {
    let stub = refusing(0, 0, "").await;
    let way = Way::to(stub.port()).await;
    let settings = HatchetSettings {
        address: Some(format!("127.0.0.1:{}", way.port).into()),
        keepalive: Duration::from_millis(100),
        ..settings(stub.token(), "lies")
    };
    let client = HatchetClient::new(settings).unwrap();
    let (worker, _orders) = Worker::start(client, WorkerSettings::new("w", 1)).unwrap();
    stub.called("ListenV2").await;
    way.swallow();
    let told = until(&worker, is_lost).await;
    assert!(matches!(told.listening, Listening::Lost(HatchetError::Unreachable(_))), "{told:?}");
    // The next connection is a good one.
    let back = until(&worker, |told| told.listening == Listening::Open).await;
    assert_eq!((back.streams, back.registrations), (2, 1));
    stub.called("ListenV2").await;
}

fn is_lost(told: &WorkerReport) -> bool {
    matches!(told.listening, Listening::Lost(_))
}

/// Streams that are open for good, and heartbeats that fail a few times in this way.
async fn refusing(times: u32, code: u16, text: &'static str) -> Stub {
    let (open, left) = (Mutex::new(Vec::new()), AtomicU32::new(times));
    Stub::start(move |path| match path {
        "/Dispatcher/ListenV2" => {
            let (sender, answer) = streams(Vec::new());
            open.lock().unwrap().push(sender);
            answer
        }
        "/Dispatcher/Heartbeat"
            if left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok() =>
        {
            Answer::Fails(code, text, Vec::new())
        }
        _ => says(&answered("tenant", "worker")),
    })
    .await
}

#[tokio::test]
async fn a_stream_that_the_engine_does_not_see_is_opened_anew() {
    let stub = refusing(2, 9, "Heartbeat rejected: worker stream is not active: worker").await;
    let (worker, _orders) = worker(&stub);
    let told = until(&worker, |told| told.streams == 2 && told.listening == Listening::Open).await;
    assert_eq!(told.registrations, 1);
}

#[tokio::test]
async fn a_forgotten_worker_registers_again() {
    let stub = refusing(3, 5, "worker not found: worker").await;
    let (worker, _orders) = worker(&stub);
    let told = until(&worker, |told| told.registrations == 4).await;
    assert!(told.streams >= 3, "{told:?}");
}

#[tokio::test]
async fn heartbeats_that_fail_for_long_open_a_new_stream() {
    let stub = refusing(3, 13, "could not write").await;
    let (worker, _orders) = worker(&stub);
    let told = until(&worker, |told| told.streams == 2).await;
    assert_eq!(told.registrations, 1);
}

/// An engine that does not know a worker ends its stream with any code.
#[tokio::test]
async fn a_stream_that_ends_at_once_shows_that_a_worker_is_forgotten() {
    let beats = AtomicU32::new(0);
    let stub = Stub::start(move |path| match path {
        "/Dispatcher/ListenV2" => Answer::Fails(2, "no rows in result set", Vec::new()),
        // The first one is on its way before the stream ends.
        "/Dispatcher/Heartbeat" if beats.fetch_add(1, Ordering::Relaxed) < 2 => {
            says(&answered("", ""))
        }
        "/Dispatcher/Heartbeat" => Answer::Fails(5, "worker not found: worker", Vec::new()),
        _ => says(&answered("tenant", "worker")),
    })
    .await;
    let (worker, _orders) = worker(&stub);
    until(&worker, |told| told.registrations >= 3).await;
}

#[tokio::test]
async fn refusals_are_told_in_classes() {
    let answers = Arc::new(Mutex::new(Vec::new()));
    let given = Arc::clone(&answers);
    let stub = Stub::start(move |_| given.lock().unwrap().pop().unwrap_or(Answer::Hangs)).await;
    let client = |call_timeout| {
        let settings = HatchetSettings { call_timeout, ..settings(stub.token(), "lies") };
        HatchetClient::new(settings).unwrap()
    };
    // Only who gets no answer at all may give up.
    let (client, impatient) = (client(PATIENCE), client(Duration::from_millis(200)));
    let triggered = async |answer| {
        answers.lock().unwrap().push(answer);
        client.trigger(&run("s")).await
    };
    let fails = |code, text| Answer::Fails(code, text, Vec::new());
    let class = async |answer| triggered(answer).await.unwrap_err().class();
    assert_eq!(class(fails(8, "rejected, rate limit exceeded")).await, "rate_limited");
    assert_eq!(class(fails(8, "grpc: received message larger than max")).await, "too_large");
    assert_eq!(class(fails(12, "unknown service")).await, "unsupported");
    assert_eq!(class(fails(3, "workflow names not found: x")).await, "unknown_workflow");
    assert_eq!(class(fails(999, "?")).await, "failed");
    assert_eq!(class(Answer::Says(vec![0xff; 9])).await, "unreadable");
    assert_eq!(class(Answer::Says(Vec::new())).await, "unreadable");
    answers.lock().unwrap().push(Answer::Hangs);
    assert_eq!(impatient.trigger(&run("s")).await.unwrap_err().class(), "late");
    // A collision says whose it is, or doesn't.
    assert_eq!(triggered(fails(6, "collision")).await, Ok(Triggered::Before(None)));
    let known = collision("type.googleapis.com/v1.IdempotencyCollisionError", "run-1");
    let before = triggered(Answer::Fails(6, "collision", known)).await;
    assert_eq!(before, Ok(Triggered::Before(Some("run-1".into()))));
    let other = triggered(Answer::Fails(6, "collision", collision("other", "run-1"))).await;
    assert_eq!(other, Ok(Triggered::Before(None)));
    let garbage = triggered(Answer::Fails(6, "collision", vec![0xff; 20])).await;
    assert_eq!(garbage, Ok(Triggered::Before(None)));
}

/// `google.rpc.Status` with one detail.
fn collision(kind: &str, run: &str) -> Vec<u8> {
    #[derive(Clone, PartialEq, Message)]
    struct Detail {
        #[prost(string, tag = "1")]
        kind: String,
        #[prost(bytes = "vec", tag = "2")]
        value: Vec<u8>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct Rich {
        #[prost(int32, tag = "1")]
        code: i32,
        #[prost(message, repeated, tag = "3")]
        details: Vec<Detail>,
        #[prost(string, tag = "40")]
        more: String,
    }
    let value = answered(run, "colliding").encode_to_vec();
    let details = vec![Detail { kind: kind.into(), value }];
    Rich { code: 6, details, more: "new".into() }.encode_to_vec()
}

#[tokio::test]
async fn tls_is_spoken_with_whom_it_should_be() {
    let folder = tempfile::tempdir().unwrap();
    let (identity, authority) = certificate(folder.path());
    let answer = |_: &str| says(&answered("v9", ""));
    let stub = Stub::start_with(answer, Some(identity)).await;
    let ask = async |host: &str, tls: Tls| {
        let settings = HatchetSettings { tls, ..settings(stub.token_at(host), "lies") };
        HatchetClient::new(settings).unwrap().version().await
    };
    let authority: Option<Arc<str>> = Some(authority.into());
    let on =
        |name: Option<&str>| Tls::On { authority: authority.clone(), name: name.map(Into::into) };
    assert_eq!(ask("localhost", on(None)).await.unwrap(), "v9");
    assert_eq!(ask("127.0.0.1", on(Some("localhost"))).await.unwrap(), "v9");
    let error = ask("127.0.0.1", on(None)).await.unwrap_err();
    assert_eq!(error.class(), "unreachable");
    assert!(error.to_string().contains("certificate"), "{error}");
    assert_eq!(ask("localhost", Tls::Off).await.unwrap_err().class(), "unreachable");
    let none = Tls::On { authority: Some("no certificate".into()), name: None };
    let settings = HatchetSettings { tls: none, ..settings(stub.token(), "lies") };
    let made = HatchetClient::new(settings);
    assert!(made.is_err() || made.unwrap().version().await.is_err());
}
