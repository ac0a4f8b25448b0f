//! Forgetting: a later beginning, erased sessions, blanked texts, and what an audit says then.

use smallvec::smallvec;
use turnkeep_core::audit::{Checker, Violation};
use turnkeep_core::care::{Reading, Why};
use turnkeep_core::ports::care::{CareStore, Forget, Forgot, Redaction};
use turnkeep_core::ports::schedule::ScheduleStore as _;
use turnkeep_core::ports::store::{CommitOutcome, Store, TurnStatus};
use turnkeep_core::session::SessionStatus;
use turnkeep_core::{
    Attempt, Epoch, EventBody, Seq, SessionKey, Trust, TurnGroupId, TurnId, Version,
};

use crate::fixture::{
    Chat, Home, NOW, first_of, key_of, letter, not_seen, part_row, turn_id, turn_row,
};

/// A message and its answer, each entry in a commit of its own.
pub(crate) async fn exchange(store: &impl Store, chat: &mut Chat, number: u128, text: &str) -> Seq {
    let id = turn_id(number);
    let seq = chat.accept(text).seq;
    chat.commit(store).await;
    chat.event(EventBody::TurnStarted {
        turn_id: id,
        turn_group_id: TurnGroupId(id.0),
        messages: smallvec![seq],
        supersedes: None,
    });
    chat.turn(turn_row(id, TurnStatus::Processing));
    chat.commit(store).await;
    let (attempt, epoch) = (Attempt(1), Epoch(1));
    chat.event(EventBody::TurnProcessing { turn_id: id, attempt, epoch, messages: smallvec![seq] });
    chat.commit(store).await;
    let reply = format!("answer to {text}");
    let answer = chat.event(EventBody::TurnCompleted {
        turn_id: id,
        attempt,
        epoch,
        messages: smallvec![seq],
        reply: Some(reply.as_str().into()),
        version: None,
        by: None,
    });
    let mut row = turn_row(id, TurnStatus::Complete);
    row.reply = Some(reply.as_str().into());
    chat.turn(row);
    chat.part(part_row(answer.0, 0, &reply));
    chat.commit(store).await;
    answer
}

/// A message whose turn fails; it is a dead letter.
pub(crate) async fn failure(store: &impl Store, chat: &mut Chat, number: u128, text: &str) -> Seq {
    let id = turn_id(number);
    let (attempt, epoch) = (Attempt(1), Epoch(1));
    let seq = chat.accept(text).seq;
    chat.event(EventBody::TurnStarted {
        turn_id: id,
        turn_group_id: TurnGroupId(id.0),
        messages: smallvec![seq],
        supersedes: None,
    });
    chat.event(EventBody::TurnProcessing { turn_id: id, attempt, epoch, messages: smallvec![seq] });
    chat.event(EventBody::TurnFailed {
        turn_id: id,
        reason: turnkeep_core::journal::DeadReason::AgentFailed,
        error: "no".into(),
        messages: smallvec![seq],
        acts: smallvec![],
    });
    chat.turn(turn_row(id, TurnStatus::Failed));
    chat.bury(letter(seq, text));
    chat.commit(store).await;
    seq
}

/// What is asked when everything through that place shall go.
pub(crate) async fn order(
    store: &(impl Store + CareStore),
    key: &SessionKey,
    through: Seq,
    bury_as: Option<&str>,
) -> Forget {
    let known = store.forgotten(key).await.unwrap();
    let mut reading = Reading::all(known, through);
    let from = reading.after();
    for event in store.events(key, from, usize::MAX).await.unwrap() {
        if !reading.observe(&event) {
            break;
        }
    }
    let expected = store.load(key).await.unwrap().map_or(Version(0), |loaded| loaded.version);
    let why = if bury_as.is_some() { Why::Erasure } else { Why::Retention };
    let forgotten = reading.forgotten(why, NOW);
    Forget { key: key.clone(), expected, from, forgotten, bury_as: bury_as.map(str::to_owned) }
}

pub(crate) async fn sweep(store: &impl CareStore, limit: usize) -> u64 {
    let mut rows = 0;
    loop {
        let swept = store.sweep(limit).await.unwrap();
        assert!(swept.rows <= limit as u64);
        rows += swept.rows;
        if !swept.more {
            return rows;
        }
    }
}

