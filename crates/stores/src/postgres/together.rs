//! Reads that many ask for at the same moment, done in one question.
//!
//! A question costs the server and both ends of the connection far more than the row that it finds,
//! and a node that shares sessions with others asks two or three for each of their turns. Whoever
//! asks alone is asked for at once; what comes while earlier questions are under way goes together
//! into the next one. Nobody is given anything that was read before it asked.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot};
use turnkeep_core::ports::store::{Loaded, StoreError};
use turnkeep_core::{Event, Seq, SessionKey};

use super::journal::Page;
use super::writer::CLOSED;
use super::{Shared, journal, read};

/// Questions that are under way at the same time: the rest of the pool is everybody else's.
const LANES: usize = 3;
/// So many go together, at most: nobody waits for all of a crowd's pages.
const TOGETHER: usize = 64;

type Given<T> = Result<T, StoreError>;

/// Who asks, and what for.
pub(super) struct Asked<Q, A> {
    what: Q,
    answer: oneshot::Sender<Given<A>>,
}

/// What can be asked for together.
pub(super) enum Ask {
    /// A session.
    Session(Asked<SessionKey, Option<Loaded>>),
    /// A part of a journal.
    Page(Asked<Page, Vec<Event>>),
}

/// Where it is asked.
#[derive(Clone, Debug)]
pub(super) struct Together(mpsc::UnboundedSender<Ask>);

impl Together {
    /// Begins a task that answers as long as there is somebody who can ask.
    pub(super) fn begin(shared: &Arc<Shared>) -> Self {
        let (asks, asked) = mpsc::unbounded_channel();
        tokio::spawn(answer(Arc::clone(shared), asked));
        Self(asks)
    }

    pub(super) async fn load(&self, key: SessionKey) -> Given<Option<Loaded>> {
        self.ask(key, Ask::Session).await
    }

    pub(super) async fn events(
        &self,
        key: SessionKey,
        after: Seq,
        limit: usize,
    ) -> Given<Vec<Event>> {
        self.ask(Page { key, after, limit }, Ask::Page).await
    }

    async fn ask<Q, A>(&self, what: Q, kind: impl FnOnce(Asked<Q, A>) -> Ask) -> Given<A> {
        let closed = || StoreError::Unavailable(CLOSED.into());
        let (answer, given) = oneshot::channel();
        self.0.send(kind(Asked { what, answer })).map_err(|_| closed())?;
        given.await.unwrap_or_else(|_| Err(closed()))
    }
}

async fn answer(shared: Arc<Shared>, mut asked: mpsc::UnboundedReceiver<Ask>) {
    let lanes = Arc::new(Semaphore::new(LANES));
    while let Some(first) = asked.recv().await {
        let Ok(lane) = Arc::clone(&lanes).acquire_owned().await else { return };
        let (mut sessions, mut pages) = (Vec::new(), Vec::new());
        let mut next = Some(first);
        while let Some(ask) = next {
            match ask {
                Ask::Session(ask) => sessions.push(ask),
                Ask::Page(ask) => pages.push(ask),
            }
            let room = sessions.len() + pages.len() < TOGETHER;
            next = if room { asked.try_recv().ok() } else { None };
        }
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            give(sessions, |keys| shared.load_all(keys)).await;
            give(pages, |pages| shared.all_events(pages)).await;
            drop(lane);
        });
    }
}

/// Answers all of them. Where something is wrong with one, the others don't suffer for it.
async fn give<Q: Clone, A, F>(asked: Vec<Asked<Q, A>>, read: impl Fn(Arc<[Q]>) -> F)
where
    F: Future<Output = Given<Vec<A>>>,
{
    let (questions, answers): (Vec<Q>, Vec<_>) =
        asked.into_iter().map(|ask| (ask.what, ask.answer)).unzip();
    if questions.is_empty() {
        return;
    }
    let given = read(questions.as_slice().into()).await;
    if let Err(StoreError::Corrupt(_)) = given
        && questions.len() > 1
    {
        for (question, answer) in questions.into_iter().zip(answers) {
            let alone = read([question].into()).await;
            // Whoever asked may be gone, here and below.
            let _ = answer.send(alone.and_then(|all| all.into_iter().next().ok_or_else(short)));
        }
        return;
    }
    match given {
        Ok(all) => {
            let mut all = all.into_iter();
            for answer in answers {
                let _ = answer.send(all.next().ok_or_else(short));
            }
        }
        Err(error) => answers.into_iter().for_each(|answer| {
            let _ = answer.send(Err(error.clone()));
        }),
    }
}

fn short() -> StoreError {
    StoreError::Unavailable("a read gave fewer answers than it was asked for".into())
}

impl Shared {
    /// These sessions, in this order.
    async fn load_all(&self, keys: Arc<[SessionKey]>) -> Given<Vec<Option<Loaded>>> {
        self.look(move |on| {
            let keys = Arc::clone(&keys);
            async move { read::load_all(&*on, &keys).await }
        })
        .await
    }

    /// These parts of journals, in this order.
    async fn all_events(&self, pages: Arc<[Page]>) -> Given<Vec<Vec<Event>>> {
        self.look(move |on| {
            let pages = Arc::clone(&pages);
            async move { journal::pages(&*on, &pages).await }
        })
        .await
    }
}
