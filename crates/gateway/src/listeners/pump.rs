//! One listener's way through the journal: read behind the last place, carry out what is wanted,
//! note down what failed together with the new place, go on.
//!
//! A place is noted down after its callbacks were tried. So a process that dies between the two
//! sends them again at its next start, under the same names: at least once, never never.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use turnkeep_core::listen::{callback_body, callback_id, data, next_try};
use turnkeep_core::ports::listeners::{
    Carried, Delivery, Failure, JournalRow, Kept, ListenerStore, Missed, Standing,
};
use turnkeep_core::ports::store::StoreError;
use turnkeep_core::{Event, Seq, SessionKey, Timestamp};

use super::{GRACE, Listening};
use crate::metrics::CallbackMetrics;
use crate::run::panic_text;
use crate::{clock, killpoint};

/// Rows that are read at once.
const ROWS: usize = 64;
/// Failed callbacks that are tried again at once, between two reads of the journal.
const RETRIES: usize = 8;
/// Callbacks of one listener under way at once.
const AT_ONCE: usize = 8;
/// Rows without anything wanted that go by before their place is noted down.
const UNNOTED_ROWS_MAX: u64 = 1024;
/// How often the journal is looked at though nobody said that it grew.
const PERIOD: Duration = Duration::from_secs(5);
/// The pause after the store failed.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// How a try ended, as the pump sees it.
enum Tried {
    Carried(Carried),
    /// The process is ending; nobody knows whether it arrived.
    CutOff,
}

/// What stands at a place of the journal now.
enum Found {
    There(SessionKey, Event),
    /// It was forgotten.
    Gone,
    Unreadable,
}

/// Follows the journal for one listener.
pub(super) struct Pump {
    store: Arc<dyn ListenerStore>,
    listening: Arc<Listening>,
    grown: watch::Receiver<u64>,
    stop: CancellationToken,
    metrics: CallbackMetrics,
    /// The last row that it is done with.
    position: u64,
    /// The same, as the store knows it.
    noted: u64,
    /// The last try failed; said once, not for every callback.
    failing: bool,
}

impl Pump {
    pub(super) fn new(
        store: Arc<dyn ListenerStore>,
        listening: Arc<Listening>,
        grown: watch::Receiver<u64>,
        stop: CancellationToken,
    ) -> Self {
        let metrics = CallbackMetrics::new(&listening.listener.name);
        Self { store, listening, grown, stop, metrics, position: 0, noted: 0, failing: false }
    }

    pub(super) async fn run(mut self) {
        while !self.stop.is_cancelled() {
            match self.begin().await {
                Ok(()) => break,
                Err(error) => self.pause(&error).await,
            }
        }
        while !self.stop.is_cancelled() && !self.listening.is_gone() {
            match self.round().await {
                Ok(true) => {}
                Ok(false) => self.rest().await,
                Err(error) => self.pause(&error).await,
            }
        }
    }

    fn name(&self) -> &str {
        &self.listening.listener.name
    }

    async fn begin(&mut self) -> Result<(), StoreError> {
        let standing = self.store.standing(self.name()).await?.unwrap_or_default();
        self.noted = standing.position;
        self.move_to(standing.position);
        self.show(standing);
        Ok(())
    }

    fn move_to(&mut self, position: u64) {
        self.position = position;
        self.listening.looked.store(position, Ordering::Release);
    }

    /// Does some of what there is; false if there was nothing.
    async fn round(&mut self) -> Result<bool, StoreError> {
        // Seen before the read, so that what comes during it is not slept over.
        self.grown.mark_unchanged();
        let retried = self.retry().await?;
        if self.listening.is_gone() || self.stop.is_cancelled() {
            return Ok(true);
        }
        Ok(self.read_on().await? || retried)
    }

    /// Waits for something to do.
    async fn rest(&mut self) {
        let due_at = self.store.next_due(self.name()).await.unwrap_or_default();
        let wait = due_at.map_or(PERIOD, |at| {
            let ms = u64::try_from(at.saturating_sub(clock::now())).unwrap_or(0);
            PERIOD.min(Duration::from_millis(ms))
        });
        tokio::select! {
            () = self.stop.cancelled() => {}
            // The sender lives as long as the gateway, so waiting can't fail.
            _ = self.grown.changed() => {}
            () = self.listening.woken.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }

    async fn pause(&self, error: &StoreError) {
        tracing::warn!(listener = self.name(), %error, "the listener waits for the store");
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(STORE_PAUSE) => {}
        }
    }

