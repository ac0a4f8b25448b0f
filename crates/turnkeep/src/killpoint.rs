//! For crash tests: `TURNKEEP_KILL_AT=NAME:N` ends the process the Nth time it gets to the place
//! of that name, as `kill -9` would. Without the variable nothing is hooked.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

struct KillAt {
    name: String,
    left: AtomicU64,
}

static KILL_AT: OnceLock<Option<KillAt>> = OnceLock::new();

fn wanted() -> Option<&'static KillAt> {
    let read = || {
        let text = std::env::var("TURNKEEP_KILL_AT").ok()?;
        let (name, times) = text.rsplit_once(':')?;
        Some(KillAt { name: name.to_owned(), left: AtomicU64::new(times.parse().ok()?) })
    };
    KILL_AT.get_or_init(read).as_ref()
}

/// What to call at each place; none unless a kill was asked for.
pub(crate) fn hook() -> Option<fn(&'static str)> {
    wanted().map(|_| reached as fn(&'static str))
}

fn reached(place: &'static str) {
    let Some(kill) = wanted().filter(|kill| kill.name == place) else { return };
    if kill.left.fetch_sub(1, Ordering::AcqRel) == 1 {
        #[expect(unsafe_code, reason = "no safe call ends a process without unwinding or flushing")]
        // SAFETY: raising a signal on ourselves touches no memory.
        unsafe {
            libc::kill(libc::getpid(), libc::SIGKILL);
        }
        // The signal may take a moment to arrive; nothing may happen until then.
        loop {
            std::thread::park();
        }
    }
}
