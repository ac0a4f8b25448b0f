//! Reads that many ask for at the same moment, done in one question.
//!
//! A question costs the server and both ends of the connection far more than the row that it finds,
//! and a node that shares sessions with others asks two or three for each of their turns. Whoever
//! asks alone is asked for at once; what comes while earlier questions are under way goes together
//! into the next one. Nobody is given anything that was read before it asked.
//!
//! Sessions and parts of journals have a line each, with lanes of its own: a session is small and
//! every message needs one, a part of a journal may be megabytes. Nobody waits for ever, and
//! whoever gave up is not asked for any more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use turnkeep_core::ports::store::{Loaded, StoreError};
use turnkeep_core::{Event, Seq, SessionKey};

use super::journal::Page;
use super::trouble::{Class, Result, Trouble};
use super::writer::CLOSED;
use super::{Shared, journal, read};

/// So many go together, at most.
const TOGETHER: usize = 256;
/// So many times the patience for one answer is waited: one that breaks off is asked for twice.
const WAITS: u32 = 3;

type Given<T> = std::result::Result<T, StoreError>;

/// What can be asked for together with others of its kind.
trait Question: Clone + Send + Sync + Sized + 'static {
    type Answer: Send + 'static;

    /// Questions that are under way at the same time. The rest of the pool is everybody else's.
    const LANES: usize = 2;
    /// Whether the first of several is the only one that may be larger than the others together.
    const LARGE_FIRST: bool;

    /// The answers to the first of them, in this order: to one at least, else to all of them that
    /// one question can hold.
    fn read(
        shared: &Shared,
        asked: Arc<[Self]>,
    ) -> impl Future<Output = Result<Vec<Self::Answer>>> + Send;
}

impl Question for SessionKey {
    type Answer = Option<Loaded>;
    const LARGE_FIRST: bool = false;

    async fn read(shared: &Shared, asked: Arc<[Self]>) -> Result<Vec<Option<Loaded>>> {
        let look = shared.look(move |on| {
            let asked = Arc::clone(&asked);
            async move { read::load_all(&*on, &asked).await }
        });
        look.await
    }
}

impl Question for Page {
    type Answer = Vec<Event>;
    const LARGE_FIRST: bool = true;

    async fn read(shared: &Shared, asked: Arc<[Self]>) -> Result<Vec<Vec<Event>>> {
        let look = shared.look(move |on| {
            let asked = Arc::clone(&asked);
            async move { journal::pages(&*on, &asked).await }
        });
        look.await
    }
}

/// Who asks, and what for.
#[derive(Debug)]
struct Asked<Q: Question> {
    what: Q,
    answer: oneshot::Sender<Given<Q::Answer>>,
}

impl<Q: Question> Asked<Q> {
    /// Whoever asked may be gone.
    fn give(self, given: Given<Q::Answer>) {
        let _ = self.answer.send(given);
    }

    fn is_awaited(&self) -> bool {
        !self.answer.is_closed()
    }
}

type Line<Q> = mpsc::UnboundedSender<Asked<Q>>;

/// Where it is asked.
#[derive(Clone, Debug)]
pub(super) struct Together {
    sessions: Line<SessionKey>,
    pages: Line<Page>,
    /// The longest that anybody waits here.
    patience: Duration,
}

impl Together {
    /// Begins tasks that answer as long as there is somebody who can ask.
    pub(super) fn begin(shared: &Arc<Shared>) -> Self {
        let patience = WAITS * shared.settings.patience();
        Self { sessions: line(shared), pages: line(shared), patience }
    }

    pub(super) async fn load(&self, key: SessionKey) -> Given<Option<Loaded>> {
        self.ask(&self.sessions, key).await
    }

    pub(super) async fn events(
        &self,
        key: SessionKey,
        after: Seq,
        limit: usize,
    ) -> Given<Vec<Event>> {
        self.ask(&self.pages, Page { key, after, limit }).await
    }

    async fn ask<Q: Question>(&self, line: &Line<Q>, what: Q) -> Given<Q::Answer> {
        let closed = || StoreError::Unavailable(CLOSED.into());
        let (answer, given) = oneshot::channel();
        line.send(Asked { what, answer }).map_err(|_| closed())?;
        match timeout(self.patience, given).await {
            Ok(given) => given.unwrap_or_else(|_| Err(closed())),
            Err(_) => Err(StoreError::Unavailable(
                "the database is too slow, or hangs: a read was not answered in time".into(),
            )),
        }
    }
}

