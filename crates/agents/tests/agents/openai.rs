//! The openai agent when all goes well: the request, the answer, the key, the history.

use std::sync::atomic::Ordering;

use serde_json::json;
use turnkeep_agents::{KeySource, ModelAgent, OpenAiSettings, TurnSettings};
use turnkeep_core::ids::Seq;
use turnkeep_core::ports::agent::{Agent, Role, TurnContext};
use turnkeep_core::session::input::{Finished, RunFailure};

use crate::handle::FakeHandle;
use crate::prepare::{logged, prepare};
use crate::server::{Server, Step, answer, delta, done, event, finish, refusal};

/// An agent of which the version that answered does not matter.
#[derive(Debug)]
pub(crate) struct Plain(pub(crate) ModelAgent);

impl Plain {
    pub(crate) async fn run(&self, turn: TurnContext) -> Result<Finished, RunFailure> {
        Ok(Finished { version: None, ..self.0.run(turn).await? })
    }
}

/// An agent for the server, with settings that make no test wait.
pub(crate) fn agent_with(
    server: &Server,
    change: impl FnOnce(&mut OpenAiSettings, &mut TurnSettings),
) -> Plain {
    Plain(model_agent(server, change))
}

pub(crate) fn model_agent(
    server: &Server,
    change: impl FnOnce(&mut OpenAiSettings, &mut TurnSettings),
) -> ModelAgent {
    prepare();
    let mut settings = OpenAiSettings::new(&server.base_url, "test-model");
    let mut turn =
        TurnSettings { retry_pause: std::time::Duration::ZERO, ..TurnSettings::default() };
    change(&mut settings, &mut turn);
    settings.agent(turn).unwrap()
}

pub(crate) fn agent(server: &Server) -> Plain {
    agent_with(server, |_, _| ())
}

pub(crate) fn finished(reply: &str, used: u64) -> Result<Finished, RunFailure> {
    Ok(Finished { reply: Some(reply.into()), used: Some(Seq(used)), ..Finished::default() })
}

#[tokio::test]
async fn an_answer_is_streamed_and_returned() {
    let server = Server::start([answer(&["Hel", "lo ", "Ann"])]).await;
    let handle = FakeHandle::new();
    let agent = agent_with(&server, |settings, turn| {
        turn.system_prompt = Some("be kind".into());
        settings.extra = json!({"temperature": 0.5}).as_object().unwrap().clone();
    });
    let ended = agent.run(handle.turn(&["hi", "you"])).await;
    assert_eq!(ended, finished("Hello Ann", 2));
    assert_eq!(handle.said(), ["Hel", "lo ", "Ann"]);
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].path, "/v1/chat/completions");
    assert_eq!(requests[0].header("authorization"), None);
    assert_eq!(
        requests[0].body,
        json!({
            "model": "test-model",
            "messages": [
                {"role": "system", "content": "be kind"},
                {"role": "user", "content": "hi\nyou"},
            ],
            "stream": true,
            "stream_options": {"include_usage": true},
            "temperature": 0.5,
        })
    );
    assert_eq!(handle.slots_given.load(Ordering::Relaxed), 1);
    assert_eq!(handle.slots.available_permits(), 1);
}

#[tokio::test]
async fn what_servers_leave_out_is_not_missed() {
    let cases: [(&str, Vec<Step>); 5] = [
        ("no done", vec![Step::Begin, delta("Hi"), finish("stop"), Step::End]),
        ("no finish reason", vec![Step::Begin, delta("Hi"), done(), Step::End]),
        ("cut off behind the end", vec![Step::Begin, delta("Hi"), finish("stop"), Step::Cut]),
        (
            "too long for the model",
            vec![Step::Begin, delta("Hi"), finish("length"), done(), Step::End],
        ),
        (
            "one event in pieces, other line ends, comments",
            vec![
                Step::Begin,
                Step::Raw(": ping\r\n\r\ndata: {\"choices\":[{\"del".into()),
                Step::Raw("ta\":{\"content\":\"Hi\"}}]}\r\n\r\n".into()),
                event(&json!({"choices": []})),
                done(),
                Step::End,
            ],
        ),
    ];
    for (case, script) in cases {
        let server = Server::start([script]).await;
        let handle = FakeHandle::new();
        assert_eq!(agent(&server).run(handle.turn(&["hi"])).await, finished("Hi", 1), "{case}");
    }
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let server = Server::start([answer(&["a"]), answer(&["b"])]).await;
    let handle = FakeHandle::new();
    let agent = agent(&server);
    assert_eq!(agent.run(handle.turn(&["1"])).await, finished("a", 1));
    assert_eq!(agent.run(handle.turn(&["2"])).await, finished("b", 1));
    let connections: Vec<usize> = server.requests().iter().map(|one| one.connection).collect();
    assert_eq!(connections, [0, 0]);
}

#[tokio::test]
async fn history_is_sent_as_far_as_it_fits() {
    let server = Server::start([answer(&["ok"])]).await;
    let handle = FakeHandle::new();
    let long = "x".repeat(400);
    handle.remember(&[
        (Role::User, &long),
        (Role::Agent, &long),
        (Role::User, "how old are you?"),
        (Role::Agent, "four"),
    ]);
    // 104 tokens each for the long ones, 8 and 5 for the others.
    let agent = agent_with(&server, |_, turn| turn.history_tokens = 117);
    agent.run(handle.turn(&["really?"])).await.unwrap();
    assert_eq!(
        server.requests()[0].messages(),
        ["user: how old are you?", "assistant: four", "user: really?"]
    );
}

#[tokio::test]
async fn a_history_that_cannot_be_read_fails_the_attempt() {
    let server = Server::start([]).await;
    let handle = FakeHandle::new();
    *handle.history.lock().unwrap() = Err("the store is away".into());
    let failure = agent(&server).run(handle.turn(&["hi"])).await.unwrap_err();
    assert_eq!(&*failure.error, "the history can't be read: the store is away");
    assert!(failure.retry);
}

#[tokio::test]
async fn the_key_is_sent_and_never_seen() {
    const KEY: &str = "sk-very-secret-0815";
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    std::fs::write(&path, format!("{KEY}\n")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&path, mode).unwrap();

    let echoed = format!("Incorrect API key provided: {KEY}");
    let broken = event(&json!({"error": {"message": &echoed}}));
    let server = Server::start([
        answer(&["ok"]),
        refusal(401, &[], &echoed),
        refusal(503, &[("retry-after", "100")], &echoed),
        vec![Step::Begin, broken, Step::End],
    ])
    .await;
    let agent = agent_with(&server, |settings, _| settings.key = KeySource::File(path));
    let mut seen = format!("{agent:?}");
    for _ in 0..4 {
        let handle = FakeHandle::new();
        seen += &format!("{:?}", agent.run(handle.turn(&["hi"])).await);
    }
    for request in server.requests() {
        assert_eq!(request.header("authorization"), Some(&*format!("Bearer {KEY}")));
    }
    let logged = logged();
    assert!(logged.contains("provider usage"));
    for (place, text) in [("seen", &seen), ("logged", &logged)] {
        assert!(!text.contains(KEY), "{place}");
    }
    assert_eq!(seen.matches("Incorrect API key provided: [key]").count(), 3, "{seen}");
}
