//! What was handed over and nobody has taken yet, and what follows from that. Without IO and clock:
//! it is told what happens, and says what to do.
//!
//! An engine that answers need not dispatch: after a restart it takes whatever it is given, and gives
//! nothing out for half a minute. So what counts is whether a turn is *taken* in time. Where several
//! in a row are not, the engine is tried with one turn at a time until one of them is.

use std::collections::BTreeMap;

use turnkeep_core::SessionKey;
use turnkeep_core::ids::{Epoch, TurnId};
use turnkeep_core::ports::dispatch::Errand;

use super::Awaiting;
use super::owed::Owed;

/// How many turns may be awaited. What is beyond them is left to who looks for open work.
pub(super) const AWAITED_MAX: usize = 10_000;
/// So many in a row that were not taken in time, or not even heard of, are enough.
const FAILURES_MAX: u32 = 3;
/// The pause before an engine that fails is tried with a turn.
const PROBE_MS: u64 = 5000;
/// The pause before a turn is handed over again of which the engine did not hear.
const AGAIN_MS: u64 = 1000;
/// How often the store is asked whether a turn was taken.
pub(super) const LOOK_MS: u64 = 500;
/// How many turns it is asked about at once.
pub(super) const LOOKS_MAX: usize = 32;

/// Something to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Hand it over, and tell what came of that.
    Dispatch(Errand),
    /// It was taken: whoever dispatches may forget it.
    Taken(Errand),
    /// Nobody needs it any more.
    Cancel(Errand),
    /// This node runs it.
    RunHere(SessionKey),
    /// See in the store whether somebody took it.
    Look(Errand),
    /// The same of what is open besides a turn.
    See(SessionKey),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It is being handed over, and waits since this time.
    Handed(u64),
    /// It stays until the engine is tried again, or until this time.
    Kept(u64),
}

#[derive(Debug)]
struct Awaited {
    turn: TurnId,
    epoch: Epoch,
    round: u32,
    stage: Stage,
    /// When it was first handed over, whichever round.
    since: u64,
    looked_at: u64,
}

impl Awaited {
    fn errand(&self, session: &SessionKey) -> Errand {
        let Self { turn, epoch, round, .. } = *self;
        Errand { session: session.clone(), turn, epoch, round }
    }
}

/// Whether the engine is trusted with every turn.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Circuit {
    /// It is; so many turns in a row came to nothing.
    Closed(u32),
    /// It is tried with one turn: this one, or the next behind this time.
    Open { probe: Option<SessionKey>, at: u64, since: u64 },
}

/// The board.
#[derive(Debug)]
pub(super) struct Board {
    timeout_ms: u64,
    /// What is not taken is run here; else it stays.
    fallback: bool,
    awaited: BTreeMap<SessionKey, Awaited>,
    /// What waits and can't be handed over.
    owed: Owed,
    circuit: Circuit,
    counted: Awaiting,
}

impl Board {
    pub(super) fn new(timeout_ms: u64, fallback: bool) -> Self {
        let (awaited, owed, counted) = Default::default();
        Self { timeout_ms, fallback, awaited, owed, circuit: Circuit::Closed(0), counted }
    }

    /// How it stands.
    pub(super) fn standing(&self, now: u64) -> Awaiting {
        let longest = self.awaited.values().map(|awaited| now.saturating_sub(awaited.since)).max();
        let open = match self.circuit {
            Circuit::Open { since, .. } => Some(now.saturating_sub(since)),
            Circuit::Closed(_) => None,
        };
        Awaiting {
            turns: self.awaited.len(),
            longest_ms: longest.unwrap_or_default(),
            open: open.is_some(),
            open_ms: open.unwrap_or_default(),
            ..self.counted
        }
    }

    /// Whether the engine is tried with one turn at a time.
    pub(super) const fn is_broken(&self) -> bool {
        matches!(self.circuit, Circuit::Open { .. })
    }

