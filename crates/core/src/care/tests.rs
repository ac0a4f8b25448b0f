//! A history may be cut anywhere, and its audit goes on as if nothing had gone.

use smallvec::smallvec;
use uuid::Uuid;

use super::*;
use crate::ids::{Attempt, Epoch, TurnGroupId};
use crate::journal::{DeadReason, Heard, Imported, ImportedLine, ImportedRole};
use crate::message::{Action, MessageBody, Pending};
use crate::policy::Trust;

fn turn(number: u128) -> TurnId {
    TurnId(Uuid::from_u128(number))
}

fn accepted(sender: &str, retry_of: Option<u64>) -> EventBody {
    EventBody::MessageAccepted {
        message_id: "m".into(),
        sender: sender.into(),
        text: "words".into(),
        trust: Trust::Public,
        action: Action::WorkflowStarted,
        turn_id: None,
        queue_position: None,
        retry_of: retry_of.map(Seq),
        held: false,
        disappears_s: None,
    }
}

fn started(number: u128, message: u64) -> [EventBody; 2] {
    let (turn_id, messages): (_, crate::ids::Seqs) = (turn(number), smallvec![Seq(message)]);
    let group = TurnGroupId(turn_id.0);
    [
        EventBody::TurnStarted {
            turn_id,
            turn_group_id: group,
            messages: messages.clone(),
            supersedes: None,
        },
        EventBody::TurnProcessing { turn_id, attempt: Attempt(1), epoch: Epoch(1), messages },
    ]
}

fn completed(number: u128, messages: &[u64]) -> EventBody {
    EventBody::TurnCompleted {
        turn_id: turn(number),
        attempt: Attempt(1),
        epoch: Epoch(1),
        messages: messages.iter().copied().map(Seq).collect(),
        reply: Some("an answer".into()),
        version: None,
        by: None,
    }
}

/// Answered with mail, failed, answered, tried again, discarded, answered.
fn history() -> Vec<Event> {
    let mut bodies = vec![accepted("ann", None)];
    bodies.extend(started(1, 1));
    bodies.push(accepted("bob", None));
    bodies.push(EventBody::TurnMessageAbsorbed { turn_id: turn(1), messages: smallvec![Seq(4)] });
    bodies.push(completed(1, &[1, 4]));
    for (number, place) in [(2, 7), (3, 11)] {
        bodies.push(accepted("ann", None));
        bodies.extend(started(number, place));
        bodies.push(EventBody::TurnFailed {
            turn_id: turn(number),
            reason: DeadReason::AgentFailed,
            error: "no".into(),
            messages: smallvec![Seq(place)],
            acts: smallvec![],
        });
    }
    bodies.push(accepted("ann", Some(7)));
    bodies.extend(started(4, 15));
    bodies.push(completed(4, &[15]));
    bodies.push(EventBody::MessageDiscarded { message: Seq(11) });
    bodies.push(accepted("bob", None));
    bodies.extend(started(5, 20));
    bodies.push(completed(5, &[20]));
    let events = bodies.into_iter().zip(1..);
    events.map(|(body, seq)| Event { seq: Seq(seq), at: seq.cast_signed() * 10, body }).collect()
}

fn stored(forgotten: &Forgotten) -> Forgotten {
    serde_json::from_str(&serde_json::to_string(forgotten).unwrap()).unwrap()
}

#[test]
fn the_audit_goes_on_behind_any_cut() {
    let events = history();
    let session = Session { last_seq: Seq(23), ..Session::new() };
    for first in 0..events.len() {
        for second in first..events.len() {
            let mut known = None;
            for cut in [first, second] {
                let mut reading = Reading::all(known.take(), Seq(cut as u64));
                let from = usize::try_from(reading.after().0).unwrap();
                events[from..].iter().take_while(|event| reading.observe(event)).count();
                assert!(!reading.is_broken());
                known = Some(stored(&reading.forgotten(Why::Retention, 7)));
            }
            let known = known.unwrap();
            assert_eq!(known.through, Seq(second as u64));
            let mut checker = known.checker.clone();
            events[second..].iter().for_each(|event| checker.observe(event));
            checker.finish(&session);
            assert_eq!(checker.violations(), [], "cut at {first} and {second}");
            assert_eq!((checker.accepted(), checker.committed()), (6, 4));
            assert_eq!((checker.retried(), checker.discarded()), (1, 1));
            assert_eq!(known.by_retention, known.checker.accepted());
        }
    }
}

