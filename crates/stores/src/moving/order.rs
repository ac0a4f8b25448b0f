//! A move from its beginning to its end.

use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::mark::{Mark, Part, Stage};
use super::row::{Digest, Progress, Room};
use super::side::Side;
use super::tables::{Shape, TABLES, Table};
use crate::postgres::moving::Database;
use crate::sqlite::moving::File;
use crate::{OpenError, PostgresError, PostgresSettings, postgres};

/// Bytes that one page of rows holds at most, but for its first row.
const PAGE_BYTES: usize = 8 * 1024 * 1024;

/// From where to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the file in a folder into a database.
    ToDatabase,
    /// From a database into a file in a folder.
    ToFolder,
}

/// What is to be moved.
#[derive(Clone, Debug)]
pub struct MoveOrder {
    /// From where to where.
    pub way: Way,
    /// The folder of the file.
    pub dir: PathBuf,
    /// The database.
    pub database: PostgresSettings,
    /// Rows that one transaction writes at most.
    pub rows: usize,
    /// Called at named places, so that a test can end the process exactly there: `migrate.page`
    /// when some rows were written, `migrate.done` between the two last writes.
    pub kill_point: Option<fn(&'static str)>,
}

/// Why it doesn't go on.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// The folder's database can't be had.
    #[error(transparent)]
    Folder(#[from] OpenError),
    /// The database can't be had.
    #[error(transparent)]
    Database(#[from] PostgresError),
    /// Somebody works with it.
    #[error(
        "a server has the database ({node}): end it, and all others there are, before you move"
    )]
    InUse {
        /// Its name.
        node: String,
    },
    /// The target holds something of its own.
    #[error(
        "{place} is not empty, its table {table} has rows: everything can move into an empty store \
         only"
    )]
    NotEmpty {
        /// Where.
        place: String,
        /// The first table with rows.
        table: &'static str,
    },
    /// The target was begun to be filled from elsewhere, or was by a move that was undone.
    #[error(
        "{place} was begun to be filled by another move, from {other}: throw away what is there, or \
         choose another place"
    )]
    AnotherMove {
        /// Where.
        place: String,
        /// The source then.
        other: String,
    },
    /// A store is in a move that is not this one.
    #[error("what {place} holds {mark}")]
    Marked {
        /// Where.
        place: String,
        /// The other move.
        mark: Mark,
    },
    /// There is nothing to undo.
    #[error("what {place} holds is not being moved, and was not: there is nothing to undo")]
    NotMoving {
        /// Where.
        place: String,
    },
    /// A store has tables or columns that would be left behind.
    #[error(
        "{place} holds what this Turnkeep doesn't know ({what}): move it with the version that \
         wrote it"
    )]
    Unknown {
        /// Where.
        place: String,
        /// Which.
        what: String,
    },
    /// What came in is not what went out.
    #[error(
        "{table}: {read} rows were read and {found} are there, or they are not the same: nothing is \
         lost, for the source is whole; throw away what is in the target and begin anew"
    )]
    Differs {
        /// The table.
        table: &'static str,
        /// Rows that the source gave.
        read: u64,
        /// Rows that the target has.
        found: u64,
    },
    /// The source has rows that could not be reached.
    #[error("{table}: the source has {all} rows and only {read} of them could be read: audit it")]
    Unreached {
        /// The table.
        table: &'static str,
        /// Rows that it has.
        all: u64,
        /// Rows that were read.
        read: u64,
    },
    /// A store failed.
    #[error("{0}")]
    Failed(String),
}

type Result<T> = std::result::Result<T, MoveError>;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The table.
    pub table: &'static str,
    /// Its rows that are done.
    pub rows: u64,
    /// About how many it has.
    pub of: u64,
    /// It was finished now, or before.
    pub ended: bool,
}

/// Both stores, ours, and marked.
#[derive(Debug)]
pub struct Moving {
    file: File,
    database: Database,
    order: Order,
}

