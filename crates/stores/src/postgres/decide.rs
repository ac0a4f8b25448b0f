//! What becomes of one commit, decided from what the first round trip found.
//!
//! Pure, so that it can be tried without a server. The order of the questions is the other stores':
//! the version, the writer's epoch, the journal's next place, then the guards one by one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use turnkeep_core::message::Seen;
use turnkeep_core::ports::store::{CommitOutcome, FirstDecision, Guard, StoreError};
use turnkeep_core::{Seq, Timestamp, TurnId};
use uuid::Uuid;

use crate::check;
use crate::encode::{self, EncodedCommit};

/// A session's row, which this transaction holds or has just made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) id: i64,
    pub(super) version: u64,
    pub(super) epoch: u64,
    pub(super) last_seq: u64,
    /// It was not there before.
    pub(super) made: bool,
}

/// A message that somebody else has remembered.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) body_hash: u64,
    pub(super) until: Timestamp,
    /// None where the session is gone.
    pub(super) session: Option<String>,
    pub(super) seq: u64,
    pub(super) action: i64,
    pub(super) turn: Option<Uuid>,
    pub(super) queue_position: Option<i64>,
}

/// What the first round trip found for a whole batch.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// By key; whoever is not here was not there, or was made by somebody else meanwhile.
    pub(super) sessions: HashMap<String, Held>,
    /// Messages that are remembered from now on, if this transaction commits.
    pub(super) claimed: HashSet<Uuid>,
    /// Messages that others remembered.
    pub(super) known: HashMap<Uuid, Known>,
    /// Dead letters that are there, by session and place.
    pub(super) letters: HashSet<(i64, u64)>,
    /// Parts whose texts are there, as their rows hold them, by session, reply and part.
    pub(super) parts: HashMap<(i64, u64, u32), Vec<u8>>,
}

/// What becomes of a commit.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is written to the session with this row.
    Accepted(Held),
    /// It writes nothing, and this is its answer.
    Answered(Result<CommitOutcome, StoreError>),
    /// Somebody held one of its messages and let go of it between two looks: ask again.
    Again,
}

/// Whether the first round trip remembers the commit's messages already. One that asks writes
/// nothing, and one that holds a message twice is refused anyway.
pub(super) fn claims(commit: &EncodedCommit) -> bool {
    let twin = |(index, guard): (usize, &Guard)| match guard {
        Guard::NotSeen { seen, .. } => check::twin_in(&commit.guards[..index], seen).is_some(),
        Guard::TakeDeadLetter(_) | Guard::Parked { .. } => false,
    };
    !commit.asks_only && !commit.guards.iter().enumerate().any(twin)
}

/// The key of a message as its column holds it.
pub(super) const fn name_of(seen: &Seen) -> Uuid {
    Uuid::from_bytes(seen.key)
}

/// Decides on one commit.
pub(super) fn decide(commit: &EncodedCommit, found: &Found) -> Verdict {
    let held = found.sessions.get(commit.key.as_str());
    let answer = |outcome| Verdict::Answered(Ok(outcome));
    if held.map_or(0, |held| held.version) != commit.expected.0 {
        return answer(CommitOutcome::Conflict);
    }
    let held = match held {
        Some(held) => *held,
        // Nothing was made for a question, and nothing is needed.
        None if commit.asks_only => Held { id: 0, version: 0, epoch: 0, last_seq: 0, made: false },
        // Somebody else made it between the two statements.
        None => return answer(CommitOutcome::Conflict),
    };
    if !commit.asks_only && held.epoch > commit.epoch.0 {
        return answer(CommitOutcome::Conflict);
    }
    if let Some(journal) = commit.journal.first()
        && journal.first.0 != held.last_seq + 1
    {
        let gap = check::gap(&commit.key, Seq(held.last_seq + 1), journal.first);
        return Verdict::Answered(Err(gap));
    }
    if let Some(verdict) = ask_guards(commit, held.id, found) {
        return verdict;
    }
    if commit.asks_only {
        return answer(CommitOutcome::Committed(commit.expected));
    }
    Verdict::Accepted(held)
}

