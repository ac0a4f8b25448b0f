//! What is kept for listeners: the journal's one order, places, and callbacks that failed.

use turnkeep_core::listen::{DEAD_MAX, PENDING_MAX};
use turnkeep_core::ports::care::{CareStore, Forgot};
use turnkeep_core::ports::listeners::{Failure, Kept, ListenerStore, Missed, Standing, Which};
use turnkeep_core::ports::store::Store;
use turnkeep_core::{Seq, Timestamp};

use crate::care::{exchange, order, sweep};
use crate::fixture::{Chat, Home, NOW, key};

/// Rows as (position, session, places).
async fn rows(
    store: &impl ListenerStore,
    after: u64,
    limit: usize,
) -> Vec<(u64, String, Vec<u64>)> {
    let rows = store.journal_after(after, limit).await.unwrap();
    let shown = rows.into_iter().map(|row| {
        let (session, events) = row.content.unwrap();
        let places = events.iter().map(|event| event.seq.0).collect();
        (row.position, session.to_string(), places)
    });
    shown.collect()
}

fn missed(position: u64, seq: u64, due_at: Option<Timestamp>) -> Missed {
    let failure = Failure { tries: 1, due_at, error: "answered 500".into() };
    Missed { position, seq: Seq(seq), event_type: "session.notice", at: NOW, failure }
}

async fn enrol(store: &impl ListenerStore, names: &[&str], now: Timestamp) {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    store.enrol(names, now, now - 1000).await.unwrap();
}

async fn standing(store: &impl ListenerStore, name: &str) -> Option<(u64, u64, u64)> {
    let standing = store.standing(name).await.unwrap();
    standing.map(|Standing { position, pending, dead }| (position, pending, dead))
}

async fn dead(store: &impl ListenerStore, name: &str) -> Vec<u64> {
    let dead = store.dead(name, 0, usize::MAX).await.unwrap();
    dead.iter().map(|kept| kept.position).collect()
}

async fn due(store: &impl ListenerStore, now: Timestamp, limit: usize) -> Vec<Kept> {
    store.due("crm", now, limit).await.unwrap()
}

pub(crate) async fn the_journal_has_one_order_over_all_sessions(home: &impl Home) {
    let store = home.open();
    assert_eq!(store.journal_end().await.unwrap(), 0);
    assert_eq!(rows(&store, 0, 10).await, []);
    let (mut one, mut other) = (Chat::new("one"), Chat::new("other"));
    one.note("a");
    one.note("b");
    one.commit(&store).await;
    other.note("c");
    other.commit(&store).await;
    // A commit that journals nothing is no row.
    one.commit(&store).await;
    one.note("d");
    one.commit(&store).await;
    let (first, second) = (key("one").to_string(), key("other").to_string());
    let all = [(1, first.clone(), vec![1, 2]), (2, second, vec![1]), (3, first, vec![3])];
    assert_eq!(rows(&store, 0, 10).await, all);
    assert_eq!(rows(&store, 0, 2).await, all[..2]);
    assert_eq!(rows(&store, 2, 10).await, all[2..]);
    assert_eq!(rows(&store, 3, 10).await, []);
    assert_eq!(rows(&store, u64::MAX, 10).await, []);
    assert_eq!(store.journal_end().await.unwrap(), 3);
}

pub(crate) async fn what_is_forgotten_is_told_to_nobody(home: &impl Home) {
    let store = home.open();
    let (mut chat, mut other) = (Chat::new("one"), Chat::new("other"));
    let first = exchange(&store, &mut chat, 1, "a").await;
    exchange(&store, &mut other, 2, "b").await;
    let last = exchange(&store, &mut chat, 3, "c").await;
    let positions = async |after| -> Vec<u64> {
        rows(&store, after, 100).await.into_iter().map(|(position, ..)| position).collect()
    };
    assert_eq!(positions(0).await, (1..=12).collect::<Vec<_>>());
    let forget = order(&store, &chat.key, first, None).await;
    assert_eq!(store.forget(forget).await.unwrap(), Forgot::Done(0));
    // At once, and after the rows are gone.
    assert_eq!(positions(0).await, (5..=12).collect::<Vec<_>>());
    sweep(&store, 100).await;
    assert_eq!(positions(0).await, (5..=12).collect::<Vec<_>>());
    let forget = order(&store, &chat.key, last, Some("gone")).await;
    assert_eq!(store.forget(forget).await.unwrap(), Forgot::Done(0));
    assert_eq!(positions(0).await, [5, 6, 7, 8]);
    sweep(&store, 100).await;
    assert_eq!(positions(0).await, [5, 6, 7, 8]);
    // The order goes on behind what was there.
    assert_eq!(store.journal_end().await.unwrap(), 12);
    enrol(&store, &["crm"], NOW).await;
    exchange(&store, &mut other, 4, "d").await;
    assert_eq!(standing(&store, "crm").await, Some((12, 0, 0)));
    assert_eq!(positions(12).await, [13, 14, 15, 16]);
}

