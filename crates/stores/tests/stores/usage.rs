//! Sums of what runs used: written with their commits, read in lines, put together when they are old.

use std::sync::Arc;

use turnkeep_core::care::{Reading, Why};
use turnkeep_core::ports::care::{CareStore, Forget, Forgot};
use turnkeep_core::ports::store::{CommitOutcome, Store, TurnStatus};
use turnkeep_core::ports::usage::{By, UsageLine, UsageQuery, UsageStore};
use turnkeep_core::usage::{Day, SUM_MAX, Sums};
use turnkeep_core::{Seq, SessionKey, SessionKind, Timestamp};

use crate::care::exchange;
use crate::fixture::{Chat, DAY_MS, Home, NOW, key, key_of, turn_id, turn_row};

/// So many tokens, at a price of one micro each.
fn sums(tokens: u64) -> Sums {
    Sums { requests: 1, output_tokens: tokens, cost_micros: tokens, ..Sums::default() }
}

fn all(by: By) -> UsageQuery {
    UsageQuery { by, tenant: None, customer: None, session: None, from: None, to: None }
}

/// What a conversation used at this time.
async fn uses(store: &impl Store, chat: &mut Chat, at: Timestamp, model: &str, tokens: u64) {
    chat.session.updated_at = at;
    chat.used(turn_id(1), model, sums(tokens));
    chat.commit(store).await;
}

async fn lines(store: &impl UsageStore, query: UsageQuery) -> Vec<UsageLine> {
    store.usage(query, 100).await.unwrap()
}

/// Names and tokens, in the order of the answer.
async fn told(
    store: &impl UsageStore,
    query: UsageQuery,
    name: fn(&UsageLine) -> Option<String>,
) -> Vec<(Option<String>, u64)> {
    let lines = lines(store, query).await;
    lines.iter().map(|line| (name(line), line.sums.tokens())).collect()
}

fn named(pairs: &[(&str, u64)]) -> Vec<(Option<String>, u64)> {
    pairs.iter().map(|(name, tokens)| (Some((*name).to_owned()), *tokens)).collect()
}

fn text(text: Option<&Arc<str>>) -> Option<String> {
    text.map(ToString::to_string)
}

pub(crate) async fn what_is_used_is_summed_up_by_whatever_is_asked(home: &impl Home) {
    let store = home.open();
    let mut anna = Chat::new("anna");
    let mut ben = Chat::with_key(key_of("other", "ben"));
    let group = SessionKey::new("tenant", "agent", "api", SessionKind::Group, "all").unwrap();
    let mut group = Chat::with_key(group);
    uses(&store, &mut anna, NOW, "m1", 1).await;
    uses(&store, &mut anna, NOW, "m2", 2).await;
    uses(&store, &mut ben, NOW, "m1", 100).await;
    uses(&store, &mut group, NOW, "m1", 10).await;
    drop(store);
    let store = home.open();
    let tenants = told(&store, all(By::Tenant), |line| text(line.tenant.as_ref())).await;
    assert_eq!(tenants, named(&[("other", 100), ("tenant", 13)]));
    let models = told(&store, all(By::Model), |line| text(line.model.as_ref())).await;
    assert_eq!(models, named(&[("m1", 111), ("m2", 2)]));
    let agents = told(&store, all(By::Agent), |line| text(line.agent.as_ref())).await;
    assert_eq!(agents, named(&[("agent", 100), ("agent", 13)]));
    let sessions = told(&store, all(By::Session), |line| {
        line.session.as_ref().map(|key| key.as_str().to_owned())
    });
    let keys = [&ben.key, &group.key, &anna.key].map(SessionKey::as_str);
    assert_eq!(sessions.await, named(&[(keys[0], 100), (keys[1], 10), (keys[2], 3)]));
    let customers = told(&store, all(By::Customer), |line| text(line.customer.as_ref())).await;
    let nobody = (None, 10);
    let known = named(&[("ben", 100), ("anna", 3)]);
    assert_eq!(customers, [known[0].clone(), nobody, known[1].clone()]);
    assert_eq!(store.usage(all(By::Customer), 1).await.unwrap().len(), 1);
}

