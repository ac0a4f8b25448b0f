//! How many sessions the switchboard shows, and when they go to sleep.

use turnkeep_core::switchboard::Limits;

use super::resolved::or;

section! {
    /// The list of sessions that people watch and steer.
    struct SwitchboardKeys {
        /// How many sessions of one tenant stand on it. When it is full, the idle one that was used
        /// longest ago makes room, unless it has a name or somebody looks at it, unread ones last;
        /// the conversation itself stays as it is.
        sessions_max: usize [10, 100_000] = "10000";
        /// A session that nobody had to do with for so long goes to sleep: nothing of it is kept in
        /// memory until somebody has to do with it again.
        hibernate_after_ms: u64 [1000, 31_536_000_000] = "1800000";
    }
}

pub(super) fn limits(keys: &SwitchboardKeys) -> Limits {
    let default = Limits::default();
    Limits {
        sessions_max: or(keys.sessions_max.as_ref(), default.sessions_max),
        hibernate_after_ms: or(keys.hibernate_after_ms.as_ref(), default.hibernate_after_ms),
    }
}
