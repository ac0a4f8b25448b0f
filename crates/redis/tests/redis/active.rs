//! The index of active turns.

use turnkeep_redis::{Active, Held, Trouble};

use crate::kit::{Server, raw};

const KEY: &str = "turnkeep:{t:a:web:dm:p}:turn";
const SESSION: &str = "t:a:web:dm:p";

fn by(epoch: u64, turn: &str, node: &str) -> Active {
    Active { epoch, turn: turn.to_owned(), node: node.to_owned() }
}

#[tokio::test]
async fn only_who_holds_an_entry_clears_it() {
    let server = Server::new();
    let (one, two) = (server.node("one").await, server.node("two").await);
    let (old, new) = (by(1, "t1", "one"), by(2, "t1", "two"));
    assert_eq!(one.active(SESSION).await, Ok(None));
    assert_eq!(one.hold(SESSION, &old).await, Ok(Held::Ours));
    assert_eq!(two.active(SESSION).await, Ok(Some(old.clone())));
    assert_eq!(two.hold(SESSION, &new).await, Ok(Held::Ours), "a takeover");
    assert_eq!(one.release(SESSION, &old).await, Ok(false), "it comes too late");
    assert_eq!(one.hold(SESSION, &old).await, Ok(Held::Other(new.clone())));
    assert_eq!(one.active(SESSION).await, Ok(Some(new.clone())));
    assert_eq!(two.release(SESSION, &new).await, Ok(true));
    assert_eq!(two.release(SESSION, &new).await, Ok(false));
    assert_eq!(one.active(SESSION).await, Ok(None));
}

#[tokio::test]
async fn of_one_epoch_there_is_one_node_and_its_turns_follow_each_other() {
    let server = Server::new();
    let node = server.node("one").await;
    assert_eq!(node.hold(SESSION, &by(5, "t1", "one")).await, Ok(Held::Ours));
    let other = node.hold(SESSION, &by(5, "t1", "two")).await;
    assert_eq!(other, Ok(Held::Other(by(5, "t1", "one"))));
    assert_eq!(node.hold(SESSION, &by(5, "t2", "one")).await, Ok(Held::Ours));
    assert_eq!(node.release(SESSION, &by(5, "t1", "one")).await, Ok(false));
    assert_eq!(node.active(SESSION).await, Ok(Some(by(5, "t2", "one"))));
}

#[tokio::test]
async fn the_greatest_epochs_are_told_apart() {
    let server = Server::new();
    let node = server.node("one").await;
    for high in [1 << 53, u64::MAX - 1] {
        let (old, new) = (by(high, "t", "one"), by(high + 1, "t", "two"));
        assert_eq!(node.hold(SESSION, &new).await, Ok(Held::Ours));
        assert_eq!(node.hold(SESSION, &old).await, Ok(Held::Other(new)));
    }
}

#[tokio::test]
async fn an_entry_goes_by_itself_unless_it_is_held_again() {
    let server = Server::new();
    let (node, mut admin) = (server.node("one").await, server.admin().await);
    let mine = by(1, "t", "one");
    assert_eq!(node.hold(SESSION, &mine).await, Ok(Held::Ours));
    let left: i64 = raw(&mut admin, &["PTTL", KEY]).await;
    assert!(left > 0 && left <= 15_000, "{left}");
    let _: i64 = raw(&mut admin, &["PERSIST", KEY]).await;
    assert_eq!(node.hold(SESSION, &mine).await, Ok(Held::Ours));
    let left: i64 = raw(&mut admin, &["PTTL", KEY]).await;
    assert!(left > 0, "{left}");
    let _: i64 = raw(&mut admin, &["DEL", KEY]).await;
    assert_eq!(node.release(SESSION, &mine).await, Ok(false));
    assert_eq!(node.hold(SESSION, &mine).await, Ok(Held::Ours));
}

#[tokio::test]
async fn what_somebody_else_wrote_stays_and_is_told() {
    let server = Server::new();
    let (node, mut admin) = (server.node("one").await, server.admin().await);
    let mine = by(1, "t", "one");
    let _: i64 = raw(&mut admin, &["RPUSH", KEY, "x"]).await;
    assert_eq!(node.active(SESSION).await, Ok(None));
    assert_eq!(node.release(SESSION, &mine).await, Ok(false));
    let kind: String = raw(&mut admin, &["TYPE", KEY]).await;
    assert_eq!(kind, "list");
    assert!(!node.health().strange, "nobody wanted to write there yet");
    assert_eq!(node.hold(SESSION, &mine).await, Err(Trouble::NotOurs));
    let kind: String = raw(&mut admin, &["TYPE", KEY]).await;
    assert_eq!(kind, "list");
    let _: String = raw(&mut admin, &["SET", KEY, "99 something"]).await;
    assert_eq!(node.active(SESSION).await, Ok(None));
    assert_eq!(node.hold(SESSION, &mine).await, Err(Trouble::NotOurs));
    let kept: String = raw(&mut admin, &["GET", KEY]).await;
    assert_eq!(kept, "99 something");
    let health = node.health();
    assert_eq!((health.counts.foreign, health.strange), (2, true));
    assert!(health.is_up(), "everything else goes on");
    let _: i64 = raw(&mut admin, &["DEL", KEY]).await;
    assert_eq!(node.hold(SESSION, &mine).await, Ok(Held::Ours));
}

#[tokio::test]
async fn names_that_would_not_be_read_again_are_refused() {
    let server = Server::new();
    let node = server.node("one").await;
    for odd in [by(1, "a b", "one"), by(1, "", "one"), by(1, "t", "o\nne")] {
        assert!(node.hold(SESSION, &odd).await.is_err());
    }
    assert_eq!(node.active(SESSION).await, Ok(None));
    assert!(node.active(&"s".repeat(3000)).await.is_err());
}
