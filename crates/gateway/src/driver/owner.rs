//! Whose the session is: found out at every load, because other nodes may have the same store open.

use std::sync::Arc;

use turnkeep_core::Epoch;
use turnkeep_core::ids::Version;
use turnkeep_core::outbox::DeliveryState;
use turnkeep_core::planted::{Planted, planted};
use turnkeep_core::ports::store::{Holder, Loaded, StoreError};
use turnkeep_core::session::{Effect, Input, Session};

use super::{Driver, Outcome, Slot};

/// Whether a node that runs no turns runs this session's, in the place of those that do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StandIn {
    /// It doesn't.
    No,
    /// From the next load on it does, under this number: then the session is taken under a new
    /// epoch, also from this node itself.
    Asked(Epoch),
    /// It does, under this number.
    Yes(Epoch),
}

impl Driver {
    /// The same where other nodes may have the store open, too.
    #[must_use]
    pub fn among_others(self) -> Self {
        Self { shared: true, ..self }
    }

    /// The same on a node that runs no turns: it leaves what it takes to those who do.
    #[must_use]
    pub fn without_running(self) -> Self {
        Self { runs: false, guest: true, ..self }
    }

    /// The same for a session that this node may not run although it runs others: nothing stands under
    /// its number, so that whoever may run it finds it offered.
    #[must_use]
    pub fn of_others(self) -> Self {
        Self { node: Epoch::NOBODY, epoch: Epoch::NOBODY, ..self.without_running() }
    }

    /// From the next load on this node may run the session, under this number.
    pub fn may_run(&mut self, number: Epoch) {
        (self.node, self.runs) = (number, true);
        self.look();
    }

    /// Whether what is stepped here is done elsewhere.
    #[must_use]
    pub const fn is_guest(&self) -> bool {
        self.guest
    }

    /// Another node wrote the session, so what is known here is old.
    pub fn look(&mut self) {
        match self.slot {
            Slot::Ready(_) => self.slot = Slot::Unloaded,
            // What is built on something old conflicts, and is loaded again. But the other one may
            // have built on what has happened already, and was not answered yet.
            Slot::Loading | Slot::Committing(_) => self.stale = true,
            Slot::Unloaded | Slot::Lost => {}
        }
    }

    /// Nobody took what this node handed over, so it runs the session itself until nothing of it is
    /// open, as long as nobody else has it: under a new epoch, so that whoever is told of it late
    /// finds it taken, and under the number that [`turnkeep_core::ports::store::Store::stand_in`]
    /// gave, so that everybody leaves it here.
    pub fn run_here(&mut self, number: Epoch) {
        if !self.runs && self.stand_in == StandIn::No {
            self.stand_in = StandIn::Asked(number);
        }
        self.look();
    }

    /// Whether this node runs the session in the place of those that run turns, or is going to.
    #[must_use]
    pub fn stands_in(&self) -> bool {
        self.stand_in != StandIn::No
    }

    /// Leaves a session that this node ran in the place of others, once it is at rest and nothing of
    /// it is open: what comes next is for them again. Says whether it is left.
    pub fn step_back(&mut self) -> bool {
        let through = |session: &Session| !session.has_open_work();
        if self.stands_in() && self.is_idle() && self.session().is_some_and(through) {
            (self.stand_in, self.guest) = (StandIn::No, true);
            self.slot = Slot::Unloaded;
        }
        !self.stands_in()
    }

    /// The load ended. Whatever the state says is under way is held against what the shell has.
    pub fn on_loaded(
        &mut self,
        loaded: Result<Option<Loaded>, StoreError>,
        holder: impl FnOnce(Epoch) -> Holder,
        outcome: &mut Outcome,
    ) {
        match loaded {
            Ok(Some(Loaded { session, version })) => {
                let holder = holder(session.epoch);
                if holder == Holder::Later && !planted(Planted::FenceForgotten) {
                    return self.lose(outcome);
                }
                self.version = version;
                self.meet(&session, holder, outcome);
                self.slot = Slot::Ready(session);
            }
            Ok(None) => {
                self.version = Version(0);
                (self.epoch, self.guest) = (self.node, !self.runs);
                self.stand_in = StandIn::No;
                // It may have been erased elsewhere: nothing that runs here is wanted any more.
                self.end_here(outcome);
                let session = Session { epoch: self.epoch, ..Session::new() };
                self.slot = Slot::Ready(Arc::new(session));
            }
            Err(_) => {
                self.slot = Slot::Unloaded;
                self.refuse_waiting(outcome);
                outcome.store_failed = true;
            }
        }
        if std::mem::take(&mut self.stale) {
            self.look();
        }
    }

