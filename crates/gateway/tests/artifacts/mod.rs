//! What agents keep for their next attempt, and what they undo, through the real gateway over SQLite.

use turnkeep_core::SessionKey;
use turnkeep_core::artifact::Stale;
use turnkeep_core::care::{Reading, Why};
use turnkeep_core::ports::agent::{Artifact, Declined, Inputs, Recalled};
use turnkeep_core::ports::care::{Forget, Forgot};

use super::*;

fn from_messages(turn: &TurnContext, numbers: &[usize], text: &str) -> Inputs {
    let messages = numbers.iter().map(|number| turn.messages[*number].seq).collect();
    Inputs { messages, text: text.into() }
}

async fn keep(turn: &TurnContext, name: &str, inputs: Inputs, depends: &[&str], content: &str) {
    let depends = depends.iter().map(|on| (*on).into()).collect();
    let artifact = Artifact { name: name.into(), inputs, depends, content: content.into() };
    let kept = turn.handle.keep(artifact).await.unwrap();
    assert_eq!(kept, Recalled::Kept(content.into()));
}

async fn recall(turn: &TurnContext, name: &str, inputs: Inputs) -> Recalled {
    turn.handle.recall(name, inputs).await.unwrap()
}

#[tokio::test]
async fn the_turn_that_takes_over_reuses_what_still_holds() {
    let told = Arc::new((Notify::new(), Mutex::new(Vec::new())));
    let agent = agent(&told, |turn, told| async move {
        let (one, both) = (from_messages(&turn, &[0], "v1"), turn.messages.len() == 2);
        if !both {
            keep(&turn, "city", one.clone(), &[], "Rome").await;
            keep(&turn, "hotel", Inputs::default(), &["city"], "Roma").await;
            keep(&turn, "weather", one.clone(), &[], "sunny").await;
            told.0.notify_one();
            std::future::pending::<()>().await;
        }
        let all = from_messages(&turn, &[0, 1], "v1");
        let city = recall(&turn, "city", all.clone()).await;
        keep(&turn, "city", all, &[], "Paris").await;
        let hotel = recall(&turn, "hotel", Inputs::default()).await;
        let weather = recall(&turn, "weather", one).await;
        told.1.lock().unwrap().extend([city, hotel, weather]);
        reply("done")
    });
    let (gateway, _folder) = over_sqlite(agent, |policy| policy.busy = BusyPolicy::Supersede).await;
    gateway.submit(says("anna", "api", "a weekend in Rome"), false).await.unwrap();
    told.0.notified().await;
    ask(&gateway, "no, in Paris").await;
    let expected = [
        Recalled::Stale(Stale::InputsChanged),
        Recalled::Stale(Stale::DependencyChanged),
        Recalled::Kept("sunny".into()),
    ];
    assert_eq!(*told.1.lock().unwrap(), expected);
    let events = journal(&gateway, "anna").await;
    assert_eq!(
        names(&events)[8..],
        ["turn.started", "turn.processing", "artifact.kept", "artifact.reused", "turn.completed",]
    );
}

#[tokio::test]
async fn a_dead_letter_that_is_retried_after_a_restart_finds_what_was_kept() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let script = |turn: TurnContext, seen: Arc<Mutex<Vec<Recalled>>>| async move {
        // Its message has another place now, and says the same.
        let inputs = from_messages(&turn, &[0], "");
        let found = recall(&turn, "plan", inputs.clone()).await;
        let has = matches!(found, Recalled::Kept(_));
        seen.lock().unwrap().push(found);
        if has {
            return reply("done");
        }
        keep(&turn, "plan", inputs, &[], "a plan").await;
        failure("the model is gone", false)
    };
    let folder = tempfile::tempdir().unwrap();
    let open = || SqliteStore::open(folder.path(), SqliteOptions::default()).unwrap();
    let first = started(parts(Arc::new(open()), agent(&seen, script), |_| {})).await;
    assert_eq!(ask(&first, "plan it").await.status, TurnStatus::Failed);
    first.drain().await;
    first.store().close().await;
    drop(first);
    let second = started(parts(Arc::new(open()), agent(&seen, script), |_| {})).await;
    let letters = second.store().dead_letters(0, 10).await.unwrap();
    let [(_, key, letter)] = &letters[..] else { panic!("{letters:?}") };
    let DeadLetter { seq, group, trust, body, .. } = letter.clone();
    let retry = Control::Retry { seq, group, trust, body };
    let Controlled::Retried(decision) = second.control(key, retry).await.unwrap() else {
        panic!("it was there")
    };
    let settled = second.follow(key.clone(), decision.seq.unwrap()).await.unwrap();
    assert_eq!(settled.reply.as_deref(), Some("done"));
    let expected = [Recalled::Stale(Stale::Missing), Recalled::Kept("a plan".into())];
    assert_eq!(*seen.lock().unwrap(), expected);
    journal(&second, "anna").await;
}

