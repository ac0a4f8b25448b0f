//! What a seed decides before its schedule begins: policies, people's acts and faults.

use std::sync::Arc;

use turnkeep_core::policy::{
    AmbiguousDelivery, BusyPolicy, ChannelFacts, WindowMode, channel_facts,
};
use turnkeep_core::{Policy, Trust};

use crate::rng::Rng;
use crate::stock::{MESSAGES, SESSIONS};

/// Faults happen before this; what comes later must drain.
pub const FAULTS_MS: u64 = 20_000;

/// One thing that a person does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Sends a prepared message.
    Send(usize),
    /// Sends it again under the same id.
    Again(usize),
    /// Sends another text under the same id.
    Forge(usize),
    /// Sends it without an id.
    Unnamed(usize),
    /// Types.
    Type,
    /// Presses stop: at whatever runs, at what runs now by its id, or at a turn that is gone.
    Stop(StopAt),
    /// Begins a new conversation.
    New,
    /// Closes the session.
    Close,
    /// Chooses a busy policy.
    SetBusy(Option<BusyPolicy>),
    /// Retries the oldest dead letter.
    Retry,
    /// Gives the oldest dead letter up.
    Discard,
    /// Sends a parked part again.
    Resend,
    /// Tells the customer something that nobody asked for.
    Notify(usize),
    /// The customer takes such messages, or takes none any more.
    OptIn(bool),
    /// An operator takes the agent's place.
    Pause(usize),
    /// An operator says something there.
    Reply(usize),
    /// An operator gives the place back.
    HandBack,
}

/// What a stop names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopAt {
    /// Nothing.
    Anything,
    /// The open turn.
    Open,
    /// Another turn.
    Other,
}

/// A fault of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies; another one is started after a while.
    Crash,
    /// The process stands still for so long; if told so, another one takes over meanwhile.
    Stall(u64, bool),
    /// The wall clock jumps.
    Jump(i64),
    /// The process is drained, then replaced.
    Drain,
    /// An idle session is dropped from memory.
    Evict,
}

/// A message whose turn always ends the same bad way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curse {
    /// None is.
    None,
    /// The agent fails on it every time.
    Doomed(usize, usize),
    /// It kills the process every time.
    Poisoned(usize, usize),
}

/// How often things go wrong, in a thousand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Odds {
    /// A commit reports an error; it landed, did not, or lands later.
    pub commit_error: u64,
    /// The process dies with a commit in flight.
    pub commit_crash: u64,
    /// A load fails.
    pub load_error: u64,
    /// A step of a run ends it badly.
    pub agent: u64,
    /// A delivery does not plainly succeed.
    pub delivery: u64,
    /// The process dies between two effects.
    pub effect_crash: u64,
}

/// A schedule's beginning.
#[derive(Debug)]
pub struct Plan {
    /// By session.
    pub policies: [Arc<Policy>; SESSIONS],
    /// By session and message.
    pub trust: [[Trust; MESSAGES]; SESSIONS],
    /// (when, session, what).
    pub acts: Vec<(u64, usize, Act)>,
    /// (when, what).
    pub faults: Vec<(u64, Fault)>,
    /// How often things go wrong.
    pub odds: Odds,
    /// A message that always ends badly.
    pub curse: Curse,
    /// The store takes so long for a commit, at most.
    pub store_ms: u64,
    /// An agent takes so long for a step, at most.
    pub agent_ms: u64,
}

impl Plan {
    /// Draws everything.
    pub fn draw(rng: &mut Rng) -> Self {
        // Whom a crash makes suspect is one setting of the whole process.
        let quarantine = u32::try_from(rng.between(1, 3)).unwrap_or(1);
        let policies = [draw_policy(rng, quarantine), draw_policy(rng, quarantine)];
        let trust = [draw_trust(rng), draw_trust(rng)];
        let calm = rng.permille(300);
        let (odds, faults) = if calm { (Odds::default(), Vec::new()) } else { draw_faults(rng) };
        let curse = match rng.below(40) {
            0 => Curse::Doomed(rng.index(SESSIONS), rng.index(4)),
            1 => Curse::Poisoned(rng.index(SESSIONS), rng.index(4)),
            _ => Curse::None,
        };
        Self {
            policies,
            trust,
            acts: draw_acts(rng),
            faults,
            odds,
            curse,
            store_ms: rng.pick(&[0, 2, 20, 400]),
            agent_ms: rng.pick(&[5, 100, 1500]),
        }
    }
}

impl Plan {
    /// Nothing goes wrong.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        let Odds { commit_error, commit_crash, load_error, agent, delivery, effect_crash } =
            self.odds;
        let odds = commit_error + commit_crash + load_error + agent + delivery + effect_crash;
        self.faults.is_empty() && odds == 0 && self.curse == Curse::None
    }

    /// The clock does not jump.
    #[must_use]
    pub fn is_steady(&self) -> bool {
        !self.faults.iter().any(|(_, fault)| matches!(fault, Fault::Jump(_)))
    }
}

const BUSY: [BusyPolicy; 6] = [
    BusyPolicy::Absorb,
    BusyPolicy::Supersede,
    BusyPolicy::Collect,
    BusyPolicy::Queue,
    BusyPolicy::Reject,
    BusyPolicy::Agent,
];

