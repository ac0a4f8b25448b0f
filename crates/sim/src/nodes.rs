//! Who has the simulator's store open, who was told what, and how each sees the others: as the store
//! that several nodes share keeps it.

use turnkeep_core::Epoch;
use turnkeep_core::ports::store::Holder;

use crate::stock::SESSIONS;

/// The door of all who run turns.
pub(crate) const ANYBODY: Epoch = Epoch::NOBODY;

/// One that opened the store.
#[derive(Clone, Copy, Debug)]
struct Node {
    epoch: Epoch,
    /// Whose number it is: a node may have two.
    of: Epoch,
    /// Turns run there.
    runs: bool,
    /// It left or was put out, for ever.
    gone: bool,
}

/// All of them, and what they were told.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    all: Vec<Node>,
    /// Whose door, and which session.
    knocks: Vec<(Epoch, usize)>,
}

impl Nodes {
    pub(crate) fn clear(&mut self) {
        self.all.clear();
        self.knocks.clear();
    }

    pub(crate) fn enter(&mut self, epoch: Epoch, runs: bool) {
        self.all.push(Node { epoch, of: epoch, runs, gone: false });
    }

    /// A node has a second number, under which it runs turns.
    pub(crate) fn enter_again(&mut self, epoch: Epoch, of: Epoch) {
        self.all.push(Node { epoch, of, runs: true, gone: false });
    }

    /// It has it no more.
    pub(crate) fn give_back(&mut self, epoch: Epoch) {
        self.all.iter_mut().filter(|node| node.epoch == epoch).for_each(|node| node.gone = true);
    }

    /// It takes part no more, under any of its numbers; says whether it did.
    pub(crate) fn put_out(&mut self, epoch: Epoch) -> bool {
        let took_part = self.is_in(epoch);
        self.all.iter_mut().filter(|node| node.of == epoch).for_each(|node| node.gone = true);
        took_part
    }

    fn is_of(&self, epoch: Epoch, whose: Epoch) -> bool {
        self.all.iter().any(|node| node.epoch == epoch && node.of == whose)
    }

    pub(crate) fn is_in(&self, epoch: Epoch) -> bool {
        self.all.iter().any(|node| node.epoch == epoch && !node.gone)
    }

    /// Whether what stands under an epoch has somebody who runs it.
    pub(crate) fn has_runner(&self, epoch: Epoch) -> bool {
        let whose = epoch.node();
        self.all.iter().any(|node| node.epoch == whose && node.runs && !node.gone)
    }

    /// Whom a commit of a node has to tell of itself.
    pub(crate) fn door(&self, by: Epoch, written: Epoch, open: bool) -> Option<Epoch> {
        let whose = written.node();
        let runs = self.all.iter().any(|node| node.epoch == by && node.runs);
        if whose == Epoch::NOBODY || (whose == by && !runs) {
            return open.then_some(ANYBODY);
        }
        (whose != by && !self.is_of(whose, by)).then_some(whose)
    }

    pub(crate) fn is_told(&self, door: Epoch, seat: usize) -> bool {
        self.knocks.contains(&(door, seat))
    }

    pub(crate) fn knock(&mut self, door: Epoch, seat: usize) {
        if !self.is_told(door, seat) {
            self.knocks.push((door, seat));
        }
    }

    /// What a node is told, which nobody is told again; it leaves some sessions where they are offered.
    pub(crate) fn answer(&mut self, by: Epoch, runs: bool, leaves: [bool; SESSIONS]) -> Vec<usize> {
        let own: Vec<Epoch> =
            self.all.iter().filter(|node| node.of == by).map(|node| node.epoch).collect();
        let theirs = |(door, seat): &(Epoch, usize)| {
            own.contains(door) || (runs && *door == ANYBODY && !leaves[*seat])
        };
        let mut told: Vec<usize> =
            self.knocks.iter().filter(|knock| theirs(knock)).map(|(_, seat)| *seat).collect();
        told.dedup();
        self.knocks.retain(|knock| !theirs(knock));
        told
    }

    /// The others, as a node sees them that looks now.
    pub(crate) fn seen_by(&self, own: Epoch) -> View {
        let others = self.all.iter().filter(|node| !node.gone && node.of != own);
        View {
            others: others.map(|node| (node.epoch, node.runs)).collect(),
            drawn: self.all.last().map_or(own, |node| node.epoch),
        }
    }
}

/// The others, as a node saw them last.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    others: Vec<(Epoch, bool)>,
    /// The greatest number that anybody had drawn then.
    drawn: Epoch,
}

impl View {
    /// Who has what stands under an epoch, as far as this node knows. A number that nobody had drawn
    /// then is that of somebody who came since; `later` says for what those are taken.
    pub(crate) fn holder(&self, own: Epoch, epoch: Epoch, later: Holder) -> Holder {
        let whose = epoch.node();
        if whose == own {
            return Holder::Us;
        }
        match self.others.iter().find(|(other, _)| *other == whose) {
            Some((_, true)) => Holder::Another,
            None if whose > self.drawn => later,
            _ => Holder::Nobody,
        }
    }

    /// Whether others are there than before.
    pub(crate) fn differs(&self, before: &Self) -> bool {
        self.others != before.others
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNER: Epoch = Epoch(1);
    const GATEWAY: Epoch = Epoch(2);
    const SECOND: Epoch = Epoch(3);

    fn nodes() -> Nodes {
        let mut nodes = Nodes::default();
        nodes.enter(RUNNER, true);
        nodes.enter(GATEWAY, false);
        nodes.enter_again(SECOND, GATEWAY);
        nodes
    }

    #[test]
    fn who_writes_under_nobodys_number_tells_all_if_anything_is_open() {
        let nodes = nodes();
        let nobody = Epoch::NOBODY.taken_by(Epoch::NOBODY);
        for written in [Epoch::NOBODY, nobody] {
            assert_eq!(nodes.door(RUNNER, written, true), Some(ANYBODY));
            assert_eq!(nodes.door(RUNNER, written, false), None);
        }
        for open in [true, false] {
            assert_eq!(nodes.door(RUNNER, RUNNER, open), None);
            assert_eq!(nodes.door(RUNNER, GATEWAY, open), Some(GATEWAY));
            assert_eq!(nodes.door(GATEWAY, GATEWAY, open), open.then_some(ANYBODY));
            assert_eq!(nodes.door(GATEWAY, SECOND, open), None);
        }
    }

    #[test]
    fn what_a_node_leaves_stays_offered_and_what_is_its_own_is_not_left() {
        let mut nodes = nodes();
        for (door, seat) in [(ANYBODY, 0), (ANYBODY, 1), (RUNNER, 1)] {
            nodes.knock(door, seat);
        }
        assert_eq!(nodes.answer(RUNNER, true, [true, true]), [1]);
        assert_eq!(nodes.answer(RUNNER, true, [false, true]), [0]);
        assert_eq!(nodes.answer(GATEWAY, false, [false, false]), [0; 0]);
        assert_eq!(nodes.answer(RUNNER, true, [false, false]), [1]);
        assert_eq!(nodes.answer(RUNNER, true, [false, false]), [0; 0]);
    }
}
