//! Who takes part in the cluster: each node shows that it lives, sees who doesn't any more, and
//! puts those out.
//!
//! Nobody compares clocks. A node moves its own number on once a second; the others hold it for
//! silent while that number stays, by what their own clock says of the rounds in which they
//! themselves could ask. So neither a database that was away for a while nor a node that was
//! stopped itself makes anybody look dead. Who is put out is put out behind the gate: all it wrote
//! was committed before or is refused for ever, however late it wakes up.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_postgres::{Client, Statement};
use turnkeep_core::Epoch;
use turnkeep_core::ports::store::StoreError;

use super::ask::{row, run};
use super::trouble::{Class, Result, Trouble};
use super::{PostgresStore, Shared};

/// How often a node shows that it lives.
const BEAT: Duration = Duration::from_secs(1);
/// The longest that one round may take.
const ROUND: Duration = Duration::from_secs(5);
/// The most that one round counts as silence of others: what came between may have been our own.
const COUNTED: Duration = Duration::from_secs(2);
/// What the store says of itself once it was put out.
pub(super) const OUT: &str = "this node was put out of the cluster: it has to be started again";
/// Nodes that left so long ago are forgotten.
const FORGET: &str = "WITH old AS (DELETE FROM nodes WHERE gone_at < now() - interval '30 days'
                      RETURNING epoch) DELETE FROM epochs WHERE node IN (SELECT epoch FROM old)";

/// What this node knows of the cluster.
#[derive(Debug)]
pub(super) struct Nodes {
    others: Mutex<BTreeMap<Epoch, Other>>,
    marks: Mutex<BTreeMap<String, u64>>,
    out: watch::Sender<bool>,
    left: AtomicBool,
}

/// Another node that takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// What it is called.
    pub name: String,
    /// Its program's version.
    pub version: String,
    /// For how long it gave no sign, by our own clock.
    pub silent: Duration,
    beat: i64,
}

impl Default for Nodes {
    fn default() -> Self {
        let (others, marks) = Default::default();
        Self { others, marks, out: watch::Sender::new(false), left: AtomicBool::new(false) }
    }
}

impl Nodes {
    /// Whether this node was put out.
    pub(super) fn is_out(&self) -> bool {
        *self.out.borrow()
    }

    /// Notes that this node was put out, for ever.
    pub(super) fn fence(&self) {
        // Who left isn't there any more either, but that is as it should be.
        if !self.left.load(Acquire) && !self.out.send_replace(true) {
            tracing::error!("{OUT}");
        }
    }

    /// What was read of the others; gives those back who were silent for too long.
    fn note(&self, read: Vec<(Epoch, Other)>, passed: Duration, most: Duration) -> Vec<Silent> {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *others);
        let mut silent = Vec::new();
        for (epoch, mut other) in read {
            if let Some(before) = before.get(&epoch).filter(|before| before.beat == other.beat) {
                other.silent = before.silent + passed.min(COUNTED);
            }
            if other.silent >= most {
                silent.push(Silent { epoch, beat: other.beat, name: other.name.clone() });
            }
            others.insert(epoch, other);
        }
        silent
    }
}

/// A node that gave no sign for too long.
#[derive(Debug, PartialEq, Eq)]
struct Silent {
    epoch: Epoch,
    beat: i64,
    name: String,
}

/// The connection of the heartbeat: a pool that is full must not look like death.
struct Own {
    client: Client,
    beat: Statement,
    others: Statement,
    marks: Statement,
    put_out: Statement,
}

impl Own {
    async fn connect(shared: &Shared) -> Result<Self> {
        let client = shared.connector.connect().await?;
        let beat = "UPDATE nodes SET beat = beat + 1
                    WHERE epoch = $1 AND token = $2 AND gone_at IS NULL";
        let others = "SELECT epoch, beat, name, version FROM nodes
                      WHERE gone_at IS NULL AND epoch <> $1";
        let put_out = "UPDATE nodes SET gone_at = now(), gone_why = $3
                       WHERE epoch = $1 AND beat = $2 AND gone_at IS NULL";
        Ok(Self {
            beat: client.prepare(beat).await?,
            others: client.prepare(others).await?,
            marks: client.prepare("SELECT name, value FROM marks").await?,
            put_out: client.prepare(put_out).await?,
            client,
        })
    }
}

