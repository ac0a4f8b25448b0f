//! The shell of the simulator: drives [`Driver`]s as the real one does, and loses what a dying
//! process loses.

use std::collections::VecDeque;
use std::sync::Arc;

use turnkeep_core::Epoch;
use turnkeep_core::ids::{Token, TurnId};
use turnkeep_core::ports::store::{CommitOutcome, FirstDecision, Holder, StoreError};
use turnkeep_core::session::{Effect, Input, Wake};
use turnkeep_gateway::driver::{Driver, Outcome, Request};
use uuid::Uuid;

use crate::cluster::Member;
use crate::coverage::{Before, Kind};
use crate::disk::Write;
use crate::mutants::Wrapped;
use crate::plan::Act;
use crate::provider::Call;
use crate::stock::SESSIONS;
use crate::world::{What, World, note};

/// How long a seat waits after a store failure.
const STORE_PAUSE_MS: u64 = 250;
/// How often a process asks the store what is due.
pub(crate) const SWEEP_MS: u64 = 30_000;

/// One running gateway.
pub(crate) struct Process {
    pub(crate) epoch: Epoch,
    pub(crate) seats: [Seat; SESSIONS],
    pub(crate) alive: bool,
    pub(crate) draining: bool,
    pub(crate) stalled_until: u64,
    /// Who has, or is being given, the place for suspect turns.
    pub(crate) place: Option<(usize, TurnId)>,
    pub(crate) place_line: VecDeque<(usize, TurnId)>,
    /// What it is in a cluster.
    pub(crate) member: Member,
}

/// A session's task in one process.
#[derive(Default)]
pub(crate) struct Seat {
    pub(crate) driver: Option<Driver>,
    pub(crate) operation: Option<Operation>,
    pub(crate) armed: Option<(u64, Wake)>,
    pub(crate) timer_serial: u32,
    pub(crate) drive_queued: bool,
    pub(crate) call: Option<Call>,
    pub(crate) calls: u32,
    pub(crate) typing: bool,
    pub(crate) lost: bool,
    /// What waits to be stepped, as far as it is known.
    backlog: u32,
    last_kind: Kind,
    pub(crate) granting: bool,
    /// After a store failure, until the pause is over.
    pub(crate) paused: bool,
    /// Its driver steps it for another node.
    pub(crate) of_others: bool,
}

impl Seat {
    /// A load or commit is under way.
    pub(crate) const fn is_awaiting(&self) -> bool {
        self.operation.is_some()
    }

    /// Drops the session from memory; nothing of it is under way.
    pub(crate) fn leave(&mut self) {
        self.driver = None;
        self.armed = None;
        self.backlog = 0;
        // Whatever was armed is stale.
        self.timer_serial += 1;
    }
}

/// A load or commit under way.
pub(crate) enum Operation {
    Load,
    Commit { write: Option<Write>, result: Option<Result<CommitOutcome, StoreError>> },
}

/// Who waits for the answer to an input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter {
    pub(crate) process: usize,
    pub(crate) seat: usize,
    pub(crate) who: Who,
    pub(crate) open: bool,
    pub(crate) since: u64,
}

/// What kind of waiter it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Person(Act),
    Run(usize),
}

pub(crate) fn unavailable() -> StoreError {
    StoreError::Unavailable(String::new())
}

