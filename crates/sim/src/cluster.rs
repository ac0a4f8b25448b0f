//! Several nodes at once: in some schedules two or three processes have the store open, each sees the
//! others as they were a while ago, and whoever gives no sign is put out. People speak to any of
//! them. It is drawn from a source of its own, so a schedule without it is what it was before.
//!
//! What the shell that ships does every quarter of a second happens here where there is something to
//! find, at any moment of such a time, so that a schedule can come to rest.

use turnkeep_core::Epoch;
use turnkeep_core::ports::store::Holder;

use crate::mutants::Wrapped;
use crate::nodes::{ANYBODY, View};
use crate::plan::FAULTS_MS;
use crate::rng::Rng;
use crate::shell::Process;
use crate::stock::SESSIONS;
use crate::world::{What, World, note};

/// Tells its source from that of everything else. With this number no seed on record has any of
/// it, so each of them still shows what it once showed.
const OWN: u64 = 49 << 35;
/// A node shows that it lives, and sees who else does, once in so long.
const BEAT_MS: u64 = 1000;
/// It asks what others did once in so long, or sooner where somebody says that there is something.
const LOOK_MS: [u64; 2] = [250, 3];
/// It asks what nobody has once in so long.
const ROUND_MS: u64 = 10_000;

/// How the nodes of a schedule are.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) rng: Rng,
    /// For each whether it runs turns; empty where one process follows the other.
    roles: Vec<bool>,
    /// Whoever gives no sign for so long is put out.
    timeout_ms: u64,
    /// So soon a node sees what others did, at most.
    look_ms: u64,
    /// Their clocks differ.
    skewed: bool,
    /// Attempts that began anywhere.
    pub(crate) starts: u32,
}

impl Cluster {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ OWN);
        let mut roles = Vec::new();
        if rng.permille(200) {
            // Somebody runs turns.
            let others = rng.between(1, 2);
            roles.extend((0..=others).map(|node| node == 0 || !rng.permille(300)));
        }
        let (timeout_ms, look_ms) = (rng.pick(&[700, 2500]), rng.pick(&LOOK_MS));
        let skewed = rng.permille(250);
        Self { rng, roles, timeout_ms, look_ms, skewed, starts: 0 }
    }

    pub(crate) const fn is_there(&self) -> bool {
        !self.roles.is_empty()
    }

    /// All nodes know the same time.
    pub(crate) const fn is_steady(&self) -> bool {
        !self.is_there() || !self.skewed
    }

    /// What comes up without anybody's doing: looks at sessions that nobody asked for, and nodes that
    /// don't reach the store for a while, where anything goes wrong at all.
    pub(crate) fn acts(&mut self, calm: bool, mut act: impl FnMut(u64, u64, What)) {
        let rng = &mut self.rng;
        for _ in 0..rng.below(8) {
            let (at, seat, tend) = (rng.below(12_000), rng.index(SESSIONS), rng.permille(500));
            act(at, rng.next(), What::Hint(seat, tend));
        }
        for _ in 0..if calm { 0 } else { rng.below(3) } {
            let (at, millis) = (rng.below(FAULTS_MS / 2), rng.between(300, 6000));
            act(at, rng.next(), What::Cut(millis));
        }
    }

    fn slowness(&mut self) -> u64 {
        self.rng.pick(&[0, 0, 0, 0, 1500])
    }

    fn skew(&mut self) -> i64 {
        if self.skewed { self.rng.pick(&[0, -700, 900, 3_600_000]) } else { 0 }
    }
}

/// A process as a node of the cluster.
#[derive(Debug)]
pub(crate) struct Member {
    /// Turns run there.
    pub(crate) runs: bool,
    /// The number under which it runs some although it runs none, and whether it ever did.
    pub(crate) second: Option<Epoch>,
    pub(crate) stands_in: bool,
    /// It has the lease of the channel with one owner, as far as it knows.
    pub(crate) owns: bool,
    /// It knows that somebody has it, or had it once.
    pub(crate) heard: bool,
    /// How it saw the others last.
    view: View,
    /// It knows that it was put out.
    pub(crate) fenced: bool,
    /// It does not reach the store until then.
    cut_until: u64,
    /// Since when it gave no sign, if it gives none.
    silent_since: u64,
    /// What it was told may be lost.
    doubts: bool,
    /// It is going to ask what nobody has.
    round_due: bool,
    /// What it looks at and is going to cross out: a planted mistake.
    noted: Vec<usize>,
    /// So much its clock is ahead.
    pub(crate) skew: i64,
    /// The store takes so much longer to answer it, at most.
    pub(crate) slow_ms: u64,
}

