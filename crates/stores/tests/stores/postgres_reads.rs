//! Reads of a database that several write to: pages, what is missing, whose work it is.

use turnkeep_core::outbox::{DeliveryState, OutPart};
use turnkeep_core::ports::care::CareStore;
use turnkeep_core::ports::listeners::{Failure, ListenerStore, Missed};
use turnkeep_core::ports::store::{Store, StoreError, TurnStatus};
use turnkeep_core::ports::usage::{By, UsageQuery, UsageStore};
use turnkeep_core::usage::Sums;
use turnkeep_core::{EventBody, Seq, Timestamp};

use crate::care::exchange;
use crate::fixture::{Chat, NOW, part_row, turn_id, turn_row};
use crate::postgres_kit::PgHome;

/// What a read says that finds something missing.
fn told<T: std::fmt::Debug>(read: Result<T, StoreError>) -> String {
    match read {
        Err(StoreError::Corrupt(what)) => what,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_is_named() {
    let home = PgHome::default();
    let store = home.open_as("a").await.unwrap();
    let client = home.client().await;
    let mut chat = Chat::new("one");
    let reply = exchange(&store, &mut chat, 1, "first").await;
    chat.queue("waits");
    chat.commit(&store).await;
    chat.part(part_row(reply.0, 1, "a part"));
    chat.session.outbox.parts.push(OutPart {
        reply,
        part: 1,
        state: DeliveryState::Pending,
        tries: 0,
        tries_before: 0,
        since: NOW,
        until: None,
        text: "a part".into(),
    });
    chat.commit(&store).await;
    let run = async |sql: &str| client.batch_execute(sql).await.unwrap();
    let check =
        |said: String, expect: &str| assert_eq!(said, format!("session {}: {expect}", chat.key));
    // A journal that ends sooner than it did is a database that was put back: this one was damaged.
    run("UPDATE meta SET value = (SELECT max(place) FROM journal) WHERE name = 'journal'").await;
    run("DELETE FROM parts WHERE part = 1").await;
    check(told(store.load(&chat.key).await), "a part of its outbox is missing");
    run("UPDATE journal SET last_seq = 6 WHERE last_seq = 5").await;
    let whole = store.events(&chat.key, Seq(0), 9).await;
    check(told(whole), "journal 5..=6 holds other places");
    run("DELETE FROM journal WHERE last_seq = 6").await;
    check(told(store.load(&chat.key).await), "an event of its journal is missing");
    check(told(store.events(&chat.key, Seq(4), 9).await), "place 5 of its journal is missing");
    check(told(store.events(&chat.key, Seq(2), 9).await), "place 5 of its journal is missing");
    assert_eq!(store.events(&chat.key, Seq(2), 2).await.unwrap().len(), 2);
    run("DELETE FROM journal WHERE last_seq = 4").await;
    check(told(store.turn(turn_id(1)).await), "an event of its journal is missing");
    run("DELETE FROM journal WHERE last_seq = 2").await;
    check(told(store.events(&chat.key, Seq(0), 9).await), "place 2 of its journal is missing");
    // None of that keeps a connection from whoever comes next, of which there are few.
    let mut idle = Chat::new("idle");
    idle.commit(&store).await;
    for _ in 0..9 {
        told(store.turn(turn_id(1)).await);
        assert_eq!(store.load(&idle.key).await.unwrap(), Some(idle.loaded()));
    }
    run("UPDATE sessions SET snapshot = '\\x02' WHERE key LIKE '%idle'").await;
    check_newer(&told(store.load(&idle.key).await));
}

fn check_newer(said: &str) {
    assert!(said.contains("written in format 2 by a newer Turnkeep"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_end_where_they_are_large_enough() {
    let home = PgHome::default();
    let store = home.open_as("a").await.unwrap();
    let mut chat = Chat::new("one");
    // They don't compress.
    let mut random = 1_u64;
    let mut long = |letters: usize| -> String {
        let letter = |_| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b'a' + u8::try_from(random >> 60).unwrap())
        };
        (0..letters).map(letter).collect()
    };
    for letters in [3_000_000, 3_000_000, 3_000_000, 10, 10] {
        chat.note(&long(letters));
        chat.commit(&store).await;
    }
    let mut pages = Vec::new();
    let mut after = 0;
    loop {
        let page = store.journal_after(after, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.position;
        pages.push(page.len());
    }
    assert_eq!(pages, [2, 3]);
    let (mut found, mut from) = (Vec::new(), Some(0));
    while let Some(place) = from {
        from = store.find_sender("tenant", "nobody", place).await.unwrap().next;
        found.extend(from);
    }
    assert_eq!(found, [3]);
    let (mut found, mut from) = (Vec::new(), Some(0));
    while let Some(place) = from {
        from = store.find_hashes(place).await.unwrap().next;
        found.extend(from);
    }
    assert_eq!(found, [3, 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_no_text_might_name_any_hash() {
    let home = PgHome::default();
    let store = home.open_as("a").await.unwrap();
    let mut chat = Chat::new("one");
    for number in 0..3 {
        chat.note(&format!("note {number}"));
        chat.commit(&store).await;
    }
    let spoil = "UPDATE journal SET events = '\\x01ff' WHERE place = 2";
    home.client().await.batch_execute(spoil).await.unwrap();
    assert_eq!(told(store.find_hashes(0).await), "row 2 of the journal is no text");
    // Listeners are told of the others.
    let rows = store.journal_after(0, 9).await.unwrap();
    let read: Vec<bool> = rows.iter().map(|row| row.content.is_ok()).collect();
    assert_eq!(read, [true, false, true]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_may_hold_what_the_database_cannot() {
    let home = PgHome::default();
    let store = home.open_as("a").await.unwrap();
    let odd = "a\0b\u{1}0\u{1}";
    let mut chat = Chat::new("one");
    let pending = chat.accept(odd);
    chat.complete(turn_id(1), odd);
    let mut row = turn_row(turn_id(1), TurnStatus::Complete);
    row.reply = Some(odd.into());
    chat.turn(row.clone());
    chat.part(part_row(2, 0, odd));
    chat.used(turn_id(1), odd, Sums { requests: 1, ..Sums::default() });
    chat.commit(&store).await;
    let events = store.events(&chat.key, Seq(0), 1).await.unwrap();
    let EventBody::MessageAccepted { text, .. } = &events[0].body else { panic!("{events:?}") };
    assert_eq!(*text, pending.body.text);
    assert_eq!(store.turn(turn_id(1)).await.unwrap(), Some((chat.key.clone(), row)));
    assert_eq!(&*store.parts(&chat.key, (Seq(0), 0), 9).await.unwrap()[0].text, odd);
    let by_model = |tenant: Option<&str>| UsageQuery {
        by: By::Model,
        tenant: tenant.map(Into::into),
        customer: None,
        session: None,
        from: None,
        to: None,
    };
    let lines = store.usage(by_model(None), 9).await.unwrap();
    assert_eq!(lines[0].model.as_deref(), Some(odd));
    assert_eq!(store.usage(by_model(Some(odd)), 9).await.unwrap(), []);
    store.enrol(vec![odd.into()], NOW, 0).await.unwrap();
    let failure = Failure { tries: 1, due_at: None, error: odd.into() };
    let missed =
        Missed { position: 1, seq: Seq(1), event_type: "session.notice", at: NOW, failure };
    store.advance(odd, 1, vec![missed]).await.unwrap();
    assert_eq!(&*store.dead(odd, 0, 9).await.unwrap()[0].failure.error, odd);
    assert_eq!(store.standing(odd).await.unwrap().unwrap().dead, 1);
    assert_eq!(store.find_sender(odd, odd, 0).await.unwrap().keys, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_of_a_gateway_that_lives_is_its_own() {
    let home = PgHome::default();
    let one = home.open_as("one").await.unwrap();
    let two = home.open_as("two").await.unwrap();
    let due = async |store: &turnkeep_stores::PostgresStore| -> Vec<String> {
        let due = store.open_work(Timestamp::MAX, None, 9).await.unwrap();
        due.into_iter().map(|(_, key)| key.peer().to_string()).collect()
    };
    for (peer, epoch) in [("of one", one.epoch()), ("of two", two.epoch())] {
        let mut chat = Chat::new(peer);
        chat.session.epoch = epoch;
        chat.wake_at = Some(NOW);
        chat.commit(&one).await;
    }
    let mut nobodys = Chat::new("of nobody");
    nobodys.wake_at = Some(NOW + 1);
    nobodys.commit(&two).await;
    assert_eq!(due(&one).await, ["of one", "of nobody"]);
    assert_eq!(due(&two).await, ["of two", "of nobody"]);
    let own = two.own_work(Timestamp::MAX, None, 9).await.unwrap();
    assert_eq!(own.iter().map(|(_, key)| key.peer()).collect::<Vec<_>>(), ["of two"]);
    assert_eq!(two.own_work(Timestamp::MAX, own.last().cloned(), 9).await.unwrap(), []);
    assert_eq!(two.own_work(NOW - 1, None, 9).await.unwrap(), []);
    one.close().await;
    assert_eq!(due(&two).await, ["of one", "of two", "of nobody"]);
}
