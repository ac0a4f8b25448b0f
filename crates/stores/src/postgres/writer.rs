//! The one task of this node that commits: takes what waits, makes it durable together, answers.
//!
//! A batch costs two round trips. Whatever fails in the first one has not happened, for the COMMIT
//! was not sent: it is tried again, on a new connection if need be. What the server refuses in the
//! second one has not happened either. If the connection is lost then, nobody knows: all of the
//! batch is told so, and nothing is called healthy again before a probe was committed on a new
//! connection. A commit at fault is found by halves, so that its neighbours don't suffer for it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio_postgres::error::SqlState;
use turnkeep_core::ports::histogram::{BATCH_JOBS_STEPS, SYNC_US_STEPS};
use turnkeep_core::ports::store::{CommitOutcome, StoreError};

use super::Shared;
use super::batch::{Job, Queue};
use super::claim;
use super::decide::{self, Verdict};
use super::nodes;
use super::put::{self, Columns, Writes};
use super::statements::{Link, Statements};
use super::trouble::{Class, Result, Trouble};
use crate::crowd::{Crowd, PATIENCE};

/// The pause before the second attempt to reconnect; doubled for each later one.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often a batch is tried that may go well the next time.
const TRIES: u32 = 3;
/// How often one is tried whose connection was lost before the COMMIT was sent.
const TRIES_LOST: u32 = 2;
/// The pause before such a try.
const PAUSE_TRY: Duration = Duration::from_millis(20);
/// What a closed store answers.
pub(super) const CLOSED: &str = "the store is closed";

/// Work for the writer.
pub(super) enum Order {
    /// See the port.
    Commit(Job),
    /// End after everything before this.
    Close(oneshot::Sender<()>),
}

/// Why an attempt failed.
struct Failed {
    trouble: Trouble,
    /// The COMMIT was on its way.
    sent: bool,
}

/// What follows for the batch.
enum Next {
    /// Do the same again.
    Again,
    /// Find out which of them it is.
    Halves,
    /// Some wait for what somebody else holds: go on without them.
    Without,
    /// Nobody can write now.
    Down,
}

/// The task's own things.
pub(super) struct Writer {
    shared: Arc<Shared>,
    orders: mpsc::UnboundedReceiver<Order>,
    queue: Queue,
    crowd: Crowd,
    link: Option<Link>,
    closed: bool,
    /// Who waits for the end.
    closing: Vec<oneshot::Sender<()>>,
    pause: Duration,
}

