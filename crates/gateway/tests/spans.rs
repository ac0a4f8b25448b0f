//! The spans of turns that don't go straight: superseded, failed, with a question in between, and
//! of deliveries.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(dead_code, reason = "the kit is shared with tests that need more of it")]

mod kit;

use std::sync::{Arc, Mutex};

use kit::{Noted, Scripted, answered, failure, parts, reply, says, started, texts};
use tokio::sync::Notify;
use turnkeep_core::outbox::DeliveryOutcome;
use turnkeep_core::policy::channel_facts;
use turnkeep_core::ports::agent::{Permission, ToolCall, TurnContext};
use turnkeep_core::ports::trace::{Span, Tracer, Value};
use turnkeep_core::session::{Finished, RunFailure};
use turnkeep_core::tool::{SideEffects, ToolOutcome};
use turnkeep_core::trace::TraceId;
use turnkeep_core::{BusyPolicy, Policy};
use turnkeep_gateway::{Gateway, Parts, Submission};
use turnkeep_stores::MemoryStore;

/// Keeps every span, and tells of each.
#[derive(Default)]
struct Kept {
    spans: Mutex<Vec<Span>>,
    more: Notify,
    /// No trace that begins here is recorded.
    off: bool,
}

impl Tracer for Kept {
    fn samples(&self, _: TraceId) -> bool {
        !self.off
    }

    fn ended(&self, span: Span) {
        self.spans.lock().unwrap().push(span);
        self.more.notify_waiters();
    }
}

impl Kept {
    /// Every span of this name, once there are so many.
    async fn named(&self, name: &str, count: usize) -> Vec<Span> {
        loop {
            let more = self.more.notified();
            let spans = self.spans.lock().unwrap().clone();
            let named: Vec<Span> = spans.into_iter().filter(|span| span.name == name).collect();
            if named.len() >= count {
                return named;
            }
            more.await;
        }
    }
}

async fn gateway<F, R>(change: fn(&mut Policy), script: F) -> (Gateway, Arc<Kept>)
where
    F: Fn(TurnContext) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Finished, RunFailure>> + Send + 'static,
{
    let kept = Arc::new(Kept::default());
    (with(&kept, change, script).await, kept)
}

async fn with<F, R>(kept: &Arc<Kept>, change: fn(&mut Policy), script: F) -> Gateway
where
    F: Fn(TurnContext) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Finished, RunFailure>> + Send + 'static,
{
    let agent = Arc::new(Scripted(Box::new(move |turn| Box::pin(script(turn)))));
    let facts = *channel_facts("signal").unwrap();
    let noted = Noted { facts, sent: Arc::default(), outcome: |_| DeliveryOutcome::Sent };
    let parts = parts(Arc::new(MemoryStore::new()), agent, change);
    let channels = [("signal".to_owned(), Arc::new(noted) as _)].into();
    started(Parts { tracer: Some(kept.clone()), channels, ..parts }).await
}

fn attribute(span: &Span, name: &str) -> String {
    let value =
        span.attributes.iter().find(|(known, _)| known.strip_prefix("turnkeep.") == Some(name));
    match value {
        Some((_, Value::Text(text))) => text.to_string(),
        Some((_, Value::Number(number))) => number.to_string(),
        Some((_, Value::Flag(flag))) => flag.to_string(),
        None => String::new(),
    }
}

fn events(span: &Span) -> Vec<&str> {
    span.events.iter().map(|event| event.name).collect()
}

#[tokio::test]
async fn a_superseded_turn_leads_to_the_one_in_its_place() {
    let (begun, gate) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, waits) = (Arc::clone(&begun), Arc::clone(&gate));
    let (gateway, kept) = gateway(
        |policy| policy.busy = BusyPolicy::Supersede,
        move |turn| {
            let (told, waits) = (Arc::clone(&told), Arc::clone(&waits));
            async move {
                told.notify_one();
                if turn.messages.len() == 1 {
                    waits.notified().await;
                }
                reply(&texts(&turn.messages).join("|"))
            }
        },
    )
    .await;
    gateway.submit(says("anna", "api", "one"), false).await.unwrap();
    begun.notified().await;
    answered(&gateway, says("anna", "api", "two")).await;
    let turns = kept.named("turn", 2).await;
    let decides = kept.named("decide", 2).await;
    assert_eq!([0, 1].map(|n| attribute(&turns[n], "status")), ["superseded", "complete"]);
    // Each began with what was there: the second one with both messages, in the first one's trace.
    assert_eq!([0, 1].map(|n| turns[n].parent), [Some(decides[0].context.span); 2]);
    assert_eq!(turns[0].links, [decides[0].context.clone()]);
    let led = [&turns[0], &decides[0], &decides[1]].map(|span| span.context.clone());
    assert_eq!(turns[1].links, led);
    let attempts = kept.named("agent attempt", 2).await;
    let mut outcomes = [0, 1].map(|n| attribute(&attempts[n], "outcome"));
    outcomes.sort();
    assert_eq!(outcomes, ["cancelled", "finished"]);
}

