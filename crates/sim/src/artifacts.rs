//! Artifacts: runs keep things and ask for what was kept, and the judge knows from the journal alone
//! what holds. They draw from the tools' source, so a schedule without tools has none.

use std::sync::Arc;

use turnkeep_core::artifact::{ArtifactName, Fingerprint, Kept, NewArtifact, Stale};
use turnkeep_core::ids::{Seq, TurnGroupId};
use turnkeep_core::journal::{Event, EventBody};
use turnkeep_core::session::AgentInput;

use crate::agent::Run;
use crate::coverage::Kind;
use crate::store::Row;
use crate::world::World;

/// Few of each, so that the same is wanted again and again.
const NAMES: [u8; 4] = [0, 1, 1, 2];
const INPUTS: [u8; 4] = [0, 0, 0, 1];

/// What a run does with artifacts.
#[derive(Debug, Default)]
pub(crate) struct Bench {
    /// What it wants kept, until it is told that it is.
    keeping: Option<(ArtifactName, Fingerprint)>,
    /// What it asked for.
    recalling: Option<(ArtifactName, Fingerprint)>,
    /// What it has taken or made: which, and what it is.
    held: Vec<(ArtifactName, Fingerprint)>,
}

impl Bench {
    fn take(&mut self, artifact: ArtifactName, fingerprint: Fingerprint) {
        self.held.retain(|(known, _)| *known != artifact);
        self.held.push((artifact, fingerprint));
    }

    fn holds(&self, artifact: ArtifactName, fingerprint: Fingerprint) -> bool {
        self.held.contains(&(artifact, fingerprint))
    }
}

/// An artifact as the journal tells of it.
struct Told<'e> {
    at: Seq,
    body: &'e EventBody,
    /// A turn of its group ended well behind it, so it may be forgotten.
    ended: bool,
}

/// The newest of a name that the journal has in a turn group.
fn newest(row: &Row, group: TurnGroupId, wanted: ArtifactName) -> Option<Told<'_>> {
    let mut of = None;
    let mut found = None;
    for Event { seq, body, .. } in &row.events {
        match body {
            EventBody::TurnStarted { turn_group_id, .. } => of = Some(*turn_group_id),
            EventBody::ArtifactKept { artifact, .. }
                if of == Some(group) && *artifact == wanted =>
            {
                found = Some(Told { at: *seq, body, ended: false });
            }
            EventBody::TurnCompleted { .. } | EventBody::TurnCancelled { .. }
                if of == Some(group) =>
            {
                found.iter_mut().for_each(|told| told.ended = true);
            }
            _ => {}
        }
    }
    found
}

impl World<'_> {
    /// A run keeps something, made from what it holds or from what it doesn't.
    pub(crate) fn run_keeps(&mut self, run: usize) {
        let rng = &mut self.tools.rng;
        let name = ArtifactName([rng.pick(&NAMES); 16]);
        let inputs = Fingerprint([rng.pick(&INPUTS); 16]);
        let fingerprint = Fingerprint([rng.pick(&[0_u8, 1]); 16]);
        let mut depends = Vec::new();
        for on in [0, 1] {
            let on = ArtifactName([on; 16]);
            let held = self.runs[run].bench.held.iter().any(|(known, _)| *known == on);
            if on < name && rng.permille(if held { 800 } else { 40 }) {
                depends.push(on);
            }
        }
        self.runs[run].bench.keeping = Some((name, fingerprint));
        let title = Arc::clone(&self.stock.record);
        let content = Arc::clone(&self.stock.record);
        let depends = depends.into_iter().collect();
        let new = Box::new(NewArtifact { name, title, inputs, depends, fingerprint, content });
        self.run_asks(run, Kind::Keep, |token| AgentInput::Keep(token, new));
    }

    pub(crate) fn run_recalls(&mut self, run: usize) {
        let rng = &mut self.tools.rng;
        let name = ArtifactName([rng.pick(&NAMES); 16]);
        let inputs = Fingerprint([rng.pick(&INPUTS); 16]);
        self.runs[run].bench.recalling = Some((name, inputs));
        self.run_asks(run, Kind::Recall, |token| AgentInput::Recall(token, name, inputs));
    }

    /// It is told that something is on record: if that is an artifact, it is.
    pub(crate) fn judge_kept(&mut self, run: usize) {
        let Run { seat, tag, .. } = self.runs[run];
        let Some((name, kept)) = self.runs[run].bench.keeping.take() else { return };
        let of = (tag.turn, tag.attempt, name, kept);
        let durable = self.store.rows[seat].events.iter().rev().any(|event| {
            matches!(event.body, EventBody::ArtifactKept { turn_id, attempt, artifact, fingerprint, .. }
                if (turn_id, attempt, artifact, fingerprint) == of)
        });
        if !durable {
            self.judge.broken("I27", || format!("{name:?} counts as kept, and is not on record"));
        }
        self.runs[run].bench.take(name, kept);
    }

    pub(crate) fn is_denied(&mut self, run: usize) {
        self.runs[run].bench.keeping = None;
    }

    /// What it is told of an artifact is what the journal says: no more is taken, and no less.
    pub(crate) fn judge_recalled(&mut self, run: usize, told: Result<&Kept, Stale>) {
        let Run { seat, group, tag, .. } = self.runs[run];
        let Some((name, inputs)) = self.runs[run].bench.recalling.take() else { return };
        // Of one that was replaced meanwhile the journal says more than it can know.
        let open = self.store.rows[seat].session.turn.as_ref();
        if open.is_none_or(|turn| turn.tag() != tag) {
            return;
        }
        let bench = &self.runs[run].bench;
        let found = newest(&self.store.rows[seat], group, name);
        let may_be_gone = found.as_ref().is_some_and(|found| found.ended);
        let expected = match found {
            Some(Told {
                at, body: EventBody::ArtifactKept { inputs: from, depends, .. }, ..
            }) => {
                if *from != inputs {
                    Err(Stale::InputsChanged)
                } else if depends.iter().all(|on| bench.holds(on.artifact, on.fingerprint)) {
                    Ok(at)
                } else {
                    Err(Stale::DependencyChanged)
                }
            }
            _ => Err(Stale::Missing),
        };
        let seen = told.map(|kept| kept.at);
        if seen != expected && !(may_be_gone && seen == Err(Stale::Missing)) {
            self.judge.broken("I27", || {
                format!(
                    "session {seat}: a run that recalls {name:?} is told {seen:?}, not {expected:?}"
                )
            });
        }
        if let Ok(kept) = told {
            self.runs[run].bench.take(name, kept.fingerprint);
        }
    }
}