    /// Whether somebody is awaited for this session.
    pub(super) fn has(&self, session: &SessionKey) -> bool {
        self.awaited.contains_key(session) || self.owed.has(session)
    }

    /// Whether nothing more is awaited.
    pub(super) fn is_full(&self) -> bool {
        self.awaited.len().max(self.owed.len()) >= AWAITED_MAX
    }

    /// A turn is open that nobody has who runs turns. Told again and again of the same one, it does
    /// nothing more.
    pub(super) fn opened(
        &mut self,
        session: &SessionKey,
        turn: TurnId,
        epoch: Epoch,
        now: u64,
        acts: &mut Vec<Act>,
    ) {
        self.owed.settled(session);
        if let Some(known) = self.awaited.get(session) {
            if (known.turn, known.epoch) == (turn, epoch) {
                return;
            }
            acts.push(Act::Cancel(known.errand(session)));
            self.awaited.remove(session);
            self.not_the_probe(session, now);
        } else if self.awaited.len() >= AWAITED_MAX {
            return;
        }
        let stage = Stage::Kept(now);
        let awaited = Awaited { turn, epoch, round: 0, stage, since: now, looked_at: now };
        self.awaited.insert(session.clone(), awaited);
        if self.may_try(session, now) {
            self.hand_over(session, now, acts);
        } else {
            self.give_up(session, now, acts);
        }
    }

    /// No turn of the session has to be handed over, but something of it is open, and nobody has it.
    pub(super) fn owed(&mut self, session: &SessionKey, now: u64, acts: &mut Vec<Act>) {
        if self.awaited.contains_key(session) {
            self.settled(session, false, now, acts);
        }
        self.owed.opened(session, now);
    }

    /// There is no such session any more; this turn was looked for, if it was one.
    pub(super) fn erased(
        &mut self,
        session: &SessionKey,
        turn: Option<TurnId>,
        now: u64,
        acts: &mut Vec<Act>,
    ) {
        self.owed.settled(session);
        // It may have begun anew since.
        if self.awaited.get(session).is_some_and(|awaited| Some(awaited.turn) == turn) {
            self.settled(session, false, now, acts);
        }
    }

    /// A session's turn is over, or a node that runs turns has it.
    pub(super) fn settled(
        &mut self,
        session: &SessionKey,
        taken: bool,
        now: u64,
        acts: &mut Vec<Act>,
    ) {
        self.owed.settled(session);
        let Some(awaited) = self.awaited.remove(session) else { return };
        let errand = awaited.errand(session);
        match awaited.stage {
            Stage::Handed(at) if taken => {
                self.counted.taken += 1;
                self.counted.taken_ms += now.saturating_sub(at);
                self.circuit = Circuit::Closed(0);
                acts.push(Act::Taken(errand));
            }
            Stage::Handed(_) => acts.push(Act::Cancel(errand)),
            Stage::Kept(_) => {}
        }
        self.not_the_probe(session, now);
    }

