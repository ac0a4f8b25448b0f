//! Looks after the board in the background: adds what the store has and the board lacks, finds out
//! what sessions do that no task tells of, writes down what came by itself, and tidies up.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use turnkeep_core::SessionKey;
use turnkeep_core::ids::{Seq, Timestamp};
use turnkeep_core::ports::store::{Loaded, StoreError};
use turnkeep_core::session::{Session, SessionStatus};
use turnkeep_core::switchboard::{Heard, Resources};

use super::feed::{asked_behind, observed, resources};
use crate::clock;
use crate::cluster::Lead;
use crate::mail::Mail;
use crate::service::Gateway;

/// The pause between two looks at what is not written down.
const BEAT: Duration = Duration::from_millis(500);
/// The pause between two cleanups.
const CLEANUP: Duration = Duration::from_secs(60);
/// Sessions that the walk at the start reads at once.
const PAGE: usize = 256;
/// The pause behind each page.
const PACE: Duration = Duration::from_millis(5);
/// Sessions that the walk looks at in all. Beyond it, those come that something happens in.
const WALK_MAX: usize = 50_000;
/// Sessions whose journals are read between two beats.
const UNSURE_AT_ONCE: usize = 256;
/// Journal entries that are read at once, and how often for one session: the newest. What lies
/// further behind was not read for so long that it is not counted.
const ENTRIES: usize = 256;
const ENTRIES_PAGES_MAX: usize = 16;