impl Member {
    /// The only one.
    pub(crate) fn alone() -> Self {
        Self {
            runs: true,
            second: None,
            stands_in: false,
            owns: false,
            heard: false,
            view: View::default(),
            fenced: false,
            cut_until: 0,
            silent_since: 0,
            doubts: false,
            round_due: false,
            noted: Vec::new(),
            skew: 0,
            slow_ms: 0,
        }
    }
}

impl World<'_> {
    /// The first processes are started.
    pub(crate) fn open(&mut self) {
        if !self.cluster.is_there() {
            return self.boot();
        }
        for runs in self.cluster.roles.clone() {
            self.join(runs);
        }
    }

    /// A node comes.
    pub(crate) fn join(&mut self, runs: bool) {
        let epoch = self.store.open();
        self.store.nodes.enter(epoch, runs);
        let view = self.store.nodes.seen_by(epoch);
        let (skew, slow_ms) = (self.cluster.skew(), self.cluster.slowness());
        let heard = self.owners.are_known();
        let member = Member { runs, view, skew, slow_ms, heard, ..Member::alone() };
        let process = self.admit(epoch, member);
        note!(self, "it runs turns: {runs}; its clock is {skew} ahead");
        self.take_up(process);
        self.others_change();
        self.will_ask(process);
        for whom in 0..process {
            if self.store.nodes.is_in(self.processes[whom].epoch) && self.is_silent(whom) {
                self.suspect(process, whom);
            }
        }
    }

    /// One comes in the place of another that is gone.
    pub(crate) fn comes_back(&mut self, process: usize) {
        let runs = self.processes[process].member.runs;
        let rng = &mut self.cluster.rng;
        let after =
            if rng.permille(250) { rng.between(3000, 12_000) } else { rng.between(1, 3000) };
        self.schedule(after, What::Join(runs));
    }

    /// Who is spoken to, or whom something happens to: any of those that live.
    pub(crate) fn any_node(&mut self) -> Option<usize> {
        let now = self.now;
        let able = |(_, taken): &(usize, &Process)| {
            taken.alive && !taken.draining && taken.stalled_until <= now
        };
        let mut able = self.processes.iter().enumerate().filter(able);
        let count = able.clone().count();
        let chosen = (count > 0).then(|| self.cluster.rng.index(count))?;
        able.nth(chosen).map(|(process, _)| process)
    }

    /// Whether what the store says is open is this process's to look after.
    pub(crate) fn may_tend(&self, process: usize, seat: usize) -> bool {
        if !self.cluster.is_there() {
            return true;
        }
        let Some(taken) = self.processes.get(process) else { return false };
        let written = self.store.rows[seat].session.epoch;
        if taken.member.second == Some(written.node()) {
            return true;
        }
        let theirs = written.node() != taken.epoch && self.store.nodes.has_runner(written);
        let ours = written.node() == taken.epoch || !self.is_elsewhere(process, seat);
        taken.member.runs && !theirs && ours
    }

    /// Everybody looks through what the store says is due.
    pub(crate) fn all_sweep(&mut self, seat: usize) {
        let mut swept = false;
        for process in 0..self.processes.len() {
            let taken = &self.processes[process];
            if taken.alive && !taken.draining && self.may_tend(process, seat) {
                let after = self.cluster.rng.below(50);
                self.schedule(after, What::Due(process, seat));
                swept = true;
            }
        }
        if !swept && self.is_left(seat) {
            self.schedule(BEAT_MS, What::Sweep(seat));
        }
    }

    fn is_left(&self, seat: usize) -> bool {
        let row = &self.store.rows[seat];
        row.wake_at.is_some() && !self.store.nodes.has_runner(row.session.epoch)
    }

    /// Who has what stands under an epoch, as this process knows it.
    pub(crate) fn holder(&self, process: usize, epoch: Epoch) -> Holder {
        let taken = &self.processes[process];
        if !self.cluster.is_there() {
            return match epoch.cmp(&taken.epoch) {
                std::cmp::Ordering::Less => Holder::Nobody,
                std::cmp::Ordering::Equal => Holder::Us,
                std::cmp::Ordering::Greater => Holder::Later,
            };
        }
        if taken.member.fenced {
            return Holder::Later;
        }
        if taken.member.second == Some(epoch.node()) {
            return Holder::Us;
        }
        let forgotten = self.mistake == Some(Wrapped::NewcomerGone);
        let later = if forgotten { Holder::Nobody } else { Holder::Another };
        taken.member.view.holder(taken.epoch, epoch, later)
    }

    /// It can't reach the store just now.
    pub(crate) fn is_cut(&self, process: usize) -> bool {
        self.processes[process].member.cut_until > self.now
    }

    /// The gate: whoever was put out gets nothing through any more, and learns that by it.
    pub(crate) fn is_turned_away(&mut self, process: usize) -> bool {
        if !self.cluster.is_there() || self.store.nodes.is_in(self.processes[process].epoch) {
            return false;
        }
        if self.mistake == Some(Wrapped::GateOpen) {
            return false;
        }
        self.fence(process);
        true
    }

    fn fence(&mut self, process: usize) {
        let taken = &mut self.processes[process];
        if taken.alive && !std::mem::replace(&mut taken.member.fenced, true) {
            note!(self, "process {process} knows that it was put out");
            let after = self.cluster.rng.below(300);
            self.schedule(after, What::Exit(process));
        }
    }

    /// A drained process, or one that was put out, ends.
    pub(crate) fn exit(&mut self, process: usize) {
        if !self.cluster.is_there() {
            return self.crash(process);
        }
        let taken = &self.processes[process];
        if !taken.alive {
            return;
        }
        if taken.draining && self.store.nodes.put_out(taken.epoch) {
            self.others_change();
            self.lease_is_free();
        }
        self.crash(process);
        self.comes_back(process);
    }

    /// Others see soon who is there.
    pub(crate) fn others_change(&mut self) {
        for process in 0..self.processes.len() {
            if self.processes[process].alive {
                let after = self.cluster.rng.below(BEAT_MS);
                self.schedule(after, What::Beat(process));
            }
        }
    }

    /// A node shows that it lives, and sees who else does.
    pub(crate) fn beat(&mut self, process: usize) {
        let Some(taken) = self.processes.get(process).filter(|taken| taken.alive) else { return };
        let (epoch, cut_until) = (taken.epoch, taken.member.cut_until);
        if cut_until > self.now {
            return self.schedule(cut_until - self.now + 1, What::Beat(process));
        }
        if !self.store.nodes.is_in(epoch) {
            if self.mistake != Some(Wrapped::GateOpen) {
                self.fence(process);
            }
            return;
        }
        let view = self.store.nodes.seen_by(epoch);
        self.hears_of_owner(process);
        let before = std::mem::replace(&mut self.processes[process].member.view, view);
        if self.processes[process].member.view.differs(&before) {
            let after = self.cluster.rng.below(self.cluster.look_ms);
            self.schedule(after, What::Look(process, true));
        }
    }

    /// It gives no sign from now on; others may hold it for gone.
    pub(crate) fn falls_silent(&mut self, process: usize) {
        self.processes[process].member.silent_since = self.now;
        for by in 0..self.processes.len() {
            if by != process && self.processes[by].alive {
                self.suspect(by, process);
            }
        }
    }

    fn suspect(&mut self, by: usize, whom: usize) {
        let after = self.cluster.timeout_ms + self.cluster.rng.below(BEAT_MS);
        self.schedule(after, What::PutOut(by, whom));
    }

    fn is_silent(&self, process: usize) -> bool {
        let taken = &self.processes[process];
        !taken.alive || taken.stalled_until > self.now || self.is_cut(process)
    }

    /// One puts another out, if that one gave no sign all the while.
    pub(crate) fn puts_out(&mut self, by: usize, whom: usize) {
        if !self.processes[by].alive {
            return;
        }
        if self.is_cut(by) {
            return self.suspect(by, whom);
        }
        let since = self.processes[whom].member.silent_since;
        let (one, other) = (self.processes[by].epoch, self.processes[whom].epoch);
        let silent = self.is_silent(whom) && self.now >= since + self.cluster.timeout_ms;
        if silent && self.store.nodes.is_in(one) && self.store.nodes.put_out(other) {
            note!(self, "process {by} puts process {whom} out");
            self.others_change();
            self.lease_is_free();
            self.rounds();
        }
    }

    /// A node does not reach the store for so long.
    pub(crate) fn cut(&mut self, millis: u64) {
        let Some(process) = self.any_node() else { return };
        note!(self, "process {process} does not reach the store");
        self.processes[process].member.cut_until = self.now + millis;
        self.falls_silent(process);
    }

    /// Looks that nobody asked for, or that come late, or twice.
    pub(crate) fn hint(&mut self, seat: usize, tend: bool) {
        let Some(process) = self.any_node() else { return };
        note!(self, "process {process} is told to look at {seat}");
        if tend {
            self.tend(process, seat);
        } else {
            self.look_at(process, seat);
        }
    }

    /// What a commit of a node tells others; `stood` says what was told when it began.
    pub(crate) fn knock(&mut self, process: usize, seat: usize, stood: bool) {
        let row = &self.store.rows[seat];
        let (written, open) = (row.session.epoch, row.wake_at.is_some());
        let own = self.processes[process].epoch;
        let Some(door) = self.store.nodes.door(own, written, open) else { return };
        match self.mistake {
            Some(Wrapped::KnocksForgotten) => return,
            // It added nothing to what it saw there, which is answered meanwhile.
            Some(Wrapped::KnockKept) if stood => return,
            _ => self.store.nodes.knock(door, seat),
        }
        for process in 0..self.processes.len() {
            let taken = &self.processes[process];
            let theirs = taken.epoch == door || taken.member.second == Some(door);
            let told = theirs || (door == ANYBODY && taken.member.runs);
            if taken.alive && told {
                let after = self.cluster.rng.below(self.cluster.look_ms);
                self.schedule(after, What::Look(process, false));
            }
        }
        if door == ANYBODY {
            self.hand_over(process, seat);
        }
        if self.is_left(seat) {
            self.rounds();
        }
    }

    /// Whether somebody is told already of what a commit is going to tell.
    pub(crate) fn stands_told(&self, process: usize, seat: usize, written: Epoch) -> bool {
        let own = self.processes[process].epoch;
        let door = self.store.nodes.door(own, written, true);
        door.is_some_and(|door| self.store.nodes.is_told(door, seat))
    }

    /// Whoever runs turns asks what nobody has.
    pub(crate) fn rounds(&mut self) {
        for process in 0..self.processes.len() {
            let taken = &mut self.processes[process];
            let asks = taken.alive && taken.member.runs;
            if asks && !std::mem::replace(&mut taken.member.round_due, true) {
                let after = self.cluster.rng.below(ROUND_MS);
                self.schedule(after, What::Look(process, true));
            }
        }
    }

    /// A node asks what others did, and now and then what nobody has.
    pub(crate) fn look_out(&mut self, process: usize, due: bool) {
        let taken = &self.processes[process];
        if !taken.alive || taken.draining || taken.member.fenced {
            return;
        }
        let (epoch, runs, leaves) = (taken.epoch, taken.member.runs, self.leaves(process));
        if self.is_cut(process) || self.strikes(self.plan.odds.load_error) {
            // What it was told may be gone with the answer.
            if !self.is_cut(process) && self.cluster.rng.permille(300) {
                self.store.nodes.answer(epoch, runs, leaves);
                self.processes[process].member.doubts = true;
                self.rounds();
            }
            return self.schedule(LOOK_MS[0], What::Look(process, due));
        }
        let mut seats = self.told(process);
        if !seats.is_empty() && self.strikes(self.plan.odds.effect_crash * 4) {
            return self.crash_now(process);
        }
        if std::mem::take(&mut self.processes[process].member.doubts) {
            seats = (0..SESSIONS).collect();
        }
        if due && runs {
            self.processes[process].member.round_due = false;
            if self.mistake != Some(Wrapped::LeftBehindForgotten) {
                seats.extend((0..SESSIONS).filter(|seat| self.is_left(*seat) && !leaves[*seat]));
            }
        }
        for seat in seats {
            self.look_at(process, seat);
        }
        if due && (0..SESSIONS).any(|seat| self.is_left(seat)) {
            self.rounds();
        }
    }

    fn told(&mut self, process: usize) -> Vec<usize> {
        let (taken, leaves) = (&self.processes[process], self.leaves(process));
        let (epoch, runs) = (taken.epoch, taken.member.runs);
        if self.mistake != Some(Wrapped::KnocksClearedLate) {
            return self.store.nodes.answer(epoch, runs, leaves);
        }
        // What it looked at is crossed out at its next look, whatever came since.
        let noted = std::mem::take(&mut self.processes[process].member.noted);
        let told = self.store.nodes.answer(epoch, runs, leaves);
        let told: Vec<usize> = told.into_iter().filter(|seat| !noted.contains(seat)).collect();
        self.processes[process].member.noted.clone_from(&told);
        told
    }

    fn look_at(&mut self, process: usize, seat: usize) {
        if self.processes[process].alive {
            self.driver(process, seat).look();
            self.drive(process, seat);
        }
    }
}
