//! The file's side of a move from one store to another: rows are read in order and written as they
//! came; chains are followed and made.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params_from_iter};
use turnkeep_core::care::Forgotten;

use super::open::{self, Folder, OpenError, moving_notes};
use super::schema::is_indexed;
use super::trouble::{Result, Trouble};
use crate::encode;
use crate::moving::mark::Mark;
use crate::moving::row::{Cursor, Page, Room, Value};
use crate::moving::side::{Numbers, Side};
use crate::moving::tables::{self, NUMBERED, NUMBERS, Shape, Store, TABLES, Table};
use crate::moving::{MoveError, row};

type Moved<T> = std::result::Result<T, MoveError>;

/// Pages of rows that the log takes in before it is moved into the file.
const PAGES_A_CHECKPOINT: u32 = 8;

/// A folder's database that is ours until this is dropped.
#[derive(Debug)]
pub(crate) struct File {
    connection: Connection,
    folder: Folder,
    /// The turns of the session that is being read.
    chain: Option<Chain>,
    unchecked: u32,
}

/// A session's turns, oldest first.
#[derive(Debug)]
struct Chain {
    session: i64,
    turns: Vec<[u8; 16]>,
}

impl From<Trouble> for MoveError {
    fn from(trouble: Trouble) -> Self {
        Self::Failed(trouble.sentence())
    }
}

impl From<rusqlite::Error> for MoveError {
    fn from(error: rusqlite::Error) -> Self {
        Trouble::from(error).into()
    }
}

impl File {
    /// Takes the folder, and its database, of whatever older format; makes one where there is none
    /// and there may be.
    pub(crate) fn open(dir: &Path, make: bool) -> std::result::Result<Self, OpenError> {
        if !make && !open::is_there(&dir.join(open::DATABASE))? {
            return Err(OpenError::Missing { dir: dir.into() });
        }
        let folder = open::take_folder(dir)?;
        let connection = open::current_database(dir)?;
        Ok(Self { connection, folder, chain: None, unchecked: 0 })
    }

    /// Moves the log into the file, and leaves nothing that the folder's owner can't open.
    pub(crate) fn close(self) -> std::result::Result<(), OpenError> {
        let dir = self.folder.dir.clone();
        let io = |error| open::io_error(&dir, &error);
        self.checkpoint().map_err(|error| open::sqlite_error(&dir.join(open::DATABASE), error))?;
        let owner = self.folder.hand_over().map_err(io)?;
        for ending in ["", "-wal", "-shm"] {
            let file = dir.join(format!("{}{ending}", open::DATABASE));
            if file.exists() {
                let file = open::open_private(&file).map_err(io)?;
                open::belong_to(&file, &owner).map_err(io)?;
            }
        }
        Ok(())
    }

