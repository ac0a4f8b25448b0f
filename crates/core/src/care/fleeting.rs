//! Messages that disappear: what of a history goes with them, and when.
//!
//! A message whose chat has a timer takes along what was answered to it: each text goes when the
//! timer is over that began with it. What is open still needs its texts, so it is looked at again.

use std::collections::{BTreeMap, BTreeSet};

use super::{has_text, turn_of};
use crate::ids::{Seq, Timestamp, TurnId};
use crate::journal::{Event, EventBody, NoticeSource};
use crate::session::Session;

/// How long something is left alone that is needed still: at first, and at most where it is needed
/// for long.
pub const AGAIN_MS: i64 = 60_000;
const AGAIN_MS_MAX: i64 = 15 * 60_000;
/// Of a timer this part may pass until what is over is looked for, so that a busy session is read
/// once for many messages.
const LOOKS: i64 = 100;
/// Below this there is nothing to be won.
const LOOK_MS_MIN: i64 = 1000;

/// When to look for what is over at `end`: what ends soon behind one another is looked for together.
#[must_use]
pub fn look_at(end: Timestamp, seconds: u32) -> Timestamp {
    let step = i64::from(seconds) * 1000 / LOOKS;
    if step < LOOK_MS_MIN {
        return end;
    }
    match end.rem_euclid(step) {
        0 => end,
        past => end.saturating_add(step - past),
    }
}

/// Follows messages that disappear through their session's journal.
#[derive(Clone, Debug, Default)]
pub struct Fleeting {
    /// The timer of each message that was named, in milliseconds.
    timers: BTreeMap<Seq, i64>,
    /// Their places, and those at which they stand once more: which one it is, and its end.
    messages: BTreeMap<Seq, (Seq, Timestamp)>,
    /// The turns that read one: which one, and the end of what was last told of the turn.
    turns: BTreeMap<TurnId, (Seq, Timestamp)>,
    /// The turn that was told of last.
    current: Option<TurnId>,
    /// The place at which a message was refused last, and which one it was.
    refused: Option<(Seq, Seq)>,
    /// Texts that were made of them: which message, of which turn, and its end.
    texts: BTreeMap<Seq, (Seq, Option<TurnId>, Timestamp)>,
}

/// What goes now, and what is left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gone {
    /// Places whose text goes.
    pub places: Vec<Seq>,
    /// Turns whose row goes blank.
    pub turns: Vec<TurnId>,
    /// Messages of which something is left, and when to look again.
    pub left: BTreeMap<Seq, Timestamp>,
}

impl Fleeting {
    /// For these messages of one session, each with its timer in seconds.
    #[must_use]
    pub fn new(messages: impl IntoIterator<Item = (Seq, u32)>) -> Self {
        let timers = messages.into_iter().map(|(seq, seconds)| (seq, i64::from(seconds) * 1000));
        Self { timers: timers.collect(), ..Self::default() }
    }

    /// Takes the next entry, from the first of the messages on.
    pub fn observe(&mut self, event: &Event) {
        if let Some(timer) = self.timers.get(&event.seq) {
            self.messages.insert(event.seq, (event.seq, event.at.saturating_add(*timer)));
            return;
        }
        match &event.body {
            // The same text once more: it goes with the first one.
            EventBody::MessageAccepted { retry_of: Some(of), .. }
            | EventBody::MessageContext { of: Some(of), .. } => {
                if let Some(known) = self.messages.get(of).copied() {
                    self.messages.insert(event.seq, known);
                }
                return;
            }
            // Why may be said in words of the message; so may be what a channel says of a part.
            EventBody::GuardRefused { message, .. } => {
                let root = self.messages.get(message).map(|(root, _)| *root);
                self.refused = root.map(|root| (event.seq, root));
                return self.follow(event, root);
            }
            EventBody::DeliverySettled { reply, .. } => {
                let root = self.texts.get(reply).map(|(root, ..)| *root);
                return self.follow(event, root);
            }
            // It may say why a message was refused, what a turn failed with, or what it did.
            EventBody::SessionNotice { source: NoticeSource::Gateway, .. } => {
                if let Some((at, root)) = self.refused
                    && at.next() == event.seq
                {
                    return self.follow(event, Some(root));
                }
                let turn = self.current.filter(|turn| self.turns.contains_key(turn));
                if let Some((root, _)) = turn.and_then(|turn| self.turns.get(&turn)).copied() {
                    self.texts.insert(event.seq, (root, turn, self.end(root, event)));
                }
                return;
            }
            EventBody::SessionNotice { source: NoticeSource::Command, of: Some(of), .. } => {
                return self.follow(event, self.messages.get(of).map(|(root, _)| *root));
            }
            _ => {}
        }
        let Some((turn, messages)) = turn_of(&event.body) else { return };
        self.current = Some(turn);
        let read = messages.iter().find_map(|seq| self.messages.get(seq)).map(|(root, _)| *root);
        let Some(root) = self.turns.get(&turn).map(|(root, _)| *root).or(read) else { return };
        let end = self.end(root, event);
        self.turns.insert(turn, (root, end));
        if has_text(&event.body) {
            self.texts.insert(event.seq, (root, Some(turn), end));
        }
    }

