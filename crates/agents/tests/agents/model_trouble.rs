//! What an agent does when its model's provider is in trouble, beside asking again: a shorter
//! conversation, another model. And what each request cost.

use std::sync::Arc;

use serde_json::json;
use turnkeep_agents::{ModelAgent, OpenAiSettings};
use turnkeep_core::ports::agent::{Agent, Role};
use turnkeep_core::session::input::{Finished, RunFailure};
use turnkeep_core::usage::Usage;

use crate::handle::FakeHandle;
use crate::openai::{agent, finished, model_agent};
use crate::server::{Server, Step, answer, delta, event, nobody, refusal};

fn too_long() -> Vec<Step> {
    let error = json!({"message": "too much", "code": "context_length_exceeded"});
    let json = vec![("content-type", "application/json".to_owned())];
    vec![Step::Respond(400, json, json!({"error": error}).to_string())]
}

#[tokio::test]
async fn a_conversation_that_is_too_long_is_shortened_and_asked_once_more() {
    let within = vec![
        Step::Begin,
        event(&json!({"error": {"message": "the prompt is too long", "code": 400}})),
        Step::End,
    ];
    let by_status = vec![Step::Respond(413, Vec::new(), "no".into())];
    for refusal in [too_long(), within, by_status] {
        let server = Server::start([refusal, answer(&["ok"])]).await;
        let handle = FakeHandle::new();
        handle.remember(&[
            (Role::User, "a long time ago, when much more was said than would be needed"),
            (Role::Agent, "long ago"),
            (Role::User, "lately"),
            (Role::Agent, "just now"),
        ]);
        assert_eq!(agent(&server).run(handle.turn(&["hi", "you"])).await, finished("ok", 2));
        let requests = server.requests();
        assert_eq!(requests[0].messages().len(), 5);
        assert_eq!(
            requests[1].messages(),
            ["user: lately", "assistant: just now", "user: hi\nyou"]
        );
        let emitted = handle.emitted.lock().unwrap().clone();
        assert_eq!(emitted.len(), 1, "{emitted:?}");
        assert_eq!(emitted[0].0, "context_compacted");
        assert!(emitted[0].1.contains("2 lines of the history left out"), "{emitted:?}");
    }
}

#[tokio::test]
async fn what_is_still_too_long_fails_and_is_not_tried_again() {
    let history = [(Role::User, "a long time ago"), (Role::Agent, "long ago")];
    for (remembered, requests) in [(&history[..], 2), (&[], 1)] {
        let server = Server::start([too_long(), too_long()]).await;
        let handle = FakeHandle::new();
        handle.remember(remembered);
        let failure = agent(&server).run(handle.turn(&["hi"])).await.unwrap_err();
        assert!(!failure.retry && failure.error.contains("too much"), "{failure:?}");
        assert_eq!(server.requests().len(), requests);
    }
}

/// An agent whose model is another one's spare.
fn with_spare(server: &Server, spare: &Server) -> ModelAgent {
    let settings = OpenAiSettings::new(&spare.base_url, "spare-model");
    let other = settings.agent(turnkeep_agents::TurnSettings::default()).unwrap();
    model_agent(server, |_, turn| turn.retries_max = 1).with_fallback(&other)
}

fn replied(ended: Result<Finished, RunFailure>) -> (String, String) {
    let ended = ended.unwrap();
    (ended.reply.unwrap().to_string(), ended.version.unwrap().to_string())
}

