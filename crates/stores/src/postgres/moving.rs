//! The database's side of a move from one store to another: rows are read in order over a
//! connection of its own, and come in by binary COPY, each page in a transaction that passes the
//! gate.
//!
//! It is a node of the cluster while it works, which runs no turns, and the only one: it waits for
//! those that are silent to be put out, and its mark keeps others from coming.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use tokio_postgres::{Client, Row, Transaction};
use turnkeep_core::Epoch;
use turnkeep_core::ports::store::Store as _;

use super::connect::Connector;
use super::gate::{self, Gate};
use super::open::{self, PostgresError};
use super::settings::PostgresSettings;
use super::trouble::Trouble;
use super::{PostgresStore, moving_rows, text};
use crate::moving::MoveError;
use crate::moving::mark::Mark;
use crate::moving::row::{self, Cursor, Page, Room, Value};
use crate::moving::side::{Numbers, Side};
use crate::moving::tables::{self, Form, NUMBERED, NUMBERS, Shape, Store, TABLES, Table};
use moving_rows::Cell;

type Result<T> = std::result::Result<T, MoveError>;

/// The pause between two looks at who else is there.
const LOOK: Duration = Duration::from_millis(500);
/// How much longer than for a silent node we wait.
const LONGER: Duration = Duration::from_secs(5);
/// What one statement may take here: a look at every row, or statistics of all.
const PATIENCE: &str = "SET statement_timeout = '30min'";

/// A schema that is ours until this is closed.
#[derive(Debug)]
pub(crate) struct Database {
    store: PostgresStore,
    client: Client,
}

impl From<Trouble> for MoveError {
    fn from(trouble: Trouble) -> Self {
        Self::Failed(trouble.sentence())
    }
}

impl From<tokio_postgres::Error> for MoveError {
    fn from(error: tokio_postgres::Error) -> Self {
        Trouble::from(error).into()
    }
}

/// Where a database is, in words, without the password.
pub(crate) fn place(settings: &PostgresSettings) -> Result<String> {
    let database = Connector::new(settings)?.place();
    Ok(format!("the schema {} of {database}", settings.schema))
}

/// Refuses a database that nobody has used yet.
pub(crate) async fn look(settings: &PostgresSettings) -> Result<()> {
    let settings = PostgresSettings { moves: true, ..settings.clone() };
    match open::look(&settings).await? {
        true => Ok(()),
        false => Err(PostgresError::Empty { schema: settings.schema }.into()),
    }
}

impl Database {
    /// Opens it as a node of this name; makes the tables where there are none and there may be.
    pub(crate) async fn open(settings: PostgresSettings, make: bool) -> Result<Self> {
        let settings = PostgresSettings { runs: false, moves: true, ..settings };
        if !make {
            look(&settings).await?;
        }
        let store = PostgresStore::open(settings).await?;
        let database = async {
            let client = store.shared.connector.connect_writer().await?;
            client.batch_execute(PATIENCE).await?;
            Ok(client)
        };
        match database.await {
            Ok(client) => Ok(Self { store, client }),
            Err(error) => {
                store.close().await;
                Err(error)
            }
        }
    }

    /// Leaves the cluster.
    pub(crate) async fn close(self) {
        self.store.close().await;
    }

