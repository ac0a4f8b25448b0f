//! The questions that a message has to pass, the cheapest first.
//!
//! Restrictions, then the rates of the customer, the tenant and everybody, then what the message
//! says.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use turnkeep_core::Policy;
use turnkeep_core::guard::customer::LOOK_UPS;
use turnkeep_core::guard::{AbuseKind, Bucket, Customer, Pace, Rate, Severity, TextShape};
use turnkeep_core::ids::Timestamp;
use turnkeep_core::message::Rejection;
use turnkeep_core::ports::guard::{Restriction, Restrictions};

use super::rates::{Charge, Wait, What};
use super::settings::GuardSettings;
use super::standings::{Outcome, Standings};
use super::table::{CUSTOMER_PARTS, Name, Names, TENANT_PARTS, Table};
use crate::metrics::Metrics;

/// How fast all who are refused together may have it looked up whether they repeat something that
/// was accepted.
const LOOK_UPS_OF_ALL: Rate = Rate::new(6000, 1000);

/// How often what is over is forgotten.
const TIDY_MS: i64 = 60_000;

/// A message that wants to be let in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) session_key: &'a str,
    pub(crate) tenant: &'a str,
    /// Who wrote it.
    pub(crate) customer: &'a str,
    pub(crate) text: &'a str,
    pub(crate) policy: &'a Policy,
    pub(crate) settings: &'a GuardSettings,
    /// It has a name of its own, so it may have come before.
    pub(crate) named: bool,
    /// As what it is counted.
    pub(crate) what: What,
    pub(crate) now: Timestamp,
}

impl<'a> Question<'a> {
    /// What it has charged.
    pub(super) const fn charge(&self) -> Charge<'a> {
        let Self { tenant, policy, settings, what, now, .. } = *self;
        Charge { tenant, policy, settings, what, now }
    }
}

/// Somebody whose rates let the message through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entered {
    pub(super) name: Name,
    pub(super) restricted: bool,
}

/// A message that is not let in.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) rejection: Rejection,
    /// It may be looked up whether it came before.
    pub(crate) look_up: bool,
    /// What follows for its customer, newly; to be recorded.
    pub(crate) restriction: Option<Restriction>,
}

/// Something that is wrong with a message.
struct Finding {
    kind: AbuseKind,
    severity: Severity,
    /// In words, without what was written.
    reason: String,
}

/// Why a message stops before anybody looks at what it says.
enum Stop {
    Flood(Finding),
    Rate(Wait),
}

impl From<Wait> for Stop {
    fn from(wait: Wait) -> Self {
        Self::Rate(wait)
    }
}

/// What wiring puts together for the guard.
pub struct GuardParts {
    /// What it lives by.
    pub settings: GuardSettings,
    /// Where restrictions live.
    pub record: Arc<dyn Restrictions>,
}

/// Everything that the guard knows.
pub(crate) struct Guard {
    pub(super) record: Arc<dyn Restrictions>,
    pub(super) names: Names,
    pub(super) customers: Table<Customer>,
    /// How fast customers wrote, by each rate that they wrote at.
    pub(super) paces: Table<Pace>,
    /// What tenants used, by each of their rates.
    pub(super) tenants: Table<Bucket>,
    /// What all together used, of each that is counted by itself.
    pub(super) everybody: [Mutex<Bucket>; What::COUNT],
    look_ups: Mutex<Bucket>,
    pub(super) standings: Standings,
    /// What could not be recorded yet.
    pub(super) unrecorded: Mutex<Vec<Restriction>>,
    tidied_at: AtomicI64,
}

impl Guard {
    pub(crate) fn new(record: Arc<dyn Restrictions>) -> Self {
        Self {
            record,
            names: Names::default(),
            customers: Table::new(CUSTOMER_PARTS),
            paces: Table::new(CUSTOMER_PARTS),
            tenants: Table::new(TENANT_PARTS),
            everybody: Default::default(),
            look_ups: Mutex::default(),
            standings: Standings::default(),
            unrecorded: Mutex::default(),
            tidied_at: AtomicI64::default(),
        }
    }

