//! Where keys and sign-ins live. Whether a key opens is asked of memory, for every request; this is
//! the record, read at boot and after every change. Secrets never get here, only their hashes.

use super::BoxFuture;
use super::store::StoreError;
use crate::access::{Key, Visit};
use crate::ids::Timestamp;

/// Keys that a store holds at most, ended ones included.
pub const KEYS_MAX: usize = 10_000;
/// Codes of one tenant that wait to be used, at most.
pub const CODES_MAX: usize = 10_000;
/// Visits of one customer at a time; one more ends the oldest.
pub const VISITS_MAX: usize = 20;

/// What is kept of a secret: its SHA-256.
pub type SecretHash = [u8; 32];

/// A key as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// All but the secret.
    pub key: Key,
    /// What the secret hashes to.
    pub secret: SecretHash,
}

/// Leave to sign in or to stay signed in, as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignIn {
    /// What the code or the cookie hashes to.
    pub secret: SecretHash,
    /// Whom it makes its bearer.
    pub visit: Visit,
    /// The key that asked for it; none for the operator without a key.
    pub made_by: Option<std::sync::Arc<str>>,
    /// It ends then.
    pub until: Timestamp,
}

/// Whether something was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is, durably.
    Done,
    /// There are too many; nothing changed.
    Full,
    /// There is one under this name; nothing changed.
    Taken,
}

/// What became of a key that was to be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotated {
    /// The new one is recorded, and the old one ends when it was told to, both or neither.
    Done,
    /// There are too many; nothing changed.
    Full,
    /// There is one under the new name; nothing changed.
    Taken,
    /// There is no such key, or it has ended; nothing changed.
    Ended,
}

/// The record of keys and sign-ins. Every change is answered once it is durable.
pub trait Keys: Send + Sync + 'static {
    /// All of them, in the order in which they were made; at most [`KEYS_MAX`].
    fn keys(&self) -> BoxFuture<'_, Result<Vec<KeyRow>, StoreError>>;

    /// Moves when whoever else has the record open changed it, as far as it is known now.
    fn changes(&self) -> u64 {
        0
    }

    /// Records a key.
    fn add_key(&self, row: KeyRow) -> BoxFuture<'_, Result<Added, StoreError>>;

    /// Ends a key, and every code and visit that it asked for: who had it may have made them.
    /// False if there is no such key; one that was ended before keeps its time.
    fn revoke_key(&self, id: &str, at: Timestamp) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Puts a new key in the place of an old one, which ends at `old_ends` unless it ends sooner.
    /// `now` tells whether the old one has ended already.
    fn rotate_key(
        &self,
        id: &str,
        row: KeyRow,
        old_ends: Timestamp,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Rotated, StoreError>>;

    /// Removes a key from the record if it has ended by `now`; says whether it did.
    fn forget_key(&self, id: &str, now: Timestamp) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Records a code; `now` tells which of the others still count.
    fn add_code(&self, code: SignIn, now: Timestamp) -> BoxFuture<'_, Result<Added, StoreError>>;

    /// Takes a code away and puts a visit of the same customer, that ends at `until`, in its place:
    /// both or neither, so a code is used once. None if there is no such code any more.
    fn redeem_code(
        &self,
        code: SecretHash,
        cookie: SecretHash,
        until: Timestamp,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Option<SignIn>, StoreError>>;

    /// The visit of a cookie, if it lasts at `now`.
    fn visit(
        &self,
        cookie: SecretHash,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Option<SignIn>, StoreError>>;

    /// Ends the visit of a cookie; says whether there was one.
    fn end_visit(&self, cookie: SecretHash) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Ends every code and visit of a customer; says how many.
    fn end_visits(&self, tenant: &str, customer: &str) -> BoxFuture<'_, Result<usize, StoreError>>;

    /// Forgets codes and visits that ended before `now`, at most `limit`; says how many.
    fn forget_sign_ins(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<usize, StoreError>>;
}
