//! How a session is found by what a person calls it.

use std::sync::Arc;

use super::{Board, CANDIDATES_MAX, Row, RowId};
use crate::session_key::SessionKey;

/// Digits of an id that have to be given at least.
const PREFIX_MIN: usize = 2;

/// Why a text means no session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// There is none like that.
    Unknown,
    /// There are several; the first [`CANDIDATES_MAX`] of them.
    Ambiguous(Vec<Arc<Row>>),
}

impl Board {
    /// The session that a text means: by its number, its exact name, the beginning of its id, or its
    /// key. Only digits are a number and nothing else, for a number that is not there must not mean
    /// somebody else's id.
    pub fn find(&self, text: &str) -> Result<Arc<Row>, Missing> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let row = text.parse().ok().and_then(|number| self.row(number));
            return match row {
                Some(row) => Ok(row),
                None if text.len() == RowId::DIGITS => self.by_prefix(text),
                None => Err(Missing::Unknown),
            };
        }
        let named = self.by_name.get(text.trim()).and_then(|number| self.row(*number));
        if let Some(row) = named {
            return Ok(row);
        }
        if text.contains(':') {
            let key = text.parse().map_err(|_| Missing::Unknown)?;
            return self.by_key(&key).ok_or(Missing::Unknown);
        }
        self.by_prefix(text)
    }

    /// A session's row by its key.
    #[must_use]
    pub fn by_key(&self, key: &SessionKey) -> Option<Arc<Row>> {
        self.row(*self.by_key.get(key)?)
    }

    fn by_prefix(&self, text: &str) -> Result<Arc<Row>, Missing> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let fits = (PREFIX_MIN..=RowId::DIGITS).contains(&text.len());
        if !fits || !text.bytes().all(is_digit) {
            return Err(Missing::Unknown);
        }
        let rest = RowId::DIGITS - text.len();
        let first = u64::from_str_radix(text, 16).map_err(|_| Missing::Unknown)? << (4 * rest);
        let last = first | ((1 << (4 * rest)) - 1);
        let ids = self.by_id.range((RowId(first), 0)..=(RowId(last), u32::MAX));
        let mut found = ids.filter_map(|(_, number)| self.row(*number));
        let mut found: Vec<Arc<Row>> = found.by_ref().take(CANDIDATES_MAX).collect();
        match found.len() {
            0 => Err(Missing::Unknown),
            1 => found.pop().ok_or(Missing::Unknown),
            _ => Err(Missing::Ambiguous(found)),
        }
    }
}