    /// Finds out whether the session is this node's, or may be taken, or is another's.
    fn meet(&mut self, session: &Session, holder: Holder, outcome: &mut Outcome) {
        let open = session.has_open_work();
        let others = holder == Holder::Another && open && !planted(Planted::SessionTaken);
        let whose = session.epoch.node();
        let mut afresh = false;
        self.stand_in = match self.stand_in {
            _ if self.runs || others || !open => StandIn::No,
            StandIn::Asked(number) => {
                afresh = true;
                StandIn::Yes(number)
            }
            // What stands under this node's other number it runs.
            StandIn::No
                if holder == Holder::Us
                    && whose != self.node.node()
                    && self.node != Epoch::NOBODY =>
            {
                StandIn::Yes(whose)
            }
            known => known,
        };
        let number = match self.stand_in {
            StandIn::Yes(number) => number,
            StandIn::No | StandIn::Asked(_) => self.node,
        };
        self.guest = others || !(self.runs || self.stands_in());
        self.epoch = match holder {
            Holder::Us if whose == number.node() && !afresh => session.epoch,
            Holder::Another if others => session.epoch,
            Holder::Us | Holder::Another | Holder::Nobody => session.epoch.taken_by(number),
            Holder::Later => self.node,
        };
        if self.shared {
            self.forget_outcomes(session, holder);
        }
        // The one of a load before this, which was not stepped any more.
        if !planted(Planted::AdoptedTwice) {
            self.backlog.pop_front_if(|input| matches!(input, Input::Adopt { .. }));
        }
        if !self.guest {
            let (run, delivering) = (self.run, self.delivering);
            return self.backlog.push_front(Input::Adopt { run, delivering });
        }
        self.end_here(outcome);
        let kept = holder == Holder::Us && self.node == Epoch::NOBODY && open;
        if kept && !planted(Planted::OwnedKept) {
            // It was this node's before there was somebody who alone may run it. Nobody takes what stands
            // under the number of who lives, so it is written once under nobody's.
            self.backlog.push_front(Input::Adopt { run: None, delivering: None });
        }
    }

    /// Nothing is under way here, and no deadline is this node's.
    fn end_here(&mut self, outcome: &mut Outcome) {
        self.delivering = None;
        self.backlog.retain(|input| !is_owners(input));
        if let Some(run) = self.run.take() {
            outcome.effects.push(Effect::Cancel(run));
            outcome.effects.push(Effect::Typing(false));
        }
    }

    /// What is known of deliveries that are settled by now, or are another node's: somebody may have
    /// asked meanwhile that the same part is sent again, and this is not what comes of that.
    fn forget_outcomes(&mut self, session: &Session, holder: Holder) {
        let first = session.outbox.parts.first().filter(|_| holder == Holder::Us);
        let sending = first.filter(|first| first.state == DeliveryState::Sending);
        let sending = sending.map(|first| (first.reply, first.part, first.tries));
        let before = self.backlog.len();
        self.backlog.retain(|input| match input {
            Input::Delivered { reply, part, attempt, .. } => {
                sending == Some((*reply, *part, *attempt))
            }
            _ => true,
        });
        if self.backlog.len() < before {
            self.delivering = None;
        }
    }

    /// Whether somebody is to be told something that nothing was written for, and that may be wrong
    /// by now: others may have written since the state was read. It is looked at again first.
    pub(super) fn is_outdated(&self, effects: &[Effect]) -> bool {
        let told = |effect: &Effect| matches!(effect, Effect::Decided(..) | Effect::Controlled(..));
        self.shared && !self.fresh && effects.iter().any(told) && !planted(Planted::OldAnswer)
    }

    /// The session is another owner's now: whatever runs here ends, and nobody is told that
    /// anything was taken.
    pub(super) fn lose(&mut self, outcome: &mut Outcome) {
        self.slot = Slot::Lost;
        self.refuse_waiting(outcome);
        self.backlog.clear();
        self.delivering = None;
        outcome.effects.extend(self.run.take().map(Effect::Cancel));
        outcome.effects.push(Effect::Typing(false));
        outcome.lost = true;
    }
}

/// Whether somebody waits for it here, whoever has the session.
pub(super) const fn is_answer(effect: &Effect) -> bool {
    matches!(effect, Effect::Decided(..) | Effect::Controlled(..) | Effect::AgentAnswer(..))
}

/// Whether only who has the session may say it.
pub(super) const fn is_owners(input: &Input) -> bool {
    matches!(
        input,
        Input::Adopt { .. } | Input::Timer(_) | Input::Release | Input::Delivered { .. }
    )
}

