//! Which of the commits that wait share a transaction.
//!
//! Of one session, of one message and of one turn there is one commit in a batch, so that no
//! statement meets a row twice, and whoever races is decided by what was committed before. Those
//! that are put aside stay in their order and come first the next time.

use std::collections::{HashSet, VecDeque};

use tokio::sync::oneshot;
use turnkeep_core::ports::store::{CommitOutcome, Guard, StoreError};
use turnkeep_core::{SessionKey, TurnId};

use crate::encode::EncodedCommit;

/// Commits that one transaction takes at most, so that the first of them doesn't wait for ever.
pub(super) const BATCH_JOBS_MAX: usize = 512;
/// Bytes of them, more or less; a commit that is larger has a transaction of its own.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// Commits that are put aside in the making of one batch before nobody further is looked at.
const ASIDE_MAX: usize = BATCH_JOBS_MAX;

/// Who waits for the outcome.
pub(super) type Answer = oneshot::Sender<Result<CommitOutcome, StoreError>>;

/// One commit and who asked for it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) commit: Box<EncodedCommit>,
    pub(super) answer: Answer,
}

/// What no two commits of a batch may have in common.
#[derive(PartialEq, Eq, Hash)]
enum Claim {
    Session(SessionKey),
    Message([u8; 16]),
    Turn(TurnId),
}

/// The commits that wait, in their order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    jobs: VecDeque<Job>,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Whether there are enough to make a batch of.
    pub(super) fn is_full(&self) -> bool {
        self.jobs.len() >= BATCH_JOBS_MAX + ASIDE_MAX
    }

    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn push(&mut self, job: Job) {
        self.jobs.push_back(job);
    }

    /// Those that have to be asked again come first.
    pub(super) fn push_first(&mut self, jobs: Vec<Job>) {
        for job in jobs.into_iter().rev() {
            self.jobs.push_front(job);
        }
    }

    /// All of them, to be refused.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Job> + '_ {
        self.jobs.drain(..)
    }

    /// Takes the next batch out; empty only where nobody waits.
    pub(super) fn take(&mut self) -> Vec<Job> {
        let mut batch = Vec::new();
        let mut aside = Vec::new();
        let mut taken = HashSet::new();
        let mut bytes = 0;
        while batch.len() < BATCH_JOBS_MAX && bytes < BATCH_BYTES_MAX && aside.len() < ASIDE_MAX {
            let Some(job) = self.jobs.pop_front() else { break };
            let size = size_of(&job.commit);
            if !batch.is_empty() && bytes + size > BATCH_BYTES_MAX {
                self.jobs.push_front(job);
                break;
            }
            // One that is put aside takes its claims all the same: nobody overtakes it.
            if take_claims(&job.commit, &mut taken) {
                bytes += size;
                batch.push(job);
            } else {
                aside.push(job);
            }
        }
        self.push_first(aside);
        batch
    }
}

/// Takes all claims of a commit; says whether all of them were free.
fn take_claims(commit: &EncodedCommit, taken: &mut HashSet<Claim>) -> bool {
    let mut own = HashSet::with_capacity(1 + commit.guards.len() + commit.turns.len());
    own.insert(Claim::Session(commit.key.clone()));
    own.extend(commit.guards.iter().filter_map(|guard| match guard {
        Guard::NotSeen { seen, .. } => Some(Claim::Message(seen.key)),
        Guard::TakeDeadLetter(_) | Guard::Parked { .. } => None,
    }));
    own.extend(commit.turns.iter().map(|(id, _)| Claim::Turn(*id)));
    let mut free = true;
    for claim in own {
        free &= taken.insert(claim);
    }
    free
}