    /// What came of handing it over: the engine heard of it, or not.
    pub(super) fn told(&mut self, errand: &Errand, heard: bool, now: u64, acts: &mut Vec<Act>) {
        let Some(awaited) = self.awaited.get(&errand.session) else { return };
        if !heard && awaited.errand(&errand.session) == *errand {
            self.failed(&errand.session, now);
            self.give_up(&errand.session, now, acts);
        }
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: u64, acts: &mut Vec<Act>) {
        let late = |awaited: &Awaited| match awaited.stage {
            Stage::Handed(at) => now.saturating_sub(at) >= self.timeout_ms,
            Stage::Kept(_) => false,
        };
        let late: Vec<SessionKey> = self.those(late).collect();
        for session in late {
            if let Some(awaited) = self.awaited.get_mut(&session) {
                acts.push(Act::Cancel(awaited.errand(&session)));
                // Whatever the engine remembers of it, the next time is another one.
                awaited.round += 1;
            }
            self.failed(&session, now);
            self.give_up(&session, now, acts);
        }
        let mut kept: Vec<(u64, SessionKey)> = Vec::new();
        for (session, awaited) in &self.awaited {
            if matches!(awaited.stage, Stage::Kept(until) if until <= now) {
                kept.push((awaited.since, session.clone()));
            }
        }
        kept.sort();
        for (_, session) in kept {
            if !self.may_try(&session, now) {
                break;
            }
            self.hand_over(&session, now, acts);
        }
        let unseen = |awaited: &Awaited| {
            matches!(awaited.stage, Stage::Handed(_)) && now >= awaited.looked_at + LOOK_MS
        };
        let mut unseen: Vec<SessionKey> = self.those(unseen).collect();
        unseen.sort_by_key(|session| self.awaited.get(session).map(|awaited| awaited.looked_at));
        for session in unseen.into_iter().take(LOOKS_MAX) {
            if let Some(awaited) = self.awaited.get_mut(&session) {
                awaited.looked_at = now;
                acts.push(Act::Look(awaited.errand(&session)));
            }
        }
        let patience_ms = if self.is_broken() { 0 } else { self.timeout_ms };
        self.owed.tick(patience_ms, now, acts);
    }

