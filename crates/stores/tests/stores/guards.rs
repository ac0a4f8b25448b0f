//! Guards: twins, dead letters, parked parts, all or nothing.

use std::sync::Arc;

use turnkeep_core::message::{Action, Seen};
use turnkeep_core::outbox::DeliveryState;
use turnkeep_core::ports::care::{CareStore as _, Redaction};
use turnkeep_core::ports::store::{CommitOutcome, FirstDecision, Guard, PartRow, Store};
use turnkeep_core::{Seq, Version};

use crate::fixture::{Chat, DAY_MS, Home, NOW, first_of, letter, not_seen, part_row};

/// Commits a message with the key `name` and gives back the decision it got.
async fn first_message(store: &impl Store, chat: &mut Chat, name: u8) -> FirstDecision {
    chat.queue("the first");
    let first = first_of(chat);
    chat.guard(not_seen(name, 1, &first));
    chat.commit(store).await;
    first
}

fn refused(guard: usize, first: &FirstDecision, same_body: bool) -> CommitOutcome {
    CommitOutcome::Refused { guard, first: Some((first.clone(), same_body)) }
}

/// A commit with a message of that key, from a session that may be another one.
async fn send(store: &impl Store, chat: &Chat, name: u8, body_hash: u64) -> CommitOutcome {
    let mut chat = chat.clone();
    chat.queue("a twin");
    chat.guard(not_seen(name, body_hash, &first_of(&chat)));
    store.commit(chat.draft()).await.unwrap()
}

pub(crate) async fn a_twin_is_told_the_first_decision(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("one");
    let first = first_message(&store, &mut chat, 1).await;
    assert_eq!(send(&store, &chat, 1, 1).await, refused(0, &first, true));
    assert_eq!(send(&store, &chat, 1, 2).await, refused(0, &first, false));
    // The key is wider than a session, and the session that asks need not even exist.
    assert_eq!(send(&store, &Chat::new("two"), 1, 1).await, refused(0, &first, true));
    assert_eq!(store.load(&chat.key).await.unwrap(), Some(chat.loaded()));
    assert_eq!(store.events(&chat.key, Seq(0), 9).await.unwrap().len(), 1);
    assert_eq!(store.load(&Chat::new("two").key).await.unwrap(), None);

    // Without the optional parts, and taken elsewhere.
    let bare = FirstDecision { turn: None, queue_position: None, seq: Seq(1), ..first.clone() };
    let mut other = Chat::new("three");
    other.queue("the first");
    let seen = Seen { key: [2; 16], body_hash: u64::MAX };
    other.guard(Guard::NotSeen { seen, first: bare.clone(), until: NOW });
    other.commit(&store).await;
    assert_eq!(send(&store, &chat, 2, u64::MAX).await, refused(0, &bare, true));

    // Whatever was decided.
    for (name, action) in (10..).zip(Action::ALL) {
        let decided = FirstDecision { action, ..bare.clone() };
        other.queue("another");
        other.guard(not_seen(name, 1, &decided));
        other.commit(&store).await;
        assert_eq!(send(&store, &chat, name, 1).await, refused(0, &decided, true));
    }
}

pub(crate) async fn a_twin_is_known_across_reopening(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("one");
    let first = first_message(&store, &mut chat, 1).await;
    drop(store);
    let store = home.open();
    assert_eq!(send(&store, &chat, 1, 1).await, refused(0, &first, true));
    assert_eq!(send(&store, &chat, 1, 3).await, refused(0, &first, false));
}

pub(crate) async fn an_expired_twin_is_new(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("one");
    let first = first_message(&store, &mut chat, 1).await;
    chat.session.updated_at = NOW + 8 * DAY_MS;
    assert_eq!(send(&store, &chat, 1, 1).await, refused(0, &first, true));
    chat.session.updated_at += 1;
    chat.queue("much later");
    let again = FirstDecision { queue_position: Some(77), ..first_of(&chat) };
    let seen = Seen { key: [1; 16], body_hash: 1 };
    let until = NOW + 20 * DAY_MS;
    chat.guard(Guard::NotSeen { seen, first: again.clone(), until });
    chat.commit(&store).await;
    assert_eq!(send(&store, &chat, 1, 1).await, refused(0, &again, true));
    // As one of several, too.
    chat.session.updated_at = until + 1;
    chat.queue("later still");
    for name in [1, 2] {
        let seen = Seen { key: [name; 16], body_hash: 1 };
        let first = first_of(&chat);
        chat.guard(Guard::NotSeen { seen, first, until: until + DAY_MS });
    }
    chat.commit(&store).await;
    assert_eq!(send(&store, &chat, 1, 1).await, refused(0, &first_of(&chat), true));
}

