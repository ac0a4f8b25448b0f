//! Reads that recovery leans on: loads, journals, open work, lists of sessions.

use std::sync::Arc;

use serde_json::json;
use turnkeep_core::accumulation::Deadline;
use turnkeep_core::ids::QuestionId;
use turnkeep_core::message::MessageBody;
use turnkeep_core::moderation::{Ruled, Ruling, Trigger};
use turnkeep_core::outbox::{DeliveryState, OutPart};
use turnkeep_core::ports::store::Store;
use turnkeep_core::session::{Answered, Held, HeldAs, Notice, Stage, Turn};
use turnkeep_core::{
    Attempt, Epoch, Event, EventBody, Seq, SessionKey, TimerId, Timestamp, Trust, TurnGroupId,
};

use crate::fixture::{Chat, Home, NOW, key, key_of, part_row, turn_id};

pub(crate) async fn events_are_gapless_in_pages_of_any_size(home: &impl Home) {
    let store = home.open();
    let (mut chat, mut other) = (Chat::new("one"), Chat::new("other"));
    // Commits of one to forty events, some of none and one of very many, with another session's
    // between them.
    for round in 0..60_u32 {
        for number in 0..(if round == 30 { 1000 } else { round * 7 % 41 }) {
            chat.note(&format!("{round} {number}"));
        }
        chat.commit(&store).await;
        other.note("between");
        other.commit(&store).await;
    }
    let last = chat.session.last_seq.0;
    let all = store.events(&chat.key, Seq(0), usize::MAX).await.unwrap();
    let places: Vec<u64> = all.iter().map(|event| event.seq.0).collect();
    assert_eq!(places, (1..=last).collect::<Vec<_>>());
    assert_eq!(store.events(&other.key, Seq(0), 100).await.unwrap().len(), 60);
    for limit in [1, 2, 31, 32, 33, 100, 5000] {
        let mut found: Vec<Event> = Vec::new();
        loop {
            let after = found.last().map_or(Seq(0), |event| event.seq);
            let page = store.events(&chat.key, after, limit).await.unwrap();
            assert!(page.len() == limit || found.len() + page.len() == all.len(), "{limit}");
            if page.is_empty() {
                break;
            }
            found.extend(page);
        }
        assert_eq!(found, all, "pages of {limit}");
    }
    assert_eq!(store.events(&chat.key, Seq(last), 10).await.unwrap(), []);
    assert_eq!(store.events(&chat.key, Seq(u64::MAX), 10).await.unwrap(), []);
    assert_eq!(store.events(&chat.key, Seq(0), 0).await.unwrap(), []);
    assert_eq!(store.events(&key("nobody"), Seq(0), 10).await.unwrap(), []);
}

pub(crate) async fn bodies_of_pending_messages_are_filled_in(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("one");
    let started = chat.accept("of the turn");
    let absorbed = chat.accept("taken from the mailbox");
    chat.commit(&store).await;
    for number in 0..200 {
        chat.note(&format!("filler {number}"));
        if number % 3 == 0 {
            chat.commit(&store).await;
        }
    }
    let mail = chat.accept("in the mailbox");
    for number in 0..100 {
        chat.note(&format!("filler {number}"));
        chat.commit(&store).await;
    }
    let mut retried = chat.queue("retried");
    retried.group = Some(TurnGroupId(turn_id(3).0));
    chat.session.queue[0] = retried;
    chat.queue("last");
    chat.session.turn = Some(Box::new(Turn {
        id: turn_id(1),
        group: TurnGroupId(turn_id(1).0),
        trust: Trust::Familiar,
        epoch: Epoch(1),
        attempt: Attempt(1),
        errors: 0,
        recoveries: 0,
        chain: 0,
        committed: true,
        stopping: false,
        started_at: NOW,
        stage: Stage::Backoff { until: Deadline { id: TimerId(1), at: NOW, duration_ms: 5 } },
        messages: [started, absorbed].into_iter().collect(),
        given: 1,
        absorbed: 1,
        mailbox: vec![mail],
        query: None,
        answered: Some(Answered { question: QuestionId(4), message: Seq(3) }),
        stopped_in: [Seq(5)].into_iter().collect(),
        open_calls: [Seq(5)].into_iter().collect(),
        acted: true,
        finishing: None,
        held: [].into_iter().collect(),
        done: turnkeep_core::session::Done::default(),
    }));
    hold_and_notify(&mut chat);
    remember_acts(&mut chat);
    chat.session.rhythm.add(640);
    chat.session.opted_in = true;
    chat.commit(&store).await;
    drop(store);
    let store = home.open();
    let loaded = store.load(&chat.key).await.unwrap().unwrap();
    assert_eq!(&*loaded.session.notices[0].body.text, "news");
    let texts: Vec<_> = loaded.session.pending().map(|one| one.body.text.to_string()).collect();
    let of_turn = ["of the turn", "taken from the mailbox", "in the mailbox"];
    assert_eq!(texts[..3], of_turn);
    assert_eq!(texts[3..], ["retried", "last", "held", "held", "held", "held"]);
    assert_eq!(loaded, chat.loaded());
    let listed = store.sessions(None, None, 10).await.unwrap();
    assert_eq!(listed, [(chat.key.clone(), chat.loaded())]);
}

