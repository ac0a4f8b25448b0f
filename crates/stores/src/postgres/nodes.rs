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
use tokio_postgres::{Client, Row, Statement};
use turnkeep_core::Epoch;
use turnkeep_core::ports::store::{Holder, Leased, StoreError};

use super::ask::{row, run};
use super::connect::Connector;
use super::gate::{ENTER, Out};
use super::open::{PostgresError, reach};
use super::settings::PostgresSettings;
use super::stand_in::{StandIn, one_each};
use super::trouble::{Result, Trouble};
use super::{PostgresStore, Shared};

/// How often a node shows that it lives.
const BEAT: Duration = Duration::from_secs(1);
/// The longest that one round may take.
const ROUND: Duration = Duration::from_secs(5);
/// The most that one round counts as silence of others: what came between may have been our own.
const COUNTED: Duration = Duration::from_secs(2);
/// Nodes that left so long ago are forgotten.
const FORGET: &str = "WITH old AS (DELETE FROM nodes WHERE gone_at < now() - interval '30 days'
                      RETURNING epoch) DELETE FROM knocks WHERE node IN (SELECT epoch FROM old)";
/// Everybody who takes part, ourselves too, and the greatest number that was drawn.
const OTHERS: &str = "SELECT epoch, beat, name, version, runs,
                        (SELECT value FROM meta WHERE name = 'epoch') AS drawn
                      FROM nodes WHERE gone_at IS NULL";
/// What any node ever had for itself, and what the one that has it is called.
const LEASES: &str = "SELECT leases.name, nodes.name
                      FROM leases LEFT JOIN nodes ON nodes.epoch = leases.epoch AND gone_at IS NULL";
/// What counts its changes.
const MARKS: [&str; 5] = ["keys", "people", "restrictions", "jobs", "boards"];

/// What this node knows of the cluster.
#[derive(Debug)]
pub(super) struct Nodes {
    others: Mutex<Others>,
    pub(super) stand_in: StandIn,
    marks: Mutex<BTreeMap<&'static str, u64>>,
    leases: Mutex<BTreeMap<String, Leased>>,
    out: watch::Sender<Option<Out>>,
    left: AtomicBool,
}

/// The other nodes, as they were seen last.
#[derive(Debug, Default)]
struct Others {
    all: BTreeMap<Epoch, Other>,
    /// The greatest number that any node had drawn then.
    drawn: Epoch,
    /// How often somebody came or went.
    changes: u64,
}

/// Another node that takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// What it is called.
    pub name: String,
    /// Its program's version.
    pub version: String,
    /// Whether turns run there.
    pub runs: bool,
    /// For how long it gave no sign, by our own clock.
    pub silent: Duration,
    beat: i64,
}

impl Default for Nodes {
    fn default() -> Self {
        let (others, marks, leases, stand_in) = Default::default();
        Self {
            others,
            stand_in,
            marks,
            leases,
            out: watch::Sender::new(None),
            left: AtomicBool::new(false),
        }
    }
}

impl Nodes {
    /// Whether this node is out.
    pub(super) fn is_out(&self) -> bool {
        self.out().is_some()
    }

    /// Why it is out, if it is.
    pub(super) fn out(&self) -> Option<Out> {
        *self.out.borrow()
    }

    /// Notes that this node is out, for ever.
    pub(super) fn fence(&self, why: Out) {
        // Who left isn't there any more either, but that is as it should be.
        if self.left.load(Acquire) {
            return;
        }
        let first = self.out.send_if_modified(|out| {
            let first = out.is_none();
            out.get_or_insert(why);
            first
        });
        if first {
            tracing::error!("{}", why.sentence());
        }
    }

    /// What was read of the others; gives those back who were silent for too long.
    fn note(
        &self,
        (drawn, read): (Epoch, Vec<(Epoch, Other)>),
        passed: Duration,
        most: Duration,
    ) -> Vec<Silent> {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.drawn = drawn;
        let before = std::mem::take(&mut others.all);
        let mut silent = Vec::new();
        for (epoch, mut other) in read {
            if let Some(before) = before.get(&epoch).filter(|before| before.beat == other.beat) {
                other.silent = before.silent + passed.min(COUNTED);
            }
            if other.silent >= most {
                silent.push(Silent { epoch, beat: other.beat, name: other.name.clone() });
            }
            others.all.insert(epoch, other);
        }
        others.changes += u64::from(!before.keys().eq(others.all.keys()));
        silent
    }

    /// Who has what stands under an epoch. A number that nobody had drawn when we looked last is
    /// that of somebody who came since.
    pub(super) fn holder(&self, epoch: Epoch) -> Holder {
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        match others.all.get(&epoch.node()) {
            Some(other) if other.runs => Holder::Another,
            None if epoch.node() > others.drawn => Holder::Another,
            _ => Holder::Nobody,
        }
    }