fn draw_policy(rng: &mut Rng, quarantine: u32) -> Arc<Policy> {
    let facts = draw_facts(rng);
    let small =
        |rng: &mut Rng, low: u64, high: u64| u32::try_from(rng.between(low, high)).unwrap_or(1);
    Arc::new(Policy {
        busy: rng.pick(&BUSY),
        window_mode: rng.pick(&[WindowMode::Adaptive, WindowMode::Fixed, WindowMode::Off]),
        window_ms: if rng.permille(400) { 0 } else { small(rng, 200, 1500) },
        window_total_ms: rng.pick(&[1500, 5000]),
        inbox_max: if rng.permille(250) { small(rng, 1, 4) } else { 100 },
        queue_ttl_ms: if rng.permille(200) { rng.between(500, 5000) } else { 0 },
        absorbed_max: if rng.permille(250) { small(rng, 0, 2) } else { 50 },
        supersedes_max: small(rng, 1, 3),
        errors_max: small(rng, 1, 3),
        error_backoff_ms: rng.pick(&[1, 100, 900]),
        recoveries_quarantine: quarantine,
        recoveries_max: quarantine + small(rng, 1, 4),
        question_ms: rng.pick(&[200, 3000]),
        input_ms: rng.pick(&[2000, 60_000, 24 * 3_600_000]),
        notice_quiet_ms: rng.pick(&[0, 60_000]),
        delivery_tries_max: small(rng, 1, 4),
        delivery_backoff_ms: rng.pick(&[50, 1000]),
        ambiguous: rng.pick(&[
            AmbiguousDelivery::Resend,
            AmbiguousDelivery::Hold,
            AmbiguousDelivery::Dead,
        ]),
        turn_ms: 20_000,
        silence_ms: 5000,
        reply_bytes_max: 60,
        ..Policy::built_in(facts)
    })
}

fn draw_facts(rng: &mut Rng) -> ChannelFacts {
    // Any row will do: every fact that the rules read is drawn anew.
    let base = channel_facts("signal").copied().unwrap_or(turnkeep_core::policy::CHANNELS[0]);
    ChannelFacts {
        pull: rng.permille(350),
        chars_max: if rng.permille(500) { Some(14) } else { None },
        markdown: rng.permille(800),
        out_per_minute: rng.pick(&[None, None, Some(60), Some(10)]),
        deduplicates: rng.permille(500),
        reopens: rng.permille(700),
        ..base
    }
}

fn draw_trust(rng: &mut Rng) -> [Trust; MESSAGES] {
    let usual = rng.pick(&[Trust::Public, Trust::Owner]);
    let mixed = rng.permille(350);
    std::array::from_fn(|_| if mixed && rng.permille(300) { Trust::Inner } else { usual })
}

fn draw_faults(rng: &mut Rng) -> (Odds, Vec<(u64, Fault)>) {
    let mut one = |odds: &[u64]| rng.pick(odds);
    let odds = Odds {
        commit_error: one(&[0, 0, 40, 150]),
        commit_crash: one(&[0, 0, 20, 80]),
        load_error: one(&[0, 0, 150]),
        agent: one(&[0, 60, 250]),
        delivery: one(&[0, 200, 500]),
        effect_crash: one(&[0, 0, 15]),
    };
    let count = rng.below(4);
    let faults = (0..count).map(|_| (rng.below(FAULTS_MS / 2), draw_fault(rng))).collect();
    (odds, faults)
}

fn draw_fault(rng: &mut Rng) -> Fault {
    match rng.below(12) {
        0..=3 => Fault::Crash,
        4..=6 => {
            let takeover = rng.permille(800);
            Fault::Stall(rng.between(50, 6000), takeover)
        }
        7..=8 => {
            Fault::Jump(rng.pick(&[-86_400_000, -3_600_000, -900, 900, 3_600_000, 86_400_000]))
        }
        9 => Fault::Drain,
        _ => Fault::Evict,
    }
}

fn draw_acts(rng: &mut Rng) -> Vec<(u64, usize, Act)> {
    let mut acts = Vec::with_capacity(24);
    let pause = rng.pick(&[30, 400, 1500]);
    let mut at = [0_u64; SESSIONS];
    let mut sent = [0_usize; SESSIONS];
    let messages = rng.between(7, 12);
    for _ in 0..messages {
        let session = rng.index(SESSIONS);
        if sent[session] == MESSAGES {
            continue;
        }
        at[session] += rng.below(pause) * if rng.permille(250) { 6 } else { 1 };
        let number = sent[session];
        sent[session] += 1;
        let act = if rng.permille(60) { Act::Unnamed(number) } else { Act::Send(number) };
        acts.push((at[session], session, act));
        if rng.permille(700) {
            acts.push((at[session] + rng.below(3000), session, draw_other(rng, number)));
        }
    }
    acts
}

fn draw_other(rng: &mut Rng, number: usize) -> Act {
    match rng.below(20) {
        0..=3 => Act::Again(number),
        4 => Act::Forge(number),
        5..=6 => Act::Type,
        7..=10 => {
            Act::Stop(rng.pick(&[StopAt::Anything, StopAt::Open, StopAt::Open, StopAt::Other]))
        }
        11 => Act::New,
        12 => Act::Close,
        13 => Act::SetBusy(if rng.permille(800) { Some(rng.pick(&BUSY)) } else { None }),
        14..=16 => Act::Retry,
        17 => Act::Discard,
        _ => Act::Resend,
    }
}
