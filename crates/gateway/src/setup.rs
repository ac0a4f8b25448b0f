//! What can be replaced while the gateway runs, in one piece: agents, channels, policies, what the
//! guard lives by, settings and listeners.
//!
//! Whoever needs more than one part of it takes the whole once, so that nobody sees half of a
//! replacement. A run keeps the agent that it began with; a session's task lives by the new policy
//! from its next input on.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use turnkeep_core::ports::agent::Agent;
use turnkeep_core::ports::channel::Channel;
use turnkeep_core::ports::moderator::Moderator;
use turnkeep_core::ports::store::StoreError;
use turnkeep_core::usage::Sums;
use turnkeep_core::{Policy, SessionKey};

use crate::guard::GuardSettings;
use crate::ingress::Policies;
use crate::listeners::Listener;
use crate::mail::Mail;
use crate::metrics::Metrics;
use crate::service::{Gateway, Settings};
use crate::slots::Slots;

/// A value that is replaced as a whole; everybody sees it as it was before or as it is now.
#[derive(Debug)]
pub struct Current<T>(Arc<RwLock<Arc<T>>>);

impl<T> Clone for Current<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> From<T> for Current<T> {
    fn from(value: T) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(value))))
    }
}

impl<T> Current<T> {
    /// As it is now.
    #[must_use]
    pub fn now(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From here on it is this.
    pub fn replace(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}

/// An agent and the slots of its provider.
#[derive(Clone)]
pub(crate) struct Configured {
    pub(crate) agent: Arc<dyn Agent>,
    pub(crate) slots: Arc<Slots>,
}

/// Everything that is replaced together.
pub(crate) struct Setup {
    pub(crate) agents: HashMap<String, Configured>,
    pub(crate) channels: HashMap<String, Arc<dyn Channel>>,
    pub(crate) policies: Arc<dyn Policies>,
    pub(crate) guard: GuardSettings,
    pub(crate) moderator: Option<Arc<dyn Moderator>>,
    pub(crate) settings: Settings,
}

/// What takes the place of what was configured.
pub struct Replacement {
    /// Agents by their configured names. One that is the same object goes on as it is.
    pub agents: HashMap<String, Arc<dyn Agent>>,
    /// Adapters of the channels that are pushed to, by name.
    pub channels: HashMap<String, Arc<dyn Channel>>,
    /// The policy of each address.
    pub policies: Arc<dyn Policies>,
    /// What the guard lives by.
    pub guard: GuardSettings,
    /// Who checks messages, where a policy wants so.
    pub moderator: Option<Arc<dyn Moderator>>,
    /// Who is told of events by callbacks. One with the same courier goes on as it is.
    pub listeners: Vec<Listener>,
    /// Everything else. How long tasks stay idle and how often is swept can't be changed.
    pub settings: Settings,
}

/// Agents with their slots. An agent that stands for another one of its name shares its provider,
/// so it shares its slots too: together they never have more than the new limit under way, once
/// what was begun before has ended.
pub(crate) fn configured(
    agents: HashMap<String, Arc<dyn Agent>>,
    before: Option<&Setup>,
) -> HashMap<String, Configured> {
    let each = agents.into_iter().map(|(name, agent)| {
        let kept = before.and_then(|before| before.agents.get(&name));
        let slots = match kept {
            Some(kept) => Arc::clone(&kept.slots),
            None => Arc::new(Slots::new(agent.slots())),
        };
        slots.resize(agent.slots());
        // Whoever counts how much a number grew has to know it from 0 on.
        Metrics::used(&name, &Sums::default());
        (name, Configured { agent, slots })
    });
    each.collect()
}

impl Gateway {
    /// Replaces what is configured. Whoever comes after its return meets the new; what began before
    /// ends as it began. Where the store can't take new listeners in, nothing is changed.
    pub async fn replace(&self, new: Replacement) -> Result<(), StoreError> {
        let _alone = self.0.replacing.lock().await;
        self.readiness().map_err(StoreError::Unavailable)?;
        self.0.listeners.enrol(&new.listeners).await?;
        let before = self.setup();
        self.0.switchboard.set_limits(new.settings.switchboard);
        self.0.setup.replace(Setup {
            agents: configured(new.agents, Some(&before)),
            channels: new.channels,
            policies: new.policies,
            guard: new.guard,
            moderator: new.moderator,
            settings: new.settings,
        });
        // Only now, so that whoever sees the number sees what it stands for.
        self.0.replaced.send_modify(|number| *number += 1);
        // Deadlines depend on the policy, and a task that sleeps has computed its own by the old.
        self.0.registry.broadcast(|| Mail::Renew);
        self.0.listeners.replace(new.listeners).await;
        self.0.schedule.configure(&self.setup().settings.jobs, crate::clock::now()).await?;
        Ok(())
    }

    /// What is configured now.
    pub(crate) fn setup(&self) -> Arc<Setup> {
        self.0.setup.now()
    }

    /// How often it was replaced.
    pub(crate) fn replaced(&self) -> u64 {
        *self.0.replaced.borrow()
    }

    /// The policy for whoever comes anew; none if its agent or channel is not configured.
    pub(crate) fn policy_of(&self, key: &SessionKey) -> Option<Arc<Policy>> {
        self.setup().policies.policy(&key.tenant(), &key.agent(), &key.channel()).ok()
    }

    /// The policy of a session that is there, though its agent may not be configured any more: its
    /// replies still leave, it can be stopped, and its turns wait for the agent to come back.
    pub(crate) fn policy_of_stored(&self, key: &SessionKey) -> Option<Arc<Policy>> {
        self.setup().policies.left_behind(&key.tenant(), &key.agent(), &key.channel())
    }

    /// The agent of this name, once there is one.
    pub(crate) async fn agent(&self, name: &str) -> Configured {
        let mut replaced = self.0.replaced.subscribe();
        loop {
            replaced.mark_unchanged();
            if let Some(configured) = self.setup().agents.get(name) {
                return configured.clone();
            }
            // The sender lives as long as this handle, so waiting can't fail.
            let _ = replaced.changed().await;
        }
    }
}
