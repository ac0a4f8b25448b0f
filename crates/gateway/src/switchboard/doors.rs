//! What people ask for: each changes the board, and is answered once that is durable.

use std::sync::Arc;

use turnkeep_core::ids::Seq;
use turnkeep_core::session::{Control, SessionStatus};
use turnkeep_core::switchboard::{Board, Row, check_name, check_seat};
use turnkeep_core::{SessionKey, SessionKind};

use super::{BoardError, Switchboard};
use crate::clock;
use crate::ingress::FieldError;
use crate::service::{Gateway, Refusal};

/// The channel of sessions that are made here.
const CHANNEL: &str = "terminal";
/// Rows that a cleanup looks at under one hold of the lock.
pub(super) const LOOK_ROWS: usize = 256;

/// A session that somebody wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewSession {
    /// What to call it.
    pub name: Option<String>,
    /// Which agent answers; `default` if absent.
    pub agent: Option<String>,
    /// The seat that looks at it from now on.
    pub seat: Option<String>,
}

/// A session that was closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedSession {
    /// As it was last, now closed.
    pub closed: Arc<Row>,
    /// What the seat that closed it looks at now.
    pub next: Option<Arc<Row>>,
}

/// What a cleanup came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TidiedUp {
    /// Sessions that went to sleep.
    pub hibernated: usize,
    /// Pointers that did not fit and were mended.
    pub repaired: usize,
}

impl Gateway {
    /// The sessions as they stand now.
    #[must_use]
    pub fn switchboard(&self) -> &Switchboard {
        &self.0.switchboard
    }

