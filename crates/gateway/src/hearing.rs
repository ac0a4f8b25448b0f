//! Listens with every adapter that hears messages come in by themselves, from when the gateway is
//! ready until it drains.
//!
//! An adapter mends what breaks by itself; what it cannot mend is its own panic, so that is mended
//! here.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use turnkeep_core::ports::intake::{AccountHealth, KnownGroup, Listener, Pulse, Undone};
use turnkeep_core::ports::store::Leased;

use crate::run::panic_text;
use crate::service::Gateway;

/// The pause before one that ended is listened with again.
const AGAIN: Duration = Duration::from_secs(1);

/// Everybody who hears.
#[derive(Default)]
pub(crate) struct Hearing {
    ears: RwLock<Vec<Ear>>,
    /// Held while they change.
    changing: tokio::sync::Mutex<()>,
}

/// An account, and who listens to it.
type Listened = (Arc<str>, Arc<dyn Listener>);

/// One adapter, and the task that listens with it until it is told to end.
struct Ear {
    listener: Arc<dyn Listener>,
    end: CancellationToken,
    task: JoinHandle<()>,
}

impl Gateway {
    /// From here on these hear, and nobody else. One that is the same object goes on as it is; one
    /// that is gone has let go of everything when this returns, so that its successor may have it.
    pub async fn hear(&self, listeners: Vec<Arc<dyn Listener>>) {
        let hearing = &self.0.hearing;
        let _alone = hearing.changing.lock().await;
        let is_wanted =
            |ear: &Ear| listeners.iter().any(|listener| Arc::ptr_eq(listener, &ear.listener));
        let (kept, gone): (Vec<Ear>, Vec<Ear>) = {
            let mut ears = hearing.ears.write().unwrap_or_else(PoisonError::into_inner);
            ears.drain(..).partition(is_wanted)
        };
        for ear in gone {
            ear.end.cancel();
            // It has nothing to tell.
            let _ = ear.task.await;
        }
        let is_new =
            |one: &&Arc<dyn Listener>| !kept.iter().any(|ear| Arc::ptr_eq(&ear.listener, one));
        let fresh: Vec<Ear> = listeners.iter().filter(is_new).map(|one| self.ear(one)).collect();
        let mut ears = hearing.ears.write().unwrap_or_else(PoisonError::into_inner);
        ears.extend(kept.into_iter().chain(fresh));
    }

    fn ear(&self, listener: &Arc<dyn Listener>) -> Ear {
        let end = CancellationToken::new();
        let task = tokio::spawn(listen(self.clone(), Arc::clone(listener), end.clone()));
        Ear { listener: Arc::clone(listener), end, task }
    }

    /// How each account of a channel is doing.
    #[must_use]
    pub fn accounts(&self, channel: &str) -> Vec<AccountHealth> {
        let ears = self.0.hearing.ears.read().unwrap_or_else(PoisonError::into_inner);
        let ears = ears.iter().filter(|ear| ear.listener.channel() == channel);
        let mut all: Vec<AccountHealth> = ears.flat_map(|ear| ear.listener.health()).collect();
        if self.is_heard_elsewhere(channel) {
            for account in &mut all {
                (account.receiving, account.sending) = (Pulse::Elsewhere, Pulse::Elsewhere);
            }
        }
        all
    }

    fn is_heard_elsewhere(&self, channel: &str) -> bool {
        self.store().is_shared() && !self.owns(channel)
    }

    /// Has an account of a channel trust the key that somebody has now: theirs with this safety
    /// number, else whatever it is. Says which account it was: the one that is named, else the only
    /// one.
    pub(crate) async fn trust(
        &self,
        channel: &str,
        account: Option<&str>,
        who: &str,
        safety_number: Option<&str>,
    ) -> Result<Arc<str>, Undone> {
        let mut known = self.listened(channel)?;
        if let Some(account) = account {
            known.retain(|(name, _)| **name == *account);
        }
        match &known[..] {
            [(name, listener)] => {
                listener.trust(name, who, safety_number).await.map(|()| Arc::clone(name))
            }
            [] => Err(Undone::NoAccount(match account {
                Some(account) => format!("there is no account {account:?}").into(),
                None => format!("no account of {channel} is configured").into(),
            })),
            _ => Err(Undone::NoAccount("there are several accounts: name one of them".into())),
        }
    }

    /// The groups of each account of a channel.
    pub(crate) async fn groups(
        &self,
        channel: &str,
    ) -> Result<Vec<(Arc<str>, Vec<KnownGroup>)>, Undone> {
        let mut all = Vec::new();
        for (name, listener) in self.listened(channel)? {
            let groups = listener.groups(&name).await?;
            all.push((name, groups));
        }
        Ok(all)
    }

    /// Each account of a channel, and who listens to it.
    fn listened(&self, channel: &str) -> Result<Vec<Listened>, Undone> {
        let ears = self.0.hearing.ears.read().unwrap_or_else(PoisonError::into_inner);
        let ears = ears.iter().filter(|ear| ear.listener.channel() == channel);
        let accounts = ears.flat_map(|ear| {
            let names = ear.listener.health().into_iter().map(|health| health.account);
            names.map(|name| (name, Arc::clone(&ear.listener)))
        });
        let accounts: Vec<Listened> = accounts.collect();
        if !accounts.is_empty() && self.is_heard_elsewhere(channel) {
            let why = match self.who_hears(channel) {
                Leased::By(name) => format!("the server {name:?} hears {channel}: ask that one"),
                Leased::Free | Leased::Never => format!("no server hears {channel} just now"),
            };
            return Err(Undone::Unreachable(why.into()));
        }
        Ok(accounts)
    }
}

/// Listens until the end, whatever happens to the adapter.
async fn listen(gateway: Gateway, listener: Arc<dyn Listener>, end: CancellationToken) {
    let channel = listener.channel();
    tokio::select! {
        () = gateway.own(channel) => {}
        () = end.cancelled() => return,
    }
    let intake = gateway.intake();
    loop {
        let mut task = tokio::spawn({
            let (listener, intake) = (Arc::clone(&listener), Arc::clone(&intake));
            async move { listener.listen(intake).await }
        });
        let ended = tokio::select! {
            ended = &mut task => ended,
            () = end.cancelled() => {
                task.abort();
                // Only now has it let go of everything.
                let _ = task.await;
                return;
            }
        };
        match ended.map_err(JoinError::try_into_panic) {
            Err(Ok(panic)) => {
                let panic = panic_text(panic.as_ref());
                tracing::error!(channel, panic, "an adapter is listened with again");
            }
            _ => tracing::warn!(channel, "an adapter ended; it is listened with again"),
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = end.cancelled() => return,
        }
    }
}
