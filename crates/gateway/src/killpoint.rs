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

/// Names what a commit is about; `places` are for accept, absorb and commit.
pub(crate) fn reached_by(events: &[Event], places: [&'static str; 3]) {
    let Some(hook) = HOOK.get() else { return };
    for event in events {
        match event.body {
            EventBody::MessageAccepted { .. } => hook(places[0]),
            EventBody::TurnMessageAbsorbed { .. } => hook(places[1]),
            EventBody::TurnCompleted { .. } => hook(places[2]),
            _ => {}
        }
    }
}
