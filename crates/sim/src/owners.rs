//! Channels with one owner: in some schedules of a cluster one session or both are of a channel that
//! one node has at a time, by a lease that it keeps until it ends or is put out. Only that one runs
//! their turns and sends; the others step them for it. Where nobody ever had the lease, as far as a
//! node knows, it runs them as it runs any. All of it is drawn from a source of its own, so a
//! schedule without it is what it was before.
//!
//! What the shell that ships asks every second is asked here where the answer may be another one.

use std::array::from_fn;

use turnkeep_core::Epoch;

use crate::mutants::Wrapped;
use crate::rng::Rng;
use crate::shell::Process;
use crate::stock::SESSIONS;
use crate::world::{What, World, note};

/// Tells its source from that of everything else. With this number no seed on record has any of it,
/// nor has any that finds a mistake which hides for long.
const OWN: u64 = 11 << 39;
/// So long a node that came does not ask for the lease, at most: for so long nobody may have it.
const FIRST_MS: [u64; 3] = [300, 4000, 15_000];
/// The pause before a lease is asked for again.
const AGAIN_MS: u64 = 1000;
/// No number is greater: nobody ever had the lease.
const UNHEARD: Epoch = Epoch(u64::MAX);

/// Which sessions have an owner, and who it is.
#[derive(Debug)]
pub(crate) struct Owners {
    rng: Rng,
    /// Sessions of that channel.
    owned: [bool; SESSIONS],
    first_ms: u64,
    /// Nodes up to this number came before anybody ever had the lease, and may not know that somebody
    /// has it now.
    unaware: Epoch,
    /// Who has the lease, or had it last.
    lease: Option<Epoch>,
}

impl Owners {
    pub(crate) fn new(seed: u64, several: bool) -> Self {
        let mut rng = Rng::new(seed ^ OWN);
        let (mut owned, mut first_ms, mut unaware) = ([false; SESSIONS], 0, Epoch(0));
        if several && rng.permille(300) {
            owned = rng.pick(&[[true, false], [false, true], [true, true]]);
            first_ms = rng.pick(&FIRST_MS);
            unaware = rng.pick(&[Epoch(0), Epoch(0), UNHEARD]);
        }
        Self { rng, owned, first_ms, unaware, lease: None }
    }

    fn are_there(&self) -> bool {
        self.owned.contains(&true)
    }

    pub(crate) const fn has(&self, seat: usize) -> bool {
        self.owned[seat]
    }

    /// Somebody has the lease, or had it once.
    pub(crate) fn are_known(&self) -> bool {
        self.unaware != UNHEARD
    }

    /// Whether a node may run what has an owner, by the lease, or because it may not know of it.
    pub(crate) fn lets(&self, epoch: Epoch) -> bool {
        self.lease == Some(epoch) || epoch <= self.unaware
    }
}

