//! What the simulator promises of itself: it finds nothing in what ships, it finds everything that
//! is planted, it reaches the branches that matter, and a seed is a history.

use turnkeep_sim::hunt::{hunt, median, run};
use turnkeep_sim::rng::Rng;
use turnkeep_sim::{Stock, World};

/// Unoptimised tests play fewer; CI and `make soak` play as many as they are told.
const SCHEDULES: u64 = if cfg!(debug_assertions) { 4000 } else { 100_000 };

/// Seeds whose schedules once broke a promise.
const FOUND: [u64; 17] =
    [7, 11, 27, 40, 43, 77, 112, 159, 254, 278, 371, 537, 9732, 12_418, 93_383, 106_577, 244_764];
/// The same where several nodes have the store open: two loads that adopted twice, an answer from
/// what was known long ago, a run and "typing" that were kept when others had had the session, and
/// the outcome of a delivery that was taken for that of another one.
const FOUND_TOGETHER: [u64; 5] = [232, 478, 21_722, 25_250, 64_001];
/// The same where two people had read of the same parked part: it was sent again for each of them.
const FOUND_BY_RIVALS: [u64; 1] = [471];
/// The same where a channel has one owner: who had a session of it before anybody owned it kept it, and
/// did nothing with it.
const FOUND_WITH_OWNERS: [u64; 2] = [103_630, 103_740];
/// The same where one node stood still with a report of what was used, and another one booked so many
/// runs meanwhile that it was booked twice; a message that joined a turn in the commit in which that
/// one took the others over; and two reports that were booked twice after a commit of which nobody knew
/// whether it happened, for what nodes that were gone had booked left room for one alone.
const FOUND_BY_A_MILLION: [u64; 5] = [20_877_744, 20_275_839, 398_201, 547_989, 733_276];

#[test]
fn every_schedule_keeps_every_promise() {
    let stocks = [Stock::prepare().unwrap(), Stock::prepare().unwrap()];
    let report = run(&stocks, 1_000_000, SCHEDULES, &|_| ());
    assert_eq!(report.failures, []);
    assert_eq!(report.schedules, SCHEDULES);
    let medians = (median(&report.step_counts), median(&report.message_counts));
    assert!(medians.0 >= 60 && medians.1 >= 8, "median steps and messages: {medians:?}");
}

