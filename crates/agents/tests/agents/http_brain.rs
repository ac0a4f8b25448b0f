//! Brains over HTTP, as they should be: what is posted, what comes of what they say, and what is done
//! where a connection breaks.

use std::sync::atomic::Ordering;

use serde_json::json;
use tokio::time::timeout;
use turnkeep_core::ids::{QuestionId, Seq};
use turnkeep_core::journal::SupersedeChoice;
use turnkeep_core::ports::agent::{Agent as _, Permission};
use turnkeep_core::session::input::RunFailure;
use turnkeep_core::tool::ToolOutcome;
use turnkeep_core::trace::SpanContext;

use crate::brain_server::{Brain, PATIENCE, event, finished, refused, say, taken};
use crate::handle::message;
use crate::server::Step::{Begin, Cut, End, Gate, Raw, Respond, UntilHungUp};

const NIL: &str = "00000000-0000-0000-0000-000000000000";

#[tokio::test]
async fn a_turn_is_posted_and_answered_by_a_stream() {
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let steps = vec![
        Begin,
        Raw(": alive\n\n".to_owned()),
        say(1, "hel"),
        Raw("event: x\nid: 2\ndata: {\"type\":\"say\",\ndata: \"text\":\"lo\"}\nretry: 1\n\n"
            .to_owned()),
        finished(3, "hello"),
        End,
    ];
    let brain = Brain::start([("turn", steps)]).await;
    *brain.handle.span.lock().unwrap() = SpanContext::read(PARENT, None);
    let done = brain.run().await.unwrap();
    assert_eq!(done.reply.as_deref(), Some("hello"));
    assert_eq!(brain.handle.said(), ["hel", "lo"]);
    let [turn] = &brain.posted("turn")[..] else { panic!("one turn") };
    assert_eq!(turn.path, "/v1?key=SECRET");
    assert_eq!(turn.header("accept"), Some("text/event-stream"));
    assert_eq!(turn.header("content-type"), Some("application/json"));
    assert_eq!(turn.header("traceparent"), Some(PARENT));
    assert_eq!(turn.header("webhook-id"), Some(&*format!("turn_{NIL}_0_1")));
    assert_eq!((&turn.body["version"], &turn.body["turn_id"]), (&json!(1), &json!(NIL)));
    assert_eq!(turn.body["messages"][1]["text"], "b");
    // Who has finished is told nothing more.
    assert_eq!(brain.server.requests().len(), 1);
    let agent = brain.agent();
    assert_eq!((agent.kind(), agent.slots()), ("http", Some(2)));
    assert!(!format!("{agent:?}").contains("secret"), "{agent:?}");
}

#[tokio::test]
async fn what_it_is_told_is_posted_in_order() {
    let steps = vec![
        Begin,
        say(1, "ready"),
        Gate,
        event(2, &json!({"type": "take_mail", "id": "m"})),
        Gate,
        event(3, &json!({"type": "intend", "id": "i", "tool": "refund", "key": "17"})),
        Gate,
        event(4, &json!({"type": "returned", "id": "r", "call": 8, "outcome": "done"})),
        event(5, &json!({"type": "choose", "question_id": 3, "choice": "queue"})),
        Gate,
        finished(6, "done"),
        End,
    ];
    let brain = Brain::start([("turn", steps)]).await;
    brain.handle.permissions.lock().unwrap().push_back(Permission::Call(Seq(8)));
    let user = async {
        brain.handle.until_said("ready").await;
        brain.handle.deliver(5, "c");
        for told in 1..=4 {
            while brain.told().len() < told {
                brain.server.until_requests(brain.server.requests().len() + 1).await;
            }
            if told == 2 {
                brain.handle.ask(3);
                while brain.told().len() < 3 {
                    brain.server.until_requests(brain.server.requests().len() + 1).await;
                }
            }
            brain.server.open_gate();
        }
    };
    let (done, ()) = tokio::join!(brain.run(), timed(user));
    assert_eq!(done.unwrap().reply.as_deref(), Some("done"));
    let mail = json!([{"seq": 5, "message_id": "5", "sender": "ann", "text": "c", "at": 0}]);
    let told = brain.told();
    assert_eq!(told[0], json!({"type": "mail_waiting"}));
    assert_eq!(told[1], json!({"type": "mail", "id": "m", "messages": mail}));
    assert_eq!((&told[2]["type"], &told[2]["question_id"]), (&json!("question"), &json!(3)));
    assert_eq!(told[3], json!({"type": "call", "id": "i", "call": 8}));
    assert_eq!(told[4], json!({"type": "recorded", "id": "r"}));
    let answered = (QuestionId(3), SupersedeChoice::Queue);
    assert_eq!(*brain.handle.answers.lock().unwrap(), [answered]);
    let result = (Seq(8), ToolOutcome::Done, String::new());
    assert_eq!(*brain.handle.results.lock().unwrap(), [result]);
    assert_eq!(brain.posted("told")[0].body["turn_id"], NIL);
    assert_eq!(brain.posted("told")[0].body["attempt"], 0);
}

