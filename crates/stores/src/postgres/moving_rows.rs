//! Rows of a move as the database takes them: binary COPY, and beside it what PostgreSQL keeps
//! where SQLite doesn't.

use std::borrow::Cow;
use std::error::Error;
use std::pin::pin;

use serde::Deserialize;
use tokio_postgres::Transaction;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use turnkeep_core::Epoch;
use turnkeep_core::outbox::DeliveryState;
use uuid::Uuid;

use super::put::state_number;
use super::text;
use super::trouble::{Result, Trouble};
use crate::encode;
use crate::moving::row::{Row, Value};
use crate::moving::tables::{Form, Shape, Table};

/// One value in the form of its column.
#[derive(Debug)]
pub(super) enum Cell<'a> {
    Null,
    Number(i64),
    Small(i16),
    Flag(bool),
    Text(Cow<'a, str>),
    Bytes(&'a [u8]),
    Uuid(Uuid),
}

impl<'a> Cell<'a> {
    pub(super) fn of(value: &'a Value, form: Form) -> Result<Self> {
        let strange = || Trouble::Corrupt(format!("a row holds {value:?} where {form:?} belongs"));
        Ok(match (value, form) {
            (Value::Null, _) => Self::Null,
            (Value::Number(number), Form::Number) => Self::Number(*number),
            (Value::Number(number), Form::Small) => {
                Self::Small(i16::try_from(*number).map_err(|_| strange())?)
            }
            (Value::Number(number), Form::Flag) => Self::Flag(*number != 0),
            (Value::Text(said), Form::Text) => Self::Text(text::put(said)),
            (Value::Text(said), Form::Said) => Self::Bytes(said.as_bytes()),
            (Value::Bytes(bytes), Form::Bytes) => Self::Bytes(bytes),
            (Value::Bytes(bytes), Form::Uuid) => {
                Self::Uuid(Uuid::from_slice(bytes).map_err(|_| strange())?)
            }
            _ => return Err(strange()),
        })
    }
}

impl ToSql for Cell<'_> {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Number(number) => number.to_sql(kind, out),
            Self::Small(number) => number.to_sql(kind, out),
            Self::Flag(flag) => flag.to_sql(kind, out),
            Self::Text(text) => text.to_sql(kind, out),
            Self::Bytes(bytes) => bytes.to_sql(kind, out),
            Self::Uuid(id) => id.to_sql(kind, out),
        }
    }

    /// It was made for its column.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// Writes rows, and whatever is made of them here.
pub(super) async fn write(on: &Transaction<'_>, table: &Table, rows: &[Row]) -> Result<()> {
    match table.shape {
        Shape::Plain | Shape::Journal => plain(on, table, rows).await,
        Shape::Sessions => sessions(on, rows).await,
        Shape::Turns => {
            let columns = [("id", Form::Uuid), ("session_id", Form::Number), ("body", Form::Bytes)];
            // In the order of its chain, in which the database numbers them.
            copy(on, table.postgres, &columns, rows, |row| cells(row, &columns, &[0, 1, 3])).await
        }
        Shape::Parts => parts(on, rows).await,
        Shape::Forgotten => forgotten(on, rows).await,
    }
}

