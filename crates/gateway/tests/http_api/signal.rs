//! What an operator does with accounts of Signal: groups, and trust in who has a new phone.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::intake::{AccountHealth, Intake, KnownGroup, Listener, Pulse, Undone};

use crate::kit::World;

/// An adapter with these accounts, that notes what is asked of it.
struct Phone {
    accounts: &'static [&'static str],
    trusted: Mutex<Vec<Value>>,
}

impl Phone {
    fn new(accounts: &'static [&'static str]) -> Arc<Self> {
        Arc::new(Self { accounts, trusted: Mutex::default() })
    }

    fn trusted(&self) -> Vec<Value> {
        std::mem::take(&mut *self.trusted.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Listener for Phone {
    fn channel(&self) -> &'static str {
        "signal"
    }

    fn listen(&self, _: Arc<dyn Intake>) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn health(&self) -> Vec<AccountHealth> {
        let health = |name: &&str| AccountHealth {
            account: (*name).into(),
            receiving: Pulse::Working,
            sending: Pulse::Working,
            restarts: 0,
        };
        self.accounts.iter().map(health).collect()
    }

    fn trust<'a>(
        &'a self,
        account: &'a str,
        who: &'a str,
        safety_number: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), Undone>> {
        let mut trusted = self.trusted.lock().unwrap_or_else(PoisonError::into_inner);
        trusted.push(json!([account, who, safety_number]));
        let outcome = match who {
            "nobody" => Err(Undone::Refused("signal-cli: no such user".into())),
            "away" => Err(Undone::Unreachable("signal-cli does not run just now".into())),
            _ => Ok(()),
        };
        Box::pin(std::future::ready(outcome))
    }

    fn groups<'a>(&'a self, account: &'a str) -> BoxFuture<'a, Result<Vec<KnownGroup>, Undone>> {
        let group = KnownGroup {
            id: format!("R3JvdXA{account}=").into(),
            title: Some("Family".into()),
            members: 3,
            member: true,
            blocked: false,
        };
        Box::pin(std::future::ready(Ok(vec![group])))
    }
}

#[tokio::test]
async fn whoever_has_a_new_phone_is_trusted_again() {
    let world = World::new().await;
    let trust = async |body: Value| {
        let reply = world.post("/v1/signal/trust", &body).await;
        (reply.status, reply.json())
    };
    let (status, told) = trust(json!({ "who": "+49" })).await;
    assert_eq!((status, &told["detail"]), (404, &json!("no account of signal is configured")));
    let phone = Phone::new(&["home"]);
    world.gateway.hear(vec![phone.clone()]).await;
    let (status, told) = trust(json!({ "who": "signal:+49", "safety_number": "123" })).await;
    let expect = json!({ "result": "trusted", "who": "+49", "account": "home" });
    assert_eq!((status, told), (200, expect));
    assert_eq!(phone.trusted(), [json!(["home", "+49", "123"])]);
    assert_eq!(trust(json!({ "who": "nobody" })).await.0, 409);
    assert_eq!(trust(json!({ "who": "away" })).await.0, 503);
    assert_eq!(trust(json!({ "who": "" })).await.1["field"], "who");
    assert_eq!(trust(json!({ "who": "a\nb" })).await.1["field"], "who");
    assert_eq!(trust(json!({ "who": "+49", "all": true })).await.0, 422);
    // Of several accounts one has to be named.
    let phone = Phone::new(&["home", "shop"]);
    world.gateway.hear(vec![phone.clone()]).await;
    let (status, told) = trust(json!({ "who": "+49" })).await;
    let words = "there are several accounts: name one of them";
    assert_eq!((status, &told["detail"]), (404, &json!(words)));
    assert_eq!(trust(json!({ "who": "+49", "account": "work" })).await.0, 404);
    assert_eq!(phone.trusted(), [] as [Value; 0]);
    assert_eq!(trust(json!({ "who": "+49", "account": "shop" })).await.0, 200);
    assert_eq!(phone.trusted(), [json!(["shop", "+49", null])]);
}

#[tokio::test]
async fn groups_are_told_as_the_configuration_wants_them() {
    let world = World::new().await;
    let groups = async || world.get("/v1/signal/groups").await.json();
    assert_eq!(groups().await, json!({ "groups": [] }));
    world.gateway.hear(vec![Phone::new(&["home", "shop"])]).await;
    let group = |account: &str| {
        json!({ "account": account, "id": format!("signal:R3JvdXA{account}="), "title": "Family",
                "members": 3, "member": true, "blocked": false })
    };
    assert_eq!(groups().await, json!({ "groups": [group("home"), group("shop")] }));
}
