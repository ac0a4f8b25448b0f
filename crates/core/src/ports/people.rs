//! Where it stands who became known by a one-time code. Who is known is asked of memory, for every
//! message; this is the record, read at boot and after every change. Codes never get here, only
//! their hashes.

use std::sync::Arc;

use super::BoxFuture;
use super::keys::{Added, SecretHash};
use super::store::StoreError;
use crate::ids::Timestamp;
use crate::policy::Trust;

/// Pairings that a store holds at most, those that wait included.
pub const PAIRINGS_MAX: usize = 10_000;
/// Codes that wait to be used, at most.
pub const CODES_WAITING_MAX: usize = 100;

/// Leave for one person to become known, and who took it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairing {
    /// Names it; no secret.
    pub id: Arc<str>,
    /// Where they are known.
    pub tenant: Arc<str>,
    /// As whom they are known.
    pub user: Arc<str>,
    /// How far they are trusted, where the configuration says nothing of this user.
    pub trust: Trust,
    /// When it was made.
    pub made_at: Timestamp,
    /// The code counts until then.
    pub until: Timestamp,
    /// What the code hashes to. It stays until its time is over, so that whoever used it and is
    /// heard twice is no stranger the second time.
    pub code: Option<SecretHash>,
    /// Who took it; nobody while it waits.
    pub with: Option<PairedWith>,
}

impl Pairing {
    /// Somebody may still take it.
    #[must_use]
    pub const fn waits(&self, now: Timestamp) -> bool {
        self.with.is_none() && self.until > now
    }
}

/// Somebody who showed the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairedWith {
    /// The channel they wrote on.
    pub channel: Arc<str>,
    /// Its lasting name of them.
    pub person: Arc<str>,
    /// When.
    pub at: Timestamp,
}

/// The record of pairings. Every change is answered once it is durable.
pub trait People: Send + Sync + 'static {
    /// All of them, in the order in which they were made; at most [`PAIRINGS_MAX`].
    fn pairings(&self) -> BoxFuture<'_, Result<Vec<Pairing>, StoreError>>;

    /// Records one that waits; `now` tells which of the others still do.
    fn add_pairing(
        &self,
        pairing: Pairing,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Added, StoreError>>;

    /// Takes the pairing of a code, so a code is used once. Whoever was paired there before is
    /// known by this one from now on. Asked again for the same person, it gives the same; none for
    /// anybody else, and where no code counts any more.
    fn pair(
        &self,
        code: SecretHash,
        with: PairedWith,
    ) -> BoxFuture<'_, Result<Option<Pairing>, StoreError>>;

    /// Ends one; says whether there was one.
    fn end_pairing(&self, id: &str) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Ends those of a customer, by the user's name or by the channel's; says how many.
    fn end_pairings(
        &self,
        tenant: &str,
        customer: &str,
    ) -> BoxFuture<'_, Result<usize, StoreError>>;

    /// Forgets codes whose time is over, at most `limit`, with the pairings that nobody took; says
    /// how many.
    fn forget_codes(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<usize, StoreError>>;
}