/// Says that nobody writes any more, however the task ends.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        let failed = "the store's writer has failed";
        let reason = if std::thread::panicking() { failed } else { CLOSED };
        self.0.health.set(Some(reason.into()));
    }
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, orders: mpsc::UnboundedReceiver<Order>) -> Self {
        Self {
            shared,
            orders,
            queue: Queue::default(),
            crowd: Crowd::new(Instant::now()),
            link: None,
            closed: false,
            closing: Vec::new(),
            pause: PAUSE_MIN,
        }
    }

    /// Writes until the store is closed or dropped.
    pub(super) async fn run(mut self) {
        let ended = Ended(Arc::clone(&self.shared));
        while self.gather().await {
            let batch = self.queue.take();
            self.crowd.count(batch.len(), Instant::now());
            match self.write(batch).await {
                Ok(()) => self.pause = PAUSE_MIN,
                Err(trouble) => self.recover(trouble).await,
            }
        }
        self.orders.close();
        while let Ok(order) = self.orders.try_recv() {
            self.refuse(order, CLOSED);
        }
        self.link = None;
        nodes::leave(&self.shared).await;
        // Health must say so before the caller of `close` can ask.
        drop(ended);
        for answer in self.closing {
            // Whoever asked may be gone.
            let _ = answer.send(());
        }
    }

    /// Waits until there is something to write; says whether there will ever be.
    async fn gather(&mut self) -> bool {
        if self.queue.is_empty() && !self.closed {
            match self.orders.recv().await {
                Some(order) => self.take_in(order),
                None => self.closed = true,
            }
        }
        self.take_what_waits();
        if self.crowd.brings_more(self.queue.len()) && !self.closed {
            tokio::time::sleep(PATIENCE).await;
            self.take_what_waits();
        }
        !(self.queue.is_empty() && self.closed)
    }

    fn take_what_waits(&mut self) {
        while !self.closed && !self.queue.is_full() {
            match self.orders.try_recv() {
                Ok(order) => self.take_in(order),
                Err(_) => return,
            }
        }
    }

    fn take_in(&mut self, order: Order) {
        match order {
            Order::Commit(job) => self.queue.push(job),
            Order::Close(answer) => {
                self.closed = true;
                self.closing.push(answer);
            }
        }
    }

    /// Writes a batch and answers it. An error says that nobody can write now; then it is answered
    /// as well.
    async fn write(&mut self, batch: Vec<Job>) -> Result<()> {
        let mut parts = vec![batch];
        while let Some(mut part) = parts.pop() {
            let mut tries = 0;
            while !part.is_empty() {
                tries += 1;
                let failed = match self.attempt(&part).await {
                    Ok(verdicts) => {
                        self.answer(part, verdicts);
                        break;
                    }
                    Err(failed) => failed,
                };
                self.settle(&failed).await;
                match next(&failed, tries) {
                    Next::Again => {
                        self.shared.tried_again(&failed.trouble, part.len());
                        tokio::time::sleep(PAUSE_TRY).await;
                    }
                    Next::Without => {
                        self.set_aside(&mut part, &failed.trouble).await;
                        self.shared.tried_again(&failed.trouble, part.len());
                    }
                    Next::Halves if part.len() > 1 => {
                        parts.push(part.split_off(part.len() / 2));
                        tries = 0;
                    }
                    Next::Halves => {
                        let error = StoreError::from(failed.trouble);
                        part.drain(..).for_each(|job| self.tell(job, Err(error.clone())));
                    }
                    Next::Down => {
                        self.fail(&failed.trouble);
                        let reason = failed.trouble.sentence();
                        for job in part {
                            self.tell(job, Err(StoreError::Unavailable(reason.clone())));
                        }
                        // The others were not tried, or were undone.
                        parts.into_iter().rev().for_each(|part| self.queue.push_first(part));
                        return Err(failed.trouble);
                    }
                }
            }
        }
        Ok(())
    }

    /// Both round trips, once.
    async fn attempt(&mut self, jobs: &[Job]) -> std::result::Result<Vec<Verdict>, Failed> {
        let before = |trouble| Failed { trouble, sent: false };
        if self.link.is_none() {
            self.link = Some(connect(&self.shared).await.map_err(before)?);
        }
        let shared = &self.shared;
        let Some(link) = &self.link else { return Ok(Vec::new()) };
        let found = within(shared, claim::claim(link, jobs)).await.map_err(before)?;
        let verdicts: Vec<_> = jobs.iter().map(|job| decide::decide(&job.commit, &found)).collect();
        if !verdicts.iter().any(|verdict| matches!(verdict, Verdict::Accepted(_))) {
            self.roll_back().await;
            return Ok(verdicts);
        }
        let writes = Writes {
            node: shared.gate.epoch,
            second: shared.nodes.stand_in.epoch(),
            runs: shared.settings.runs,
        };
        let columns = Columns::of(jobs, &verdicts, &found, writes);
        shared.settings.kill_point("store.commit.before");
        let began = Instant::now();
        let pass = shared.gate.pass();
        let put = within(shared, put::put(link, &columns, &pass)).await;
        let place = put.map_err(|trouble| Failed { trouble, sent: true })?;
        place.into_iter().for_each(|place| shared.gate.keeps(place));
        shared.settings.kill_point("store.commit.after");
        let counters = &shared.counters;
        let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        counters.sync_us.note(&SYNC_US_STEPS, took_us);
        counters.fsyncs.fetch_add(1, Relaxed);
        counters.batches.fetch_add(1, Relaxed);
        counters.batch_jobs.note(&BATCH_JOBS_STEPS, jobs.len() as u64);
        counters.batch_jobs_max.fetch_max(jobs.len() as u64, Relaxed);
        Ok(verdicts)
    }

    /// Leaves no transaction open behind a failure, and no connection of which nothing is known.
    async fn settle(&mut self, failed: &Failed) {
        match &failed.trouble {
            Trouble::Refused(refused) if refused.class != Class::Ended => self.roll_back().await,
            _ => self.link = None,
        }
    }

    async fn roll_back(&mut self) {
        let Some(link) = &self.link else { return };
        let undone = async { Ok(link.client.batch_execute("ROLLBACK").await?) };
        if within(&self.shared, undone).await.is_err() {
            self.link = None;
        }
    }

    /// Answers those whose session somebody else holds for so long that waiting for it ended; the
    /// others need not wait for it.
    async fn set_aside(&mut self, jobs: &mut Vec<Job>, trouble: &Trouble) {
        let Some(link) = &self.link else { return };
        let held = match within(&self.shared, claim::held_by_others(link, jobs)).await {
            Ok(held) => held,
            Err(_) => {
                self.link = None;
                return;
            }
        };
        let reason = trouble.sentence();
        for job in std::mem::take(jobs) {
            if held.contains(job.commit.key.as_str()) {
                self.tell(job, Err(StoreError::Unavailable(reason.clone())));
            } else {
                jobs.push(job);
            }
        }
    }

    fn answer(&mut self, jobs: Vec<Job>, verdicts: Vec<Verdict>) {
        let mut again = Vec::new();
        for (job, verdict) in jobs.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Accepted(_) => {
                    let version = job.commit.expected.next();
                    self.tell(job, Ok(CommitOutcome::Committed(version)));
                }
                Verdict::Answered(outcome) => self.tell(job, outcome),
                Verdict::Again => again.push(job),
            }
        }
        self.queue.push_first(again);
    }

    fn tell(&self, job: Job, outcome: std::result::Result<CommitOutcome, StoreError>) {
        self.shared.settings.kill_point("store.answer");
        let counters = &self.shared.counters;
        counters.waiting.fetch_sub(1, Relaxed);
        counters.note(&outcome);
        // Whoever asked may be gone; the commit stands all the same.
        drop(job.answer.send(outcome));
    }

    /// Answers an order that can't be done.
    fn refuse(&mut self, order: Order, reason: &str) {
        match order {
            Order::Commit(job) => self.tell(job, Err(StoreError::Unavailable(reason.into()))),
            Order::Close(answer) => {
                self.closed = true;
                self.closing.push(answer);
            }
        }
    }

    /// Says it in health first, so that nobody who got the error finds the store ready.
    fn fail(&mut self, trouble: &Trouble) {
        let reason = trouble.sentence();
        self.shared.counters.failures.fetch_add(1, Relaxed);
        if let Some(out) = trouble.out() {
            self.shared.nodes.fence(out);
        }
        tracing::error!(reason, "the store can't write");
        self.shared.health.set(Some(format!("the store can't write: {reason}")));
        self.link = None;
    }

    /// Reconnects at once, then with growing pauses, refusing everything meanwhile.
    async fn recover(&mut self, mut trouble: Trouble) {
        loop {
            if !is_hopeless(&trouble) {
                match self.probe().await {
                    Ok(()) => {
                        tracing::info!("the store can write again");
                        return self.shared.health.set(None);
                    }
                    Err(found) => trouble = found,
                }
            }
            let reason = trouble.sentence();
            self.shared.health.set(Some(format!("the store can't write: {reason}")));
            let waiting: Vec<_> = self.queue.drain().collect();
            for job in waiting {
                self.tell(job, Err(StoreError::Unavailable(reason.clone())));
            }
            self.refuse_for_a_while(&reason, is_hopeless(&trouble)).await;
            if self.closed {
                return;
            }
        }
    }

    /// Refuses what comes until the pause is over, or until the end where nothing can help.
    async fn refuse_for_a_while(&mut self, reason: &str, for_ever: bool) {
        let until = tokio::time::Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        while !self.closed {
            let order = if for_ever {
                self.orders.recv().await
            } else {
                match tokio::time::timeout_at(until, self.orders.recv()).await {
                    Ok(order) => order,
                    Err(_) => return,
                }
            };
            match order {
                Some(order) => self.refuse(order, reason),
                None => self.closed = true,
            }
        }
    }

    /// A new connection on which a write was really committed, through the gate.
    async fn probe(&mut self) -> Result<()> {
        self.link = None;
        let link = connect(&self.shared).await?;
        let (enter, pass) = (&link.statements.enter, self.shared.gate.pass());
        let written = async {
            link.client
                .batch_execute("BEGIN; UPDATE meta SET value = value + 1 WHERE name = 'probe'")
                .await?;
            link.client.query(enter, &pass.values()).await?;
            Ok(link.client.batch_execute("COMMIT").await?)
        };
        within(&self.shared, written).await?;
        self.link = Some(link);
        Ok(())
    }
}