/// The beginning of a history is gone, as retention takes it.
async fn forget(gateway: &Gateway, key: &SessionKey, through: Seq) {
    let mut reading = Reading::all(None, through);
    for event in gateway.store().events(key, Seq(0), usize::MAX).await.unwrap() {
        if !reading.observe(&event) {
            break;
        }
    }
    let expected = gateway.store().load(key).await.unwrap().unwrap().version;
    let (key, forgotten) = (key.clone(), reading.forgotten(Why::Retention, 0));
    let order = Forget { key, expected, from: Seq(0), forgotten, bury_as: None };
    assert!(matches!(gateway.care().forget(order).await.unwrap(), Forgot::Done(_)));
}

#[tokio::test]
async fn what_can_not_be_read_any_more_is_not_on_record_as_reused() {
    let gate = Arc::new((Notify::new(), Notify::new(), Mutex::new(None)));
    let agent = agent(&gate, |turn, gate| async move {
        if turn.tag.attempt.0 == 1 {
            keep(&turn, "plan", Inputs::default(), &[], "a plan").await;
            return failure("the model is gone", true);
        }
        gate.0.notify_one();
        gate.1.notified().await;
        let found = recall(&turn, "plan", Inputs::default()).await;
        *gate.2.lock().unwrap() = Some(found);
        reply("done")
    });
    let (gateway, _folder) = over_sqlite(agent, |policy| policy.error_backoff_ms = 1).await;
    let sent = gateway.submit(says("anna", "api", "plan it"), true).await.unwrap();
    gate.0.notified().await;
    forget(&gateway, &sent.key, Seq(4)).await;
    gate.1.notify_one();
    sent.follow.unwrap().await.unwrap();
    assert_eq!(*gate.2.lock().unwrap(), Some(Recalled::Stale(Stale::Missing)));
    let events = gateway.store().events(&sent.key, Seq(4), 100).await.unwrap();
    assert!(!names(&events).contains(&"artifact.reused"), "{:?}", names(&events));
}

#[tokio::test]
async fn what_can_not_be_kept_is_refused_with_the_reason() {
    let refused = Arc::new(Mutex::new(Vec::new()));
    let agent = agent(&refused, |turn, refused| async move {
        let long: Arc<str> = "x".repeat((64 << 10) + 1).into();
        let fits = Artifact { name: "plan".into(), ..Artifact::default() };
        let stranger = Inputs { messages: vec![Seq(99)], text: "".into() };
        for wrong in [
            Artifact { name: "".into(), ..fits.clone() },
            Artifact { content: Arc::clone(&long), ..fits.clone() },
            Artifact { inputs: Inputs { text: long, ..Inputs::default() }, ..fits.clone() },
            Artifact { inputs: stranger, ..fits.clone() },
            Artifact { depends: vec!["a".into(); 9], ..fits.clone() },
            Artifact { depends: vec!["a".into()], ..fits },
        ] {
            match turn.handle.keep(wrong).await.unwrap() {
                Recalled::Refused(reason) => refused.lock().unwrap().push(reason),
                other => panic!("{other:?}"),
            }
        }
        reply("done")
    });
    let (gateway, _folder) = over_sqlite(agent, |_| {}).await;
    ask(&gateway, "plan it").await;
    let words = ["1 to 200", "content", "text", "another turn", "at most 8", "neither recalled"];
    let refused = refused.lock().unwrap();
    assert_eq!(refused.len(), words.len());
    assert!(refused.iter().zip(words).all(|(reason, word)| reason.contains(word)), "{refused:?}");
}

#[tokio::test]
async fn a_turn_in_the_place_of_another_knows_what_that_one_did() {
    fn hold() -> ToolCall {
        call("hold a room", SideEffects::Compensatable, "12")
    }
    let seen = Arc::new(Seen::default());
    let agent = agent(&seen, |turn, seen| async move {
        seen.note_recorded(&turn).await;
        if let Permission::Call(call) = seen.intend(&turn, hold()).await {
            turn.handle.returned(call, ToolOutcome::Done, "held").await.unwrap();
            // And one that is under way when the turn loses its place.
            turn.handle.intend(self::call("beds", SideEffects::Compensatable, "2")).await.unwrap();
            seen.begun.notify_one();
            std::future::pending::<()>().await;
        }
        reply(&texts(&turn.messages).join("|"))
    });
    let (gateway, _folder) = over_sqlite(agent, |policy| policy.busy = BusyPolicy::Supersede).await;
    gateway.submit(says("anna", "api", "a room"), false).await.unwrap();
    seen.begun.notified().await;
    assert_eq!(ask(&gateway, "two beds").await.reply.as_deref(), Some("a room|two beds"));
    let recorded = seen.recorded();
    let told = |call: &RecordedCall| (call.tool.to_string(), call.outcome, call.output.to_string());
    let expected = [
        ("hold a room".to_owned(), ToolOutcome::Done, "held".to_owned()),
        ("beds".to_owned(), ToolOutcome::Unknown, String::new()),
    ];
    assert_eq!(recorded[1].iter().map(told).collect::<Vec<_>>(), expected);
    assert_eq!(seen.answers()[1], Permission::Known(recorded[1][0].clone()));
    journal(&gateway, "anna").await;
}

