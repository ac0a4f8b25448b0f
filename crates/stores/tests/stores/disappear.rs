//! Messages that disappear are known by when that is, from their commit on.

use turnkeep_core::care::Why;
use turnkeep_core::ports::care::{CareStore, Disappearing, Forgot};
use turnkeep_core::{Seq, Timestamp};

use crate::care::order;
use crate::fixture::{Chat, Home, NOW};

fn brief(due: &[Disappearing]) -> Vec<(String, u64, u32, Timestamp)> {
    let each = due.iter();
    let brief =
        |row: &Disappearing| (row.key.peer().to_string(), row.seq.0, row.seconds, row.due_at - NOW);
    each.map(brief).collect()
}

pub(crate) async fn a_message_that_disappears_is_known_until_it_is_gone(home: &impl Home) {
    let store = home.open();
    let (mut one, mut other) = (Chat::new("one"), Chat::new("other"));
    one.accept_fleeting("late", Some(60));
    one.accept("it stays");
    one.commit(&store).await;
    other.accept_fleeting("soon", Some(5));
    other.commit(&store).await;
    drop(store);
    // Whoever finds the store later knows of it as well.
    let store = home.open();
    assert_eq!(store.disappearing(NOW + 4_999, 9).await.unwrap(), []);
    let soon = ("other".to_owned(), 1, 5, 5_000);
    let late = ("one".to_owned(), 1, 60, 60_000);
    let due = store.disappearing(NOW + 5_000, 9).await.unwrap();
    assert_eq!(brief(&due), std::slice::from_ref(&soon));
    let all = store.disappearing(Timestamp::MAX, 9).await.unwrap();
    assert_eq!(brief(&all), [soon.clone(), late.clone()]);
    assert_eq!(brief(&store.disappearing(Timestamp::MAX, 1).await.unwrap()), [soon]);
    let put_off = vec![(Seq(1), Some(NOW + 90_000)), (Seq(7), Some(NOW)), (Seq(8), None)];
    store.put_off(&other.key, put_off).await.unwrap();
    let again = ("other".to_owned(), 1, 5, 90_000);
    let all = store.disappearing(Timestamp::MAX, 9).await.unwrap();
    assert_eq!(brief(&all), [late, again.clone()]);
    store.put_off(&one.key, vec![(Seq(1), None)]).await.unwrap();
    let all = store.disappearing(Timestamp::MAX, 9).await.unwrap();
    assert_eq!(brief(&all), [again]);
}

pub(crate) async fn what_is_forgotten_disappears_no_more(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("one");
    for text in ["first", "second"] {
        chat.accept_fleeting(text, Some(5));
        chat.commit(&store).await;
    }
    let forget = order(&store, &chat.key, Seq(1), None).await;
    assert_eq!(forget.forgotten.why, Why::Retention);
    assert_eq!(store.forget(forget).await.unwrap(), Forgot::Done(0));
    let left = store.disappearing(Timestamp::MAX, 9).await.unwrap();
    assert_eq!(brief(&left), [("one".to_owned(), 2, 5, 5_000)]);
}
