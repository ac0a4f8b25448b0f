//! Every table, by the names that it and its columns have in either store, and the form that a
//! column has there.
//!
//! What a store only keeps to find its rows (chains, indexes, numbers of an order) is not moved but
//! made anew by whoever writes there. A table or column that stands in a store and not here stops
//! a move before it begins: nothing is left behind in silence.

/// What stands in a column, in SQLite's words and in PostgreSQL's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `INTEGER` and `bigint`.
    Number,
    /// `INTEGER` and `smallint`.
    Small,
    /// `INTEGER` (0 or 1) and `boolean`.
    Flag,
    /// `TEXT` and `text`, which holds no zero characters and writes them otherwise.
    Text,
    /// `TEXT` and `bytea`.
    Said,
    /// `BLOB` and `bytea`.
    Bytes,
    /// `BLOB` and `uuid`.
    Uuid,
}

/// A column that moves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) sqlite: &'static str,
    pub(crate) postgres: &'static str,
    pub(crate) form: Form,
}

/// How a table's rows are read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Column by column.
    Plain,
    /// Open work stands beside in PostgreSQL, the ends of the chains within in SQLite.
    Sessions,
    /// A chain and a sparse index in SQLite.
    Journal,
    /// A chain in SQLite, an order in PostgreSQL.
    Turns,
    /// The state stands beside the body in PostgreSQL.
    Parts,
    /// What still has to be swept is told otherwise.
    Forgotten,
}

/// A table that moves.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) sqlite: &'static str,
    pub(crate) postgres: &'static str,
    pub(crate) shape: Shape,
    pub(crate) columns: &'static [Column],
    /// How many columns at the beginning tell the rows apart and order them.
    pub(crate) key: usize,
}

const fn same(name: &'static str, form: Form) -> Column {
    Column { sqlite: name, postgres: name, form }
}

const fn named(sqlite: &'static str, postgres: &'static str, form: Form) -> Column {
    Column { sqlite, postgres, form }
}

const fn plain(name: &'static str, key: usize, columns: &'static [Column]) -> Table {
    Table { sqlite: name, postgres: name, shape: Shape::Plain, columns, key }
}

const fn shaped(name: &'static str, shape: Shape, key: usize, columns: &'static [Column]) -> Table {
    Table { sqlite: name, postgres: name, shape, columns, key }
}

use Form::{Bytes, Flag, Number, Said, Small, Text, Uuid};

/// All of them, in the order in which they move: `forgotten` looks for its turns.
pub(crate) const TABLES: [Table; 22] = [
    shaped(
        "sessions",
        Shape::Sessions,
        1,
        &[
            same("id", Number),
            same("key", Text),
            same("version", Number),
            same("last_seq", Number),
            same("wake_at", Number),
            same("snapshot", Bytes),
        ],
    ),
    shaped(
        "journal",
        Shape::Journal,
        1,
        &[
            named("id", "place", Number),
            same("session_id", Number),
            same("first_seq", Number),
            same("last_seq", Number),
            same("events", Bytes),
        ],
    ),
    shaped(
        "turns",
        Shape::Turns,
        1,
        &[same("id", Uuid), same("session_id", Number), same("prev", Uuid), same("body", Bytes)],
    ),
    shaped(
        "parts",
        Shape::Parts,
        3,
        &[
            same("session_id", Number),
            same("reply", Number),
            same("part", Number),
            same("body", Bytes),
            named("text", "said", Said),
        ],
    ),
    plain(
        "dead_letters",
        1,
        &[same("id", Number), same("session_id", Number), same("seq", Number), same("body", Bytes)],
    ),
    plain(
        "seen",
        1,
        &[
            same("key", Uuid),
            same("body_hash", Number),
            same("until", Number),
            same("session_id", Number),
            same("session", Text),
            same("seq", Number),
            same("action", Small),
            same("turn", Uuid),
            same("queue_position", Number),
        ],
    ),
    plain(
        "disappearing",
        2,
        &[
            same("session_id", Number),
            same("seq", Number),
            same("seconds", Number),
            same("due_at", Number),
        ],
    ),
    shaped(
        "forgotten",
        Shape::Forgotten,
        1,
        &[
            same("session_id", Number),
            same("through_seq", Number),
            same("body", Bytes),
            same("unswept", Flag),
        ],
    ),
    plain("care", 1, &[same("name", Text), same("value", Bytes)]),
    USAGE,
    plain(
        "usage_turns",
        1,
        &[
            same("turn", Uuid),
            same("session_id", Number),
            same("requests", Number),
            same("input", Number),
            same("output", Number),
            same("cached", Number),
            same("cache_write", Number),
            same("cost", Number),
            same("unpriced", Number),
        ],
    ),
    plain(
        "keys",
        1,
        &[
            same("id", Text),
            same("secret", Bytes),
            same("tenant", Text),
            same("scopes", Text),
            same("label", Text),
            same("created_at", Number),
            same("expires_at", Number),
            same("revoked_at", Number),
        ],
    ),
    plain(
        "sign_ins",
        1,
        &[
            same("secret", Bytes),
            same("kind", Text),
            same("tenant", Text),
            same("customer", Text),
            same("agent", Text),
            same("made_by", Text),
            same("until", Number),
        ],
    ),
    plain(
        "restrictions",
        1,
        &[
            same("id", Number),
            same("tenant", Text),
            same("customer", Text),
            same("severity", Text),
            named("type", "kind", Text),
            same("since", Number),
            same("until", Number),
            same("reason", Text),
            same("appeal", Text),
            same("appealed_at", Number),
            same("lifted_at", Number),
            same("lifted_by", Text),
        ],
    ),
    plain(
        "pairings",
        1,
        &[
            same("id", Text),
            same("tenant", Text),
            named("user", "known_as", Text),
            same("trust", Text),
            same("made_at", Number),
            same("until", Number),
            same("code", Bytes),
            same("channel", Text),
            same("person", Text),
            same("paired_at", Number),
        ],
    ),
    plain(
        "listeners",
        1,
        &[same("name", Text), named("position", "place", Number), same("configured_at", Number)],
    ),
    plain(
        "callbacks",
        1,
        &[
            same("id", Number),
            same("listener", Text),
            named("position", "place", Number),
            same("seq", Number),
            same("event_type", Text),
            same("at", Number),
            same("state", Text),
            same("tries", Number),
            same("due_at", Number),
            same("error", Text),
        ],
    ),
    plain(
        "jobs",
        2,
        &[
            same("tenant", Text),
            same("name", Text),
            same("spec", Text),
            same("made_at", Number),
            same("handled", Number),
            same("held", Flag),
        ],
    ),
    plain(
        "ticks",
        3,
        &[
            same("tenant", Text),
            same("job", Text),
            same("at", Number),
            same("state", Text),
            same("claimed_at", Number),
            same("ended_at", Number),
            same("session", Text),
            same("seq", Number),
            same("note", Text),
        ],
    ),
    plain(
        "switchboard_sessions",
        1,
        &[
            same("session_key", Text),
            same("tenant", Text),
            same("number", Number),
            same("name", Text),
            same("created_at", Number),
            same("touched_at", Number),
            same("read_seq", Number),
        ],
    ),
    plain(
        "switchboard_seats",
        2,
        &[
            same("tenant", Text),
            same("seat", Text),
            same("active_key", Text),
            same("history", Text),
            same("touched_at", Number),
        ],
    ),
    plain("switchboard_counters", 1, &[same("tenant", Text), same("last_number", Number)]),
];

