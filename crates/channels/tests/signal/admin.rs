//! What a person does with accounts, through a signal-cli that is started for it.

use serde_json::json;
use turnkeep_channels::signal::{
    SignalError, Trusting, Way, groups, identities, link, list_accounts, trust, version,
};
use turnkeep_core::ports::intake::{Listener as _, Undone};

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
    listening.channel.trust("home", ANNA, Some("12345")).await.unwrap();
    let nobody = listening.channel.trust("work", ANNA, None).await;
    assert_eq!(nobody, Err(Undone::NoAccount("there is no account \"work\"".into())));
    let trusted = stand.called("trust");
    let expected = json!({"account": US, "recipient": ANNA, "verifiedSafetyNumber": "12345"});
    assert_eq!((trusted.len(), trusted.last()), (3, Some(&expected)));
}

/// Asked beside a server and through the one of the server: the same is told.
#[tokio::test]
async fn groups_are_told_by_whoever_holds_the_account() {
    let stand = Stand::new();
    let told = json!([{"id": "R0c=", "name": "Family", "isMember": true, "isBlocked": false,
                       "members": [{"number": US, "uuid": "x"}, {"number": null, "uuid": ANNA}]}]);
    std::fs::write(stand.dir().join("groups.json"), told.to_string()).unwrap();
    let way = stand.child();
    let alone = groups(&way, US).await.unwrap();
    assert_eq!((&*alone[0].id, alone[0].title.as_deref()), ("R0c=", Some("Family")));
    assert_eq!((alone[0].members, alone[0].member, alone[0].blocked), (2, true, false));
    let listening = stand.listen(way, &Desk::new());
    assert!(matches!(listening.channel.groups("home").await, Err(Undone::Unreachable(_))));
    listening.works().await;
    assert_eq!(listening.channel.groups("home").await.unwrap(), alone);
    stand.faults(&json!([{"method": "listGroups", "do": "refuse", "code": -1, "message": "no"}]));
    let refused = listening.channel.groups("home").await;
    assert_eq!(refused, Err(Undone::Refused("signal-cli: no".into())));
}

#[tokio::test]
async fn what_keeps_somebody_from_linking_is_a_sentence() {
    let stand = Stand::new();
    let check = async |script: &str, expect: &str| {
        let command = vec!["sh".into(), "-c".into(), script.into()];
        let way = Way::Child { command, config_dir: stand.config() };
        let error = link(&way, "x", |_| ()).await.unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
        error
    };
    let cut = "echo 'WARN  Socket - closed' >&2; echo 'Link request error: Connection closed!' >&2; exit 3";
    let said = check(cut, "Signal's servers can't be reached").await;
    assert!(said.ends_with("(signal-cli: Link request error: Connection closed!)"), "{said}");
    let late = "echo 'Link request timed out, please try again.' >&2; exit 1";
    check(late, "nobody scanned the code in time").await;
    let twice = "echo 'The user +49 already exists' >&2; echo 'Delete \"x\" before.' >&2; exit 1";
    check(twice, "linked here already").await;
    check("exit 1", "it ended without a word").await;
    check("echo 'ERROR Main - odd' >&2; exit 1", "signal-cli: ERROR Main - odd").await;
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
