//! Rows on their way from one store to another, and how it is told that they are the same there.

use serde::{Deserialize, Serialize};

/// One value, as SQLite would hold it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Value {
    #[serde(rename = "null")]
    Null,
    #[serde(rename = "n")]
    Number(i64),
    #[serde(rename = "t")]
    Text(String),
    #[serde(rename = "b")]
    Bytes(Vec<u8>),
}

/// The columns of a table that move, and behind them what only the target's store needs.
pub(crate) type Row = Vec<Value>;

/// A place between two rows of a table, as the source orders them.
pub(crate) type Cursor = Vec<Value>;

/// Some rows that follow one another.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) rows: Vec<Row>,
    /// The place behind them; none where there were none.
    pub(crate) last: Option<Cursor>,
    /// Perhaps there are more.
    pub(crate) more: bool,
    bytes: usize,
}

/// How much a page holds at most, but for its first row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

impl Page {
    /// Takes a row in; whether there is room for another one.
    pub(crate) fn push(&mut self, row: Row, last: Cursor, room: Room) -> bool {
        self.bytes += row.iter().map(Value::bytes).sum::<usize>();
        self.rows.push(row);
        self.last = Some(last);
        self.more = self.rows.len() >= room.rows || self.bytes >= room.bytes;
        !self.more
    }
}

impl Value {
    fn bytes(&self) -> usize {
        match self {
            Self::Null | Self::Number(_) => 8,
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    pub(crate) const fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub(crate) fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// What tells a set of rows from another one: their number and a sum over each. It finds mistakes,
/// not forgers. The order doesn't count, for the two stores have different ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Digest {
    pub(crate) rows: u64,
    sum: u64,
}

impl Digest {
    /// Adds a row's first `columns` values.
    pub(crate) fn add(&mut self, row: &[Value], columns: usize) {
        let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
        for value in row.iter().take(columns) {
            match value {
                Value::Null => hash.add(&[0]),
                Value::Number(number) => {
                    hash.add(&[1]);
                    hash.add(&number.to_le_bytes());
                }
                Value::Text(text) => hash.with_length(2, text.as_bytes()),
                Value::Bytes(bytes) => hash.with_length(3, bytes),
            }
        }
        self.rows += 1;
        self.sum = self.sum.wrapping_add(hash.end());
    }
}

/// The 64-bit hash of Fowler, Noll and Vo, its bits mixed at the end, for they are summed up.
struct Fnv(u64);

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn with_length(&mut self, kind: u8, bytes: &[u8]) {
        self.add(&[kind]);
        self.add(&(bytes.len() as u64).to_le_bytes());
        self.add(bytes);
    }

    const fn end(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// How far a table is, as the target keeps it beside the rows themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Progress {
    /// What was read of the source so far.
    pub(crate) read: Digest,
    /// Behind which row it goes on.
    pub(crate) after: Option<Cursor>,
    /// There are no more.
    pub(crate) done: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(rows: &[&[Value]]) -> Digest {
        let mut digest = Digest::default();
        for row in rows {
            digest.add(row, 2);
        }
        digest
    }

    #[test]
    fn rows_are_told_apart_whatever_their_order() {
        let text = |text: &str| Value::Text(text.into());
        let (one, two) = ([text("a"), text("bc")], [Value::Number(1), Value::Null]);
        assert_eq!(digest(&[&one, &two]), digest(&[&two, &one]));
        let different = [
            digest(&[&one]),
            digest(&[&one, &two]),
            digest(&[&one, &one]),
            digest(&[&[text("ab"), text("c")]]),
            digest(&[&[text("a"), Value::Bytes(b"bc".to_vec())]]),
            digest(&[&[Value::Null, Value::Number(1)]]),
            digest(&[&[Value::Number(0), Value::Number(1)]]),
        ];
        for (at, one) in different.iter().enumerate() {
            assert!(!different[at + 1..].contains(one), "{at}: {one:?}");
        }
    }

    #[test]
    fn what_is_for_the_target_only_is_no_part_of_a_row() {
        let mut with_more = Digest::default();
        with_more.add(&[Value::Number(1), Value::Number(2), Value::Number(3)], 2);
        assert_eq!(with_more, digest(&[&[Value::Number(1), Value::Number(2)]]));
    }

    #[test]
    fn a_place_survives_its_text_whatever_it_holds() {
        let after = vec![
            Value::Number(i64::MIN),
            Value::Text("a\0\u{1}😀\"".into()),
            Value::Bytes(vec![0, 255]),
            Value::Null,
        ];
        let progress = Progress { after: Some(after), done: true, ..Progress::default() };
        let text = serde_json::to_string(&progress).unwrap();
        assert!(!text.contains('\0'), "{text}");
        assert_eq!(serde_json::from_str::<Progress>(&text).unwrap(), progress);
    }

    #[test]
    fn a_page_is_full_by_rows_or_bytes_and_has_one_row_at_least() {
        let room = Room { rows: 2, bytes: 100 };
        let mut page = Page::default();
        assert!(page.push(vec![Value::Number(1)], vec![Value::Number(1)], room));
        assert!(!page.push(vec![Value::Number(2)], vec![Value::Number(2)], room));
        assert!(page.more);
        let mut page = Page::default();
        let large = vec![Value::Bytes(vec![0; 1000])];
        assert!(!page.push(large, vec![Value::Number(1)], room));
        assert_eq!(page.last, Some(vec![Value::Number(1)]));
    }
}