#[derive(Debug)]
struct Order {
    way: Way,
    room: Room,
    kill_point: Option<fn(&'static str)>,
    /// What the source says of itself, but for the stage.
    source: Mark,
    target: Mark,
}

impl Order {
    fn reached(&self, place: &'static str) {
        if let Some(kill_point) = self.kill_point {
            kill_point(place);
        }
    }
}

/// Does the same with source and target, whichever is which.
macro_rules! sides {
    ($moving:expr, |$source:ident, $target:ident, $order:ident| $work:expr) => {{
        let Moving { file, database, order: $order } = $moving;
        match $order.way {
            Way::ToDatabase => {
                let ($source, $target) = (file, database);
                $work
            }
            Way::ToFolder => {
                let ($source, $target) = (database, file);
                $work
            }
        }
    }};
}

impl Moving {
    /// Takes both stores, for a new move or for one that was begun. Where it fails they are as they
    /// were, but that what was to be moved may say that it is being moved.
    pub async fn begin(order: MoveOrder) -> Result<Self> {
        let MoveOrder { way, dir, database: settings, rows, kill_point } = order;
        let places = Places::of(&dir, &settings)?;
        if way == Way::ToFolder {
            // Before a file is made for what can't be had.
            postgres::moving::look(&settings).await?;
        }
        let mut file = File::open(&dir, way == Way::ToFolder)?;
        let known = Mark::read(&file.notes().await?);
        let id = known.map_or_else(|| Uuid::now_v7().simple().to_string(), |mark| mark.id);
        // A move that was killed doesn't wait for itself.
        let settings = PostgresSettings { node: format!("migrate-{id}"), ..settings };
        let mut database = Database::open(settings, way == Way::ToDatabase).await?;
        let (from, to) = match way {
            Way::ToDatabase => (places.folder, places.database),
            Way::ToFolder => (places.database, places.folder),
        };
        let begun = async {
            database.alone().await?;
            match way {
                Way::ToDatabase => marked(&mut file, &mut database, &id, &from, &to).await,
                Way::ToFolder => marked(&mut database, &mut file, &id, &from, &to).await,
            }
        };
        let (source, target) = match begun.await {
            Ok(marks) => marks,
            Err(error) => {
                database.close().await;
                return Err(error);
            }
        };
        let room = Room { rows: rows.max(1), bytes: PAGE_BYTES };
        Ok(Self { file, database, order: Order { way, room, kill_point, source, target } })
    }

    /// Where from and where to, in words.
    #[must_use]
    pub fn places(&self) -> (&str, &str) {
        (&self.order.target.other, &self.order.source.other)
    }

    /// Copies whatever is not there yet.
    pub async fn copy(&mut self, told: &mut (dyn FnMut(Told) + Send)) -> Result<()> {
        sides!(self, |source, target, order| {
            let notes = target.notes().await?;
            for table in &TABLES {
                let progress = notes.get(&note_of(table)).map(|text| progress_of(table, text));
                let progress = progress.transpose()?.unwrap_or_default();
                copy_table(source, target, table, progress, order, told).await?;
            }
            if order.target.stage == Stage::Begun {
                target.raise(&source.numbers().await?).await?;
                order.target.stage = Stage::Copied;
                target.mark(&order.target, false).await?;
            }
            Ok(())
        })
    }

    /// Reads what came in and holds it against what was read; says how many rows there are.
    pub async fn compare(&mut self, told: &mut (dyn FnMut(Told) + Send)) -> Result<u64> {
        sides!(self, |source, target, order| {
            let notes = target.notes().await?;
            let mut all = 0;
            for table in &TABLES {
                let text = notes.get(&note_of(table)).map_or("{}", String::as_str);
                let read = progress_of(table, text)?.read;
                let found = digest(target, table, order.room, read.rows, told).await?;
                if found != read {
                    let (table, read, found) = (table.sqlite, read.rows, found.rows);
                    return Err(MoveError::Differs { table, read, found });
                }
                let there = source.count(table).await?;
                if table.shape != Shape::Journal && there != read.rows {
                    let (table, read) = (table.sqlite, read.rows);
                    return Err(MoveError::Unreached { table, all: there, read });
                }
                all += found.rows;
            }
            Ok(all)
        })
    }

    /// Says on both sides that it is over: the target may be served from then on, and the source
    /// not any more.
    pub async fn finish(mut self) -> Result<()> {
        let done = sides!(&mut self, |source, target, order| {
            async {
                let mark = Mark { stage: Stage::Done, ..order.source.clone() };
                source.mark(&mark, false).await?;
                order.reached("migrate.done");
                target.unmark().await
            }
            .await
        });
        self.leave().await?;
        done
    }

    /// Gives both stores back as they are.
    pub async fn leave(self) -> Result<()> {
        self.database.close().await;
        Ok(self.file.close()?)
    }
}

/// Where the two stores are, in words, without anything secret.
struct Places {
    folder: String,
    database: String,
}

impl Places {
    fn of(dir: &Path, database: &PostgresSettings) -> Result<Self> {
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.into());
        Ok(Self {
            folder: format!("the data folder {}", dir.display()),
            database: postgres::moving::place(database)?,
        })
    }
}