/// What a commit weighs.
fn size_of(commit: &EncodedCommit) -> usize {
    let journal = commit.journal.iter().map(|row| row.events.len());
    let turns = commit.turns.iter().map(|(_, body)| body.len());
    let parts = commit.parts.iter().map(|part| part.body.len() + part.text.len());
    let letters = commit.dead_letters.iter().map(|(_, body)| body.len());
    let rows = journal.chain(turns).chain(parts).chain(letters);
    commit.snapshot.len() + rows.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use turnkeep_core::message::Seen;
    use turnkeep_core::ports::store::{Commit, FirstDecision, Rows};
    use turnkeep_core::{Action, Epoch, Event, EventBody, Seq, Session, SessionKind, Version};

    use super::*;
    use crate::encode::encode;

    /// A commit of that session, with a message and a text so long; its place in the queue is
    /// its expected version.
    fn put(queue: &mut Queue, place: u64, peer: &str, message: u8, bytes: usize) {
        let key = SessionKey::new("tenant", "agent", "api", SessionKind::Dm, peer).unwrap();
        let first = FirstDecision {
            session: key.clone(),
            seq: Seq(1),
            action: Action::Queued,
            turn: None,
            queue_position: None,
        };
        let seen = Seen { key: [message; 16], body_hash: 1 };
        let body = EventBody::notice("x".repeat(bytes).into());
        let rows = Rows {
            events: vec![Event { seq: Seq(1), at: 0, body }],
            guards: [Guard::NotSeen { seen, first, until: 0 }].into_iter().collect(),
            ..Rows::default()
        };
        let session = Session { epoch: Epoch(1), last_seq: Seq(1), ..Session::new() };
        let commit = Commit {
            key,
            expected: Version(place),
            session: Arc::new(session),
            wake_at: None,
            rows,
        };
        let commit = Box::new(encode(commit).unwrap());
        queue.push(Job { commit, answer: oneshot::channel().0 });
    }

    fn places(batch: &[Job]) -> Vec<u64> {
        batch.iter().map(|job| job.commit.expected.0).collect()
    }

    #[test]
    fn of_a_session_and_of_a_message_there_is_one() {
        let mut queue = Queue::default();
        for (place, (peer, message)) in
            (0..).zip([("one", 1), ("one", 2), ("two", 1), ("three", 2), ("four", 4)])
        {
            put(&mut queue, place, peer, message, 1);
        }
        // The fourth has a message of the second, which waits, and does not overtake it.
        assert_eq!(places(&queue.take()), [0, 4]);
        assert_eq!(places(&queue.take()), [1, 2]);
        assert_eq!(places(&queue.take()), [3]);
        assert!(queue.take().is_empty() && queue.is_empty());
    }

    #[test]
    fn what_is_asked_again_comes_first() {
        let mut queue = Queue::default();
        for place in 0..4 {
            put(&mut queue, place, &format!("peer {place}"), 10 + u8::try_from(place).unwrap(), 1);
        }
        let mut batch = queue.take();
        put(&mut queue, 4, "peer 4", 14, 1);
        batch.truncate(2);
        queue.push_first(batch);
        assert_eq!(places(&queue.take()), [0, 1, 4]);
    }

    #[test]
    fn a_batch_has_bounds() {
        let mut queue = Queue::default();
        for (place, bytes) in (0..).zip([100, BATCH_BYTES_MAX + 1, 100, 100]) {
            put(&mut queue, place, &format!("peer {place}"), u8::try_from(place).unwrap(), bytes);
        }
        assert_eq!(places(&queue.take()), [0]);
        assert_eq!(places(&queue.take()), [1], "what is too large goes alone");
        assert_eq!(places(&queue.take()), [2, 3]);

        // However many wait for one session, so many are looked at.
        for place in 0..ASIDE_MAX as u64 + 10 {
            put(&mut queue, place, "one", 1, 1);
        }
        assert!(!queue.is_full());
        put(&mut queue, 7_000, "another", 2, 1);
        assert_eq!(places(&queue.take()), [0]);
        assert_eq!(queue.len(), ASIDE_MAX + 10);
        assert_eq!(places(&queue.take()), [1]);
    }
}
