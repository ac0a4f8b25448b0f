//! What a real engine refuses.

use turnkeep_hatchet::{
    HatchetClient, HatchetError, Link, Listening, Token, TurnRun, Worker, WorkerSettings,
};

use crate::engine::shared;
use crate::hand::client;
use crate::kit::{PATIENCE, run, settings, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_says_where_its_engine_is() {
    let client = client(shared(), "token").await;
    let token = shared().token();
    assert_eq!(token.address(), Some(client.address()));
    let left = token.remaining(std::time::SystemTime::now()).unwrap();
    assert!(left.as_secs() > 24 * 3600, "{left:?}");
    let (once, twice) =
        (client.put_workflow().await.unwrap(), client.put_workflow().await.unwrap());
    assert_eq!(once, twice);
    assert!(client.version().await.unwrap().starts_with('v'));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_said_to_be_one() {
    client(shared(), "wrong").await;
    let (claims, signature) = shared().token_text().rsplit_once('.').unwrap();
    let turned: String = signature.chars().rev().collect();
    let token = Token::decode(&format!("{claims}.{turned}")).unwrap();
    let wrong = HatchetClient::new(settings(token, "wrong")).unwrap();
    let error = wrong.trigger(&run("s")).await.unwrap_err();
    assert!(matches!(error, HatchetError::WrongToken(_)), "{error:?}");
    assert!(!error.is_passing() && !error.may_be_done());
    // Nor is it worth waiting for.
    assert_eq!(wrong.reach(PATIENCE).await.unwrap_err().class(), "wrong_token");
    assert!(matches!(wrong.health().report().link, Link::Failing { why, .. } if why == error));
    let (worker, _orders) = Worker::start(wrong, WorkerSettings::new("w", 1)).unwrap();
    let told = until(&worker, |told| told.listening != Listening::Registering(None)).await;
    assert_eq!(told.listening, Listening::Registering(Some(error)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_engine_can_not_do_is_said_in_classes() {
    client(shared(), "classes").await;
    let unknown = HatchetClient::new(settings(shared().token(), "nosuch")).unwrap();
    let error = unknown.trigger(&run("s")).await.unwrap_err();
    let name = "nosuch_LogicalTurnWorkflow";
    assert_eq!(error, HatchetError::UnknownWorkflow(name.into()));
    let long = TurnRun { session: "s".repeat(20_000).into(), ..run("s") };
    assert_eq!(unknown.trigger(&long).await.unwrap_err().class(), "too_large");
    let error = unknown.cancel(&["no id".into()]).await.unwrap_err();
    assert!(matches!(error.class(), "refused" | "failed"), "{error:?}");
    assert_eq!(unknown.health().report().link, Link::Working);
    let nowhere = turnkeep_hatchet::HatchetSettings {
        address: Some("127.0.0.1:1".into()),
        ..settings(shared().token(), "nowhere")
    };
    let error = HatchetClient::new(nowhere).unwrap().version().await.unwrap_err();
    assert!(matches!(&error, HatchetError::Unreachable(_)), "{error:?}");
    for address in ["", "host", ":7", "host:", "host:x", "http://host:7", "a b:7", "a@b:7"] {
        let wrong = turnkeep_hatchet::HatchetSettings {
            address: Some(address.into()),
            ..settings(shared().token(), "nowhere")
        };
        assert_eq!(HatchetClient::new(wrong).unwrap_err().class(), "settings", "{address:?}");
    }
}
