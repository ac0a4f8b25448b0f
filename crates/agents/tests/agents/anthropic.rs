//! The anthropic agent when all goes well: the request, the answer, tools, thoughts, what is cached.

use std::sync::Arc;

use serde_json::{Value, json};
use turnkeep_agents::{KeySource, ModelAgent, Said, Thinking};
use turnkeep_core::ids::Seq;
use turnkeep_core::ports::agent::{Agent, Permission, Role};
use turnkeep_core::tool::{SideEffects, ToolOutcome};
use turnkeep_core::trace::SpanContext;
use turnkeep_core::usage::Usage;

use crate::handle::FakeHandle;
use crate::messages::{
    agent, agent_with, answer, block, call, end, event, refusal, start, text, thought, whole,
};
use crate::openai::model_agent;
use crate::prepare::logged;
use crate::server::{self, Server, Step};
use crate::toolbox::{FakeTools, done, tool};

fn cached(mut block: Value) -> Value {
    block["cache_control"] = json!({"type": "ephemeral"});
    block
}

fn said(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

#[tokio::test]
async fn an_answer_is_streamed_and_returned() {
    let server = Server::start([answer(&["Hel", "lo ", "Ann"])]).await;
    let handle = FakeHandle::new();
    let agent = agent_with(&server, |settings, turn| {
        turn.system_prompt = Some("be kind".into());
        settings.temperature = Some(0.5);
    });
    let ended = agent.run(handle.turn(&["hi", "you"])).await.unwrap();
    assert_eq!(ended.reply.as_deref(), Some("Hello Ann"));
    assert_eq!(handle.said(), ["Hel", "lo ", "Ann"]);
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].path, "/v1/messages");
    assert_eq!(requests[0].header("anthropic-version"), Some("2023-06-01"));
    assert_eq!(requests[0].header("x-api-key"), None);
    assert_eq!(
        requests[0].body,
        json!({
            "model": "claude-test",
            "max_tokens": 4096,
            "temperature": 0.5,
            "stream": true,
            "system": [cached(said("be kind"))],
            "messages": [{"role": "user", "content": [said("hi"), cached(said("you"))]}],
        })
    );
    let usage = Usage {
        model: "claude-test".into(),
        input_tokens: 25,
        output_tokens: 15,
        cached_tokens: 2000,
        cache_write_tokens: 100,
        cost_micros: None,
    };
    assert_eq!(*handle.used.lock().unwrap(), [usage]);
    assert!(agent.version().starts_with("claude-test#"), "{}", agent.version());
    assert_eq!(ended.version.as_deref(), Some(agent.version()));
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let server = Server::start([answer(&["a"]), answer(&["b"])]).await;
    let handle = FakeHandle::new();
    let agent = agent(&server);
    agent.run(handle.turn(&["1"])).await.unwrap();
    agent.run(handle.turn(&["2"])).await.unwrap();
    let connections: Vec<usize> = server.requests().iter().map(|one| one.connection).collect();
    assert_eq!(connections, [0, 0]);
}

#[tokio::test]
async fn roles_take_turns_whatever_the_history_is() {
    let server = Server::start([answer(&["ok"])]).await;
    let handle = FakeHandle::new();
    handle.remember(&[
        (Role::User, "one"),
        (Role::User, "two"),
        (Role::Agent, "three"),
        (Role::Agent, "four"),
        (Role::User, " \n"),
        (Role::Agent, ""),
    ]);
    let agent = agent_with(&server, |settings, _| settings.cache = false);
    agent.run(handle.turn(&["really?"])).await.unwrap();
    assert_eq!(
        server.requests()[0].body["messages"],
        json!([
            {"role": "user", "content": [said("one"), said("two")]},
            {"role": "assistant", "content": [said("three"), said("four")]},
            {"role": "user", "content": [said("really?")]},
        ])
    );
}

#[tokio::test]
async fn a_message_of_nothing_is_one_all_the_same() {
    let server = Server::start([answer(&["hm?"])]).await;
    let handle = FakeHandle::new();
    agent(&server).run(handle.turn(&[" "])).await.unwrap();
    let content = json!([said("(no text)")]);
    assert_eq!(
        server.requests()[0].body["messages"],
        json!([{"role": "user", "content": content}])
    );
}

