//! Homes to open stores in, and commits in few words.

use std::sync::Arc;

use smallvec::smallvec;
use tempfile::TempDir;
use turnkeep_core::journal::DeadReason;
use turnkeep_core::message::{MessageBody, Pending, Seen};
use turnkeep_core::outbox::DeliveryState;
use turnkeep_core::ports::care::CareStore;
use turnkeep_core::ports::guard::Restrictions;
use turnkeep_core::ports::keys::Keys;
use turnkeep_core::ports::listeners::ListenerStore;
use turnkeep_core::ports::people::People;
use turnkeep_core::ports::schedule::ScheduleStore;
use turnkeep_core::ports::store::{
    Commit, CommitOutcome, DeadLetter, FirstDecision, Guard, Loaded, PartRow, Rows, Store, TurnRow,
    TurnStatus, UsageRow,
};
use turnkeep_core::ports::switchboard::SwitchboardStore;
use turnkeep_core::ports::usage::UsageStore;
use turnkeep_core::usage::{Sums, Usage};
use turnkeep_core::{
    Action, Attempt, Epoch, Event, EventBody, RunTag, Seq, Session, SessionKey, SessionKind,
    Timestamp, Trust, TurnGroupId, TurnId, Version,
};
use turnkeep_stores::{MemoryStore, SqliteOptions, SqliteStore};
use uuid::Uuid;

/// The suite's time; nothing depends on the real one.
pub(crate) const NOW: Timestamp = 1_790_000_000_000;
pub(crate) const DAY_MS: Timestamp = 24 * 3_600_000;

/// Where a store's data outlives the store. One store is open at a time.
pub(crate) trait Home: Default {
    type Store: Store
        + CareStore
        + Keys
        + ListenerStore
        + People
        + Restrictions
        + ScheduleStore
        + SwitchboardStore
        + UsageStore;
    fn open(&self) -> Self::Store;
}

#[derive(Default)]
pub(crate) struct MemoryHome(MemoryStore);

impl Home for MemoryHome {
    type Store = MemoryStore;
    fn open(&self) -> MemoryStore {
        self.0.reopen()
    }
}

pub(crate) struct SqliteHome(TempDir);

impl Default for SqliteHome {
    fn default() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl Home for SqliteHome {
    type Store = SqliteStore;
    fn open(&self) -> SqliteStore {
        SqliteStore::open(self.0.path(), SqliteOptions::default()).unwrap()
    }
}

pub(crate) fn key(peer: &str) -> SessionKey {
    key_of("tenant", peer)
}

pub(crate) fn key_of(tenant: &str, peer: &str) -> SessionKey {
    SessionKey::new(tenant, "agent", "api", SessionKind::Dm, peer).unwrap()
}

/// The number's own id; a greater number makes a greater id.
pub(crate) fn turn_id(number: u128) -> TurnId {
    TurnId(Uuid::from_u128((0x0190_u128 << 112) + number))
}

/// A conversation as its task would hold it: builds each commit on the one before.
#[derive(Clone, Debug)]
pub(crate) struct Chat {
    pub(crate) key: SessionKey,
    pub(crate) version: Version,
    pub(crate) session: Session,
    pub(crate) wake_at: Option<Timestamp>,
    rows: Rows,
}

impl Chat {
    pub(crate) fn new(peer: &str) -> Self {
        Self::with_key(key(peer))
    }

    pub(crate) fn with_key(key: SessionKey) -> Self {
        let session = Session { updated_at: NOW, ..Session::new() };
        Self { key, version: Version(0), session, wake_at: None, rows: Rows::default() }
    }

    /// Journals anything.
    pub(crate) fn event(&mut self, body: EventBody) -> Seq {
        self.session.last_seq = self.session.last_seq.next();
        let seq = self.session.last_seq;
        self.rows.events.push(Event { seq, at: self.session.updated_at, body });
        seq
    }

    /// Journals something short.
    pub(crate) fn note(&mut self, text: &str) -> Seq {
        self.event(EventBody::notice(text.into()))
    }

    /// Accepts a message; what becomes of it is the caller's business.
    pub(crate) fn accept(&mut self, text: &str) -> Pending {
        self.accept_fleeting(text, None)
    }

    /// One that disappears after so many seconds.
    pub(crate) fn accept_fleeting(&mut self, text: &str, disappears_s: Option<u32>) -> Pending {
        let body = body(text);
        let seq = self.event(EventBody::MessageAccepted {
            message_id: Arc::clone(&body.message_id),
            sender: Arc::clone(&body.sender),
            text: Arc::clone(&body.text),
            trust: Trust::Familiar,
            action: Action::Queued,
            turn_id: None,
            queue_position: Some(1),
            retry_of: None,
            held: false,
            disappears_s,
        });
        let at = self.session.updated_at;
        Pending { seq, at, trust: Trust::Familiar, alone: false, group: None, body }
    }

