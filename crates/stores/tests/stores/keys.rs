//! The record of keys and sign-ins.

use std::sync::Arc;

use turnkeep_core::Timestamp;
use turnkeep_core::access::{Key, Visit};
use turnkeep_core::ports::keys::{
    Added, CODES_MAX, KEYS_MAX, KeyRow, Keys, Rotated, SignIn, VISITS_MAX,
};

use crate::fixture::{DAY_MS, Home, NOW};

const END: Timestamp = NOW + DAY_MS;

fn row(id: &str, tenant: Option<&str>, scopes: &str) -> KeyRow {
    let key = Key {
        id: id.into(),
        tenant: tenant.map(Arc::from),
        scopes: scopes.parse().unwrap(),
        label: None,
        created_at: NOW,
        expires_at: None,
        revoked_at: None,
    };
    KeyRow { key, secret: [7; 32] }
}

fn sign_in(secret: u8, customer: &str, made_by: Option<&str>) -> SignIn {
    let visit = Visit { tenant: "acme".into(), customer: customer.into(), agent: None };
    SignIn { secret: [secret; 32], visit, made_by: made_by.map(Arc::from), until: END }
}

async fn listed(store: &impl Keys) -> Vec<Key> {
    store.keys().await.unwrap().into_iter().map(|row| row.key).collect()
}

pub(crate) async fn a_key_is_kept_as_it_was_made<H: Home>(home: &H) {
    let mut first = row("first", Some("a: 100 %"), "send,read");
    first.key.label = Some("für die Kasse".into());
    first.key.expires_at = Some(END);
    first.secret = [9; 32];
    let mut early = row("zz", None, "admin");
    early.key.created_at = NOW - 1;
    {
        let store = home.open();
        assert_eq!(store.add_key(first.clone()).await, Ok(Added::Done));
        assert_eq!(store.add_key(early.clone()).await, Ok(Added::Done));
        let twin = row("first", None, "admin");
        assert_eq!(store.add_key(twin).await, Ok(Added::Taken));
    }
    assert_eq!(home.open().keys().await.unwrap(), [early, first]);
}

pub(crate) async fn keys_have_a_limit<H: Home>(home: &H) {
    let store = home.open();
    let mut added = Vec::with_capacity(KEYS_MAX);
    for number in 0..KEYS_MAX {
        added.push(store.add_key(row(&format!("k{number}"), Some("acme"), "read")));
    }
    for adding in added {
        assert_eq!(adding.await, Ok(Added::Done));
    }
    assert_eq!(store.add_key(row("more", None, "read")).await, Ok(Added::Full));
    let rotated = store.rotate_key("k1", row("more", None, "read"), NOW, NOW).await;
    assert_eq!(rotated, Ok(Rotated::Full));
    // An ended one makes room.
    assert_eq!(store.revoke_key("k2", NOW).await, Ok(true));
    assert_eq!(store.forget_key("k2", NOW).await, Ok(true));
    assert_eq!(store.add_key(row("more", None, "read")).await, Ok(Added::Done));
}

pub(crate) async fn a_revoked_key_takes_its_visits_along<H: Home>(home: &H) {
    {
        let store = home.open();
        store.add_key(row("k", Some("acme"), "send")).await.unwrap();
        store.add_code(sign_in(1, "ann", Some("k")), NOW).await.unwrap();
        store.add_code(sign_in(2, "ann", Some("other")), NOW).await.unwrap();
        store.add_code(sign_in(3, "ann", Some("k")), NOW).await.unwrap();
        store.redeem_code([3; 32], [30; 32], END, NOW).await.unwrap().unwrap();
        assert_eq!(store.revoke_key("nobody", NOW).await, Ok(false));
        assert_eq!(store.revoke_key("k", NOW).await, Ok(true));
        assert_eq!(store.revoke_key("k", NOW + 5).await, Ok(true));
    }
    let store = home.open();
    assert_eq!(listed(&store).await[0].revoked_at, Some(NOW), "the first time counts");
    assert_eq!(store.visit([30; 32], NOW).await, Ok(None));
    assert_eq!(store.redeem_code([1; 32], [10; 32], END, NOW).await, Ok(None));
    assert!(store.redeem_code([2; 32], [20; 32], END, NOW).await.unwrap().is_some());
}

pub(crate) async fn a_key_is_replaced_whole_or_not_at_all<H: Home>(home: &H) {
    let store = home.open();
    store.add_key(row("a", Some("acme"), "send")).await.unwrap();
    store.add_key(row("b", Some("acme"), "send")).await.unwrap();
    let rotate = |id: &'static str, new: &str, ends| {
        store.rotate_key(id, row(new, Some("acme"), "send"), ends, NOW)
    };
    let ends = async |id: &str| {
        let keys = listed(&store).await;
        keys.into_iter().find(|key| &*key.id == id).unwrap().expires_at
    };
    assert_eq!(rotate("a", "b", END).await, Ok(Rotated::Taken));
    assert_eq!(ends("a").await, None, "nothing changed");
    assert_eq!(rotate("a", "a2", END).await, Ok(Rotated::Done));
    assert_eq!((ends("a").await, ends("a2").await), (Some(END), None));
    // A second one can only bring the end nearer.
    assert_eq!(rotate("a", "a3", END + 1).await, Ok(Rotated::Done));
    assert_eq!(ends("a").await, Some(END));
    assert_eq!(rotate("a", "a4", NOW).await, Ok(Rotated::Done));
    assert_eq!(ends("a").await, Some(NOW));
    assert_eq!(rotate("a", "a5", NOW).await, Ok(Rotated::Ended));
    store.revoke_key("b", NOW).await.unwrap();
    assert_eq!(rotate("b", "b2", NOW).await, Ok(Rotated::Ended));
    assert_eq!(rotate("nobody", "c", NOW).await, Ok(Rotated::Ended));
    assert_eq!(listed(&store).await.len(), 5);
}

