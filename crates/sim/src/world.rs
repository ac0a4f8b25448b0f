//! The world of one schedule: a virtual clock, things that are going to happen, and their order.

use turnkeep_core::ids::{QuestionId, RunTag, Seq, TurnId};
use turnkeep_core::journal::SupersedeChoice;
use turnkeep_core::moderation::Ruling;
use turnkeep_core::session::Wake;
use uuid::Uuid;

use crate::agent::Run;
use crate::answers::Answers;
use crate::aside::Aside;
use crate::bill::Bill;
use crate::cluster::Cluster;
use crate::coverage::Coverage;
use crate::disk::Write;
use crate::guard::Guard;
use crate::judge::Judge;
use crate::moderator::Moderator;
use crate::mutants::{Mutant, Wrapped, plant};
use crate::operators::{self, Desk};
use crate::owners::Owners;
use crate::plan::{Act, FAULTS_MS, Fault, Plan};
use crate::provider::Provider;
use crate::queue;
use crate::rivals::Rivals;
use crate::rng::Rng;
use crate::shell::{Process, Waiter};
use crate::stand_in::StandIns;
use crate::stock::Stock;
use crate::store::SimStore;
use crate::tools::Tools;
use crate::unasked::{self, Book};

/// Where the wall clock stands when a schedule begins.
const WALL_MS: i64 = 1_700_000_000_000;
/// A schedule that goes on for longer never comes to rest.
const HAPPENINGS_MAX: u32 = 6000;

/// Something that is going to happen.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    /// A person acts on a session.
    Act(usize, Act),
    /// Something goes wrong.
    Fault(Fault),
    /// A process is started.
    Boot,
    /// A node comes; turns run there or not.
    Join(bool),
    /// A node shows that it lives, and sees who else does.
    Beat(usize),
    /// A node asks what others did; if told so, also what nobody has.
    Look(usize, bool),
    /// A node that runs no turns runs a session's, for nobody took them.
    RunHere(usize, usize),
    /// It leaves turns to others again.
    StepBack(usize),
    /// A node asks to be the one that a channel belongs to.
    Own(usize),
    /// One node puts another out.
    PutOut(usize, usize),
    /// Some node does not reach the store for so long.
    Cut(u64),
    /// Some node is told to look at a session, or that it is due.
    Hint(usize, bool),
    /// A drained process ends.
    Exit(usize),
    /// A seat steps what waits.
    Drive(usize, usize),
    /// A load or commit is answered.
    Stored(usize, usize),
    /// A commit that was reported as failed reaches the disk after all.
    LateCommit(usize),
    /// A deadline is reached; stale unless the seat still waits for this arming.
    Timer(usize, usize, u32, Wake),
    /// A run takes its next step.
    Agent(usize),
    /// The watch over a run looks at it.
    Watch(usize),
    /// A run answers a supersede question.
    Choose(usize, QuestionId, SupersedeChoice),
    /// A delivery ends.
    Sent(usize, usize, u32),
    /// The place for suspect turns is given to this one.
    Grant(usize, usize, TurnId),
    /// A check of a held message ends.
    Ruled(usize, usize, Seq, Ruling),
    /// An evicted session is due.
    Due(usize, usize),
    /// A look at the store finds this session due.
    Sweep(usize),
    /// Somebody acts on what they read of a part.
    Rival(usize),
}

/// When something happens, and among equals in which order, in one number that is quick to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct When(u64);

impl When {
    /// A schedule ends long before its milliseconds need more than 32 bits.
    const fn new(at: u64, order: u64) -> Self {
        Self(at << 32 | order >> 32)
    }

    const fn at(self) -> u64 {
        self.0 >> 32
    }
}

