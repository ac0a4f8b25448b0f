//! Commits: versions, atomicity, what survives.

use std::sync::Arc;

use turnkeep_core::ports::store::{CommitOutcome, Store, StoreError, TurnStatus};
use turnkeep_core::{Epoch, Seq, Version};

use crate::fixture::{
    Chat, Home, NOW, first_of, key, letter, not_seen, part_row, turn_id, turn_row,
};

pub(crate) async fn a_session_is_there_from_its_first_commit_on(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("one");
    assert_eq!(store.load(&chat.key).await.unwrap(), None);
    for text in ["first", "second", "third"] {
        chat.queue(text);
        chat.commit(&store).await;
        assert_eq!(store.load(&chat.key).await.unwrap(), Some(chat.loaded()));
    }
    assert_eq!(chat.version, Version(3));
    assert_eq!(store.load(&key("another")).await.unwrap(), None);
}

pub(crate) async fn a_stale_version_conflicts_and_writes_nothing(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("one");
    chat.queue("kept");
    chat.commit(&store).await;
    chat.queue("kept as well");
    chat.commit(&store).await;

    for stale in [0, 1, 3, u64::from(u32::MAX)] {
        let mut other = chat.clone();
        other.version = Version(stale);
        other.wake_at = Some(NOW);
        other.guard(not_seen(1, 1, &first_of(&chat)));
        let seq = other.queue("never").seq;
        other.turn(turn_row(turn_id(9), TurnStatus::Complete));
        other.part(part_row(1, 0, "never"));
        other.bury(letter(seq, "never"));
        assert_eq!(store.commit(other.draft()).await.unwrap(), CommitOutcome::Conflict, "{stale}");
    }
    let mut absent = Chat::new("absent");
    absent.version = Version(1);
    absent.queue("never");
    assert_eq!(store.commit(absent.draft()).await.unwrap(), CommitOutcome::Conflict);

    assert_eq!(store.load(&chat.key).await.unwrap(), Some(chat.loaded()));
    assert_eq!(store.load(&absent.key).await.unwrap(), None);
    assert_eq!(store.events(&chat.key, Seq(0), 100).await.unwrap().len(), 2);
    assert_eq!(store.turn(turn_id(9)).await.unwrap(), None);
    assert_eq!(store.parts(&chat.key, (Seq(0), 0), 100).await.unwrap(), []);
    assert_eq!(store.dead_letters(0, 100).await.unwrap(), []);
    assert_eq!(store.open_work(i64::MAX, None, 100).await.unwrap(), []);
    // The guard of a conflicting commit remembers nothing either.
    chat.guard(not_seen(1, 1, &first_of(&chat)));
    chat.commit(&store).await;
}

pub(crate) async fn of_many_with_one_version_one_commits(home: &impl Home) {
    let store = Arc::new(home.open());
    let mut chat = Chat::new("one");
    chat.queue("base");
    chat.commit(&*store).await;
    let tasks: Vec<_> = (0..16)
        .map(|number| {
            let (store, mut chat) = (Arc::clone(&store), chat.clone());
            chat.queue(&format!("racer {number}"));
            tokio::spawn(async move { store.commit(chat.draft()).await.unwrap() })
        })
        .collect();
    let mut committed = 0;
    for task in tasks {
        match task.await.unwrap() {
            CommitOutcome::Committed(version) => {
                assert_eq!(version, Version(2));
                committed += 1;
            }
            CommitOutcome::Conflict => {}
            CommitOutcome::Refused { .. } => panic!("there was no guard"),
        }
    }
    assert_eq!(committed, 1);
    assert_eq!(store.events(&chat.key, Seq(0), 100).await.unwrap().len(), 2);
}