/// What an audit finds in the session, and how many messages it knows of.
async fn audit(store: &(impl Store + CareStore), key: &SessionKey) -> (Vec<Violation>, u64) {
    let known = store.forgotten(key).await.unwrap();
    let mut checker = known.map_or_else(Checker::new, |known| known.checker);
    for event in store.events(key, Seq(0), usize::MAX).await.unwrap() {
        checker.observe(&event);
    }
    checker.finish(&store.load(key).await.unwrap().unwrap().session);
    let letters = store.letters(key).await.unwrap();
    let letters: Vec<Seq> = letters.iter().map(|letter| letter.seq).collect();
    assert_eq!(checker.dead(), letters);
    (checker.violations().to_vec(), checker.accepted())
}

async fn places(store: &impl Store, key: &SessionKey) -> Vec<u64> {
    let events = store.events(key, Seq(0), usize::MAX).await.unwrap();
    events.iter().map(|event| event.seq.0).collect()
}

async fn turns(store: &impl Store, key: &SessionKey) -> Vec<TurnId> {
    store.turns(key, None, 100).await.unwrap().iter().map(|turn| turn.id).collect()
}

pub(crate) async fn a_history_begins_later_from_then_on(home: &impl Home) {
    let store = home.open();
    let (mut chat, mut other) = (Chat::new("one"), Chat::new("other"));
    let mut answers = Vec::new();
    for number in 1..=30 {
        answers.push(exchange(&store, &mut chat, number, &format!("message {number}")).await);
        exchange(&store, &mut other, 1000 + number, "of somebody else").await;
    }
    let through = answers[19];
    let forget = order(&store, &chat.key, through, None).await;
    assert_eq!(store.forget(forget).await.unwrap(), Forgot::Done(0));
    // At once, and after the rows are gone, in steps of any size.
    for step in [0, 7] {
        if step > 0 {
            sweep(&store, step).await;
        }
        assert_eq!(places(&store, &chat.key).await, (81..=120).collect::<Vec<_>>());
        assert_eq!(store.events(&chat.key, Seq(90), 3).await.unwrap().len(), 3);
        assert_eq!(store.events(&chat.key, Seq(120), 3).await.unwrap(), []);
        let expect: Vec<_> = (21..=30).rev().map(turn_id).collect();
        assert_eq!(turns(&store, &chat.key).await, expect);
        assert_eq!(store.turn(turn_id(20)).await.unwrap(), None);
        assert!(store.turn(turn_id(21)).await.unwrap().is_some());
        assert_eq!(audit(&store, &chat.key).await, (vec![], 30));
        assert_eq!(store.parts(&chat.key, (Seq(0), 0), 100).await.unwrap().len(), 10);
    }
    assert_eq!(places(&store, &other.key).await.len(), 120);
    assert_eq!(sweep(&store, 100).await, 0);
    drop(store);
    let store = home.open();
    assert_eq!(places(&store, &chat.key).await.len(), 40);
    // It goes on, and its beginning moves on.
    exchange(&store, &mut chat, 31, "and on").await;
    let forget = order(&store, &chat.key, Seq(124), None).await;
    assert_eq!(forget.forgotten.by_retention, 31);
    assert_eq!(store.forget(forget).await.unwrap(), Forgot::Done(0));
    sweep(&store, 1000).await;
    assert_eq!((places(&store, &chat.key).await, turns(&store, &chat.key).await), (vec![], vec![]));
    let loaded = store.load(&chat.key).await.unwrap();
    assert_eq!(loaded, Some(chat.loaded()));
    exchange(&store, &mut chat, 32, "after all that").await;
    assert_eq!(places(&store, &chat.key).await, [125, 126, 127, 128]);
    assert_eq!(turns(&store, &chat.key).await, [turn_id(32)]);
    assert_eq!(audit(&store, &chat.key).await, (vec![], 32));
    assert_eq!(audit(&store, &other.key).await, (vec![], 30));
}