#[tokio::test]
async fn what_nobody_knows_yet_is_passed_over() {
    let unknown = json!({"type": "hologram", "frames": [1]});
    let script = [
        vec![Step::Begin, start(25), event(&json!({"type": "message_glow", "shine": 7}))],
        block(0, &unknown, &[json!({"type": "hologram_delta", "frames": [2]})]),
        block(
            1,
            &json!({"type": "text", "text": "Hel"}),
            &[
                json!({"type": "text_delta", "text": "lo"}),
                json!({"type": "citations_delta", "citation": {"cited_text": "x"}}),
                json!({"type": "shade_delta", "shade": 1}),
            ],
        ),
        end("stop_sequence", 3),
    ];
    let server = Server::start([script.into_iter().flatten().collect()]).await;
    let handle = FakeHandle::new();
    let ended = agent(&server).run(handle.turn(&["hi"])).await.unwrap();
    assert_eq!(ended.reply.as_deref(), Some("Hello"));
}

#[tokio::test]
async fn an_answer_that_was_cut_for_its_length_is_one() {
    for reason in ["max_tokens", "model_context_window_exceeded", "refusal", "pause_turn"] {
        let server = Server::start([whole(reason, vec![text(0, &["Hello, I"])])]).await;
        let handle = FakeHandle::new();
        let ended = agent(&server).run(handle.turn(&["hi"])).await.unwrap();
        assert_eq!(ended.reply.as_deref(), Some("Hello, I"), "{reason}");
    }
}

#[tokio::test]
async fn the_key_is_sent_and_never_seen() {
    const KEY: &str = "sk-ant-very-secret-4711";
    let echoed = format!("invalid x-api-key: {KEY}");
    let broken =
        json!({"type": "error", "error": {"type": "authentication_error", "message": echoed}});
    let server = Server::start([
        answer(&["ok"]),
        refusal(401, "authentication_error", &echoed, &[]),
        refusal(529, "overloaded_error", &echoed, &[("retry-after", "100")]),
        vec![Step::Begin, event(&broken), Step::End],
    ])
    .await;
    let agent = agent_with(&server, |settings, _| settings.key = KeySource::given(KEY));
    let mut seen = format!("{agent:?}");
    for _ in 0..4 {
        let handle = FakeHandle::new();
        seen += &format!("{:?}", agent.run(handle.turn(&["hi"])).await);
    }
    for request in server.requests() {
        assert_eq!(request.header("x-api-key"), Some(KEY));
        assert_eq!(request.header("authorization"), None);
    }
    assert!(!seen.contains(KEY) && !logged().contains(KEY), "{seen}");
    assert_eq!(seen.matches("invalid x-api-key: [key]").count(), 3, "{seen}");
}

/// Two tools that only look.
fn weather() -> FakeTools {
    let schema =
        json!({"type": "object", "properties": {"city": {"type": "string"}}, "anyOf": [{}]});
    let named = |name: &str| {
        let mut tool = tool(name, SideEffects::Pure);
        tool.spec.schema = schema.clone();
        tool
    };
    FakeTools::new(vec![named("weather"), named("time")], |name| match name {
        "weather" => done("sunny"),
        _ => {
            Box::pin(async { Said { outcome: ToolOutcome::Failed, output: "no clock".to_owned() } })
        }
    })
}

/// The agent with tools, its requests, and what the tools were asked.
async fn with_tools(
    scripts: Vec<Vec<Step>>,
    thinking: Thinking,
) -> (Arc<FakeHandle>, Vec<Value>, Vec<String>) {
    let server = Server::start(scripts).await;
    let weather = Arc::new(weather());
    let agent = agent_with(&server, |settings, _| settings.thinking = thinking);
    let agent = agent.with_tools(vec![Arc::clone(&weather) as _]);
    let handle = FakeHandle::new();
    handle.permissions.lock().unwrap().extend([1, 2].map(|call| Permission::Call(Seq(call))));
    let ended = agent.run(handle.turn(&["how is it?"])).await.unwrap();
    assert!(ended.reply.is_some_and(|reply| reply.ends_with("It is sunny.")));
    let bodies = server.requests().into_iter().map(|request| request.body).collect();
    (handle, bodies, weather.called())
}

