//! Erasing one customer: first what is open ends, then what was said goes, then every trace.
//!
//! Each step leaves everything whole, so it can end anywhere and be asked for again. What arrives
//! meanwhile either was accepted before its session was erased, and ends cancelled with it, or finds
//! no session and begins a new conversation.

use std::time::Duration;

use sha2::{Digest, Sha256};
use turnkeep_core::SessionKey;
use turnkeep_core::care::{Reading, Why};
use turnkeep_core::ids::{Seq, Timestamp, TurnId};
use turnkeep_core::outbox::DeliveryState;
use turnkeep_core::ports::care::{Forget, Forgot, Redaction};
use turnkeep_core::ports::store::{Loaded, StoreError};
use turnkeep_core::session::{Control, Controlled};

use super::find::Whereabouts;
use super::{Progress, TRIES_MAX, Tell};
use crate::mail::Mail;
use crate::service::{Gateway, Refusal};
use crate::{clock, killpoint};

/// Entries that are read at once.
const PAGE: usize = 1000;
/// Texts that one change takes out.
const REDACT_MAX: usize = 64;

/// What an erasure came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Conversations of the customer that are gone.
    pub sessions: u64,
    /// Messages in them.
    pub messages: u64,
    /// Accepted messages that were still open and were cancelled for it.
    pub cancelled: u64,
    /// Messages of theirs that were blanked in sessions of others.
    pub blanked: u64,
    /// Parts of replies to them that are still on their way elsewhere; they keep their text until
    /// they are there, and so do the messages.
    pub on_their_way: u64,
    /// Parts of replies in their conversations that a channel took, or may have taken, like lines
    /// in its spool. What it did with them is beyond reach.
    pub spooled: u64,
    /// Restrictions that still count, and so are still known.
    pub restrictions: u64,
    /// Nothing of it stands in the store's files any more.
    pub scrubbed: bool,
}

/// Why it was not carried out to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EraseError {
    /// The store failed.
    Store(StoreError),
    /// A session could not be steered.
    Refused(Refusal),
    /// So much arrives in a session that it never came to rest.
    Busy(SessionKey),
}

impl From<StoreError> for EraseError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Refusal> for EraseError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Gateway {
    /// Erases everything that is known of a customer, but restrictions that still count. Doing it
    /// twice does no harm.
    pub async fn erase(
        &self,
        tenant: &str,
        customer: &str,
        tell: Tell<'_>,
    ) -> Result<Erased, EraseError> {
        self.readiness().map_err(Refusal::Unavailable)?;
        let _alone = self.0.care.alone.lock().await;
        let now = clock::now();
        let name = self.anonymous(tenant, customer).await?;
        let mut erased = Erased::default();
        let found = self.whereabouts(tenant, customer, tell).await?;
        let of = (found.own.len() + found.elsewhere.len()) as u64;
        let done = self.erase_sessions(&found, (customer, &name), now, &mut erased, tell).await;
        tell(Progress { step: "waiting for callbacks", done: of, of });
        self.0.listeners.erased().await;
        done?;
        self.sweep_forgotten(tell).await?;
        killpoint::reached("erase.swept");
        if let Err(error) = self.remove_unnamed(Duration::ZERO).await {
            // The next look does it.
            self.0.care.files.look_soon();
            tracing::warn!(%error, "attachments of a customer could not be removed yet");
        }
        erased.restrictions = self.erase_restrictions(tenant, customer, now).await?;
        tell(Progress { step: "cleaning the files", done: 0, of: 0 });
        erased.scrubbed = self.care().scrub().await?;
        killpoint::reached("erase.scrubbed");
        self.0.metrics.forgotten(Why::Erasure, erased.messages + erased.blanked);
        let Erased { sessions, messages, blanked, scrubbed, .. } = erased;
        tracing::info!(
            tenant,
            name,
            sessions,
            messages,
            blanked,
            scrubbed,
            "a customer was erased"
        );
        Ok(erased)
    }

    async fn erase_sessions(
        &self,
        found: &Whereabouts,
        (customer, name): (&str, &str),
        now: Timestamp,
        erased: &mut Erased,
        tell: Tell<'_>,
    ) -> Result<(), EraseError> {
        let of = (found.own.len() + found.elsewhere.len()) as u64;
        let sessions = found.own.iter().map(|key| (key, true));
        let sessions = sessions.chain(found.elsewhere.iter().map(|key| (key, false)));
        for ((key, own), done) in sessions.zip(0..) {
            tell(Progress { step: "erasing sessions", done, of });
            if own {
                self.erase_session(key, name, now, erased, tell).await?;
            } else {
                self.erase_traces(key, customer, erased).await?;
            }
        }
        Ok(())
    }