type Column = (&'static str, Form);

async fn plain(on: &Transaction<'_>, table: &Table, rows: &[Row]) -> Result<()> {
    let columns: Vec<Column> =
        table.columns.iter().map(|column| (column.postgres, column.form)).collect();
    let all: Vec<usize> = (0..columns.len()).collect();
    copy(on, table.postgres, &columns, rows, |row| cells(row, &columns, &all)).await
}

/// What of a session's state stands beside it.
#[derive(Deserialize)]
struct Owned {
    #[serde(default)]
    epoch: Epoch,
}

async fn sessions(on: &Transaction<'_>, rows: &[Row]) -> Result<()> {
    const COLUMNS: [Column; 6] = [
        ("id", Form::Number),
        ("key", Form::Text),
        ("version", Form::Number),
        ("last_seq", Form::Number),
        ("snapshot", Form::Bytes),
        ("epoch", Form::Number),
    ];
    const OPEN: [Column; 2] = [("session_id", Form::Number), ("wake_at", Form::Number)];
    copy(on, "sessions", &COLUMNS, rows, |row| {
        let whose = || format!("session {:?}", row.get(1));
        let snapshot = row.get(5).and_then(Value::as_bytes).unwrap_or_default();
        let Owned { epoch } = encode::value(snapshot, whose)?;
        let mut made = cells(row, &COLUMNS[..5], &[0, 1, 2, 3, 5])?;
        made.push(Cell::Number(epoch.0.cast_signed()));
        Ok(made)
    })
    .await?;
    let open: Vec<Row> =
        rows.iter().filter(|row| row.get(4) != Some(&Value::Null)).cloned().collect();
    copy(on, "open_work", &OPEN, &open, |row| cells(row, &OPEN, &[0, 4])).await
}

/// What of a part's body stands beside it.
#[derive(Deserialize)]
struct Stated {
    state: DeliveryState,
}

async fn parts(on: &Transaction<'_>, rows: &[Row]) -> Result<()> {
    const COLUMNS: [Column; 6] = [
        ("session_id", Form::Number),
        ("reply", Form::Number),
        ("part", Form::Number),
        ("body", Form::Bytes),
        ("said", Form::Said),
        ("state", Form::Small),
    ];
    copy(on, "parts", &COLUMNS, rows, |row| {
        let whose = || format!("a part of a reply of session number {:?}", row.first());
        let body = row.get(3).and_then(Value::as_bytes).unwrap_or_default();
        let Stated { state } = encode::value(body, whose)?;
        let mut made = cells(row, &COLUMNS[..5], &[0, 1, 2, 3, 4])?;
        made.push(Cell::Small(state_number(state)));
        Ok(made)
    })
    .await
}

/// Turns that are gone and still there are named by the newest one's place in the order.
async fn forgotten(on: &Transaction<'_>, rows: &[Row]) -> Result<()> {
    const COLUMNS: [Column; 4] = [
        ("session_id", Form::Number),
        ("through_seq", Form::Number),
        ("body", Form::Bytes),
        ("unswept", Form::Flag),
    ];
    copy(on, "forgotten", &COLUMNS, rows, |row| cells(row, &COLUMNS, &[0, 1, 2, 3])).await?;
    let (mut sessions, mut turns) = (Vec::new(), Vec::new());
    for row in rows {
        let session = row.first().and_then(Value::number);
        let turn = row.get(4).and_then(Value::as_bytes).and_then(|id| Uuid::from_slice(id).ok());
        if let (Some(session), Some(turn)) = (session, turn) {
            sessions.push(session);
            turns.push(turn);
        }
    }
    let sql = "UPDATE forgotten f SET through_turn = t.ord
               FROM unnest($1::bigint[], $2::uuid[]) AS n(session_id, turn)
               JOIN turns t ON t.id = n.turn AND t.session_id = n.session_id
               WHERE f.session_id = n.session_id";
    on.execute(sql, &[&sessions, &turns]).await?;
    Ok(())
}

/// Some values of a row in the forms of their columns.
fn cells<'a>(row: &'a Row, columns: &[Column], places: &[usize]) -> Result<Vec<Cell<'a>>> {
    let cell = |(place, (_, form)): (&usize, &Column)| {
        Cell::of(row.get(*place).unwrap_or(&Value::Null), *form)
    };
    places.iter().zip(columns).map(cell).collect()
}

async fn copy<'a>(
    on: &Transaction<'_>,
    table: &str,
    columns: &[Column],
    rows: &'a [Row],
    cells: impl Fn(&'a Row) -> Result<Vec<Cell<'a>>>,
) -> Result<()> {
    let names: Vec<String> = columns.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let sql = format!("COPY {table} ({}) FROM STDIN (FORMAT binary)", names.join(", "));
    let kinds: Vec<Type> = columns.iter().map(|(_, form)| kind(*form)).collect();
    let mut writer = pin!(BinaryCopyInWriter::new(on.copy_in(&sql).await?, &kinds));
    for row in rows {
        writer.as_mut().write_raw(cells(row)?.iter()).await?;
    }
    writer.finish().await?;
    Ok(())
}

const fn kind(form: Form) -> Type {
    match form {
        Form::Number => Type::INT8,
        Form::Small => Type::INT2,
        Form::Flag => Type::BOOL,
        Form::Text => Type::TEXT,
        Form::Said | Form::Bytes => Type::BYTEA,
        Form::Uuid => Type::UUID,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_goes_where_its_form_is_and_nowhere_else() {
        let id = Value::Bytes(vec![7; 16]);
        assert!(matches!(Cell::of(&id, Form::Uuid), Ok(Cell::Uuid(_))));
        assert!(matches!(Cell::of(&id, Form::Bytes), Ok(Cell::Bytes(_))));
        assert!(Cell::of(&Value::Bytes(vec![7; 15]), Form::Uuid).is_err());
        assert!(Cell::of(&id, Form::Number).is_err());
        assert!(matches!(Cell::of(&Value::Number(1), Form::Flag), Ok(Cell::Flag(true))));
        assert!(matches!(Cell::of(&Value::Number(5), Form::Small), Ok(Cell::Small(5))));
        assert!(Cell::of(&Value::Number(70_000), Form::Small).is_err());
        assert!(matches!(Cell::of(&Value::Null, Form::Text), Ok(Cell::Null)));
    }

    #[test]
    fn zero_characters_go_as_the_store_writes_them() {
        let text = Value::Text("a\0b".into());
        let Ok(Cell::Text(put)) = Cell::of(&text, Form::Text) else { panic!("{text:?}") };
        assert_eq!(put, "a\u{1}0b");
        assert!(matches!(Cell::of(&text, Form::Said), Ok(Cell::Bytes(b"a\0b"))));
    }
}
