//! The rows beside the state: turns, parts, dead letters.

use turnkeep_core::outbox::DeliveryState;
use turnkeep_core::ports::care::{CareStore as _, Redaction};
use turnkeep_core::ports::store::{PartRow, Store, TurnRow, TurnStatus};
use turnkeep_core::{Attempt, Seq, SessionKey, TurnGroupId, TurnId};

use crate::fixture::{Chat, Home, NOW, key, letter, part_row, turn_id, turn_row};

pub(crate) async fn a_turn_is_replaced_by_id(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("one");
    let id = turn_id(1);
    assert_eq!(store.turn(id).await.unwrap(), None);
    let begun = turn_row(id, TurnStatus::Processing);
    chat.turn(begun.clone());
    chat.commit(&store).await;
    assert_eq!(store.turn(id).await.unwrap(), Some((chat.key.clone(), begun.clone())));
    let ended = TurnRow {
        status: TurnStatus::Complete,
        group: TurnGroupId(turn_id(99).0),
        attempt: Attempt(3),
        ended_at: Some(NOW + 5),
        reply: Some("the reply".into()),
        error: Some("an error before".into()),
        message_ids: [].into_iter().collect(),
        by: Some("Olga".into()),
        ..begun
    };
    chat.complete(id, "the reply");
    chat.turn(ended.clone());
    // The next one begins in the same commit.
    chat.turn(turn_row(turn_id(2), TurnStatus::Accumulating));
    chat.commit(&store).await;
    assert_eq!(store.turn(id).await.unwrap(), Some((chat.key.clone(), ended.clone())));
    // An old one is touched again.
    let again = TurnRow { status: TurnStatus::Failed, ..ended };
    chat.turn(again.clone());
    chat.commit(&store).await;
    drop(store);
    let store = home.open();
    let expect = [turn_row(turn_id(2), TurnStatus::Accumulating), again];
    assert_eq!(store.turns(&chat.key, None, 10).await.unwrap(), expect);
}

pub(crate) async fn a_turn_stays_with_its_session(home: &impl Home) {
    let store = home.open();
    let (mut one, mut two) = (Chat::new("one"), Chat::new("two"));
    one.turn(turn_row(turn_id(1), TurnStatus::Processing));
    one.commit(&store).await;
    two.turn(turn_row(turn_id(1), TurnStatus::Failed));
    two.turn(turn_row(turn_id(2), TurnStatus::Failed));
    two.commit(&store).await;
    let (session, row) = store.turn(turn_id(1)).await.unwrap().unwrap();
    assert_eq!((session, row.status), (one.key.clone(), TurnStatus::Failed));
    assert_eq!(store.turns(&one.key, None, 10).await.unwrap().len(), 1);
    let of_two = store.turns(&two.key, None, 10).await.unwrap();
    assert_eq!(of_two, [turn_row(turn_id(2), TurnStatus::Failed)]);
}

pub(crate) async fn replies_of_one_commit_are_told_apart(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("one");
    let mut expect = Vec::new();
    for (number, journalled, reply) in [(1, "yes", "yes"), (2, "no", "no"), (3, "ye", "yes")] {
        let id = turn_id(number);
        chat.complete(id, journalled);
        let row = TurnRow { reply: Some(reply.into()), ..turn_row(id, TurnStatus::Complete) };
        chat.turn(row.clone());
        expect.insert(0, row);
    }
    chat.commit(&store).await;
    assert_eq!(store.turns(&chat.key, None, 9).await.unwrap(), expect);
}