pub(crate) async fn of_sixteen_twins_at_once_one_commits(home: &impl Home) {
    let store = Arc::new(home.open());
    let tasks: Vec<_> = (0..16)
        .map(|number| {
            let store = Arc::clone(&store);
            let mut chat = Chat::new(&format!("peer {number}"));
            chat.queue("the message");
            let first = first_of(&chat);
            chat.guard(not_seen(1, number / 8, &first));
            tokio::spawn(
                async move { (store.commit(chat.draft()).await.unwrap(), first, number / 8) },
            )
        })
        .collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    let is_committed = |outcome: &CommitOutcome| matches!(outcome, CommitOutcome::Committed(_));
    let committed: Vec<_> = outcomes.iter().filter(|one| is_committed(&one.0)).collect();
    let [(_, first, body_hash)] = committed[..] else { panic!("{committed:?}") };
    for (outcome, _, own) in outcomes.iter().filter(|one| !is_committed(&one.0)) {
        assert_eq!(*outcome, refused(0, first, own == body_hash));
    }
    assert_eq!(store.sessions(None, None, 100).await.unwrap().len(), 1);
}

pub(crate) async fn a_twin_within_one_commit_is_refused_at_its_place(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("one");
    chat.queue("once");
    let first = first_of(&chat);
    chat.guard(not_seen(1, 1, &first));
    chat.guard(not_seen(2, 1, &first));
    chat.queue("twice");
    chat.guard(not_seen(1, 5, &first_of(&chat)));
    assert_eq!(store.commit(chat.draft()).await.unwrap(), refused(2, &first, false));
    assert_eq!(store.load(&chat.key).await.unwrap(), None);
}

pub(crate) async fn guards_hold_all_together_or_nothing_is_written(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("one");
    let first = first_message(&store, &mut chat, 1).await;
    let mut several = chat.clone();
    for name in [2, 3, 1, 4] {
        several.guard(not_seen(name, 1, &first));
    }
    assert_eq!(store.commit(several.draft()).await.unwrap(), refused(2, &first, true));
    // None of its neighbours was remembered.
    for name in [2, 3, 4] {
        chat.queue("again");
        chat.guard(not_seen(name, 1, &first_of(&chat)));
    }
    chat.commit(&store).await;
    assert_eq!(store.load(&chat.key).await.unwrap(), Some(chat.loaded()));
    // A missing dead letter refuses what came with it, too.
    let mut mixed = chat.clone();
    mixed.guard(not_seen(5, 1, &first));
    mixed.guard(Guard::TakeDeadLetter(Seq(1)));
    let outcome = store.commit(mixed.draft()).await.unwrap();
    assert_eq!(outcome, CommitOutcome::Refused { guard: 1, first: None });
    chat.guard(not_seen(5, 1, &first));
    chat.commit(&store).await;
}

pub(crate) async fn a_message_with_two_names_is_known_by_each(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("one");
    chat.queue("the first");
    let first = first_of(&chat);
    chat.guard(not_seen(1, 1, &first));
    chat.guard(not_seen(2, 2, &first));
    chat.commit(&store).await;
    let twin = async |names: [(u8, u64); 2]| {
        let mut other = Chat::new("two");
        other.queue("a twin");
        for (name, body_hash) in names {
            other.guard(not_seen(name, body_hash, &first_of(&other)));
        }
        store.commit(other.draft()).await.unwrap()
    };
    // The first name that is known decides, and nothing is kept of the other one.
    assert_eq!(twin([(1, 1), (2, 3)]).await, refused(0, &first, true));
    assert_eq!(twin([(1, 3), (2, 2)]).await, refused(0, &first, false));
    assert_eq!(twin([(3, 1), (2, 2)]).await, refused(1, &first, true));
    assert_eq!(twin([(3, 1), (2, 3)]).await, refused(1, &first, false));
    assert_eq!(twin([(3, 9), (4, 9)]).await, CommitOutcome::Committed(Version(1)));
}