/// What follows from a failure of a batch that was tried so often.
fn next(failed: &Failed, tries: u32) -> Next {
    let refused = match &failed.trouble {
        // Nothing was committed, and the next connection may be good.
        Trouble::Lost(_) if !failed.sent && tries < TRIES_LOST => return Next::Again,
        Trouble::Refused(refused) => refused,
        _ => return Next::Down,
    };
    let is_lock = refused.code == SqlState::LOCK_NOT_AVAILABLE;
    match refused.class {
        Class::Ended if !failed.sent && tries < TRIES_LOST => Next::Again,
        Class::Fault => Next::Halves,
        Class::Passing if is_lock && !failed.sent && tries == 1 => Next::Without,
        // What still holds all of them up is no session: the gate, or a table. To look for it by
        // halves would take its time again and again.
        Class::Passing if tries < TRIES => Next::Again,
        _ => Next::Down,
    }
}

/// Nothing that this process can do helps.
fn is_hopeless(trouble: &Trouble) -> bool {
    matches!(trouble.class(), Some(Class::Damage | Class::Fenced))
}

/// A connection with everything prepared.
async fn connect(shared: &Shared) -> Result<Link> {
    let connected = async {
        let client = shared.connector.connect_writer().await?;
        let statements = Statements::prepare(&client).await?;
        Ok(Link { client, statements })
    };
    within(shared, connected).await
}

/// The answer, if it comes in time: a server that is gone gives no error otherwise.
async fn within<T>(shared: &Shared, answer: impl Future<Output = Result<T>>) -> Result<T> {
    let patience = shared.settings.patience();
    match tokio::time::timeout(patience, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(Trouble::Lost("no answer came in time".into())),
    }
}