#[test]
fn letters_that_go_with_their_places_are_nobodys_any_more() {
    let events = history();
    let mut reading = Reading::all(None, Seq(14));
    events.iter().take_while(|event| reading.observe(event)).count();
    let mut forgotten = reading.forgotten(Why::Erasure, 7);
    assert_eq!(forgotten.checker.dead(), [Seq(7), Seq(11)]);
    forgotten.bury(&[Seq(11)]);
    let forgotten = stored(&forgotten);
    assert_eq!((forgotten.letters, forgotten.by_erasure, forgotten.turn), (1, 4, Some(turn(3))));
    let mut checker = forgotten.checker;
    events[14..].iter().for_each(|event| checker.observe(event));
    // The one that was discarded after all is none that still was there.
    let found: Vec<_> = checker.violations().iter().map(|found| found.invariant).collect();
    assert_eq!(found, ["I2"]);
}

#[test]
fn a_cut_stops_before_what_is_young_open_or_on_its_way() {
    let events = history();
    let body = std::sync::Arc::new(MessageBody::default());
    let pending = |seq| Pending {
        seq: Seq(seq),
        at: 0,
        trust: Trust::Public,
        alone: false,
        group: None,
        body: body.clone(),
    };
    let part = |reply| crate::outbox::OutPart {
        reply: Seq(reply),
        part: 0,
        state: crate::outbox::DeliveryState::Pending,
        tries: 0,
        tries_before: 0,
        since: 0,
        until: None,
        text: "".into(),
    };
    let check = |before: Timestamp, open: Option<u64>, leaving: Option<u64>, expect: u64| {
        let mut session = Session { last_seq: Seq(23), ..Session::new() };
        session.queue.extend(open.map(pending));
        session.outbox.parts.extend(leaving.map(part));
        let mut reading = Reading::old(None, &session, before);
        events.iter().take_while(|event| reading.observe(event)).count();
        assert_eq!(reading.after(), Seq(expect), "{before} {open:?} {leaving:?}");
    };
    check(0, None, None, 0);
    check(61, None, None, 6);
    check(60, None, None, 5);
    check(Timestamp::MAX, None, None, 23);
    check(Timestamp::MAX, Some(20), None, 19);
    check(Timestamp::MAX, Some(20), Some(6), 5);
    check(Timestamp::MAX, Some(1), None, 0);
}

#[test]
fn a_broken_beginning_is_noted() {
    let mut events = history();
    events.remove(5);
    let mut reading = Reading::all(None, Seq(20));
    events.iter().take_while(|event| reading.observe(event)).count();
    assert!(reading.is_broken());
    assert!(reading.forgotten(Why::Erasure, 7).findings > 0);
}

#[test]
fn traces_are_the_messages_and_what_was_said_to_them() {
    let mut traces = Traces::default();
    history().iter().for_each(|event| traces.observe(event, "bob"));
    let places: Vec<u64> = traces.places.iter().map(|seq| seq.0).collect();
    assert_eq!(places, [4, 6, 20, 23]);
    assert_eq!(traces.turns.into_iter().collect::<Vec<_>>(), [turn(1), turn(5)]);
    let mut nobody = Traces::default();
    history().iter().for_each(|event| nobody.observe(event, "eve"));
    assert!(nobody.is_empty());
}