#[tokio::test]
async fn where_a_model_does_not_answer_another_does() {
    let busy = || refusal(429, &[("retry-after", "0")], "slow down");
    let cases = [
        (vec![busy(), busy()], "slow down"),
        (vec![refusal(429, &[("retry-after", "3600")], "quota")], "quota"),
        (vec![refusal(401, &[], "who?")], "who?"),
        (vec![too_long()], "too much"),
        (vec![vec![Step::Begin, Step::Cut]], "cut off"),
        (vec![vec![Step::Begin, delta("Hel"), Step::Cut]], "cut off"),
        (vec![vec![Step::Begin, Step::Raw("what is this\n\n".into())]], "no event stream"),
    ];
    for (scripts, words) in cases {
        let asked = scripts.len();
        let server = Server::start(scripts).await;
        let spare = Server::start([answer(&["Hello"])]).await;
        let handle = FakeHandle::new();
        let agent = with_spare(&server, &spare);
        let (reply, version) = replied(agent.run(handle.turn(&["hi"])).await);
        assert_eq!(reply, "Hello", "{words}");
        assert!(version.starts_with("spare-model#"), "{version}");
        assert_eq!(server.requests().len(), asked, "{words}");
        assert_eq!(spare.requests()[0].body["model"], "spare-model");
        let (name, detail) = handle.emitted.lock().unwrap().last().unwrap().clone();
        assert_eq!(name, "fallback_model");
        assert!(detail.starts_with("spare-model instead of test-model: "), "{detail}");
        assert!(detail.contains(words), "{detail}");
        assert_eq!(handle.slots.available_permits(), 1);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_replaced_and_its_replacement_has_no_other() {
    let server = Server::start([]).await;
    let (_kept, address) = nobody();
    let spare = Server::start([answer(&["Hello"]), refusal(400, &[], "no such model")]).await;
    let other = with_spare(&spare, &server);
    let agent = model_agent(&server, |settings, _| {
        settings.base_url = format!("http://{address}/v1");
    });
    let agent = agent.with_fallback(&other);
    let handle = FakeHandle::new();
    assert_eq!(replied(agent.run(handle.turn(&["hi"])).await).0, "Hello");
    let failure = agent.run(handle.turn(&["hi"])).await.unwrap_err();
    assert!(failure.error.contains("no such model") && !failure.retry, "{failure:?}");
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn the_model_that_was_chosen_answers() {
    let server = Server::start([answer(&["own"]), answer(&["own"])]).await;
    let quick = Server::start([answer(&["quick"]), refusal(401, &[], "who?")]).await;
    let spare = Server::start([answer(&["spare"])]).await;
    let other = |server: &Server, name: &str| {
        model_agent(server, |settings, _| settings.model = name.to_owned())
    };
    let agent = model_agent(&server, |_, _| ())
        .with_choices("default", &[("quick", &other(&quick, "quick-model"))])
        .with_fallback(&other(&spare, "spare-model"));
    let offered: Vec<(&str, &str)> =
        agent.models().iter().map(|(name, model)| (&**name, &**model)).collect();
    assert_eq!(offered, [("default", "test-model"), ("quick", "quick-model")]);
    let handle = FakeHandle::new();
    let check = async |chosen: Option<&str>, expect: &str, version: &str| {
        *handle.model.lock().unwrap() = chosen.map(Arc::from);
        let (reply, told) = replied(agent.run(handle.turn(&["hi"])).await);
        assert_eq!(reply, expect, "{chosen:?}");
        assert!(told.starts_with(version), "{told}");
    };
    check(None, "own", "test-model#").await;
    check(Some("quick"), "quick", "quick-model#").await;
    // What is offered no more is as if nothing had been chosen.
    check(Some("gone"), "own", "test-model#").await;
    check(Some("quick"), "spare", "spare-model#").await;
    assert_eq!(quick.requests()[0].body["model"], "quick-model");
}

#[tokio::test]
async fn an_answer_that_is_none_is_not_asked_of_another_model() {
    let filtered = vec![Step::Begin, crate::server::finish("content_filter"), Step::End];
    let server = Server::start([filtered]).await;
    let spare = Server::start([]).await;
    let handle = FakeHandle::new();
    let agent = with_spare(&server, &spare);
    let failure = agent.run(handle.turn(&["hi"])).await.unwrap_err();
    assert!(!failure.retry && failure.error.contains("content_filter"), "{failure:?}");
    assert!(spare.requests().is_empty());
}

#[tokio::test]
async fn the_version_that_answered_is_told() {
    let server = Server::start([answer(&["ok"]), answer(&["ok"])]).await;
    let handle = FakeHandle::new();
    let plain = model_agent(&server, |_, _| ());
    let ended = plain.run(handle.turn(&["hi"])).await.unwrap();
    assert_eq!(ended.version.as_deref(), Some(plain.version()));
    assert!(plain.version().starts_with("test-model#"), "{}", plain.version());
    let named = model_agent(&server, |_, turn| {
        turn.version = Some("support-3".into());
        turn.system_prompt = Some("be kind".into());
    });
    let ended = named.run(handle.turn(&["hi"])).await.unwrap();
    let version = ended.version.unwrap();
    let (name, digits) = version.split_once('#').unwrap();
    assert_eq!((name, digits.len()), ("support-3", 8));
    assert!(!plain.version().ends_with(digits), "another prompt is another version");
}

fn usage(input: u64, output: u64, cached: u64) -> Usage {
    Usage {
        model: "test-model".into(),
        input_tokens: input,
        output_tokens: output,
        cached_tokens: cached,
        ..Usage::default()
    }
}

fn counted(prompt: u64, cached: u64, completion: u64) -> Step {
    event(&json!({"choices": [], "usage": {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }}))
}

#[tokio::test]
async fn what_a_request_used_is_told_also_where_it_failed_or_was_stopped() {
    let whole = answer(&["ok"]);
    let cut = vec![Step::Begin, counted(100, 60, 7), delta("Hel"), Step::Cut];
    let server = Server::start([whole, cut]).await;
    let handle = FakeHandle::new();
    let agent = agent(&server);
    agent.run(handle.turn(&["hi"])).await.unwrap();
    assert_eq!(*handle.used.lock().unwrap(), [usage(9, 3, 0)]);
    agent.run(handle.turn(&["hi"])).await.unwrap_err();
    assert_eq!(handle.used.lock().unwrap()[1], usage(40, 7, 60));

    let waiting = vec![Step::Begin, counted(5, 9, 1), delta("Hel"), Step::UntilHungUp];
    let server = Server::start([waiting]).await;
    let handle = FakeHandle::new();
    let agent = crate::openai::agent(&server);
    tokio::select! {
        ended = agent.run(handle.turn(&["hi"])) => panic!("{ended:?}"),
        () = handle.until_said("Hel") => {}
    }
    server.until_hung_up().await;
    assert_eq!(*handle.used.lock().unwrap(), [usage(0, 1, 5)]);
}