/// Columns of SQLite that are made anew there.
pub(crate) const SQLITE_MADE: [(&str, &[&str]); 4] = [
    ("sessions", &["journal_head", "turn_head"]),
    ("journal", &["prev"]),
    ("journal_index", &["session_id", "last_seq", "journal_id"]),
    ("forgotten", &["through_turn", "journal_rest", "turn_rest"]),
];

/// Columns of PostgreSQL that are made anew there.
pub(crate) const POSTGRES_MADE: [(&str, &[&str]); 5] = [
    ("sessions", &["epoch"]),
    ("open_work", &["session_id", "wake_at"]),
    ("turns", &["ord"]),
    ("parts", &["state"]),
    ("forgotten", &["through_turn"]),
];

/// Tables that say who works with a store, not what it holds. Of `meta` each side takes the numbers
/// that count on.
pub(crate) const SQLITE_OWN: [&str; 2] = ["meta", "moving"];
pub(crate) const POSTGRES_OWN: [&str; 9] =
    ["meta", "moving", "schema_steps", "cluster", "nodes", "epochs", "leases", "marks", "knocks"];

/// What numbers `meta` may hold.
pub(crate) const NUMBERS: [&str; 4] = ["epoch", "probe", "journal", "floor"];

/// Tables whose rows are numbered, and no number is given out twice though its row is gone.
pub(crate) const NUMBERED: [&str; 3] = ["dead_letters", "restrictions", "callbacks"];

/// A column of a store: its table's name and its own.
pub(crate) type Place = (String, String);

/// Those of a store's columns that nobody here knows, in words.
pub(crate) fn strangers(found: &[Place], store: Store) -> Vec<String> {
    let (made, own): (&[(&str, &[&str])], &[&str]) = match store {
        Store::Sqlite => (&SQLITE_MADE, &SQLITE_OWN),
        Store::Postgres => (&POSTGRES_MADE, &POSTGRES_OWN),
    };
    let known = |table: &str, column: &str| {
        let moves = |known: &Table| {
            let (name, columns) = match store {
                Store::Sqlite => (known.sqlite, known.columns),
                Store::Postgres => (known.postgres, known.columns),
            };
            let named = |known: &Column| match store {
                Store::Sqlite => known.sqlite == column,
                Store::Postgres => known.postgres == column,
            };
            name == table && columns.iter().any(named)
        };
        let is_made =
            |(name, columns): &(&str, &[&str])| *name == table && columns.contains(&column);
        own.contains(&table) || TABLES.iter().any(moves) || made.iter().any(is_made)
    };
    let strange = found.iter().filter(|(table, column)| !known(table, column));
    strange.map(|(table, column)| format!("{table}.{column}")).collect()
}

/// Which names are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    Sqlite,
    Postgres,
}

/// The sums of days have another name in PostgreSQL.
const USAGE: Table = Table {
    sqlite: "usage",
    postgres: "usage_days",
    shape: Shape::Plain,
    columns: &[
        same("session_id", Number),
        same("day", Number),
        same("agent", Text),
        same("model", Text),
        same("tenant", Text),
        same("customer", Text),
        same("requests", Number),
        same("input", Number),
        same("output", Number),
        same("cached", Number),
        same("cache_write", Number),
        same("cost", Number),
        same("unpriced", Number),
    ],
    key: 4,
};
