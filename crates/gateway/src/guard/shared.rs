//! The rates that all nodes share, where there is a place for that.
//!
//! What a node counts by itself is asked first: what it refuses, all would refuse. What it lets
//! through is asked of the others, once and for a moment. If they refuse, it cost nothing here, and
//! until they would not, nobody is asked again. Without an answer the node's own count holds, which
//! was charged in any case; then every node lets the whole rate through.

use turnkeep_core::guard::{RESTRICTED, Rate, tighter};
use turnkeep_core::message::Rejection;
use turnkeep_core::ports::hints::{Hints, Limit};

use super::admission::{Entered, Guard, Question, Refused};
use super::rates::{Charge, What};
use super::table::Name;
use crate::ingress::framed;
use crate::metrics::Metrics;

/// What the rate of all is asked with; it has a place of its own.
const EVERYBODY: &str = "everybody";

/// The rates that one message has to pass.
struct Rates {
    customer: Rate,
    tenant: Rate,
    all: Rate,
    /// That of somebody restricted.
    restricted: Rate,
}

impl Rates {
    fn of(charge: &Charge<'_>, restricted: bool) -> Self {
        let own = charge.rate(charge.policy.rate);
        Self {
            customer: if restricted { tighter(own) } else { own },
            tenant: charge.rate(charge.policy.tenant_rate),
            all: charge.rate(charge.settings.global_rate),
            restricted: match (restricted, charge.what) {
                (true, What::Sent) => RESTRICTED,
                _ => Rate::UNLIMITED,
            },
        }
    }
}

/// One of them.
#[derive(Clone, Copy)]
enum Level {
    Restriction,
    Customer,
    Tenant,
    All,
}

impl Level {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Restriction => "restriction",
            Self::Customer => "rate_customer",
            Self::Tenant => "rate_tenant",
            Self::All => "rate_global",
        }
    }
}

impl Guard {
    /// Lets a message in, or says why not; the other nodes are asked as well. `secret` is the
    /// store's: who a customer is stands nowhere else.
    pub(crate) async fn admit_among(
        &self,
        question: &Question<'_>,
        others: &dyn Hints,
        secret: &[u8],
    ) -> Result<(), Box<Refused>> {
        let Some(entered) = self.enter(question)? else { return Ok(()) };
        let Entered { name, restricted } = entered;
        let waits = self.ask_others(&entered, question, others, secret).await;
        if let Some((level, ms)) = waits {
            self.take_back(name, question, restricted, (level, ms));
            Metrics::guard(level.as_str(), "refused");
            let rejection = Rejection::RateLimited { retry_after_ms: ms };
            return Err(self.refused(name, question, rejection, None));
        }
        self.hear_out(name, question)
    }

    /// Which rate of all nodes has it wait, and how long.
    async fn ask_others(
        &self,
        entered: &Entered,
        question: &Question<'_>,
        others: &dyn Hints,
        secret: &[u8],
    ) -> Option<(Level, u64)> {
        let what = question.what.as_str();
        let rates = Rates::of(&question.charge(), entered.restricted);
        let digest = framed(secret, &["rates", question.tenant, question.customer]);
        let own = digest[..16].iter().fold(String::new(), |own, byte| format!("{own}{byte:02x}"));
        let names = [
            (Level::Restriction, rates.restricted, format!("restricted:{own}")),
            (Level::Customer, rates.customer, format!("customer:{own}:{what}")),
            (Level::Tenant, rates.tenant, format!("tenant:{what}")),
        ];
        let limits: Vec<_> =
            names.iter().map(|(_, rate, name)| Limit { name, rate: *rate }).collect();
        if limits.iter().any(|limit| !limit.rate.is_unlimited())
            && let Ok(Some(wait)) = others.take(question.tenant, &limits).await
        {
            return names.get(wait.place).map(|(level, ..)| (*level, wait.ms));
        }
        if rates.all.is_unlimited() {
            return None;
        }
        // By itself, for it stands elsewhere: what it refuses was charged to customer and tenant,
        // who wait a little longer for it where everybody is too fast.
        let all = [Limit { name: what, rate: rates.all }];
        let wait = others.take(EVERYBODY, &all).await.ok()??;
        Some((Level::All, wait.ms))
    }

    /// What was charged here is given back, and the rate that refused lets none through until it
    /// would again.
    fn take_back(
        &self,
        name: Name,
        question: &Question<'_>,
        restricted: bool,
        (level, ms): (Level, u64),
    ) {
        let charge = question.charge();
        let Charge { now, what, tenant, .. } = charge;
        let rates = Rates::of(&charge, restricted);
        if !rates.restricted.is_unlimited() {
            self.standings.using(name, |used| {
                used.give_back(RESTRICTED);
                if matches!(level, Level::Restriction) {
                    used.hold(RESTRICTED, ms, now);
                }
            });
        }
        if !rates.customer.is_unlimited() {
            let at = self.names.at_rate(name, rates.customer, what);
            self.paces.with(at, now, |pace| {
                pace.rate.give_back(rates.customer);
                if matches!(level, Level::Customer) {
                    pace.rate.hold(rates.customer, ms, now);
                }
            });
        }
        if !rates.tenant.is_unlimited() {
            let at = self.names.at_rate(self.names.of(tenant, None), rates.tenant, what);
            self.tenants.with(at, now, |bucket| {
                bucket.give_back(rates.tenant);
                if matches!(level, Level::Tenant) {
                    bucket.hold(rates.tenant, ms, now);
                }
            });
        }
        if !rates.all.is_unlimited() {
            self.of_everybody(what, |bucket| {
                bucket.give_back(rates.all);
                if matches!(level, Level::All) {
                    bucket.hold(rates.all, ms, now);
                }
            });
        }
    }
}