impl World<'_> {
    /// Only who owns this session's channel runs it, and as far as this process knows that is another
    /// one.
    pub(crate) fn is_elsewhere(&self, process: usize, seat: usize) -> bool {
        let member = &self.processes[process].member;
        self.is_owned(process, seat) && !member.owns && self.mistake != Some(Wrapped::OwnerIgnored)
    }

    /// Only one node runs this session, as far as this one knows.
    pub(crate) fn is_owned(&self, process: usize, seat: usize) -> bool {
        self.owners.owned[seat] && self.processes[process].member.heard
    }

    /// A node sees whether anybody ever had the lease. What rests there may leave memory any time, and
    /// when it comes back it is the owner's.
    pub(crate) fn hears_of_owner(&mut self, process: usize) {
        let known = self.owners.are_known();
        let knew = std::mem::replace(&mut self.processes[process].member.heard, known);
        if !known || knew {
            return;
        }
        for seat in 0..SESSIONS {
            if self.is_elsewhere(process, seat) {
                self.leaves_memory(process, seat);
            }
        }
    }

    /// A session of others is this node's to run by now.
    pub(crate) fn renew(&mut self, process: usize, seat: usize) {
        let Process { epoch, member, seats, .. } = &mut self.processes[process];
        if member.owns && self.mistake != Some(Wrapped::GuestForGood) {
            seats[seat].of_others = false;
            if let Some(driver) = &mut seats[seat].driver {
                driver.may_run(*epoch);
            }
        }
    }

    /// What this process leaves where it is offered.
    pub(crate) fn leaves(&self, process: usize) -> [bool; SESSIONS] {
        from_fn(|seat| self.is_elsewhere(process, seat))
    }

    /// A node that runs turns came: it asks for the lease.
    pub(crate) fn will_ask(&mut self, process: usize) {
        if self.owners.are_there() && self.processes[process].member.runs {
            self.asks_within(process, self.owners.first_ms);
        }
    }

    fn asks_within(&mut self, process: usize, millis: u64) {
        let rng = &mut self.owners.rng;
        let (after, order) = (rng.below(millis), rng.next());
        self.foresee(after, order, What::Own(process));
    }

    /// Somebody is gone: if it had the lease, the others ask for it.
    pub(crate) fn lease_is_free(&mut self) {
        let nodes = &self.store.nodes;
        if self.owners.lease.take_if(|owner| !nodes.is_in(*owner)).is_none() {
            return;
        }
        for process in 0..self.processes.len() {
            let taken = &self.processes[process];
            if taken.alive && taken.member.runs {
                self.asks_within(process, AGAIN_MS);
            }
        }
    }

    /// A node asks for the lease. Once it has it, it looks at what is offered, which is whatever is open,
    /// also what it stepped for others before.
    pub(crate) fn asks_to_own(&mut self, process: usize) {
        let taken = &self.processes[process];
        if !taken.alive || taken.draining || taken.member.fenced || taken.member.owns {
            return;
        }
        let epoch = taken.epoch;
        if self.is_cut(process) {
            return self.asks_within(process, AGAIN_MS);
        }
        let others = self.owners.lease.is_some_and(|owner| owner != epoch);
        if self.is_turned_away(process) || others {
            return;
        }
        self.owners.lease = Some(epoch);
        if !self.owners.are_known() {
            let newest = self.processes.last().map_or(epoch, |newest| newest.epoch);
            self.owners.unaware = newest;
            // Others see soon that there is one.
            self.others_change();
        }
        if self.strikes(self.plan.odds.load_error) {
            // It has it, and was not told.
            return self.asks_within(process, AGAIN_MS);
        }
        note!(self, "process {process} owns the channel now");
        self.processes[process].member.owns = true;
        let after = self.owners.rng.below(FIRST_MS[0]);
        self.schedule(after, What::Look(process, false));
        self.rounds();
    }
}

#[cfg(test)]
mod tests {
    use crate::stock::Stock;

    use super::*;

    #[test]
    fn only_where_there_are_several_nodes_has_a_channel_an_owner() {
        let none = |seed| !Owners::new(seed, false).are_there();
        assert!((0..2000).all(none));
        let some = (0..2000).filter(|seed| Owners::new(*seed, true).are_there()).count();
        assert!((500..700).contains(&some), "{some}");
    }

    /// Nor is that one always the first, or the only one that could be.
    #[test]
    fn in_the_end_somebody_who_is_in_owns_it() {
        let stock = Stock::prepare().unwrap();
        let mut world = World::new(&stock);
        let (mut owned, mut moved, mut guests) = (0, 0, 0);
        for seed in 0..600 {
            let verdict = world.play(seed, None);
            assert_eq!(verdict.violations, [""; 0], "seed {seed}");
            if !world.owners.are_there() {
                continue;
            }
            let owner = world.owners.lease.filter(|owner| world.store.nodes.is_in(*owner));
            let theirs = world.processes.iter().filter(|taken| taken.member.owns);
            let known = theirs.clone().any(|taken| Some(taken.epoch) == owner && taken.alive);
            assert!(known, "seed {seed}: {owner:?}");
            owned += 1;
            moved += usize::from(theirs.count() > 1);
            let guest = |taken: &Process| taken.alive && taken.member.runs && !taken.member.owns;
            guests += usize::from(world.processes.iter().any(guest));
        }
        assert!(owned >= 20 && moved >= 8 && guests >= 8, "{owned}, {moved}, {guests}");
    }
}