/// Shows that this node lives, until its store is closed or gone, or it was put out.
pub(super) async fn live(shared: Weak<Shared>) {
    let mut beats = tokio::time::interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut own = None;
    let mut last = Instant::now();
    let mut failing = false;
    loop {
        beats.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        if shared.nodes.left.load(Acquire) || shared.nodes.is_out() {
            return;
        }
        let done = tokio::time::timeout(ROUND, round(&shared, &mut own, &mut last)).await;
        match done.unwrap_or_else(|_| Err(Trouble::Lost("no answer came in time".into()))) {
            Ok(()) => failing = false,
            Err(trouble) => {
                own = None;
                if trouble.class() == Some(Class::Fenced) {
                    shared.nodes.fence();
                } else if !std::mem::replace(&mut failing, true) {
                    let why = trouble.sentence();
                    tracing::warn!(why, "this node can't show that it lives");
                }
            }
        }
    }
}

async fn round(shared: &Shared, own: &mut Option<Own>, last: &mut Instant) -> Result<()> {
    if own.is_none() {
        let made = Own::connect(shared).await?;
        made.client.batch_execute(FORGET).await?;
        *own = Some(made);
    }
    let Some(own) = own else { return Ok(()) };
    let (epoch, token) = (shared.gate.epoch.0.cast_signed(), shared.gate.token);
    if own.client.execute(&own.beat, &[&epoch, &token]).await? == 0 {
        shared.nodes.fence();
        return Ok(());
    }
    let rows = own.client.query(&own.others, &[&epoch]).await?;
    let read = rows.iter().map(|row| {
        let epoch = Epoch(row.try_get::<_, i64>(0)?.cast_unsigned());
        let (beat, name, version) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        Ok((epoch, Other { name, version, silent: Duration::ZERO, beat }))
    });
    let read = read.collect::<Result<Vec<_>>>()?;
    let passed = std::mem::replace(last, Instant::now()).elapsed();
    for silent in shared.nodes.note(read, passed, shared.settings.node_timeout) {
        put_out(shared, own, &silent).await?;
    }
    let rows = own.client.query(&own.marks, &[]).await?;
    let read =
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get::<_, i64>(1)?.cast_unsigned())));
    let read = read.collect::<Result<BTreeMap<String, u64>>>()?;
    *shared.nodes.marks.lock().unwrap_or_else(PoisonError::into_inner) = read;
    Ok(())
}

/// Behind the gate, and only if it still gave no sign.
async fn put_out(shared: &Shared, own: &mut Own, silent: &Silent) -> Result<()> {
    let (epoch, token) = (shared.gate.epoch.0.cast_signed(), shared.gate.token);
    let Silent { epoch: dead, beat, name } = silent;
    let why = format!("it gave no sign, says {}", shared.settings.node);
    let transaction = own.client.transaction().await?;
    transaction.execute("SELECT enter_1($1, $2)", &[&epoch, &token]).await?;
    let gone = transaction.execute(&own.put_out, &[&dead.0.cast_signed(), beat, &why]).await?;
    transaction.commit().await?;
    if gone > 0 {
        tracing::warn!(node = name, epoch = dead.0, "a node gave no sign and was put out");
    }
    Ok(())
}