#[tokio::test]
async fn a_failed_turn_is_tried_again_and_its_notice_belongs_to_it() {
    let quick = |policy: &mut Policy| {
        (policy.errors_max, policy.error_backoff_ms, policy.window_ms) = (2, 1, 0);
    };
    let (gateway, kept) = gateway(quick, |_| async { failure("velvet", true) }).await;
    answered(&gateway, says("anna", "signal", "velvet")).await;
    let delivery = kept.named("deliver", 1).await.remove(0);
    let turn = kept.named("turn", 1).await.remove(0);
    assert_eq!((attribute(&turn, "status"), turn.failed), ("failed".into(), Some("agent_failed")));
    assert_eq!(
        (attribute(&turn, "attempts"), events(&turn)),
        ("2".into(), vec!["to be tried again"])
    );
    assert_eq!(delivery.parent, Some(turn.context.span));
    assert_eq!(attribute(&delivery, "turn_id"), attribute(&turn, "turn_id"));
    for attempt in kept.named("agent attempt", 2).await {
        assert_eq!(
            (attempt.parent, attempt.failed),
            (Some(turn.context.span), Some("the agent failed"))
        );
    }
    let all = format!("{:?}", kept.spans.lock().unwrap());
    assert!(!all.contains("velvet"), "{all}");
}

#[tokio::test]
async fn a_question_and_its_answer_are_part_of_the_turn() {
    let (gateway, kept) = gateway(
        |policy| policy.window_ms = 0,
        |turn| async move {
            let answer = turn.handle.ask("which one?").await.unwrap();
            reply(&answer.body.text)
        },
    )
    .await;
    gateway.submit(says("anna", "signal", "do it"), false).await.unwrap();
    let question = kept.named("deliver", 1).await.remove(0);
    answered(&gateway, says("anna", "signal", "that one")).await;
    let deliveries = kept.named("deliver", 2).await;
    let turn = kept.named("turn", 1).await.remove(0);
    let decides = kept.named("decide", 2).await;
    assert_eq!(events(&turn), ["waiting for input", "answered by the user"]);
    assert_eq!(turn.links, [decides[0].context.clone(), decides[1].context.clone()]);
    assert_eq!([question.parent, deliveries[1].parent], [Some(turn.context.span); 2]);
}

#[tokio::test]
async fn a_tool_is_named_in_the_attempt_and_what_it_was_told_is_not() {
    let (gateway, kept) = gateway(
        |policy| policy.window_ms = 0,
        |turn| async move {
            let (effects, input) = (SideEffects::Irreversible, "velvet".into());
            let tool = "refund".into();
            let call = ToolCall { tool, effects, input, ..ToolCall::default() };
            let Permission::Call(seq) = turn.handle.intend(call.clone()).await.unwrap() else {
                panic!("nothing was done yet")
            };
            turn.handle.returned(seq, ToolOutcome::Done, "velvet").await.unwrap();
            turn.handle.intend(call).await.unwrap();
            reply("done")
        },
    )
    .await;
    answered(&gateway, says("anna", "signal", "my money")).await;
    let attempt = kept.named("agent attempt", 1).await.remove(0);
    assert_eq!(events(&attempt), ["tool called", "tool returned", "tool not called"]);
    let tool = ("turnkeep.tool", Value::from("refund"));
    let outcome = ("turnkeep.outcome", Value::from("done"));
    let known: Vec<_> = attempt.events.into_iter().map(|event| event.attributes).collect();
    let ended = vec![tool.clone(), outcome];
    assert_eq!(known, [vec![tool], ended.clone(), ended]);
    let all = format!("{:?}", kept.spans.lock().unwrap());
    assert!(!all.contains("velvet"), "{all}");
}

#[tokio::test]
async fn what_is_not_recorded_stays_so_to_its_end() {
    let kept = Arc::new(Kept { off: true, ..Kept::default() });
    let gateway = with(&kept, |policy| policy.window_ms = 0, |_| async { reply("hi") }).await;
    answered(&gateway, says("anna", "signal", "one")).await;
    // Its sender records it, so everything of it is.
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let trace = turnkeep_core::trace::SpanContext::read(parent, None);
    answered(&gateway, Submission { trace, ..says("anna", "signal", "two") }).await;
    kept.named("deliver", 1).await;
    let spans = kept.spans.lock().unwrap().clone();
    let mut names: Vec<&str> = spans.iter().map(|span| span.name).collect();
    names.sort_unstable();
    assert_eq!(names, ["agent attempt", "decide", "deliver", "turn"]);
    assert!(spans.iter().all(|span| parent.contains(&span.context.trace.to_string())));
}