    /// What the customer is called from now on: the same at every erasure, and no guess at names
    /// finds it without this store's secret.
    async fn anonymous(&self, tenant: &str, customer: &str) -> Result<String, StoreError> {
        let mut hash = Sha256::new();
        hash.update(self.care().salt().await?);
        for part in [tenant, customer] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let digest = hash.finalize();
        Ok(digest[..16].iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Ends what is open in a session, forgets its history from its beginning, and at last its name.
    async fn erase_session(
        &self,
        key: &SessionKey,
        name: &str,
        now: Timestamp,
        erased: &mut Erased,
        tell: Tell<'_>,
    ) -> Result<(), EraseError> {
        let (mut tries, mut counted) = (0, false);
        while tries < TRIES_MAX {
            let Some(loaded) = self.at_rest(key, erased).await? else { return Ok(()) };
            killpoint::reached("erase.ended");
            if !std::mem::replace(&mut counted, true) {
                erased.spooled += self.spooled(key).await?;
            }
            let known = self.care().forgotten(key).await?;
            let messages = known.as_ref().map_or(0, |known| known.by_erasure);
            let mut reading = Reading::old(known, &loaded.session, Timestamp::MAX);
            let from = reading.after();
            let page = self.store().events(key, from, PAGE).await?;
            let taken = page.iter().take_while(|event| reading.observe(event)).count();
            let whole = reading.after() == loaded.session.last_seq;
            if taken == 0 && !whole {
                tries += 1;
                continue;
            }
            let forgotten = reading.forgotten(Why::Erasure, now);
            let messages = forgotten.by_erasure - messages;
            let bury_as = whole.then(|| name.to_owned());
            let expected = loaded.version;
            let forget = Forget { key: key.clone(), expected, from, forgotten, bury_as };
            match self.forget(forget).await? {
                Forgot::Done(_) => {
                    killpoint::reached("erase.forgotten");
                    erased.messages += messages;
                    if whole {
                        erased.sessions += 1;
                        self.forget_task(key);
                        return Ok(());
                    }
                }
                Forgot::Changed => tries += 1,
                Forgot::Unswept => {}
            }
            self.sweep_forgotten(tell).await?;
        }
        Err(EraseError::Busy(key.clone()))
    }

    /// The session with nothing open, and nobody opted in; none if it is not there.
    async fn at_rest(
        &self,
        key: &SessionKey,
        erased: &mut Erased,
    ) -> Result<Option<Loaded>, EraseError> {
        let Some(loaded) = self.store().load(key).await? else { return Ok(None) };
        if !loaded.session.opted_in && !loaded.session.has_open_work() {
            return Ok(Some(loaded));
        }
        if let Controlled::Closed(cancelled) = self.control(key, Control::Erase).await? {
            erased.cancelled += u64::from(cancelled);
        }
        Ok(self.store().load(key).await?)
    }

    /// Parts that have left by a channel that is pushed to.
    async fn spooled(&self, key: &SessionKey) -> Result<u64, StoreError> {
        if !self.setup().channels.contains_key(&key.channel()) {
            return Ok(0);
        }
        let (mut left, mut after) = (0, (Seq(0), 0));
        loop {
            let page = self.store().parts(key, after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(left) };
            after = (last.reply, last.part);
            let has_left = |state| matches!(state, DeliveryState::Sent | DeliveryState::Unknown);
            left += page.iter().filter(|part| has_left(part.state)).count() as u64;
        }
    }

    /// Whoever holds the state of an erased session in memory looks again, and whoever watches it is
    /// told that it begins anew.
    fn forget_task(&self, key: &SessionKey) {
        // Whoever comes back under the name begins at nothing.
        self.0.ledger.erased(key);
        self.0.switchboard.forget(key);
        self.leave_worktree_behind(key);
        if let Some(live) = self.0.lives.get(key) {
            live.begin_anew();
        }
        if self.0.registry.has(key)
            && let Some(policy) = self.policy_of_stored(key)
        {
            self.send(key, policy, Mail::Tend);
        }
    }

    /// Blanks what a customer wrote in a session that is not theirs, and what was answered.
    async fn erase_traces(
        &self,
        key: &SessionKey,
        customer: &str,
        erased: &mut Erased,
    ) -> Result<(), EraseError> {
        let Some(loaded) = self.store().load(key).await? else { return Ok(()) };
        let open = loaded.session.pending().any(|pending| *pending.body.sender == *customer);
        if open && let Controlled::Reset(cancelled) = self.control(key, Control::New).await? {
            erased.cancelled += u64::from(cancelled);
        }
        for letter in self.care().letters(key).await? {
            if *letter.body.sender == *customer {
                // Gone already, if somebody was quicker.
                self.control(key, Control::Discard { seq: letter.seq }).await?;
            }
        }
        // What comes from here on came after the erasure, and is left alone.
        let Some(loaded) = self.store().load(key).await? else { return Ok(()) };
        let traces = self.traces(key, &loaded.session, customer).await?;
        let turns: Vec<TurnId> = traces.turns.iter().copied().collect();
        let (messages, replies): (Vec<Seq>, Vec<Seq>) =
            traces.places.iter().partition(|place| traces.messages.contains(place));
        let leaving = loaded.session.outbox.parts.iter();
        let leaving = leaving.filter(|part| replies.contains(&part.reply)).count() as u64;
        for turns in turns.chunks(REDACT_MAX) {
            let (key, turns) = (key.clone(), turns.to_vec());
            self.redact(Redaction { key, places: Vec::new(), turns }).await?;
        }
        self.blank(key, &replies).await?;
        erased.on_their_way += leaving;
        if leaving == 0 {
            // Last, for it is by them that the rest is found: after a crash, and while a part that
            // is still on its way keeps its text.
            self.blank(key, &messages).await?;
            erased.blanked += messages.len() as u64;
        }
        Ok(())
    }

    async fn blank(&self, key: &SessionKey, places: &[Seq]) -> Result<(), StoreError> {
        for places in places.chunks(REDACT_MAX) {
            let (key, places) = (key.clone(), places.to_vec());
            self.redact(Redaction { key, places, turns: Vec::new() }).await?;
            killpoint::reached("erase.blanked");
        }
        Ok(())
    }
}
