//! What accounts and servers share: one folder of files, and who may have it.

use std::fs;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use turnkeep_channels::signal::Way;
use turnkeep_core::ports::intake::{Attachment, Said};

use crate::intake::Desk;
use crate::stand::{FIRST, Stand, US, data_message, envelope, until};

const OTHER: &str = "+4915100000009";

/// A photo that everybody in a group gets, as one account is told of it.
fn photo(at: i64) -> Value {
    let photo = json!({"contentType": "image/jpeg", "filename": "photo.jpg", "id": "one.jpg",
                       "size": 7, "width": 4, "height": 3, "caption": null});
    envelope(at, &data_message(at, json!({ "attachments": [photo] })))
}

fn two_accounts() -> Stand {
    Stand::new().with(&[("home", US, "default"), ("shop", OTHER, "shop")])
}

fn count(folder: &std::path::Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

/// To one account its sender is a stranger; the other one stores it all the same.
#[tokio::test]
async fn a_file_that_two_accounts_got_is_there_for_the_second() {
    let (stand, desk) = (two_accounts(), Desk::new());
    *desk.stores.lock().unwrap() = false;
    let files = json!({"one.jpg": STANDARD.encode(b"a photo")});
    stand.inject(&json!({"account": US, "envelope": photo(FIRST), "files": files}));
    let listening = stand.listen(stand.child(), &desk);
    let aside = stand.config().join("aside");
    until("it is laid aside", async || (count(&aside) == 1).then_some(())).await;
    assert_eq!(count(&stand.config().join("attachments")), 0);
    *desk.stores.lock().unwrap() = true;
    stand.inject(&json!({"account": OTHER, "envelope": photo(FIRST)}));
    let heard = desk.heard(2).await;
    let attachment = |place: usize| -> Attachment {
        let Said::Message { attachments, .. } = &heard[place].said else { panic!("{heard:?}") };
        attachments[0].clone()
    };
    assert!(attachment(0).hash.is_none() && attachment(0).left_out.is_some());
    assert!(attachment(1).hash.is_some(), "{:?}", attachment(1));
    drop(listening);
}

#[tokio::test]
async fn what_was_laid_aside_goes() {
    let (mut stand, desk) = (two_accounts(), Desk::new());
    stand.patience.aside = Duration::from_millis(10);
    let files = json!({"one.jpg": STANDARD.encode(b"a photo")});
    stand.inject(&json!({"account": US, "envelope": photo(FIRST), "files": files}));
    let _listening = stand.listen(stand.child(), &desk);
    desk.heard(1).await;
    // First there, then here: so it is seen nowhere only once it is gone.
    let places = ["attachments", "aside"].map(|name| stand.config().join(name));
    let is_gone = async || places.iter().all(|place| count(place) == 0).then_some(());
    until("it goes", is_gone).await;
    assert!(places[1].exists(), "it was laid there");
}

/// There were two accounts, or signal-cli did not run by itself yet.
#[tokio::test]
async fn what_was_laid_aside_goes_though_nothing_is_any_more() {
    for is_child in [true, false] {
        let (mut stand, desk) = (Stand::new(), Desk::new());
        stand.patience.aside = Duration::from_millis(10);
        let aside = stand.data().join("signal/aside");
        fs::create_dir_all(&aside).unwrap();
        for number in 0..5 {
            fs::write(aside.join(format!("{number}.jpg")), "a photo").unwrap();
            // It can't be removed as a file, and keeps none of the others.
            fs::create_dir(aside.join(format!("{number}"))).unwrap();
        }
        let nobody = || Way::Unix(stand.dir().join("nobody.sock"));
        let way = if is_child { stand.child() } else { nobody() };
        let _listening = stand.listen(way, &desk);
        until("they go", async || (count(&aside) == 5).then_some(())).await;
        assert!((0..5).all(|number| aside.join(number.to_string()).is_dir()));
    }
}

/// A second server would have its files removed by the first one, and the other way round.
#[tokio::test]
async fn two_servers_do_not_share_a_folder() {
    let (stand, desk) = (Stand::new(), Desk::new());
    let first = stand.listen(stand.child(), &desk);
    first.works().await;
    let second = stand.listen(stand.child(), &desk);
    second.is_deaf("another Turnkeep has its signal-cli there").await;
    drop(first);
    second.works().await;
}