/// The first guard that does not hold.
fn ask_guards(commit: &EncodedCommit, session_id: i64, found: &Found) -> Option<Verdict> {
    let claims = claims(commit);
    for (index, guard) in commit.guards.iter().enumerate() {
        let earlier = &commit.guards[..index];
        match guard {
            Guard::NotSeen { seen, .. } => {
                let known = found.known.get(&name_of(seen));
                let known = if claims {
                    if found.claimed.contains(&name_of(seen)) {
                        continue;
                    }
                    // Even one that is over by this commit's own time: it was not by that of the
                    // batch, by which it was claimed.
                    let Some(known) = known else { return Some(Verdict::Again) };
                    Some(known)
                } else {
                    known.filter(|known| known.until >= commit.now)
                };
                let first = match known.map(first_of).transpose() {
                    Ok(first) => first.or_else(|| check::twin_in(earlier, seen)),
                    // An unreadable guard is no other session's fault.
                    Err(what) => return Some(Verdict::Answered(Err(StoreError::Corrupt(what)))),
                };
                if let Some((first, body_hash)) = first {
                    let first = Some((first, body_hash == seen.body_hash));
                    return Some(refused(index, first));
                }
            }
            Guard::TakeDeadLetter(seq) => {
                if earlier.contains(guard) || !found.letters.contains(&(session_id, seq.0)) {
                    return Some(refused(index, None));
                }
            }
            Guard::Parked { reply, part, state, tries } => {
                let row = found.parts.get(&(session_id, reply.0, *part)).map(|body| {
                    encode::decode_part(&commit.key, (*reply, *part), body, Arc::default())
                });
                let stands = match row.transpose() {
                    Ok(row) => row.is_some_and(|row| (row.state, row.tries) == (*state, *tries)),
                    Err(what) => return Some(Verdict::Answered(Err(StoreError::Corrupt(what.0)))),
                };
                if earlier.contains(guard) || !stands {
                    return Some(refused(index, None));
                }
            }
        }
    }
    None
}

const fn refused(guard: usize, first: Option<(FirstDecision, bool)>) -> Verdict {
    Verdict::Answered(Ok(CommitOutcome::Refused { guard, first }))
}

/// The decision that the first of several twins got, and the hash of its body.
fn first_of(known: &Known) -> Result<(FirstDecision, u64), String> {
    let session = known.session.as_deref().ok_or("a dedupe row names no session that is there")?;
    let first = FirstDecision {
        session: session.parse().map_err(|error| format!("session {session}: {error}"))?,
        seq: Seq(known.seq),
        action: encode::action_of(known.action).map_err(|unreadable| unreadable.0)?,
        turn: known.turn.map(TurnId),
        queue_position: known
            .queue_position
            .map(|position| u32::try_from(position).map_err(|error| error.to_string()))
            .transpose()?,
    };
    Ok((first, known.body_hash))
}

#[cfg(test)]
mod tests {
    use turnkeep_core::outbox::DeliveryState;
    use turnkeep_core::ports::store::{Commit, PartRow, Rows};
    use turnkeep_core::{
        Action, Epoch, Event, EventBody, Session, SessionKey, SessionKind, Version,
    };

    use super::*;

    const NOW: Timestamp = 1_000;

    fn key() -> SessionKey {
        SessionKey::new("tenant", "agent", "api", SessionKind::Dm, "one").unwrap()
    }

    fn first() -> FirstDecision {
        FirstDecision {
            session: key(),
            seq: Seq(3),
            action: Action::Queued,
            turn: None,
            queue_position: Some(2),
        }
    }

    fn not_seen(name: u8, body_hash: u64) -> Guard {
        Guard::NotSeen { seen: Seen { key: [name; 16], body_hash }, first: first(), until: NOW }
    }

