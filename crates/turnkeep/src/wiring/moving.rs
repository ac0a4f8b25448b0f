//! Moves everything from the store of one configuration into that of another one: which of them is
//! the file and which the database, and the steps between beginning and end.

use std::sync::Arc;

use crate::config::Stored;

/// How far a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Far {
    /// The table.
    pub(crate) table: &'static str,
    /// Rows that are done.
    pub(crate) rows: u64,
    /// About how many there are.
    pub(crate) of: u64,
    /// It was finished now, or before.
    pub(crate) ended: bool,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Both stores are ours.
    Begun {
        /// The source, in words.
        from: String,
        /// The target.
        to: String,
    },
    /// Rows are copied.
    Copying(Far),
    /// What came in is read again.
    Comparing(Far),
    /// Everything is there and the same; so many rows.
    Same(u64),
}

/// What is told of steps.
pub(crate) type Told = Arc<dyn Fn(Step) + Send + Sync>;

/// What is to be moved, and who is asked.
pub(crate) struct Job<'a> {
    /// Where it is.
    pub(crate) from: &'a Stored,
    /// Where it goes.
    pub(crate) to: &'a Stored,
    /// Rows that one transaction writes at most.
    pub(crate) rows: usize,
    /// Who is told of each step.
    pub(crate) told: Told,
    /// Looks at both stores when all is copied; says whether it may be finished. Called outside of
    /// every runtime.
    pub(crate) judge: &'a mut dyn FnMut() -> anyhow::Result<bool>,
}

#[cfg(feature = "postgres")]
pub(crate) use with::{run, undo};
#[cfg(not(feature = "postgres"))]
pub(crate) use without::{run, undo};

#[cfg(feature = "postgres")]
mod with {
    use std::sync::Arc;

    use anyhow::Context as _;
    use tokio::runtime::Runtime;
    use turnkeep_stores::{MoveOrder, Moving, Told, Way, undo_database, undo_folder};

    use super::{Far, Job, Step};
    use crate::config::Stored;
    use crate::config::store::{DatabaseSettings, StoreSettings};
    use crate::wiring::stores::database_settings;

    /// The name of nobody: a move has one of its own.
    const NODE: &str = "migrate";

    /// Moves it; whether it was finished.
    pub(crate) fn run(job: Job<'_>) -> anyhow::Result<bool> {
        let order = order(&job)?;
        let runtime = runtime()?;
        let mut moving = runtime.block_on(Moving::begin(order))?;
        let (from, to) = moving.places();
        (job.told)(Step::Begun { from: from.to_owned(), to: to.to_owned() });
        let done = copy(&runtime, &mut moving, &job).and_then(|()| (job.judge)());
        match done {
            Ok(true) => runtime.block_on(moving.finish()).map(|()| true).map_err(Into::into),
            unfinished => {
                let left = runtime.block_on(moving.leave());
                let unfinished = unfinished?;
                left?;
                Ok(unfinished)
            }
        }
    }

    fn copy(runtime: &Runtime, moving: &mut Moving, job: &Job<'_>) -> anyhow::Result<()> {
        let told = Arc::clone(&job.told);
        runtime.block_on(moving.copy(&mut move |far| told(Step::Copying(far_of(far)))))?;
        let told = Arc::clone(&job.told);
        let rows =
            runtime.block_on(moving.compare(&mut move |far| told(Step::Comparing(far_of(far)))))?;
        (job.told)(Step::Same(rows));
        Ok(())
    }

    fn far_of(Told { table, rows, of, ended }: Told) -> Far {
        Far { table, rows, of, ended }
    }

    fn order(job: &Job<'_>) -> anyhow::Result<MoveOrder> {
        let (way, dir, database) = match (&job.from.store, &job.to.store) {
            (StoreSettings::Sqlite, StoreSettings::Postgres(database)) => {
                (Way::ToDatabase, &job.from.data_dir, database)
            }
            (StoreSettings::Postgres(database), StoreSettings::Sqlite) => {
                (Way::ToFolder, &job.to.data_dir, database)
            }
            (StoreSettings::Sqlite, StoreSettings::Sqlite) => anyhow::bail!(
                "both configurations keep everything in a file: move it with `turnkeep backup` and \
                 `turnkeep restore`"
            ),
            (StoreSettings::Postgres(_), StoreSettings::Postgres(_)) => anyhow::bail!(
                "both configurations name a database: move it with the database's own tools, like \
                 pg_dump"
            ),
        };
        Ok(MoveOrder {
            way,
            dir: dir.clone(),
            database: settings(database),
            rows: job.rows,
            kill_point: crate::killpoint::hook(),
        })
    }

    fn settings(database: &DatabaseSettings) -> turnkeep_stores::PostgresSettings {
        database_settings(database, NODE.to_owned())
    }

    /// Several threads: this one works on the file while others show the cluster that we live.
    fn runtime() -> anyhow::Result<Runtime> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(2).enable_all().build().context("can't start the runtime")
    }

    /// Opens a store again that was moved away; says where to.
    pub(crate) fn undo(place: &Stored) -> anyhow::Result<String> {
        let undone = match &place.store {
            StoreSettings::Sqlite => runtime()?.block_on(undo_folder(&place.data_dir)),
            StoreSettings::Postgres(database) => {
                runtime()?.block_on(undo_database(settings(database)))
            }
        };
        Ok(undone?.other)
    }
}

#[cfg(not(feature = "postgres"))]
mod without {
    use super::Job;
    use crate::config::Stored;

    const WITHOUT: &str = "this program was built without PostgreSQL: there is nowhere to move to";

    pub(crate) fn run(_: Job<'_>) -> anyhow::Result<bool> {
        anyhow::bail!(WITHOUT)
    }

    pub(crate) fn undo(_: &Stored) -> anyhow::Result<String> {
        anyhow::bail!(WITHOUT)
    }
}
