//! The record of restrictions.

use turnkeep_core::guard::{AbuseKind, Severity};
use turnkeep_core::ports::guard::{Restriction, RestrictionFilter, Restrictions};

use crate::fixture::{DAY_MS, Home, NOW};

fn restriction(tenant: &str, customer: &str, severity: Severity) -> Restriction {
    Restriction {
        id: 0,
        tenant: tenant.into(),
        customer: customer.into(),
        severity,
        kind: AbuseKind::Flooding,
        since: NOW,
        until: severity.until(NOW),
        reason: "1 800 messages in a minute; the rate lets 360 through: 100 % too many".into(),
        appeal: None,
        appealed_at: None,
        lifted_at: None,
        lifted_by: None,
    }
}

async fn listed(store: &impl Restrictions, filter: RestrictionFilter) -> Vec<u64> {
    let rows = store.restrictions(filter, 0, 100).await.unwrap();
    rows.into_iter().map(|row| row.id).collect()
}

pub(crate) async fn a_restriction_is_kept_as_it_was_made<H: Home>(home: &H) {
    let mut kept = Vec::new();
    {
        let store = home.open();
        for (severity, kind) in [
            (Severity::Restrict, AbuseKind::Flooding),
            (Severity::Block, AbuseKind::RepeatedText),
            (Severity::Permanent, AbuseKind::Manual),
        ] {
            let new = Restriction { kind, ..restriction("acme", severity.as_str(), severity) };
            let added = store.add_restriction(new.clone()).await.unwrap();
            assert!(added.id > kept.last().map_or(0, |last: &Restriction| last.id));
            assert_eq!(added, Restriction { id: added.id, ..new });
            kept.push(added);
        }
    }
    let store = home.open();
    assert_eq!(store.restrictions(RestrictionFilter::default(), 0, 100).await.unwrap(), kept);
    let [first, second, _] = &kept[..] else { panic!() };
    let page = store.restrictions(RestrictionFilter::default(), first.id, 1).await.unwrap();
    assert_eq!(page, std::slice::from_ref(second));
    assert_eq!(store.restriction(second.id).await.unwrap().as_ref(), Some(second));
    assert_eq!(store.restriction(99).await.unwrap(), None);
    assert_eq!(store.restriction(u64::MAX).await.unwrap(), None);
}

pub(crate) async fn one_restriction_of_a_customer_counts_at_a_time<H: Home>(home: &H) {
    let store = home.open();
    let new = |tenant, customer, severity| restriction(tenant, customer, severity);
    let first = store.add_restriction(new("acme", "mallory", Severity::Restrict)).await.unwrap();
    let others = [("acme", "anna"), ("other", "mallory")];
    for (tenant, customer) in others {
        store.add_restriction(new(tenant, customer, Severity::Restrict)).await.unwrap();
    }
    let second = Restriction { since: NOW + 5, ..new("acme", "mallory", Severity::Block) };
    let second = store.add_restriction(second).await.unwrap();
    let replaced = store.restriction(first.id).await.unwrap().unwrap();
    assert_eq!(replaced.lifted_at, Some(NOW + 5));
    assert_eq!(replaced.lifted_by, Some(format!("replaced by {}", second.id)));
    for (tenant, customer) in others {
        let (tenant, customer) = (Some(tenant.to_owned()), Some(customer.to_owned()));
        let filter = RestrictionFilter { tenant, customer, lasting_at: Some(NOW) };
        assert_eq!(listed(&store, filter).await.len(), 1);
    }
}

pub(crate) async fn restrictions_are_found_by_whom_and_when<H: Home>(home: &H) {
    let store = home.open();
    let mut ids = Vec::new();
    for (tenant, customer, severity) in [
        ("acme", "one", Severity::Restrict),
        ("acme", "two", Severity::Permanent),
        ("other", "one", Severity::Block),
    ] {
        ids.push(store.add_restriction(restriction(tenant, customer, severity)).await.unwrap().id);
    }
    let check = async |tenant: Option<&str>,
                       customer: Option<&str>,
                       days: Option<i64>,
                       expect: &[usize]| {
        let filter = RestrictionFilter {
            tenant: tenant.map(str::to_owned),
            customer: customer.map(str::to_owned),
            lasting_at: days.map(|days| NOW + days * DAY_MS),
        };
        let expect: Vec<u64> = expect.iter().map(|index| ids[*index]).collect();
        assert_eq!(listed(&store, filter.clone()).await, expect, "{filter:?}");
    };
    check(None, None, None, &[0, 1, 2]).await;
    check(Some("acme"), None, None, &[0, 1]).await;
    check(Some("acme"), Some("one"), None, &[0]).await;
    check(Some("acm"), None, None, &[]).await;
    check(None, None, Some(1), &[0, 1, 2]).await;
    check(None, None, Some(2), &[1]).await;
    check(Some("other"), None, Some(2), &[]).await;
    store.lift_restriction(ids[1], NOW, "anna".into()).await.unwrap();
    check(None, None, Some(2), &[]).await;
    check(None, None, None, &[0, 1, 2]).await;
}

