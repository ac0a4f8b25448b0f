//! What a signal-cli of ours says goes into a file, not into a pipe.
//!
//! signal-cli forgets an envelope once it has written it. What stands in a pipe dies with us; what
//! stands in a file is read by whoever comes after. So its standard output *is* the file, opened for
//! appending, and we read behind it. A line stays until its envelope was taken; what was taken is
//! freed from the front (a hole is punched, which also leaves zeros where the next reader begins).
//!
//! The file is locked (`flock`) through the very handle that the process got. That lock lasts for as
//! long as anybody holds the handle, so whoever gets it knows that nothing more will be written.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::lines::{LINE_BYTES_MAX, Line, Splitter};

/// It holds what people say to each other: nobody but the owner reads it.
const FILE_MODE: u32 = 0o600;
/// How much is read at once.
const CHUNK: usize = 64 << 10;
/// No file system has larger blocks.
const BLOCK: u64 = 64 << 10;
/// Where holes can't be punched, another file is begun after so much.
const UNFREED_BYTES_MAX: u64 = 64 << 20;

/// One file.
pub(super) struct Received {
    path: PathBuf,
    file: File,
    place: Mutex<Place>,
}

struct Place {
    /// Envelopes that are not taken yet, by where their lines begin; true once one is taken.
    open: VecDeque<(u64, bool)>,
    /// Up to where all lines were looked at.
    told: u64,
    /// Up to where it was freed.
    freed: u64,
    /// Whether freeing works here.
    frees: bool,
    /// Nothing more is written, and all of it was looked at.
    finished: bool,
}

/// The line of one envelope.
#[derive(Clone)]
pub(super) struct Spot {
    pub(super) file: Arc<Received>,
    pub(super) start: u64,
    pub(super) length: usize,
    /// Its file is from an earlier run.
    pub(super) old: bool,
}

impl Spot {
    pub(super) fn line(&self) -> io::Result<Vec<u8>> {
        let mut line = vec![0; self.length];
        self.file.file.read_exact_at(&mut line, self.start)?;
        Ok(line)
    }

    /// Its envelope is taken, or never will be.
    pub(super) fn done(&self) {
        self.file.done(self.start);
    }
}

impl Received {
    /// Makes a new one; also the handle for whoever writes it, which holds the lock.
    pub(super) fn create(path: PathBuf) -> io::Result<(Arc<Self>, File)> {
        let writes =
            OpenOptions::new().append(true).create_new(true).mode(FILE_MODE).open(&path)?;
        writes.lock()?;
        Ok((Arc::new(Self::open(path)?), writes))
    }