pub(crate) async fn a_new_listener_begins_at_the_end(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("one");
    chat.note("before");
    chat.commit(&store).await;
    assert_eq!(standing(&store, "crm").await, None);
    enrol(&store, &["crm"], NOW).await;
    assert_eq!(standing(&store, "crm").await, Some((1, 0, 0)));
    chat.note("after");
    chat.commit(&store).await;
    enrol(&store, &["crm", "late"], NOW + 1).await;
    assert_eq!(standing(&store, "crm").await, Some((1, 0, 0)), "it keeps its place");
    assert_eq!(standing(&store, "late").await, Some((2, 0, 0)));
}

pub(crate) async fn places_and_failures_survive_reopening(home: &impl Home) {
    let store = home.open();
    enrol(&store, &["crm"], NOW).await;
    let mut chat = Chat::new("one");
    chat.note("a");
    chat.note("b");
    chat.commit(&store).await;
    let failed = vec![missed(1, 1, Some(NOW + 5)), missed(1, 2, None)];
    for _ in 0..2 {
        // Whoever does not know whether it happened may do it again.
        let now = store.advance("crm", 1, failed.clone()).await.unwrap();
        assert_eq!(now, Standing { position: 1, pending: 1, dead: 1 });
    }
    let back = store.advance("crm", 0, Vec::new()).await.unwrap();
    assert_eq!(back.position, 1, "a place never goes back");
    store.close().await;
    drop(store);
    let store = home.open();
    assert_eq!(standing(&store, "crm").await, Some((1, 1, 1)));
    let kept = due(&store, NOW + 5, 10).await;
    let expect = Kept {
        id: kept[0].id,
        position: 1,
        seq: Seq(1),
        event_type: "session.notice".into(),
        session: Some(key("one")),
        at: NOW,
        failure: Failure { tries: 1, due_at: Some(NOW + 5), error: "answered 500".into() },
    };
    assert_eq!(kept, [expect]);
}

pub(crate) async fn callbacks_are_due_in_order_and_settled_one_by_one(home: &impl Home) {
    let store = home.open();
    enrol(&store, &["crm", "other"], NOW).await;
    assert_eq!(store.next_due("crm").await.unwrap(), None);
    let failed = vec![
        missed(1, 1, Some(NOW + 20)),
        missed(2, 1, Some(NOW + 10)),
        missed(3, 1, Some(NOW + 30)),
        missed(4, 1, None),
    ];
    store.advance("crm", 4, failed).await.unwrap();
    store.advance("other", 4, vec![missed(9, 1, Some(NOW))]).await.unwrap();
    assert_eq!(store.next_due("crm").await.unwrap(), Some(NOW + 10));
    assert_eq!(due(&store, NOW + 9, 10).await, []);
    let places = |kept: &[Kept]| kept.iter().map(|kept| kept.position).collect::<Vec<_>>();
    let first = due(&store, NOW + 20, 10).await;
    assert_eq!(places(&first), [2, 1]);
    assert_eq!(places(&due(&store, NOW + 20, 1).await), [2]);
    let again = Failure { tries: 2, due_at: Some(NOW + 99), error: "timed out".into() };
    let ended = vec![(first[0].id, None), (first[1].id, Some(again.clone()))];
    let now = store.settle("crm", ended).await.unwrap();
    assert_eq!(now, Standing { position: 4, pending: 2, dead: 1 });
    let later = due(&store, NOW + 99, 10).await;
    assert_eq!(places(&later), [3, 1]);
    assert_eq!(later[1].failure, again);
    // Another listener's names nothing here.
    let now = store.settle("other", vec![(later[0].id, None)]).await.unwrap();
    assert_eq!((now.pending, due(&store, NOW + 99, 10).await.len()), (1, 2));
    let given_up = Failure { tries: 10, due_at: None, error: "answered 500".into() };
    store.settle("crm", vec![(later[0].id, Some(given_up))]).await.unwrap();
    assert_eq!(dead(&store, "crm").await, [3, 4]);
}