/// Looks whether these two stores may be the sides of one move, and has both of them say so.
async fn marked(
    source: &mut impl Side,
    target: &mut impl Side,
    id: &str,
    from: &str,
    to: &str,
) -> Result<(Mark, Mark)> {
    for (place, strangers) in [(from, source.strangers().await?), (to, target.strangers().await?)] {
        if !strangers.is_empty() {
            let (place, what) = (place.to_owned(), strangers.join(", "));
            return Err(MoveError::Unknown { place, what });
        }
    }
    let new = |part, other: &str| Mark {
        id: id.to_owned(),
        part,
        stage: Stage::Begun,
        other: other.to_owned(),
    };
    let own = Mark::read(&source.notes().await?);
    let others = Mark::read(&target.notes().await?);
    if let Some(mark) = own.clone().filter(|mark| mark.part != Part::Source || mark.other != to) {
        return Err(MoveError::Marked { place: from.to_owned(), mark });
    }
    match (own, others) {
        (_, Some(mark)) if mark.part == Part::Source => {
            Err(MoveError::Marked { place: to.to_owned(), mark })
        }
        (Some(own), Some(mark)) if own.id == mark.id => Ok((own, mark)),
        (_, Some(mark)) => Err(MoveError::AnotherMove { place: to.to_owned(), other: mark.other }),
        (Some(mark), None) if mark.stage == Stage::Done => {
            Err(MoveError::Marked { place: from.to_owned(), mark })
        }
        (own, None) => {
            if let Some(table) = target.occupied().await? {
                return Err(MoveError::NotEmpty { place: to.to_owned(), table });
            }
            let own = own.unwrap_or_else(|| new(Part::Source, to));
            let mark = Mark { id: own.id.clone(), ..new(Part::Target, from) };
            // In this order: a target that says so has a source that knows of it.
            source.mark(&own, false).await?;
            target.mark(&mark, true).await?;
            Ok((own, mark))
        }
    }
}

fn note_of(table: &Table) -> String {
    format!("table {}", table.sqlite)
}

fn progress_of(table: &Table, text: &str) -> Result<Progress> {
    serde_json::from_str(text).map_err(|error| {
        MoveError::Failed(format!("how far {} is can't be read: {error}", table.sqlite))
    })
}

async fn copy_table(
    source: &mut impl Side,
    target: &mut impl Side,
    table: &'static Table,
    mut progress: Progress,
    order: &Order,
    told: &mut (dyn FnMut(Told) + Send),
) -> Result<()> {
    let of = if progress.done { progress.read.rows } else { source.count(table).await? };
    let mut tell = |progress: &Progress| {
        let (table, rows, ended) = (table.sqlite, progress.read.rows, progress.done);
        told(Told { table, rows, of: of.max(rows), ended });
    };
    tell(&progress);
    while !progress.done {
        let page = source.page(table, progress.after.as_ref(), order.room).await?;
        for row in &page.rows {
            progress.read.add(row, table.columns.len());
        }
        progress.done = !page.more;
        progress.after = page.last.or(progress.after);
        let text = serde_json::to_string(&progress)
            .map_err(|error| MoveError::Failed(format!("a place can't be noted: {error}")))?;
        target.put(table, &page.rows, (&note_of(table), &text)).await?;
        order.reached("migrate.page");
        tell(&progress);
    }
    Ok(())
}

async fn digest(
    side: &mut impl Side,
    table: &'static Table,
    room: Room,
    of: u64,
    told: &mut (dyn FnMut(Told) + Send),
) -> Result<Digest> {
    let (mut digest, mut after) = (Digest::default(), None);
    loop {
        let page = side.page(table, after.as_ref(), room).await?;
        for row in &page.rows {
            digest.add(row, table.columns.len());
        }
        let (rows, ended) = (digest.rows, !page.more);
        told(Told { table: table.sqlite, rows, of: of.max(rows), ended });
        if ended {
            return Ok(digest);
        }
        after = page.last;
    }
}

/// Opens a folder's store again whose move was begun, or is over.
pub async fn undo_folder(dir: &Path) -> Result<Mark> {
    let mut file = File::open(dir, false)?;
    let place = format!("the data folder {}", dir.display());
    let undone = undo(&mut file, place).await;
    file.close()?;
    undone
}

/// The same for a database.
pub async fn undo_database(settings: PostgresSettings) -> Result<Mark> {
    let place = postgres::moving::place(&settings)?;
    let settings = PostgresSettings { node: "migrate-undo".into(), ..settings };
    let mut database = Database::open(settings, false).await?;
    // Perhaps it is being moved at this moment.
    let undone = match database.alone().await {
        Ok(()) => undo(&mut database, place).await,
        Err(error) => Err(error),
    };
    database.close().await;
    undone
}

async fn undo(side: &mut impl Side, place: String) -> Result<Mark> {
    match Mark::read(&side.notes().await?) {
        None => Err(MoveError::NotMoving { place }),
        Some(mark) if mark.part == Part::Target => Err(MoveError::Marked { place, mark }),
        Some(mark) => {
            side.unmark().await?;
            Ok(mark)
        }
    }
}