    /// Something was said because of this message, if it is one that disappears.
    fn follow(&mut self, event: &Event, root: Option<Seq>) {
        if let Some(root) = root.filter(|_| has_text(&event.body)) {
            self.texts.insert(event.seq, (root, None, self.end(root, event)));
        }
    }

    /// Whether a text stands here that goes in its time.
    #[must_use]
    pub fn follows(&self, seq: Seq) -> bool {
        self.messages.contains_key(&seq) || self.texts.contains_key(&seq)
    }

    /// Whether a message that disappears stands here once more.
    #[must_use]
    pub fn is_again(&self, event: &Event) -> bool {
        match &event.body {
            EventBody::MessageAccepted { retry_of: Some(of), .. } => self.messages.contains_key(of),
            _ => false,
        }
    }

    /// When a text is over that was said now because of this message.
    fn end(&self, root: Seq, event: &Event) -> Timestamp {
        event.at.saturating_add(self.timers.get(&root).copied().unwrap_or_default())
    }

    /// The messages themselves, wherever they stand, whose time is over.
    #[must_use]
    pub fn over(&self, now: Timestamp) -> BTreeSet<Seq> {
        let over = self.messages.iter().filter(|(_, (_, end))| *end <= now);
        over.map(|(seq, _)| *seq).collect()
    }

