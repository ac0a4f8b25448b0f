//! Named places at which a crash test may end the process. The hook is set by the binary, and only
//! when it was asked for; without it a place costs one load.

use std::sync::OnceLock;

use turnkeep_core::journal::{Event, EventBody};

static HOOK: OnceLock<fn(&'static str)> = OnceLock::new();

/// Sets what happens at a place; once a process.
pub fn set_hook(hook: fn(&'static str)) {
    let _ = HOOK.set(hook);
}

pub(crate) fn reached(place: &'static str) {
    if let Some(hook) = HOOK.get() {
        hook(place);
    }
}

/// What a commit is about, for the places around it. Empty unless somebody asked for a kill.
pub(crate) fn kinds_of(events: &[Event]) -> Vec<Kind> {
    if HOOK.get().is_none() {
        return Vec::new();
    }
    let kind = |event: &Event| match event.body {
        EventBody::MessageAccepted { .. }
        | EventBody::MessageCommand { .. }
        | EventBody::MessageContext { .. } => Some(Kind::Accept),
        EventBody::TurnMessageAbsorbed { .. } => Some(Kind::Absorb),
        EventBody::TurnCompleted { .. } => Some(Kind::Commit),
        _ => None,
    };
    events.iter().filter_map(kind).collect()
}

/// What a commit is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Accept,
    Absorb,
    Commit,
}

pub(crate) fn before(kinds: &[Kind]) {
    for kind in kinds {
        reached(match kind {
            Kind::Accept => "accept.before",
            Kind::Absorb => "absorb.before",
            Kind::Commit => "commit.before",
        });
    }
}

pub(crate) fn after(kinds: &[Kind]) {
    for kind in kinds {
        reached(match kind {
            Kind::Accept => "accept.after",
            Kind::Absorb => "absorb.after",
            Kind::Commit => "commit.after",
        });
    }
}
