//! What the gateway sees of it.

use std::sync::Arc;

use turnkeep_core::draft::Piece;
use turnkeep_core::guard::Rate;
use turnkeep_core::ids::{Attempt, Epoch, RunTag, TurnId};
use turnkeep_core::ports::hints::{Heard, Hints, Limit, News, Watched};
use turnkeep_core::{SessionKey, SessionKind};
use turnkeep_redis::node_name;

use crate::kit::{Server, raw, soon};

const ONE: Epoch = Epoch(3);
const TWO: Epoch = Epoch(4);

fn key(peer: &str) -> SessionKey {
    SessionKey::new("tenant", "default", "web", SessionKind::Dm, peer).expect("a name")
}

fn run(epoch: Epoch, attempt: u32) -> RunTag {
    RunTag { turn: TurnId::default(), epoch, attempt: Attempt(attempt) }
}

/// Two nodes, as the gateway has them.
async fn nodes(server: &Server) -> [Arc<dyn Hints>; 2] {
    let one = server.node(&node_name(ONE)).await;
    [Arc::new(one), Arc::new(server.node(&node_name(TWO)).await)]
}

#[tokio::test]
async fn news_find_the_node_and_what_names_no_session_is_not_heard() {
    let server = Server::new();
    let [one, two] = nodes(&server).await;
    let mut ear = two.listen().expect("there is room");
    assert_eq!(soon(ear.next()).await, News::Missed);
    assert_eq!(one.tell(Epoch(9), News::Mail(key("anna"))).await, Ok(Heard::Nobody));
    let mut admin = server.admin().await;
    for odd in ["mail nobody", "resend a:b", "work hard"] {
        let _: i64 = raw(&mut admin, &["PUBLISH", "turnkeep:home:node:4", odd]).await;
    }
    for news in [News::Mail(key("anna: é")), News::Resend(key("ben"))] {
        assert_eq!(one.tell(TWO, news.clone()).await, Ok(Heard::Somebody));
        assert_eq!(soon(ear.next()).await, news);
    }
    assert_eq!(one.tell_all(News::Work).await, Ok(Heard::Somebody));
    assert_eq!(soon(ear.next()).await, News::Work);
    assert!(one.tell_all(News::Missed).await.is_err(), "that is for nobody else");
    let unreadable = |(name, count): &(_, u64)| *name == "unreadable" && *count == 3;
    assert!(two.health().expect("there is one").counts.iter().any(unreadable));
}

#[tokio::test]
async fn a_run_is_found_and_only_its_own_end_clears_it() {
    let server = Server::new();
    let [one, two] = nodes(&server).await;
    let (session, taken) = (key("anna"), ONE.taken_by(TWO));
    assert_eq!(one.hold(&session, run(ONE, 1)).await, Ok(true));
    assert_eq!(two.active(&session).await, Ok(Some(ONE)));
    assert_eq!(one.hold(&session, run(ONE, 2)).await, Ok(true), "another attempt");
    assert_eq!(one.release(&session, run(ONE, 1)).await, Ok(()));
    assert_eq!(two.active(&session).await, Ok(Some(ONE)));
    assert_eq!(two.hold(&session, run(taken, 1)).await, Ok(true), "it was taken over");
    assert_eq!(one.hold(&session, run(ONE, 3)).await, Ok(false));
    assert_eq!(one.active(&session).await, Ok(Some(TWO)));
    // Taken back, its number would be the smaller one.
    let back = taken.taken_by(ONE);
    assert_eq!(one.hold(&session, run(back, 1)).await, Ok(true));
    assert_eq!(two.active(&session).await, Ok(Some(ONE)));
    assert_eq!(one.release(&session, run(back, 1)).await, Ok(()));
    assert_eq!(two.active(&session).await, Ok(None));
}

#[tokio::test]
async fn rates_are_those_of_the_core() {
    let server = Server::new();
    let [one, two] = nodes(&server).await;
    let wide = Limit { name: "tenant", rate: Rate::new(6, 100) };
    let narrow = Limit { name: "anna", rate: Rate::new(6, 2) };
    let unlimited = Limit { name: "none", rate: Rate::UNLIMITED };
    let limits = [unlimited, wide, narrow];
    assert_eq!(one.take("tenant", &limits).await, Ok(None));
    assert_eq!(two.take("tenant", &limits).await, Ok(None));
    let wait = one.take("tenant", &limits).await.expect("it is there").expect("it is used up");
    assert_eq!(wait.place, 2);
    assert!((1..=10_000).contains(&wait.ms), "{wait:?}");
}

#[tokio::test]
async fn text_arrives() {
    let server = Server::new();
    let [one, two] = nodes(&server).await;
    let session = key("anna");
    let mut watching = two.watch(&session).expect("there is room");
    assert_eq!(soon(watching.next()).await, Watched::Missed);
    let piece = Piece { run: run(ONE, 1), number: 1, whole: false, text: "é\n".to_owned() };
    assert_eq!(one.show(&session, &piece).await, Ok(Heard::Somebody));
    assert_eq!(soon(watching.next()).await, Watched::Piece(piece));
}

#[tokio::test]
async fn how_it_is_is_told() {
    let mut server = Server::new();
    let node = server.node("3").await;
    let health = Hints::health(&node).expect("there is one");
    assert_eq!(health.trouble(), None);
    assert!(health.counts.contains(&("connected", 2)), "{health:?}");
    server.kill();
    soon(node.until(|health| !health.calls.is_up() && !health.listening.is_up())).await;
    let trouble = Hints::health(&node).and_then(|health| health.trouble()).expect("it is gone");
    assert!(trouble.starts_with("Redis: down: "), "{trouble}");
    let refused = Hints::active(&node, &key("anna")).await;
    assert!(refused.is_err_and(|why| why.0.contains("not asked now")));
}