pub(crate) async fn dead_callbacks_are_revived_and_discarded(home: &impl Home) {
    let store = home.open();
    enrol(&store, &["crm"], NOW).await;
    let failed: Vec<Missed> = (1..=5).map(|place| missed(place, 1, None)).collect();
    store.advance("crm", 5, failed).await.unwrap();
    store.advance("crm", 6, vec![missed(6, 1, Some(NOW + 5))]).await.unwrap();
    let all = store.dead("crm", 0, 10).await.unwrap();
    assert_eq!(store.dead("crm", all[1].id, 2).await.unwrap(), all[2..4]);
    assert_eq!(store.discard("crm", Which::One(all[0].id)).await.unwrap(), 1);
    assert_eq!(store.discard("crm", Which::One(all[0].id)).await.unwrap(), 0);
    assert_eq!(store.discard("other", Which::One(all[1].id)).await.unwrap(), 0);
    assert_eq!(store.revive("crm", Which::One(all[2].id), NOW + 1).await.unwrap(), 1);
    let due = due(&store, NOW + 1, 10).await;
    assert_eq!(due.len(), 1);
    assert_eq!((due[0].position, due[0].failure.tries), (3, 0), "it gets all its tries again");
    assert_eq!(store.revive("crm", Which::One(all[2].id), NOW).await.unwrap(), 0, "not dead now");
    assert_eq!(dead(&store, "crm").await, [2, 4, 5]);
    assert_eq!(store.revive("crm", Which::Oldest(1), NOW).await.unwrap(), 1);
    assert_eq!(dead(&store, "crm").await, [4, 5]);
    assert_eq!(store.discard("crm", Which::Oldest(100)).await.unwrap(), 2);
    assert_eq!(standing(&store, "crm").await, Some((6, 3, 0)), "those that wait are left alone");
}

pub(crate) async fn of_too_many_the_oldest_go(home: &impl Home) {
    let store = home.open();
    enrol(&store, &["crm"], NOW).await;
    let many = |from: u64, count: usize| -> Vec<Missed> {
        (from..).take(count).map(|place| missed(place, 1, Some(NOW))).collect()
    };
    store.advance("crm", 1, many(1, PENDING_MAX)).await.unwrap();
    assert_eq!(dead(&store, "crm").await.len(), 0);
    let now = store.advance("crm", 2, many(PENDING_MAX as u64 + 1, 3)).await.unwrap();
    assert_eq!((now.pending, now.dead), (PENDING_MAX as u64, 3));
    let oldest = store.dead("crm", 0, 10).await.unwrap();
    let said: Vec<&str> = oldest.iter().map(|kept| kept.failure.error.as_ref()).collect();
    assert_eq!(said, ["too many callbacks of this listener waited"; 3]);
    assert_eq!(dead(&store, "crm").await, [1, 2, 3]);
    store.advance("crm", 3, many(20_000, DEAD_MAX)).await.unwrap();
    assert_eq!(standing(&store, "crm").await, Some((3, PENDING_MAX as u64, DEAD_MAX as u64)));
    assert_eq!(dead(&store, "crm").await[0], 4, "the oldest dead ones are forgotten");
}

pub(crate) async fn a_listener_nobody_configures_is_forgotten(home: &impl Home) {
    let store = home.open();
    enrol(&store, &["crm", "old"], NOW).await;
    store.advance("old", 1, vec![missed(1, 1, None)]).await.unwrap();
    enrol(&store, &["crm"], NOW + 1000).await;
    assert_eq!(standing(&store, "old").await, Some((1, 0, 1)), "not at once");
    enrol(&store, &["crm"], NOW + 1001).await;
    assert_eq!(standing(&store, "old").await, None);
    assert!(dead(&store, "old").await.is_empty());
    assert_eq!(standing(&store, "crm").await, Some((0, 0, 0)));
}