    /// Lets a message in, or says why not.
    pub(crate) fn admit(&self, question: &Question<'_>) -> Result<(), Box<Refused>> {
        match self.enter(question)? {
            Some(Entered { name, .. }) => self.hear_out(name, question),
            None => Ok(()),
        }
    }

    /// The restrictions and the rates; none if nothing of it is watched.
    pub(super) fn enter(&self, question: &Question<'_>) -> Result<Option<Entered>, Box<Refused>> {
        let watches = question.settings.rate_limiting || question.settings.abuse_detection;
        if !watches && self.standings.len() == 0 {
            return Ok(None);
        }
        let name = self.names.of(question.tenant, Some(question.customer));
        let restricted = match self.standings.in_force(name, question.now) {
            Some((Severity::Block | Severity::Permanent, kind)) => {
                Metrics::guard("restriction", "refused");
                return Err(self.refused(name, question, Rejection::Abuse(kind), None));
            }
            in_force => in_force.is_some(),
        };
        match self.arrives(name, question, restricted) {
            Ok(()) => {}
            Err(Stop::Rate(Wait { level, ms })) => {
                Metrics::guard(level, "refused");
                let rejection = Rejection::RateLimited { retry_after_ms: ms };
                return Err(self.refused(name, question, rejection, None));
            }
            Err(Stop::Flood(finding)) => self.judge(name, question, finding)?,
        }
        Ok(Some(Entered { name, restricted }))
    }

    /// What the message says.
    pub(super) fn hear_out(&self, name: Name, question: &Question<'_>) -> Result<(), Box<Refused>> {
        if question.settings.abuse_detection {
            for finding in self.listen(name, question) {
                self.judge(name, question, finding)?;
            }
        }
        Ok(())
    }