#[tokio::test]
async fn calls_and_their_results_go_around_with_the_thoughts_behind_them() {
    let redacted = json!({"type": "redacted_thinking", "data": "ZW5j"});
    let calls = whole(
        "tool_use",
        vec![
            thought(0, "where?"),
            block(1, &redacted, &[]),
            text(2, &["Let me ", "look."]),
            call(3, "toolu_1", "weather", &["", "{\"city\": \"Bre", "men\"}"]),
            call(4, "toolu_2", "time", &[]),
        ],
    );
    let budget = Thinking::Budget(2000);
    let (handle, bodies, mut asked) =
        with_tools(vec![calls, answer(&["It is sunny."])], budget).await;
    asked.sort();
    assert_eq!(asked, ["time {}", "weather {\"city\":\"Bremen\"}"]);
    assert_eq!(handle.said().concat(), "Let me look.\n\nIt is sunny.");
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let tool = |name: &str| json!({"name": name, "description": format!("does {name}"), "input_schema": schema});
    for body in &bodies {
        assert_eq!(body["tools"], json!([tool("weather"), cached(tool("time"))]));
        assert_eq!(body["tool_choice"], Value::Null);
        assert_eq!(body["thinking"], json!({"type": "enabled", "budget_tokens": 2000}));
    }
    let first = json!({"role": "user", "content": [cached(said("how is it?"))]});
    assert_eq!(bodies[0]["messages"], json!([first]));
    let [asking, calling, results] = &bodies[1]["messages"].as_array().unwrap()[..] else {
        panic!("{}", bodies[1])
    };
    // What was said before the calls begins the next turn, too.
    assert_eq!(*asking, first);
    assert_eq!(
        *calling,
        json!({"role": "assistant", "content": [
            {"type": "thinking", "thinking": "where?", "signature": "c2lnbmVk"},
            redacted,
            said("Let me look."),
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Bremen"}},
            {"type": "tool_use", "id": "toolu_2", "name": "time", "input": {}},
        ]})
    );
    let [sunny, clock] = &results["content"].as_array().unwrap()[..] else { panic!("{results}") };
    assert_eq!(sunny["tool_use_id"], "toolu_1");
    assert_eq!(sunny["content"], "sunny");
    assert_eq!(sunny["is_error"], Value::Null);
    assert_eq!((&clock["tool_use_id"], &clock["is_error"]), (&json!("toolu_2"), &json!(true)));
    assert_eq!(clock["cache_control"], json!({"type": "ephemeral"}));
    assert_eq!(handle.used.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn half_a_call_is_none() {
    let said = || text(0, &["It is sunny."]);
    let half = || call(1, "toolu_1", "weather", &["{\"city\""]);
    // Whole as far as it goes, and yet nobody knows what would have followed.
    let bare = || call(1, "toolu_1", "weather", &[]);
    let mut open = half();
    open.pop();
    for cut in [half(), bare(), open] {
        let cut = whole("max_tokens", vec![said(), cut]);
        let (handle, bodies, asked) = with_tools(vec![cut], Thinking::Unsaid).await;
        assert_eq!((bodies.len(), asked.len()), (1, 0));
        assert!(handle.intents.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn arguments_that_are_no_json_come_back_as_they_were() {
    let wrong = whole("tool_use", vec![call(0, "toolu_1", "weather", &["{\"city\": "])]);
    let (_, bodies, asked) =
        with_tools(vec![wrong, answer(&["It is sunny."])], Thinking::Adaptive).await;
    assert_eq!(asked, [""; 0]);
    assert_eq!(bodies[0]["thinking"], json!({"type": "adaptive"}));
    let content = &bodies[1]["messages"][1]["content"];
    assert_eq!(content[0]["input"], json!({"INVALID_JSON": "{\"city\": "}));
    assert_eq!(bodies[1]["messages"][2]["content"][0]["is_error"], true);
}

#[tokio::test]
async fn behind_the_last_round_of_calls_it_may_only_answer() {
    let again = whole("tool_use", vec![call(0, "toolu_1", "weather", &[])]);
    let server = Server::start([again, answer(&["It is sunny."])]).await;
    let agent = agent_with(&server, |_, turn| turn.tool_rounds_max = 1);
    let agent = agent.with_tools(vec![Arc::new(weather())]);
    let handle = FakeHandle::new();
    handle.permissions.lock().unwrap().push_back(Permission::Call(Seq(1)));
    let ended = agent.run(handle.turn(&["how is it?"])).await.unwrap();
    assert_eq!(ended.reply.as_deref(), Some("It is sunny."));
    let bodies: Vec<Value> = server.requests().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies[0]["tool_choice"], Value::Null);
    // They stand in the conversation, so they have to stand there as well.
    assert_eq!(bodies[1]["tools"], bodies[0]["tools"]);
    assert_eq!(bodies[1]["tool_choice"], json!({"type": "none"}));
}

/// An agent that falls back to another protocol: its second request fails, what it called before
/// stands in the conversation that the other one is told.
async fn fall_back(
    calling: Vec<Step>,
    refused: Vec<Step>,
    answered: Vec<Step>,
    make: impl FnOnce(&Server) -> ModelAgent,
) -> Value {
    let server = Server::start([calling, refused, answered]).await;
    let agent = make(&server).with_tools(vec![Arc::new(weather())]);
    let handle = FakeHandle::new();
    handle.permissions.lock().unwrap().push_back(Permission::Call(Seq(1)));
    let ended = agent.run(handle.turn(&["how is it?"])).await.unwrap();
    assert_eq!(ended.reply.as_deref(), Some("It is sunny."));
    server.requests().pop().unwrap().body
}

#[tokio::test]
async fn a_fallback_may_speak_another_protocol() {
    let claude = |server: &Server| {
        agent_with(server, |settings, turn| {
            settings.thinking = Thinking::Budget(2000);
            turn.retries_max = 0;
        })
    };
    let other = |server: &Server| model_agent(server, |_, turn| turn.retries_max = 0);
    let thinking = vec![thought(0, "where?"), call(1, "toolu_1", "weather", &[])];
    let told = fall_back(
        whole("tool_use", thinking),
        refusal(529, "overloaded_error", "Overloaded", &[]),
        server::answer(&["It is sunny."]),
        |server| claude(server).with_fallback(&other(server)),
    )
    .await;
    assert_eq!(told["messages"][1]["tool_calls"][0]["id"], "toolu_1", "{told}");
    assert_eq!(told["messages"][2]["tool_call_id"], "toolu_1", "{told}");
    assert!(!told.to_string().contains("where?"), "{told}");

    let told = fall_back(
        server::calls("", &[("call.1", "weather", "{}")]),
        server::refusal(503, &[], "down"),
        answer(&["It is sunny."]),
        |server| other(server).with_fallback(&claude(server)),
    )
    .await;
    let [_, calling, results] = &told["messages"].as_array().unwrap()[..] else { panic!("{told}") };
    let called = json!({"type": "tool_use", "id": "call_1", "name": "weather", "input": {}});
    assert_eq!(calling["content"], json!([called]));
    assert_eq!(results["content"][0]["tool_use_id"], "call_1");
    // It can't go on thinking on thoughts that it never had.
    assert_eq!(told["thinking"], Value::Null);
}

#[tokio::test]
async fn the_provider_is_told_which_span_it_is_asked_for() {
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let server = Server::start([answer(&["ok"])]).await;
    let handle = FakeHandle::new();
    *handle.span.lock().unwrap() = SpanContext::read(PARENT, None);
    agent(&server).run(handle.turn(&["hi"])).await.unwrap();
    assert_eq!(server.requests()[0].header("traceparent"), Some(PARENT));
}
