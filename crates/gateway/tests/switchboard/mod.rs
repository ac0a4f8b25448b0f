//! The switchboard as it is fed by the real gateway over SQLite: what makes a session wait for a
//! person and what ends that, and what of it all is there after a restart.

mod torn;

use std::path::Path;

use turnkeep_core::import::Import;
use turnkeep_core::journal::{self, Imported, ImportedLine, ImportedRole};
use turnkeep_core::session::SessionStatus;
use turnkeep_core::switchboard::{Limits, Row, WaitingKind};
use turnkeep_core::{SessionKey, SessionKind};
use turnkeep_gateway::Settings;
use turnkeep_gateway::switchboard::{BoardError, NewSession};

use super::*;

/// A process over this folder with this agent.
async fn process(folder: &Path, agent: Arc<Scripted>, limits: Limits) -> Gateway {
    let store = Arc::new(SqliteStore::open(folder, SqliteOptions::default()).unwrap());
    let mut parts = parts(Arc::clone(&store), agent, |policy| policy.error_backoff_ms = 1);
    parts.switchboard = store;
    parts.settings = Settings { switchboard: limits, ..parts.settings };
    started(parts).await
}

/// Does what it is told: asks, asks for a yes, fails, or answers.
fn obedient() -> Arc<Scripted> {
    agent(&Arc::new(()), |turn, _| async move {
        let said = turn.messages[0].body.text.to_string();
        match said.as_str() {
            "ask" => {
                let answer = turn.handle.ask("which\none?").await.unwrap();
                reply(&format!("so {}", answer.body.text))
            }
            "pay" => match turn.handle.confirm("May I pay 17?").await.unwrap() {
                Some(answer) => reply(&format!("you said {}", answer.body.text)),
                None => reply("mail first"),
            },
            "fail" => failure("the model is gone", false),
            _ => reply(&format!("well, {said}")),
        }
    })
}

fn anna() -> SessionKey {
    "default:default:api:dm:anna".parse().unwrap()
}

fn row(gateway: &Gateway) -> Arc<Row> {
    gateway.switchboard().by_key(&anna()).unwrap()
}

/// What a row waits for a person with.
fn waits(row: &Row) -> Option<(WaitingKind, &str)> {
    row.waiting.as_ref().map(|waiting| (waiting.kind, &*waiting.text))
}

#[tokio::test]
async fn a_session_waits_for_a_person_exactly_while_it_needs_one() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = process(folder.path(), obedient(), Limits::default()).await;
    ask(&gateway, "ask").await;
    let asked = row(&gateway);
    assert_eq!(waits(&asked), Some((WaitingKind::Question, "which one?")));
    assert_eq!((asked.unread, asked.resources.runs), (1, 1));
    assert!(asked.waiting.as_ref().unwrap().question_id.is_some());
    assert_eq!(gateway.switchboard().waiting("default")[0].number, asked.number);
    assert_eq!(&*ask(&gateway, "the red one").await.reply.unwrap(), "so the red one");
    assert_eq!((waits(&row(&gateway)), row(&gateway).unread), (None, 2));
    ask(&gateway, "pay").await;
    assert_eq!(waits(&row(&gateway)), Some((WaitingKind::Approval, "May I pay 17?")));
    ask(&gateway, "yes").await;
    assert_eq!(waits(&row(&gateway)), None);
    // What failed waits until it is made good, or was read.
    ask(&gateway, "fail").await;
    assert_eq!(waits(&row(&gateway)), Some((WaitingKind::Error, "the model is gone")));
    ask(&gateway, "hello").await;
    assert_eq!(waits(&row(&gateway)), None);
    ask(&gateway, "fail").await;
    let failed = row(&gateway);
    gateway.board_read("default", failed.id.to_string().as_str(), failed.last_seq).await.unwrap();
    assert_eq!((waits(&row(&gateway)), row(&gateway).unread), (None, 0));
    // An operator has the agent's place.
    let by: Arc<str> = "Olga".into();
    gateway.control(&anna(), Control::Pause { by: by.clone(), take_over: false }).await.unwrap();
    gateway.submit(says("anna", "api", "is anybody there?"), false).await.unwrap();
    assert_eq!(waits(&row(&gateway)), Some((WaitingKind::Operator, "is anybody there?")));
    gateway.stop(&anna(), None).await.unwrap();
    assert_eq!(waits(&row(&gateway)), None);
    history(&gateway, &anna()).await;
}

