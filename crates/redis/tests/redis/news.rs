//! What nodes tell each other.

use turnkeep_redis::{Heard, News};

use crate::kit::{Server, connected, raw, soon};

fn mail(session: &str) -> News {
    News::Mail(session.to_owned())
}

#[tokio::test]
async fn a_node_hears_what_is_told_to_it_and_to_all() {
    let server = Server::new();
    let (one, two) = (server.node("one").await, server.node("two").await);
    assert_eq!(one.tell("two", &mail("s")).await, Ok(Heard::Nobody));
    let mut ear = two.listen().expect("there is room");
    assert_eq!(soon(ear.next()).await, News::Missed);
    assert_eq!(one.tell("two", &mail("a b:c")).await, Ok(Heard::Somebody));
    assert_eq!(one.tell("three", &mail("s")).await, Ok(Heard::Nobody));
    assert_eq!(one.tell_all(&News::Work).await, Ok(Heard::Somebody));
    for news in [News::Stop("s".to_owned()), News::Resend("s".to_owned())] {
        assert_eq!(one.tell("two", &news).await, Ok(Heard::Somebody));
    }
    assert_eq!(soon(ear.next()).await, mail("a b:c"));
    assert_eq!(soon(ear.next()).await, News::Work);
    assert_eq!(soon(ear.next()).await, News::Stop("s".to_owned()));
    assert_eq!(soon(ear.next()).await, News::Resend("s".to_owned()));
}

#[tokio::test]
async fn after_every_new_connection_a_listener_knows_that_it_missed_some() {
    let mut server = Server::new();
    let node = server.node("one").await;
    let mut ear = node.listen().expect("there is room");
    assert_eq!(soon(ear.next()).await, News::Missed);
    server.kill();
    soon(node.until(|health| !health.calls.is_up() && !health.listening.is_up())).await;
    server.begin();
    assert_eq!(soon(ear.next()).await, News::Missed);
    soon(node.until(turnkeep_redis::Health::is_up)).await;
    assert_eq!(node.tell("one", &mail("s")).await, Ok(Heard::Somebody));
    assert_eq!(soon(ear.next()).await, mail("s"));
    let mut admin = server.admin().await;
    let cut: i64 = raw(&mut admin, &["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    assert_eq!(cut, 1);
    assert_eq!(soon(ear.next()).await, News::Missed);
}

#[tokio::test]
async fn who_does_not_read_is_told_that_it_missed_some() {
    let server = Server::new();
    let mut settings = server.settings("one");
    settings.unread_max = 3;
    let node = connected(settings).await;
    let mut ear = node.listen().expect("there is room");
    assert_eq!(soon(ear.next()).await, News::Missed);
    let mut other = node.listen().expect("there is room");
    assert_eq!(soon(other.next()).await, News::Missed);
    for place in 0..4 {
        node.tell("one", &mail(&place.to_string())).await.expect("it is there");
        // The other one has heard it, so it has arrived.
        assert_eq!(soon(other.next()).await, mail(&place.to_string()));
    }
    assert_eq!(soon(ear.next()).await, News::Missed);
    node.tell("one", &mail("last")).await.expect("it is there");
    assert_eq!(soon(ear.next()).await, mail("last"));
}

#[tokio::test]
async fn nothing_is_listened_to_for_nobody() {
    let server = Server::new();
    let node = server.node("one").await;
    let mut ear = node.listen().expect("there is room");
    assert_eq!(soon(ear.next()).await, News::Missed);
    drop(ear);
    soon(async {
        while node.tell("one", &mail("s")).await == Ok(Heard::Somebody) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut again = node.listen().expect("there is room");
    assert_eq!(soon(again.next()).await, News::Missed);
    assert_eq!(node.tell("one", &mail("s")).await, Ok(Heard::Somebody));
}

#[tokio::test]
async fn what_can_not_be_read_is_passed_over() {
    let server = Server::new();
    let (node, mut admin) = (server.node("one").await, server.admin().await);
    let mut ear = node.listen().expect("there is room");
    assert_eq!(soon(ear.next()).await, News::Missed);
    let channel = "turnkeep:home:node:one";
    let mut odd = redis::cmd("PUBLISH");
    let heard: i64 = odd
        .arg(channel)
        .arg(&[0xff_u8, 0xfe][..])
        .query_async(&mut admin)
        .await
        .expect("Redis does it");
    assert_eq!(heard, 1);
    let _: i64 = raw(&mut admin, &["PUBLISH", channel, "what is that?"]).await;
    let _: i64 = raw(&mut admin, &["PUBLISH", channel, "mail s"]).await;
    assert_eq!(soon(ear.next()).await, mail("s"));
    assert_eq!(node.health().counts.unreadable, 2);
}