/// Everything of one schedule. Reused for the next one, so that its room is kept.
pub struct World<'a> {
    pub(crate) stock: &'a Stock,
    pub(crate) plan: Plan,
    pub(crate) rng: Rng,
    pub(crate) guard: Guard,
    pub(crate) answers: Answers,
    pub(crate) tools: Tools,
    pub(crate) bill: Bill,
    pub(crate) cluster: Cluster,
    pub(crate) stand_ins: StandIns,
    pub(crate) owners: Owners,
    pub(crate) moderator: Moderator,
    pub(crate) aside: Aside,
    pub(crate) rivals: Rivals,
    /// The clock that never jumps.
    pub(crate) now: u64,
    wall: i64,
    /// What the plan foresaw, last first; never scanned.
    planned: Vec<(When, What)>,
    /// What came up since, last first; never long.
    ahead: Vec<(When, What)>,
    /// Some process stands still.
    stalled: bool,
    pub(crate) processes: Vec<Process>,
    pub(crate) runs: Vec<Run>,
    pub(crate) waiters: Vec<Waiter>,
    pub(crate) late: Vec<Option<Write>>,
    pub(crate) store: SimStore,
    pub(crate) provider: Provider,
    pub(crate) judge: Judge,
    pub(crate) unasked: Book,
    pub(crate) desk: Desk,
    pub(crate) coverage: Coverage,
    pub(crate) steps: u32,
    pub(crate) messages: u32,
    fresh: u128,
    pub(crate) mistake: Option<Wrapped>,
    log: Option<String>,
}

/// Writes a line of the log, if there is one; nothing is formatted otherwise.
macro_rules! note {
    ($world:expr, $($text:tt)*) => {
        if $world.is_logging() {
            let line = crate::world::written(format_args!($($text)*));
            $world.log_line(&line);
        }
    };
}
pub(crate) use note;

/// A line of the log. Hardly any schedule has one, so none of this stands in the others' way.
#[cold]
pub(crate) fn written(line: std::fmt::Arguments<'_>) -> String {
    line.to_string()
}

/// What one schedule came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Broken promises, in words; none if all is well.
    pub violations: Vec<String>,
    /// Inputs stepped.
    pub steps: u32,
    /// Different messages sent.
    pub messages: u32,
}

impl<'a> World<'a> {
    /// A world in which nothing happened yet.
    #[must_use]
    pub fn new(stock: &'a Stock) -> Self {
        let mut rng = Rng::new(0);
        let mut plan = Plan::draw(&mut rng);
        Self {
            stock,
            moderator: Moderator::new(0, &mut plan.policies),
            aside: Aside::new(0),
            rivals: Rivals::new(0),
            plan,
            rng,
            guard: Guard::new(0),
            answers: Answers::new(0),
            tools: Tools::new(0),
            bill: Bill::new(0),
            cluster: Cluster::new(0),
            stand_ins: StandIns::new(0),
            owners: Owners::new(0, false),
            now: 0,
            wall: WALL_MS,
            planned: Vec::new(),
            ahead: Vec::new(),
            stalled: false,
            processes: Vec::new(),
            runs: Vec::new(),
            waiters: Vec::new(),
            late: Vec::new(),
            store: SimStore::default(),
            provider: Provider::default(),
            judge: Judge::default(),
            unasked: Book::default(),
            desk: Desk::default(),
            coverage: Coverage::default(),
            steps: 0,
            messages: 0,
            fresh: 0,
            mistake: None,
            log: None,
        }
    }

    /// Plays the schedule of a seed.
    pub fn play(&mut self, seed: u64, mutant: Option<Mutant>) -> Verdict {
        self.begin(seed, mutant);
        self.open();
        let mut happened = 0;
        while let Some((when, what)) = self.take_next() {
            self.now = self.now.max(when.at());
            happened += 1;
            if happened > HAPPENINGS_MAX {
                self.judge.broken("I8", || "the schedule does not come to rest".to_owned());
                break;
            }
            self.happen(what);
            if self.judge.has_given_up() {
                break;
            }
        }
        self.judge_the_end();
        Verdict {
            violations: self.judge.take_violations(),
            steps: self.steps,
            messages: self.messages,
        }
    }

    /// Plays it and writes down what happened.
    pub fn play_logged(&mut self, seed: u64, mutant: Option<Mutant>) -> (Verdict, String) {
        self.log = Some(String::new());
        let verdict = self.play(seed, mutant);
        (verdict, self.log.take().unwrap_or_default())
    }