#[tokio::test]
async fn everything_is_found_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = process(folder.path(), obedient(), Limits::default()).await;
    for customer in ["bob", "anna", "carl"] {
        answered(&first, says(customer, "api", "hello")).await;
    }
    first.board_rename("default", "2", Some("api work")).await.unwrap();
    first.board_switch("default", "1", "tty").await.unwrap();
    first.board_switch("default", "api work", "tty").await.unwrap();
    first.board_read("default", "3", Seq(99)).await.unwrap();
    ask(&first, "pay").await;
    let before: Vec<Row> =
        first.switchboard().list("default").iter().map(|it| Row::clone(it)).collect();
    first.drain().await;
    drop(first);
    let second = process(folder.path(), obedient(), Limits::default()).await;
    second.board_walk().await.unwrap();
    let list = second.switchboard().list("default");
    let found: Vec<_> = list.iter().map(|row| (row.number, row.name.clone(), row.unread)).collect();
    let expect = before.iter().map(|row| (row.number, row.name.clone(), row.unread));
    assert_eq!(found, expect.collect::<Vec<_>>());
    assert_eq!(found.iter().map(|(.., unread)| *unread).collect::<Vec<_>>(), [1, 2, 0]);
    let found = row(&second);
    assert_eq!(found.waiting, before[1].waiting);
    assert_eq!(second.switchboard().active("default", "tty").unwrap().number, 2);
    // And what it looked at before.
    let closed = second.board_close("default", "api work", Some("tty")).await.unwrap();
    assert_eq!(closed.next.unwrap().number, 1);
    // What is closed leaves the list, and its number is not given again.
    answered(&second, says("dora", "api", "hello")).await;
    let numbers: Vec<u32> =
        second.switchboard().list("default").iter().map(|it| it.number).collect();
    assert_eq!(numbers, [1, 3, 4]);
}

#[tokio::test]
async fn a_session_that_a_person_makes_can_be_written_in() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = process(folder.path(), obedient(), Limits::default()).await;
    let wanted = |name: &str| NewSession {
        name: Some(name.to_owned()),
        seat: Some("tty".to_owned()),
        ..NewSession::default()
    };
    let made = gateway.board_create("default", wanted(" api work ")).await.unwrap();
    assert_eq!((made.number, made.name.as_deref()), (1, Some("api work")));
    assert_eq!((made.key.kind(), made.key.channel().as_str()), (SessionKind::Main, "terminal"));
    assert_eq!(gateway.switchboard().active("default", "tty").unwrap().number, 1);
    assert!(gateway.store().load(&made.key).await.unwrap().is_some(), "it is durable");
    let submission = turnkeep_gateway::Submission {
        session: Some(made.key.as_str().to_owned()),
        text: "hello".to_owned(),
        ..Default::default()
    };
    assert_eq!(&*answered(&gateway, submission).await.reply.unwrap(), "well, hello");
    assert_eq!(gateway.switchboard().get("default", "api work").unwrap().unread, 1);
    history(&gateway, &made.key).await;
    // What can't be made leaves nothing behind.
    let again = gateway.board_create("default", wanted("api work")).await;
    assert_eq!(again.unwrap_err(), BoardError::NameTaken(1));
    let strange = NewSession { agent: Some("nobody".to_owned()), ..wanted("x") };
    assert!(matches!(gateway.board_create("default", strange).await, Err(BoardError::Refused(_))));
    assert!(matches!(gateway.board_create("default", wanted("7")).await, Err(BoardError::Name(_))));
    assert_eq!(gateway.switchboard().totals("default").sessions, 1);
    assert_eq!(
        gateway.board_switch("default", "1", "a b").await.unwrap_err(),
        BoardError::Seat(turnkeep_core::switchboard::SeatError)
    );
    assert_eq!(gateway.board_rename("default", "2", None).await.unwrap_err(), BoardError::Unknown);
    assert_eq!(gateway.store().sessions(None, None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_nobody_uses_sleeps_until_somebody_does() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { hibernate_after_ms: 0, ..Limits::default() };
    let gateway = process(folder.path(), obedient(), limits).await;
    ask(&gateway, "hello").await;
    answered(&gateway, says("bob", "api", "ask")).await;
    let mut told = gateway.switchboard().subscribe("default").unwrap();
    // The clock of the machine may not have moved since.
    while row(&gateway).state != SessionStatus::Hibernated {
        gateway.board_cleanup("default");
        tokio::task::yield_now().await;
    }
    // Its task leaves, and what it kept goes with it.
    while row(&gateway).resources.buffer_bytes > 0 {
        told.changed().await.unwrap();
    }
    let busy = gateway.switchboard().get("default", "2").unwrap();
    assert_eq!(busy.state, SessionStatus::WaitingForInput, "never one in which something goes on");
    let woken = gateway.board_touch("default", "1").await.unwrap();
    assert_eq!(woken.state, SessionStatus::Idle);
    assert_eq!(&*ask(&gateway, "again").await.reply.unwrap(), "well, again");
}

#[tokio::test]
async fn an_erased_customer_leaves_the_board_and_its_record() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = process(folder.path(), obedient(), Limits::default()).await;
    ask(&gateway, "hello").await;
    answered(&gateway, says("bob", "api", "hello")).await;
    gateway.board_rename("default", "1", Some("anna from next door")).await.unwrap();
    gateway.erase("default", "anna", &|_| {}).await.unwrap();
    assert!(gateway.switchboard().by_key(&anna()).is_none());
    gateway.drain().await;
    drop(gateway);
    let again = process(folder.path(), obedient(), Limits::default()).await;
    again.board_walk().await.unwrap();
    let numbers: Vec<u32> =
        again.switchboard().list("default").iter().map(|it| it.number).collect();
    assert_eq!(numbers, [2]);
}

