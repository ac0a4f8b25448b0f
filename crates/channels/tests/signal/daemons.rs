//! The same over the sockets and the HTTP of a daemon that runs by itself.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use turnkeep_channels::signal::{Way, link, list_accounts, version};
use turnkeep_core::outbox::DeliveryOutcome;
use turnkeep_core::ports::intake::{Said, Taken};

use crate::intake::Desk;
use crate::port_kit::free_port;
use crate::stand::{ANNA, FIRST, Stand, US, data_message, envelope, pass, until};

/// Which of its doors.
#[derive(Clone, Copy, PartialEq)]
enum Door {
    Unix,
    Tcp,
    Http,
}

impl Door {
    /// The daemon's arguments; the same port as before, if there was one.
    fn arguments(self, stand: &Stand, port: u64) -> [String; 3] {
        let (name, place) = match self {
            Self::Unix => ("--socket", stand.dir().join("socket").display().to_string()),
            Self::Tcp => ("--tcp", format!("127.0.0.1:{port}")),
            Self::Http => ("--http", format!("127.0.0.1:{port}")),
        };
        [name.into(), place, "--receive-mode=manual".into()]
    }

    fn way(self, stand: &Stand, port: u64) -> Way {
        match self {
            Self::Unix => Way::Unix(stand.dir().join("socket")),
            Self::Tcp => Way::Tcp(format!("127.0.0.1:{port}")),
            Self::Http => Way::Http(format!("http://127.0.0.1:{port}")),
        }
    }
}

/// A daemon, and where it is.
async fn started(
    stand: &Stand,
    door: Door,
    port: u64,
    count: usize,
) -> (tokio::process::Child, u64) {
    let arguments = door.arguments(stand, port);
    let daemon = stand.daemon(&arguments.each_ref().map(String::as_str));
    let starts = stand.starts(count).await;
    let port = starts.last().unwrap()["port"].as_u64().unwrap_or(0);
    if door == Door::Unix {
        let socket = stand.dir().join("socket");
        until("a socket", async || socket.exists().then_some(())).await;
    }
    (daemon, port)
}

async fn check(door: Door) {
    let (stand, desk) = (Stand::new(), Desk::new());
    // One that nobody else is given while it is down.
    let (mut daemon, port) = started(&stand, door, free_port().into(), 1).await;
    let way = door.way(&stand, port);
    let listening = stand.listen(way.clone(), &desk);
    listening.works().await;
    // Messages, receipts, answers, an attachment.
    desk.answer(&[Taken::Unavailable("busy".into())]);
    let photo = json!({"contentType": "image/jpeg", "id": "p.jpg", "size": 7});
    let data = data_message(FIRST, json!({"message": "look", "attachments": [photo]}));
    let files = json!({"p.jpg": STANDARD.encode(b"a photo")});
    stand.inject(&json!({"envelope": envelope(FIRST, &data), "files": files}));
    stand.says(FIRST + 1, "two");
    assert_eq!(desk.texts(3).await, ["look", "look", "two"]);
    let Said::Message { attachments, .. } = &desk.all()[0].said else { panic!() };
    assert_eq!((attachments[0].bytes, attachments[0].left_out), (7, None));
    let fetched = json!({"account": US, "id": "p.jpg", "recipient": ANNA});
    assert_eq!(stand.called("getAttachment"), [fetched]);
    stand.calls("sendReceipt", 1).await;
    assert_eq!(listening.send("hi").await, DeliveryOutcome::Sent);
    // A person's commands, beside what runs.
    assert_eq!(version(&way).await.unwrap(), "0.13.19");
    assert_eq!(list_accounts(&way).await.unwrap(), [US]);
    let mut shown = String::new();
    assert_eq!(link(&way, "x", |uri| shown = uri.to_owned()).await.unwrap(), US);
    assert!(shown.starts_with("sgnl://linkdevice"), "{shown}");
    // It dies and comes back.
    daemon.kill().await.unwrap();
    listening.is_deaf("").await;
    until("not sent", async || {
        let outcome = listening.send("lost").await;
        matches!(outcome, DeliveryOutcome::Failed { retry: true, .. }).then_some(())
    })
    .await;
    stand.says(FIRST + 2, "three");
    let (_daemon, _) = started(&stand, door, port, 2).await;
    listening.works().await;
    assert_eq!(desk.texts(4).await[3], "three");
    assert_eq!(listening.send("back").await, DeliveryOutcome::Sent);
}