    /// See the port.
    pub(super) fn leased(&self, name: &str) -> Leased {
        let leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        leases.get(name).cloned().unwrap_or(Leased::Never)
    }

    fn note_leases(&self, rows: &[Row]) -> Result<()> {
        let read = rows.iter().map(|row| {
            let holder: Option<&str> = row.try_get(1)?;
            let whose = holder.map_or(Leased::Free, |holder| Leased::By(holder.into()));
            Ok((row.try_get(0)?, whose))
        });
        let read: Result<Vec<(String, Leased)>> = read.collect();
        // No row is ever taken away.
        self.leases.lock().unwrap_or_else(PoisonError::into_inner).extend(read?);
        Ok(())
    }

    /// See the port.
    pub(super) fn marks(&self) -> BTreeMap<&'static str, u64> {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        marks.insert("nodes", others.changes);
        marks
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
    leases: Statement,
    put_out: Statement,
}

impl Own {
    async fn connect(shared: &Shared) -> Result<Self> {
        let client = shared.connector.connect().await?;
        let beat = "UPDATE nodes SET beat = beat + 1
                    WHERE epoch = $1 AND token = $2 AND gone_at IS NULL
                    RETURNING beat, (SELECT greatest((SELECT max(place) FROM journal), value)
                                     FROM meta WHERE name = 'journal')";
        let put_out = "UPDATE nodes SET gone_at = now(), gone_why = $3
                       WHERE epoch = $1 AND beat = $2 AND gone_at IS NULL";
        Ok(Self {
            beat: client.prepare(beat).await?,
            others: client.prepare(OTHERS).await?,
            marks: client.prepare("SELECT name, value FROM marks").await?,
            leases: client.prepare(LEASES).await?,
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
                if let Some(out) = trouble.out() {
                    shared.nodes.fence(out);
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
    if let Some(out) = beat(shared, own).await? {
        shared.nodes.fence(out);
        return Ok(());
    }
    let read = others_of(&own.client.query(&own.others, &[]).await?, Some(shared))?;
    let passed = std::mem::replace(last, Instant::now()).elapsed();
    for silent in shared.nodes.note(read, passed, shared.settings.node_timeout) {
        put_out(shared, own, &silent).await?;
    }
    shared.nodes.note_leases(&own.client.query(&own.leases, &[]).await?)?;
    let rows = own.client.query(&own.marks, &[]).await?;
    let mut read = BTreeMap::new();
    for row in &rows {
        let name: &str = row.try_get(0)?;
        if let Some(known) = MARKS.iter().find(|known| **known == name) {
            read.insert(*known, row.try_get::<_, i64>(1)?.cast_unsigned());
        }
    }
    *shared.nodes.marks.lock().unwrap_or_else(PoisonError::into_inner) = read;
    Ok(())
}

/// Shows that this node lives; why it is out, where it is.
async fn beat(shared: &Shared, own: &Own) -> Result<Option<Out>> {
    let (epoch, token) = (shared.gate.epoch.0.cast_signed(), shared.gate.token);
    // Before it is asked: what this node writes meanwhile may not be seen.
    let kept = shared.gate.place();
    if let Some(beaten) = own.client.query_opt(&own.beat, &[&epoch, &token]).await? {
        let place: Option<i64> = beaten.try_get(1)?;
        if !shared.gate.beats(beaten.try_get(0)?) || place.is_some_and(|place| place < kept) {
            return Ok(Some(Out::WentBack));
        }
        let beaten = shared.nodes.stand_in.beat(&own.client).await?;
        return Ok((!beaten).then_some(Out::ByOthers));
    }
    let gone = "SELECT gone_at IS NOT NULL FROM nodes WHERE epoch = $1 AND token = $2";
    Ok(match own.client.query_opt(gone, &[&epoch, &token]).await? {
        Some(row) if row.try_get(0)? => Some(Out::ByOthers),
        // The row was written anew at that moment: the next beat tells.
        Some(_) => None,
        None => Some(Out::WentBack),
    })
}

/// Everybody in these rows but this node, by its name: it may have two numbers.
fn others_of(rows: &[Row], own: Option<&Shared>) -> Result<(Epoch, Vec<(Epoch, Other)>)> {
    let mut drawn = own.map_or(Epoch::default(), |own| own.gate.epoch);
    let (own, mut others) = (own.map(|own| own.settings.node.as_str()), Vec::new());
    for row in rows {
        let number = |name| row.try_get::<_, i64>(name).map(i64::cast_unsigned);
        drawn = drawn.max(Epoch(number("drawn")?));
        let epoch = Epoch(number("epoch")?);
        let (beat, name): (_, String) = (row.try_get("beat")?, row.try_get("name")?);
        let (version, runs) = (row.try_get("version")?, row.try_get("runs")?);
        if own != Some(name.as_str()) {
            others.push((epoch, Other { name, version, runs, silent: Duration::ZERO, beat }));
        }
    }
    Ok((drawn, others))
}

/// Who takes part by the record, in the order in which they came; changes nothing. Who has died and
/// was not put out yet is among them.
pub(super) async fn listed(
    settings: &PostgresSettings,
) -> std::result::Result<Vec<Other>, PostgresError> {
    let client = reach(&Connector::new(settings)?).await?;
    let (_, all) = others_of(&client.query(OTHERS, &[]).await?, None)?;
    let all: BTreeMap<Epoch, Other> = all.into_iter().collect();
    Ok(one_each(all.into_values()))
}

/// Who takes part, known before anything is asked of the store.
pub(super) async fn meet(shared: &Shared) -> Result<()> {
    let client = shared.pool.get().await?;
    let rows = client.query(OTHERS, &[]).await?;
    let read = others_of(&rows, Some(shared))?;
    shared.nodes.note(read, Duration::ZERO, shared.settings.node_timeout);
    shared.nodes.note_leases(&client.query(LEASES, &[]).await?)
}

/// Behind the gate, and only if it still gave no sign.
async fn put_out(shared: &Shared, own: &mut Own, silent: &Silent) -> Result<()> {
    let Silent { epoch: dead, beat, name } = silent;
    let why = format!("it gave no sign, says {}", shared.settings.node);
    let transaction = own.client.transaction().await?;
    transaction.execute(ENTER, &shared.gate.pass().values()).await?;
    let gone = transaction.execute(&own.put_out, &[&dead.0.cast_signed(), beat, &why]).await?;
    transaction.commit().await?;
    if gone > 0 {
        tracing::warn!(node = name, epoch = dead.0, "a node gave no sign and was put out");
    }
    Ok(())
}

/// Leaves the cluster: what comes is free for the others at once. Comes last of all writes.
pub(super) async fn leave(shared: &Shared) {
    let mut tokens = vec![shared.gate.token];
    tokens.extend(shared.nodes.stand_in.token());
    shared.nodes.left.store(true, Release);
    let leaving = async {
        let client = shared.pool.get().await?;
        let sql = "UPDATE nodes SET gone_at = now(), gone_why = 'it left'
                   WHERE token = ANY($1) AND gone_at IS NULL";
        run(&client, sql, &[&tokens]).await
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
    /// Comes back once this node is out of the cluster, which is for ever: whatever it writes is
    /// refused, and it has to be started again under a new epoch.
    pub async fn put_out(&self) -> Out {
        let mut out = self.shared.nodes.out.subscribe();
        // An error would mean that the store is gone, which we hold.
        let out = out.wait_for(Option::is_some).await;
        out.ok().and_then(|out| *out).unwrap_or(Out::ByOthers)
    }

    /// The other nodes of the cluster, as they were seen last.
    #[must_use]
    pub fn others(&self) -> Vec<Other> {
        let others = self.shared.nodes.others.lock().unwrap_or_else(PoisonError::into_inner);
        one_each(others.all.values().cloned())
    }

    /// See the port.
    pub(super) async fn take_lease(&self, name: &str) -> std::result::Result<bool, StoreError> {
        let (gate, name): (_, Arc<str>) = (self.shared.gate.clone(), name.into());
        self.change("take a lease", move |tx| {
            let (gate, name, epoch) = (gate.clone(), Arc::clone(&name), gate.epoch.0.cast_signed());
            Box::pin(async move {
                let whose = "SELECT epoch = $2 AND token = $3 AS ours
                             FROM leases JOIN nodes USING (epoch)
                             WHERE leases.name = $1 AND gone_at IS NULL";
                if let Some(row) = row(tx, whose, &[&&*name, &epoch, &gate.token]).await? {
                    return Ok(row.try_get("ours")?);
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

    fn other(beat: i64) -> (Epoch, Vec<(Epoch, Other)>) {
        let (name, version) = ("b".into(), "1".into());
        let other = Other { name, version, runs: true, silent: Duration::ZERO, beat };
        (Epoch(3), vec![(Epoch(2), other)])
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

    #[test]
    fn what_nobody_living_runs_is_nobodys() {
        let nodes = Nodes::default();
        let (drawn, mut all) = other(0);
        all.push((Epoch(3), Other { runs: false, ..all[0].1.clone() }));
        nodes.note((drawn, all), Duration::ZERO, MOST);
        assert_eq!(nodes.holder(Epoch(1)), Holder::Nobody, "it is gone");
        assert_eq!(nodes.holder(Epoch(2)), Holder::Another);
        assert_eq!(nodes.holder(Epoch(9).taken_by(Epoch(2))), Holder::Another, "by whatever epoch");
        assert_eq!(nodes.holder(Epoch(3)), Holder::Nobody, "it runs no turns");
        assert_eq!(nodes.holder(Epoch(4)), Holder::Another, "it came since we looked");
    }
}
