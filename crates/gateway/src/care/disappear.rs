//! Messages that disappear: when the timer of their chat is over, their text goes, and what was
//! answered to them goes in its time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use turnkeep_core::SessionKey;
use turnkeep_core::care::fleeting::{AGAIN_MS, Fleeting, Gone};
use turnkeep_core::ids::{Seq, Timestamp};
use turnkeep_core::journal::Event;
use turnkeep_core::ports::attachments::named_in;
use turnkeep_core::ports::care::{Disappearing, Redaction};
use turnkeep_core::ports::store::{Loaded, StoreError};
use turnkeep_core::session::{Control, Controlled, Session};

use super::erase::EraseError;
use crate::clock;
use crate::service::Gateway;

/// Messages that are looked at together.
const PAGE: usize = 200;
/// Entries that are read at once.
const ENTRIES: usize = 500;
/// Texts that one change takes out.
const REDACT_MAX: usize = 64;
/// The pause between two looks: no longer, and no shorter however much is due.
const ROUND: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// What unused parts of the store's files hold is wiped so long after something disappeared at most.
const SCRUB: Duration = Duration::from_secs(3600);
/// How long a session is left alone whose history can't be read.
const UNREADABLE_MS: i64 = 3_600_000;

/// A session with messages that are due, and what is followed in its journal.
struct Look<'a> {
    key: &'a SessionKey,
    fleeting: Fleeting,
    /// The place up to which the journal was read.
    read: Seq,
    /// A text that goes names an attachment.
    files: bool,
}

impl Gateway {
    /// Looks again and again for what disappears.
    pub(super) async fn disappear_in_time(&self) {
        // A former process may have left something behind.
        let mut clean_at = self.care().is_unscrubbed().await.unwrap_or(true).then(Instant::now);
        loop {
            let mut failed = false;
            if self.readiness().is_ok() {
                match self.disappear(clock::now()).await {
                    Ok(0) => {}
                    Ok(texts) => {
                        tracing::info!(texts, "what was to disappear is gone");
                        clean_at.get_or_insert_with(|| Instant::now() + SCRUB);
                    }
                    Err(_) if self.is_draining() => {}
                    Err(error) => {
                        failed = true;
                        tracing::warn!(?error, "what is to disappear could not be taken out");
                    }
                }
                if clean_at.is_some_and(|at| at <= Instant::now()) {
                    clean_at = (!self.clean().await).then(|| Instant::now() + SCRUB);
                }
            }
            tokio::time::sleep(if failed { ROUND.1 } else { self.until_next().await }).await;
        }
    }

    /// Wipes unused parts of the files; says whether that is done.
    async fn clean(&self) -> bool {
        let cleaned = self.care().scrub().await;
        if let Err(error) = &cleaned {
            tracing::warn!(%error, "the files could not be cleaned");
        }
        cleaned.unwrap_or(false)
    }

    async fn until_next(&self) -> Duration {
        let (least, most) = ROUND;
        let Ok(next) = self.care().disappearing(Timestamp::MAX, 1).await else { return most };
        let Some(next) = next.first() else { return most };
        let wait_ms = next.due_at.saturating_sub(clock::now()).max(0).unsigned_abs();
        Duration::from_millis(wait_ms).clamp(least, most)
    }

    /// Takes out what has disappeared by now; says how many texts that were. Doing it twice does no
    /// harm, and what is broken off is done the next time.
    pub async fn disappear(&self, now: Timestamp) -> Result<u64, EraseError> {
        let mut texts = 0;
        loop {
            let due = self.care().disappearing(now, PAGE).await?;
            let full = due.len() == PAGE;
            let mut sessions = BTreeMap::<SessionKey, Vec<Disappearing>>::new();
            for message in due {
                sessions.entry(message.key.clone()).or_default().push(message);
            }
            for (key, messages) in sessions {
                match self.disappear_from(&key, &messages, now).await {
                    Ok(gone) => texts += gone,
                    Err(error) if self.is_draining() => return Err(error),
                    Err(error) => self.leave_alone(&key, &messages, now, &error).await?,
                }
            }
            if !full || self.is_draining() {
                self.0.metrics.disappeared(texts);
                return Ok(texts);
            }
        }
    }