#[tokio::test]
async fn over_a_unix_socket() {
    check(Door::Unix).await;
}

#[tokio::test]
async fn over_tcp() {
    check(Door::Tcp).await;
}

#[tokio::test]
async fn over_http() {
    check(Door::Http).await;
}

/// Two accounts of one daemon hear by themselves, and calls go beside them.
async fn check_slow(door: Door) {
    const OTHER: &str = "+4915100000009";
    let desk = Desk::new();
    let stand = Stand::new().with(&[("home", US, "default"), ("shop", OTHER, "shop")]);
    let (_daemon, port) = started(&stand, door, 0, 1).await;
    desk.shut("home");
    stand.says(FIRST, "stuck");
    let content = data_message(FIRST + 1, json!({"message": "goes on"}));
    stand.inject(&json!({"account": OTHER, "envelope": envelope(FIRST + 1, &content)}));
    let listening = stand.listen(door.way(&stand, port), &desk);
    let mut texts = desk.texts(2).await;
    texts.sort();
    assert_eq!(texts, ["goes on", "stuck"]);
    listening.works().await;
    assert_eq!(listening.send("x").await, DeliveryOutcome::Sent);
    assert_eq!(desk.all().len(), 2);
}

#[tokio::test]
async fn a_slow_intake_holds_up_nothing_else_on_sockets() {
    check_slow(Door::Unix).await;
}

#[tokio::test]
async fn a_slow_intake_holds_up_nothing_else_over_http() {
    check_slow(Door::Http).await;
}

#[tokio::test]
async fn an_answer_that_is_lost_is_unknown_over_http() {
    let (stand, desk) = (Stand::new(), Desk::new());
    let (_daemon, port) = started(&stand, Door::Http, 0, 1).await;
    let listening = stand.listen(Door::Http.way(&stand, port), &desk);
    listening.works().await;
    stand.faults(&json!([{"method": "send", "do": "lose"}]));
    let too_late = async {
        stand.calls("send", 1).await;
        pass(stand.patience.send).await;
    };
    let (outcome, ()) = tokio::join!(listening.send("x"), too_late);
    assert!(matches!(outcome, DeliveryOutcome::Unknown { .. }), "{outcome:?}");
    assert_eq!(stand.called("send").len(), 1);
}

/// A daemon that hears from its start tells every connection what all accounts hear.
#[tokio::test]
async fn each_account_hears_only_what_is_its_own() {
    const OTHER: &str = "+4915100000009";
    let desk = Desk::new();
    let stand = Stand::new().with(&[("home", US, "default"), ("shop", OTHER, "shop")]);
    let socket = stand.dir().join("socket");
    let _daemon = stand.daemon(&["--socket", socket.to_str().unwrap()]);
    until("a socket", async || socket.exists().then_some(())).await;
    let listening = stand.listen(Way::Unix(socket), &desk);
    listening.works().await;
    stand.calls("subscribeReceive", 2).await;
    for (place, number) in [US, OTHER, US, OTHER].into_iter().enumerate() {
        let at = FIRST + i64::try_from(place).unwrap();
        let content = data_message(at, json!({"message": number}));
        stand.inject(&json!({"account": number, "envelope": envelope(at, &content)}));
    }
    let last = |account: &str, at: i64| {
        desk.all().iter().any(|one| &*one.account == account && one.sent_at == at)
    };
    until("both", async || (last("home", FIRST + 2) && last("shop", FIRST + 3)).then_some(()))
        .await;
    for heard in desk.all() {
        let number = if &*heard.account == "home" { US } else { OTHER };
        assert_eq!(crate::intake::text(&heard), number, "{heard:?}");
    }
}

/// The answer to the subscription stands behind an envelope that takes its time.
#[tokio::test]
async fn an_envelope_before_the_subscription_is_not_cut_off() {
    let (stand, desk) = (Stand::new(), Desk::new());
    stand
        .faults(&json!([{"name": "late", "method": "subscribeReceive", "times": 1, "do": "lose"}]));
    let (_daemon, port) = started(&stand, Door::Unix, 0, 1).await;
    desk.open(false);
    stand.says(FIRST, "one");
    let listening = stand.listen(Door::Unix.way(&stand, port), &desk);
    desk.heard(1).await;
    pass(stand.patience.call).await;
    listening.works().await;
    desk.open(true);
    // Only what was taken is shown as read.
    stand.calls("sendReceipt", 1).await;
    assert_eq!(desk.all().len(), 1);
}