    /// Which branches were reached so far, over all schedules of this world.
    #[must_use]
    pub const fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    fn begin(&mut self, seed: u64, mutant: Option<Mutant>) {
        self.rng = Rng::new(seed);
        self.guard = Guard::new(seed);
        self.answers = Answers::new(seed);
        self.tools = Tools::new(seed);
        self.bill = Bill::new(seed);
        self.cluster = Cluster::new(seed);
        self.stand_ins = StandIns::new(seed);
        self.owners = Owners::new(seed, self.cluster.is_there());
        self.aside = Aside::new(seed);
        self.rivals = Rivals::new(seed);
        self.plan = Plan::draw(&mut self.rng);
        queue::switch(seed, &mut self.plan.policies);
        operators::limits(seed, &mut self.plan.policies, &self.stock.shown);
        self.moderator = Moderator::new(seed, &mut self.plan.policies);
        self.bill.limit(&mut self.plan.policies);
        self.now = 0;
        self.wall = WALL_MS;
        self.planned.clear();
        self.ahead.clear();
        self.stalled = false;
        self.processes.clear();
        self.runs.clear();
        self.waiters.clear();
        self.late.clear();
        plant(mutant);
        self.mistake = mutant.and_then(Mutant::wrapped);
        self.store.clear(self.mistake);
        self.provider.clear();
        self.judge.clear();
        self.unasked.clear();
        self.desk.clear();
        self.steps = 0;
        self.messages = 0;
        self.fresh = u128::from(seed) << 64;
        let acts = self.plan.acts.iter().map(|(at, session, act)| (*at, What::Act(*session, *act)));
        let faults = self.plan.faults.iter().map(|(at, fault)| (*at, What::Fault(*fault)));
        for (at, what) in acts.chain(faults) {
            let order = self.rng.next();
            self.planned.push((When::new(at, order), what));
        }
        let planned = &mut self.planned;
        unasked::acts(seed, |at, order, seat, act| {
            planned.push((When::new(at, order), What::Act(seat, act)));
        });
        operators::acts(seed, |at, order, seat, act| {
            planned.push((When::new(at, order), What::Act(seat, act)));
        });
        if self.cluster.is_there() {
            let calm = self.plan.is_calm();
            self.cluster.acts(calm, |at, order, what| {
                planned.push((When::new(at, order), what));
            });
        }
        self.planned.sort_unstable_by_key(|(when, _)| std::cmp::Reverse(*when));
        if self.is_logging() {
            let plan = format!("{:#?}", self.plan);
            self.log_line(&plan);
        }
    }

    fn happen(&mut self, what: What) {
        if self.stalled
            && let Some(until) = self.stalled_until(&what)
        {
            let at = until + self.rng.below(5);
            return self.schedule(at - self.now, what);
        }
        note!(self, "{what:?}");
        match what {
            What::Act(session, act) => self.person_acts(session, act),
            What::Fault(fault) => self.fault(fault),
            What::Boot => self.boot(),
            What::Join(runs) => self.join(runs),
            What::Beat(process) => self.beat(process),
            What::Look(process, due) => self.look_out(process, due),
            What::RunHere(process, seat) => self.runs_here(process, seat),
            What::StepBack(process) => self.steps_back(process),
            What::Own(process) => self.asks_to_own(process),
            What::PutOut(by, whom) => self.puts_out(by, whom),
            What::Cut(millis) => self.cut(millis),
            What::Hint(seat, tend) => self.hint(seat, tend),
            What::Exit(process) => self.exit(process),
            What::Drive(process, seat) => {
                let taken = &mut self.processes[process].seats[seat];
                (taken.drive_queued, taken.paused) = (false, false);
                self.drive(process, seat);
            }
            What::Stored(process, seat) => self.stored(process, seat),
            What::LateCommit(index) => self.land_late(index),
            What::Timer(process, seat, serial, wake) => self.timer(process, seat, serial, wake),
            What::Agent(run) => self.agent_step(run),
            What::Watch(run) => self.watch(run),
            What::Choose(run, question, choice) => self.choose(run, question, choice),
            What::Sent(process, seat, serial) => self.delivery_ends(process, seat, serial),
            What::Grant(process, seat, turn) => self.granted(process, seat, turn),
            What::Ruled(process, seat, seq, ruling) => self.ruled(process, seat, seq, ruling),
            What::Due(process, seat) => {
                if self.may_tend(process, seat) {
                    self.tend(process, seat);
                }
            }
            What::Sweep(seat) => self.sweep(seat),
            What::Rival(index) => self.rival_acts(index),
        }
    }