    fn those<'a>(
        &'a self,
        are: impl Fn(&Awaited) -> bool + 'a,
    ) -> impl Iterator<Item = SessionKey> + 'a {
        let chosen = self.awaited.iter().filter(move |(_, awaited)| are(awaited));
        chosen.map(|(session, _)| session.clone())
    }

    /// Whether the engine gets this turn now.
    fn may_try(&mut self, session: &SessionKey, now: u64) -> bool {
        match &mut self.circuit {
            Circuit::Closed(_) => true,
            Circuit::Open { probe: Some(_), .. } => false,
            Circuit::Open { at, .. } if now < *at => false,
            Circuit::Open { probe, .. } => {
                *probe = Some(session.clone());
                true
            }
        }
    }

    fn hand_over(&mut self, session: &SessionKey, now: u64, acts: &mut Vec<Act>) {
        let Some(awaited) = self.awaited.get_mut(session) else { return };
        (awaited.stage, awaited.looked_at) = (Stage::Handed(now), now);
        self.counted.handed += 1;
        acts.push(Act::Dispatch(awaited.errand(session)));
    }

    /// The engine does not get this turn, or has not given it out.
    fn give_up(&mut self, session: &SessionKey, now: u64, acts: &mut Vec<Act>) {
        if self.fallback {
            self.awaited.remove(session);
            self.counted.ran_here += 1;
            acts.push(Act::RunHere(session.clone()));
        } else if let Some(awaited) = self.awaited.get_mut(session) {
            awaited.stage = Stage::Kept(now + AGAIN_MS);
        }
    }

    fn failed(&mut self, session: &SessionKey, now: u64) {
        self.counted.failed += 1;
        let at = now + PROBE_MS;
        match &mut self.circuit {
            Circuit::Closed(failures) if *failures + 1 < FAILURES_MAX => *failures += 1,
            Circuit::Closed(_) => self.circuit = Circuit::Open { probe: None, at, since: now },
            Circuit::Open { probe, at: next, .. } if probe.as_ref() == Some(session) => {
                (*probe, *next) = (None, at);
            }
            // Handed over while the engine was trusted.
            Circuit::Open { .. } => {}
        }
    }

    /// The turn that the engine was tried with tells nothing: the next one may.
    fn not_the_probe(&mut self, session: &SessionKey, now: u64) {
        if let Circuit::Open { probe, at, .. } = &mut self.circuit
            && probe.as_ref() == Some(session)
        {
            (*probe, *at) = (None, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use turnkeep_core::session_key::SessionKind;
    use uuid::Uuid;

    use super::*;

    const TIMEOUT: u64 = 10_000;

    fn session(name: &str) -> SessionKey {
        SessionKey::new("home", "default", "api", SessionKind::Dm, name).unwrap()
    }

    fn turn(number: u128) -> TurnId {
        TurnId(Uuid::from_u128(number))
    }

    fn errand(name: &str, number: u128, round: u32) -> Errand {
        Errand { session: session(name), turn: turn(number), epoch: Epoch(1), round }
    }

    /// What a board wants done, one call after the other.
    struct Desk(Board);

    impl Desk {
        fn new(fallback: bool) -> Self {
            Self(Board::new(TIMEOUT, fallback))
        }

        fn opened(&mut self, name: &str, number: u128, now: u64) -> Vec<Act> {
            let mut acts = Vec::new();
            self.0.opened(&session(name), turn(number), Epoch(1), now, &mut acts);
            acts
        }

        fn settled(&mut self, name: &str, taken: bool, now: u64) -> Vec<Act> {
            let mut acts = Vec::new();
            self.0.settled(&session(name), taken, now, &mut acts);
            acts
        }

        fn unheard(&mut self, errand: &Errand, now: u64) -> Vec<Act> {
            let mut acts = Vec::new();
            self.0.told(errand, false, now, &mut acts);
            acts
        }

        fn tick(&mut self, now: u64) -> Vec<Act> {
            let mut acts = Vec::new();
            self.0.tick(now, &mut acts);
            acts
        }

        fn is_open(&self) -> bool {
            self.0.standing(0).open
        }
    }

    #[test]
    fn a_turn_is_handed_over_once_and_looked_for_until_it_is_taken() {
        let mut desk = Desk::new(true);
        assert_eq!(desk.opened("a", 1, 0), [Act::Dispatch(errand("a", 1, 0))]);
        assert_eq!(desk.opened("a", 1, 10), []);
        assert_eq!(desk.tick(499), []);
        assert_eq!(desk.tick(500), [Act::Look(errand("a", 1, 0))]);
        assert_eq!(desk.tick(900), []);
        assert_eq!(desk.settled("a", true, 950), [Act::Taken(errand("a", 1, 0))]);
        assert_eq!(desk.settled("a", true, 960), []);
        assert_eq!(desk.tick(20_000), []);
        let standing = desk.0.standing(20_000);
        let Awaiting { turns, handed, taken, taken_ms, failed, .. } = standing;
        assert_eq!((turns, handed, taken, taken_ms, failed), (0, 1, 1, 950, 0));
    }

    #[test]
    fn what_comes_in_its_place_is_another_errand() {
        let mut desk = Desk::new(true);
        desk.opened("a", 1, 0);
        let acts = desk.opened("a", 2, 5);
        assert_eq!(acts, [Act::Cancel(errand("a", 1, 0)), Act::Dispatch(errand("a", 2, 0))]);
        // What is said of the first one is not about the second.
        assert_eq!(desk.unheard(&errand("a", 1, 0), 6), []);
        assert_eq!(desk.settled("a", false, 7), [Act::Cancel(errand("a", 2, 0))]);
    }

    #[test]
    fn a_turn_that_nobody_takes_is_run_here() {
        let mut desk = Desk::new(true);
        desk.opened("a", 1, 0);
        desk.tick(TIMEOUT - 1);
        let acts = desk.tick(TIMEOUT);
        assert_eq!(acts, [Act::Cancel(errand("a", 1, 0)), Act::RunHere(session("a"))]);
        assert_eq!(desk.tick(TIMEOUT * 2), []);
        // One of which the engine does not even hear doesn't wait.
        desk.opened("b", 2, TIMEOUT);
        assert_eq!(desk.unheard(&errand("b", 2, 0), TIMEOUT), [Act::RunHere(session("b"))]);
        let standing = desk.0.standing(0);
        assert_eq!((standing.failed, standing.ran_here, standing.open), (2, 2, false));
    }

    #[test]
    fn without_a_fallback_it_is_handed_over_for_another_round() {
        let mut desk = Desk::new(false);
        desk.opened("a", 1, 0);
        assert!(desk.tick(TIMEOUT).contains(&Act::Cancel(errand("a", 1, 0))));
        assert_eq!(desk.tick(TIMEOUT + AGAIN_MS - 1), []);
        assert_eq!(desk.tick(TIMEOUT + AGAIN_MS), [Act::Dispatch(errand("a", 1, 1))]);
        // The engine was told nothing, so it is the same round.
        assert_eq!(desk.unheard(&errand("a", 1, 1), 12_000), []);
        assert_eq!(desk.tick(13_000), [Act::Dispatch(errand("a", 1, 1))]);
        assert_eq!(desk.settled("a", true, 13_040), [Act::Taken(errand("a", 1, 1))]);
    }

    fn failing(fallback: bool) -> Desk {
        let mut desk = Desk::new(fallback);
        for (name, number) in [("a", 1), ("b", 2), ("c", 3)] {
            desk.opened(name, number, 0);
            assert!(!desk.is_open());
            desk.unheard(&errand(name, number, 0), 0);
        }
        assert!(desk.is_open());
        desk
    }

    #[test]
    fn an_engine_that_fails_is_tried_with_one_turn_at_a_time() {
        let mut desk = failing(true);
        assert_eq!(desk.opened("d", 4, PROBE_MS - 1), [Act::RunHere(session("d"))]);
        let probe = Act::Dispatch(errand("e", 5, 0));
        assert_eq!(desk.opened("e", 5, PROBE_MS), [probe]);
        assert_eq!(desk.opened("f", 6, PROBE_MS + 1), [Act::RunHere(session("f"))]);
        desk.tick(PROBE_MS + TIMEOUT);
        assert!(desk.is_open());
        assert_eq!(desk.0.standing(PROBE_MS + TIMEOUT).open_ms, PROBE_MS + TIMEOUT, "all the time");
        let later = 2 * PROBE_MS + TIMEOUT;
        assert_eq!(desk.opened("g", 7, later - 1), [Act::RunHere(session("g"))]);
        assert_eq!(desk.opened("h", 8, later), [Act::Dispatch(errand("h", 8, 0))]);
        desk.settled("h", true, later + 40);
        assert!(!desk.is_open());
        assert_eq!(desk.opened("i", 9, later + 41), [Act::Dispatch(errand("i", 9, 0))]);
    }

    #[test]
    fn a_trial_that_is_called_off_makes_room_for_the_next() {
        let mut desk = failing(true);
        desk.opened("d", 4, PROBE_MS);
        assert_eq!(desk.settled("d", false, PROBE_MS + 1), [Act::Cancel(errand("d", 4, 0))]);
        assert!(desk.is_open());
        let next = desk.opened("e", 5, PROBE_MS + 2);
        assert_eq!(next, [Act::Dispatch(errand("e", 5, 0))]);
    }

    #[test]
    fn what_was_kept_goes_when_the_engine_is_back() {
        let mut desk = failing(false);
        assert_eq!(desk.tick(PROBE_MS - 1), []);
        // The one that waits longest, by its name where they wait alike.
        assert_eq!(desk.tick(PROBE_MS), [Act::Dispatch(errand("a", 1, 0))]);
        assert_eq!(desk.tick(PROBE_MS + 100), []);
        desk.settled("a", true, PROBE_MS + 150);
        let acts = desk.tick(PROBE_MS + 200);
        assert_eq!(acts, [Act::Dispatch(errand("b", 2, 0)), Act::Dispatch(errand("c", 3, 0))]);
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let mut desk = Desk::new(true);
        for number in 0..AWAITED_MAX {
            assert_eq!(desk.opened(&number.to_string(), number as u128, 0).len(), 1);
        }
        assert_eq!(desk.opened("one more", 0, 0), []);
        assert_eq!(desk.tick(LOOK_MS).len(), LOOKS_MAX);
        assert_eq!(desk.0.standing(7).longest_ms, 7);
    }
}
