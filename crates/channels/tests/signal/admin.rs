//! What a person does with accounts, through a signal-cli that is started for it.

use serde_json::json;
use turnkeep_channels::signal::{
    SignalError, Trusting, Way, identities, link, list_accounts, trust, version,
};

use crate::intake::Desk;
use crate::stand::{ANNA, Stand, US};

#[tokio::test]
async fn an_account_is_linked_listed_and_trusts() {
    let stand = Stand::new();
    let way = stand.child();
    assert_eq!(version(&way).await.unwrap(), "0.13.19");
    std::fs::write(stand.dir().join("accounts"), "").unwrap();
    assert_eq!(list_accounts(&way).await.unwrap(), [] as [&str; 0]);
    let mut shown = Vec::new();
    assert_eq!(link(&way, "kitchen", |uri| shown.push(uri.to_owned())).await.unwrap(), US);
    assert!(shown[0].starts_with("sgnl://linkdevice") && shown.len() == 1, "{shown:?}");
    assert_eq!(list_accounts(&way).await.unwrap(), [US]);
    let how = Trusting::SafetyNumber("12345".into());
    trust(&way, US, ANNA, &how).await.unwrap();
    trust(&way, US, ANNA, &Trusting::AllKnownKeys).await.unwrap();
    assert_eq!(identities(&way, US).await.unwrap(), []);
    // The same while a signal-cli of ours holds the account.
    let listening = stand.listen(way, &Desk::new());
    listening.works().await;
    listening.channel.trust(US, ANNA, &how).await.unwrap();
    let trusted = stand.called("trust");
    let expected = json!({"account": US, "recipient": ANNA, "verifiedSafetyNumber": "12345"});
    assert_eq!((trusted.len(), trusted.last()), (3, Some(&expected)));
}

#[tokio::test]
async fn what_is_wrong_is_said_in_words() {
    let stand = Stand::new();
    let none = Way::Child { command: vec!["no-such-cli".into()], config_dir: stand.config() };
    let error = version(&none).await.unwrap_err();
    assert!(matches!(&error, SignalError::NoProgram(name) if name == "no-such-cli"), "{error:?}");
    let says = |script: &str| Way::Child {
        command: vec!["sh".into(), "-c".into(), script.into()],
        config_dir: stand.config(),
    };
    let error = version(&says("echo Unsupported class file >&2; exit 1")).await.unwrap_err();
    assert_eq!(error.to_string(), "signal-cli: exit status: 1: Unsupported class file");
    let error = link(&says("echo No internet >&2; exit 3"), "x", |_| ()).await.unwrap_err();
    assert_eq!(error.to_string(), "signal-cli: No internet");
    let nowhere = Way::Unix(stand.dir().join("nobody"));
    let error = version(&nowhere).await.unwrap_err();
    assert!(matches!(error, SignalError::Unreachable(_)), "{error:?}");
}