#[tokio::test]
async fn a_booking_is_undone_and_made_anew_by_the_turn_that_takes_over() {
    fn table(size: &str) -> ToolCall {
        let key = Some("table".into());
        ToolCall { key, ..call("book", SideEffects::Compensatable, size) }
    }
    let seen = Arc::new(Seen::default());
    let agent = agent(&seen, |turn, seen| async move {
        if turn.messages.len() == 1 {
            make(&turn, table("2"), "booked for 2").await;
            seen.begun.notify_one();
            std::future::pending::<()>().await;
        }
        let booked = turn.handle.recorded().await.unwrap()[0].call;
        seen.intend(&turn, table("3")).await;
        let undo = ToolCall {
            compensates: Some(booked),
            ..call("cancel", SideEffects::Idempotent, "table")
        };
        make(&turn, undo.clone(), "cancelled").await;
        seen.intend(&turn, undo).await;
        make(&turn, table("3"), "booked for 3").await;
        if turn.tag.attempt.0 == 1 {
            return failure("gone", true);
        }
        reply("booked")
    });
    let (gateway, _folder) = over_sqlite(agent, |policy| {
        (policy.busy, policy.errors_max) = (BusyPolicy::Supersede, 1);
    })
    .await;
    gateway.submit(says("anna", "api", "a table for two"), false).await.unwrap();
    seen.begun.notified().await;
    assert_eq!(ask(&gateway, "no, for three").await.status, TurnStatus::Failed);
    let events = journal(&gateway, "anna").await;
    let calls: Vec<(Seq, Option<Seq>)> = events
        .iter()
        .filter_map(|event| match event.body {
            EventBody::ToolIntended { compensates, .. } => Some((event.seq, compensates)),
            _ => None,
        })
        .collect();
    let [(booked, None), (undoing, Some(undone)), (anew, None)] = calls[..] else {
        panic!("{calls:?}")
    };
    assert_eq!(undone, booked);
    let known = seen.answers();
    let [Permission::Known(first), Permission::Known(second)] = &known[..] else {
        panic!("{known:?}")
    };
    assert_eq!((first.call, second.call, second.compensates), (booked, undoing, Some(booked)));
    // Nobody undoes by itself: what stands is said, for whoever reads the dead letter.
    let left = events.iter().find_map(|event| match &event.body {
        EventBody::TurnFailed { acts, .. } => Some(acts.to_vec()),
        _ => None,
    });
    assert_eq!(left, Some(vec![anew]));
}

#[tokio::test]
async fn who_chose_to_finish_now_is_let_through_to_nothing_more() {
    let seen = Arc::new(Seen::default());
    let agent = agent(&seen, |turn, seen| async move {
        if turn.messages[0].body.text.starts_with("two") {
            return reply("the rest");
        }
        if turn.tag.attempt.0 == 1 {
            seen.begun.notify_one();
            let question = turn.handle.question().await;
            turn.handle.answer(question.id, SupersedeChoice::ForceComplete);
            turn.handle.finishing().await;
            seen.intend(&turn, call("look up", SideEffects::Pure, "17")).await;
            let finishes = |declined| {
                matches!(declined, Declined::Refused(why)
                if why.contains("finishes now"))
            };
            assert!(turn.handle.commit_point().await.is_err_and(finishes));
            assert!(turn.handle.ask("which?").await.is_err_and(finishes));
            return failure("gone", true);
        }
        assert!(turn.handle.finish_now(), "it is told from the start");
        seen.intend(&turn, refund()).await;
        reply("what there is")
    });
    let (gateway, _folder) = over_sqlite(agent, |policy| {
        (policy.busy, policy.error_backoff_ms) = (BusyPolicy::Agent, 1);
        // Nobody chooses in its place, however long it takes.
        policy.question_ms = 600_000;
    })
    .await;
    let first = gateway.submit(says("anna", "api", "one"), true).await.unwrap();
    seen.begun.notified().await;
    assert_eq!(ask(&gateway, "two").await.reply.as_deref(), Some("the rest"));
    assert_eq!(first.follow.unwrap().await.unwrap().reply.as_deref(), Some("what there is"));
    let [Permission::Refused(one), Permission::Refused(two)] = seen.answers()[..] else {
        panic!("{:?}", seen.answers())
    };
    assert!(one.contains("finishes now") && one == two, "{one}, {two}");
    journal(&gateway, "anna").await;
}
