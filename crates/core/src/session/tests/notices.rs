//! Messages that nobody asked for: consent, place, twins, bound.

use super::*;
use crate::outbox::DeliveryState;
use crate::session::NOTICES_MAX;

fn notify(text: &str, seen: Option<Seen>) -> Control {
    let body = MessageBody { message_id: text.into(), sender: Arc::default(), text: text.into() };
    Control::Notify { seen, body: Arc::new(body), scheduled: false }
}

fn opted_in(busy: BusyPolicy) -> Bench {
    let mut bench = Bench::new(busy);
    assert_eq!(bench.control(Control::OptIn(true)), Controlled::Done);
    bench
}

impl Bench {
    pub(super) fn tell(&mut self, text: &str) -> Controlled {
        self.control(notify(text, None))
    }

    /// The texts of the last step's notices.
    fn notices(&self) -> Vec<String> {
        let text = |event: &crate::Event| match &event.body {
            crate::EventBody::SessionNotice { text, .. } => Some(text.to_string()),
            _ => None,
        };
        self.last.rows.events.iter().filter_map(text).collect()
    }
}

const fn noticed(seq: u64, waits: bool) -> Controlled {
    Controlled::Noticed { seq: Seq(seq), waits, duplicate: false }
}

#[test]
fn nobody_is_told_who_did_not_opt_in() {
    let mut bench = Bench::new(BusyPolicy::Absorb);
    assert_eq!(bench.tell("news"), Controlled::NotOptedIn);
    assert_eq!(bench.told(), NOT_CHANGED);
    bench.control(Control::OptIn(true));
    assert_eq!(bench.told(), ["session.opted_in"]);
    assert_eq!(bench.tell("news"), noticed(2, false));
    assert_eq!(bench.notices(), ["news"]);
    assert!(bench.session.turn.is_none());
    assert_eq!(bench.control(Control::OptIn(true)), Controlled::Done);
    assert_eq!((bench.told(), bench.last.ignored), (vec![], Some(Ignored::NothingToControl)));
    bench.control(Control::OptIn(false));
    assert_eq!(bench.tell("more"), Controlled::NotOptedIn);
}

#[test]
fn what_comes_during_a_turn_is_told_between_the_turns() {
    let mut bench = opted_in(BusyPolicy::Collect);
    bench.say("one");
    bench.say("two");
    assert_eq!(bench.tell("first"), noticed(6, true));
    assert_eq!(bench.tell("second"), noticed(7, true));
    assert_eq!((bench.session.inbox_len(), bench.notices()), (1, vec![]));
    bench.finish("ok");
    let order =
        ["turn.completed", "session.notice", "session.notice", "turn.started", "turn.processing"];
    assert_eq!(
        (bench.told(), bench.notices()),
        (order.to_vec(), vec!["first".into(), "second".into()])
    );
    assert_eq!(bench.texts(), ["two"]);
}

#[test]
fn every_ending_lets_what_waits_be_told() {
    type Ending = fn(&mut Bench);
    let endings: [(&str, Ending); 5] = [
        ("stop", |bench| assert!(matches!(bench.stop(), Controlled::Stopped(_)))),
        ("fail", |bench| bench.fail(false)),
        ("new", |bench| assert_eq!(bench.control(Control::New), Controlled::Reset(1))),
        ("close", |bench| assert_eq!(bench.control(Control::Close), Controlled::Closed(1))),
        ("question", |bench| bench.agent(AgentInput::Ask(Token(1), "which?".into()))),
    ];
    for (name, end) in endings {
        let mut bench = opted_in(BusyPolicy::Absorb);
        bench.say("one");
        bench.tell("news");
        end(&mut bench);
        assert_eq!(bench.notices().iter().filter(|text| *text == "news").count(), 1, "{name}");
    }
}

#[test]
fn a_new_conversation_begins_with_what_waited() {
    let mut bench = opted_in(BusyPolicy::Absorb);
    bench.say("one");
    bench.tell("news");
    bench.control(Control::New);
    assert_eq!(bench.told(), ["turn.cancelled", "session.reset", "session.notice"]);
}

#[test]
fn while_the_user_is_asked_they_are_told_at_once() {
    let mut bench = opted_in(BusyPolicy::Absorb);
    bench.say("one");
    bench.agent(AgentInput::Ask(Token(1), "which?".into()));
    assert!(matches!(bench.tell("news"), Controlled::Noticed { waits: false, .. }));
    bench.say("that one");
    assert!(matches!(bench.tell("more"), Controlled::Noticed { waits: true, .. }));
}

