//! Attachments are stored by what they are: the hash of their bytes is their name.

use std::collections::VecDeque;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ring::digest::{Context, SHA256};

/// Nobody but the owner reads them.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;
/// How the name of a file begins that is not whole yet.
const COMING: &str = "coming-";
/// How much is copied at once.
const CHUNK: usize = 64 << 10;

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// It is stored, under this hash; so many bytes.
    Stored(Arc<str>, u64),
    /// It is larger than allowed.
    TooLarge,
}

/// Attachments of which it is remembered where they are.
const STORED_MAX: usize = 500;

/// Under which hashes the last attachments were stored, by signal-cli's names of them.
#[derive(Default)]
pub(super) struct Stored(VecDeque<(Arc<str>, Arc<str>, u64)>);

impl Stored {
    pub(super) fn remember(&mut self, id: &Arc<str>, hash: &Arc<str>, bytes: u64) {
        self.0.truncate(STORED_MAX - 1);
        self.0.push_front((Arc::clone(id), Arc::clone(hash), bytes));
    }

    /// The hash, and so many bytes.
    pub(super) fn find(&self, id: &str) -> Option<(Arc<str>, u64)> {
        let (_, hash, bytes) = self.0.iter().find(|(one, _, _)| **one == *id)?;
        Some((Arc::clone(hash), *bytes))
    }
}

/// Where an attachment with this hash is stored.
#[must_use]
pub fn attachment_path(data_dir: &Path, hash: &str) -> PathBuf {
    data_dir.join("attachments").join(hash.get(..2).unwrap_or("00")).join(hash)
}

/// A folder that only its owner looks into.
pub(super) fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)
}

/// Stores what `from` gives, if it is no more than `bytes_max`. Durable when it returns; the same
/// content is stored once.
pub(super) fn keep(data_dir: &Path, mut from: impl Read, bytes_max: u64) -> io::Result<Kept> {
    let folder = data_dir.join("attachments");
    private_folder(&folder)?;
    let coming = Coming::new(&folder)?;
    let mut hash = Context::new(&SHA256);
    let mut chunk = vec![0; CHUNK];
    let mut bytes: u64 = 0;
    loop {
        let count = match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        bytes += count as u64;
        if bytes > bytes_max {
            return Ok(Kept::TooLarge);
        }
        hash.update(&chunk[..count]);
        (&coming.file).write_all(&chunk[..count])?;
    }
    let hash = hex(hash.finish().as_ref());
    coming.file.sync_all()?;
    let place = attachment_path(data_dir, &hash);
    let folder = place.parent().unwrap_or(&folder);
    private_folder(folder)?;
    std::fs::rename(&coming.path, &place)?;
    File::open(folder)?.sync_all()?;
    Ok(Kept::Stored(hash.into(), bytes))
}

/// Removes what was not whole when an earlier run ended.
pub(super) fn tidy(data_dir: &Path) {
    let Ok(all) = std::fs::read_dir(data_dir.join("attachments")) else { return };
    for entry in all.flatten() {
        if entry.file_name().to_string_lossy().starts_with(COMING) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// A file that is not whole yet; removed with this unless it has another name by then.
struct Coming {
    path: PathBuf,
    file: File,
}

impl Coming {
    fn new(folder: &Path) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("{COMING}{number}"));
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(FILE_MODE).open(&path)?;
        Ok(Self { path, file })
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
