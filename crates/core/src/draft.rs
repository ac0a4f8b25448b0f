//! Streamed text as somebody elsewhere puts it together: pieces, numbered from 1 in each run.
//!
//! It is a draft: the committed reply is in the record. A piece that is lost is noticed by the gap
//! in the numbers; then the whole draft is asked for, and until it comes, or the turn is committed,
//! nothing more is shown.

use crate::ids::RunTag;

/// The longest draft that is shown elsewhere, in bytes; a longer one is seen where it runs.
pub const DRAFT_BYTES_MAX: usize = 256 * 1024;

/// Some streamed text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Of which run.
    pub run: RunTag,
    /// Its number in that run, from 1.
    pub number: u64,
    /// It is everything up to this number, not only what is new.
    pub whole: bool,
    /// The text.
    pub text: String,
}

/// What a piece did to the draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// It was added.
    Grown,
    /// A new draft begins with it; what was shown before is void.
    Anew,
    /// The whole draft came, in place of what was there.
    Mended,
    /// Pieces before it are missing: the whole draft has to be asked for. Said once a gap.
    Gap,
    /// It belongs behind a gap that is known, or to an older run, or was read before.
    Ignored,
    /// The draft is as long as it may become; what comes is not kept.
    Full,
}

/// The draft of a session as a watcher puts it together.
#[derive(Clone, Debug)]
pub struct Draft {
    run: Option<RunTag>,
    text: String,
    number: u64,
    gap: bool,
    bytes_max: usize,
}

impl Draft {
    /// None yet.
    #[must_use]
    pub const fn new(bytes_max: usize) -> Self {
        Self { run: None, text: String::new(), number: 0, gap: false, bytes_max }
    }

    /// Which run it is of.
    #[must_use]
    pub const fn run(&self) -> Option<RunTag> {
        self.run
    }

    /// What is known of it, without a hole: it ends where the first piece is missing.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether pieces are missing.
    #[must_use]
    pub const fn has_gap(&self) -> bool {
        self.gap
    }

    /// Something may have been missed: what comes next is shown only if it fits, and the whole
    /// draft has to be asked for.
    pub const fn miss(&mut self) {
        self.gap = true;
    }

    /// Reads a piece.
    pub fn read(&mut self, piece: &Piece) -> Read {
        let newer = match &self.run {
            None => true,
            Some(run) if run.turn == piece.run.turn => {
                (piece.run.epoch, piece.run.attempt) > (run.epoch, run.attempt)
            }
            Some(run) => piece.run.epoch >= run.epoch,
        };
        if newer && self.run != Some(piece.run) {
            *self = Self { run: Some(piece.run), ..Self::new(self.bytes_max) };
            return self.begin(piece);
        }
        if self.run != Some(piece.run) || piece.number < self.number {
            return Read::Ignored;
        }
        if piece.whole {
            let fits = piece.text.len() <= self.bytes_max;
            return self.replace(piece, if fits { Read::Mended } else { Read::Full });
        }
        if piece.number == self.number {
            return Read::Ignored;
        }
        if piece.number > self.number + 1 {
            return if std::mem::replace(&mut self.gap, true) { Read::Ignored } else { Read::Gap };
        }
        if self.text.len() + piece.text.len() > self.bytes_max {
            // What follows has a gap before it, and a whole draft that fits may still mend it.
            self.gap = true;
            return Read::Full;
        }
        self.gap = false;
        self.number = piece.number;
        self.text.push_str(&piece.text);
        Read::Grown
    }

    fn begin(&mut self, piece: &Piece) -> Read {
        if piece.text.len() > self.bytes_max {
            self.gap = true;
            return Read::Full;
        }
        if piece.whole || piece.number == 1 {
            return self.replace(piece, Read::Anew);
        }
        self.gap = true;
        Read::Gap
    }

    fn replace(&mut self, piece: &Piece, read: Read) -> Read {
        if read == Read::Full {
            self.gap = true;
            return read;
        }
        self.text.clone_from(&piece.text);
        (self.number, self.gap) = (piece.number, false);
        read
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::{Draft, Piece, Read};
    use crate::ids::{Attempt, Epoch, RunTag, TurnId};

    fn run(epoch: u64, attempt: u32, turn: u128) -> RunTag {
        let turn = TurnId(Uuid::from_u128(turn));
        RunTag { turn, epoch: Epoch(epoch), attempt: Attempt(attempt) }
    }

    fn piece(number: u64, text: &str) -> Piece {
        Piece { run: run(1, 1, 1), number, whole: false, text: text.to_owned() }
    }

    #[test]
    fn a_gap_is_said_once_and_mended_by_the_whole() {
        let mut draft = Draft::new(100);
        assert_eq!(draft.read(&piece(1, "a")), Read::Anew);
        assert_eq!(draft.read(&piece(2, "b")), Read::Grown);
        assert_eq!(draft.read(&piece(2, "b")), Read::Ignored);
        assert_eq!(draft.read(&piece(4, "d")), Read::Gap);
        assert_eq!(draft.read(&piece(5, "e")), Read::Ignored);
        assert_eq!((draft.text(), draft.has_gap()), ("ab", true));
        let whole = Piece { whole: true, ..piece(5, "abcde") };
        assert_eq!(draft.read(&whole), Read::Mended);
        assert_eq!(draft.read(&piece(6, "f")), Read::Grown);
        assert_eq!((draft.text(), draft.has_gap()), ("abcdef", false));
    }

    #[test]
    fn a_newer_run_begins_anew_and_an_older_one_is_not_heard() {
        let mut draft = Draft::new(100);
        draft.read(&piece(1, "a"));
        let of = |run, number| Piece { run, ..piece(number, "x") };
        assert_eq!(draft.read(&of(run(1, 2, 1), 1)), Read::Anew);
        assert_eq!(draft.read(&piece(2, "b")), Read::Ignored);
        assert_eq!(draft.read(&of(run(2, 1, 1), 3)), Read::Gap);
        assert_eq!(draft.text(), "");
        assert_eq!(draft.read(&of(run(2, 1, 2), 1)), Read::Anew);
        assert_eq!(draft.read(&of(run(1, 9, 1), 1)), Read::Ignored);
    }

    #[test]
    fn a_draft_has_an_end() {
        let mut draft = Draft::new(3);
        assert_eq!(draft.read(&piece(1, "ab")), Read::Anew);
        assert_eq!(draft.read(&piece(2, "cd")), Read::Full);
        assert_eq!(draft.read(&piece(3, "e")), Read::Ignored);
        assert_eq!(draft.text(), "ab");
    }

    proptest! {
        /// Whatever is lost or comes twice, what is shown is a beginning of what was written; and
        /// the whole brings all of it.
        #[test]
        fn what_is_shown_is_a_beginning(
            texts in prop::collection::vec("[a-z]{0,3}", 1..30),
            order in prop::collection::vec(0_usize..30, 0..60),
        ) {
            let all = texts.concat();
            let mut draft = Draft::new(1000);
            for at in order {
                let at = at % texts.len();
                draft.read(&piece(at as u64 + 1, &texts[at]));
                prop_assert!(all.starts_with(draft.text()));
            }
            draft.read(&Piece { whole: true, ..piece(texts.len() as u64, &all) });
            prop_assert_eq!(draft.text(), all);
        }
    }
}
