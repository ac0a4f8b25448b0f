//! `/model`: what there is to choose, who may, and that it holds.

use std::sync::Arc;

use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::agent::{Agent, TurnContext};
use turnkeep_core::session::{Finished, RunFailure};
use turnkeep_gateway::intake::routing::{Strangers, Trigger};
use turnkeep_stores::MemoryStore;

use super::{House, routing, says};
use crate::kit::reply;

/// Answers with the model that was chosen.
struct Choosy(Vec<(Arc<str>, Arc<str>)>);

impl Choosy {
    fn offering(models: &[(&str, &str)]) -> Arc<dyn Agent> {
        let models = models.iter().map(|(name, model)| ((*name).into(), (*model).into()));
        Arc::new(Self(models.collect()))
    }
}

impl Agent for Choosy {
    fn kind(&self) -> &'static str {
        "choosy"
    }

    fn run(&self, turn: TurnContext) -> BoxFuture<'_, Result<Finished, RunFailure>> {
        let model = turn.handle.model();
        Box::pin(async move { reply(model.as_deref().unwrap_or("its own")) })
    }

    fn models(&self) -> &[(Arc<str>, Arc<str>)] {
        &self.0
    }
}

#[tokio::test]
async fn a_model_is_chosen_for_a_session_and_outlives_a_restart() {
    let store = Arc::new(MemoryStore::new());
    let models = [("default", "big"), ("quick", "small")];
    let house = async |store: Arc<MemoryStore>| {
        let routing = routing(Strangers::Deny, Trigger::Mention);
        House::over(store, Choosy::offering(&models), routing, |_| {}).await
    };
    let first = house(Arc::clone(&store)).await;
    for (number, text) in ["/model", "/model QUICK", "/model", "hello"].iter().enumerate() {
        first.hear(says("uuid-a", &number.to_string(), text)).await;
        first.told(number + 1).await;
    }
    assert_eq!(
        first.told(4).await,
        [
            "The agent default answers here (choosy).\nIts models: default (big, in use), quick \
             (small).",
            "From the next answer on it is quick (small).",
            "The agent default answers here (choosy).\nIts models: default (big), quick (small, in \
             use).",
            "quick",
        ]
    );
    first.gateway.drain().await;
    let later = house(Arc::new(store.reopen())).await;
    for (number, text) in ["and now?", "/model default", "and now?"].iter().enumerate() {
        later.hear(says("uuid-a", &(number + 9).to_string(), text)).await;
        later.told(number + 1).await;
    }
    let told = later.told(3).await;
    assert_eq!(told, ["quick", "From the next answer on it is default (big).", "its own"]);
}

#[tokio::test]
async fn what_is_not_offered_or_not_allowed_is_not_chosen() {
    let house = House::with(
        Choosy::offering(&[("default", "big"), ("quick", "small")]),
        routing(Strangers::Public, Trigger::Mention),
    )
    .await;
    let asked = [
        ("uuid-a", "/model dear", "There is no model \"dear\" here, only default, quick."),
        // Familiar, and anybody.
        (
            "uuid-b",
            "/model quick",
            "Not done: that is for somebody who is trusted further than you are.",
        ),
        ("uuid-b", "hello", "its own"),
        (
            "uuid-x",
            "/model quick",
            "Not done: that is for somebody who is trusted further than you are.",
        ),
    ];
    for (number, (who, text, expect)) in asked.iter().enumerate() {
        house.hear(says(who, &number.to_string(), text)).await;
        assert_eq!(house.told(number + 1).await[number], *expect, "{text}");
    }
    let plain = House::new(Strangers::Deny).await;
    plain.hear(says("uuid-a", "1", "/model quick")).await;
    assert_eq!(plain.told(1).await, ["There is no other model here."]);
}