    /// What goes now. `session` is as it was before the journal was read: what is open in it is
    /// needed still, with all that was done about it, and so is a reply on its way.
    #[must_use]
    pub fn gone(&self, session: &Session, now: Timestamp) -> Gone {
        let open: BTreeSet<Seq> = session.pending().map(|pending| pending.seq).collect();
        let leaving: BTreeSet<Seq> = session.outbox.parts.iter().map(|part| part.reply).collect();
        let turn = session.turn.as_ref().map(|turn| turn.id);
        let busy = self.messages.iter().filter(|(seq, _)| open.contains(seq));
        let busy: BTreeSet<Seq> = busy.map(|(_, (root, _))| *root).collect();
        let mut gone = Gone::default();
        let mut take = |root: Seq, needed: bool, end: Timestamp| {
            let needed = needed || busy.contains(&root);
            if end <= now && !needed {
                return true;
            }
            let seconds = self.timers.get(&root).copied().unwrap_or_default() / 1000;
            let mut look = look_at(end, u32::try_from(seconds).unwrap_or(u32::MAX));
            if needed {
                // What is needed for long is looked at less and less often.
                let over = now.saturating_sub(end).clamp(AGAIN_MS, AGAIN_MS_MAX);
                look = look.max(now.saturating_add(over));
            }
            let left = gone.left.entry(root).or_insert(look);
            *left = look.min(*left);
            false
        };
        let places =
            self.messages.iter().map(|(seq, (root, end))| (*seq, take(*root, false, *end)));
        let mut places: Vec<(Seq, bool)> = places.collect();
        places.extend(self.texts.iter().map(|(seq, (root, of, end))| {
            let needed = leaving.contains(seq) || (of.is_some() && *of == turn);
            (*seq, take(*root, needed, *end))
        }));
        let turns =
            self.turns.iter().map(|(id, (root, end))| (*id, take(*root, Some(*id) == turn, *end)));
        let turns: Vec<(TurnId, bool)> = turns.collect();
        gone.places = places.into_iter().filter(|(_, goes)| *goes).map(|(seq, _)| seq).collect();
        gone.turns = turns.into_iter().filter(|(_, goes)| *goes).map(|(id, _)| id).collect();
        gone
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use smallvec::smallvec;
    use uuid::Uuid;

    use super::*;
    use crate::ids::{Attempt, Epoch, TurnGroupId};
    use crate::message::{Action, Pending};
    use crate::policy::Trust;

    fn turn() -> TurnId {
        TurnId(Uuid::from_u128(7))
    }

    fn accepted(retry_of: Option<u64>) -> EventBody {
        EventBody::MessageAccepted {
            message_id: "m".into(),
            sender: "ann".into(),
            text: "words".into(),
            trust: Trust::Public,
            action: Action::Queued,
            turn_id: None,
            queue_position: None,
            retry_of: retry_of.map(Seq),
            held: false,
            disappears_s: None,
        }
    }

    /// Of the first two messages only the first disappears; one turn answers both, then a command
    /// is answered. A second a place.
    fn history() -> Vec<Event> {
        let messages: crate::ids::Seqs = smallvec![Seq(1), Seq(2)];
        let bodies = [
            accepted(None),
            accepted(None),
            EventBody::TurnStarted {
                turn_id: turn(),
                turn_group_id: TurnGroupId(turn().0),
                messages: messages.clone(),
                supersedes: None,
            },
            EventBody::TurnCompleted {
                turn_id: turn(),
                attempt: Attempt(1),
                epoch: Epoch(1),
                messages,
                reply: Some("an answer".into()),
                version: None,
                by: None,
            },
            accepted(Some(1)),
            EventBody::answer("done".into(), Seq(1)),
            EventBody::answer("done".into(), Seq(2)),
        ];
        let events = bodies.into_iter().zip(1_u64..);
        let at = |seq: u64| 1000 * seq.cast_signed();
        events.map(|(body, seq)| Event { seq: Seq(seq), at: at(seq), body }).collect()
    }

    fn followed() -> Fleeting {
        let mut fleeting = Fleeting::new([(Seq(1), 10)]);
        history().iter().for_each(|event| fleeting.observe(event));
        fleeting
    }

    fn gone(session: &Session, now: Timestamp) -> (Vec<u64>, usize, Option<Timestamp>) {
        let Gone { places, turns, left } = followed().gone(session, now);
        (places.iter().map(|seq| seq.0).collect(), turns.len(), left.get(&Seq(1)).copied())
    }

    #[test]
    fn each_text_goes_when_its_own_time_is_over() {
        let rest = Session::new();
        assert_eq!(gone(&rest, 10_999), (vec![], 0, Some(11_000)));
        assert_eq!(gone(&rest, 11_000), (vec![1, 5], 0, Some(14_000)));
        assert_eq!(gone(&rest, 14_000), (vec![1, 5, 4], 1, Some(16_000)));
        assert_eq!(gone(&rest, 16_000), (vec![1, 5, 4, 6], 1, None));
        assert_eq!(followed().over(11_000).len(), 2);
    }

    fn followed_in(timers: &[(u64, u32)], bodies: Vec<EventBody>) -> Vec<u64> {
        let timers = timers.iter().map(|(seq, seconds)| (Seq(*seq), *seconds));
        let mut fleeting = Fleeting::new(timers);
        let events =
            bodies.into_iter().zip(1..).map(|(body, seq)| Event { seq: Seq(seq), at: 0, body });
        events
            .skip_while(|event| !fleeting.timers.contains_key(&event.seq))
            .collect::<Vec<_>>()
            .iter()
            .for_each(|event| fleeting.observe(event));
        let gone = fleeting.gone(&Session::new(), 1_000_000).places;
        gone.iter().map(|seq| seq.0).collect::<BTreeSet<_>>().into_iter().collect()
    }

    #[test]
    fn what_others_say_of_a_text_goes_with_it() {
        let refused = |message: u64| EventBody::GuardRefused {
            message: Seq(message),
            by_default: false,
            detail: Some("it says words".into()),
        };
        let notice = || EventBody::notice("it says words".into());
        // Only the second one has a timer.
        let bodies =
            vec![accepted(None), accepted(None), refused(1), notice(), refused(2), notice()];
        assert_eq!(followed_in(&[(2, 10)], bodies), [2, 5, 6]);
        let settled = |reply: u64, detail: Option<&str>| EventBody::DeliverySettled {
            reply: Seq(reply),
            part: 0,
            state: crate::outbox::DeliveryState::Dead,
            detail: detail.map(Into::into),
        };
        let mut bodies = history();
        bodies.truncate(4);
        let mut bodies: Vec<EventBody> = bodies.into_iter().map(|event| event.body).collect();
        bodies.extend([
            settled(4, Some("too long: an answer")),
            settled(4, None),
            settled(2, Some("x")),
        ]);
        assert_eq!(followed_in(&[(1, 10)], bodies), [1, 4, 5]);
    }

    /// The turn began before the message with a timer came, which it took in.
    #[test]
    fn a_turn_is_known_by_what_it_took_in() {
        let bodies = vec![
            accepted(None),
            history().remove(2).body,
            accepted(None),
            EventBody::TurnMessageAbsorbed { turn_id: turn(), messages: smallvec![Seq(3)] },
            EventBody::notice("Sorry, it failed: words".into()),
        ];
        assert_eq!(followed_in(&[(3, 10)], bodies), [3, 5]);
    }

    #[test]
    fn a_long_timer_is_looked_at_for_many_together() {
        let day = 86_400;
        let step = i64::from(day) * 10;
        let first = look_at(1_000_000_000, day);
        assert!((1_000_000_000..1_000_000_000 + step).contains(&first));
        assert_eq!(look_at(first, day), first);
        assert_eq!(look_at(first - step + 1, day), first);
        // Nothing is won with a short one.
        assert_eq!(look_at(1_000_000_001, 60), 1_000_000_001);
    }

    /// A session where a message waits.
    fn queued() -> Session {
        let pending = Pending {
            seq: Seq(5),
            at: 0,
            trust: Trust::Public,
            alone: false,
            group: None,
            body: Arc::default(),
        };
        Session { queue: vec![pending], ..Session::new() }
    }

    #[test]
    fn what_is_needed_for_long_is_looked_at_less_often() {
        let again = |now: Timestamp| gone(&queued(), now).2.map(|at| at - now);
        assert_eq!(again(30_000), Some(AGAIN_MS));
        assert_eq!(again(16_000 + 5 * AGAIN_MS), Some(5 * AGAIN_MS));
        assert_eq!(again(100_000_000), Some(AGAIN_MS_MAX));
    }

    #[test]
    fn what_is_open_is_needed_still() {
        assert_eq!(gone(&queued(), 20_000), (vec![], 0, Some(20_000 + AGAIN_MS)));
    }
}