async fn timed<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.expect("it never comes")
}

#[tokio::test]
async fn who_waits_for_its_user_leaves_its_slot() {
    let ask = event(1, &json!({"type": "ask", "id": "q", "text": "Which?"}));
    let done = event(2, &json!({"type": "finished", "used": 9}));
    let brain = Brain::start([("turn", vec![Begin, ask, Gate, done, End])]).await;
    let handle = &brain.handle;
    let user = async {
        handle.asked.subscribe().wait_for(|asked| *asked == ["Which?"]).await.unwrap();
        assert_eq!(handle.slots.available_permits(), 1, "the only slot is free meanwhile");
        handle.user.send_replace(Some(message(9, "17")));
        brain.until_posted("told").await;
        brain.server.open_gate();
    };
    let (done, ()) = tokio::join!(brain.run(), timed(user));
    assert_eq!(done.unwrap().used, Some(Seq(9)));
    assert_eq!(handle.slots_given.load(Ordering::Relaxed), 2);
    assert_eq!(brain.told()[0]["message"]["text"], "17");
}

#[tokio::test]
async fn a_broken_stream_is_resumed_where_it_broke() {
    let brain = Brain::start([
        (
            "turn",
            vec![Begin, say(1, "a"), Raw("id: 2\ndata: {\"type\":\"say\",\"te".to_owned()), Cut],
        ),
        // It begins too early, then ends without being done, and breaks once more.
        ("resume", vec![Begin, say(1, "a"), say(2, "b"), End]),
        ("resume", refused(503, "not yet")),
        ("resume", vec![Cut]),
        ("resume", vec![Begin, say(1, "a"), say(2, "b"), say(3, "c"), Cut]),
        ("resume", vec![Begin, finished(4, "abc"), End]),
    ])
    .await;
    assert_eq!(brain.run().await.unwrap().reply.as_deref(), Some("abc"));
    assert_eq!(brain.handle.said(), ["a", "b", "c"]);
    let resumed = brain.posted("resume");
    let behind: Vec<_> = resumed.iter().map(|one| one.body["last_event_id"].clone()).collect();
    assert_eq!(behind, [1, 2, 2, 2, 3]);
    assert_eq!(
        (&resumed[0].body["turn_id"], &resumed[0].body["attempt"]),
        (&json!(NIL), &json!(0))
    );
    let mut names: Vec<_> = resumed.iter().map(|one| one.header("webhook-id").unwrap()).collect();
    names.dedup();
    assert_eq!(names.len(), 5, "each is a POST of its own");
}

#[tokio::test]
async fn a_stream_that_breaks_before_its_first_event_is_resumed_from_the_start() {
    let brain =
        Brain::start([("turn", vec![Begin, Cut]), ("resume", vec![Begin, finished(1, "a"), End])])
            .await;
    assert_eq!(brain.run().await.unwrap().reply.as_deref(), Some("a"));
    assert_eq!(brain.posted("resume")[0].body["last_event_id"], 0);
}