#[test]
fn a_superseded_turn_is_not_over() {
    let mut bench = opted_in(BusyPolicy::Supersede);
    bench.say("one");
    bench.tell("news");
    bench.say("two");
    assert_eq!(bench.notices(), [""; 0]);
    bench.finish("ok");
    assert_eq!(bench.notices(), ["news"]);
}

#[test]
fn who_opts_out_is_not_told_what_waits() {
    let mut bench = opted_in(BusyPolicy::Absorb);
    bench.say("one");
    bench.tell("news");
    bench.control(Control::OptIn(false));
    assert_eq!(bench.told(), ["session.notice_cancelled", "session.opted_out"]);
    bench.finish("ok");
    assert_eq!(bench.notices(), [""; 0]);
}

#[test]
fn an_erased_customer_takes_nothing() {
    let mut bench = opted_in(BusyPolicy::Absorb);
    bench.say("one");
    bench.tell("news");
    bench.control(Control::Erase);
    assert_eq!(bench.notices(), [""; 0]);
    assert!(!bench.session.opted_in && !bench.session.has_open_work());
}

#[test]
fn a_closed_session_is_as_with_messages() {
    let mut api = opted_in(BusyPolicy::Collect);
    api.control(Control::Close);
    assert_eq!(api.tell("news"), Controlled::IsClosed);
    let mut chat = Bench::on("web", Policy::built_in(*channel_facts("web").unwrap()));
    chat.control(Control::OptIn(true));
    chat.control(Control::Close);
    chat.tell("news");
    assert_eq!(chat.told(), ["session.reopened", "session.notice"]);
}

#[test]
fn twins_are_asked_for_whatever_is_decided() {
    let seen = Some(Seen { key: [1; 16], body_hash: 7 });
    let mut bench = Bench::new(BusyPolicy::Absorb);
    let until = |bench: &Bench| match &bench.last.rows.guards[..] {
        [crate::ports::store::Guard::NotSeen { until, .. }] => *until,
        other => panic!("{other:?}"),
    };
    assert_eq!(bench.control(notify("news", seen)), Controlled::NotOptedIn);
    assert_eq!(until(&bench), 0);
    bench.control(Control::OptIn(true));
    bench.control(notify("news", seen));
    assert!(until(&bench) > bench.now);
}

#[test]
fn what_waits_is_bounded() {
    let mut bench = opted_in(BusyPolicy::Absorb);
    bench.say("one");
    for index in 0..NOTICES_MAX {
        assert!(matches!(bench.tell(&index.to_string()), Controlled::Noticed { .. }));
    }
    assert_eq!(bench.tell("one more"), Controlled::NoticesFull);
    bench.finish("ok");
    assert_eq!(bench.notices().len(), NOTICES_MAX);
    // What is told and not delivered yet counts as well.
    let mut push = Bench::on("signal", Policy::built_in(*channel_facts("signal").unwrap()));
    push.control(Control::OptIn(true));
    for index in 0..NOTICES_MAX {
        assert!(matches!(push.tell(&index.to_string()), Controlled::Noticed { waits: false, .. }));
    }
    assert_eq!(push.tell("one more"), Controlled::NoticesFull);
    let first = push.session.outbox.parts[0].clone();
    assert_eq!((first.state, &*first.text), (DeliveryState::Sending, "0"));
}

#[test]
fn what_a_job_has_told_needs_no_consent_and_keeps_its_place() {
    let scheduled = |text: &str| match notify(text, None) {
        Control::Notify { seen, body, .. } => Control::Notify { seen, body, scheduled: true },
        other => other,
    };
    let mut bench = Bench::new(BusyPolicy::Collect);
    assert_eq!(bench.control(scheduled("news")), noticed(1, false));
    let source = |bench: &Bench| match &bench.last.rows.events[0].body {
        crate::EventBody::SessionNotice { source, .. } => Some(*source),
        _ => None,
    };
    assert_eq!(source(&bench), Some(crate::journal::NoticeSource::Scheduled));
    // During a turn it waits, with what others have told, in order; who opts out is told it still.
    bench.control(Control::OptIn(true));
    bench.say("one");
    assert!(matches!(bench.tell("unasked"), Controlled::Noticed { waits: true, .. }));
    assert!(matches!(
        bench.control(scheduled("the oven")),
        Controlled::Noticed { waits: true, .. }
    ));
    bench.control(Control::OptIn(false));
    assert_eq!(bench.told(), ["session.notice_cancelled", "session.opted_out"]);
    assert_eq!(bench.session.notices.len(), 1);
    bench.control(Control::Stop { turn: None, shown: None });
    assert_eq!(bench.notices(), ["the oven"]);
}
