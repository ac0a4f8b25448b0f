//! What is open besides a turn that an engine could give to somebody: replies to be sent, messages
//! that are held, deadlines that have passed. It is nobody's errand, so it only waits here for
//! somebody who runs turns, as long as a turn would, and then this node runs it. Without IO and clock.

use std::collections::BTreeMap;

use turnkeep_core::ids::Timestamp;
use turnkeep_core::session::Session;
use turnkeep_core::{Policy, SessionKey};

use super::board::{AWAITED_MAX, Act, LOOK_MS, LOOKS_MAX};

/// Whether whoever has the session had something to do now, whatever becomes of its turn. What waits
/// for a person has not.
pub(super) fn is_owed(session: &Session, policy: &Policy, now: Timestamp) -> bool {
    let rests = session.turn.is_none() && session.paused.is_none();
    let waits = rests && !(session.queue.is_empty() && session.notices.is_empty());
    let due = session.next_wait(policy, now).is_some_and(|(wait_ms, _)| wait_ms == 0);
    waits || due || !session.held.is_empty() || session.outbox.is_active()
}

#[derive(Debug)]
struct Waits {
    since: u64,
    looked_at: u64,
}

/// Sessions of which something is.
#[derive(Debug, Default)]
pub(super) struct Owed(BTreeMap<SessionKey, Waits>);

impl Owed {
    pub(super) fn has(&self, session: &SessionKey) -> bool {
        self.0.contains_key(session)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Something of it is, and nobody has it. Told again and again, it does nothing more.
    pub(super) fn opened(&mut self, session: &SessionKey, now: u64) {
        if self.0.len() < AWAITED_MAX && !self.has(session) {
            self.0.insert(session.clone(), Waits { since: now, looked_at: now });
        }
    }

    /// Nothing is, or somebody has it.
    pub(super) fn settled(&mut self, session: &SessionKey) {
        self.0.remove(session);
    }

    /// Time has passed; so long each of them waits for somebody.
    pub(super) fn tick(&mut self, timeout_ms: u64, now: u64, acts: &mut Vec<Act>) {
        let late = self.0.extract_if(.., |_, waits| now.saturating_sub(waits.since) >= timeout_ms);
        acts.extend(late.map(|(session, _)| Act::RunHere(session)));
        let mut unseen: Vec<(&SessionKey, &mut Waits)> =
            self.0.iter_mut().filter(|(_, waits)| now >= waits.looked_at + LOOK_MS).collect();
        unseen.sort_by_key(|(_, waits)| waits.looked_at);
        for (session, waits) in unseen.into_iter().take(LOOKS_MAX) {
            waits.looked_at = now;
            acts.push(Act::See(session.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use turnkeep_core::session_key::SessionKind;

    use super::*;

    const TIMEOUT: u64 = 10_000;

    fn session(name: &str) -> SessionKey {
        SessionKey::new("home", "default", "api", SessionKind::Dm, name).unwrap()
    }

    fn tick(owed: &mut Owed, now: u64) -> Vec<Act> {
        let mut acts = Vec::new();
        owed.tick(TIMEOUT, now, &mut acts);
        acts
    }

    #[test]
    fn it_is_looked_for_until_somebody_has_it_or_it_is_run_here() {
        let mut owed = Owed::default();
        let [here, taken] = ["here", "taken"].map(session);
        owed.opened(&here, 0);
        owed.opened(&taken, 5);
        assert_eq!(tick(&mut owed, LOOK_MS - 1), []);
        assert_eq!(tick(&mut owed, LOOK_MS), [Act::See(here.clone())]);
        owed.settled(&taken);
        owed.opened(&here, 900);
        assert_eq!(
            tick(&mut owed, TIMEOUT),
            [Act::RunHere(here.clone())],
            "since it was first told"
        );
        assert!(!owed.has(&here) && tick(&mut owed, TIMEOUT * 2).is_empty());
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let mut owed = Owed::default();
        for number in 0..=AWAITED_MAX {
            owed.opened(&session(&number.to_string()), 0);
        }
        assert_eq!(owed.len(), AWAITED_MAX);
        assert_eq!(tick(&mut owed, LOOK_MS).len(), LOOKS_MAX);
    }
}