pub(crate) async fn what_waits_to_be_removed_is_read_by_nobody(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("one");
    // A turn without a reply, whose row says what went wrong and who wrote.
    failure(&store, &mut chat, 1, "dead").await;
    exchange(&store, &mut chat, 2, "answered").await;
    exchange(&store, &mut chat, 3, "stays").await;
    let forget = order(&store, &chat.key, Seq(8), None).await;
    assert_eq!(store.forget(forget).await.unwrap(), Forgot::Done(1));
    for gone in [1, 2] {
        assert_eq!(store.turn(turn_id(gone)).await.unwrap(), None, "turn {gone}");
    }
    assert!(store.turn(turn_id(3)).await.unwrap().is_some());
    sweep(&store, 100).await;
    let erase = order(&store, &chat.key, Seq(12), Some("x")).await;
    assert_eq!(store.forget(erase).await.unwrap(), Forgot::Done(0));
    // Not even under the name that is left.
    let alias = store.keys(Some("tenant"), None, 10).await.unwrap().pop().unwrap();
    assert_eq!(store.parts(&alias, (Seq(0), 0), 100).await.unwrap(), []);
    assert_eq!(turns(&store, &alias).await, []);
    assert_eq!(store.turn(turn_id(3)).await.unwrap(), None);
}

pub(crate) async fn a_commit_is_cut_where_it_has_to_be(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("one");
    for number in 0..40 {
        chat.note(&format!("note {number}"));
    }
    chat.commit(&store).await;
    chat.note("alone");
    chat.commit(&store).await;
    for through in [1, 17, 33, 39] {
        let forget = order(&store, &chat.key, Seq(through), None).await;
        assert_eq!(store.forget(forget).await.unwrap(), Forgot::Done(0));
        sweep(&store, 10).await;
        assert_eq!(places(&store, &chat.key).await, (through + 1..=41).collect::<Vec<_>>());
    }
    drop(store);
    let store = home.open();
    assert_eq!(places(&store, &chat.key).await, [40, 41]);
    chat.note("more");
    chat.commit(&store).await;
    assert_eq!(audit(&store, &chat.key).await, (vec![], 0));
}

pub(crate) async fn dead_letters_go_with_their_places(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("one");
    let mut dead = Vec::new();
    for number in 1..=4 {
        dead.push(failure(&store, &mut chat, number, &format!("dead {number}")).await);
    }
    // The second is taken by a person, behind the place up to which everything goes.
    chat.event(EventBody::MessageDiscarded { message: dead[1] });
    chat.guard(turnkeep_core::ports::store::Guard::TakeDeadLetter(dead[1]));
    // What acted for one of them is remembered until nobody can take it any more.
    let acts = r#"[{"group": "00000000-0000-0000-0000-000000000001", "letters": [1], "acts": []}]"#;
    chat.session.acts = serde_json::from_str(acts).unwrap();
    chat.commit(&store).await;
    assert_eq!(store.load(&chat.key).await.unwrap().unwrap().session.forgotten, Seq(0));
    let forget = order(&store, &chat.key, Seq(12), None).await;
    assert_eq!(store.forget(forget).await.unwrap(), Forgot::Done(2));
    let left = store.letters(&chat.key).await.unwrap();
    assert_eq!(left.iter().map(|letter| letter.seq).collect::<Vec<_>>(), [dead[3]]);
    assert_eq!(store.load(&chat.key).await.unwrap().unwrap().session.forgotten, Seq(12));
    assert_eq!(store.dead_letters(0, 10).await.unwrap().len(), 1);
    assert_eq!(audit(&store, &chat.key).await, (vec![], 4));
    assert_eq!(store.forgotten(&chat.key).await.unwrap().unwrap().letters, 2);
}

pub(crate) async fn what_was_written_meanwhile_is_not_forgotten(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("one");
    exchange(&store, &mut chat, 1, "first").await;
    let stale = order(&store, &chat.key, Seq(4), None).await;
    let twin = order(&store, &chat.key, Seq(4), None).await;
    exchange(&store, &mut chat, 2, "second").await;
    assert_eq!(store.forget(stale).await.unwrap(), Forgot::Changed);
    assert_eq!(places(&store, &chat.key).await.len(), 8);
    // The same beginning is not forgotten twice, though the version fits.
    let again = order(&store, &chat.key, Seq(4), None).await;
    let late = Forget { expected: chat.version, ..twin };
    assert_eq!(store.forget(again).await.unwrap(), Forgot::Done(0));
    sweep(&store, 100).await;
    assert_eq!(store.forget(late).await.unwrap(), Forgot::Changed);
    let nobody =
        Forget { key: key_of("tenant", "nobody"), ..order(&store, &chat.key, Seq(5), None).await };
    assert_eq!(store.forget(nobody).await.unwrap(), Forgot::Changed);
}

