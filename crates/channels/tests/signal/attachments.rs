//! What came along with a message: stored by what it is, or left out for a reason.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use turnkeep_channels::signal::{Attachments, Removable, attachment_path};
use turnkeep_core::ports::attachments::Attachments as _;
use turnkeep_core::ports::intake::{Attachment, Said};

use crate::intake::Desk;
use crate::stand::{ANNA, FIRST, Stand, data_message, envelope, until};

fn attachment(id: &str, size: u64) -> Value {
    json!({"contentType": "image/jpeg", "filename": "photo.jpg", "id": id, "size": size,
        "width": 4, "height": 3, "caption": null, "uploadTimestamp": FIRST})
}

/// Anna sends an attachment with this content.
fn sends(stand: &Stand, at: i64, id: &str, content: &[u8], extra: Value) {
    let mut data = json!({"attachments": [attachment(id, content.len() as u64)]});
    data.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let envelope = envelope(at, &data_message(at, data));
    stand.inject(&json!({"envelope": envelope, "files": {id: STANDARD.encode(content)}}));
}

fn attachments(said: &Said) -> Vec<Attachment> {
    let Said::Message { attachments, .. } = said else { panic!("{said:?}") };
    attachments.clone()
}

#[tokio::test]
async fn an_attachment_is_stored_once_under_its_hash() {
    let (stand, desk) = (Stand::new(), Desk::new());
    sends(&stand, FIRST, "one.jpg", b"a photo", json!({}));
    sends(&stand, FIRST + 1, "two.jpg", b"a photo", json!({"message": "again"}));
    let _listening = stand.listen(stand.child(), &desk);
    let heard = desk.heard(2).await;
    let one = attachments(&heard[0].said).remove(0);
    let hash = one.hash.clone().unwrap();
    let expected = Attachment {
        name: Some("photo.jpg".into()),
        media_type: "image/jpeg".into(),
        bytes: 7,
        hash: Some(hash.clone()),
        left_out: None,
    };
    assert_eq!(one, expected);
    assert_eq!(attachments(&heard[1].said), [expected]);
    let digest = ring::digest::digest(&ring::digest::SHA256, b"a photo");
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(*hash, hex);
    let path = attachment_path(&stand.data(), &hash);
    assert!(path.ends_with(format!("attachments/{}/{hash}", &hash[..2])));
    assert_eq!(fs::read(&path).unwrap(), b"a photo");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // Only the one copy is left, and nothing half done.
    until("no copy", async || {
        let copies = fs::read_dir(stand.config().join("attachments")).unwrap().count();
        (copies == 0).then_some(())
    })
    .await;
    assert_eq!(fs::read_dir(stand.data().join("attachments")).unwrap().count(), 1);
}

async fn check_left_out(why: &str, may: bool, size: usize, extra: Value, id: &str) {
    let (stand, desk) = (Stand::new(), Desk::new());
    *desk.stores.lock().unwrap() = may;
    sends(&stand, FIRST, "one.jpg", &vec![b'x'; size], extra);
    if id != "one.jpg" {
        let data = json!({"attachments": [attachment(id, 7)]});
        stand.anna(FIRST + 1, data);
    }
    let _listening = stand.listen(stand.child(), &desk);
    let heard = desk.heard(if id == "one.jpg" { 1 } else { 2 }).await;
    let last = attachments(&heard.last().unwrap().said).remove(0);
    assert_eq!((last.hash, last.left_out), (None, Some(why)));
    if id == "one.jpg" {
        assert!(!stand.data().join("attachments").exists());
    }
}

#[tokio::test]
async fn what_must_not_be_stored_is_left_out() {
    check_left_out("its sender may not have attachments stored", false, 7, json!({}), "one.jpg")
        .await;
    check_left_out("it is too large", true, 1001, json!({}), "one.jpg").await;
    check_left_out("it may be viewed once only", true, 7, json!({"viewOnce": true}), "one.jpg")
        .await;
    let disappears = json!({"expiresInSeconds": 60});
    check_left_out("the message disappears", true, 7, disappears, "one.jpg").await;
    check_left_out("signal-cli did not get it", true, 7, json!({}), "missing.jpg").await;
    check_left_out("signal-cli did not get it", true, 7, json!({}), "../data/lock").await;
}

/// Its announced size is not believed.
#[tokio::test]
async fn an_attachment_that_is_larger_than_it_says_is_left_out() {
    let (stand, desk) = (Stand::new(), Desk::new());
    let data = json!({"attachments": [attachment("one.jpg", 7)], "message": "see"});
    let files = json!({"one.jpg": STANDARD.encode(vec![b'x'; 5000])});
    let envelope = envelope(FIRST, &data_message(FIRST, data));
    stand.inject(&json!({"envelope": envelope, "files": files}));
    let _listening = stand.listen(stand.child(), &desk);
    let heard = desk.heard(1).await;
    assert_eq!(attachments(&heard[0].said)[0].left_out, Some("it is too large"));
    assert_eq!(fs::read_dir(stand.data().join("attachments")).unwrap().count(), 0);
}

