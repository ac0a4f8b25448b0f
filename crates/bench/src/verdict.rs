//! Did any user wait for another? A user of a gateway that keeps sessions apart gets each
//! answer after the agent's own time and a little more, whatever the others do.

use serde::Serialize;

use crate::Plan;
use crate::book::{Book, Worst};
use crate::figures::{count, ms, plural};

/// A user who got an answer this much over the expected time has waited, unless the agent
/// itself takes longer.
const THRESHOLD_MS_MIN: u64 = 250;

/// Whether anybody waited, and by how much.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// `None` in an open run, or if nothing was answered.
    pub nobody_waited: Option<bool>,
    /// More than this over the expected time is a wait: the agent's delay, but at least 250.
    pub threshold_ms: u64,
    /// Users with at least one such turn, turns that were cut off included.
    pub users_who_waited: u64,
    /// Users without a single completed turn.
    pub users_without_answer: u64,
    /// The user with the longest overhead; they are numbered from 0.
    pub worst_user: Option<usize>,
    /// The longest time over the expected one.
    pub worst_overhead_ms: f64,
    /// The whole latency of that turn.
    pub worst_latency_ms: f64,
    /// When that turn began, in seconds since the run did.
    pub worst_began_s: f64,
    /// All of it in words.
    pub sentence: String,
}

/// More than this over the expected time is a wait.
pub(crate) fn threshold_ms(plan: &Plan) -> u64 {
    plan.delay_ms.max(THRESHOLD_MS_MIN)
}

impl Verdict {
    /// Looks at every user's own worst turn.
    pub(crate) fn reach(plan: &Plan, book: &Book, slowest_acceptance_ms: f64) -> Self {
        let threshold_ms = threshold_ms(plan);
        let mut verdict = Self {
            nobody_waited: None,
            threshold_ms,
            users_who_waited: 0,
            users_without_answer: 0,
            worst_user: None,
            worst_overhead_ms: 0.0,
            worst_latency_ms: 0.0,
            worst_began_s: 0.0,
            sentence: String::new(),
        };
        if !plan.wait {
            verdict.sentence = format!(
                "answers were not awaited: the slowest acceptance took {}",
                ms(slowest_acceptance_ms)
            );
            return verdict;
        }
        for (user, totals) in book.users().enumerate() {
            verdict.users_without_answer += u64::from(totals.answered == 0);
            let Some(worst) = totals.worst else { continue };
            verdict.weigh(user, worst);
        }
        if verdict.worst_user.is_some() {
            verdict.nobody_waited = Some(verdict.users_who_waited == 0);
        }
        verdict.sentence = verdict.words(plan);
        verdict
    }

    fn weigh(&mut self, user: usize, worst: Worst) {
        let overhead_ms = worst.overhead.as_secs_f64() * 1000.0;
        self.users_who_waited += u64::from(overhead_ms > self.threshold_ms as f64);
        if self.worst_user.is_none() || overhead_ms > self.worst_overhead_ms {
            self.worst_user = Some(user);
            self.worst_overhead_ms = overhead_ms;
            self.worst_latency_ms = worst.latency.as_secs_f64() * 1000.0;
            self.worst_began_s = worst.began.as_secs_f64();
        }
    }

    fn words(&self, plan: &Plan) -> String {
        let users = plan.users as u64;
        let unanswered = plural(self.users_without_answer, "user");
        let Some(worst_user) = self.worst_user else {
            return "nothing was answered, so nothing can be said about waiting".to_owned();
        };
        if self.users_who_waited > 0 {
            let over = format!(
                "user {worst_user} waited {} over its agent ({} of {} waited more than {} ms)",
                ms(self.worst_overhead_ms),
                count(self.users_who_waited),
                plural(users, "user"),
                count(self.threshold_ms),
            );
            return match self.users_without_answer {
                0 => over,
                _ => format!("{over}; {unanswered} got no answer at all"),
            };
        }
        let slowest = ms(self.worst_latency_ms);
        let against = expectation(plan);
        match self.users_without_answer {
            0 => format!(
                "nobody waited: the slowest turn of {} took {slowest} {against}",
                plural(users, "user")
            ),
            _ => format!(
                "of those who were answered nobody waited: the slowest turn took {slowest} \
                 {against}; {unanswered} got no answer at all"
            ),
        }
    }
}

fn expectation(plan: &Plan) -> String {
    let expected_ms = plan.expected_ms();
    if expected_ms == plan.delay_ms {
        format!("for an agent that takes {} ms", count(plan.delay_ms))
    } else {
        format!("where typing, window and agent take {} ms", count(expected_ms))
    }
}