#[test]
fn what_was_found_once_stays_mended() {
    let stock = Stock::prepare().unwrap();
    let mut world = World::new(&stock);
    for seed in FOUND
        .into_iter()
        .chain(FOUND_TOGETHER)
        .chain(FOUND_BY_RIVALS)
        .chain(FOUND_WITH_OWNERS)
        .chain(FOUND_BY_A_MILLION)
    {
        assert_eq!(world.play(seed, None).violations, [""; 0], "seed {seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_log_byte_for_byte() {
    let stock = Stock::prepare().unwrap();
    let mut used = World::new(&stock);
    for seed in 0..50 {
        let (verdict, log) = used.play_logged(seed, None);
        assert!(log.len() > 1000);
        assert_eq!((verdict, log), World::new(&stock).play_logged(seed, None), "seed {seed}");
    }
}

#[test]
fn every_planted_mistake_is_found_within_its_bound() {
    let stock = Stock::prepare().unwrap();
    for hunted in hunt(&stock, 0) {
        let (name, bound) = (hunted.name, hunted.bound);
        assert!(hunted.schedules.is_some(), "not found within {bound} schedules: {name}");
    }
}

/// Stage, input and outcome.
const WANTED: &[(&str, &str, &str)] = &[
    ("idle", "message", "turn.processing"),
    ("idle", "message", "turn.started"),
    ("closed", "message", "turn.processing"),
    ("accumulating", "message", "message.accepted"),
    ("accumulating", "timer", "turn.processing"),
    ("accumulating", "typing", "changed"),
    ("processing", "message", "message.accepted"),
    ("processing", "message", "supersede.asked"),
    ("processing", "message", "turn.processing"),
    ("processing", "answer", "supersede.decided"),
    ("processing", "take mail", "turn.message_absorbed"),
    ("processing", "commit point", "commit.reached"),
    ("processing", "ask", "turn.waiting_for_input"),
    ("processing", "finished", "turn.completed"),
    ("processing", "finished", "turn.processing"),
    ("processing", "finished", "stale run"),
    ("processing", "failed", "turn.retrying"),
    ("processing", "failed", "turn.failed"),
    ("processing", "stop", "turn.cancelled"),
    ("processing", "adopt", "turn.processing"),
    ("processing", "release", "changed"),
    ("committed", "message", "message.accepted"),
    ("committed", "stop", "session.notice"),
    ("stopping", "finished", "session.notice"),
    ("backoff", "timer", "turn.processing"),
    ("backoff", "message", "message.accepted"),
    ("quarantined", "grant", "turn.processing"),
    ("waiting", "message", "turn.answered"),
    ("waiting", "timer", "turn.failed"),
    ("waiting, run gone", "message", "turn.processing"),
    ("idle", "delivered", "delivery.settled"),
    ("idle", "retry", "turn.processing"),
    ("idle", "resend", "changed"),
    ("idle", "timer", "changed"),
    ("idle", "message", "message.accepted"),
    ("idle", "ruling", "turn.processing"),
    ("idle", "ruling", "turn.started"),
    ("idle", "ruling", "session.notice"),
    ("idle", "timer", "turn.processing"),
    ("processing", "ruling", "guard.allowed"),
    ("processing", "ruling", "turn.processing"),
    ("processing", "ruling", "guard.refused"),
    ("waiting", "ruling", "turn.answered"),
    ("idle", "notify", "session.notice"),
    ("processing", "notify", "session.notice_accepted"),
    ("waiting", "notify", "session.notice"),
    ("processing", "opt in", "session.opted_out"),
    ("processing", "used", "usage.recorded"),
    ("idle", "used", "usage.recorded"),
    ("processing", "intend", "tool.intended"),
    ("processing", "keep", "artifact.kept"),
    ("processing", "recall", "artifact.reused"),
    ("committed", "keep", "artifact.kept"),
    ("stopping", "intend", "answered"),
    ("idle", "message", "turn.waiting_for_operator"),
    ("idle", "reply", "session.notice"),
    ("processing", "pause", "turn.waiting_for_operator"),
    ("committed", "pause", "session.paused"),
    ("committed", "ask", "turn.waiting_for_operator"),
    ("waiting", "pause", "turn.waiting_for_operator"),
    ("with operator", "message", "message.accepted"),
    ("with operator", "reply", "turn.completed"),
    ("with operator", "reply", "turn.waiting_for_operator"),
    ("with operator", "hand back", "turn.processing"),
    ("with operator", "timer", "turn.processing"),
    ("with operator", "close", "session.closed"),
    ("idle", "command", "session.notice"),
    ("closed", "command", "session.notice"),
    ("accumulating", "command", "session.notice"),
    ("processing", "command", "session.notice"),
    ("committed", "command", "session.notice"),
    ("stopping", "command", "session.notice"),
    ("backoff", "command", "session.notice"),
    ("quarantined", "command", "session.notice"),
    ("waiting", "command", "session.notice"),
    ("waiting, run gone", "command", "session.notice"),
    ("with operator", "command", "session.notice"),
    ("idle", "context", "message.context"),
    ("processing", "context", "message.context"),
    ("waiting", "context", "message.context"),
    ("idle", "ruling", "message.context"),
    ("processing", "ruling", "message.context"),
];

#[test]
fn the_branches_that_matter_are_reached() {
    let stocks = [Stock::prepare().unwrap(), Stock::prepare().unwrap()];
    let coverage = run(&stocks, 0, 4000, &|_| ()).coverage;
    let missed: Vec<_> = WANTED
        .iter()
        .copied()
        .filter(|(stage, kind, outcome)| coverage.times(stage, kind, outcome) == 0)
        .collect();
    assert_eq!(missed, []);
}

/// Whoever waits is served before anybody else of its kind is served twice.
#[test]
fn a_provider_slot_goes_round_robin_over_tenants() {
    use turnkeep_core::fair::{Class, FairQueue};
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let tenants = rng.between(2, 6);
        let mut queue = FairQueue::default();
        let mut waits = [0_u64; 6];
        for _ in 0..60 {
            let tenant = rng.below(tenants);
            let session = rng.below(3).to_string();
            queue.push(Class::User, &tenant.to_string(), &session, tenant, 0);
            waits[usize::try_from(tenant).unwrap()] += 1;
        }
        let mut since = [0_u64; 6];
        while let Some(served) = queue.pop(0) {
            let served = usize::try_from(served).unwrap();
            waits[served] -= 1;
            for (tenant, since) in since.iter_mut().enumerate() {
                *since = if tenant == served || waits[tenant] == 0 { 0 } else { *since + 1 };
                assert!(*since < tenants, "seed {seed}: tenant {tenant} waits for {since} others");
            }
        }
        assert!(queue.is_empty());
    }
}