    /// A commit on version 4, journal place 7 and by epoch 5, with these guards.
    fn commit(guards: &[Guard]) -> Commit {
        let mut session = Session { updated_at: NOW, epoch: Epoch(5), ..Session::new() };
        session.last_seq = Seq(7);
        let event = Event { seq: Seq(7), at: NOW, body: EventBody::notice("an event".into()) };
        let rows = Rows {
            events: vec![event],
            guards: guards.iter().cloned().collect(),
            ..Rows::default()
        };
        Commit { key: key(), expected: Version(4), session: Arc::new(session), wake_at: None, rows }
    }

    /// The session as that commit expects it.
    const HELD: Held = Held { id: 9, version: 4, epoch: 5, last_seq: 6, made: false };

    fn found(held: Held) -> Found {
        let sessions = HashMap::from([(key().to_string(), held)]);
        Found { sessions, ..Found::default() }
    }

    fn known(until: Timestamp) -> Known {
        let session = Some(key().to_string());
        let (seq, action, queue_position) = (3, encode::action_number(Action::Queued), Some(2));
        Known { body_hash: 1, until, session, seq, action, turn: None, queue_position }
    }

    fn decided(commit: Commit, found: &Found) -> Verdict {
        decide(&encode::encode(commit).unwrap(), found)
    }

    fn outcome(outcome: CommitOutcome) -> Verdict {
        Verdict::Answered(Ok(outcome))
    }

    #[test]
    fn the_version_decides_first() {
        let check = |version: u64, expect: Verdict| {
            let held = Held { version, ..HELD };
            assert_eq!(decided(commit(&[]), &found(held)), expect, "{version}");
        };
        check(4, Verdict::Accepted(HELD));
        check(3, outcome(CommitOutcome::Conflict));
        check(5, outcome(CommitOutcome::Conflict));
        let absent = decided(commit(&[not_seen(1, 1)]), &Found::default());
        assert_eq!(absent, outcome(CommitOutcome::Conflict));
    }

    #[test]
    fn a_session_that_somebody_else_made_is_a_conflict() {
        let mut new = commit(&[]);
        new.expected = Version(0);
        assert_eq!(decided(new, &Found::default()), outcome(CommitOutcome::Conflict));
    }

    #[test]
    fn an_older_epoch_is_refused() {
        let check = |epoch: u64, expect: Verdict| {
            assert_eq!(decided(commit(&[]), &found(Held { epoch, ..HELD })), expect, "{epoch}");
        };
        check(4, Verdict::Accepted(Held { epoch: 4, ..HELD }));
        check(6, outcome(CommitOutcome::Conflict));
    }

    #[test]
    fn the_journal_goes_on_where_it_ends() {
        for last_seq in [5, 7] {
            let verdict = decided(commit(&[]), &found(Held { last_seq, ..HELD }));
            let Verdict::Answered(Err(StoreError::Corrupt(what))) = verdict else {
                panic!("{verdict:?}")
            };
            assert!(what.contains(&format!("goes on with {}", last_seq + 1)), "{what}");
        }
    }

    #[test]
    fn a_message_is_new_where_it_was_claimed() {
        let mut found = found(HELD);
        let commit_of = || commit(&[not_seen(1, 1)]);
        assert_eq!(decided(commit_of(), &found), Verdict::Again);
        found.claimed.insert(Uuid::from_bytes([1; 16]));
        assert_eq!(decided(commit_of(), &found), Verdict::Accepted(HELD));
    }

    #[test]
    fn a_twin_is_told_the_first_decision_whatever_its_time() {
        for until in [NOW - 1, NOW] {
            let mut found = found(HELD);
            found.known.insert(Uuid::from_bytes([1; 16]), known(until));
            for body_hash in [1, 2] {
                let first = Some((first(), body_hash == 1));
                let expect = outcome(CommitOutcome::Refused { guard: 0, first });
                assert_eq!(decided(commit(&[not_seen(1, body_hash)]), &found), expect);
            }
        }
    }