pub(crate) async fn an_erased_session_leaves_no_name(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("anna");
    failure(&store, &mut chat, 1, "a secret").await;
    let first = first_of(&chat);
    chat.guard(not_seen(7, 1, &first));
    exchange(&store, &mut chat, 2, "another").await;
    // A dedupe row of another session may name it as well.
    let mut elsewhere = Chat::new("bob");
    elsewhere.note("of bob");
    elsewhere.guard(not_seen(8, 1, &first));
    elsewhere.commit(&store).await;
    chat.wake_at = Some(NOW);
    chat.commit(&store).await;
    let open = order(&store, &chat.key, Seq(8), Some("x")).await;
    assert_eq!(store.forget(open).await.unwrap(), Forgot::Changed, "something is open");
    chat.wake_at = None;
    chat.commit(&store).await;
    let half = order(&store, &chat.key, Seq(4), Some("x")).await;
    assert_eq!(store.forget(half).await.unwrap(), Forgot::Changed, "something would stay");
    let erase = order(&store, &chat.key, Seq(8), Some("x")).await;
    assert_eq!(store.forget(erase).await.unwrap(), Forgot::Done(1));
    let stale = chat.clone().draft();
    assert_eq!(store.commit(stale).await.unwrap(), CommitOutcome::Conflict);
    sweep(&store, 3).await;
    assert_eq!(store.load(&chat.key).await.unwrap(), None);
    assert_eq!(places(&store, &chat.key).await, [] as [u64; 0]);
    let keys = store.keys(Some("tenant"), None, 10).await.unwrap();
    assert_eq!(keys.len(), 2);
    let alias = keys.iter().find(|key| **key != elsewhere.key).unwrap();
    assert_eq!(alias.agent(), "erased");
    assert_eq!(audit(&store, alias).await, (vec![], 2));
    let left = store.load(alias).await.unwrap().unwrap().session;
    assert_eq!((left.status(), left.last_seq), (SessionStatus::Closed, Seq(8)));
    assert_eq!(store.turn(turn_id(2)).await.unwrap(), None);
    // Its twins are still known, by the name that tells nothing.
    for name in [7, 8] {
        let mut twin = Chat::new("carl");
        twin.guard(not_seen(name, 1, &first));
        let outcome = store.commit(twin.draft()).await.unwrap();
        let CommitOutcome::Refused { first: Some((told, true)), .. } = outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(told.session, *alias);
    }
    // Whoever comes back under that key begins anew, and can be erased again.
    let mut back = Chat::with_key(chat.key.clone());
    exchange(&store, &mut back, 50, "hello again").await;
    assert_eq!(places(&store, &back.key).await, [1, 2, 3, 4]);
    let erase = order(&store, &back.key, Seq(4), Some("x")).await;
    assert_eq!(store.forget(erase).await.unwrap(), Forgot::Done(0));
    sweep(&store, 100).await;
    assert_eq!(store.keys(Some("tenant"), None, 10).await.unwrap().len(), 3);
    drop(store);
    let store = home.open();
    let mut third = Chat::with_key(chat.key.clone());
    exchange(&store, &mut third, 60, "and again").await;
    assert_eq!(audit(&store, &third.key).await, (vec![], 1));
    assert_eq!(audit(&store, &elsewhere.key).await, (vec![], 0));
}

pub(crate) async fn texts_are_blanked_in_a_history_that_stays(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("group");
    let one = exchange(&store, &mut chat, 1, "a secret").await;
    exchange(&store, &mut chat, 2, "no matter").await;
    let redaction = Redaction {
        key: chat.key.clone(),
        places: vec![Seq(1), one, Seq(700)],
        turns: vec![turn_id(1), turn_id(9)],
    };
    store.redact(redaction).await.unwrap();
    let events = store.events(&chat.key, Seq(0), 100).await.unwrap();
    let EventBody::MessageAccepted { text, sender, message_id, trust, .. } = &events[0].body else {
        panic!("{:?}", events[0]);
    };
    assert_eq!((&**text, &**sender, &**message_id, *trust), ("", "", "", Trust::Familiar));
    let row = store.turn(turn_id(1)).await.unwrap().unwrap().1;
    assert_eq!((row.reply.as_deref(), row.message_ids.len()), (Some(""), 0));
    // A part that is still to leave keeps what it has to say.
    let texts = |parts: Vec<turnkeep_core::ports::store::PartRow>| -> Vec<String> {
        parts.iter().map(|part| part.text.to_string()).collect()
    };
    let parts = store.parts(&chat.key, (Seq(0), 0), 9).await.unwrap();
    assert_eq!(texts(parts), ["answer to a secret", "answer to no matter"]);
    let mut sent = part_row(one.0, 0, "");
    sent.state = turnkeep_core::outbox::DeliveryState::Sent;
    sent.detail = Some("what a channel says".into());
    chat.part(sent);
    chat.commit(&store).await;
    let redaction = Redaction { key: chat.key.clone(), places: vec![one], turns: vec![] };
    store.redact(redaction).await.unwrap();
    let parts = store.parts(&chat.key, (Seq(0), 0), 9).await.unwrap();
    assert_eq!(parts[0].detail, None);
    assert_eq!(texts(parts), ["", "answer to no matter"]);
    assert_eq!(audit(&store, &chat.key).await, (vec![], 2));
    let row = store.turn(turn_id(2)).await.unwrap().unwrap().1;
    assert_eq!(row.reply.as_deref(), Some("answer to no matter"));
}