#[tokio::test]
async fn whoever_watches_is_told_what_changed() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = process(folder.path(), obedient(), Limits::default()).await;
    let board = gateway.switchboard();
    let mut told = board.subscribe("default").unwrap();
    let (first, _) = board.since("default", None, None);
    assert!(first.whole && first.rows.is_empty());
    ask(&gateway, "pay").await;
    told.changed().await.unwrap();
    let (changes, _) = board.since("default", Some(first.version), None);
    assert!(!changes.whole && changes.totals.waiting == 1);
    assert_eq!(waits(&changes.rows[0]), Some((WaitingKind::Approval, "May I pay 17?")));
    gateway.board_close("default", "1", None).await.unwrap();
    let (changes, _) = board.since("default", Some(changes.version), None);
    assert_eq!((changes.rows.len(), changes.gone, changes.totals.sessions), (0, vec![1], 0));
}

#[tokio::test]
async fn it_is_said_how_the_sessions_stand() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = process(folder.path(), obedient(), Limits::default()).await;
    ask(&gateway, "fail").await;
    answered(&gateway, says("bob", "api", "ask")).await;
    let stats = gateway.board_stats("default").await;
    assert_eq!((stats.sessions["total"], stats.sessions["waiting"]), (2, 2));
    assert_eq!((stats.sessions["failed"], stats.sessions["waiting_for_input"]), (1, 1));
    assert_eq!((stats.resources.runs, stats.limits.sessions), (1, 10_000));
    assert!(stats.resources.buffer_bytes > 0 && stats.process.memory_bytes > Some(0));
    let advice = stats.recommendations.iter().find(|advice| advice.code == "failed").unwrap();
    assert_eq!(advice.sessions, [1]);
}

#[tokio::test]
async fn a_dead_letter_that_was_given_up_is_nothing_to_look_at() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = process(folder.path(), obedient(), Limits::default()).await;
    ask(&gateway, "fail").await;
    assert_eq!(waits(&row(&gateway)), Some((WaitingKind::Error, "the model is gone")));
    gateway.control(&anna(), Control::Discard { seq: Seq(1) }).await.unwrap();
    assert_eq!(waits(&row(&gateway)), None);
    // Nor after a restart.
    gateway.drain().await;
    drop(gateway);
    let again = process(folder.path(), obedient(), Limits::default()).await;
    again.board_walk().await.unwrap();
    assert_eq!(waits(&row(&again)), None);
}

#[tokio::test]
async fn of_what_is_far_behind_the_newest_counts() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = process(folder.path(), obedient(), Limits::default()).await;
    let line = |count: u32| ImportedLine {
        role: ImportedRole::Agent,
        text: format!("line {count}").into(),
        said_at: 1,
        heard: journal::Heard::Said,
        sender: None,
        by: None,
    };
    let lines = 5_000;
    let head = Imported {
        from: "default:default:api:dm:bob".into(),
        saved_at: 1,
        lines,
        sha256: "0".repeat(64).into(),
        by: None,
    };
    let import = Import { head, lines: (0..lines).map(line).collect(), forgotten: 0 };
    let (session, _) = gateway.import("default", "default", import).await.unwrap();
    let says = |text: &str| turnkeep_gateway::Submission {
        session: Some(session.as_str().to_owned()),
        text: text.to_owned(),
        ..Default::default()
    };
    answered(&gateway, says("hello")).await;
    answered(&gateway, says("fail")).await;
    gateway.drain().await;
    drop(gateway);
    let again = process(folder.path(), obedient(), Limits::default()).await;
    again.board_walk().await.unwrap();
    let found = again.switchboard().by_key(&session).unwrap();
    assert_eq!(waits(&found), Some((WaitingKind::Error, "the model is gone")));
    assert!(found.unread > 0, "{found:?}");
}

#[tokio::test]
async fn a_conversation_that_nobody_began_stays_off_the_board() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(folder.path(), SqliteOptions::default()).unwrap());
    // Its place on the board was never written down.
    let first = started(parts(store, obedient(), |_| ())).await;
    ask(&first, "hello").await;
    first.board_create("default", NewSession::default()).await.unwrap();
    assert_eq!(first.store().sessions(None, None, 10).await.unwrap().len(), 2);
    first.drain().await;
    drop(first);
    let second = process(folder.path(), obedient(), Limits::default()).await;
    second.board_walk().await.unwrap();
    let list = second.switchboard().list("default");
    let found: Vec<_> = list.iter().map(|row| (row.key.clone(), row.unread)).collect();
    // Nor was the other one's, so nobody has looked at its reply.
    assert_eq!(found, [(anna(), 1)]);
}