    fn checkpoint(&self) -> Result<()> {
        Ok(self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
    }

    fn transaction<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        // Rolled back where it isn't committed.
        let transaction = self.connection.unchecked_transaction()?;
        let done = work(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }

    fn turns(&mut self, after: Option<&Cursor>, room: Room) -> Result<Page> {
        let mut page = Page::default();
        let (mut session, mut done) = match after.map(Vec::as_slice) {
            Some([Value::Number(session), Value::Number(done)]) => (*session, *done),
            _ => (0, 0),
        };
        while let Some(next) = self.session_with_turns(session, done > 0)? {
            if next != session {
                (session, done) = (next, 0);
            }
            self.follow(session)?;
            let chain = self.chain.as_ref().map_or(&[][..], |chain| &chain.turns);
            for at in usize::try_from(done).unwrap_or(usize::MAX)..chain.len() {
                done += 1;
                let row = self.turn(session, chain[at], at.checked_sub(1).map(|at| chain[at]))?;
                let place = vec![Value::Number(session), Value::Number(done)];
                if !page.push(row, place, room) {
                    return Ok(page);
                }
            }
            (session, done) = (session + 1, 0);
        }
        Ok(page)
    }

    /// The first session from this one on that has turns; the one that was begun has.
    fn session_with_turns(&self, from: i64, begun: bool) -> Result<Option<i64>> {
        if begun {
            return Ok(Some(from));
        }
        let mut statement = self.connection.prepare_cached(
            "SELECT id FROM sessions WHERE id >= ?1 AND turn_head IS NOT NULL ORDER BY id LIMIT 1",
        )?;
        Ok(statement.query_row([from], |row| row.get(0)).optional()?)
    }

    /// Follows a session's chain from its head to where it ends, or where a sweep has been, and
    /// from the place to which that sweep came.
    fn follow(&mut self, session: i64) -> Result<()> {
        if self.chain.as_ref().is_some_and(|chain| chain.session == session) {
            return Ok(());
        }
        let ask = |sql: &str| -> Result<Option<[u8; 16]>> {
            let mut statement = self.connection.prepare_cached(sql)?;
            Ok(statement.query_row([session], |row| row.get(0)).optional()?.flatten())
        };
        let head = ask("SELECT turn_head FROM sessions WHERE id = ?1")?;
        let rest = ask("SELECT turn_rest FROM forgotten WHERE session_id = ?1 AND unswept = 1")?;
        let mut before = self
            .connection
            .prepare_cached("SELECT prev FROM turns WHERE id = ?1 AND session_id = ?2")?;
        let mut turns: Vec<[u8; 16]> = Vec::new();
        for start in [head, rest].into_iter().flatten() {
            let mut next = Some(start).filter(|start| !turns.contains(start));
            while let Some(id) = next {
                let found =
                    before.query_row((&id[..], session), |row| row.get::<_, Option<[u8; 16]>>(0));
                let Some(prev) = found.optional()? else { break };
                // Ids are never given out twice, so only a damaged chain comes back.
                if turns.len() > TURNS_MAX || prev == Some(id) {
                    return Err(Trouble::Corrupt(format!(
                        "the turns of session number {session} have no beginning"
                    )));
                }
                turns.push(id);
                next = prev;
            }
        }
        turns.reverse();
        self.chain = Some(Chain { session, turns });
        Ok(())
    }

    fn turn(&self, session: i64, id: [u8; 16], prev: Option<[u8; 16]>) -> Result<row::Row> {
        let mut statement =
            self.connection.prepare_cached("SELECT body FROM turns WHERE id = ?1")?;
        let body = statement.query_row([&id[..]], |row| row.get(0))?;
        let prev = prev.map_or(Value::Null, |prev| Value::Bytes(prev.to_vec()));
        Ok(vec![Value::Bytes(id.to_vec()), Value::Number(session), prev, Value::Bytes(body)])
    }

    fn rows(&self, table: &Table, after: Option<&Cursor>, room: Room) -> Result<Page> {
        let names: Vec<&str> = table.columns.iter().map(|column| column.sqlite).collect();
        let more: &[&str] = if table.shape == Shape::Forgotten { &["turn_rest"] } else { &[] };
        let all: Vec<&str> = names.iter().chain(more).copied().collect();
        let key = quoted(&names[..table.key]);
        let behind = after
            .map_or(String::new(), |after| format!("WHERE ({key}) > ({})", places(after.len())));
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {} FROM \"{}\" {behind} ORDER BY {key}",
            quoted(&all),
            table.sqlite
        ))?;
        let after: &[Value] = after.map_or(&[], Vec::as_slice);
        let mut rows = statement.query(params_from_iter(after))?;
        let mut page = Page::default();
        while let Some(row) = rows.next()? {
            let row = values(row, all.len())?;
            let last = row[..table.key].to_vec();
            if !page.push(row, last, room) {
                break;
            }
        }
        Ok(page)
    }
}

/// More turns than one session has; a chain that is longer is a circle.
const TURNS_MAX: usize = 100_000_000;

impl Side for File {
    async fn page(
        &mut self,
        table: &'static Table,
        after: Option<&Cursor>,
        room: Room,
    ) -> Moved<Page> {
        Ok(match table.shape {
            Shape::Turns => self.turns(after, room)?,
            _ => self.rows(table, after, room)?,
        })
    }

    async fn put(
        &mut self,
        table: &'static Table,
        rows: &[row::Row],
        note: (&str, &str),
    ) -> Moved<()> {
        self.transaction(|connection| {
            insert(connection, table, rows)?;
            put_note(connection, note)
        })?;
        self.unchecked += 1;
        if self.unchecked >= PAGES_A_CHECKPOINT {
            self.checkpoint()?;
            self.unchecked = 0;
        }
        Ok(())
    }

    async fn count(&mut self, table: &'static Table) -> Moved<u64> {
        let count = match table.shape {
            // Its rows are large, and hardly any number is missing.
            Shape::Journal => "coalesce(max(id) - min(id) + 1, 0)",
            _ => "count(*)",
        };
        let sql = format!("SELECT {count} FROM \"{}\"", table.sqlite);
        Ok(self.connection.query_row(&sql, [], |row| row.get::<_, i64>(0))?.cast_unsigned())
    }

    async fn notes(&mut self) -> Moved<BTreeMap<String, String>> {
        Ok(moving_notes(&self.connection)?)
    }

    async fn mark(&mut self, mark: &Mark, clean: bool) -> Moved<()> {
        self.transaction(|connection| {
            connection.execute_batch(
                "CREATE TABLE IF NOT EXISTS moving
                 (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
            )?;
            if clean {
                connection.execute("DELETE FROM care", [])?;
            }
            for (name, value) in mark.notes() {
                put_note(connection, (name, &value))?;
            }
            Ok(())
        })?;
        Ok(())
    }

    async fn unmark(&mut self) -> Moved<()> {
        Ok(self.transaction(|connection| {
            Ok(connection.execute_batch("DROP TABLE IF EXISTS moving")?)
        })?)
    }

    async fn occupied(&mut self) -> Moved<Option<&'static str>> {
        for table in TABLES.iter().filter(|table| table.sqlite != "care") {
            let sql = format!("SELECT EXISTS (SELECT 1 FROM \"{}\")", table.sqlite);
            if self.connection.query_row(&sql, [], |row| row.get(0))? {
                return Ok(Some(table.sqlite));
            }
        }
        Ok(None)
    }