#[test]
fn what_was_said_of_a_message_and_of_its_answer_is_a_trace_too() {
    let refused = |message: u64| EventBody::GuardRefused {
        message: Seq(message),
        by_default: false,
        detail: Some("it says words".into()),
    };
    let settled = |reply: u64| EventBody::DeliverySettled {
        reply: Seq(reply),
        part: 0,
        state: crate::outbox::DeliveryState::Dead,
        detail: Some("an answer is too long".into()),
    };
    let mut bodies = vec![accepted("ann", None), accepted("bob", None)];
    for message in [1, 2] {
        bodies.extend([refused(message), EventBody::notice("it says words".into())]);
    }
    for (number, sender) in [(1, "ann"), (2, "bob")] {
        let message = bodies.len() as u64 + 1;
        bodies.push(accepted(sender, None));
        bodies.extend(started(number, message));
        bodies.extend([completed(number, &[message]), settled(message + 3)]);
    }
    let events =
        bodies.into_iter().zip(1..).map(|(body, seq)| Event { seq: Seq(seq), at: 0, body });
    let mut traces = Traces::default();
    events.for_each(|event| traces.observe(&event, "bob"));
    let places: Vec<u64> = traces.places.iter().map(|seq| seq.0).collect();
    assert_eq!(places, [2, 5, 6, 12, 15, 16]);
}

#[test]
fn blanking_leaves_what_the_audit_reads() {
    let mut checker = Checker::new();
    for mut event in history() {
        blank(&mut event);
        let text = serde_json::to_string(&event).unwrap();
        assert!(
            !["words", "answer", "ann", "bob"].iter().any(|word| text.contains(word)),
            "{text}"
        );
        checker.observe(&event);
    }
    assert_eq!(checker.violations(), []);
    assert_eq!(checker.accepted(), 6);
}

/// Lines that were imported name no turns: an answer is to all who spoke before it.
#[test]
fn traces_in_an_imported_conversation_are_known_by_their_order() {
    let line = |role, text: &str, sender: Option<&str>| {
        EventBody::HistoryImported(Box::new(ImportedLine {
            role,
            text: text.into(),
            said_at: 1,
            heard: Heard::Said,
            sender: sender.map(Into::into),
            by: None,
        }))
    };
    let user = |sender: &str| line(ImportedRole::User, "words", Some(sender));
    let agent = || line(ImportedRole::Agent, "an answer", None);
    let head = Imported {
        from: "acme:helper:web:dm:ann".into(),
        saved_at: 1,
        lines: 7,
        sha256: "00".into(),
        by: Some("key 1".into()),
    };
    let bodies = [
        EventBody::SessionImported(Box::new(head)),
        user("ann"),
        user("bob"),
        agent(),
        agent(),
        user("bob"),
        agent(),
        user("ann"),
    ];
    let numbered = bodies.into_iter().zip(1..);
    let mut events: Vec<Event> =
        numbered.map(|(body, seq)| Event { seq: Seq(seq), at: 0, body }).collect();
    let places = |customer: &str| {
        let mut traces = Traces::default();
        events.iter().for_each(|event| traces.observe(event, customer));
        traces.places.iter().map(|seq| seq.0).collect::<Vec<_>>()
    };
    assert_eq!(places("ann"), [1, 2, 4, 5, 8], "the head names her, too");
    assert_eq!(places("bob"), [3, 4, 5, 6, 7]);
    assert!(places("eve").is_empty());
    let mut checker = Checker::new();
    for event in &mut events {
        blank(event);
        let text = serde_json::to_string(event).unwrap();
        assert!(
            !["words", "answer", "ann", "bob", "key"].iter().any(|word| text.contains(word)),
            "{text}"
        );
        checker.observe(event);
    }
    assert_eq!((checker.violations(), checker.imported()), (&[][..], 7));
}

