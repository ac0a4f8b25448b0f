//! Messages that disappear, through the real server: nothing of them is left after their time, and
//! the audit finds nothing wrong. And what was stored for somebody goes with them.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::crash_kit::audit;
use crate::kit::{Household, NUMBER, Phone, repository};
use crate::tables::keeps;

const ANNA: Phone = Phone(1);
const BEN: Phone = Phone(2);

/// Anna writes in a chat whose messages disappear after a second.
fn say_for_a_second(home: &Household, at: u64, text: &str) {
    let envelope = json!({
        "source": ANNA.number(),
        "sourceNumber": ANNA.number(),
        "sourceUuid": ANNA.uuid(),
        "sourceName": "Anna",
        "sourceDevice": 1,
        "timestamp": at,
        "dataMessage": {
            "timestamp": at,
            "message": text,
            "expiresInSeconds": 1,
            "isExpirationUpdate": false,
            "viewOnce": false,
        },
    });
    let line = json!({ "account": NUMBER, "envelope": envelope });
    let path = home.path("phone/inject.jsonl");
    let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
    writeln!(file, "{line}").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_disappears_on_the_phones_disappears_here() {
    let mut home = Household::started("[agents.default]\nkind = \"echo\"\n");
    home.say(&[(ANNA, "this stays")]);
    home.until("an answer", async || home.got(ANNA).len() == 1).await;
    say_for_a_second(&home, 1_790_000_000_900, "a secret of a second");
    home.until("both answers", async || home.got(ANNA).len() == 2).await;
    assert_eq!(home.got(ANNA)[1], "echo: a secret of a second");
    // When it is over is known to whoever comes after a crash.
    home.kill();
    home.start();
    let told = async || format!("{:?} {:?}", home.journal().await, home.deliveries(ANNA).await);
    home.until("nothing of it", async || {
        let told = told().await;
        told.contains("this stays") && !told.contains("a secret of a second")
    })
    .await;
    let said = home.said(ANNA, "user").await;
    assert_eq!((said.len(), &said[1]["text"]), (2, &json!("")), "{said:?}");
    // Nor is it left in unused parts of the files, which whoever comes next wipes.
    home.kill();
    home.start();
    home.until("a clean store", async || !keeps(&home.data(), "a secret of a second")).await;
    home.end();
    assert!(audit(&home.data()).is_ok(), "{:?}", audit(&home.data()));
}

/// Somebody sends a file.
fn send(home: &Household, phone: Phone, (at, id): (u64, &str), content: &str) {
    let attachment = json!({"contentType": "text/plain", "filename": id, "id": id, "size": 7});
    let envelope = json!({
        "sourceNumber": phone.number(),
        "sourceUuid": phone.uuid(),
        "timestamp": at,
        "dataMessage": {"timestamp": at, "message": "see", "attachments": [attachment]},
    });
    let files = json!({id: STANDARD.encode(content)});
    let line = json!({ "account": NUMBER, "envelope": envelope, "files": files });
    let path = home.path("phone/inject.jsonl");
    let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
    writeln!(file, "{line}").unwrap();
}

/// What is stored, by its content.
fn stored(home: &Household) -> Vec<String> {
    let folders = std::fs::read_dir(home.data().join("attachments")).unwrap();
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
    let mut texts: Vec<String> =
        files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    texts.sort_unstable();
    texts
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_attachments_go_with_the_last_who_sent_them() {
    let daemon = repository("crates/channels/tests/signal/daemon.py");
    let signal = format!(
        "command = [\"python3\", {daemon:?}]\nunknown = \"public\"\nattachments_trust = \"public\"\n\
         attachments_total_bytes_max = 20"
    );
    let mut home = Household::of(&signal, "[agents.default]\nkind = \"echo\"\n");
    home.link(NUMBER);
    home.start();
    send(&home, ANNA, (1_790_000_000_801, "one.txt"), "of anna");
    send(&home, ANNA, (1_790_000_000_802, "two.txt"), "of both");
    send(&home, BEN, (1_790_000_000_803, "three.txt"), "of both");
    home.until("answers", async || home.got(ANNA).len() + home.got(BEN).len() == 3).await;
    assert_eq!(stored(&home), ["of anna", "of both"]);
    // No room for a third one: it is named, and said why it is not there.
    send(&home, BEN, (1_790_000_000_804, "four.txt"), "of ben!");
    home.until("an answer", async || home.got(BEN).len() == 2).await;
    let told = &home.got(BEN)[1];
    assert!(told.contains("not stored: there is no more room for attachments"), "{told}");
    let (code, out, said) = home.run(&["customers", "erase", "default", &ANNA.uuid(), "--yes"]);
    assert_eq!(code, Some(0), "{out}{said}");
    assert_eq!(stored(&home), ["of both"]);
    send(&home, BEN, (1_790_000_000_805, "five.txt"), "of ben!");
    home.until("an answer", async || home.got(BEN).len() == 3).await;
    assert_eq!(stored(&home), ["of ben!", "of both"]);
    // Once the next one is answered, nobody has a file of the one before it in hand any more.
    home.say(&[(BEN, "that is all")]);
    home.until("an answer", async || home.got(BEN).len() == 4).await;
    let (code, out, said) = home.run(&["customers", "erase", "default", &BEN.uuid(), "--yes"]);
    assert_eq!(code, Some(0), "{out}{said}");
    assert_eq!(stored(&home), [""; 0]);
    home.end();
    assert!(audit(&home.data()).is_ok(), "{:?}", audit(&home.data()));
}