    /// A session that can't be worked on must not keep the others.
    async fn leave_alone(
        &self,
        key: &SessionKey,
        messages: &[Disappearing],
        now: Timestamp,
        error: &EraseError,
    ) -> Result<(), EraseError> {
        tracing::warn!(
            session_key = %key, ?error, "what is to disappear from a session could not be taken out"
        );
        let unreadable = matches!(error, EraseError::Store(StoreError::Corrupt(_)));
        let again = now.saturating_add(if unreadable { UNREADABLE_MS } else { AGAIN_MS });
        let looked_at = messages.iter().map(|message| (message.seq, Some(again))).collect();
        Ok(self.care().put_off(key, looked_at).await?)
    }

    async fn disappear_from(
        &self,
        key: &SessionKey,
        messages: &[Disappearing],
        now: Timestamp,
    ) -> Result<u64, EraseError> {
        let places = || messages.iter().map(|message| message.seq);
        let Some(loaded) = self.store().load(key).await? else {
            self.care().put_off(key, places().map(|seq| (seq, None)).collect()).await?;
            return Ok(0);
        };
        let timers = messages.iter().map(|message| (message.seq, message.seconds));
        let first = places().min().unwrap_or_default();
        let read = Seq(first.0.saturating_sub(1));
        let mut look = Look { key, fleeting: Fleeting::new(timers), read, files: false };
        self.read_for(&mut look, loaded.session.last_seq).await?;
        let Gone { places: gone, turns, mut left } = look.fleeting.gone(&loaded.session, now);
        let retried = self.discard_letters(key, &look.fleeting, now).await?;
        for chunk in turns.chunks(REDACT_MAX) {
            let (key, turns) = (key.clone(), chunk.to_vec());
            self.redact(Redaction { key, places: Vec::new(), turns }).await?;
        }
        for chunk in gone.chunks(REDACT_MAX) {
            let (key, places) = (key.clone(), chunk.to_vec());
            self.redact(Redaction { key, places, turns: Vec::new() }).await?;
        }
        if !gone.is_empty() && look.files {
            self.0.care.files.look_soon();
        }
        if retried || self.came_back(&mut look, &gone).await? {
            // Somebody had one tried or sent again meanwhile: where it stands now shows the next
            // time.
            for seq in places() {
                left.entry(seq).or_insert(now.saturating_add(AGAIN_MS));
            }
        }
        // Last: until then it is found by them, also after a crash.
        let looked_at = places().map(|seq| (seq, left.get(&seq).copied())).collect();
        self.care().put_off(key, looked_at).await?;
        Ok(gone.len() as u64)
    }

    /// Follows the session's journal up to this place; what comes behind it came after the state,
    /// and is seen the next time. Says whether a message stands there once more.
    async fn read_for(&self, look: &mut Look<'_>, last: Seq) -> Result<bool, StoreError> {
        let mut again = false;
        while look.read < last {
            let page = self.store().events(look.key, look.read, ENTRIES).await?;
            let Some(end) = page.last() else { break };
            look.read = end.seq.min(last);
            for event in page.iter().filter(|event| event.seq <= last) {
                again |= look.fleeting.is_again(event);
                look.fleeting.observe(event);
                look.files |= look.fleeting.follows(event.seq) && names_a_file(event);
            }
        }
        Ok(again)
    }

    /// Whether one is there again of those that were just taken out: what was at rest when it was
    /// looked at can be tried or sent again by then.
    async fn came_back(&self, look: &mut Look<'_>, gone: &[Seq]) -> Result<bool, StoreError> {
        if gone.is_empty() {
            return Ok(false);
        }
        let Some(Loaded { session, .. }) = self.store().load(look.key).await? else {
            return Ok(false);
        };
        let leaves =
            |session: &Session| session.outbox.parts.iter().any(|part| gone.contains(&part.reply));
        Ok(self.read_for(look, session.last_seq).await? || leaves(&session))
    }

    /// A dead letter's text is nowhere any more either; says whether somebody took one before.
    async fn discard_letters(
        &self,
        key: &SessionKey,
        fleeting: &Fleeting,
        now: Timestamp,
    ) -> Result<bool, EraseError> {
        let over = fleeting.over(now);
        let mut taken = false;
        for letter in self.care().letters(key).await? {
            if over.contains(&letter.seq) {
                let discarded = self.control(key, Control::Discard { seq: letter.seq }).await?;
                taken |= discarded != Controlled::Done;
            }
        }
        Ok(taken)
    }
}

fn names_a_file(event: &Event) -> bool {
    let mut found = BTreeSet::new();
    named_in(&serde_json::to_string(event).unwrap_or_default(), &mut found);
    !found.is_empty()
}