    /// One that is there.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let begins = first_byte(&file)?;
        let place = Place {
            open: VecDeque::new(),
            told: begins,
            freed: begins,
            frees: true,
            finished: false,
        };
        Ok(Self { path, file, place: Mutex::new(place) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether whoever wrote it is gone.
    pub(super) fn is_left(&self) -> bool {
        match File::open(&self.path) {
            // The lock goes again with this handle.
            Ok(file) => file.try_lock().is_ok(),
            // Whoever writes to what was removed writes to nobody.
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    /// Whether it takes more and more room.
    pub(super) fn is_full(&self) -> bool {
        let place = self.place();
        !place.frees && place.told > UNFREED_BYTES_MAX
    }

    fn done(&self, start: u64) {
        let mut place = self.place();
        if let Ok(found) = place.open.binary_search_by_key(&start, |(start, _)| *start) {
            place.open[found].1 = true;
        }
        while place.open.front().is_some_and(|(_, taken)| *taken) {
            place.open.pop_front();
        }
        self.free(&mut place);
    }

    /// All of it was looked at, and nothing more is written.
    pub(super) fn finish(&self) {
        let mut place = self.place();
        place.finished = true;
        self.free(&mut place);
    }

    fn free(&self, place: &mut Place) {
        let up_to = place.open.front().map_or(place.told, |(start, _)| *start);
        if place.finished && place.open.is_empty() {
            if let Err(error) = std::fs::remove_file(&self.path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %self.path.display(), %error, "can't be removed");
            }
        } else if up_to > place.freed {
            // From the beginning of a block: one that was freed in two pieces would stay.
            let from = place.freed - place.freed % BLOCK;
            place.frees = place.frees && punch(&self.file, from, up_to - from).is_ok();
            if !place.frees
                && let Err(error) = blank(&self.file, place.freed, up_to)
            {
                tracing::warn!(path = %self.path.display(), %error, "can't be emptied");
            }
            place.freed = up_to;
        }
    }
}

/// Reads a file from where it begins, while it grows.
pub(super) struct Reader {
    file: Arc<Received>,
    splitter: Splitter,
    at: u64,
    chunk: Vec<u8>,
}

impl Reader {
    pub(super) fn new(file: Arc<Received>) -> Self {
        let at = file.place().freed;
        Self { file, splitter: Splitter::new(LINE_BYTES_MAX, at), at, chunk: vec![0; CHUNK] }
    }

    /// Reads a piece; whether there was one. `each` gets every line and where it stands, and says
    /// whether it holds an envelope, which then has to be [`Spot::done`].
    pub(super) fn read(&mut self, mut each: impl FnMut(&Line, u64) -> bool) -> io::Result<bool> {
        let count = self.file.file.read_at(&mut self.chunk, self.at)?;
        self.at += count as u64;
        let mut rest = &self.chunk[..count];
        while !rest.is_empty() {
            let (taken, line) = self.splitter.feed(rest);
            rest = &rest[taken..];
            note(&self.file, &self.splitter, line, &mut each);
        }
        if count == 0 {
            let mut place = self.file.place();
            self.file.free(&mut place);
        }
        Ok(count > 0)
    }

    /// What stands behind the last end of a line, once nothing more is written.
    pub(super) fn rest(&mut self, mut each: impl FnMut(&Line, u64) -> bool) {
        let line = self.splitter.rest();
        note(&self.file, &self.splitter, line, &mut each);
    }
}

fn note(
    file: &Received,
    splitter: &Splitter,
    line: Option<(u64, Line)>,
    each: &mut impl FnMut(&Line, u64) -> bool,
) {
    // The lock is not held while the line is looked at; nobody frees beyond `told` meanwhile.
    let envelope = line.and_then(|(start, line)| each(&line, start).then_some(start));
    let mut place = file.place();
    place.open.extend(envelope.map(|start| (start, false)));
    place.told = splitter.told();
}

/// Where the first byte stands that is not freed.
fn first_byte(file: &File) -> io::Result<u64> {
    let mut at = first_data(file)?;
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = file.read_at(&mut chunk, at)?;
        match chunk[..count].iter().position(|byte| *byte != 0) {
            Some(place) => return Ok(at + place as u64),
            None if count == 0 => return Ok(at),
            None => at += count as u64,
        }
    }
}

#[cfg(target_os = "linux")]
fn first_data(file: &File) -> io::Result<u64> {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(0)) {
        Ok(at) => Ok(at),
        // There is nothing but a hole.
        Err(rustix::io::Errno::NXIO) => Ok(file.metadata()?.len()),
        Err(_) => Ok(0),
    }
}

#[cfg(not(target_os = "linux"))]
fn first_data(_file: &File) -> io::Result<u64> {
    Ok(0)
}

#[cfg(target_os = "linux")]
fn punch(file: &File, at: u64, length: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, at, length)?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn punch(_file: &File, _at: u64, _length: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// What can't be given back is at least not readable any more.
fn blank(file: &File, from: u64, up_to: u64) -> io::Result<()> {
    let zeros = [0; 4096];
    let mut at = from;
    while at < up_to {
        let count = (up_to - at).min(zeros.len() as u64);
        file.write_all_at(&zeros[..usize::try_from(count).unwrap_or(zeros.len())], at)?;
        at += count;
    }
    Ok(())
}

/// Tells when a file grew.
pub(super) struct Growth {
    #[cfg(target_os = "linux")]
    notes: Option<tokio::net::unix::pipe::Receiver>,
}

/// Where nobody tells of it, a file is looked at so often.
const LOOK: std::time::Duration = std::time::Duration::from_millis(100);
/// Where somebody does: some file systems don't.
const LOOK_ANYWAY: std::time::Duration = std::time::Duration::from_secs(1);

impl Growth {
    #[cfg(target_os = "linux")]
    pub(super) fn of(path: &Path) -> Self {
        use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
        let watch = || {
            let notes = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
            add_watch(&notes, path, WatchFlags::MODIFY)?;
            tokio::net::unix::pipe::Receiver::from_owned_fd_unchecked(notes)
        };
        Self { notes: watch().ok() }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn of(_path: &Path) -> Self {
        Self {}
    }

    /// Resolves once it may have grown since the last time.
    #[cfg(target_os = "linux")]
    pub(super) async fn wait(&self) {
        let Some(notes) = &self.notes else { return tokio::time::sleep(LOOK).await };
        let told = async {
            if notes.readable().await.is_ok() {
                // One reading takes many notes; what is left wakes us once more.
                let _ = notes.try_read(&mut [0; 1024]);
            }
        };
        let _ = tokio::time::timeout(LOOK_ANYWAY, told).await;
    }

    /// Resolves once it may have grown since the last time.
    #[cfg(not(target_os = "linux"))]
    pub(super) async fn wait(&self) {
        tokio::time::sleep(LOOK.min(LOOK_ANYWAY)).await;
    }
}

/// The files in a folder, in the order in which they were made, and the number of the next.
pub(super) fn left(folder: &Path) -> io::Result<(Vec<PathBuf>, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if let Some(number) = number_of(&path) {
            found.push((number, path));
        }
    }
    found.sort_unstable();
    let next = found.last().map_or(1, |(number, _)| number + 1);
    Ok((found.into_iter().map(|(_, path)| path).collect(), next))
}

/// The path of a file by its number.
pub(super) fn path_of(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("receive-{number}.jsonl"))
}

fn number_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix("receive-")?.strip_suffix(".jsonl")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn where_holes_can_not_be_punched_what_was_taken_is_not_readable_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("receive-1.jsonl");
        let (file, mut writes) = Received::create(path.clone()).unwrap();
        file.place().frees = false;
        writes.write_all(b"a secret\nnot taken\n").unwrap();
        let mut starts = Vec::new();
        Reader::new(Arc::clone(&file))
            .read(|_, start| {
                starts.push(start);
                true
            })
            .unwrap();
        assert_eq!(starts, [0, 9]);
        file.done(0);
        assert_eq!(std::fs::read(&path).unwrap(), b"\0\0\0\0\0\0\0\0\0not taken\n");
        drop((file, writes));

        let again = Arc::new(Received::open(path).unwrap());
        starts.clear();
        Reader::new(again)
            .read(|_, start| {
                starts.push(start);
                true
            })
            .unwrap();
        assert_eq!(starts, [9], "it goes on behind what was taken");
    }
}
