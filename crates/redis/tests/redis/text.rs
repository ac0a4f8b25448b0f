//! Streamed text for watchers on another node.

use turnkeep_core::draft::{Draft, Piece, Read};
use turnkeep_core::ids::{Attempt, Epoch, RunTag, TurnId};
use turnkeep_redis::{Heard, News, Settings, Watched};

use crate::kit::{Server, connected, raw, soon};

fn piece(number: u64, text: &str) -> Piece {
    let run = RunTag { turn: TurnId::default(), epoch: Epoch(3), attempt: Attempt(1) };
    Piece { run, number, whole: false, text: text.to_owned() }
}

#[tokio::test]
async fn pieces_arrive_in_their_order() {
    let server = Server::new();
    let (owner, other) = (server.node("one").await, server.node("two").await);
    assert_eq!(owner.show("s", &piece(1, "a")).await, Ok(Heard::Nobody));
    let mut watching = other.watch("s").expect("there is room");
    assert_eq!(soon(watching.next()).await, Watched::Missed);
    let mut draft = Draft::new(1000);
    for number in 1..=50 {
        let said = piece(number, "a line\nof é");
        assert_eq!(owner.show("s", &said).await, Ok(Heard::Somebody));
    }
    assert_eq!(owner.show("another", &piece(51, "x")).await, Ok(Heard::Nobody));
    for number in 1..=50 {
        let come = soon(watching.next()).await;
        let Watched::Piece(come) = come else { panic!("{come:?}") };
        let expect = if number == 1 { Read::Anew } else { Read::Grown };
        assert_eq!((come.number, draft.read(&come)), (number, expect));
    }
    assert_eq!(draft.text(), "a line\nof é".repeat(50));
}

#[tokio::test]
async fn what_was_missed_is_asked_for_and_mended() {
    let server = Server::new();
    let (owner, other) = (server.node("one").await, server.node("two").await);
    let mut ear = owner.listen().expect("there is room");
    assert_eq!(soon(ear.next()).await, News::Missed);
    let mut watching = other.watch("s").expect("there is room");
    assert_eq!(soon(watching.next()).await, Watched::Missed);
    let mut draft = Draft::new(1000);
    owner.show("s", &piece(1, "a")).await.expect("it is there");
    let Watched::Piece(come) = soon(watching.next()).await else { panic!("a piece") };
    assert_eq!(draft.read(&come), Read::Anew);

    let mut admin = server.admin().await;
    let _: i64 = raw(&mut admin, &["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    owner.show("s", &piece(2, "b")).await.expect("the other connection is there");
    assert_eq!(soon(watching.next()).await, Watched::Missed);
    assert_eq!(soon(ear.next()).await, News::Missed);
    owner.show("s", &piece(3, "c")).await.expect("it is there");
    let Watched::Piece(come) = soon(watching.next()).await else { panic!("a piece") };
    assert_eq!(draft.read(&come), Read::Gap);
    other.tell("one", &News::Resend("s".to_owned())).await.expect("it is there");
    assert_eq!(soon(ear.next()).await, News::Resend("s".to_owned()));
    let whole = Piece { whole: true, ..piece(3, "abc") };
    owner.show("s", &whole).await.expect("it is there");
    let Watched::Piece(come) = soon(watching.next()).await else { panic!("a piece") };
    assert_eq!(draft.read(&come), Read::Mended);
    assert_eq!(draft.text(), "abc");
}

#[tokio::test]
async fn a_cluster_in_another_database_hears_nothing() {
    let server = Server::new();
    let home = server.node("one").await;
    let mut settings = Settings { cluster: "away".to_owned(), ..server.settings("one") };
    settings.addresses = vec![format!("redis+{}?db=1", server.address())];
    let away = connected(settings).await;
    let mut watching = away.watch("s").expect("there is room");
    assert_eq!(soon(watching.next()).await, Watched::Missed);
    assert_eq!(home.show("s", &piece(1, "secret")).await, Ok(Heard::Nobody));
    assert_eq!(away.show("s", &piece(1, "own")).await, Ok(Heard::Somebody));
    assert_eq!(soon(watching.next()).await, Watched::Piece(piece(1, "own")));
}

#[tokio::test]
async fn many_watchers_are_all_there_again_after_a_break() {
    let server = Server::new();
    let node = server.node("one").await;
    let session = |at: usize| format!("s{at}");
    let watch = |at| node.watch(&session(at)).expect("there is room");
    let mut watching: Vec<_> = (0..2000).map(watch).collect();
    for each in &mut watching {
        assert_eq!(soon(each.next()).await, Watched::Missed);
    }
    let mut admin = server.admin().await;
    let cut: i64 = raw(&mut admin, &["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    assert_eq!(cut, 1);
    for (at, each) in watching.iter_mut().enumerate() {
        assert_eq!(soon(each.next()).await, Watched::Missed);
        assert_eq!(node.show(&session(at), &piece(1, "a")).await, Ok(Heard::Somebody));
        assert_eq!(soon(each.next()).await, Watched::Piece(piece(1, "a")));
    }
}

#[tokio::test]
async fn drafts_and_watchers_have_limits() {
    let server = Server::new();
    let mut settings = server.settings("one");
    (settings.draft_bytes_max, settings.watched_max) = (10, 1);
    let node = connected(settings).await;
    assert!(node.show("s", &piece(1, &"x".repeat(11))).await.is_err());
    let watching: Vec<_> = (0..4).map(|at| node.watch(&at.to_string())).collect();
    let open: Vec<_> = watching.iter().map(Result::is_ok).collect();
    assert_eq!(open, [true, true, true, false], "and two for what is told to a node");
}