pub(crate) async fn forgotten_keys_are_new_again(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("one");
    for name in 0..10_u8 {
        chat.queue("a message");
        let seen = Seen { key: [name; 16], body_hash: 1 };
        let until = NOW + i64::from(name);
        chat.guard(Guard::NotSeen { seen, first: first_of(&chat), until });
        chat.commit(&store).await;
    }
    assert_eq!(store.forget_seen(NOW, 100).await.unwrap(), 0);
    assert_eq!(store.forget_seen(NOW + 6, 4).await.unwrap(), 4);
    assert_eq!(store.forget_seen(NOW + 6, 4).await.unwrap(), 2);
    assert_eq!(store.forget_seen(NOW + 6, 4).await.unwrap(), 0);
    for name in 0..10_u8 {
        let outcome = send(&store, &Chat::new(&format!("peer {name}")), name, 1).await;
        assert_eq!(matches!(outcome, CommitOutcome::Committed(_)), name < 6, "{name} {outcome:?}");
    }
}

pub(crate) async fn a_question_is_answered_and_leaves_nothing(home: &impl Home) {
    let store = home.open();
    let mut known = Chat::new("known");
    let first = first_message(&store, &mut known, 1).await;
    let ask = async |chat: &Chat, names: &[(u8, u64)], at: i64| {
        let mut chat = chat.clone();
        for (name, body_hash) in names {
            chat.guard(not_seen(*name, *body_hash, &first));
        }
        let mut question = chat.draft();
        question.rows.question = Some(at);
        store.commit(question).await.unwrap()
    };
    let free = |version| CommitOutcome::Committed(Version(version));
    let stranger = Chat::new("stranger");
    assert_eq!(ask(&known, &[(1, 1)], NOW).await, refused(0, &first, true));
    assert_eq!(ask(&known, &[(2, 2), (1, 2)], NOW).await, refused(1, &first, false));
    assert_eq!(ask(&stranger, &[(1, 1)], NOW).await, refused(0, &first, true));
    // What is over by the question's own time is not known any more.
    assert_eq!(ask(&known, &[(1, 1)], NOW + 9 * DAY_MS).await, free(1));
    // Twice the same, because the first time has left nothing.
    for _ in 0..2 {
        assert_eq!(ask(&known, &[(3, 1)], NOW).await, free(1));
        assert_eq!(ask(&stranger, &[(3, 1), (4, 1)], NOW).await, free(0));
    }
    assert_eq!(store.load(&stranger.key).await.unwrap(), None);
    assert_eq!(store.load(&known.key).await.unwrap(), Some(known.loaded()));
    let mut stale = known.clone();
    stale.version = Version(7);
    assert_eq!(ask(&stale, &[(3, 1)], NOW).await, CommitOutcome::Conflict);
    known.note("it goes on");
    known.commit(&store).await;
}

pub(crate) async fn a_dead_letter_is_taken_once(home: &impl Home) {
    let store = Arc::new(home.open());
    let mut chat = Chat::new("one");
    let one = chat.accept("one").seq;
    let two = chat.accept("two").seq;
    chat.bury(letter(one, "one"));
    chat.bury(letter(two, "two"));
    chat.commit(&*store).await;
    let letters = store.dead_letters(0, 10).await.unwrap();
    assert_eq!(letters.len(), 2);

    let mut twice = chat.clone();
    twice.guard(Guard::TakeDeadLetter(one));
    twice.guard(Guard::TakeDeadLetter(one));
    let outcome = store.commit(twice.draft()).await.unwrap();
    assert_eq!(outcome, CommitOutcome::Refused { guard: 1, first: None });
    assert_eq!(store.dead_letters(0, 10).await.unwrap(), letters);

    chat.note("taken");
    chat.guard(Guard::TakeDeadLetter(one));
    chat.commit(&*store).await;
    assert_eq!(store.dead_letters(0, 10).await.unwrap(), letters[1..]);
    assert_eq!(store.dead_letter(letters[0].0).await.unwrap(), None);
    let (key, second) = store.dead_letter(letters[1].0).await.unwrap().unwrap();
    assert_eq!((key, second), (chat.key.clone(), letter(two, "two")));

    let mut again = chat.clone();
    again.note("never");
    again.guard(Guard::TakeDeadLetter(one));
    let outcome = store.commit(again.draft()).await.unwrap();
    assert_eq!(outcome, CommitOutcome::Refused { guard: 0, first: None });
    assert_eq!(store.load(&chat.key).await.unwrap(), Some(chat.loaded()));
}