fn line<Q: Question>(shared: &Arc<Shared>) -> Line<Q> {
    let (line, asked) = mpsc::unbounded_channel();
    tokio::spawn(answer(Arc::clone(shared), asked));
    line
}

async fn answer<Q: Question>(shared: Arc<Shared>, mut asked: mpsc::UnboundedReceiver<Asked<Q>>) {
    // In a pool that is small the other line's share is left to it all the same.
    let lanes = Arc::new(Semaphore::new(Q::LANES.min(shared.settings.pool / 2).max(1)));
    while let Some(first) = asked.recv().await {
        let Ok(lane) = Arc::clone(&lanes).acquire_owned().await else { return };
        let (mut together, mut next) = (Vec::new(), Some(first));
        while let Some(ask) = next {
            if ask.is_awaited() {
                together.push(ask);
            }
            let room = together.len() < TOGETHER;
            next = if room { asked.try_recv().ok() } else { None };
        }
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            give(&shared, together).await;
            drop(lane);
        });
    }
}

/// Answers all of them, in as many questions as it takes. Where something is wrong with one, the
/// others don't suffer for it, nor wait for it.
async fn give<Q: Question>(shared: &Shared, asked: Vec<Asked<Q>>) {
    let mut parts = vec![asked];
    while let Some(mut part) = parts.pop() {
        part.retain(Asked::is_awaited);
        if part.is_empty() {
            continue;
        }
        let whats = part.iter().map(|ask| ask.what.clone()).collect();
        match Q::read(shared, whats).await {
            Ok(given) if given.is_empty() => {
                let short = "a read gave fewer answers than it was asked for";
                fail(part, &StoreError::Unavailable(short.into()));
            }
            Ok(given) => {
                parts.push(part.split_off(given.len().min(part.len())));
                part.into_iter().zip(given).for_each(|(ask, given)| ask.give(Ok(given)));
            }
            Err(trouble) => match Fault::of(&trouble) {
                Fault::Nobodys => {
                    let error = trouble.into();
                    fail(part, &error);
                    parts.drain(..).for_each(|part| fail(part, &error));
                }
                _ if part.len() == 1 => fail(part, &trouble.into()),
                fault => {
                    let first = fault == Fault::TooMuch && Q::LARGE_FIRST;
                    let rest = part.split_off(if first { 1 } else { part.len() / 2 });
                    parts.extend([part, rest]);
                }
            },
        }
    }
}

fn fail<Q: Question>(asked: Vec<Asked<Q>>, error: &StoreError) {
    asked.into_iter().for_each(|ask| ask.give(Err(error.clone())));
}

/// Whose fault it is that several were not read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// What one of them asks for can't be read, by anybody.
    Ones,
    /// They were too much for the server's limits, perhaps because of one.
    TooMuch,
    /// It has nothing to do with what was asked: the database is away or refuses us, the tables are
    /// changed or held by somebody. Each of them would be told the same alone, and a database in
    /// trouble is not to be asked sixty-four times for what it could not do once.
    Nobodys,
}

impl Fault {
    fn of(trouble: &Trouble) -> Self {
        match trouble {
            Trouble::Corrupt(_) => Self::Ones,
            Trouble::Refused(refused) => match refused.class {
                Class::Fault | Class::Damage => Self::Ones,
                // A statement that took too long, but no lock that was waited for.
                _ if refused.code == SqlState::QUERY_CANCELED => Self::TooMuch,
                _ if refused.code == SqlState::OUT_OF_MEMORY => Self::TooMuch,
                _ => Self::Nobodys,
            },
            Trouble::Lost(_) | Trouble::Busy(_) | Trouble::Closed => Self::Nobodys,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_gets_no_answer_is_told_and_given_up() {
        let (sessions, mut asked) = mpsc::unbounded_channel();
        let (pages, _) = mpsc::unbounded_channel();
        let together = Together { sessions, pages, patience: Duration::from_millis(5) };
        let key: SessionKey = "tenant:agent:api:dm:peer".parse().unwrap();
        let StoreError::Unavailable(why) = together.load(key.clone()).await.unwrap_err() else {
            panic!("nothing was read that could be corrupt")
        };
        assert!(why.contains("not answered in time"), "{why}");
        assert!(!asked.recv().await.unwrap().is_awaited());
        // Nobody answers there any more.
        let closed = together.events(key, Seq(0), 1).await;
        assert_eq!(closed, Err(StoreError::Unavailable(CLOSED.into())));
    }
}
