//! Who this node is, and what the database has told it that it keeps: what the gate asks for.
//!
//! A database that was put back to an older state under a node that works may know that node still,
//! by its epoch and its token. So the node says besides how far the database was when it answered
//! last. Of its own beats nobody else moves the number, so one that is smaller tells it for certain,
//! whoever has written since; they come once a second. What went back by less than that, as with a
//! standby that lagged, the end of the journal tells, unless others have written as much meanwhile;
//! then it is the versions of sessions that refuse what was made of the lost ones.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

use deadpool_postgres::Transaction;
use tokio_postgres::types::ToSql;
use turnkeep_core::Epoch;
use uuid::Uuid;

use super::trouble::Result;

/// The gate, and the fence: whoever is through is the only one until its transaction has ended.
pub(super) const ENTER: &str = "SELECT enter_2($1, $2, $3, $4)";

/// Who we are, as the gate asks for it: the epoch that we drew, and a number that nobody else
/// has, not even who draws the same epoch from a database that was restored.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    pub(super) epoch: Epoch,
    pub(super) token: Uuid,
    kept: Arc<Kept>,
}

/// What the database has told us that it keeps. It only grows.
#[derive(Debug, Default)]
struct Kept {
    beat: AtomicI64,
    place: AtomicI64,
}

/// What the gate is asked with, once.
pub(super) struct Pass {
    epoch: i64,
    token: Uuid,
    beat: i64,
    place: i64,
}

impl Pass {
    /// In the order of [`ENTER`].
    pub(super) fn values(&self) -> [&(dyn ToSql + Sync); 4] {
        [&self.epoch, &self.token, &self.beat, &self.place]
    }
}

/// Why a node takes no part any more, which is for ever: it has to be started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Out {
    /// It gave no sign, or one of its name came.
    ByOthers,
    /// The database doesn't have what this node was told that it keeps.
    WentBack,
}

impl Out {
    /// What the store says of itself then.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::ByOthers => "this node was put out of the cluster: it has to be started again",
            Self::WentBack => {
                "the database was put back to an older state under this node: it has to be started \
                 again"
            }
        }
    }
}

impl Gate {
    pub(super) fn new(epoch: Epoch, token: Uuid) -> Self {
        Self { epoch, token, kept: Arc::default() }
    }

    /// What it is asked with now.
    pub(super) fn pass(&self) -> Pass {
        Pass {
            epoch: self.epoch.0.cast_signed(),
            token: self.token,
            beat: self.kept.beat.load(Acquire),
            place: self.kept.place.load(Acquire),
        }
    }

    /// Up to where the database keeps the journal, as far as this node was told.
    pub(super) fn place(&self) -> i64 {
        self.kept.place.load(Acquire)
    }

    /// Notes that the database keeps the journal up to this place.
    pub(super) fn keeps(&self, place: i64) {
        self.kept.place.fetch_max(place, AcqRel);
    }

    /// Notes the beat that was written; whether it came behind the last one, as it does in a
    /// database that has not gone back.
    pub(super) fn beats(&self, beat: i64) -> bool {
        self.kept.beat.fetch_max(beat, AcqRel) < beat
    }

    /// Takes a turn among all writers of the cluster until the transaction ends, and fails where
    /// this node is out.
    pub(super) async fn enter(&self, transaction: &Transaction<'_>) -> Result<()> {
        let enter = transaction.prepare_cached(ENTER).await?;
        transaction.execute(&enter, &self.pass().values()).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_that_comes_again_is_one_of_the_past() {
        let gate = Gate::new(Epoch(1), Uuid::nil());
        assert!(gate.beats(1) && gate.beats(2));
        // One whose answer was lost was written all the same.
        assert!(gate.beats(4));
        for past in [1, 3, 4] {
            assert!(!gate.beats(past), "{past}");
        }
        assert_eq!(gate.pass().beat, 4, "what is past is not what the database has to have");
    }

    #[test]
    fn the_journal_never_ends_sooner() {
        let gate = Gate::new(Epoch(1), Uuid::nil());
        gate.keeps(9);
        // A commit that brought nothing for it.
        gate.keeps(0);
        assert_eq!(gate.clone().pass().place, 9, "copies know the same");
    }
}