/// What tools did: one act that is done, and one under way.
fn remember_acts(chat: &mut Chat) {
    let name = |digit: &str| digit.repeat(32);
    chat.session.acts = serde_json::from_value(json!([{
        "group": TurnGroupId(turn_id(1).0),
        "letters": [3],
        "ended_at": NOW,
        "acts": [
            {"name": name("a"), "call": 4, "effects": "irreversible", "result": ["done", 6]},
            {"name": name("b"), "call": 5, "effects": "idempotent"},
        ],
    }]))
    .unwrap();
}

/// Messages that wait for a check, and a notice that waits for a turn's end.
fn hold_and_notify(chat: &mut Chat) {
    let deadline = Deadline { id: TimerId(7), at: NOW + 3000, duration_ms: 3000 };
    let ruled = Ruled { ruling: Ruling::Refuse, by_default: false, reason: Some("rude".into()) };
    let trigger = || Trigger { agent: "doorman".into(), timeout_ms: 3000 };
    for (ruled, held_as) in [
        (None, HeldAs::Message),
        (Some(ruled), HeldAs::Context),
        (None, HeldAs::Unclear(trigger())),
        (None, HeldAs::Asked(trigger())),
    ] {
        let message = chat.accept("held");
        chat.session.held.push(Held { message, deadline, ruled, held_as, answers: None });
    }
    let waiting: (Arc<str>, Arc<str>) = ("n-1".into(), "news".into());
    let (message_id, text) = waiting.clone();
    let seq = chat.event(EventBody::SessionNoticeAccepted { message_id, text, scheduled: false });
    let (message_id, text) = waiting;
    let body = Arc::new(MessageBody { message_id, text, sender: Arc::default() });
    chat.session.notices = vec![Notice { seq, scheduled: false, body }];
}

pub(crate) async fn texts_of_the_outbox_are_filled_in(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("one");
    chat.note("a reply");
    let texts = ["the first part", "the second, 100 %"];
    for (part, text) in (0..).zip(texts) {
        chat.part(part_row(1, part, text));
        chat.session.outbox.parts.push(OutPart {
            reply: Seq(1),
            part,
            state: DeliveryState::Pending,
            tries: 0,
            tries_before: 0,
            since: NOW,
            until: None,
            text: text.into(),
        });
    }
    chat.commit(&store).await;
    chat.session.outbox.parts[0].state = DeliveryState::Sending;
    chat.session.outbox.parts[0].tries = 1;
    let mut row = part_row(1, 0, "");
    (row.state, row.tries) = (DeliveryState::Sending, 1);
    chat.part(row);
    chat.commit(&store).await;
    drop(store);
    let store = home.open();
    assert_eq!(store.load(&chat.key).await.unwrap(), Some(chat.loaded()));
}

async fn due(store: &impl Store, before: Timestamp, limit: usize) -> Vec<(Timestamp, SessionKey)> {
    let mut found = Vec::new();
    loop {
        let after = found.last().cloned();
        let page = store.open_work(before, after, limit).await.unwrap();
        assert!(page.len() <= limit);
        if page.is_empty() {
            return found;
        }
        found.extend(page);
    }
}