pub(crate) async fn a_restriction_is_lifted_once_and_appealed<H: Home>(home: &H) {
    let id = {
        let store = home.open();
        let new = restriction("acme", "mallory", Severity::Block);
        let id = store.add_restriction(new.clone()).await.unwrap().id;
        let appealed = store.appeal_restriction(id, NOW + 1, "a mistake".into()).await.unwrap();
        let expect =
            Restriction { id, appeal: Some("a mistake".into()), appealed_at: Some(NOW + 1), ..new };
        assert_eq!(appealed, Some(expect.clone()));
        let lifted = store.lift_restriction(id, NOW + 2, "anna".into()).await.unwrap();
        let expect = Some(Restriction {
            lifted_at: Some(NOW + 2),
            lifted_by: Some("anna".into()),
            ..expect
        });
        assert_eq!(lifted, expect);
        assert_eq!(store.lift_restriction(id, NOW + 3, "ben".into()).await.unwrap(), expect);
        assert_eq!(store.lift_restriction(99, NOW, "anna".into()).await.unwrap(), None);
        assert_eq!(store.appeal_restriction(99, NOW, "why".into()).await.unwrap(), None);
        id
    };
    let kept = home.open().restriction(id).await.unwrap().unwrap();
    assert_eq!(
        (kept.lifted_by.as_deref(), kept.appeal.as_deref()),
        (Some("anna"), Some("a mistake"))
    );
    assert!(!kept.is_in_force(NOW));
}

pub(crate) async fn what_counts_of_an_erased_customer_stays<H: Home>(home: &H) {
    let store = home.open();
    let mut ids = Vec::new();
    for (tenant, customer) in [("acme", "one"), ("acme", "one"), ("acme", "two"), ("other", "one")]
    {
        let made = store.add_restriction(restriction(tenant, customer, Severity::Block)).await;
        ids.push(made.unwrap().id);
    }
    store.appeal_restriction(ids[1], NOW, "not me".into()).await.unwrap();
    assert_eq!(store.erase_restrictions("acme", "one", NOW).await.unwrap(), 1);
    assert_eq!(listed(&store, RestrictionFilter::default()).await, ids[1..]);
    assert_eq!(store.restriction(ids[1]).await.unwrap().unwrap().appeal, None);
    assert_eq!(store.erase_restrictions("acme", "one", NOW + 2 * DAY_MS).await.unwrap(), 0);
    assert_eq!(listed(&store, RestrictionFilter::default()).await, ids[2..]);
}

pub(crate) async fn ended_restrictions_are_forgotten_in_steps<H: Home>(home: &H) {
    let store = home.open();
    let mut ids = Vec::new();
    for (customer, severity) in [
        ("one", Severity::Restrict),
        ("two", Severity::Block),
        ("three", Severity::Permanent),
        ("four", Severity::Permanent),
    ] {
        ids.push(store.add_restriction(restriction("acme", customer, severity)).await.unwrap().id);
    }
    store.lift_restriction(ids[3], NOW, "anna".into()).await.unwrap();
    assert_eq!(store.forget_restrictions(NOW, 10).await.unwrap(), 0);
    assert_eq!(store.forget_restrictions(NOW + 1, 10).await.unwrap(), 1);
    assert_eq!(listed(&store, RestrictionFilter::default()).await, ids[..3]);
    assert_eq!(store.forget_restrictions(NOW + 2 * DAY_MS, 1).await.unwrap(), 1);
    assert_eq!(store.forget_restrictions(NOW + 2 * DAY_MS, 10).await.unwrap(), 1);
    assert_eq!(listed(&store, RestrictionFilter::default()).await, [ids[2]]);
    let next = store.add_restriction(restriction("acme", "five", Severity::Block)).await.unwrap();
    assert!(next.id > ids[3], "numbers are not used twice");
}
