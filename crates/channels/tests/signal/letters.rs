//! What becomes of each kind of envelope.

use serde_json::{Value, json};
use turnkeep_core::ports::intake::{Chat, Heard, Person, Quoted, Said};

use crate::intake::Desk;
use crate::stand::{ANNA, ANNAS_NUMBER, FIRST, Stand, US, data_message, envelope};

const GROUP: &str = "Pmpi+EfPWmsxiomLe9Nx2XF9HOE483p6iKiFj65iMwI=";
/// How the stand-in calls us.
const OUR_UUID: &str = "d5e6bd5b-2a6c-5b36-9a4c-000000000000";

fn anna() -> Person {
    Person { id: ANNA.into(), also: vec![ANNAS_NUMBER.into()], name: Some("Anna".into()) }
}

fn heard(at: i64, said: Said) -> Heard {
    Heard {
        channel: "signal",
        account: "home".into(),
        chat: Chat::Direct,
        sender: anna(),
        message_id: at.to_string().into(),
        sent_at: at,
        disappears_s: None,
        said,
    }
}

fn message(text: &str) -> Said {
    Said::Message {
        text: text.into(),
        mentions_us: false,
        quoted: None,
        quotes_us: false,
        attachments: Vec::new(),
    }
}

/// Gives the lines to a channel, with a message behind them; what it hears of them.
async fn hears(lines: &[Value]) -> Vec<Heard> {
    let (stand, desk) = (Stand::new(), Desk::new());
    for line in lines {
        stand.inject(line);
    }
    stand.says(FIRST + 1_000_000, "the last one");
    let listening = stand.listen(stand.child(), &desk);
    let last = heard(FIRST + 1_000_000, message("the last one"));
    let all = crate::stand::until("the last one", async || {
        Some(desk.all()).filter(|all| all.last() == Some(&last))
    });
    let mut all = all.await;
    all.pop();
    listening.works().await;
    all
}

fn line(content: &Value) -> Value {
    json!({"envelope": envelope(FIRST, content)})
}

fn data(content: Value) -> Value {
    line(&data_message(FIRST, content))
}

/// The same envelope with one thing of it changed.
fn changed(mut line: Value, key: &str, value: Value) -> Value {
    line["envelope"][key] = value;
    line
}

#[tokio::test]
async fn messages_edits_reactions_and_typing_are_heard() {
    let in_group =
        json!({"groupId": GROUP, "groupName": "Family", "revision": 3, "type": "DELIVER"});
    let edit = json!({"targetSentTimestamp": FIRST - 7, "dataMessage":
        {"timestamp": FIRST, "message": "better", "expiresInSeconds": 0, "viewOnce": false}});
    let reaction = json!({"emoji": "👍", "targetAuthor": US, "targetAuthorNumber": US,
        "targetAuthorUuid": OUR_UUID, "targetSentTimestamp": FIRST - 9, "isRemove": false});
    let typing = json!({"action": "STARTED", "timestamp": FIRST, "groupId": null});
    let all = hears(&[
        data(json!({"message": "hi"})),
        data(json!({"message": "all", "groupInfo": in_group})),
        line(&json!({"editMessage": edit})),
        data(json!({"reaction": reaction})),
        line(&json!({"typingMessage": typing})),
    ])
    .await;
    let mut to_all = heard(FIRST, message("all"));
    to_all.chat = Chat::Group { id: GROUP.into(), title: Some("Family".into()) };
    let edited = Said::Edit {
        of: (FIRST - 7).to_string().into(),
        text: "better".into(),
        mentions_us: false,
    };
    let reacted = Said::Reaction {
        sign: "👍".into(),
        of: (FIRST - 9).to_string().into(),
        author: OUR_UUID.into(),
        to_us: true,
        removed: false,
    };
    let expected = [message("hi"), edited, reacted, Said::Typing].map(|said| heard(FIRST, said));
    assert_eq!(all.len(), 5);
    assert_eq!(all[1], to_all);
    assert_eq!(
        [&all[0], &all[2], &all[3], &all[4]],
        [&expected[0], &expected[1], &expected[2], &expected[3]]
    );
}

#[tokio::test]
async fn mentions_are_spelt_out_and_quotes_are_known() {
    let mention = json!({"name": US, "number": US, "uuid": OUR_UUID, "start": 0, "length": 1});
    let quote = json!({"id": FIRST - 3, "author": US, "authorNumber": US, "authorUuid": OUR_UUID,
        "text": "what we said", "mentions": [], "attachments": [], "textStyles": []});
    let all = hears(&[
        data(json!({"message": "\u{fffc}, are you there?", "mentions": [mention]})),
        data(json!({"message": "no", "quote": quote})),
    ])
    .await;
    let quoted = Quoted {
        message_id: (FIRST - 3).to_string().into(),
        author: OUR_UUID.into(),
        text: "what we said".into(),
    };
    let expected =
        [(format!("@{US}, are you there?"), true, None), ("no".to_owned(), false, Some(quoted))]
            .map(|(text, mentions_us, quoted)| {
                let quotes_us = quoted.is_some();
                let text = text.into();
                let attachments = Vec::new();
                heard(FIRST, Said::Message { text, mentions_us, quoted, quotes_us, attachments })
            });
    assert_eq!(all, expected);
}