pub(crate) async fn sums_are_of_days_and_of_whom_is_asked_for(home: &impl Home) {
    let store = home.open();
    let (mut anna, mut ben) = (Chat::new("anna"), Chat::new("ben"));
    for (days, tokens) in [(0, 1), (1, 10), (2, 100)] {
        uses(&store, &mut anna, NOW + days * DAY_MS, "m", tokens).await;
    }
    uses(&store, &mut ben, NOW, "m", 1000).await;
    let today = Day::of(NOW);
    let check = async |query: UsageQuery, expect: &[(i32, u64)]| {
        let of_day = |line: &UsageLine| (line.day.unwrap().0 - today.0, line.sums.tokens());
        let told: Vec<(i32, u64)> = lines(&store, query.clone()).await.iter().map(of_day).collect();
        assert_eq!(told, expect, "{query:?}");
    };
    let by_day = all(By::Day);
    check(by_day.clone(), &[(0, 1001), (1, 10), (2, 100)]).await;
    check(UsageQuery { from: Some(today.plus(1)), ..by_day.clone() }, &[(1, 10), (2, 100)]).await;
    let (from, to) = (Some(today), Some(today.plus(1)));
    check(UsageQuery { from, to, ..by_day.clone() }, &[(0, 1001), (1, 10)]).await;
    let customer = UsageQuery {
        tenant: Some("tenant".into()),
        customer: Some("anna".into()),
        ..by_day.clone()
    };
    check(customer.clone(), &[(0, 1), (1, 10), (2, 100)]).await;
    check(UsageQuery { tenant: Some("other".into()), ..customer }, &[]).await;
    check(UsageQuery { session: Some(ben.key.clone()), ..by_day.clone() }, &[(0, 1000)]).await;
    check(UsageQuery { session: Some(key("nobody")), ..by_day }, &[]).await;
}

pub(crate) async fn a_turn_knows_what_it_used_until_it_is_forgotten(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("anna");
    let end = exchange(&store, &mut chat, 1, "hello").await;
    chat.used(turn_id(1), "m", sums(5));
    chat.used(turn_id(1), "other", sums(7));
    chat.commit(&store).await;
    // Its report comes when it is over; another one has none.
    chat.turn(turn_row(turn_id(2), TurnStatus::Accumulating));
    chat.commit(&store).await;
    let asked = vec![turn_id(2), turn_id(1)];
    let expect = Sums { requests: 2, ..sums(12) };
    assert_eq!(store.usage_of_turns(asked.clone()).await.unwrap(), [(turn_id(1), expect)]);
    let loaded = store.load(&chat.key).await.unwrap().unwrap();
    let mut reading = Reading::all(None, end);
    for event in store.events(&chat.key, Seq(0), 100).await.unwrap() {
        reading.observe(&event);
    }
    let forget = Forget {
        key: chat.key.clone(),
        expected: loaded.version,
        from: Seq(0),
        forgotten: reading.forgotten(Why::Retention, NOW),
        bury_as: None,
    };
    assert!(matches!(store.forget(forget).await.unwrap(), Forgot::Done(_)));
    while store.sweep(100).await.unwrap().more {}
    assert_eq!(store.usage_of_turns(asked).await.unwrap(), []);
    assert_eq!(lines(&store, all(By::Tenant)).await[0].sums, expect);
}

pub(crate) async fn who_is_erased_leaves_sums_without_a_name(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("anna");
    uses(&store, &mut chat, NOW, "m", 5).await;
    let mut reading = Reading::all(None, chat.session.last_seq);
    for event in store.events(&chat.key, Seq(0), 100).await.unwrap() {
        reading.observe(&event);
    }
    let forget = Forget {
        key: chat.key.clone(),
        expected: chat.version,
        from: Seq(0),
        forgotten: reading.forgotten(Why::Erasure, NOW),
        bury_as: Some("0123456789abcdef0123456789abcdef".to_owned()),
    };
    assert!(matches!(store.forget(forget).await.unwrap(), Forgot::Done(_)));
    // Whoever comes back under the name begins at nothing.
    let mut again = Chat::new("anna");
    uses(&store, &mut again, NOW, "m", 1).await;
    let customers = told(&store, all(By::Customer), |line| text(line.customer.as_ref())).await;
    assert_eq!(customers, [(None, 5), (Some("anna".to_owned()), 1)]);
    let sessions = lines(&store, all(By::Session)).await;
    assert_eq!((&sessions[0].session, sessions[0].sums.tokens()), (&None, 5));
    assert_eq!(lines(&store, all(By::Tenant)).await[0].sums.tokens(), 6);
    // What stands for the erased session still says how much it was, for the audit.
    let buried = store.sessions(None, None, 10).await.unwrap();
    let kept = buried.iter().filter(|(key, _)| *key != again.key);
    let kept: Vec<Option<u64>> = kept
        .map(|(_, loaded)| loaded.session.spent.as_ref().map(|spent| spent.sums.tokens()))
        .collect();
    assert_eq!(kept, [Some(5)]);
}

