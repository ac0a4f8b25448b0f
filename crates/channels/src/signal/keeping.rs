//! Attachments are stored by what they are: the hash of their bytes is their name.
//!
//! All of them share one room. Who removes those that nobody refers to any more is told which a
//! message is just being taken with: these are in somebody's hand, and stay.

use std::collections::{HashMap, VecDeque};
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use ring::digest::{Context, SHA256};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::attachments::{self, StoredFile};

/// Nobody but the owner reads them.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;
/// How the name of a file begins that is not whole yet.
const COMING: &str = "coming-";
/// How much is copied at once.
const CHUNK: usize = 64 << 10;

/// What came of it.
#[derive(Debug)]
pub(super) enum Kept {
    /// It is stored; so many bytes.
    Stored(InHand, u64),
    /// It is larger than allowed.
    TooLarge,
    /// There is no room for it beside the others.
    NoRoom,
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

/// All attachments in a data folder. There is one of it a folder, for it knows what is in hand.
#[derive(Debug)]
pub struct Attachments {
    data_dir: PathBuf,
    /// How much they may be together.
    bytes_max: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How much they are together, once they were counted.
    bytes: Option<u64>,
    /// One was left out because there was no room.
    full: bool,
    in_hand: HashMap<Arc<str>, usize>,
}

/// A stored attachment that stays while this is held.
#[derive(Debug)]
pub(super) struct InHand {
    pub(super) hash: Arc<str>,
    all: Arc<Attachments>,
}

impl Drop for InHand {
    fn drop(&mut self) {
        let mut state = self.all.state();
        if let Some(held) = state.in_hand.get_mut(&self.hash) {
            *held -= 1;
            if *held == 0 {
                state.in_hand.remove(&self.hash);
            }
        }
    }
}

impl Attachments {
    /// Those of a data folder, which may be `bytes_max` together.
    #[must_use]
    pub fn new(data_dir: &Path, bytes_max: u64) -> Self {
        let (bytes_max, state) = (AtomicU64::new(bytes_max), Mutex::default());
        Self { data_dir: data_dir.to_owned(), bytes_max, state }
    }

    /// From here on they may be so much together.
    pub fn limit(&self, bytes_max: u64) {
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self) -> PathBuf {
        self.data_dir.join("attachments")
    }

    /// Stores what `from` gives, if it is no more than `bytes_max`. Durable when it returns; the same
    /// content is stored once.
    pub(super) fn keep(self: &Arc<Self>, mut from: impl Read, bytes_max: u64) -> io::Result<Kept> {
        let folder = self.folder();
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
        let hash: Arc<str> = hex(hash.finish().as_ref()).into();
        coming.file.sync_all()?;
        let place = attachment_path(&self.data_dir, &hash);
        let folder = place.parent().unwrap_or(&folder);
        private_folder(folder)?;
        let Some(in_hand) = self.place(&coming, &place, &hash, bytes)? else {
            return Ok(Kept::NoRoom);
        };
        File::open(folder)?.sync_all()?;
        Ok(Kept::Stored(in_hand, bytes))
    }

    /// Gives it its name and holds it, unless there is no room.
    fn place(
        self: &Arc<Self>,
        coming: &Coming,
        place: &Path,
        hash: &Arc<str>,
        bytes: u64,
    ) -> io::Result<Option<InHand>> {
        let mut state = self.state();
        if !place.exists() {
            let before = match state.bytes {
                Some(known) => known,
                None => each(&self.folder())?.iter().map(|file| file.bytes).sum(),
            };
            if before.saturating_add(bytes) > self.bytes_max.load(Ordering::Relaxed) {
                state.full = true;
                // Somebody may have made room by hand.
                state.bytes = None;
                return Ok(None);
            }
            state.bytes = Some(before + bytes);
        }
        std::fs::rename(&coming.path, place)?;
        Ok(Some(self.hold(&mut state, hash)))
    }

    fn hold(self: &Arc<Self>, state: &mut State, hash: &Arc<str>) -> InHand {
        *state.in_hand.entry(Arc::clone(hash)).or_default() += 1;
        InHand { hash: Arc::clone(hash), all: Arc::clone(self) }
    }

    /// Holds one that was stored before; none if it is gone.
    pub(super) fn take(self: &Arc<Self>, hash: &Arc<str>) -> Option<InHand> {
        let mut state = self.state();
        let file = File::open(attachment_path(&self.data_dir, hash)).ok()?;
        // As if it had been stored anew: whoever listed it before must not remove it.
        file.set_modified(SystemTime::now()).ok()?;
        Some(self.hold(&mut state, hash))
    }

    fn listed(&self) -> io::Result<Vec<StoredFile>> {
        let mut state = self.state();
        let mut files = each(&self.folder())?;
        state.bytes = Some(files.iter().map(|file| file.bytes).sum());
        // Whoever lists them makes what room there is to be made.
        state.full = false;
        files.retain(|file| !state.in_hand.contains_key(&file.hash));
        Ok(files)
    }

    fn removed(&self, file: &StoredFile) -> io::Result<bool> {
        let mut state = self.state();
        let path = attachment_path(&self.data_dir, &file.hash);
        let there = match std::fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            there => there?,
        };
        if state.in_hand.contains_key(&file.hash) || nanoseconds(&there)? != file.stored_ns {
            return Ok(false);
        }
        std::fs::remove_file(&path)?;
        state.full = false;
        state.bytes = state.bytes.map(|bytes| bytes.saturating_sub(there.len()));
        Ok(true)
    }
}

/// The port, over one that is shared.
#[derive(Clone, Debug)]
pub struct Removable(pub Arc<Attachments>);

impl attachments::Attachments for Removable {
    fn list(&self) -> BoxFuture<'_, io::Result<Vec<StoredFile>>> {
        let all = Arc::clone(&self.0);
        Box::pin(blocking(move || all.listed()))
    }

    fn remove(&self, file: StoredFile) -> BoxFuture<'_, io::Result<bool>> {
        let all = Arc::clone(&self.0);
        Box::pin(blocking(move || all.removed(&file)))
    }

    fn is_full(&self) -> bool {
        self.0.state().full
    }
}

/// When a file was written last.
fn nanoseconds(about: &Metadata) -> io::Result<u64> {
    let since = about.modified()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// All that are stored, whoever needs them.
fn each(folder: &Path) -> io::Result<Vec<StoredFile>> {
    let mut files = Vec::new();
    let all = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
        all => all?,
    };
    for entry in all {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(entry.path())? {
            let file = file?;
            let Ok(hash) = file.file_name().into_string() else { continue };
            let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
            let about = file.metadata()?;
            if is_hash && about.is_file() {
                let (bytes, stored_ns) = (about.len(), nanoseconds(&about)?);
                files.push(StoredFile { hash: hash.into(), bytes, stored_ns });
            }
        }
    }
    Ok(files)
}

/// Runs work on files off the threads that serve.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
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