#[cfg(test)]
mod tests {
    use turnkeep_core::ids::{Attempt, RunTag, Token};
    use turnkeep_core::ports::store::CommitOutcome;
    use turnkeep_core::session::{Control, Controlled, Paused};
    use turnkeep_core::session_key::SessionKind;
    use turnkeep_core::{Policy, SessionKey, TurnId};

    use super::super::Request;
    use super::*;

    const NODE: Epoch = Epoch(3);

    fn driver() -> Driver {
        let key = SessionKey::new("t", "a", "web", SessionKind::Dm, "ann").unwrap();
        let facts = turnkeep_core::policy::CHANNELS[0];
        Driver::new(key, NODE, Arc::new(Policy::built_in(facts))).among_others()
    }

    fn next(driver: &mut Driver) -> (Option<Request>, Outcome) {
        let mut outcome = Outcome::default();
        let request = driver.next(0, &mut TurnId::default, &mut outcome);
        (request, outcome)
    }

    fn is_load(request: Option<&Request>) -> bool {
        matches!(request, Some(Request::Load))
    }

    /// A driver whose session this state is, as it was loaded just now.
    fn load(driver: &mut Driver, session: &Session, holder: Holder) {
        assert!(is_load(next(driver).0.as_ref()));
        let loaded = Loaded { session: Arc::new(session.clone()), version: Version(1) };
        driver.on_loaded(Ok(Some(loaded)), |_| holder, &mut Outcome::default());
    }

    fn of(epoch: Epoch) -> Session {
        Session { epoch, ..Session::new() }
    }

    #[test]
    fn a_look_during_a_commit_is_one_after_it() {
        let mut driver = driver();
        load(&mut driver, &of(NODE), Holder::Us);
        driver.push(Input::Control(Token(1), Control::OptIn(true)));
        assert!(matches!(next(&mut driver).0, Some(Request::Commit(_))));
        driver.look();
        let mut outcome = Outcome::default();
        driver.on_committed(Ok(CommitOutcome::Committed(Version(2))), &mut outcome);
        assert!(outcome.committed);
        assert!(is_load(next(&mut driver).0.as_ref()), "what another one wrote is not seen");
    }

    #[test]
    fn two_loads_adopt_once() {
        let mut driver = driver();
        assert!(is_load(next(&mut driver).0.as_ref()));
        driver.look();
        let loaded = || Loaded { session: Arc::new(of(NODE)), version: Version(1) };
        driver.on_loaded(Ok(Some(loaded())), |_| Holder::Us, &mut Outcome::default());
        load(&mut driver, &of(NODE), Holder::Us);
        let adopts = driver.backlog.iter().filter(|input| matches!(input, Input::Adopt { .. }));
        assert_eq!(adopts.count(), 1);
    }

    #[test]
    fn nobody_is_told_what_was_true_before() {
        let mut driver = driver();
        load(&mut driver, &of(NODE), Holder::Us);
        assert!(next(&mut driver).0.is_none());
        let stop = || Input::Control(Token(7), Control::Stop { turn: None, shown: None });
        driver.push(stop());
        let (request, outcome) = next(&mut driver);
        assert!(is_load(request.as_ref()) && outcome.effects.is_empty());
        let loaded = Loaded { session: Arc::new(of(NODE)), version: Version(1) };
        driver.on_loaded(Ok(Some(loaded)), |_| Holder::Us, &mut Outcome::default());
        let (request, outcome) = next(&mut driver);
        assert!(request.is_none());
        let told = |effect: &Effect| {
            matches!(effect, Effect::Controlled(Token(7), Controlled::NothingRuns))
        };
        assert!(outcome.effects.iter().any(told), "{:?}", outcome.effects);
    }

    #[test]
    fn what_only_another_may_run_stands_under_nobodys_number_until_this_one_may() {
        let mut driver = driver().of_others();
        load(&mut driver, &of(Epoch(7)), Holder::Nobody);
        assert!(driver.is_guest() && driver.epoch == Epoch(7).taken_by(Epoch::NOBODY));
        // Somebody who may has it by now.
        driver.look();
        load(&mut driver, &open(Epoch(9)), Holder::Another);
        assert!(driver.is_guest() && driver.epoch == Epoch(9));
        driver.look();
        load(&mut driver, &open(NODE), Holder::Us);
        assert!(driver.is_guest() && !driver.stands_in(), "it had it once");
        driver.may_run(NODE);
        load(&mut driver, &open(Epoch(9)), Holder::Nobody);
        assert!(!driver.is_guest() && driver.epoch == Epoch(9).taken_by(NODE));
    }