pub(crate) async fn turns_come_newest_first_in_pages(home: &impl Home) {
    let store = home.open();
    let (mut chat, mut other) = (Chat::new("one"), Chat::new("other"));
    for number in 0..30_u128 {
        chat.turn(turn_row(turn_id(number * 2), TurnStatus::Complete));
        other.turn(turn_row(turn_id(number * 2 + 1), TurnStatus::Complete));
        chat.commit(&store).await;
        other.commit(&store).await;
    }
    let ids = |rows: Vec<TurnRow>| rows.into_iter().map(|row| row.id).collect::<Vec<TurnId>>();
    let all: Vec<TurnId> = (0..30).rev().map(|number| turn_id(number * 2)).collect();
    assert_eq!(ids(store.turns(&chat.key, None, 100).await.unwrap()), all);
    for limit in [1, 7, 30] {
        let mut found: Vec<TurnId> = Vec::new();
        loop {
            let before = found.last().copied();
            let page = ids(store.turns(&chat.key, before, limit).await.unwrap());
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            found.extend(page);
        }
        assert_eq!(found, all, "pages of {limit}");
    }
    // An id of another session is a place in time all the same.
    assert_eq!(ids(store.turns(&chat.key, Some(turn_id(9)), 2).await.unwrap()), all[25..27]);
    assert_eq!(store.turns(&key("nobody"), None, 10).await.unwrap(), []);
    assert_eq!(store.turns(&chat.key, None, 0).await.unwrap(), []);
}

pub(crate) async fn a_part_is_replaced_and_keeps_its_text(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("one");
    chat.part(part_row(4, 0, "the text"));
    chat.commit(&store).await;
    let settled = PartRow {
        state: DeliveryState::Unknown,
        tries: 3,
        detail: Some("timed out".into()),
        at: NOW + 9,
        ..part_row(4, 0, "")
    };
    chat.part(settled.clone());
    chat.commit(&store).await;
    let expect = PartRow { text: "the text".into(), ..settled };
    assert_eq!(store.parts(&chat.key, (Seq(0), 0), 10).await.unwrap(), [expect]);
    chat.part(part_row(4, 0, "another text"));
    chat.commit(&store).await;
    let expect = [part_row(4, 0, "another text")];
    assert_eq!(store.parts(&chat.key, (Seq(0), 0), 10).await.unwrap(), expect);
}

pub(crate) async fn parts_come_in_order_and_in_pages(home: &impl Home) {
    let store = home.open();
    let (mut chat, mut other) = (Chat::new("one"), Chat::new("other"));
    let mut expect = Vec::new();
    for reply in [1, 2, 40, 300] {
        for part in [2, 0, 1] {
            let row = part_row(reply, part, &format!("{reply} {part}"));
            chat.part(row.clone());
            other.part(row.clone());
            expect.push(row);
        }
    }
    chat.commit(&store).await;
    other.commit(&store).await;
    expect.sort_by_key(|row| (row.reply, row.part));
    assert_eq!(store.parts(&chat.key, (Seq(0), 0), 100).await.unwrap(), expect);
    for limit in [1, 5, 12] {
        let mut found: Vec<PartRow> = Vec::new();
        loop {
            let after = found.last().map_or((Seq(0), 0), |row| (row.reply, row.part));
            let page = store.parts(&chat.key, after, limit).await.unwrap();
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            found.extend(page);
        }
        assert_eq!(found, expect, "pages of {limit}");
    }
    assert_eq!(store.parts(&chat.key, (Seq(2), u32::MAX), 100).await.unwrap(), expect[6..]);
    assert_eq!(store.parts(&chat.key, (Seq(u64::MAX), 0), 100).await.unwrap(), []);
    assert_eq!(store.parts(&key("nobody"), (Seq(0), 0), 100).await.unwrap(), []);
}

