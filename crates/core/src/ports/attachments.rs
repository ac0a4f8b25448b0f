//! What came along with messages and was stored as files, by the hash of their content.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::BoxFuture;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// The hash of its content (SHA-256, in hex), by which messages name it.
    pub hash: Arc<str>,
    /// Its size.
    pub bytes: u64,
    /// When it was stored last, in nanoseconds since 1970: twice in one millisecond is not the same.
    pub stored_ns: u64,
}

/// Letters of a hash.
const HASH_LETTERS: usize = 64;

/// Finds the hashes that a text names: every word of so many hex digits, whatever stands around it.
/// Where more of them stand in a row (a line's end may be written with one of them), it is what the
/// row begins or ends with.
pub fn named_in(text: &str, found: &mut BTreeSet<String>) {
    let rows = text.split(|letter: char| !letter.is_ascii_hexdigit());
    for row in rows.filter(|row| row.len() >= HASH_LETTERS) {
        for hash in [&row[..HASH_LETTERS], &row[row.len() - HASH_LETTERS..]] {
            found.insert(hash.to_ascii_lowercase());
        }
    }
}

/// All of them.
pub trait Attachments: Send + Sync + 'static {
    /// Those that no message is being taken with just now. A message that comes later with one of
    /// them stores it anew.
    fn list(&self) -> BoxFuture<'_, io::Result<Vec<StoredFile>>>;

    /// Removes one that was listed; false where it was stored anew since, or is gone.
    fn remove(&self, file: StoredFile) -> BoxFuture<'_, io::Result<bool>>;

    /// Whether one was left out lately because there was no room.
    fn is_full(&self) -> bool;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_found_however_it_is_named() {
        let hash = "0a".repeat(32);
        let check = |text: String, is_named: bool| {
            let mut found = BTreeSet::new();
            named_in(&text, &mut found);
            assert_eq!(found.contains(&hash), is_named, "{text}");
        };
        check(format!("[a file, sha256 {hash}]"), true);
        check(format!("attachments/0a/{hash}"), true);
        check(format!("{{\\\"hash\\\":\\\"{}\\\"}}", hash.to_uppercase()), true);
        check(format!("\\f{hash}\\n"), true);
        check(format!("é{hash}é"), true);
        check(hash[1..].to_owned(), false);
        check(hash.replacen('0', " ", 1), false);
    }
}