    /// Waits until nobody else takes part; says who does where that doesn't come about.
    pub(crate) async fn alone(&mut self) -> Result<()> {
        let node_timeout = self.store.shared.settings.node_timeout;
        let (own, until) = (self.epoch(), Instant::now() + node_timeout + LONGER);
        let sql = "SELECT epoch, beat, name FROM nodes WHERE gone_at IS NULL AND epoch <> $1";
        let mut first: BTreeMap<i64, i64> = BTreeMap::new();
        loop {
            let others = self.client.query(sql, &[&own]).await?;
            if others.is_empty() {
                return Ok(());
            }
            for other in &others {
                let (epoch, beat): (i64, i64) = (other.try_get(0)?, other.try_get(1)?);
                // One that gives signs is not waited for.
                if *first.entry(epoch).or_insert(beat) != beat || Instant::now() >= until {
                    return Err(MoveError::InUse { node: other.try_get(2)? });
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn gate(&self) -> Gate {
        self.store.shared.gate.clone()
    }

    fn epoch(&self) -> i64 {
        self.store.shared.gate.epoch.0.cast_signed()
    }

    /// Runs statements behind the gate.
    async fn behind_gate(&mut self, statements: &str) -> Result<()> {
        let gate = self.gate();
        let transaction = self.client.transaction().await?;
        enter(&transaction, &gate).await?;
        transaction.batch_execute(statements).await?;
        Ok(transaction.commit().await?)
    }

    async fn number(&self, sql: &str) -> Result<i64> {
        Ok(self.client.query_one(sql, &[]).await?.try_get(0)?)
    }
}

async fn enter(transaction: &Transaction<'_>, gate: &Gate) -> Result<()> {
    transaction.execute(gate::ENTER, &gate.pass().values()).await?;
    Ok(())
}

async fn put_note(transaction: &Transaction<'_>, (name, value): (&str, &str)) -> Result<()> {
    let sql = "INSERT INTO moving (name, value) VALUES ($1, $2)
               ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    transaction.execute(sql, &[&name, &value]).await?;
    Ok(())
}

impl Side for Database {
    async fn page(
        &mut self,
        table: &'static Table,
        after: Option<&Cursor>,
        room: Room,
    ) -> Result<Page> {
        let statement = self.client.prepare(&select(table, after.is_some(), room.rows)).await?;
        let forms = forms(table);
        let after = after.map_or(&[][..], Vec::as_slice);
        let values =
            after.iter().zip(table.columns).map(|(value, column)| Cell::of(value, column.form));
        let values: Vec<Cell<'_>> = values.collect::<std::result::Result<_, Trouble>>()?;
        let mut rows = pin!(self.client.query_raw(&statement, values.iter()).await?);
        let mut page = Page::default();
        while let Some(found) = rows.next().await {
            let row = values_of(&found?, &forms)?;
            let last = row[..table.key].to_vec();
            if !page.push(row, last, room) {
                break;
            }
        }
        Ok(page)
    }

    async fn put(
        &mut self,
        table: &'static Table,
        rows: &[row::Row],
        note: (&str, &str),
    ) -> Result<()> {
        let gate = self.gate();
        let transaction = self.client.transaction().await?;
        moving_rows::write(&transaction, table, rows).await?;
        put_note(&transaction, note).await?;
        enter(&transaction, &gate).await?;
        Ok(transaction.commit().await?)
    }

    async fn count(&mut self, table: &'static Table) -> Result<u64> {
        let count = match table.shape {
            Shape::Journal => "coalesce(max(place) - min(place) + 1, 0)",
            _ => "count(*)",
        };
        let sql = format!("SELECT {count} FROM {}", table.postgres);
        Ok(self.number(&sql).await?.cast_unsigned())
    }

    async fn notes(&mut self) -> Result<BTreeMap<String, String>> {
        Ok(open::moving_notes(&self.client).await?)
    }

    async fn mark(&mut self, mark: &Mark, clean: bool) -> Result<()> {
        let (gate, own) = (self.gate(), self.epoch());
        let transaction = self.client.transaction().await?;
        enter(&transaction, &gate).await?;
        // Whoever comes later meets the mark; nobody came until now.
        let sql = "SELECT name FROM nodes WHERE gone_at IS NULL AND epoch <> $1 LIMIT 1";
        if let Some(other) = transaction.query_opt(sql, &[&own]).await? {
            return Err(MoveError::InUse { node: other.try_get(0)? });
        }
        let table = "CREATE TABLE IF NOT EXISTS moving
                     (name text COLLATE \"C\" PRIMARY KEY, value text COLLATE \"C\" NOT NULL)";
        transaction.batch_execute(table).await?;
        if clean {
            transaction.batch_execute("DELETE FROM care").await?;
        }
        for (name, value) in mark.notes() {
            put_note(&transaction, (name, &value)).await?;
        }
        Ok(transaction.commit().await?)
    }

    async fn unmark(&mut self) -> Result<()> {
        self.behind_gate("DROP TABLE IF EXISTS moving").await
    }

    async fn occupied(&mut self) -> Result<Option<&'static str>> {
        for table in TABLES.iter().filter(|table| table.postgres != "care") {
            let sql = format!("SELECT EXISTS (SELECT 1 FROM {})", table.postgres);
            if self.client.query_one(&sql, &[]).await?.try_get(0)? {
                return Ok(Some(table.postgres));
            }
        }
        Ok(None)
    }

    async fn strangers(&mut self) -> Result<Vec<String>> {
        let sql = "SELECT c.relname::text, a.attname::text FROM pg_class c
                   JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
                     AND NOT a.attisdropped
                   WHERE c.relnamespace = current_schema()::regnamespace
                     AND c.relkind IN ('r', 'p', 'f')";
        let found = self.client.query(sql, &[]).await?;
        let found = found.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        let found: Vec<tables::Place> = found.collect::<Result<_>>()?;
        let mut strangers = tables::strangers(&found, Store::Postgres);
        for row in self.client.query("SELECT name FROM meta", &[]).await? {
            let name: &str = row.try_get(0)?;
            if !NUMBERS.contains(&name) {
                strangers.push(format!("meta.{name}"));
            }
        }
        Ok(strangers)
    }

    async fn numbers(&mut self) -> Result<Numbers> {
        let mut given = [0; NUMBERED.len()];
        for (given, table) in given.iter_mut().zip(NUMBERED) {
            let sql = format!(
                "SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('{table}', 'id')), 0)"
            );
            *given = self.number(&sql).await?;
        }
        let epoch = "SELECT greatest(value, (SELECT coalesce(max(epoch), 0) FROM sessions))
                     FROM meta WHERE name = 'epoch'";
        let journal = "SELECT value FROM meta WHERE name = 'journal'";
        Ok(Numbers {
            epoch: self.number(epoch).await?,
            journal: self.number(journal).await?,
            given,
        })
    }

    /// Of an epoch only what names a node counts here: the numbers of nodes go on from there.
    async fn raise(&mut self, numbers: &Numbers) -> Result<()> {
        let most = Epoch::NODE_MAX.0.cast_signed();
        let drawn = if numbers.epoch <= most { numbers.epoch } else { 0 };
        let mut statements = format!(
            "UPDATE meta SET value = greatest(value, {drawn},
               (SELECT coalesce(max(epoch & {most}), 0) FROM sessions)) WHERE name = 'epoch';
             UPDATE meta SET value = greatest(value, {}) WHERE name = 'journal';",
            numbers.journal
        );
        for (table, given) in NUMBERED.into_iter().zip(numbers.given).chain([("sessions", 0)]) {
            statements.push_str(&format!(
                "SELECT setval(pg_get_serial_sequence('{table}', 'id'), last) FROM
                   (SELECT greatest({given}, coalesce(max(id), 0)) AS last FROM {table}) ends
                 WHERE last > 0;"
            ));
        }
        self.behind_gate(&statements).await?;
        // Plans are made by what stood there before anybody counted.
        for table in TABLES.iter().map(|table| table.postgres).chain(["open_work"]) {
            self.client.batch_execute(&format!("ANALYZE {table}")).await?;
        }
        Ok(())
    }
}

/// What of a table is read, behind a place or from its beginning.
fn select(table: &Table, behind: bool, rows: usize) -> String {
    let names: Vec<String> =
        table.columns.iter().map(|column| format!("\"{}\"", column.postgres)).collect();
    let what = match table.shape {
        Shape::Plain | Shape::Parts => format!("{} FROM {}", names.join(", "), table.postgres),
        Shape::Sessions => SESSIONS.to_owned(),
        Shape::Journal => JOURNAL.to_owned(),
        Shape::Turns => TURNS.to_owned(),
        Shape::Forgotten => FORGOTTEN.to_owned(),
    };
    let key = &table.columns[..table.key];
    let places = key.iter().enumerate();
    let places = places.map(|(at, column)| format!("${}::{}", at + 1, kind(column.form)));
    let places: Vec<String> = places.collect();
    let key = names[..table.key].join(", ");
    let behind =
        if behind { format!("WHERE ({key}) > ({})", places.join(", ")) } else { String::new() };
    format!("SELECT {what} {behind} ORDER BY {key} LIMIT {rows}")
}

const SESSIONS: &str = "id, key, version, last_seq, wake_at, snapshot,
      coalesce((SELECT j.place FROM journal j WHERE j.session_id = s.id
                ORDER BY j.last_seq DESC LIMIT 1), 0) AS journal_head,
      (SELECT t.id FROM turns t WHERE t.session_id = s.id ORDER BY t.ord DESC LIMIT 1)
        AS turn_head
    FROM sessions s LEFT JOIN open_work o ON o.session_id = s.id";

const JOURNAL: &str = "place, session_id, first_seq, last_seq, events,
      coalesce((SELECT p.place FROM journal p
                WHERE p.session_id = j.session_id AND p.last_seq < j.last_seq
                ORDER BY p.last_seq DESC LIMIT 1), 0) AS prev
    FROM journal j";

const TURNS: &str = "id, session_id,
      (SELECT p.id FROM turns p WHERE p.session_id = t.session_id AND p.ord < t.ord
       ORDER BY p.ord DESC LIMIT 1) AS prev,
      body
    FROM turns t";

const FORGOTTEN: &str = "session_id, through_seq, body, unswept,
      CASE WHEN unswept THEN coalesce((SELECT j.place FROM journal j
          WHERE j.session_id = f.session_id AND j.last_seq <= f.through_seq
          ORDER BY j.last_seq DESC LIMIT 1), 0) ELSE 0 END AS journal_rest,
      (SELECT t.id FROM turns t WHERE t.session_id = f.session_id
         AND t.ord <= coalesce(f.through_turn, 0) ORDER BY t.ord DESC LIMIT 1)
        AS turn_rest
    FROM forgotten f";

/// The forms of what is read of a table.
fn forms(table: &Table) -> Vec<Form> {
    let more: &[Form] = match table.shape {
        Shape::Plain | Shape::Parts | Shape::Turns => &[],
        Shape::Sessions | Shape::Forgotten => &[Form::Number, Form::Uuid],
        Shape::Journal => &[Form::Number],
    };
    table.columns.iter().map(|column| column.form).chain(more.iter().copied()).collect()
}

const fn kind(form: Form) -> &'static str {
    match form {
        Form::Number => "bigint",
        Form::Small => "smallint",
        Form::Flag => "boolean",
        Form::Text => "text",
        Form::Said | Form::Bytes => "bytea",
        Form::Uuid => "uuid",
    }
}

fn values_of(row: &Row, forms: &[Form]) -> std::result::Result<row::Row, Trouble> {
    let value = |(at, form): (usize, &Form)| {
        let value = match form {
            Form::Number => row.try_get::<_, Option<i64>>(at)?.map(Value::Number),
            Form::Small => row.try_get::<_, Option<i16>>(at)?.map(|n| Value::Number(n.into())),
            Form::Flag => row.try_get::<_, Option<bool>>(at)?.map(|n| Value::Number(n.into())),
            Form::Text => text::get_some(row.try_get(at)?)?.map(Value::Text),
            Form::Said => {
                let said = row.try_get::<_, Option<Vec<u8>>>(at)?.map(String::from_utf8);
                let said = said.transpose();
                said.map_err(|_| Trouble::Corrupt("what a part of a reply says is no text".into()))?
                    .map(Value::Text)
            }
            Form::Bytes => row.try_get::<_, Option<Vec<u8>>>(at)?.map(Value::Bytes),
            Form::Uuid => {
                let id = row.try_get::<_, Option<uuid::Uuid>>(at)?;
                id.map(|id| Value::Bytes(id.as_bytes().to_vec()))
            }
        };
        Ok(value.unwrap_or(Value::Null))
    };
    forms.iter().enumerate().map(value).collect()
}