    /// Tries what is due again; false if nothing was.
    async fn retry(&mut self) -> Result<bool, StoreError> {
        let due = self.store.due(self.name(), clock::now(), RETRIES).await?;
        if due.is_empty() {
            return Ok(false);
        }
        let this = &*self;
        let tries = stream::iter(due).map(|kept| async move {
            let id = kept.id;
            this.try_again(kept).await.map(|failure| (id, failure))
        });
        let ended: Vec<_> = tries.buffer_unordered(AT_ONCE).collect().await;
        let ended = ended.into_iter().collect::<Result<Vec<_>, StoreError>>()?;
        self.heard(ended.iter().map(|(_, failure)| failure.as_ref()));
        killpoint::reached("callback.tried");
        let standing = self
            .insist(|this| {
                let (store, ended) = (Arc::clone(&this.store), ended.clone());
                let name = this.name().to_owned();
                async move { store.settle(&name, ended).await }
            })
            .await;
        self.show(standing);
        Ok(true)
    }

    /// One more try of a kept callback; no failure if nothing is left to do.
    async fn try_again(&self, kept: Kept) -> Result<Option<Failure>, StoreError> {
        let _under_way = self.listening.under_way.read().await;
        self.try_anew(kept.position, kept.seq, kept.failure.tries).await
    }

    /// Tries an event as it stands in the journal now. To be called under way only, so that no
    /// erasure comes between the look and the try.
    async fn try_anew(
        &self,
        position: u64,
        seq: Seq,
        tries: u32,
    ) -> Result<Option<Failure>, StoreError> {
        let (key, event) = match self.find(position, seq).await? {
            Found::There(key, event) => (key, event),
            Found::Gone => {
                self.forgotten(1);
                return Ok(None);
            }
            Found::Unreadable => {
                let error = "its event can't be read any more".into();
                return Ok(Some(Failure { tries, due_at: None, error }));
            }
        };
        let selector = &self.listening.listener.selector;
        if !selector.takes(&key) || !selector.wants(&event) {
            // It was configured otherwise when this was noted down.
            return Ok(None);
        }
        let tried = self.carry(position, &key, &event).await;
        Ok(self.failure(tried, tries, clock::now()))
    }

    async fn find(&self, position: u64, seq: Seq) -> Result<Found, StoreError> {
        let row = self.store.journal_after(position.saturating_sub(1), 1).await?.pop();
        let Some(row) = row.filter(|row| row.position == position) else { return Ok(Found::Gone) };
        let Ok((key, events)) = row.content else { return Ok(Found::Unreadable) };
        let event = events.into_iter().find(|event| event.seq == seq);
        Ok(event.map_or(Found::Gone, |event| Found::There(key, event)))
    }

    /// Callbacks, or rows whose callbacks nobody knows, that were forgotten before they were told.
    fn forgotten(&self, count: u64) {
        tracing::info!(listener = self.name(), count, "what was forgotten is not told any more");
        self.metrics.forgotten(count);
    }

    /// Carries out what the next rows hold; false at the journal's end.
    async fn read_on(&mut self) -> Result<bool, StoreError> {
        // Before the rows, so that an erasure which comes between is noticed.
        let erasures = self.listening.erasures();
        let mut rows = self.store.journal_after(self.position, ROWS).await?;
        let mut last = rows.last().map_or(self.position, |row| row.position);
        if rows.is_empty() {
            let end = self.store.journal_end().await?;
            if end <= self.position {
                return Ok(false);
            }
            // Only what came meanwhile can stand there; if nothing does, it was forgotten.
            rows = self.store.journal_after(self.position, ROWS).await?;
            last = rows.last().map_or(end, |row| row.position);
        }
        let gone = (last - self.position).saturating_sub(rows.len() as u64);
        if gone > 0 {
            self.forgotten(gone);
        }
        let wanted: Vec<_> = rows.into_iter().flat_map(|row| self.wanted(row)).collect();
        if wanted.is_empty() && last - self.noted < UNNOTED_ROWS_MAX {
            self.move_to(last);
            return Ok(true);
        }
        let this = &*self;
        let tries = stream::iter(wanted).map(|wanted| this.first_try(wanted, erasures));
        let tried: Vec<Option<Missed>> = tries.buffer_unordered(AT_ONCE).collect().await;
        self.heard(tried.iter().map(|missed| missed.as_ref().map(|missed| &missed.failure)));
        let missed: Vec<Missed> = tried.into_iter().flatten().collect();
        killpoint::reached("callback.tried");
        let standing = self
            .insist(|this| {
                let (store, missed) = (Arc::clone(&this.store), missed.clone());
                let name = this.name().to_owned();
                async move { store.advance(&name, last, missed).await }
            })
            .await;
        self.noted = last;
        self.move_to(last);
        self.show(standing);
        Ok(true)
    }