pub(crate) async fn one_bad_commit_does_not_disturb_its_neighbours(home: &impl Home) {
    let store = Arc::new(home.open());
    let mut known = Chat::new("known");
    known.guard(not_seen(1, 1, &first_of(&known)));
    known.queue("known");
    known.commit(&*store).await;
    let tasks: Vec<_> = (0..200)
        .map(|number| {
            let mut chat = Chat::new(&format!("neighbour {number}"));
            match number {
                50 => chat.version = Version(9),
                100 => chat.guard(not_seen(1, 1, &first_of(&known))),
                150 => chat.session.last_seq = Seq(5),
                _ => {}
            }
            chat.queue("a message");
            let store = Arc::clone(&store);
            tokio::spawn(async move { (store.commit(chat.draft()).await, chat) })
        })
        .collect();
    for (number, task) in tasks.into_iter().enumerate() {
        let (outcome, mut chat) = task.await.unwrap();
        match number {
            50 => assert_eq!(outcome, Ok(CommitOutcome::Conflict)),
            100 => assert!(matches!(outcome, Ok(CommitOutcome::Refused { guard: 0, .. }))),
            150 => assert!(matches!(outcome, Err(StoreError::Corrupt(_)))),
            _ => {
                assert_eq!(outcome, Ok(CommitOutcome::Committed(Version(1))));
                chat.version = Version(1);
                assert_eq!(store.load(&chat.key).await.unwrap(), Some(chat.loaded()));
                continue;
            }
        }
        assert_eq!(store.load(&chat.key).await.unwrap(), None, "{number}");
    }
    assert_eq!(store.health(), Ok(()));
}

pub(crate) async fn a_gap_in_the_journal_is_refused(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("one");
    chat.note("1");
    chat.note("2");
    chat.commit(&store).await;
    let check = async |last: u64, more: &[u64]| {
        let mut bad = chat.clone();
        bad.session.last_seq = Seq(last);
        bad.note("behind the gap");
        let mut commit = bad.draft();
        for place in more {
            let event = commit.rows.events[0].clone();
            commit.rows.events.push(turnkeep_core::Event { seq: Seq(*place), ..event });
        }
        let refused = store.commit(commit).await;
        assert!(matches!(refused, Err(StoreError::Corrupt(_))), "{last} {more:?}");
    };
    check(3, &[]).await;
    check(1, &[]).await;
    check(0, &[]).await;
    check(2, &[5]).await;
    check(2, &[3]).await;
    assert_eq!(store.load(&chat.key).await.unwrap(), Some(chat.loaded()));
    chat.note("3");
    chat.commit(&store).await;
    assert_eq!(store.events(&chat.key, Seq(0), 9).await.unwrap().len(), 3);
}

pub(crate) async fn a_commit_may_carry_nothing_but_the_state(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("one");
    chat.commit(&store).await;
    chat.session.epoch = Epoch(12);
    chat.wake_at = Some(NOW);
    chat.commit(&store).await;
    assert_eq!(store.load(&chat.key).await.unwrap(), Some(chat.loaded()));
    assert_eq!(store.events(&chat.key, Seq(0), 9).await.unwrap(), []);
    chat.note("1");
    chat.commit(&store).await;
    assert_eq!(store.events(&chat.key, Seq(0), 9).await.unwrap().len(), 1);
}

pub(crate) async fn texts_of_any_size_and_script_come_back(home: &impl Home) {
    let store = home.open();
    let texts = [
        String::new(),
        "100 % \"quoted\" \\ back\nnew\r\n\ttab \u{0} nul \u{7f}".into(),
        "Ünïcödé 日本語 👩‍👩‍👧 \u{202e}right to left\u{202c} e\u{301}".into(),
        "x".repeat(3_000_000),
        "é".repeat(70_000),
    ];
    let mut chat = Chat::with_key(
        turnkeep_core::SessionKey::new(
            "100 % : sure",
            "agent%3A",
            "api",
            turnkeep_core::SessionKind::Group,
            "日本:語",
        )
        .unwrap(),
    );
    for (number, text) in (1..).zip(&texts) {
        chat.queue(text);
        let id = turn_id(number);
        let mut row = turn_row(id, TurnStatus::Complete);
        row.reply = Some(text.as_str().into());
        row.error = Some(text.as_str().into());
        // Every other reply stands in the journal as well, which must make no difference.
        if number % 2 == 0 {
            chat.complete(id, text);
        }
        chat.turn(row);
        chat.commit(&store).await;
        let (session, row) = store.turn(id).await.unwrap().unwrap();
        assert_eq!((&session, row.reply.as_deref()), (&chat.key, Some(text.as_str())));
        assert_eq!(row.error.as_deref(), Some(text.as_str()));
    }
    drop(store);
    let store = home.open();
    let loaded = store.load(&chat.key).await.unwrap().unwrap();
    assert_eq!(loaded, chat.loaded());
    let found: Vec<_> = loaded.session.pending().map(|one| one.body.text.to_string()).collect();
    assert_eq!(found, texts);
    let turns = store.turns(&chat.key, None, 10).await.unwrap();
    let replies: Vec<_> = turns.iter().rev().map(|row| row.reply.as_deref().unwrap()).collect();
    assert_eq!(replies, texts);
}

