//! How the engine is that gives turns out, as this node meets it.

use turnkeep_core::Timestamp;
use turnkeep_core::ports::dispatch::Amiss;

use crate::clock;
use crate::service::Gateway;

/// How it is. Whatever it is, messages are taken and turns are run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Nothing is wrong with it, as far as this node can tell.
    Ok,
    /// It does not answer, or refuses this node.
    Away(Amiss),
    /// It answers, and does not give out what it is given, or not to this node.
    Stuck(Amiss),
}

/// What is said of an engine that answers.
const UNTAKEN: &str = "nobody was given turns in time; it is tried with one at a time";

impl Engine {
    /// Its name.
    pub(crate) const fn state(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Away(_) => "away",
            Self::Stuck(_) => "stuck",
        }
    }

    /// Since when it is so, and why, where something is wrong.
    pub(crate) fn amiss(&self) -> Option<(Timestamp, &str)> {
        match self {
            Self::Ok => None,
            Self::Away(amiss) | Self::Stuck(amiss) => {
                let lasts = i64::try_from(amiss.lasts_ms).unwrap_or(i64::MAX);
                Some((clock::now().saturating_sub(lasts), &amiss.why))
            }
        }
    }
}

impl Gateway {
    /// How the engine is; none where there is none, or this node has nothing to do with it.
    #[must_use]
    pub fn engine(&self) -> Option<Engine> {
        let view = self.dispatch_view()?;
        let (link, steps) = (view.health.link, view.health.steps);
        let untaken = view
            .awaiting
            .open
            .then(|| Amiss { why: UNTAKEN.into(), lasts_ms: view.awaiting.open_ms });
        let stuck = steps.or(untaken).map(Engine::Stuck);
        Some(link.map(Engine::Away).or(stuck).unwrap_or(Engine::Ok))
    }
}