    /// Accepts a message and lets it wait.
    pub(crate) fn queue(&mut self, text: &str) -> Pending {
        let pending = self.accept(text);
        self.session.queue.push(pending.clone());
        pending
    }

    /// Journals the end of a turn with its reply.
    pub(crate) fn complete(&mut self, id: TurnId, reply: &str) -> Seq {
        self.event(EventBody::TurnCompleted {
            turn_id: id,
            attempt: Attempt(1),
            epoch: Epoch(1),
            messages: smallvec![Seq(1)],
            reply: Some(reply.into()),
            version: Some("mind#2".into()),
            by: None,
        })
    }

    pub(crate) fn turn(&mut self, row: TurnRow) {
        self.rows.put_turn(row);
    }

    pub(crate) fn part(&mut self, row: PartRow) {
        self.rows.put_part(row);
    }

    pub(crate) fn bury(&mut self, letter: DeadLetter) {
        self.rows.dead_letters.push(letter);
    }

    /// Books and journals what a run of this turn used.
    pub(crate) fn used(&mut self, turn: TurnId, model: &str, sums: Sums) {
        let run = RunTag { turn, epoch: Epoch(1), attempt: Attempt(1) };
        let spent = self.session.spent.get_or_insert_default();
        let number = u32::try_from(spent.sums.requests + 1).unwrap();
        spent.book(run, number, &sums, None);
        let (at, agent) = (self.session.updated_at, None);
        let usage = Usage {
            model: model.into(),
            input_tokens: sums.input_tokens,
            output_tokens: sums.output_tokens,
            cached_tokens: sums.cached_tokens,
            cache_write_tokens: sums.cache_write_tokens,
            cost_micros: Some(sums.cost_micros).filter(|_| sums.unpriced == 0),
        };
        self.rows.usage.push(UsageRow { turn, at, agent, model: model.into(), sums });
        self.event(EventBody::UsageRecorded {
            turn_id: turn,
            attempt: Attempt(1),
            agent: None,
            usage,
        });
    }

    pub(crate) fn guard(&mut self, guard: Guard) {
        self.rows.guards.push(guard);
    }

    /// The commit of everything since the last one. It counts as done only through
    /// [`Chat::commit`].
    pub(crate) fn draft(&mut self) -> Commit {
        Commit {
            key: self.key.clone(),
            expected: self.version,
            session: Arc::new(self.session.clone()),
            wake_at: self.wake_at,
            rows: std::mem::take(&mut self.rows),
        }
    }

    /// Commits and goes on from there.
    pub(crate) async fn commit(&mut self, store: &impl Store) {
        let outcome = store.commit(self.draft()).await.unwrap();
        assert_eq!(outcome, CommitOutcome::Committed(self.version.next()), "{}", self.key);
        self.version = self.version.next();
    }

    /// What a load has to give back now.
    pub(crate) fn loaded(&self) -> Loaded {
        Loaded { session: Arc::new(self.session.clone()), version: self.version }
    }
}

pub(crate) fn body(text: &str) -> Arc<MessageBody> {
    Arc::new(MessageBody {
        message_id: format!("id of {}", text.len()).into(),
        sender: "sender".into(),
        text: text.into(),
    })
}

pub(crate) fn not_seen(name: u8, body_hash: u64, first: &FirstDecision) -> Guard {
    let seen = Seen { key: [name; 16], body_hash };
    Guard::NotSeen { seen, first: first.clone(), until: NOW + 8 * DAY_MS }
}

pub(crate) fn first_of(chat: &Chat) -> FirstDecision {
    FirstDecision {
        session: chat.key.clone(),
        seq: chat.session.last_seq,
        action: Action::Queued,
        turn: Some(turn_id(7)),
        queue_position: Some(3),
    }
}

pub(crate) fn turn_row(id: TurnId, status: TurnStatus) -> TurnRow {
    TurnRow {
        id,
        group: TurnGroupId(id.0),
        status,
        attempt: Attempt(2),
        epoch: Epoch(3),
        started_at: NOW,
        ended_at: None,
        message_ids: ["one", "two: 100 %"].into_iter().map(Into::into).collect(),
        reply: None,
        error: None,
        version: Some("mind#2".into()),
        by: None,
    }
}

pub(crate) fn part_row(reply: u64, part: u32, text: &str) -> PartRow {
    PartRow {
        reply: Seq(reply),
        part,
        state: DeliveryState::Pending,
        tries: 0,
        text: text.into(),
        detail: None,
        at: NOW,
    }
}

pub(crate) fn letter(seq: Seq, text: &str) -> DeadLetter {
    DeadLetter {
        seq,
        group: TurnGroupId(turn_id(5).0),
        trust: Trust::Inner,
        reason: DeadReason::AgentFailed,
        at: NOW,
        body: body(text),
    }
}
