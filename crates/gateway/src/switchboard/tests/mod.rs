//! The switchboard under many hands at once: real threads over a long time, and every kind of
//! schedule over a short one.

mod crew;
mod dropped;
mod explore;
mod threads;
mod writing;

use std::sync::Arc;

use turnkeep_core::switchboard::Limits;
use turnkeep_core::{SessionKey, SessionKind};

use super::lock::Guarded;
use super::shared::{Boards, Shared};

const TENANT: &str = "t";

fn key(peer: &str) -> SessionKey {
    SessionKey::new(TENANT, "a", "terminal", SessionKind::Main, peer).unwrap()
}

fn boards<L: Guarded<Boards>>() -> Arc<Shared<L>> {
    Arc::new(Shared::new(Limits { sessions_max: 100_000, hibernate_after_ms: 10 }, super::id_of))
}

#[test]
fn a_short_name_is_the_beginning_of_a_hash() {
    assert_eq!(super::id_of(&key("x")).to_string().len(), 12);
    let same = super::id_of(&key("x")) == super::id_of(&key("x"));
    assert!(same && super::id_of(&key("x")) != super::id_of(&key("y")));
}

#[test]
fn tenants_do_not_see_each_other() {
    let shared = boards::<super::OneLock<Boards>>();
    let strange = SessionKey::new("a:b", "a", "api", SessionKind::Dm, "x").unwrap();
    for (tenant, key) in [(TENANT, key("x")), ("a:b", strange)] {
        let made = shared.wanted(tenant, |board| board.create(&key, None, 1));
        assert_eq!(made.unwrap().0.unwrap().unwrap().number, 1, "{tenant}");
    }
    assert_eq!(shared.list("a:b").iter().count(), 1);
    assert_eq!(shared.list("a").iter().count() + shared.list("nobody").iter().count(), 0);
    assert_eq!(shared.tenants().len(), 2, "whoever only asks makes no board");
    assert!(shared.read("a%3Ab", |_| ()).is_none());
}

#[test]
fn whoever_panics_under_the_lock_keeps_nobody_out() {
    let shared = boards::<super::OneLock<Boards>>();
    let make =
        |peer: &str| shared.wanted(TENANT, |board| board.create(&key(peer), None, 1).is_ok());
    assert!(make("x").is_some());
    let (before, _) = shared.since(TENANT, None, None);
    let broken = std::panic::AssertUnwindSafe(|| {
        shared.read(TENANT, |_| panic!("in the middle of it"));
    });
    assert!(std::panic::catch_unwind(broken).is_err());
    // What it shows was made anew, so whoever watches is told everything once more; and only once.
    let (after, _) = shared.since(TENANT, Some(before.version), None);
    assert!(after.whole && after.rows == before.rows);
    assert!(!shared.since(TENANT, Some(after.version), None).0.whole);
    assert!(make("y").is_some());
    crew::is_whole(&shared);
}