#[test]
fn a_notice_that_waits_keeps_itself_and_loses_its_text_with_the_rest() {
    let accepted = EventBody::SessionNoticeAccepted {
        message_id: "words".into(),
        text: "words".into(),
        scheduled: false,
    };
    let told = EventBody::SessionNotice {
        text: "words".into(),
        source: NoticeSource::Unasked,
        message_id: Some("words".into()),
        of: Some(Seq(2)),
        by: None,
    };
    let bodies = [EventBody::SessionOptedIn, accepted, told, EventBody::notice("sorry".into())];
    let events = bodies.into_iter().zip(1..);
    let events: Vec<Event> =
        events.map(|(body, seq)| Event { seq: Seq(seq), at: 0, body }).collect();
    let mut session = Session { last_seq: Seq(4), opted_in: true, ..Session::new() };
    let body = std::sync::Arc::new(MessageBody::default());
    session.notices.push(crate::session::Notice { seq: Seq(2), scheduled: false, body });
    let mut reading = Reading::old(None, &session, Timestamp::MAX);
    events.iter().take_while(|event| reading.observe(event)).count();
    assert_eq!(reading.after(), Seq(1));
    // The audit goes on behind the cut: it still knows who opted in.
    let mut checker = stored(&reading.forgotten(Why::Retention, 7)).checker;
    for mut event in events.into_iter().skip(1) {
        blank(&mut event);
        assert!(!serde_json::to_string(&event).unwrap().contains("words"));
        checker.observe(&event);
    }
    session.notices.clear();
    checker.finish(&session);
    assert_eq!(checker.violations(), []);
}

#[test]
fn commands_and_context_are_their_senders_and_so_are_the_answers() {
    let (id, words): (std::sync::Arc<str>, std::sync::Arc<str>) = ("ann-1".into(), "words".into());
    let trust = Trust::Inner;
    let bodies = |sender: &str| {
        let (message_id, text, sender) = (id.clone(), words.clone(), sender.into());
        [
            EventBody::MessageCommand {
                message_id: message_id.clone(),
                sender: std::sync::Arc::clone(&sender),
                text: text.clone(),
                trust,
                command: crate::journal::CommandName::Say,
                refused: false,
                disappears_s: None,
            },
            EventBody::MessageContext {
                message_id,
                sender,
                text,
                trust,
                of: None,
                by_default: false,
                disappears_s: None,
            },
        ]
    };
    let [asked, said] = bodies("ann");
    let [other, heard] = bodies("bob");
    let answer = |command| EventBody::answer(words.clone(), Seq(command));
    let events = [asked, answer(1), said, other, answer(4), heard].into_iter().zip(1..);
    let mut events: Vec<Event> =
        events.map(|(body, seq)| Event { seq: Seq(seq), at: 0, body }).collect();
    let mut traces = Traces::default();
    events.iter().for_each(|event| traces.observe(event, "ann"));
    assert_eq!(traces.places.iter().map(|seq| seq.0).collect::<Vec<_>>(), [1, 2, 3]);
    // A cut between a command and its answer loses neither.
    let mut reading = Reading::all(None, Seq(4));
    events.iter().take_while(|event| reading.observe(event)).count();
    let mut checker = stored(&reading.forgotten(Why::Retention, 7)).checker;
    for event in &mut events[4..] {
        blank(event);
        assert!(!serde_json::to_string(event).unwrap().contains("words"));
        checker.observe(event);
    }
    assert_eq!((checker.violations(), checker.commands(), checker.context()), (&[][..], 2, 2));
    // One that answers twice, or answers nothing, is found.
    for bodies in [&[5][..], &[4, 4]] {
        let mut checker = Checker::new();
        events[..4].iter().for_each(|event| checker.observe(event));
        for (command, seq) in bodies.iter().zip(5..) {
            checker.observe(&Event { seq: Seq(seq), at: 0, body: answer(*command) });
        }
        let found: Vec<_> = checker.violations().iter().map(|found| found.invariant).collect();
        assert_eq!(found, ["I30"], "{bodies:?}");
    }
}