    #[test]
    fn what_this_node_had_before_only_another_might_is_given_away() {
        let mut driver = driver().of_others();
        load(&mut driver, &open(NODE), Holder::Us);
        let given = |request| match request {
            Some(Request::Commit(commit)) => Some((commit.session.epoch, commit.wake_at.is_some())),
            _ => None,
        };
        let (request, outcome) = next(&mut driver);
        assert_eq!(given(request), Some((NODE.taken_by(Epoch::NOBODY), true)));
        assert!(outcome.effects.is_empty());
        let committed = Ok(CommitOutcome::Committed(Version(2)));
        driver.on_committed(committed, &mut Outcome::default());
        driver.look();
        load(&mut driver, &open(NODE.taken_by(Epoch::NOBODY)), Holder::Nobody);
        assert!(next(&mut driver).0.is_none(), "once is enough");
    }

    /// The number under which the node of these tests runs turns in the place of others.
    const SECOND: Epoch = Epoch(8);

    /// One that an operator has: something is open.
    fn open(epoch: Epoch) -> Session {
        let paused = Paused { by: "eve".into(), since: 0, until: None };
        let session = Session { paused: Some(paused), ..of(epoch) };
        assert!(session.has_open_work());
        session
    }

    #[test]
    fn what_nobody_took_is_run_under_the_other_number_until_it_is_through() {
        let mut driver = driver().without_running();
        let (opened, own) = (open(NODE), |driver: &Driver| driver.epoch);
        load(&mut driver, &opened, Holder::Us);
        assert!(driver.is_guest() && own(&driver) == NODE);
        driver.run_here(SECOND);
        load(&mut driver, &opened, Holder::Us);
        assert!(!driver.is_guest() && driver.stands_in());
        assert_eq!(own(&driver), NODE.taken_by(SECOND));
        assert!(!driver.step_back(), "it is open");
        // Whoever is told of it later, or again, finds it here.
        driver.look();
        let taken = Session { epoch: own(&driver), ..opened };
        load(&mut driver, &taken, Holder::Us);
        assert_eq!((driver.is_guest(), own(&driver)), (false, NODE.taken_by(SECOND)));
        driver.backlog.clear();
        driver.look();
        load(&mut driver, &of(NODE.taken_by(SECOND)), Holder::Us);
        assert!(driver.is_guest(), "what comes next is for others again");
        assert_eq!(own(&driver).node(), NODE);
    }

    #[test]
    fn what_stands_under_the_other_number_is_run_here_as_long_as_it_is_ours() {
        let opened = open(SECOND);
        let mut here = driver().without_running();
        load(&mut here, &opened, Holder::Us);
        assert!(!here.is_guest() && here.epoch == SECOND);
        let mut given_back = driver().without_running();
        load(&mut given_back, &opened, Holder::Nobody);
        assert!(given_back.is_guest() && !given_back.stands_in());
        assert_eq!(given_back.epoch.node(), NODE);
    }

    #[test]
    fn what_somebody_took_meanwhile_is_not_run_here() {
        let mut driver = driver().without_running();
        driver.run_here(SECOND);
        load(&mut driver, &open(Epoch(9)), Holder::Another);
        assert!(driver.is_guest() && !driver.stands_in());
        assert_eq!(driver.epoch, Epoch(9));
    }

    #[test]
    fn what_became_of_a_part_is_no_news_of_another_nodes() {
        let mut driver = driver();
        load(&mut driver, &of(NODE), Holder::Us);
        assert!(next(&mut driver).0.is_none());
        driver.delivering = Some((turnkeep_core::Seq(4), 0, 1));
        driver.look();
        let outcome = turnkeep_core::outbox::DeliveryOutcome::Sent;
        driver.push(Input::Delivered {
            reply: turnkeep_core::Seq(4),
            part: 0,
            attempt: 1,
            outcome,
        });
        load(&mut driver, &of(Epoch(9)), Holder::Another);
        let told = driver.backlog.iter().any(|input| matches!(input, Input::Delivered { .. }));
        assert!(!told && driver.delivering.is_none());
    }

    #[test]
    fn what_was_erased_elsewhere_is_not_worked_on() {
        let mut driver = driver();
        load(&mut driver, &of(NODE), Holder::Us);
        let run = RunTag { turn: TurnId::default(), epoch: NODE, attempt: Attempt(1) };
        driver.run = Some(run);
        driver.look();
        assert!(is_load(next(&mut driver).0.as_ref()));
        let mut outcome = Outcome::default();
        driver.on_loaded(Ok(None), |_| Holder::Nobody, &mut outcome);
        let ended = |effect: &Effect| matches!(effect, Effect::Cancel(ended) if *ended == run);
        assert!(outcome.effects.iter().any(ended), "{:?}", outcome.effects);
        let hidden = |effect: &Effect| matches!(effect, Effect::Typing(false));
        assert!(outcome.effects.iter().any(hidden) && driver.run.is_none());
    }
}