impl World<'_> {
    /// Who new input goes to.
    pub(crate) fn listener(&self) -> Option<usize> {
        let last = self.processes.len().checked_sub(1)?;
        let newest = &self.processes[last];
        (newest.alive && !newest.draining).then_some(last)
    }

    /// Starts a process and takes up all open work.
    pub(crate) fn boot(&mut self) {
        let epoch = self.store.open();
        let process = self.admit(epoch, Member::alone());
        self.take_up(process);
    }

    pub(crate) fn admit(&mut self, epoch: Epoch, member: Member) -> usize {
        let index = self.processes.len();
        self.processes.push(Process {
            epoch,
            seats: Default::default(),
            alive: true,
            draining: false,
            stalled_until: 0,
            place: None,
            place_line: VecDeque::new(),
            member,
        });
        note!(self, "process {index} starts with epoch {epoch}");
        index
    }

    /// Looks after what the store says is open.
    pub(crate) fn take_up(&mut self, process: usize) {
        for seat in 0..SESSIONS {
            let forgotten = self.mistake == Some(Wrapped::OpenWorkForgotten);
            let open = self.store.rows[seat].wake_at.is_some();
            if open && !forgotten && self.may_tend(process, seat) {
                self.tend(process, seat);
            }
        }
    }

    pub(crate) fn token(&mut self, process: usize, seat: usize, who: Who) -> Token {
        self.waiters.push(Waiter { process, seat, who, open: true, since: self.now });
        Token(self.waiters.len() as u64 - 1)
    }

    pub(crate) fn driver(&mut self, process: usize, seat: usize) -> &mut Driver {
        let Process { epoch, member, .. } = &self.processes[process];
        let (epoch, runs, shared) = (*epoch, member.runs, self.cluster.is_there());
        let elsewhere = self.is_elsewhere(process, seat);
        let signs = self.mistake == Some(Wrapped::GuestSigns);
        let (key, policy) = (self.aside.key(self.stock, seat), &self.plan.policies[seat]);
        let taken = &mut self.processes[process].seats[seat];
        taken.driver.get_or_insert_with(|| {
            taken.of_others = runs && elsewhere;
            let driver = Driver::new(key.clone(), epoch, Arc::clone(policy));
            let driver = if shared { driver.among_others() } else { driver };
            match (runs, elsewhere) {
                (true, false) => driver,
                (true, true) if !signs => driver.of_others(),
                (true, true) | (false, _) => driver.without_running(),
            }
        })
    }

    /// Hands an input to a session's task.
    pub(crate) fn push(&mut self, process: usize, seat: usize, kind: Kind, input: Input) {
        self.driver(process, seat).push(input);
        self.steps += 1;
        let taken = &mut self.processes[process].seats[seat];
        taken.backlog += 1;
        taken.last_kind = kind;
        if taken.operation.is_some() || taken.drive_queued {
            return;
        }
        if self.rng.permille(250) {
            self.processes[process].seats[seat].drive_queued = true;
            let after = self.rng.below(4);
            self.schedule(after, What::Drive(process, seat));
        } else {
            self.drive(process, seat);
        }
    }

    /// Wakes a session that may not be in memory.
    pub(crate) fn tend(&mut self, process: usize, seat: usize) {
        if self.processes[process].alive {
            self.driver(process, seat).refresh();
            self.drive(process, seat);
        }
    }

    /// The newest process looks through what the store says is due.
    pub(crate) fn sweep(&mut self, seat: usize) {
        if self.cluster.is_there() {
            return self.all_sweep(seat);
        }
        match self.listener() {
            Some(process) => self.tend(process, seat),
            None => self.schedule(1000, What::Sweep(seat)),
        }
    }

    /// Steps and commits until something has to be waited for.
    pub(crate) fn drive(&mut self, process: usize, seat: usize) {
        loop {
            let taken = &self.processes[process].seats[seat];
            if !self.processes[process].alive || taken.operation.is_some() || taken.paused {
                return;
            }
            if taken.of_others {
                self.renew(process, seat);
            }
            let wall = self.wall_of(process);
            let before = self.before(process, seat);
            let mut outcome = Outcome::default();
            let mut fresh = *self.fresh_counter();
            let mut draw = || {
                fresh += 1;
                TurnId(Uuid::from_u128(fresh))
            };
            let Some(driver) = &mut self.processes[process].seats[seat].driver else { return };
            let request = driver.next(wall, &mut draw, &mut outcome);
            *self.fresh_counter() = fresh;
            if let Some(before) = before {
                let rows = match &request {
                    Some(Request::Commit(commit)) => Some(&commit.rows),
                    _ => None,
                };
                self.coverage.count(before, rows, outcome.ignored);
            }
            let ready = !matches!(request, Some(Request::Load));
            if ready {
                self.processes[process].seats[seat].backlog = 0;
            }
            if matches!(request, Some(Request::Commit(_)))
                && self.mistake == Some(Wrapped::AcknowledgedEarly)
            {
                self.acknowledge_early(seat, request.as_ref());
            }
            if !outcome.is_nothing() {
                self.act(process, seat, outcome);
            }
            match request {
                None => return self.settle(process, seat),
                Some(Request::Load) => self.issue_load(process, seat),
                Some(Request::Commit(commit)) => {
                    if self.issue_commit(process, seat, commit) {
                        continue;
                    }
                }
            }
            return;
        }
    }

    /// Where the session stands, if the next step is about exactly one known input.
    fn before(&self, process: usize, seat: usize) -> Option<Before> {
        let taken = &self.processes[process].seats[seat];
        let driver = taken.driver.as_ref()?;
        let session = driver.session()?;
        (taken.backlog == 1).then(|| Before::of(session, taken.last_kind))
    }

    fn issue_load(&mut self, process: usize, seat: usize) {
        self.processes[process].seats[seat].operation = Some(Operation::Load);
        let after = self.store_takes(process);
        self.schedule(after, What::Stored(process, seat));
    }

    /// A load or a commit is answered.
    pub(crate) fn stored(&mut self, process: usize, seat: usize) {
        if !self.processes[process].alive {
            return;
        }
        match self.processes[process].seats[seat].operation.take() {
            None => return,
            Some(Operation::Load) => {
                let failed = self.is_cut(process) || self.strikes(self.plan.odds.load_error);
                let loaded = if failed { Err(unavailable()) } else { Ok(self.store.load(seat)) };
                self.judge.loaded(seat, &self.store.rows[seat], &loaded);
                let mut outcome = Outcome::default();
                let adopts = matches!(loaded, Ok(Some(_)));
                let holder = match &loaded {
                    Ok(Some(loaded)) => self.holder(process, loaded.session.epoch),
                    _ => Holder::Us,
                };
                if let Some(driver) = &mut self.processes[process].seats[seat].driver {
                    driver.on_loaded(loaded, |_| holder, &mut outcome);
                }
                self.steps += u32::from(adopts);
                let taken = &mut self.processes[process].seats[seat];
                taken.backlog += u32::from(adopts);
                if taken.backlog == 1 && adopts {
                    taken.last_kind = Kind::Adopt;
                }
                self.after_store(process, seat, outcome);
            }
            Some(Operation::Commit { write, result }) => {
                let result = match (result, write) {
                    (Some(result), _) => result,
                    (None, Some(write)) => self.land(write),
                    (None, None) => Err(unavailable()),
                };
                self.committed(process, seat, result);
            }
        }
        self.drive(process, seat);
    }

    pub(crate) fn committed(
        &mut self,
        process: usize,
        seat: usize,
        result: Result<CommitOutcome, StoreError>,
    ) {
        let mut outcome = Outcome::default();
        if !matches!(result, Ok(CommitOutcome::Committed(_))) {
            // What is redone can't be told apart from what waited behind it.
            self.processes[process].seats[seat].backlog += 2;
        }
        if let Some(driver) = &mut self.processes[process].seats[seat].driver {
            driver.on_committed(result, &mut outcome);
        }
        self.after_store(process, seat, outcome);
    }

    fn after_store(&mut self, process: usize, seat: usize, outcome: Outcome) {
        let failed = outcome.store_failed;
        if !outcome.is_nothing() {
            self.act(process, seat, outcome);
        }
        if failed && self.processes[process].alive {
            let taken = &mut self.processes[process].seats[seat];
            (taken.paused, taken.drive_queued) = (true, true);
            self.schedule(STORE_PAUSE_MS, What::Drive(process, seat));
        }
    }

    /// The mistake of running effects before their commit, for the ones that people see.
    fn acknowledge_early(&mut self, seat: usize, request: Option<&Request>) {
        let Some(Request::Commit(commit)) = request else { return };
        for event in &commit.rows.events {
            self.judge.promised(seat, event);
        }
    }

    pub(crate) fn act(&mut self, process: usize, seat: usize, outcome: Outcome) {
        let Outcome { effects, unavailable, duplicates, lost, .. } = outcome;
        if lost || !unavailable.is_empty() || !duplicates.is_empty() {
            self.tell_others((process, seat), unavailable, duplicates, lost);
        }
        for effect in effects {
            if !self.processes[process].alive {
                return;
            }
            if self.strikes(self.plan.odds.effect_crash) {
                return self.crash_now(process);
            }
            self.effect(process, seat, effect);
        }
    }

    /// Whom no effect tells.
    fn tell_others(
        &mut self,
        (process, seat): (usize, usize),
        unavailable: Vec<Token>,
        duplicates: Vec<(Token, FirstDecision)>,
        lost: bool,
    ) {
        for token in unavailable {
            self.told_unavailable(token);
        }
        for (token, first) in duplicates {
            self.told_duplicate(token, &first);
        }
        if lost {
            note!(self, "process {process} lost session {seat}");
            self.processes[process].seats[seat].lost = true;
            self.processes[process].place_line.retain(|(waiting, _)| *waiting != seat);
            self.give_back(process, seat);
        }
    }

    fn effect(&mut self, process: usize, seat: usize, effect: Effect) {
        note!(self, "  {process}/{seat}: {effect:?}");
        match effect {
            Effect::Decided(token, decision) => self.told_decision(token, decision),
            Effect::Controlled(token, controlled) => self.told_control(token, controlled),
            Effect::AgentAnswer(token, answer) => self.run_is_told(token, answer),
            Effect::Start(start) => self.start_run(process, seat, *start),
            Effect::MailWaiting(_) => {}
            Effect::Cancel(tag) => self.cancel_run(process, seat, tag),
            Effect::Wind(tag) => {
                if let Some(run) = self.find_run(process, seat, tag) {
                    self.runs[run].hurry();
                }
            }
            Effect::FinishNow(tag, _) => {
                if let Some(run) = self.find_run(process, seat, tag) {
                    self.finish_run(run);
                }
            }
            Effect::AskAgent(tag, question, _) => self.ask_run(process, seat, tag, question),
            Effect::AnswerRun(tag, question, message) => {
                self.answer_run(process, seat, tag, question, &message);
            }
            Effect::RequestQuarantine(turn) => {
                let line = &mut self.processes[process].place_line;
                if !line.contains(&(seat, turn)) {
                    line.push_back((seat, turn));
                }
                self.next_in_line(process);
            }
            Effect::Check(message, check, wait_ms) => {
                self.check((process, seat), &message, &check, wait_ms);
            }
            Effect::Typing(on) => self.processes[process].seats[seat].typing = on,
            Effect::Deliver(delivery) => self.deliver(process, seat, *delivery),
        }
    }
}