    #[test]
    fn a_question_knows_by_its_own_time_and_needs_no_session() {
        let ask = |at: Timestamp| {
            let mut question = commit(&[not_seen(1, 1)]);
            question.expected = Version(0);
            question.rows.events.clear();
            question.rows.question = Some(at);
            let known = HashMap::from([(Uuid::from_bytes([1; 16]), known(NOW))]);
            decided(question, &Found { known, ..Found::default() })
        };
        let first = Some((first(), true));
        assert_eq!(ask(NOW), outcome(CommitOutcome::Refused { guard: 0, first }));
        assert_eq!(ask(NOW + 1), outcome(CommitOutcome::Committed(Version(0))));
    }

    #[test]
    fn a_twin_within_is_refused_at_its_place() {
        let twins = commit(&[not_seen(1, 1), not_seen(2, 1), not_seen(1, 5)]);
        let encoded = encode::encode(twins.clone()).unwrap();
        assert!(!claims(&encoded));
        let refused = CommitOutcome::Refused { guard: 2, first: Some((first(), false)) };
        assert_eq!(decided(twins, &found(HELD)), outcome(refused));
    }

    #[test]
    fn a_letter_is_taken_where_it_lies_and_once() {
        let mut found = found(HELD);
        found.letters.insert((HELD.id, 2));
        found.letters.insert((HELD.id + 1, 3));
        let take = |places: &[u64]| {
            let guards: Vec<_> =
                places.iter().map(|seq| Guard::TakeDeadLetter(Seq(*seq))).collect();
            decided(commit(&guards), &found)
        };
        let refused = |guard| outcome(CommitOutcome::Refused { guard, first: None });
        assert_eq!(take(&[2]), Verdict::Accepted(HELD));
        assert_eq!(take(&[3]), refused(0));
        assert_eq!(take(&[2, 2]), refused(1));
    }

    #[test]
    fn a_part_is_let_through_where_it_stands_as_it_was_read() {
        let (reply, part, tries) = (Seq(7), 1, 3);
        let row = PartRow {
            reply,
            part,
            state: DeliveryState::Unknown,
            tries,
            text: Arc::default(),
            detail: None,
            at: NOW,
        };
        let mut found = found(HELD);
        found.parts.insert((HELD.id, 7, 1), encode::part_body(&row).unwrap());
        found.parts.insert((HELD.id, 7, 2), b"nonsense".to_vec());
        let ask = |guards: &[(u32, DeliveryState, u32)]| {
            let guards: Vec<_> = guards
                .iter()
                .map(|(part, state, tries)| Guard::Parked {
                    reply,
                    part: *part,
                    state: *state,
                    tries: *tries,
                })
                .collect();
            decided(commit(&guards), &found)
        };
        let refused = |guard| outcome(CommitOutcome::Refused { guard, first: None });
        let read = (1, DeliveryState::Unknown, 3);
        assert_eq!(ask(&[read]), Verdict::Accepted(HELD));
        assert_eq!(ask(&[(1, DeliveryState::Dead, 3)]), refused(0));
        assert_eq!(ask(&[(1, DeliveryState::Unknown, 2)]), refused(0));
        assert_eq!(ask(&[(0, DeliveryState::Unknown, 3)]), refused(0));
        assert_eq!(ask(&[read, read]), refused(1));
        let unreadable = ask(&[(2, DeliveryState::Unknown, 3)]);
        assert!(matches!(unreadable, Verdict::Answered(Err(StoreError::Corrupt(_)))));
    }

    #[test]
    fn an_unreadable_memory_is_only_its_askers_trouble() {
        let check = |known: Known, expect: &str| {
            let mut found = found(HELD);
            found.known.insert(Uuid::from_bytes([1; 16]), known);
            let verdict = decided(commit(&[not_seen(1, 1)]), &found);
            let Verdict::Answered(Err(StoreError::Corrupt(what))) = verdict else {
                panic!("{verdict:?}")
            };
            assert!(what.contains(expect), "{what}");
        };
        check(Known { action: 77, ..known(NOW) }, "the action 77");
        check(Known { session: None, ..known(NOW) }, "names no session");
        check(Known { session: Some("nonsense".into()), ..known(NOW) }, "session nonsense");
    }
}
