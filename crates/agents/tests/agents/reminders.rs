//! The built-in tools for reminders: who has them, and what becomes of a wish.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use turnkeep_agents::ReminderTools;
use turnkeep_core::Trust;
use turnkeep_core::ids::Seq;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::agent::{Permission, TurnContext};
use turnkeep_core::ports::reminders::{AskedBy, Reminder, Reminders, Wanted};
use turnkeep_core::tool::{SideEffects, ToolOutcome};

use crate::handle::FakeHandle;
use crate::model_tools::{permit, told};
use crate::openai::{Plain, model_agent};
use crate::server::{Server, answer, calls};

/// Notes what it is asked for.
#[derive(Default)]
struct Noted(Mutex<Vec<String>>);

impl Noted {
    fn note(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }
}

impl Reminders for Noted {
    fn remind(
        &self,
        by: &AskedBy,
        when: Wanted,
        zone: Option<String>,
        text: String,
    ) -> BoxFuture<'_, Result<Reminder, String>> {
        self.note(format!("{} {when:?} {zone:?} {text}", by.session));
        let refused = matches!(when, Wanted::In(ref ahead) if ahead == "soon");
        let reminder = Reminder { name: "r1".to_owned(), at: "18:30".to_owned(), text };
        Box::pin(async move { if refused { Err("no time".to_owned()) } else { Ok(reminder) } })
    }

    fn reminders(&self, _: &AskedBy) -> Result<(Vec<Reminder>, String), String> {
        Ok((Vec::new(), "12:00".to_owned()))
    }

    fn cancel(&self, _: &AskedBy, name: String) -> BoxFuture<'_, Result<(), String>> {
        self.note(format!("cancel {name}"));
        Box::pin(async { Ok(()) })
    }
}

fn agent(server: &Server, port: &Arc<Noted>, wanted: &str) -> Plain {
    let tools = ReminderTools::wanted(Arc::clone(port) as _, &[wanted.to_owned()]).unwrap();
    Plain(model_agent(server, |_, _| ()).with_tools(vec![Arc::new(tools)]))
}

fn trusted(handle: &Arc<FakeHandle>, trust: Trust) -> TurnContext {
    TurnContext { trust, ..handle.turn(&["remind me"]) }
}

/// What the model was offered.
fn offered(server: &Server) -> Vec<String> {
    let tools = server.requests()[0].body["tools"].clone();
    let name = |tool: &Value| tool["function"]["name"].as_str().unwrap().to_owned();
    tools.as_array().into_iter().flatten().map(name).collect()
}

#[tokio::test]
async fn only_who_is_trusted_has_them() {
    let all = ["reminders__remind_me", "reminders__list_reminders", "reminders__cancel_reminder"];
    for (trust, wanted, expect) in [
        (Trust::Public, "reminders.*", &all[..0]),
        (Trust::Familiar, "reminders.*", &all[..0]),
        (Trust::Inner, "reminders.*", &all[..]),
        (Trust::Owner, "reminders.remind_me", &all[..1]),
    ] {
        let server = Server::start([answer(&["Fine."])]).await;
        let handle = FakeHandle::new();
        let ended = agent(&server, &Arc::default(), wanted).run(trusted(&handle, trust)).await;
        assert_eq!(ended.unwrap().reply.as_deref(), Some("Fine."));
        assert_eq!(offered(&server), expect, "{trust:?} {wanted}");
    }
    let port: Arc<Noted> = Arc::default();
    assert!(ReminderTools::wanted(port, &["shop.*".to_owned()]).is_none());
}

#[tokio::test]
async fn a_wish_is_on_record_and_its_refusal_is_the_models_to_read() {
    let remind = |id, arguments| (id, "reminders__remind_me", arguments);
    let wishes = [
        remind("a", r#"{"text": "the oven", "in": "20m"}"#),
        remind("b", r#"{"text": "the oven", "in": "soon"}"#),
        remind("c", r#"{"text": "the oven"}"#),
        ("d", "reminders__list_reminders", "{}"),
        ("e", "reminders__cancel_reminder", r#"{"name": "r1"}"#),
    ];
    let server = Server::start([calls("", &wishes), answer(&["Done."])]).await;
    let handle = FakeHandle::new();
    permit(&handle, (1..=5).map(|seq| Permission::Call(Seq(seq))));
    let port: Arc<Noted> = Arc::default();
    agent(&server, &port, "reminders.*").run(trusted(&handle, Trust::Inner)).await.unwrap();
    let mut asked = port.0.lock().unwrap().clone();
    asked.sort();
    assert_eq!(
        asked,
        [
            "acme:default:api:dm:ann In(\"20m\") None the oven",
            "acme:default:api:dm:ann In(\"soon\") None the oven",
            "cancel r1",
        ]
    );
    let intents = handle.intents.lock().unwrap().clone();
    let effects: Vec<SideEffects> = intents.iter().map(|intent| intent.effects).collect();
    let (once, pure) = (SideEffects::Idempotent, SideEffects::Pure);
    assert_eq!(effects, [once, once, once, pure, once]);
    let mut outcomes: Vec<(u64, ToolOutcome)> =
        handle.results.lock().unwrap().iter().map(|(seq, outcome, _)| (seq.0, *outcome)).collect();
    outcomes.sort_by_key(|(seq, _)| *seq);
    let (done, failed) = (ToolOutcome::Done, ToolOutcome::Failed);
    assert_eq!(outcomes, [(1, done), (2, failed), (3, failed), (4, done), (5, done)]);
    let results: Vec<String> = told(&server.requests()[1]).split_off(2);
    assert_eq!(
        results,
        [
            "tool a: will be told: r1 at 18:30: the oven",
            "tool b: it was not done: no time",
            "tool c: it was not done: say either in or at",
            "tool d: none; it is 12:00",
            "tool e: cancelled",
        ]
    );
}
