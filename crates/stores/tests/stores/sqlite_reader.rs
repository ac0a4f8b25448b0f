//! Reading a folder beside its owner, and filling one.

use turnkeep_core::Seq;
use turnkeep_core::ports::store::{Store, TurnStatus};
use turnkeep_stores::{OpenError, SqliteOptions, SqliteReader, SqliteStore, prefill};

use crate::fixture::{Chat, letter, part_row, turn_id, turn_row};

#[tokio::test]
async fn it_sees_what_a_running_store_committed() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path(), SqliteOptions::default()).unwrap();
    let reader = SqliteReader::open(dir.path()).unwrap();
    let mut chat = Chat::new("one");
    let seq = chat.queue("a message").seq;
    chat.wake_at = Some(5);
    chat.turn(turn_row(turn_id(1), TurnStatus::Processing));
    chat.part(part_row(1, 0, "a part"));
    chat.bury(letter(seq, "dead"));
    chat.commit(&store).await;

    let (key, loaded) = (chat.key.clone(), chat.loaded());
    assert_eq!(reader.load(&key).unwrap(), Some(loaded.clone()));
    assert_eq!(reader.sessions(None, None, 9).unwrap(), [(key.clone(), loaded.clone())]);
    assert_eq!(reader.events(&key, Seq(0), 9).unwrap().len(), 1);
    assert_eq!(reader.open_work(9, None, 9).unwrap(), [(5, key.clone())]);
    assert_eq!(reader.turn(turn_id(1)).unwrap(), store.turn(turn_id(1)).await.unwrap());
    assert_eq!(reader.turns(&key, None, 9).unwrap().len(), 1);
    assert_eq!(reader.parts(&key, (Seq(0), 0), 9).unwrap(), [part_row(1, 0, "a part")]);
    let letters = reader.dead_letters(0, 9).unwrap();
    assert_eq!(
        reader.dead_letter(letters[0].0).unwrap(),
        Some((key.clone(), letters[0].2.clone()))
    );

    // Within a snapshot time stands still.
    chat.queue("another");
    let next = chat.draft();
    let seen = reader.snapshot(|reader| {
        let before = reader.load(&key).unwrap();
        let committed = std::thread::scope(|scope| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let commit = store.commit(next);
            scope.spawn(move || runtime.block_on(commit).unwrap()).join().unwrap()
        });
        (before, committed, reader.load(&key).unwrap())
    });
    let (before, _, within) = seen.unwrap();
    assert_eq!((before, within), (Some(loaded.clone()), Some(loaded)));
    assert_eq!(reader.load(&key).unwrap().unwrap().session.queue.len(), 2);
    store.close().await;
    drop(store);
    assert_eq!(SqliteReader::open(dir.path()).unwrap().events(&key, Seq(0), 9).unwrap().len(), 2);
}

#[test]
fn a_folder_without_a_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = SqliteReader::open(dir.path()).unwrap_err();
    assert!(matches!(refused, OpenError::Missing { .. }), "{refused}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_prefilled_folder_holds_idle_sessions() {
    let dir = tempfile::tempdir().unwrap();
    let mut told = Vec::new();
    prefill(dir.path(), 120_000, |done| told.push(done)).unwrap();
    assert_eq!(told, [50_000, 100_000, 120_000]);
    prefill(dir.path(), 10, |_| {}).unwrap();
    let store = SqliteStore::open(dir.path(), SqliteOptions::default()).unwrap();
    assert_eq!(store.open_work(i64::MAX, None, 9).await.unwrap(), []);
    let mut page = store.sessions(Some("default"), None, 200_000).await.unwrap();
    assert_eq!(page.len(), 120_000);
    // One of them begins to talk.
    let (key, loaded) = page.swap_remove(70_000);
    let mut chat = Chat::with_key(key);
    chat.version = loaded.version;
    chat.queue("hello");
    chat.commit(&store).await;
    assert_eq!(store.load(&chat.key).await.unwrap(), Some(chat.loaded()));
}
