//! The threads that read, each with a connection of its own.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::oneshot;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::store::StoreError;

use super::open;
use super::trouble::{self, Trouble};
use super::{Shared, writer};

/// Threads, and so reads at once.
const THREADS: usize = 3;

type Read = Box<dyn FnOnce(Result<&Connection, StoreError>) -> Keep + Send>;

/// Whether a connection is worth keeping after a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    Yes,
    No,
}

/// The pool.
#[derive(Debug)]
pub(super) struct Readers {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    reads: VecDeque<Read>,
    ended: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<Read> {
        let mut waiting = self.lock();
        loop {
            if let Some(read) = waiting.reads.pop_front() {
                return Some(read);
            }
            if waiting.ended {
                return None;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Readers {
    /// Starts the threads; they connect at their first read.
    pub(super) fn start(shared: &Arc<Shared>) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let start = |_| {
            let (queue, shared) = (Arc::clone(&queue), Arc::clone(shared));
            let builder = std::thread::Builder::new().name("store-reader".into());
            builder.spawn(move || run(&queue, &shared))
        };
        let threads = (0..THREADS).map(start).collect::<Result<_, _>>()?;
        Ok(Self { queue, threads })
    }

    /// Runs a read in a snapshot of its own.
    pub(super) fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> trouble::Result<T> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let (sender, receiver) = oneshot::channel();
        let job: Read = Box::new(move |connection| {
            let answer =
                connection.and_then(|open| in_snapshot(open, read).map_err(StoreError::from));
            let keep = if answer.is_ok() { Keep::Yes } else { Keep::No };
            // Whoever asked may be gone.
            drop(sender.send(answer));
            keep
        });
        self.queue.lock().reads.push_back(job);
        self.queue.changed.notify_one();
        Box::pin(async move {
            receiver.await.unwrap_or_else(|_| Err(StoreError::Unavailable(writer::CLOSED.into())))
        })
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.queue.lock().ended = true;
        self.queue.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A reader that panicked has already answered its caller by dropping the sender.
            drop(thread.join());
        }
    }
}

fn run(queue: &Queue, shared: &Shared) {
    let mut connection: Option<Connection> = None;
    while let Some(read) = queue.next() {
        let open = connection.take().map_or_else(|| open::connect_reader(shared.dir()), Ok);
        let keep = match &open {
            Ok(open) => read(Ok(open)),
            Err(trouble) => read(Err(StoreError::Unavailable(trouble.sentence()))),
        };
        // After an error the next read begins with a fresh connection.
        connection = open.ok().filter(|_| keep == Keep::Yes);
    }
}

/// All of a read sees one moment, however many rows it follows.
pub(super) fn in_snapshot<T>(
    connection: &Connection,
    read: impl FnOnce(&Connection) -> trouble::Result<T>,
) -> trouble::Result<T> {
    connection.prepare_cached("BEGIN").and_then(|mut begin| begin.execute([]))?;
    let answer = read(connection);
    let ended = connection.prepare_cached("COMMIT").and_then(|mut end| end.execute([]));
    answer.and_then(|value| ended.map(|_| value).map_err(Trouble::from))
}