impl Gateway {
    /// Looks after the switchboard until `shutdown`. What it lacks is added beside that: a walk through
    /// a large store takes its time, and nothing waits for it.
    pub async fn keep_switchboard(&self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = self.led(Lead::Switchboard) => {}
        }
        let walk = async {
            if let Err(error) = self.board_walk().await
                && !self.is_draining()
            {
                tracing::warn!(%error, "the switchboard lacks sessions that the store has");
            }
        };
        let work = async { tokio::join!(walk, self.board_beats()) };
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = work => {}
        }
    }

    /// What has to be done again and again.
    async fn board_beats(&self) {
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut tidied = tokio::time::Instant::now();
        loop {
            beat.tick().await;
            if self.readiness().is_err() {
                continue;
            }
            self.board_find_out().await;
            self.switchboard().write_all().await;
            if tidied.elapsed() >= CLEANUP {
                tidied = tokio::time::Instant::now();
                self.switchboard().open_files().count().await;
                for tenant in self.switchboard().shared().tenants() {
                    self.board_cleanup(&tenant);
                    self.board_weigh(&tenant);
                    self.switchboard().look_for_trends(&tenant);
                }
            }
        }
    }

    /// Adds what the store has and the boards lack, as far as there is room, and finds out what those
    /// do that were on them.
    ///
    /// What came to the board just before a kill and was not written down yet gets its number for a
    /// second time: in the order in which the sessions began, so that each gets the one it had. (Of
    /// those whose beginning was forgotten, what is left of it counts: they began long before that.)
    pub async fn board_walk(&self) -> Result<(), StoreError> {
        while self.board_find_out().await > 0 {}
        let mut lacking = self.board_lacking().await?;
        lacking.sort();
        for (_, key) in lacking {
            self.find_out_lacking(&key).await;
        }
        self.switchboard().write_all().await;
        Ok(())
    }

    /// What the boards lack, with when it began.
    async fn board_lacking(&self) -> Result<Vec<(Timestamp, SessionKey)>, StoreError> {
        let (mut lacking, mut after) = (Vec::new(), None::<SessionKey>);
        for _ in 0..WALK_MAX / PAGE {
            let page = self.store().sessions(None, after.as_ref(), PAGE).await?;
            let full = page.len() == PAGE;
            after = page.last().map(|(key, _)| key.clone());
            for (key, loaded) in page {
                if self.board_lacks(&key, &loaded) {
                    let first = self.store().events(&key, Seq(0), 1).await;
                    // One whose journal can't be read keeps the others from nothing; it comes last.
                    let began = first.ok().and_then(|first| first.first().map(|event| event.at));
                    lacking.push((began.unwrap_or(Timestamp::MAX), key));
                }
            }
            if !full {
                break;
            }
            tokio::time::sleep(PACE).await;
        }
        Ok(lacking)
    }

    /// Whether a session belongs on the board, and is not there.
    fn board_lacks(&self, key: &SessionKey, loaded: &Loaded) -> bool {
        let status = loaded.session.status();
        // What somebody made and was told that it could not be made is nobody's.
        let begun = loaded.session.last_seq > Seq(0);
        // What is on a board that is full stays there, but for the sake of what waits for a person.
        let waits =
            matches!(status, SessionStatus::WaitingForInput | SessionStatus::WaitingForOperator);
        self.switchboard().by_key(key).is_none()
            && status != SessionStatus::Closed
            && begun
            && (waits || self.board_has_room(key))
    }

    fn board_failed_to_read(&self, key: &SessionKey, error: &StoreError) {
        if self.switchboard().unreadable().failed(key, tokio::time::Instant::now()) {
            tracing::warn!(session_key = %key, %error, "the switchboard can't read a session");
        }
    }

    fn board_has_room(&self, key: &SessionKey) -> bool {
        let sessions = self.switchboard().totals(&key.tenant()).sessions;
        sessions < self.setup().settings.switchboard.sessions_max
    }

    /// Reads the journals of sessions of which the board does not know enough; says how many.
    pub async fn board_find_out(&self) -> usize {
        let unsure = self.switchboard().shared().take_unsure(UNSURE_AT_ONCE);
        let count = unsure.len();
        let mut found = 0;
        for (key, from) in unsure {
            let rests = self.switchboard().unreadable().rests(&key);
            found += usize::from(!rests && self.find_out(&key, from).await);
        }
        let now = tokio::time::Instant::now();
        let due = self.switchboard().unreadable().take_due(now, UNSURE_AT_ONCE);
        for key in due {
            match self.switchboard().by_key(&key) {
                Some(row) => self.find_out(&key, row.read_seq).await,
                None => self.find_out_lacking(&key).await,
            };
        }
        // What could not be found out now is tried again at a later beat.
        if found == 0 { 0 } else { count }
    }

    /// Looks what a session does and what was said in it behind a place; false if that could not be
    /// told.
    pub(super) async fn find_out(&self, key: &SessionKey, from: Seq) -> bool {
        let found = match self.store().load(key).await {
            Ok(Some(loaded)) => self.board_adopt(key, &loaded, from).await,
            Ok(None) => {
                self.switchboard().forget(key);
                Ok(true)
            }
            Err(error) => Err(error),
        };
        match found {
            Ok(found) => {
                self.switchboard().unreadable().over(key);
                found
            }
            Err(error) => {
                self.board_failed_to_read(key, &error);
                false
            }
        }
    }

    /// The same for one that is not on the board; it may have to stay off it.
    async fn find_out_lacking(&self, key: &SessionKey) -> bool {
        match self.store().load(key).await {
            Ok(Some(loaded)) if self.board_lacks(key, &loaded) => self.find_out(key, Seq(0)).await,
            Ok(_) => {
                self.switchboard().unreadable().over(key);
                true
            }
            Err(error) => {
                self.board_failed_to_read(key, &error);
                false
            }
        }
    }

    async fn board_adopt(
        &self,
        key: &SessionKey,
        loaded: &Loaded,
        from: Seq,
    ) -> Result<bool, StoreError> {
        let session = &*loaded.session;
        let known = self.switchboard().by_key(key);
        // What the board lacks nobody has looked at.
        let after = if known.is_none() { from } else { session.last_seq };
        let heard = self.hear_journal(key, from, session).await?;
        let kept = known.map_or_else(Resources::default, |row| row.resources);
        let seen = observed(
            session,
            &heard,
            after,
            Resources {
                buffer_bytes: kept.buffer_bytes,
                messages: kept.messages,
                ..resources(session, (0, 0))
            },
        );
        let seen = turnkeep_core::switchboard::Observed { loaded: true, ..seen };
        Ok(self.switchboard().shared().adopt(key, &seen, (&heard, from), clock::now()))
    }

    /// What was said behind a place, of which the newest counts; and what an open question says,
    /// however long ago that was asked.
    async fn hear_journal(
        &self,
        key: &SessionKey,
        from: Seq,
        session: &Session,
    ) -> Result<Heard, StoreError> {
        let up_to = session.last_seq;
        let newest = Seq(up_to.0.saturating_sub((ENTRIES * ENTRIES_PAGES_MAX) as u64));
        let (mut heard, mut after) = (Heard::default(), from.max(newest));
        if let Some(asked) = asked_behind(session).filter(|asked| *asked < after) {
            let events = self.store().events(key, asked, ENTRIES).await?;
            events.iter().filter(|event| event.seq <= after).for_each(|event| heard.add(event));
        }
        while after < up_to {
            let events = self.store().events(key, after, ENTRIES).await?;
            let Some(last) = events.last() else { break };
            after = last.seq;
            events.iter().filter(|event| event.seq <= up_to).for_each(|event| heard.add(event));
        }
        Ok(heard)
    }

    /// Asks the sessions in which an agent is at work what they take: what it writes grows without a
    /// commit.
    fn board_weigh(&self, tenant: &str) {
        let list = self.switchboard().list(tenant);
        for row in list.iter().filter(|row| row.resources.runs > 0) {
            if self.0.registry.has(&row.key)
                && let Some(policy) = self.policy_of_stored(&row.key)
            {
                self.send(&row.key, policy, Mail::Weigh);
            }
        }
    }

    /// What is kept in memory of a session that went to sleep goes, and its task too.
    pub(super) fn put_to_rest(&self, key: &SessionKey) {
        if self.0.registry.has(key)
            && let Some(policy) = self.policy_of_stored(key)
        {
            self.send(key, policy, Mail::Rest);
        }
    }
}