#[tokio::test]
async fn what_comes_after_the_end_of_a_broken_stream_is_not_missed() {
    // The break comes with the last word: nobody asks for more.
    let brain = Brain::start([("turn", vec![Begin, finished(1, "a"), Cut])]).await;
    assert_eq!(brain.run().await.unwrap().reply.as_deref(), Some("a"));
    assert_eq!(brain.server.requests().len(), 1);
}

async fn lost(scripts: Vec<(&'static str, Vec<crate::server::Step>)>, expect: &str) {
    let brain = Brain::start(scripts).await;
    let failure = brain.run().await.unwrap_err();
    assert_eq!((&*brain.said_of(&failure), failure.retry), (expect, true));
    brain.until_posted("cancelled").await;
}

#[tokio::test]
async fn a_stream_that_cannot_be_resumed_is_lost() {
    let broke = || ("turn", vec![Begin, say(1, "a"), End]);
    let why = "the brain is lost: its stream broke off before it had finished (it ended)";
    lost(
        vec![broke(), ("resume", refused(404, "who?"))],
        &format!("{why} and can't be resumed: the brain said 404 Not Found: who?"),
    )
    .await;
    let unnumbered =
        vec![Begin, Raw("data: {\"type\":\"say\",\"text\":\"a\"}\n\n".to_owned()), End];
    let no_ids = format!("{why} and has no ids, so that it can't be resumed");
    lost(vec![("turn", unnumbered)], &no_ids).await;
    let busy = || ("resume", refused(500, "\u{1b}[31mno\n  shop"));
    lost(
        vec![broke(), busy(), busy(), busy(), busy(), busy()],
        "while its stream was resumed: the brain said 500 Internal Server Error: [31mno shop",
    )
    .await;
    let idle = || ("resume", vec![Begin, say(1, "a"), End]);
    lost(
        vec![broke(), idle(), idle(), idle(), idle(), idle()],
        "while its stream was resumed: it ended",
    )
    .await;
}

#[tokio::test]
async fn what_could_not_be_told_is_told_again() {
    let steps = vec![
        Begin,
        event(1, &json!({"type": "take_mail", "id": "m"})),
        Gate,
        finished(2, "a"),
        End,
    ];
    let brain = Brain::start([
        ("turn", steps),
        ("told", refused(500, "")),
        ("told", vec![Cut]),
        ("told", taken()),
    ])
    .await;
    let meanwhile = async {
        while brain.posted("told").len() < 3 {
            brain.server.until_requests(brain.server.requests().len() + 1).await;
        }
        brain.server.open_gate();
    };
    let (done, ()) = tokio::join!(brain.run(), timed(meanwhile));
    assert_eq!(done.unwrap().reply.as_deref(), Some("a"));
    let told = brain.posted("told");
    assert_eq!(told.len(), 3);
    for again in &told[1..] {
        assert_eq!(again.text, told[0].text);
        assert_eq!(again.header("webhook-id"), told[0].header("webhook-id"));
    }
}

#[tokio::test]
async fn what_waits_is_told_together() {
    let mail = |id: u64| event(id, &json!({"type": "take_mail", "id": id.to_string()}));
    let steps =
        vec![Begin, mail(1), Gate, mail(2), mail(3), say(4, "x"), Gate, finished(5, "a"), End];
    let slow = vec![Gate, Respond(204, vec![], String::new())];
    let brain = Brain::start([("turn", steps), ("told", slow)]).await;
    let meanwhile = async {
        brain.until_posted("told").await;
        brain.server.open_gate();
        brain.handle.until_said("x").await;
        // One of these is under way at once.
        assert_eq!(brain.posted("told").len(), 1);
        brain.server.open_gate();
        while brain.told().len() < 3 {
            brain.server.until_requests(brain.server.requests().len() + 1).await;
        }
        brain.server.open_gate();
    };
    let (done, ()) = tokio::join!(brain.run(), timed(meanwhile));
    assert_eq!(done.unwrap().reply.as_deref(), Some("a"));
    let ids: Vec<_> = brain.told().iter().map(|told| told["id"].clone()).collect();
    assert_eq!(ids, ["1", "2", "3"]);
    assert_eq!(brain.posted("told").len(), 2);
}

#[tokio::test]
async fn who_has_finished_need_not_hear() {
    let steps = vec![
        Begin,
        event(1, &json!({"type": "take_mail", "id": "m"})),
        Gate,
        finished(2, "a"),
        End,
    ];
    let brain = Brain::start([("turn", steps), ("told", refused(404, "over"))]).await;
    let meanwhile = async {
        brain.until_posted("told").await;
        brain.server.open_gate();
    };
    let (done, ()) = tokio::join!(brain.run(), timed(meanwhile));
    assert_eq!(done.unwrap().reply.as_deref(), Some("a"));
}

#[tokio::test]
async fn who_refuses_to_hear_is_given_up() {
    let check = async |status: u16, expect: &str, retry: bool| {
        let steps = vec![Begin, event(1, &json!({"type": "take_mail", "id": "m"})), UntilHungUp];
        let brain = Brain::start([("turn", steps), ("told", refused(status, "no"))]).await;
        let failure = brain.run().await.unwrap_err();
        let error = format!("while it was told something: the brain said {expect}: no");
        assert_eq!((brain.said_of(&failure), failure.retry), (error, retry));
        timed(brain.server.until_hung_up()).await;
    };
    check(404, "404 Not Found", true).await;
    check(403, "403 Forbidden", false).await;
}

#[tokio::test]
async fn a_dropped_attempt_closes_its_connection_and_says_so() {
    let brain = Brain::start([("turn", vec![Begin, say(1, "a"), UntilHungUp])]).await;
    {
        let agent = brain.agent();
        let mut answer = agent.run(brain.handle.turn(&["a"]));
        tokio::select! {
            _ = &mut answer => panic!("it ends by itself"),
            () = brain.handle.until_said("a") => {}
        }
    }
    timed(brain.server.until_hung_up()).await;
    brain.until_posted("cancelled").await;
    let expected = json!({"type": "cancelled", "turn_id": NIL, "attempt": 0});
    assert_eq!(brain.posted("cancelled")[0].body, expected);
}

#[tokio::test]
async fn a_brain_fails_in_its_own_words() {
    let failed = json!({"type": "failed", "error": "closed", "retry": false, "retry_after_s": 2});
    let fails = || ("turn", vec![Begin, event(1, &failed), End]);
    let finishes = ("turn", vec![Begin, finished(1, "a"), End]);
    let brain = Brain::start([fails(), fails(), finishes]).await;
    let failure = RunFailure { error: "closed".into(), retry: false, retry_after_ms: Some(2000) };
    assert_eq!(brain.run().await.unwrap_err(), failure);
    // Who said so itself need not be told. What is posted later comes later.
    brain.run().await.unwrap_err();
    brain.run().await.unwrap();
    assert_eq!(brain.posted("cancelled").len(), 0);
}

#[tokio::test]
async fn a_busy_brain_is_left_alone_for_as_long_as_it_asks() {
    let busy = Respond(429, vec![("retry-after", "7".to_owned())], "{}".to_owned());
    let brain = Brain::start([("turn", vec![busy])]).await;
    let failure = brain.run().await.unwrap_err();
    assert_eq!(brain.said_of(&failure), "the brain said 429 Too Many Requests: {}");
    assert_eq!((failure.retry, failure.retry_after_ms), (true, Some(7000)));
    // Too long for the middle of an attempt.
    let away = Respond(503, vec![("retry-after", "60".to_owned())], String::new());
    let scripts = [("turn", vec![Begin, Cut]), ("resume", vec![away])];
    let failure = Brain::start(scripts).await.run().await.unwrap_err();
    assert_eq!((failure.retry, failure.retry_after_ms), (true, Some(60_000)));
}