    async fn strangers(&mut self) -> Moved<Vec<String>> {
        let mut statement = self.connection.prepare(
            "SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c
             WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'",
        )?;
        let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let found: Vec<tables::Place> = found.collect::<rusqlite::Result<_>>()?;
        let mut strangers = tables::strangers(&found, Store::Sqlite);
        let mut statement = self.connection.prepare("SELECT name FROM meta")?;
        for name in statement.query_map([], |row| row.get::<_, String>(0))? {
            let name = name?;
            if !NUMBERS.contains(&&*name) {
                strangers.push(format!("meta.{name}"));
            }
        }
        Ok(strangers)
    }

    async fn numbers(&mut self) -> Moved<Numbers> {
        let ask = |sql: &str| self.connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let mut given = [0; NUMBERED.len()];
        for (given, table) in given.iter_mut().zip(NUMBERED) {
            let sql = format!("SELECT seq FROM sqlite_sequence WHERE name = '{table}'");
            *given = ask(&sql).optional()?.unwrap_or(0);
        }
        Ok(Numbers {
            epoch: ask("SELECT value FROM meta WHERE name = 'epoch'")?,
            journal: ask("SELECT value FROM meta WHERE name = 'journal'")?,
            given,
        })
    }

    async fn raise(&mut self, numbers: &Numbers) -> Moved<()> {
        self.transaction(|connection| {
            for (name, value) in [("epoch", numbers.epoch), ("journal", numbers.journal)] {
                let sql = "UPDATE meta SET value = max(value, ?2) WHERE name = ?1";
                connection.execute(sql, (name, value))?;
            }
            for (table, given) in NUMBERED.iter().zip(numbers.given) {
                let sql = "UPDATE sqlite_sequence SET seq = max(seq, ?2) WHERE name = ?1";
                if connection.execute(sql, (table, given))? == 0 {
                    let sql = "INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)";
                    connection.execute(sql, (table, given))?;
                }
            }
            Ok(())
        })?;
        Ok(())
    }
}

fn insert(connection: &Connection, table: &Table, rows: &[row::Row]) -> Result<()> {
    let names = table.columns.iter().map(|column| column.sqlite);
    let made: &[&str] = match table.shape {
        Shape::Sessions => &["journal_head", "turn_head"],
        Shape::Journal => &["prev"],
        Shape::Forgotten => &["journal_rest", "turn_rest", "through_turn"],
        Shape::Plain | Shape::Turns | Shape::Parts => &[],
    };
    let all: Vec<&str> = names.chain(made.iter().copied()).collect();
    let mut insert = connection.prepare_cached(&format!(
        "INSERT INTO \"{}\" ({}) VALUES ({})",
        table.sqlite,
        quoted(&all),
        places(all.len())
    ))?;
    let mut index = connection.prepare_cached("INSERT INTO journal_index VALUES (?1, ?2, ?3)")?;
    for row in rows {
        match table.shape {
            Shape::Forgotten => {
                let through = through_turn(row)?;
                insert.execute(params_from_iter(row.iter().chain([&through])))?;
            }
            _ => {
                insert.execute(params_from_iter(row))?;
            }
        }
        if let (
            Shape::Journal,
            [
                Value::Number(id),
                Value::Number(session),
                Value::Number(first),
                Value::Number(last),
                ..,
            ],
        ) = (table.shape, row.as_slice())
            && is_indexed(first.cast_unsigned(), last.cast_unsigned())
        {
            index.execute((session, last, id))?;
        }
    }
    Ok(())
}

/// The turn at which a session's chain ends for whoever reads it: the newest of those that are gone
/// and still there, else what the row itself says.
fn through_turn(row: &row::Row) -> Result<Value> {
    if let Some(rest @ Value::Bytes(_)) = row.get(5) {
        return Ok(rest.clone());
    }
    let body = row.get(2).and_then(Value::as_bytes).unwrap_or_default();
    let whose = || "what stands for a forgotten beginning".to_owned();
    let forgotten: Forgotten = encode::value(body, whose)?;
    let turn = forgotten.turn.map(|turn| Value::Bytes(turn.0.as_bytes().to_vec()));
    Ok(turn.unwrap_or(Value::Null))
}

fn put_note(connection: &Connection, (name, value): (&str, &str)) -> Result<()> {
    let mut put = connection.prepare_cached(
        "INSERT INTO moving VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    )?;
    put.execute([name, value])?;
    Ok(())
}

fn quoted(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    names.join(", ")
}

fn places(count: usize) -> String {
    let places: Vec<String> = (1..=count).map(|place| format!("?{place}")).collect();
    places.join(", ")
}

fn values(row: &Row<'_>, columns: usize) -> Result<row::Row> {
    let value = |at: usize| {
        Ok(match row.get_ref(at)? {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => Value::Number(number),
            ValueRef::Text(_) => Value::Text(row.get(at)?),
            ValueRef::Blob(bytes) => Value::Bytes(bytes.to_vec()),
            ValueRef::Real(_) => {
                return Err(Trouble::Corrupt("a number with a fraction is stored".into()));
            }
        })
    };
    (0..columns).map(value).collect()
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Number(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}