pub(crate) async fn parked_parts_are_found_wherever_they_are(home: &impl Home) {
    let store = home.open();
    let states = [DeliveryState::Dead, DeliveryState::Unknown, DeliveryState::Sent];
    let states = states.into_iter().chain([DeliveryState::Pending, DeliveryState::Sending]);
    let (mut chats, mut expect) = (Vec::new(), Vec::new());
    for peer in ["one", "another", "third"] {
        let mut chat = Chat::new(peer);
        // Up to the place of the reply.
        for number in 1..=4 {
            chat.accept(&format!("message {number}"));
        }
        for (number, state) in states.clone().enumerate() {
            let part = u32::try_from(number).unwrap();
            // The dead one has words in it that look like another state.
            let detail = Some("{\"state\":\"unknown\"".into());
            let row = PartRow { state, detail, ..part_row(4, part, peer) };
            chat.part(row.clone());
            if matches!(state, DeliveryState::Dead | DeliveryState::Unknown) {
                expect.push((chat.key.clone(), row));
            }
        }
        chat.commit(&store).await;
        chats.push(chat);
    }
    expect.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(expect.len(), 6);
    assert_eq!(store.parked(None, None, None, 100).await.unwrap(), expect);
    for limit in [1, 4] {
        let mut found = Vec::new();
        loop {
            let last = found.last();
            let after =
                last.map(|(key, row): &(SessionKey, PartRow)| (key.clone(), row.reply, row.part));
            let page = store.parked(None, None, after.as_ref(), limit).await.unwrap();
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            found.extend(page);
        }
        assert_eq!(found, expect, "pages of {limit}");
    }
    for state in states {
        let found = store.parked(None, Some(state), None, 100).await.unwrap();
        let these = expect.iter().filter(|(_, row)| row.state == state);
        assert_eq!(found, these.cloned().collect::<Vec<_>>(), "{state:?}");
    }
    assert_eq!(store.parked(Some("tenant"), None, None, 100).await.unwrap(), expect);
    assert_eq!(store.parked(Some("nobody"), None, None, 100).await.unwrap(), []);
    // One that goes out again is parked no more.
    let (key, row) = expect.remove(0);
    let chat = chats.iter_mut().find(|chat| chat.key == key).unwrap();
    chat.part(PartRow { state: DeliveryState::Pending, detail: None, ..row });
    chat.commit(&store).await;
    assert_eq!(store.parked(None, None, None, 100).await.unwrap(), expect);
    // Nor is one whose text was taken out: there is nothing to send.
    let (key, row) = expect.remove(0);
    let redaction = Redaction { key: key.clone(), places: vec![row.reply], turns: Vec::new() };
    store.redact(redaction).await.unwrap();
    expect.retain(|(other, _)| *other != key);
    assert_eq!(store.parked(None, None, None, 100).await.unwrap(), expect);
    assert_eq!(store.parked(None, Some(row.state), None, 100).await.unwrap().len(), 2);
    let own = store.parts(&key, (Seq(0), 0), 100).await.unwrap();
    let own = own.iter().find(|own| own.part == row.part).unwrap();
    assert_eq!((own.state, &*own.text), (row.state, ""));
    drop(store);
    assert_eq!(home.open().parked(None, None, None, 100).await.unwrap(), expect);
}

pub(crate) async fn dead_letters_come_in_order_and_in_pages(home: &impl Home) {
    let store = home.open();
    let mut expect = Vec::new();
    for number in 0..12 {
        let mut chat = Chat::new(&format!("peer {number}"));
        let seq = chat.accept(&format!("message {number}")).seq;
        chat.bury(letter(seq, &format!("message {number}")));
        chat.commit(&store).await;
        expect.push((chat.key.clone(), letter(seq, &format!("message {number}"))));
    }
    let all = store.dead_letters(0, 100).await.unwrap();
    assert!(all.windows(2).all(|pair| pair[0].0 < pair[1].0));
    let found: Vec<_> = all.iter().map(|(_, key, letter)| (key.clone(), letter.clone())).collect();
    assert_eq!(found, expect);
    for (id, key, letter) in &all {
        let one = store.dead_letter(*id).await.unwrap();
        assert_eq!(one, Some((key.clone(), letter.clone())));
    }
    let page = store.dead_letters(all[3].0, 4).await.unwrap();
    assert_eq!(page, all[4..8]);
    assert_eq!(store.dead_letters(all[11].0, 4).await.unwrap(), []);
    assert_eq!(store.dead_letters(u64::MAX, 4).await.unwrap(), []);
    assert_eq!(store.dead_letter(0).await.unwrap(), None);
    assert_eq!(store.dead_letter(u64::MAX).await.unwrap(), None);
    let count = |max| store.dead_letters_count(max);
    assert_eq!(count(100).await.unwrap(), all.len() as u64);
    assert_eq!(count(3).await.unwrap(), 3);
}