    /// Whether it is time to tidy up.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        let last = self.tidied_at.load(Ordering::Relaxed);
        let due = now < last || now - last >= TIDY_MS;
        if due {
            self.tidied_at.store(now, Ordering::Relaxed);
        }
        due
    }

    /// Customers that are remembered, and restrictions. Whoever wrote at two rates may count twice.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.customers.len().max(self.paces.len()), self.standings.len())
    }

    /// Somebody is as good as new.
    pub(super) fn forget(&self, name: Name) {
        self.customers.forget(name);
        self.paces.forget_all(name);
    }

    /// Counts the attempt, and asks and charges the three rates.
    fn arrives(&self, name: Name, question: &Question<'_>, restricted: bool) -> Result<(), Stop> {
        let (charge, now) = (question.charge(), question.now);
        if question.what != What::Sent {
            return Ok(self.charge_rates(name, &charge, restricted)?);
        }
        let mut monitored = None;
        let arrived = self.charge(name, &charge, restricted, |pace| {
            match Self::flooding(pace, question, now) {
                Some(finding) if finding.severity == Severity::Monitor => {
                    monitored = Some(finding);
                }
                Some(finding) => return Err(Stop::Flood(finding)),
                None => {}
            }
            Ok(())
        });
        if let Some(finding) = monitored {
            // Nothing follows from it, so nothing stops here.
            drop(self.judge(name, question, finding));
        }
        arrived
    }

    /// Counts the attempt; what was found is counted anew.
    fn flooding(pace: &mut Pace, question: &Question<'_>, now: Timestamp) -> Option<Finding> {
        let (rate, settings) = (question.policy.rate, question.settings);
        let flood = settings.flood(rate)?;
        let attempts = pace.attempts(now);
        if attempts <= flood {
            return None;
        }
        pace.forgive_attempts();
        let passes = rate.per_minute.saturating_add(rate.burst);
        Some(Finding {
            kind: AbuseKind::Flooding,
            severity: settings.flood_severity,
            reason: format!("{attempts} messages in a minute; the rate lets {passes} in"),
        })
    }

    /// Looks at what a message says, together with those before it; the worst comes first.
    fn listen(&self, name: Name, question: &Question<'_>) -> Vec<Finding> {
        let settings = question.settings;
        let mut findings = Vec::new();
        for kind in settings.words.found(question.text) {
            let (severity, list) = match kind {
                AbuseKind::Term => (settings.terms_severity, "terms"),
                _ => (settings.patterns_severity, "patterns"),
            };
            let reason = format!("something of the list of {list}");
            findings.push(Finding { kind, severity, reason });
        }
        if settings.repeats_max > 0 || settings.links_max > 0 {
            let shape = TextShape::of(question.text);
            let now = question.now;
            let heard = self.customers.with(name, now, |customer| customer.hear(shape, now));
            let over = |count: u32, max: u32| max > 0 && count > max;
            if over(heard.repeats, settings.repeats_max) {
                findings.push(Finding {
                    kind: AbuseKind::RepeatedText,
                    severity: settings.repeats_severity,
                    reason: format!("the same text {} times in ten minutes", heard.repeats),
                });
            }
            if over(heard.links, settings.links_max) {
                findings.push(Finding {
                    kind: AbuseKind::Links,
                    severity: settings.links_severity,
                    reason: format!("{} links in ten minutes", heard.links),
                });
            }
        }
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        findings
    }

    /// What follows from a finding: a message that is only monitored goes on.
    fn judge(
        &self,
        name: Name,
        question: &Question<'_>,
        finding: Finding,
    ) -> Result<(), Box<Refused>> {
        let Finding { kind, severity, reason } = finding;
        let now = question.now;
        let (outcome, restriction) = match severity {
            Severity::Monitor => ("monitored", None),
            _ => match self.standings.found(name, severity, kind, now) {
                Outcome::Covered => ("refused", None),
                Outcome::Full => ("unrecorded", None),
                Outcome::New(standing) => {
                    let outcome = match standing.severity {
                        Severity::Block => "blocked",
                        Severity::Permanent => "permanent",
                        Severity::Monitor | Severity::Restrict => "restricted",
                    };
                    let restriction = Restriction {
                        id: 0,
                        tenant: question.tenant.to_owned(),
                        customer: question.customer.to_owned(),
                        severity: standing.severity,
                        kind,
                        since: standing.since,
                        until: standing.until,
                        reason: reason.clone(),
                        appeal: None,
                        appealed_at: None,
                        lifted_at: None,
                        lifted_by: None,
                    };
                    (outcome, Some(restriction))
                }
            },
        };
        Metrics::guard(kind.as_str(), outcome);
        tracing::warn!(
            session_key = question.session_key,
            customer = question.customer,
            check = kind.as_str(),
            outcome,
            reason,
            "gateway_guard"
        );
        if outcome == "monitored" {
            return Ok(());
        }
        Err(self.refused(name, question, Rejection::Abuse(kind), restriction))
    }

    pub(super) fn refused(
        &self,
        name: Name,
        question: &Question<'_>,
        rejection: Rejection,
        restriction: Option<Restriction>,
    ) -> Box<Refused> {
        let look_up = question.named && self.may_look_up(name, question.now);
        Box::new(Refused { rejection, look_up, restriction })
    }

    /// Whether somebody who is refused for another reason may have it looked up whether it came before.
    pub(crate) fn may_ask_again(&self, tenant: &str, customer: &str, now: Timestamp) -> bool {
        self.may_look_up(self.names.of(tenant, Some(customer)), now)
    }

    fn may_look_up(&self, name: Name, now: Timestamp) -> bool {
        self.customers.with(name, now, |customer| {
            let mut all = self.look_ups.lock().unwrap_or_else(PoisonError::into_inner);
            let wait = customer.look_ups.wait_ms(LOOK_UPS, now);
            let passes = wait.is_none() && all.take(LOOK_UPS_OF_ALL, now).is_ok();
            if passes {
                customer.look_ups.spend(LOOK_UPS, now);
            }
            passes
        })
    }
}