pub(crate) async fn old_days_are_put_together_and_nothing_is_lost(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("anna");
    for days in 0..10 {
        uses(&store, &mut chat, NOW + days * DAY_MS, "m", 1).await;
    }
    let before = Day::of(NOW).plus(7);
    assert_eq!(store.put_days_together(before, 5).await.unwrap(), 5);
    assert_eq!(store.put_days_together(before, 5).await.unwrap(), 2);
    assert_eq!(store.put_days_together(before, 5).await.unwrap(), 0);
    let days = lines(&store, all(By::Day)).await;
    let told: Vec<(Option<i32>, u64)> = days
        .iter()
        .map(|line| (line.day.map(|day| day.0 - before.0), line.sums.tokens()))
        .collect();
    assert_eq!(told, [(None, 7), (Some(0), 1), (Some(1), 1), (Some(2), 1)]);
    // What was put together is of no day that is asked for.
    let (from, to) = (Some(Day::of(NOW)), Some(before.plus(1)));
    for (from, to, tokens) in
        [(from, None, 3), (None, to, 2), (from, to, 2), (Some(Day(-1)), None, 3)]
    {
        let query = UsageQuery { from, to, ..all(By::Tenant) };
        assert_eq!(lines(&store, query.clone()).await[0].sums.tokens(), tokens, "{query:?}");
    }
    assert_eq!(lines(&store, all(By::Customer)).await[0].customer.as_deref(), Some("anna"));
}

pub(crate) async fn models_that_are_made_up_are_bounded(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("anna");
    for number in 0..50 {
        chat.used(turn_id(1), &format!("m{number}"), sums(1));
    }
    chat.commit(&store).await;
    uses(&store, &mut chat, NOW, "m3", 100).await;
    let models = told(&store, all(By::Model), |line| text(line.model.as_ref())).await;
    assert_eq!(models[..2], named(&[("m3", 101), ("other", 30)]));
    assert_eq!((models.len(), models.iter().map(|(_, tokens)| tokens).sum()), (21, 150));
}

pub(crate) async fn a_commit_that_does_not_happen_counts_nothing(home: &impl Home) {
    let store = home.open();
    let mut chat = Chat::new("anna");
    uses(&store, &mut chat, NOW, "m", 1).await;
    let mut late = chat.clone();
    uses(&store, &mut chat, NOW, "m", 1).await;
    late.used(turn_id(1), "m", sums(10));
    assert_eq!(store.commit(late.draft()).await.unwrap(), CommitOutcome::Conflict);
    assert_eq!(lines(&store, all(By::Tenant)).await[0].sums.tokens(), 2);
}

pub(crate) async fn sums_that_are_too_large_stop_at_the_largest(home: &impl Home) {
    let store = home.open();
    let (mut anna, mut ben) = (Chat::new("anna"), Chat::new("ben"));
    anna.turn(turn_row(turn_id(1), TurnStatus::Processing));
    for days in [0, 0, 0, 1] {
        uses(&store, &mut anna, NOW + days * DAY_MS, "m", SUM_MAX / 2).await;
    }
    uses(&store, &mut ben, NOW, "m", SUM_MAX / 2).await;
    uses(&store, &mut ben, NOW, "m", 7).await;
    for by in By::ALL {
        let costs: Vec<u64> =
            lines(&store, all(by)).await.iter().map(|line| line.sums.cost_micros).collect();
        let expect = match by {
            By::Customer | By::Session => vec![SUM_MAX, SUM_MAX / 2 + 7],
            By::Day => vec![SUM_MAX, SUM_MAX / 2],
            _ => vec![SUM_MAX],
        };
        assert_eq!(costs, expect, "{by:?}");
    }
    let of_turn = store.usage_of_turns(vec![turn_id(1)]).await.unwrap();
    assert_eq!((of_turn[0].1.output_tokens, of_turn[0].1.requests), (SUM_MAX, 6));
    // What is of no turn that there is a row of, sums know alone: nobody would ever forget it.
    ben.used(turn_id(9), "m", sums(1));
    ben.commit(&store).await;
    assert_eq!(store.usage_of_turns(vec![turn_id(9)]).await.unwrap(), []);
    assert_eq!(store.put_days_together(Day::of(NOW).plus(9), 10).await.unwrap(), 3);
    assert_eq!(lines(&store, all(By::Customer)).await[0].sums.cost_micros, SUM_MAX);
}