pub(crate) async fn only_ended_keys_are_forgotten<H: Home>(home: &H) {
    let store = home.open();
    let mut timed = row("timed", None, "read");
    timed.key.expires_at = Some(END);
    store.add_key(timed).await.unwrap();
    store.add_key(row("open", None, "read")).await.unwrap();
    for id in ["timed", "open", "nobody"] {
        assert_eq!(store.forget_key(id, END - 1).await, Ok(false), "{id}");
    }
    assert_eq!(store.forget_key("timed", END).await, Ok(true));
    store.revoke_key("open", NOW).await.unwrap();
    assert_eq!(store.forget_key("open", NOW).await, Ok(true));
    assert_eq!(listed(&store).await, []);
}

pub(crate) async fn a_code_is_used_once<H: Home>(home: &H) {
    {
        let store = home.open();
        assert_eq!(store.add_code(sign_in(1, "ann", Some("k")), NOW).await, Ok(Added::Done));
        assert_eq!(store.add_code(sign_in(1, "bob", None), NOW).await, Ok(Added::Taken));
    }
    let store = home.open();
    // Of many at one moment only one gets in.
    let tries = (10..26).map(|cookie| store.redeem_code([1; 32], [cookie; 32], END + 1, NOW));
    let mut let_in = Vec::new();
    for redeemed in tries.collect::<Vec<_>>() {
        let_in.extend(redeemed.await.unwrap());
    }
    let [visit] = &let_in[..] else { panic!("{let_in:?}") };
    let expect = SignIn { secret: visit.secret, until: END + 1, ..sign_in(1, "ann", Some("k")) };
    assert_eq!(*visit, expect);
    assert_eq!(store.visit(visit.secret, END).await, Ok(Some(expect)));
    assert_eq!(store.visit(visit.secret, END + 1).await, Ok(None), "its time is over");
    assert_eq!(store.visit([1; 32], NOW).await, Ok(None), "a code is no cookie");
    assert_eq!(store.end_visit(visit.secret).await, Ok(true));
    assert_eq!(store.end_visit(visit.secret).await, Ok(false));
    assert_eq!(store.visit(visit.secret, NOW).await, Ok(None));
}

pub(crate) async fn codes_end_and_have_a_limit<H: Home>(home: &H) {
    let store = home.open();
    store.add_code(sign_in(1, "ann", None), NOW).await.unwrap();
    assert_eq!(store.redeem_code([1; 32], [2; 32], END, END).await, Ok(None), "it is too late");
    let mut adding = Vec::with_capacity(CODES_MAX);
    for number in 1..CODES_MAX {
        let mut code = sign_in(0, "ann", None);
        code.secret[..8].copy_from_slice(&number.to_le_bytes());
        adding.push(store.add_code(code, NOW));
    }
    for added in adding {
        assert_eq!(added.await, Ok(Added::Done));
    }
    assert_eq!(store.add_code(sign_in(3, "ann", None), NOW).await, Ok(Added::Full));
    let mut other = sign_in(3, "ann", None);
    other.visit.tenant = "other".into();
    assert_eq!(store.add_code(other, NOW).await, Ok(Added::Done), "each tenant for itself");
    assert_eq!(store.add_code(sign_in(4, "ann", None), END).await, Ok(Added::Done), "time passed");
}

pub(crate) async fn a_customer_has_so_many_visits<H: Home>(home: &H) {
    let store = home.open();
    let visits = u8::try_from(VISITS_MAX).unwrap() + 1;
    for number in 1..=visits {
        store.add_code(sign_in(number, "ann", None), NOW).await.unwrap();
        let until = END + Timestamp::from(number);
        store.redeem_code([number; 32], [100 + number; 32], until, NOW).await.unwrap().unwrap();
    }
    assert_eq!(store.visit([101; 32], NOW).await, Ok(None), "the oldest made room");
    for number in 2..=visits {
        assert!(store.visit([100 + number; 32], NOW).await.unwrap().is_some(), "{number}");
    }
    store.add_code(sign_in(99, "ann", None), NOW).await.unwrap();
    assert_eq!(store.end_visits("acme", "bob").await, Ok(0));
    assert_eq!(store.end_visits("acme", "ann").await, Ok(VISITS_MAX + 1));
    assert_eq!(store.visit([102; 32], NOW).await, Ok(None));
}

pub(crate) async fn ended_sign_ins_are_forgotten_in_steps<H: Home>(home: &H) {
    let store = home.open();
    for number in 1..=5 {
        store.add_code(sign_in(number, "ann", None), NOW).await.unwrap();
    }
    store.redeem_code([5; 32], [50; 32], END + DAY_MS, NOW).await.unwrap();
    assert_eq!(store.forget_sign_ins(END, 100).await, Ok(0));
    assert_eq!(store.forget_sign_ins(END + 1, 3).await, Ok(3));
    assert_eq!(store.forget_sign_ins(END + 1, 3).await, Ok(1));
    assert!(store.visit([50; 32], END + 1).await.unwrap().is_some());
    assert_eq!(store.forget_sign_ins(END + 2 * DAY_MS, 3).await, Ok(1));
}