    /// What belongs to a process that stands still happens once it goes on.
    fn stalled_until(&self, what: &What) -> Option<u64> {
        let process = match what {
            What::Drive(process, _)
            | What::Stored(process, _)
            | What::Timer(process, ..)
            | What::Sent(process, ..)
            | What::Grant(process, ..)
            | What::Ruled(process, ..)
            | What::Beat(process)
            | What::Look(process, _)
            | What::RunHere(process, _)
            | What::StepBack(process)
            | What::Own(process)
            | What::PutOut(process, _)
            | What::Due(process, _) => *process,
            What::Agent(run) | What::Watch(run) | What::Choose(run, ..) => self.runs[*run].process,
            _ => return None,
        };
        let until = self.processes[process].stalled_until;
        (until > self.now).then_some(until)
    }

    /// Something happens after so many milliseconds; among equals the seed decides who is first.
    pub(crate) fn schedule(&mut self, after: u64, what: What) {
        let order = self.rng.next();
        self.foresee(after, order, what);
    }

    /// The same where its source decides who is first.
    pub(crate) fn foresee(&mut self, after: u64, order: u64, what: What) {
        let when = When::new(self.now + after, order);
        // Nearly everything is near, so its place is near the end.
        let later = self.ahead.iter().rposition(|(other, _)| *other > when);
        self.ahead.insert(later.map_or(0, |at| at + 1), (when, what));
    }

    fn take_next(&mut self) -> Option<(When, What)> {
        match (self.ahead.last(), self.planned.last()) {
            (Some((first, _)), Some((planned, _))) if planned < first => self.planned.pop(),
            (Some(_), _) => self.ahead.pop(),
            (None, _) => self.planned.pop(),
        }
    }

    /// A process stands still until then.
    pub(crate) fn stall(&mut self, process: usize, until: u64) {
        self.processes[process].stalled_until = until;
        self.stalled = true;
    }

    /// What a process takes for the time.
    pub(crate) fn wall_of(&self, process: usize) -> i64 {
        let skew = self.processes[process].member.skew;
        self.wall.saturating_add_unsigned(self.now).saturating_add(skew)
    }

    pub(crate) fn jump(&mut self, by: i64) {
        self.wall += by;
    }

    /// Faults may still happen.
    pub(crate) const fn is_wild(&self) -> bool {
        self.now < FAULTS_MS
    }

    /// Draws a fault of these odds, while there are any.
    pub(crate) fn strikes(&mut self, odds: u64) -> bool {
        odds > 0 && self.is_wild() && self.rng.permille(odds)
    }

    pub(crate) fn fresh_turn(&mut self) -> TurnId {
        self.fresh += 1;
        TurnId(Uuid::from_u128(self.fresh))
    }

    pub(crate) fn fresh_counter(&mut self) -> &mut u128 {
        &mut self.fresh
    }

    pub(crate) fn find_run(&self, process: usize, seat: usize, tag: RunTag) -> Option<usize> {
        self.runs.iter().rposition(|run| {
            run.process == process && run.seat == seat && run.tag == tag && run.is_live()
        })
    }

    pub(crate) const fn is_logging(&self) -> bool {
        self.log.is_some()
    }

    pub(crate) fn log_line(&mut self, line: &str) {
        use std::fmt::Write as _;
        let now = self.now;
        if let Some(log) = &mut self.log {
            // A String takes everything.
            let _ = writeln!(log, "{now:>9} {line}");
        }
    }
}
