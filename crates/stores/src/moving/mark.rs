//! What a store says of itself while everything in it moves to another one, and afterwards.
//!
//! It stands in a table that is there only then, `moving`, so that no store that never moved has
//! it. Whoever opens the store to work with it is refused by it: people must never be answered out
//! of two stores that know the same conversations.

use std::collections::BTreeMap;
use std::fmt;

/// What the store is in the move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What it holds goes to the other one.
    Source,
    /// It is filled from the other one.
    Target,
}

/// How far the move is, as this store knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Rows are being copied.
    Begun,
    /// All of them are there; they were not yet found to be right.
    Copied,
    /// It is over; only a source says so.
    Done,
}

/// A store's part in a move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Which move; the same on both sides.
    pub id: String,
    /// What the store is in it.
    pub part: Part,
    /// How far it is.
    pub stage: Stage,
    /// Where the other store is, in words.
    pub other: String,
}

/// The table.
pub(crate) const TABLE: &str = "moving";

impl Mark {
    /// What the rows of the table say; none where there is no table, or something else in it.
    pub(crate) fn read(notes: &BTreeMap<String, String>) -> Option<Self> {
        Some(Self {
            id: notes.get("id")?.clone(),
            part: match notes.get("part")?.as_str() {
                "source" => Part::Source,
                _ => Part::Target,
            },
            stage: match notes.get("stage")?.as_str() {
                "done" => Stage::Done,
                "copied" => Stage::Copied,
                _ => Stage::Begun,
            },
            other: notes.get("other")?.clone(),
        })
    }

    /// The rows that say it.
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "nothing moves then"))]
    pub(crate) fn notes(&self) -> Vec<(&'static str, String)> {
        let part = match self.part {
            Part::Source => "source",
            Part::Target => "target",
        };
        let stage = match self.stage {
            Stage::Begun => "begun",
            Stage::Copied => "copied",
            Stage::Done => "done",
        };
        let (id, other) = (self.id.clone(), self.other.clone());
        vec![("id", id), ("part", part.into()), ("stage", stage.into()), ("other", other)]
    }

    /// Whether not even looking makes sense: some rows are there and others are not.
    pub(crate) const fn is_half(&self) -> bool {
        matches!((self.part, self.stage), (Part::Target, Stage::Begun))
    }
}

/// What is to be said behind the store's name, and what to do about it.
impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let other = &self.other;
        match (self.part, self.stage) {
            (Part::Target, _) => write!(
                f,
                "is being filled from {other} and not complete: run the same `turnkeep migrate` \
                 again, which goes on where it stopped, or throw it away and begin anew"
            ),
            (Part::Source, Stage::Done) => write!(
                f,
                "was moved to {other}, which goes on from there: use that one. `turnkeep migrate \
                 --undo` opens this one again, as it was then; nobody may use both"
            ),
            (Part::Source, _) => write!(
                f,
                "is being moved to {other}: run the same `turnkeep migrate` again to finish that, \
                 or `turnkeep migrate --undo` to stay here"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        for part in [Part::Source, Part::Target] {
            for stage in [Stage::Begun, Stage::Copied, Stage::Done] {
                let mark = Mark { id: "7".into(), part, stage, other: "there".into() };
                let notes = mark.notes().into_iter().map(|(name, value)| (name.into(), value));
                assert_eq!(Mark::read(&notes.collect()), Some(mark));
            }
        }
        assert_eq!(Mark::read(&BTreeMap::new()), None);
    }

    #[test]
    fn every_mark_says_what_to_do() {
        let check = |part, stage, expect: &str| {
            let said = Mark { id: "7".into(), part, stage, other: "there".into() }.to_string();
            assert!(said.contains(expect) && said.contains("there"), "{said}");
        };
        check(Part::Target, Stage::Begun, "goes on where it stopped");
        check(Part::Target, Stage::Copied, "goes on where it stopped");
        check(Part::Source, Stage::Begun, "to stay here");
        check(Part::Source, Stage::Done, "nobody may use both");
    }
}
