//! Sign-ins of several nodes that have one record: what is ended at one of them ends at the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;
use turnkeep_core::Timestamp;
use turnkeep_core::access::{Principal, Scopes, Visit};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::keys::{Added, KeyRow, Keys, Rotated, SecretHash, SignIn};
use turnkeep_core::ports::store::StoreError;
use turnkeep_gateway::access::{Access, NewKey};
use turnkeep_stores::MemoryStore;

type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// A record that counts its changes, as one does that several nodes have open.
#[derive(Default)]
struct Record {
    store: MemoryStore,
    changes: AtomicU64,
}

impl Record {
    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }
}

impl Keys for Record {
    fn keys(&self) -> Answer<'_, Vec<KeyRow>> {
        self.store.keys()
    }

    fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    fn add_key(&self, row: KeyRow) -> Answer<'_, Added> {
        self.changed();
        self.store.add_key(row)
    }

    fn revoke_key(&self, id: &str, at: Timestamp) -> Answer<'_, bool> {
        let revoked = self.store.revoke_key(id, at);
        self.changed();
        revoked
    }

    fn rotate_key(
        &self,
        id: &str,
        row: KeyRow,
        old_ends: Timestamp,
        now: Timestamp,
    ) -> Answer<'_, Rotated> {
        self.store.rotate_key(id, row, old_ends, now)
    }

    fn forget_key(&self, id: &str, now: Timestamp) -> Answer<'_, bool> {
        let forgotten = self.store.forget_key(id, now);
        self.changed();
        forgotten
    }

    fn add_code(&self, code: SignIn, now: Timestamp) -> Answer<'_, Added> {
        self.store.add_code(code, now)
    }

    fn redeem_code(
        &self,
        code: SecretHash,
        cookie: SecretHash,
        until: Timestamp,
        now: Timestamp,
    ) -> Answer<'_, Option<SignIn>> {
        self.store.redeem_code(code, cookie, until, now)
    }

    fn visit(&self, cookie: SecretHash, now: Timestamp) -> Answer<'_, Option<SignIn>> {
        self.store.visit(cookie, now)
    }

    fn end_visit(&self, cookie: SecretHash) -> Answer<'_, bool> {
        let ended = self.store.end_visit(cookie);
        self.changed();
        ended
    }

    fn end_visits(&self, tenant: &str, customer: &str) -> Answer<'_, usize> {
        self.store.end_visits(tenant, customer)
    }

    fn forget_sign_ins(&self, now: Timestamp, limit: usize) -> Answer<'_, usize> {
        self.store.forget_sign_ins(now, limit)
    }
}

/// Two nodes; the second one looks what the first one changed.
async fn nodes() -> (Arc<Record>, Access, Access) {
    let record = Arc::<Record>::default();
    let open = async || Access::open(record.clone(), false).await.unwrap();
    let (one, two) = (open().await, open().await);
    let tending = two.clone();
    tokio::spawn(async move { tending.tend(CancellationToken::new()).await });
    (record, one, two)
}

async fn signed_in(access: &Access, who: &Principal) -> String {
    let visit = Visit { tenant: "acme".into(), customer: "ann".into(), agent: None };
    let code = access.invite(who, visit).await.unwrap().code;
    access.sign_in(&code, None).await.unwrap().unwrap().cookie
}

#[tokio::test(start_paused = true)]
async fn who_signs_out_at_one_node_is_out_at_the_others() {
    let (_record, one, two) = nodes().await;
    let cookie = signed_in(&one, &Principal::operator()).await;
    let other = signed_in(&one, &Principal::operator()).await;
    let streams = two.with_cookie(&cookie, None).await.unwrap().unwrap();
    let stays = two.with_cookie(&other, None).await.unwrap().unwrap();
    one.sign_out(&cookie, None).await.unwrap();
    streams.ended.cancelled().await;
    assert!(two.with_cookie(&cookie, None).await.unwrap().is_none());
    assert!(two.with_cookie(&other, None).await.unwrap().is_some());
    assert!(!stays.ended.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn what_a_key_made_ends_everywhere_with_it_and_it_leaves_every_list() {
    let (_record, one, two) = nodes().await;
    let operator = Principal::operator();
    let scopes: Scopes = "send".parse().unwrap();
    let new = NewKey { tenant: Some("acme".into()), scopes, label: None, lasts: None };
    let made = one.create(&operator, new).await.unwrap();
    let bearer = one.with_key(&made.text, None).unwrap().unwrap();
    let cookie = signed_in(&one, &bearer.principal).await;
    let visitor = two.with_cookie(&cookie, None).await.unwrap().unwrap();
    one.revoke(&operator, &made.key.id).await.unwrap();
    visitor.ended.cancelled().await;
    assert!(two.with_cookie(&cookie, None).await.unwrap().is_none());
    one.forget(&operator, &made.key.id).await.unwrap();
    while !two.list(&operator, None, 9).unwrap().is_empty() {
        tokio::time::advance(std::time::Duration::from_millis(100)).await;
    }
}