pub(crate) async fn reopening_keeps_everything_and_draws_a_greater_epoch(home: &impl Home) {
    let store = home.open();
    let epoch = store.epoch();
    let mut chats = Vec::new();
    for number in 0..20_u32 {
        let mut chat = Chat::new(&format!("peer {number}"));
        for round in 0..number {
            let pending = chat.queue(&format!("message {round}"));
            chat.turn(turn_row(turn_id((number * 100 + round).into()), TurnStatus::Failed));
            chat.bury(letter(pending.seq, "dead"));
            chat.part(part_row(pending.seq.0, 0, "part"));
            chat.wake_at = Some(NOW + i64::from(number));
            chat.commit(&store).await;
        }
        chats.push(chat);
    }
    let before = store.dead_letters(0, 1000).await.unwrap();
    let due = store.open_work(i64::MAX, None, 100).await.unwrap();
    store.close().await;
    drop(store);

    let store = home.open();
    assert!(store.epoch() > epoch, "{} is not greater than {epoch}", store.epoch());
    assert_eq!(store.health(), Ok(()));
    assert_eq!(store.dead_letters(0, 1000).await.unwrap(), before);
    assert_eq!(store.open_work(i64::MAX, None, 100).await.unwrap(), due);
    for mut chat in chats.into_iter().skip(1) {
        let count = chat.session.queue.len();
        assert_eq!(store.load(&chat.key).await.unwrap(), Some(chat.loaded()));
        assert_eq!(store.events(&chat.key, Seq(0), 1000).await.unwrap().len(), count);
        assert_eq!(store.turns(&chat.key, None, 1000).await.unwrap().len(), count);
        assert_eq!(store.parts(&chat.key, (Seq(0), 0), 1000).await.unwrap().len(), count);
        // It goes on where it was.
        chat.queue("one more");
        chat.turn(turn_row(turn_id(1_000_000 + count as u128), TurnStatus::Complete));
        chat.commit(&store).await;
        assert_eq!(store.events(&chat.key, Seq(0), 1000).await.unwrap().len(), count + 1);
        assert_eq!(store.turns(&chat.key, None, 1000).await.unwrap().len(), count + 1);
    }
    let third = {
        drop(store);
        home.open()
    };
    assert!(third.epoch().0 >= epoch.0 + 2);
}

pub(crate) async fn a_closed_store_takes_no_commits(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("one");
    chat.queue("kept");
    chat.commit(&store).await;
    assert_eq!(store.health(), Ok(()));
    store.close().await;
    store.close().await;
    assert_eq!(store.health(), Err("the store is closed".to_owned()));
    let mut late = chat.clone();
    late.queue("late");
    assert!(matches!(store.commit(late.draft()).await, Err(StoreError::Unavailable(_))));
    assert_eq!(store.load(&chat.key).await.unwrap(), Some(chat.loaded()));
    drop(store);
    assert_eq!(home.open().load(&chat.key).await.unwrap(), Some(chat.loaded()));
}

pub(crate) async fn it_counts_what_it_did(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("one");
    for text in ["1", "2", "3"] {
        chat.guard(not_seen(text.as_bytes()[0], 1, &first_of(&chat)));
        chat.queue(text);
        chat.commit(&store).await;
    }
    let mut twin = chat.clone();
    twin.guard(not_seen(b'1', 1, &first_of(&chat)));
    store.commit(twin.draft()).await.unwrap();
    twin.version = Version(0);
    store.commit(twin.draft()).await.unwrap();
    let stats = store.stats();
    assert_eq!((stats.commits, stats.refusals, stats.conflicts), (3, 1, 1));
    assert_eq!((stats.waiting, stats.failures), (0, 0));
    assert!(stats.batches >= 3 && stats.batch_jobs_max >= 1, "{stats:?}");
}
