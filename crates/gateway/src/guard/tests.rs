//! The questions under a clock of the test's own.

use std::sync::Arc;

use proptest::prelude::*;
use turnkeep_core::Policy;
use turnkeep_core::guard::{AbuseKind, Bucket, Rate, Severity, Standing};
use turnkeep_core::message::Rejection;
use turnkeep_core::policy::channel_facts;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::guard::{Restriction, RestrictionFilter, Restrictions};
use turnkeep_core::ports::store::StoreError;

use super::admission::Question;
use super::rates::What;
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
        self.ask_at(&self.policy, customer, text, named, after_ms)
    }

    /// The same, where another policy holds.
    fn ask_at(
        &self,
        policy: &Policy,
        customer: &str,
        text: &str,
        named: bool,
        after_ms: i64,
    ) -> Option<admission::Refused> {
        self.ask_as(What::Sent, policy, customer, text, named, after_ms)
    }

    /// The same with something that may be counted by itself.
    fn ask_as(
        &self,
        what: What,
        policy: &Policy,
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
            policy,
            settings: &self.settings,
            named,
            what,
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

/// A policy like the bench's own, with other rates.
fn at(bench: &Bench, rate: Rate, tenant_rate: Rate) -> Policy {
    Policy { rate, tenant_rate, ..bench.policy.clone() }
}

fn restrict(bench: &Bench, customer: &str, severity: Severity, at: i64) {
    let name = bench.guard.names.of("acme", Some(customer));
    let standing = Standing::new(severity, AbuseKind::Manual, at, severity.until(at));
    bench.guard.standings.put(name, standing);
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

#[test]
fn who_is_restricted_gets_no_more_than_ten_in_any_minute() {
    let check = |rate: Rate, at_once: usize, in_ten_minutes: usize| {
        let bench = Bench::new(GuardSettings::default(), rate, Rate::UNLIMITED);
        restrict(&bench, "mallory", Severity::Restrict, NOW);
        let fast = at(&bench, Rate::new(60_000, 1), Rate::UNLIMITED);
        let passes = |policy: &Policy, after_ms: i64| {
            bench.ask_at(policy, "mallory", &after_ms.to_string(), false, after_ms).is_none()
        };
        let first = (0..100).filter(|_| passes(&bench.policy, 0)).count();
        assert_eq!(first, at_once, "{rate:?}");
        // Two a second, and as many on a channel with another rate, which gives nothing more.
        let both = [bench.policy.clone(), fast];
        let all = (1..1200).map(|number| number * 500);
        let passed: Vec<i64> =
            all.filter(|after| passes(&both[0], *after) || passes(&both[1], *after)).collect();
        assert_eq!(passed.len(), in_ten_minutes, "{rate:?}");
        for from in &passed {
            let within = passed.iter().filter(|at| (0..60_000).contains(&(*at - from))).count();
            assert!(within <= 10, "{within} for {rate:?}");
        }
    };
    check(Rate::new(120, 240), 1, 99);
    check(Rate::new(6, 240), 1, 99);
    check(Rate::UNLIMITED, 1, 99);
}

#[test]
fn restricted_makes_nobody_faster() {
    let bench = Bench::new(GuardSettings::default(), Rate::new(6, 240), Rate::UNLIMITED);
    restrict(&bench, "mallory", Severity::Restrict, NOW);
    let passed = (0..600).filter(|at| bench.says("mallory", at * 1000).is_none()).count();
    assert_eq!(passed, 60, "six a minute");
}

#[test]
fn what_is_used_at_one_rate_is_neither_held_against_another_nor_forgotten_there() {
    let settings = GuardSettings { abuse_detection: false, ..GuardSettings::default() };
    let bench = Bench::new(settings, Rate::new(6, 5), Rate::new(30, 2));
    let email = at(&bench, Rate::new(60_000, 1), Rate::new(60_000, 1));
    let (mut texted, mut mailed) = (0, 0);
    for number in 0..200_i64 {
        for round in 0..7 {
            let text = format!("{number} {round}");
            texted += usize::from(bench.ask("anna", &text, false, number).is_none());
        }
        // Once a millisecond is what that rate takes.
        let told = bench.ask_at(&email, "anna", &number.to_string(), false, number);
        mailed += usize::from(told.is_none());
    }
    // The tenant's two at once go before her five.
    assert_eq!((texted, mailed), (2, 200));
}

#[test]
fn whoever_is_forgotten_is_forgotten_at_every_rate() {
    let bench = Bench::new(GuardSettings::default(), Rate::new(1, 1), Rate::UNLIMITED);
    let other = at(&bench, Rate::new(1, 2), Rate::UNLIMITED);
    let both = |text: &str| {
        let told =
            [bench.ask("anna", text, false, 0), bench.ask_at(&other, "anna", text, false, 0)];
        told.map(|told| told.is_none())
    };
    assert_eq!([both("a"), both("b"), both("c")], [[true, true], [false, true], [false, false]]);
    bench.guard.forget(bench.guard.names.of("acme", Some("anna")));
    assert_eq!(both("d"), [true, true]);
}

#[test]
fn who_steers_meets_the_rates_and_what_is_in_force() {
    let bench = Bench::new(GuardSettings::default(), Rate::new(1, 3), Rate::new(1, 5));
    let steers = |customer: Option<&str>, steering: Steering| {
        let charge = rates::Charge {
            tenant: "acme",
            policy: &bench.policy,
            settings: &bench.settings,
            what: steering.counted_as(),
            now: NOW,
        };
        let told = bench.guard.steered(&charge, customer, steering);
        told.err().map(|rejection| rejection.as_str())
    };
    let (anna, ben) = (Some("anna"), Some("ben"));
    assert_eq!(bench.says("anna", 0), None);
    assert_eq!([steers(anna, Steering::Other), steers(anna, Steering::Other)], [None, None]);
    assert_eq!(steers(anna, Steering::Other), RATE, "her three are used");
    assert_eq!(bench.says("anna", 0), RATE);
    let typed = [(); 4].map(|()| steers(anna, Steering::Typing));
    assert_eq!(typed, [None, None, None, RATE], "typing is counted by itself");
    let stopped = [(); 4].map(|()| steers(anna, Steering::Stop));
    assert_eq!(stopped, [None, None, None, RATE], "and so is stopping");
    restrict(&bench, "ben", Severity::Block, NOW);
    for steering in [Steering::Other, Steering::Typing] {
        assert_eq!(steers(ben, steering), Some("abuse_detected:manual"));
    }
    assert_eq!(steers(ben, Steering::Stop), None);
    // A backend has what is left of the tenant's five, whoever is blocked.
    let done = [(); 3].map(|()| steers(None, Steering::Other));
    assert_eq!(done, [None, None, RATE]);
    assert_eq!(steers(None, Steering::Typing), None);
    // Four of the tenant's five stops are used; the same counts for whoever answers for customers.
    assert_eq!([steers(None, Steering::Stop), steers(ben, Steering::Stop)], [None, RATE]);
}

/// What is counted by itself passes the same rates once more: of its own, of its tenant, of everybody,
/// and those of whoever is restricted.
#[test]
fn what_is_counted_by_itself_passes_every_rate() {
    let many = Rate::new(1, 100);
    let global = GuardSettings { global_rate: Rate::new(1, 4), ..GuardSettings::default() };
    let by_all = Bench::new(global, many, many);
    let by_tenant = Bench::new(GuardSettings::default(), many, Rate::new(1, 4));
    for what in [What::Aside, What::Stop, What::Typing] {
        for bench in [&by_all, &by_tenant] {
            let says = |customer: &str, what: What| {
                let refused = bench.ask_as(what, &bench.policy, customer, "hi", false, 0);
                refused.map(|refused| refused.rejection.as_str())
            };
            let told = ["a", "b", "c", "d", "e"].map(|customer| says(customer, what));
            assert_eq!(told, [None, None, None, None, RATE], "{what:?}");
        }
        let bench = Bench::new(GuardSettings::default(), many, Rate::UNLIMITED);
        restrict(&bench, "mallory", Severity::Restrict, NOW);
        let passes =
            |at: &i64| bench.ask_as(what, &bench.policy, "mallory", "hi", false, *at).is_none();
        let passed = (0..60_000).step_by(500).filter(passes).count();
        assert_eq!(passed, 1, "{what:?}: her own rate gives one a minute");
        let fast = at(&bench, Rate::new(600, 600), Rate::UNLIMITED);
        let passes = |at: &i64| bench.ask_as(what, &fast, "mallory", "hi", false, *at).is_none();
        let passed = (0..60_000).step_by(500).filter(passes).count();
        assert_eq!(passed, 10, "{what:?}");
        // Her messages have what they had.
        assert_eq!(bench.says("mallory", 0), None);
    }
    for bench in [by_all, by_tenant] {
        assert_eq!(bench.says("anna", 0), None, "messages were not used up by it");
    }
}

proptest! {
    /// Whatever somebody does at another rate: at each rate they are let in as if there were no
    /// other, and never faster than it allows, in any interval.
    #[test]
    fn every_rate_is_kept_by_itself(
        rates in prop::array::uniform2((1_u32..2000, 1_u32..20)),
        tries in prop::collection::vec((any::<bool>(), 0_i64..3000), 1..150),
    ) {
        let settings = GuardSettings { abuse_detection: false, ..GuardSettings::default() };
        let bench = Bench::new(settings, Rate::UNLIMITED, Rate::UNLIMITED);
        let rates = rates.map(|(per_minute, burst)| Rate::new(per_minute, burst));
        let policies = rates.map(|rate| at(&bench, rate, Rate::UNLIMITED));
        prop_assume!(rates[0] != rates[1]);
        let mut alone = [Bucket::default(); 2];
        let mut passed = [Vec::new(), Vec::new()];
        let mut after_ms = 0;
        for (second, step) in tries {
            after_ms += step;
            let which = usize::from(second);
            let told = bench.ask_at(&policies[which], "anna", "x", false, after_ms);
            let expect = alone[which].take(rates[which], NOW + after_ms);
            prop_assert_eq!(told.is_none(), expect.is_ok());
            if told.is_none() {
                passed[which].push(after_ms);
            }
        }
        for (rate, passed) in rates.iter().zip(&passed) {
            for (first, from) in passed.iter().enumerate() {
                for (last, to) in passed.iter().enumerate().skip(first) {
                    let given = (to - from) * i64::from(rate.per_minute) / 60_000;
                    let allowed = given + i64::from(rate.burst) + 1;
                    prop_assert!((last - first + 1) as i64 <= allowed, "{passed:?}");
                }
            }
        }
    }
}