    /// Changes a board and waits until that is durable, also where whoever asked has gone.
    async fn on_board<R: Send + 'static>(
        &self,
        tenant: &str,
        act: impl FnOnce(&mut Board) -> Result<R, BoardError>,
    ) -> Result<R, BoardError> {
        self.readiness().map_err(BoardError::Unavailable)?;
        let done = self.switchboard().shared().wanted(tenant, act);
        let (result, ticket) = done.ok_or_else(|| {
            BoardError::Unavailable("the switchboard can't be written down now".to_owned())
        })?;
        let result = result?;
        let (gateway, tenant) = (self.clone(), tenant.to_owned());
        let settled =
            tokio::spawn(async move { gateway.switchboard().record.settle(&tenant, ticket).await });
        settled.await.map_err(|error| BoardError::Unavailable(error.to_string()))??;
        Ok(result)
    }

    /// A new conversation, empty and durable, under a name where one is given.
    pub async fn board_create(
        &self,
        tenant: &str,
        wanted: NewSession,
    ) -> Result<Arc<Row>, BoardError> {
        let name = wanted.name.as_deref().map(check_name).transpose().map_err(BoardError::Name)?;
        let seat = wanted.seat.as_deref().map(check_seat).transpose().map_err(BoardError::Seat)?;
        let agent = wanted.agent.as_deref().unwrap_or("default");
        let peer = clock::fresh_uuid().simple().to_string();
        let key = SessionKey::new(tenant, agent, CHANNEL, SessionKind::Main, &peer);
        let key = key.map_err(|error| field("agent_id", error.to_string()))?;
        if self.policy_of(&key).is_none() {
            let why = format!("no agent {agent:?} is configured, or the tenant has none");
            return Err(field("agent_id", why));
        }
        // First its place, for a name that is taken must not leave a conversation behind.
        let placed = self.switchboard().shared().wanted(tenant, |board| {
            let now = clock::now();
            let row = place(board, &key, name.as_ref(), now)?;
            if let Some(seat) = &seat {
                board.switch(seat, row.number, now);
            }
            Ok::<_, BoardError>(())
        });
        placed
            .ok_or_else(|| {
                BoardError::Unavailable("the switchboard can't be written down now".to_owned())
            })?
            .0?;
        // It changes nothing but that the session is there.
        if let Err(refusal) = self.control(&key, Control::SetBusy(None)).await {
            self.switchboard().forget(&key);
            return Err(refusal.into());
        }
        self.board_save(&key).await
    }

    /// Puts a conversation that is there already on the board.
    pub async fn board_enter(
        &self,
        key: &SessionKey,
        name: Option<&str>,
    ) -> Result<Arc<Row>, BoardError> {
        let name = name.map(check_name).transpose().map_err(BoardError::Name)?;
        let loaded = self.store().load(key).await;
        let loaded = loaded.map_err(|error| BoardError::Unavailable(error.to_string()))?;
        let there = loaded.is_some_and(|loaded| loaded.session.status() != SessionStatus::Closed);
        if !there {
            return Err(BoardError::Unknown);
        }
        let put = |board: &mut Board| place(board, key, name.as_ref(), clock::now());
        self.on_board(&key.tenant(), put).await?;
        self.find_out(key, Seq(0)).await;
        self.switchboard().by_key(key).ok_or(BoardError::Unknown)
    }

    /// Names a session, or takes its name away.
    pub async fn board_rename(
        &self,
        tenant: &str,
        which: &str,
        name: Option<&str>,
    ) -> Result<Arc<Row>, BoardError> {
        let name = name.map(check_name).transpose().map_err(BoardError::Name)?;
        let rename = |board: &mut Board| {
            let number = board.find(which)?.number;
            let renamed = board.rename(number, name.as_ref()).map_err(BoardError::NameTaken)?;
            renamed.ok_or(BoardError::Unknown)
        };
        self.on_board(tenant, rename).await
    }

    /// Lets a seat look at a session.
    pub async fn board_switch(
        &self,
        tenant: &str,
        which: &str,
        seat: &str,
    ) -> Result<Arc<Row>, BoardError> {
        let seat = check_seat(seat).map_err(BoardError::Seat)?;
        let switch = |board: &mut Board| {
            let number = board.find(which)?.number;
            board.switch(&seat, number, clock::now()).ok_or(BoardError::Unknown)
        };
        self.on_board(tenant, switch).await
    }

    /// Somebody has to do with a session.
    pub async fn board_touch(&self, tenant: &str, which: &str) -> Result<Arc<Row>, BoardError> {
        let touch = |board: &mut Board| {
            let number = board.find(which)?.number;
            board.touch(number, clock::now()).ok_or(BoardError::Unknown)
        };
        self.on_board(tenant, touch).await
    }

    /// Everything up to here was read.
    pub async fn board_read(
        &self,
        tenant: &str,
        which: &str,
        seq: Seq,
    ) -> Result<Arc<Row>, BoardError> {
        let read = |board: &mut Board| {
            let number = board.find(which)?.number;
            board.read(number, seq, clock::now()).ok_or(BoardError::Unknown)
        };
        self.on_board(tenant, read).await
    }

    /// Has a session's row written down as it stands now.
    async fn board_save(&self, key: &SessionKey) -> Result<Arc<Row>, BoardError> {
        let save = |board: &mut Board| {
            let saved = board.by_key(key).and_then(|row| board.save(row.number));
            saved.ok_or(BoardError::Unknown)
        };
        self.on_board(&key.tenant(), save).await
    }

    /// Closes a conversation, which leaves the board by that; says what the seat looks at then.
    pub async fn board_close(
        &self,
        tenant: &str,
        which: &str,
        seat: Option<&str>,
    ) -> Result<ClosedSession, BoardError> {
        let seat = seat.map(check_seat).transpose().map_err(BoardError::Seat)?;
        let row = self.switchboard().get(tenant, which)?;
        self.control(&row.key, Control::Close).await?;
        let close = |board: &mut Board| {
            // Its task has told already, unless it was closed before. What stands there under another
            // number, or has changed, is the same session begun again.
            let same = |now: &Row| (now.number, now.last_seq) == (row.number, row.last_seq);
            if board.by_key(&row.key).is_some_and(|now| same(&now)) {
                board.remove(&row.key);
            }
            Ok(seat.as_ref().and_then(|seat| board.active(seat)))
        };
        let next = self.on_board(tenant, close).await?;
        let state = SessionStatus::Closed;
        let closed = Row { state, waiting: None, queued: 0, ..Row::clone(&row) };
        Ok(ClosedSession { closed: Arc::new(closed), next })
    }

    /// Puts what nobody uses to sleep, and mends what does not fit together. Never deletes anything,
    /// and touches nothing in which something goes on.
    pub fn board_cleanup(&self, tenant: &str) -> TidiedUp {
        let (mut tidied, mut after) = (TidiedUp::default(), Some(0));
        // A hold of the lock looks at a part; others come in between.
        while let Some(place) = after {
            let look = |board: &mut Board| board.cleanup(clock::now(), place, LOOK_ROWS);
            let Some((cleaned, _)) = self.switchboard().shared().wanted(tenant, look) else {
                break;
            };
            tidied.hibernated += cleaned.hibernated.len();
            tidied.repaired += cleaned.repaired;
            after = cleaned.next;
            for key in cleaned.hibernated {
                self.put_to_rest(&key);
            }
        }
        if tidied != TidiedUp::default() {
            let TidiedUp { hibernated, repaired } = tidied;
            tracing::debug!(tenant, hibernated, repaired, "the switchboard was tidied up");
        }
        tidied
    }
}

fn field(field: &'static str, why: String) -> BoardError {
    BoardError::Refused(Refusal::Field(FieldError { field, why }))
}

fn place(
    board: &mut Board,
    key: &SessionKey,
    name: Option<&Arc<str>>,
    now: turnkeep_core::Timestamp,
) -> Result<Arc<Row>, BoardError> {
    board.create(key, name, now).map_err(BoardError::NameTaken)?.ok_or(BoardError::Full)
}