    /// Carries out what was read when so much had been erased; what is to be noted down of it.
    async fn first_try(
        &self,
        (position, key, event): (u64, SessionKey, Event),
        erasures: u64,
    ) -> Option<Missed> {
        let (seq, event_type) = (event.seq, event.body.name());
        let _under_way = self.listening.under_way.read().await;
        let failure = if self.listening.erasures() == erasures {
            let tried = self.carry(position, &key, &event).await;
            self.failure(tried, 0, clock::now())
        } else {
            self.insist_anew(position, seq).await
        };
        failure.map(|failure| Missed { position, seq, event_type, at: clock::now(), failure })
    }

    /// Tries it as it stands there now, once the store can say; gives up only at the process's end.
    async fn insist_anew(&self, position: u64, seq: Seq) -> Option<Failure> {
        loop {
            match self.try_anew(position, seq, 0).await {
                Ok(failure) => return failure,
                Err(error) => self.pause(&error).await,
            }
            if self.stop.is_cancelled() {
                return self.failure(Tried::CutOff, 0, clock::now());
            }
        }
    }

    fn wanted(&self, row: JournalRow) -> Vec<(u64, SessionKey, Event)> {
        let JournalRow { position, content } = row;
        let selector = &self.listening.listener.selector;
        match content {
            Ok((key, events)) if selector.takes(&key) => {
                let wanted = events.into_iter().filter(|event| selector.wants(event));
                wanted.map(|event| (position, key.clone(), event)).collect()
            }
            Ok(_) => Vec::new(),
            Err(reason) => {
                // It would hold up everything behind it.
                tracing::error!(listener = self.name(), position, reason, "a row is left out");
                Vec::new()
            }
        }
    }

    async fn carry(&self, position: u64, key: &SessionKey, event: &Event) -> Tried {
        let listener = &self.listening.listener;
        // A moment outside of the calendar can only come from a broken clock.
        let moment = jiff::Timestamp::from_millisecond(event.at).unwrap_or(jiff::Timestamp::MIN);
        let data = data(key, position, event, listener.include_text);
        let body = callback_body(event.body.name(), &format!("{moment:.3}"), data);
        let id = callback_id(&listener.name, position, event);
        let carrying = AssertUnwindSafe(listener.courier.carry(Delivery { id, body }));
        tokio::select! {
            biased;
            carried = carrying.catch_unwind() => Tried::Carried(carried.unwrap_or_else(|panic| {
                Carried::Failed { error: panic_text(&*panic).into(), retry_after_ms: None }
            })),
            () = self.cut_off() => Tried::CutOff,
        }
    }

    /// Resolves when a shutdown can't wait any longer.
    async fn cut_off(&self) {
        self.stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
    }

    /// What is to be noted down of a try; nothing if it arrived.
    fn failure(&self, tried: Tried, tries: u32, now: Timestamp) -> Option<Failure> {
        let (outcome, failure) = match tried {
            Tried::Carried(Carried::Delivered) => ("delivered", None),
            Tried::Carried(Carried::Failed { error, retry_after_ms }) => {
                let tries = tries + 1;
                let due_at = next_try(tries, now, retry_after_ms);
                let outcome = if due_at.is_some() { "failed" } else { "dead" };
                (outcome, Some(Failure { tries, due_at, error }))
            }
            Tried::Carried(Carried::Gone) => {
                self.listening.gone.store(true, Ordering::Release);
                let error = "answered 410 Gone: no more callbacks until the next start".into();
                ("gone", Some(Failure { tries, due_at: Some(now), error }))
            }
            Tried::CutOff => {
                let error = "cut off by the end of the process".into();
                ("cut_off", Some(Failure { tries, due_at: Some(now), error }))
            }
        };
        self.metrics.tried(outcome);
        failure
    }

    /// Says when things begin to fail and when they work again.
    fn heard<'a>(&mut self, tries: impl Iterator<Item = Option<&'a Failure>>) {
        let listener = self.listening.listener.name.as_str();
        for failure in tries {
            match failure {
                Some(Failure { due_at: None, tries, error }) => {
                    tracing::warn!(listener, tries, %error, "a callback is given up");
                }
                Some(Failure { error, .. }) if !self.failing => {
                    tracing::warn!(listener, %error, "callbacks fail; they are tried again");
                }
                None if self.failing => tracing::info!(listener, "callbacks arrive again"),
                Some(_) | None => {}
            }
            self.failing = failure.is_some();
        }
    }

    /// Writes until it is written: what was tried must not be tried again because the disk is
    /// full. Gives up only at the end of the process.
    async fn insist<F>(&self, write: impl Fn(&Self) -> F) -> Standing
    where
        F: Future<Output = Result<Standing, StoreError>>,
    {
        loop {
            match write(self).await {
                Ok(standing) => return standing,
                Err(error) => self.pause(&error).await,
            }
            if self.stop.is_cancelled() {
                return write(self).await.unwrap_or_default();
            }
        }
    }

    fn show(&self, standing: Standing) {
        self.metrics.pending(standing.pending);
    }
}