/// The names of what signal-cli still keeps.
fn copies(stand: &Stand) -> Vec<String> {
    let Ok(all) = fs::read_dir(stand.config().join("attachments")) else { return Vec::new() };
    all.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// It stores what nobody asked it for: of messages that we pass over, too.
#[tokio::test]
async fn nothing_is_left_with_signal_cli() {
    let (stand, desk) = (Stand::new(), Desk::new());
    let many: Vec<Value> =
        (0..40).map(|number| attachment(&format!("many {number}.jpg"), 7)).collect();
    let quote = json!({"id": 7, "author": ANNA, "text": "x",
        "attachments": [{"contentType": "image/jpeg", "filename": null,
            "thumbnail": attachment("thumbnail.jpg", 7)}]});
    let full = json!({
        "message": "see",
        "attachments": many,
        "previews": [{"url": "https://x", "title": "", "description": "",
            "image": attachment("preview.jpg", 7)}],
        "quote": quote,
    });
    let avatar = json!({"attachment": attachment("avatar.jpg", 7), "isProfile": false});
    let contact = json!({"contacts": [{"name": {}, "avatar": avatar}]});
    let edited = data_message(FIRST + 2, json!({"attachments": [attachment("edit.jpg", 7)]}));
    let edit = json!({"editMessage": {"targetSentTimestamp": FIRST,
        "dataMessage": edited["dataMessage"]}});
    let ours =
        json!({"syncMessage": {"sentMessage": {"attachments": [attachment("ours.jpg", 7)]}}});
    let envelopes = [
        envelope(FIRST, &data_message(FIRST, full)),
        envelope(FIRST + 1, &data_message(FIRST + 1, contact)),
        envelope(FIRST + 2, &edit),
        envelope(FIRST + 3, &ours),
    ];
    let names = ["thumbnail.jpg", "preview.jpg", "avatar.jpg", "edit.jpg", "ours.jpg"];
    let mut files: serde_json::Map<String, Value> =
        names.into_iter().map(|name| (name.to_owned(), "eA==".into())).collect();
    files.extend((0..40).map(|number| (format!("many {number}.jpg"), "eA==".into())));
    files.insert("many 3.jpg.preview".to_owned(), "eA==".into());
    files.insert("of nobody".to_owned(), "eA==".into());
    for (place, envelope) in envelopes.iter().enumerate() {
        let files = if place == 0 { Value::Object(files.clone()) } else { json!({}) };
        stand.inject(&json!({"envelope": envelope, "files": files}));
    }
    let _listening = stand.listen(stand.child(), &desk);
    let kept = attachments(&desk.heard(1).await[0].said);
    assert_eq!((kept.len(), kept[0].left_out), (32, None));
    until("no copies", async || (copies(&stand) == ["of nobody"]).then_some(())).await;
}

/// Forwarded at once, or to two of our accounts: the first envelope took the file with it.
#[tokio::test]
async fn two_envelopes_with_one_attachment_have_it_both() {
    let (stand, desk) = (Stand::new(), Desk::new());
    sends(&stand, FIRST, "one.jpg", b"a photo", json!({}));
    let _listening = stand.listen(stand.child(), &desk);
    let first = attachments(&desk.heard(1).await[0].said);
    until("no copies", async || copies(&stand).is_empty().then_some(())).await;
    stand.anna(FIRST + 1, json!({"attachments": [attachment("one.jpg", 7)]}));
    let second = attachments(&desk.heard(2).await[1].said);
    assert!(first[0].hash.is_some());
    assert_eq!(second, first);
}

/// Everything that is stored has one room; what is there already needs none.
#[tokio::test]
async fn what_finds_no_room_is_left_out() {
    let (mut stand, desk) = (Stand::new(), Desk::new());
    stand.attachments = Arc::new(Attachments::new(&stand.data(), 10));
    sends(&stand, FIRST, "one.jpg", b"a photo", json!({}));
    sends(&stand, FIRST + 1, "two.jpg", b"another", json!({}));
    sends(&stand, FIRST + 2, "three.jpg", b"a photo", json!({}));
    let _listening = stand.listen(stand.child(), &desk);
    let heard = desk.heard(3).await;
    let told = heard.iter().map(|heard| attachments(&heard.said).remove(0).left_out);
    assert_eq!(
        told.collect::<Vec<_>>(),
        [None, Some("there is no more room for attachments"), None]
    );
    let all = Removable(Arc::clone(&stand.attachments));
    assert!(all.is_full());
    let listed = until("all at rest", async || {
        let listed = all.list().await.unwrap();
        (listed.len() == 1).then_some(listed)
    })
    .await;
    assert!(all.remove(listed[0].clone()).await.unwrap());
    assert!(!all.remove(listed[0].clone()).await.unwrap(), "it is gone");
    sends(&stand, FIRST + 3, "four.jpg", b"another", json!({}));
    let heard = desk.heard(4).await;
    assert_eq!(attachments(&heard[3].said)[0].left_out, None);
}

/// A message that is not taken yet may be soon.
#[tokio::test]
async fn what_a_message_is_taken_with_is_not_removed() {
    let (stand, desk) = (Stand::new(), Desk::new());
    let all = Removable(Arc::clone(&stand.attachments));
    sends(&stand, FIRST, "one.jpg", b"a photo", json!({}));
    let _listening = stand.listen(stand.child(), &desk);
    desk.heard(1).await;
    let listed = until("at rest", async || all.list().await.unwrap().pop()).await;
    desk.open(false);
    sends(&stand, FIRST + 1, "two.jpg", b"a photo", json!({}));
    desk.heard(2).await;
    assert_eq!(all.list().await.unwrap(), []);
    assert!(!all.remove(listed.clone()).await.unwrap());
    desk.open(true);
    let again = until("at rest", async || all.list().await.unwrap().pop()).await;
    // Whoever looked before it came again has looked too early.
    assert!(!all.remove(listed).await.unwrap());
    assert!(all.remove(again).await.unwrap());
}