pub(crate) async fn a_dead_letter_belongs_to_its_session(home: &impl Home) {
    let store = home.open();
    let (mut one, mut two) = (Chat::new("one"), Chat::new("two"));
    for chat in [&mut one, &mut two] {
        let seq = chat.accept("dead").seq;
        chat.bury(letter(seq, chat.key.as_str()));
        chat.commit(&store).await;
    }
    let mut stranger = Chat::new("three");
    stranger.guard(Guard::TakeDeadLetter(Seq(1)));
    let outcome = store.commit(stranger.draft()).await.unwrap();
    assert_eq!(outcome, CommitOutcome::Refused { guard: 0, first: None });
    two.guard(Guard::TakeDeadLetter(Seq(1)));
    two.commit(&store).await;
    let left = store.dead_letters(0, 10).await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].1, one.key);
}

/// What somebody who read this part asks for.
fn parked(row: &PartRow) -> Guard {
    let PartRow { reply, part, state, tries, .. } = *row;
    Guard::Parked { reply, part, state, tries }
}

/// A commit with these guards, which nobody goes on from.
async fn ask(store: &impl Store, chat: &Chat, rows: &[&PartRow]) -> CommitOutcome {
    let mut chat = chat.clone();
    chat.note("never");
    rows.iter().for_each(|row| chat.guard(parked(row)));
    store.commit(chat.draft()).await.unwrap()
}

/// A session with a part of which nobody knows, and one that is dead.
async fn chat_with_parked(store: &impl Store) -> (Chat, PartRow, PartRow) {
    let mut chat = Chat::new("one");
    // Up to the place of the reply.
    (0..4).for_each(|_| drop(chat.accept("a message")));
    let unknown =
        PartRow { state: DeliveryState::Unknown, tries: 2, ..part_row(4, 1, "the second") };
    let dead = PartRow { state: DeliveryState::Dead, tries: 1, ..part_row(4, 0, "the first") };
    chat.part(dead.clone());
    chat.part(unknown.clone());
    chat.commit(store).await;
    (chat, unknown, dead)
}

pub(crate) async fn a_part_has_to_stand_as_it_was_read(home: &impl Home) {
    let store = home.open();
    let (chat, unknown, dead) = chat_with_parked(&store).await;
    let refused = |guard| CommitOutcome::Refused { guard, first: None };
    for other in [
        PartRow { state: DeliveryState::Dead, ..unknown.clone() },
        PartRow { tries: 1, ..unknown.clone() },
        PartRow { tries: 3, ..unknown.clone() },
        PartRow { part: 2, ..unknown.clone() },
        PartRow { reply: Seq(3), ..unknown.clone() },
    ] {
        assert_eq!(ask(&store, &chat, &[&other]).await, refused(0), "{other:?}");
    }
    assert_eq!(ask(&store, &chat, &[&dead, &unknown, &unknown]).await, refused(2));
    assert_eq!(ask(&store, &Chat::new("two"), &[&unknown]).await, refused(0));
    assert_eq!(store.load(&Chat::new("two").key).await.unwrap(), None);
    assert_eq!(store.load(&chat.key).await.unwrap(), Some(chat.loaded()));
    // Who comes with an old version is told that, so that they look again.
    let mut old = chat.clone();
    old.version = Version(7);
    assert_eq!(ask(&store, &old, &[&unknown]).await, CommitOutcome::Conflict);
    let both = ask(&store, &chat, &[&unknown, &dead]).await;
    assert_eq!(both, CommitOutcome::Committed(Version(2)));
}

pub(crate) async fn of_those_who_read_a_part_alike_one_is_let_through(home: &impl Home) {
    let store = home.open();
    let (mut chat, read, dead) = chat_with_parked(&store).await;
    let refused = CommitOutcome::Refused { guard: 0, first: None };
    // It goes out again, and is parked again: whoever read it before was late all the same.
    chat.guard(parked(&read));
    for state in [DeliveryState::Sending, DeliveryState::Sent, DeliveryState::Unknown] {
        chat.part(PartRow { state, tries: 3, text: "".into(), ..read.clone() });
        chat.commit(&store).await;
        assert_eq!(ask(&store, &chat, &[&read]).await, refused, "{state:?}");
    }
    drop(store);
    let store = home.open();
    assert_eq!(ask(&store, &chat, &[&read]).await, refused);
    let again = PartRow { tries: 3, ..read };
    chat.guard(parked(&again));
    chat.commit(&store).await;
    // What was taken out meanwhile is not put back.
    let (key, places) = (chat.key.clone(), vec![Seq(4)]);
    store.redact(Redaction { key, places, turns: Vec::new() }).await.unwrap();
    for row in [&again, &dead] {
        assert_eq!(ask(&store, &chat, &[row]).await, refused);
    }
    assert!(
        store.parts(&chat.key, (Seq(0), 0), 9).await.unwrap().iter().all(|row| row.text.is_empty())
    );
}