pub(crate) async fn open_work_comes_in_order_and_in_pages(home: &impl Home) {
    let store = home.open();
    for number in 0..50_i64 {
        let mut chat = Chat::new(&format!("peer {}", number * 17 % 50));
        // Four sessions share each moment. What waits for a person is due at no time, and named all
        // the same.
        let waits = number % 10 == 9;
        chat.wake_at = Some(if waits { Timestamp::MAX } else { NOW + number * 13 % 50 / 4 });
        chat.commit(&store).await;
    }
    let all = due(&store, i64::MAX, 1000).await;
    assert_eq!(all.len(), 50);
    assert!(all.iter().is_sorted_by_key(|(at, _)| *at));
    let mut keys: Vec<_> = all.iter().map(|(_, key)| key.clone()).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 50);
    for limit in [1, 3, 4, 7, 50] {
        assert_eq!(due(&store, i64::MAX, limit).await, all, "pages of {limit}");
    }
    let expect: Vec<_> = all.iter().filter(|(at, _)| *at <= NOW + 5).cloned().collect();
    assert_eq!(due(&store, NOW + 5, 3).await, expect);
    assert_eq!(due(&store, NOW - 1, 3).await, []);
    assert_eq!(store.open_work(i64::MAX, None, 0).await.unwrap(), []);
}

pub(crate) async fn open_work_names_no_idle_session(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("one");
    let mut idle = Chat::new("idle");
    idle.commit(&store).await;
    for wake_at in [None, Some(NOW), Some(NOW + 7), None, Some(NOW + 3)] {
        chat.wake_at = wake_at;
        chat.commit(&store).await;
        let expect: Vec<_> = wake_at.map(|at| (at, chat.key.clone())).into_iter().collect();
        assert_eq!(due(&store, i64::MAX, 5).await, expect);
    }
    drop(store);
    assert_eq!(due(&home.open(), i64::MAX, 5).await, [(NOW + 3, chat.key)]);
}

pub(crate) async fn sessions_come_in_order_of_their_keys(home: &impl Home) {
    let store = Arc::new(home.open());
    let mut expect = Vec::new();
    for number in 0..40 {
        let tenant = ["zeta", "a:b", "a", "é", "100 %"][number % 5];
        let mut chat = Chat::with_key(key_of(tenant, &format!("peer {}", number * 7 % 40)));
        chat.queue("a message");
        chat.commit(&*store).await;
        expect.push((chat.key.clone(), chat.loaded()));
    }
    expect.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(store.sessions(None, None, 1000).await.unwrap(), expect);
    for limit in [1, 7, 40] {
        let mut found: Vec<(SessionKey, _)> = Vec::new();
        loop {
            let after = found.last().map(|(key, _)| key.clone());
            let page = store.sessions(None, after.as_ref(), limit).await.unwrap();
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            found.extend(page);
        }
        assert_eq!(found, expect, "pages of {limit}");
    }
    // The place behind a key that isn't there.
    let absent = key_of("a", "peer 00");
    let behind: Vec<_> = expect.iter().filter(|(key, _)| *key > absent).cloned().collect();
    assert_eq!(store.sessions(None, Some(&absent), 1000).await.unwrap(), behind);
}

pub(crate) async fn a_tenant_sees_its_own_sessions_only(home: &impl Home) {
    let store = home.open();
    let tenants = ["a", "ab", "a:b", "a%", "a%3Ab", "A", "%", "a;", "a\u{10ffff}"];
    for tenant in tenants {
        for peer in ["x", "y"] {
            Chat::with_key(key_of(tenant, peer)).commit(&store).await;
        }
    }
    for tenant in tenants {
        let found = store.sessions(Some(tenant), None, 100).await.unwrap();
        let keys: Vec<_> = found.into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, [key_of(tenant, "x"), key_of(tenant, "y")], "{tenant}");
        let behind = store.sessions(Some(tenant), Some(&keys[0]), 100).await.unwrap();
        assert_eq!(behind.len(), 1, "{tenant}");
        let one = store.sessions(Some(tenant), None, 1).await.unwrap();
        assert_eq!(one[0].0, keys[0]);
    }
    assert_eq!(store.sessions(Some("nobody"), None, 100).await.unwrap(), []);
    // A cursor of another tenant, before and behind.
    let cursor = key_of("a", "x");
    assert_eq!(store.sessions(Some("ab"), Some(&cursor), 100).await.unwrap().len(), 2);
    assert_eq!(store.sessions(Some("A"), Some(&cursor), 100).await.unwrap(), []);
}