/// Leaves the cluster: what comes is free for the others at once. Comes last of all writes.
pub(super) async fn leave(shared: &Shared) {
    let (epoch, token) = (shared.gate.epoch.0.cast_signed(), shared.gate.token);
    shared.nodes.left.store(true, Release);
    let leaving = async {
        let client = shared.pool.get().await?;
        let sql = "UPDATE nodes SET gone_at = now(), gone_why = 'it left'
                   WHERE epoch = $1 AND token = $2 AND gone_at IS NULL";
        run(&client, sql, &[&epoch, &token]).await
    };
    match tokio::time::timeout(ROUND, leaving).await {
        Ok(Ok(_)) => {}
        Ok(Err(trouble)) => {
            tracing::warn!(why = trouble.sentence(), "the cluster wasn't told that we leave");
        }
        Err(_) => tracing::warn!("the cluster wasn't told that we leave: it didn't answer"),
    }
}

impl PostgresStore {
    /// Comes back once this node was put out of the cluster, which is for ever: whatever it writes
    /// is refused, and it has to be started again under a new epoch.
    pub async fn put_out(&self) {
        let mut out = self.shared.nodes.out.subscribe();
        // An error would mean that the store is gone, which we hold.
        let _ = out.wait_for(|out| *out).await;
    }

    /// The other nodes of the cluster, as they were seen last.
    #[must_use]
    pub fn others(&self) -> Vec<Other> {
        let others = self.shared.nodes.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.values().cloned().collect()
    }

    /// How often keys, pairings, restrictions, jobs and boards were changed, by whichever node, as
    /// it was seen last: where a number moved, what was read of these is old.
    #[must_use]
    pub fn marks(&self) -> BTreeMap<String, u64> {
        self.shared.nodes.marks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes what only one node of the cluster may have, or keeps it; says whether it is ours. It
    /// stays so until this node leaves or is put out.
    pub async fn lease(&self, name: &str) -> std::result::Result<bool, StoreError> {
        let (gate, name): (_, Arc<str>) = (self.shared.gate, name.into());
        let work = move |epoch: i64| {
            let name = Arc::clone(&name);
            (name, epoch)
        };
        self.change("take a lease", move |tx| {
            let (name, epoch) = work(gate.epoch.0.cast_signed());
            Box::pin(async move {
                let ours = "SELECT 1 FROM leases JOIN nodes USING (epoch)
                            WHERE leases.name = $1 AND epoch = $2 AND token = $3
                            AND gone_at IS NULL";
                if row(tx, ours, &[&&*name, &epoch, &gate.token]).await?.is_some() {
                    return Ok(true);
                }
                gate.enter(tx).await?;
                let take = "INSERT INTO leases AS held (name, epoch) VALUES ($1, $2)
                            ON CONFLICT (name) DO UPDATE
                            SET epoch = excluded.epoch, taken = held.taken + 1
                            WHERE NOT EXISTS (SELECT 1 FROM nodes
                             WHERE nodes.epoch = held.epoch AND gone_at IS NULL)";
                Ok(run(tx, take, &[&&*name, &epoch]).await? > 0)
            })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_secs(3);

    fn other(beat: i64) -> Vec<(Epoch, Other)> {
        let (name, version) = ("b".into(), "1".into());
        vec![(Epoch(2), Other { name, version, silent: Duration::ZERO, beat })]
    }

    #[test]
    fn who_gives_signs_is_never_silent() {
        let nodes = Nodes::default();
        for beat in 0..10 {
            assert_eq!(nodes.note(other(beat), COUNTED, MOST), []);
        }
    }

    #[test]
    fn who_gives_none_is_silent_after_so_long() {
        let nodes = Nodes::default();
        let second = Duration::from_secs(1);
        for _ in 0..3 {
            assert_eq!(nodes.note(other(7), second, MOST), []);
        }
        let silent = Silent { epoch: Epoch(2), beat: 7, name: "b".into() };
        assert_eq!(nodes.note(other(7), second, MOST), [silent]);
        assert_eq!(nodes.note(other(8), second, MOST), [], "it gave one after all");
    }

    #[test]
    fn our_own_silence_is_nobody_elses() {
        let nodes = Nodes::default();
        assert_eq!(nodes.note(other(7), Duration::ZERO, MOST), []);
        let hour = Duration::from_secs(3600);
        assert_eq!(nodes.note(other(7), hour, MOST), []);
    }
}