pub(crate) async fn files_that_are_to_be_cleaned_are_known_until_they_are(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("group");
    exchange(&store, &mut chat, 1, "a secret").await;
    assert!(!store.is_unscrubbed().await.unwrap());
    let places = vec![Seq(1)];
    store.redact(Redaction { key: chat.key.clone(), places, turns: vec![] }).await.unwrap();
    assert!(store.is_unscrubbed().await.unwrap());
    drop(store);
    let store = home.open();
    assert!(store.is_unscrubbed().await.unwrap(), "whoever comes next knows of it");
    assert!(store.scrub().await.unwrap());
    assert!(!store.is_unscrubbed().await.unwrap());
}

pub(crate) async fn hashes_are_found_wherever_they_are_named(home: &impl Home) {
    let store = home.open();
    let hash = |letter: &str| letter.repeat(64);
    let mut chat = Chat::new("one");
    chat.note(&format!("see attachments/aa/{}\n{}", hash("a"), hash("b")));
    chat.note(&format!("{{\"hash\":\"{}\"}}", hash("c")));
    chat.note(&"d".repeat(63));
    chat.commit(&store).await;
    let named = crate::schedule::naming(&hash("e"));
    store.put_job(named, crate::fixture::NOW).await.unwrap();
    let (mut found, mut from) = (std::collections::BTreeSet::new(), Some(0));
    while let Some(place) = from {
        let stretch = store.find_hashes(place).await.unwrap();
        found.extend(stretch.found);
        from = stretch.next;
    }
    assert_eq!(found, ["a", "b", "c", "e"].map(hash).into());
}

pub(crate) async fn senders_are_found_wherever_they_wrote(home: &impl Home) {
    let store = home.open();
    let mut expect = Vec::new();
    for (number, tenant) in [(1, "tenant"), (2, "other"), (3, "tenant")] {
        let mut chat = Chat::with_key(key_of(tenant, &format!("peer {number}")));
        chat.note("\"sender\":\"sender\"");
        chat.commit(&store).await;
        if number < 3 {
            chat.accept("by its sender");
            chat.commit(&store).await;
            expect.push(chat.key.clone());
        }
    }
    let mut found = Vec::new();
    let mut from = Some(0);
    while let Some(place) = from {
        let stretch = store.find_sender("tenant", "sender", place).await.unwrap();
        found.extend(stretch.keys);
        from = stretch.next;
    }
    assert_eq!(found, expect[..1]);
    assert_eq!(store.find_sender("tenant", "send", 0).await.unwrap().keys, []);
    assert_eq!(store.keys(Some("tenant"), Some(&expect[0]), 5).await.unwrap().len(), 1);
    assert_eq!(store.keys(None, None, 2).await.unwrap().len(), 2);
    assert!(!store.salt().await.unwrap().is_empty());
}

pub(crate) async fn a_lost_message_is_still_found(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("one");
    exchange(&store, &mut chat, 1, "first").await;
    exchange(&store, &mut chat, 2, "second").await;
    let mut forget = order(&store, &chat.key, Seq(4), None).await;
    // As if the fifth had gone as well, without anybody having read it.
    forget.forgotten.through = Seq(5);
    assert_eq!(store.forget(forget).await.unwrap(), Forgot::Done(0));
    let (found, _) = audit(&store, &chat.key).await;
    assert!(found.iter().any(|found| found.invariant == "I4"), "{found:?}");
}