/// Without a number, without a uuid, with a name that plays tricks, from the future.
#[tokio::test]
async fn senders_may_be_known_by_half() {
    let hello = || data(json!({"message": "hi"}));
    let without_number =
        changed(changed(hello(), "sourceNumber", Value::Null), "source", ANNA.into());
    let without_uuid = changed(hello(), "sourceUuid", Value::Null);
    let strange = changed(hello(), "sourceName", "\u{202e}annA\u{200b}".into());
    let future = line(&data_message(FIRST * 3, json!({"message": "hi"})));
    let all = hears(&[without_number, without_uuid, strange, future]).await;
    let ids: Vec<(&str, usize)> =
        all.iter().map(|heard| (&*heard.sender.id, heard.sender.also.len())).collect();
    assert_eq!(ids, [(ANNA, 0), (ANNAS_NUMBER, 0), (ANNA, 1), (ANNA, 1)]);
    assert_eq!(all[2].sender.name.as_deref(), Some("\u{202e}annA\u{200b}"));
    assert_eq!(all[3].sent_at, FIRST * 3);
}

/// Every one of these is passed over, and none of them stops what comes behind it.
#[tokio::test]
async fn what_is_no_message_for_us_is_passed_over() {
    let hello = || data(json!({"message": "hi"}));
    let group = |kind: &str| json!({"groupId": GROUP, "revision": 4, "type": kind});
    let receipt = json!({"when": FIRST, "isDelivery": true, "isRead": false, "isViewed": false,
        "timestamps": [FIRST]});
    let sent = json!({"destination": ANNA, "timestamp": FIRST, "message": "from our telephone"});
    let exception = json!({"message": "x", "type": "ProtocolNoSessionException"});
    let lines = [
        // Ours.
        line(&json!({"syncMessage": {"sentMessage": sent}})),
        changed(changed(hello(), "sourceNumber", US.into()), "sourceUuid", Value::Null),
        // Of a kind that says nothing to us.
        line(&json!({"receiptMessage": receipt})),
        line(
            &json!({"callMessage": {"hangupMessage": {"id": 1, "type": "NORMAL", "deviceId": 0}}}),
        ),
        line(&json!({"storyMessage": {"allowsReplies": true, "groupId": null}})),
        line(&json!({"typingMessage": {"action": "STOPPED", "timestamp": FIRST}})),
        line(&json!({"somethingNew": {"message": "hi"}})),
        line(&json!({})),
        data(json!({"isExpirationUpdate": true, "expiresInSeconds": 60})),
        data(json!({"groupInfo": group("UPDATE")})),
        data(json!({"groupInfo": group("QUIT")})),
        data(json!({"remoteDelete": {"timestamp": FIRST}})),
        data(json!({"sticker": {"packId": "00", "stickerId": 1}})),
        data(json!({"message": "hi", "storyContext": {"authorNumber": US, "sentTimestamp": 1}})),
        // Broken.
        data(json!({"message": 7})),
        data(json!({"message": "hi", "groupInfo": {"groupId": null}})),
        data(json!({"message": "hi", "groupInfo": "x"})),
        data(json!({"message": "hi", "timestamp": null}))
            .pointer_mut("/envelope")
            .map(|envelope| {
                envelope["timestamp"] = 0.into();
                json!({"envelope": envelope})
            })
            .unwrap(),
        changed(
            changed(changed(hello(), "sourceUuid", "x:y".into()), "sourceNumber", "1".into()),
            "source",
            Value::Null,
        ),
        line(&json!({"editMessage": {"dataMessage": {"message": "x", "timestamp": FIRST}}})),
        line(&json!({"dataMessage": []})),
        json!({"envelope": 7}),
        json!({"exception": exception, "envelope": envelope(FIRST, &json!({}))}),
        json!({"exception": exception}),
        json!({"raw": "{\"jsonrpc\":\"2.0\",\"method\":\"rece\n"}),
        json!({"raw": "\u{0}\u{1}no JSON at all\n"}),
        // {"\xff\xfe": 1}
        json!({"bytes": "eyL//iI6IDF9Cg=="}),
        json!({"raw": "\n\n[]\n7\nnull\n{}\n"}),
        json!({"raw": "{\"jsonrpc\":\"2.0\",\"method\":\"receive\"}\n"}),
        json!({"raw": "{\"jsonrpc\":\"2.0\",\"id\":\"7\",\"result\":{}}\n"}),
        json!({"raw": format!("{}\n", "[".repeat(100_000))}),
    ];
    assert_eq!(hears(&lines).await, []);
}

#[tokio::test]
async fn a_line_of_nine_megabytes_is_passed_over_and_a_long_text_is_not() {
    let too_long = "x".repeat(9 << 20);
    let long = "y".repeat(1 << 20);
    let all = hears(&[data(json!({"message": too_long})), data(json!({"message": &long}))]).await;
    assert_eq!(all, [heard(FIRST, message(&long))]);
}
