//! The questions under a clock of the test's own.

use std::sync::Arc;

use turnkeep_core::Policy;
use turnkeep_core::guard::{Rate, Severity};
use turnkeep_core::message::Rejection;
use turnkeep_core::policy::channel_facts;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::guard::{Restriction, RestrictionFilter, Restrictions};
use turnkeep_core::ports::store::StoreError;

use super::*;

const NOW: i64 = 1_750_000_000_000;

/// No question to a message asks the record.
struct Unasked;

type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

impl Restrictions for Unasked {
    fn add_restriction(&self, _: Restriction) -> Answer<'_, Restriction> {
        unreachable!()
    }

    fn restriction(&self, _: u64) -> Answer<'_, Option<Restriction>> {
        unreachable!()
    }

    fn restrictions(&self, _: RestrictionFilter, _: u64, _: usize) -> Answer<'_, Vec<Restriction>> {
        unreachable!()
    }

    fn lift_restriction(&self, _: u64, _: i64, _: String) -> Answer<'_, Option<Restriction>> {
        unreachable!()
    }

    fn appeal_restriction(&self, _: u64, _: i64, _: String) -> Answer<'_, Option<Restriction>> {
        unreachable!()
    }

    fn erase_restrictions(&self, _: &str, _: &str, _: i64) -> Answer<'_, usize> {
        unreachable!()
    }

    fn forget_restrictions(&self, _: i64, _: usize) -> Answer<'_, usize> {
        unreachable!()
    }
}

struct Bench {
    guard: Guard,
    settings: GuardSettings,
    policy: Policy,
}

impl Bench {
    fn new(settings: GuardSettings, rate: Rate, tenant_rate: Rate) -> Self {
        let record = Arc::new(Unasked);
        let built_in = Policy::built_in(*channel_facts("api").unwrap());
        let policy = Policy { rate, tenant_rate, ..built_in };
        Self { guard: Guard::new(record), settings, policy }
    }

    fn ask(
        &self,
        customer: &str,
        text: &str,
        named: bool,
        after_ms: i64,
    ) -> Option<admission::Refused> {
        let question = Question {
            session_key: "acme:default:api:dm:somebody",
            tenant: "acme",
            customer,
            text,
            policy: &self.policy,
            settings: &self.settings,
            named,
            now: NOW + after_ms,
        };
        self.guard.admit(&question).err().map(|refused| *refused)
    }

    /// Says something new; why not, if it is not let in.
    fn says(&self, customer: &str, after_ms: i64) -> Option<&'static str> {
        let refused = self.ask(customer, &format!("text {after_ms}"), false, after_ms);
        refused.map(|refused| refused.rejection.as_str())
    }
}

const RATE: Option<&str> = Some("rate_limit_exceeded");
const FLOOD: Option<&str> = Some("abuse_detected:flooding");

#[test]
fn what_one_rate_refuses_costs_nothing_at_the_others() {
    let one_a_second = Rate::new(60, 1);
    let global = GuardSettings { global_rate: one_a_second, ..GuardSettings::default() };
    let by_all = Bench::new(global, Rate::new(1, 2), Rate::new(1, 3));
    let by_tenant = Bench::new(GuardSettings::default(), Rate::new(1, 2), one_a_second);
    for bench in [by_all, by_tenant] {
        assert_eq!(bench.says("anna", 0), None);
        for _ in 0..5 {
            assert_eq!(bench.says("ben", 0), RATE, "somebody else used it up");
        }
        // Had these cost anything, his own two would be gone, and the tenant's three.
        assert_eq!(bench.says("ben", 1000), None);
        assert_eq!(bench.says("ben", 2000), None);
        for _ in 0..5 {
            assert_eq!(bench.says("ben", 3000), RATE, "he used up his own");
        }
        assert_eq!(bench.guard.counts(), (2, 0));
    }
}

#[test]
fn the_wait_that_is_told_is_enough() {
    let bench = Bench::new(GuardSettings::default(), Rate::new(7, 3), Rate::UNLIMITED);
    let mut now = 0;
    for _ in 0..50 {
        if let Some(refused) = bench.ask("anna", &format!("text {now}"), false, now) {
            let Rejection::RateLimited { retry_after_ms } = refused.rejection else { panic!() };
            now += i64::try_from(retry_after_ms).unwrap();
            assert_eq!(bench.says("anna", now), None);
        }
    }
    assert!(now > 60_000, "nobody was refused");
}

#[test]
fn who_goes_on_flooding_is_blocked() {
    let bench = Bench::new(GuardSettings::default(), Rate::new(10, 10), Rate::UNLIMITED);
    let mut found = Vec::new();
    // Two hundred a second, for two minutes.
    for at in (0..120_000).step_by(5) {
        let refused = bench.ask("mallory", &at.to_string(), false, at);
        let made = refused.and_then(|refused| refused.restriction);
        found.extend(made.map(|made| (at / 1000, made.severity)));
    }
    // A hundred attempts are let pass as no flood; what is found within a minute is one incident.
    assert_eq!(found, [(0, Severity::Restrict), (60, Severity::Block)]);
    assert_eq!(bench.says("mallory", 120_000), FLOOD);
    assert_eq!(bench.says("anna", 120_000), None);
    // A day after the block she may write again, and still does not get more than her rate.
    assert_eq!(bench.says("mallory", 60_000 + 24 * 3_600_000 + 1000), None);
}

#[test]
fn a_flood_that_is_only_monitored_still_meets_its_rate() {
    let settings = GuardSettings { flood_severity: Severity::Monitor, ..GuardSettings::default() };
    let bench = Bench::new(settings, Rate::new(10, 10), Rate::UNLIMITED);
    let told: Vec<_> = (0..1000).map(|at| bench.says("mallory", at)).collect();
    assert!(told[..10].iter().all(Option::is_none));
    assert!(told[10..].iter().all(|told| *told == RATE), "{told:?}");
    assert_eq!(bench.guard.counts(), (1, 0));
}

#[test]
fn only_named_messages_are_looked_up_and_not_for_ever() {
    let bench = Bench::new(GuardSettings::default(), Rate::new(1, 1), Rate::UNLIMITED);
    assert_eq!(bench.says("anna", 0), None);
    let looked_up = |customer: &str, named: bool, at: i64| {
        bench.ask(customer, "x", named, at).is_some_and(|refused| refused.look_up)
    };
    assert!(!looked_up("anna", false, 0));
    let count = (0..50).filter(|_| looked_up("anna", true, 0)).count();
    assert_eq!(count, 30);
    assert!(looked_up("anna", true, 2000), "one comes back in two seconds");
    assert!(!looked_up("anna", true, 2000));
}

#[test]
fn all_look_ups_together_have_a_bound() {
    let bench = Bench::new(GuardSettings::default(), Rate::new(1, 1), Rate::UNLIMITED);
    let mut count = 0;
    for number in 0..100 {
        let customer = format!("customer {number}");
        bench.says(&customer, 0);
        let tries = (0..20).filter_map(|_| bench.ask(&customer, "x", true, 0));
        count += tries.filter(|refused| refused.look_up).count();
    }
    assert_eq!(count, 1000);
}

#[test]
fn a_clock_that_steps_back_keeps_nobody_out() {
    let bench = Bench::new(GuardSettings::default(), Rate::new(60, 2), Rate::new(60, 5));
    for at in [0, 0, 1000, 2000] {
        assert_eq!(bench.says("anna", at), None);
    }
    let back = -365 * 86_400_000;
    assert_eq!(bench.says("anna", back), RATE, "nothing is given away either");
    assert_eq!(bench.says("anna", back + 1000), None);
}
