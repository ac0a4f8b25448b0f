//! The rates that something has to pass: its customer's, its tenant's, everybody's.
//!
//! One that refuses costs the others nothing: all are asked before any is charged, what is locked
//! being, in this order, the restrictions, the customer's part of the table, the tenant's, and
//! everybody's. What is used of one rate is never held against another one, and what is counted by
//! itself passes the same rates once more.

use std::sync::PoisonError;

use turnkeep_core::Policy;
use turnkeep_core::guard::{Bucket, Pace, RESTRICTED, Rate, tighter};
use turnkeep_core::ids::Timestamp;

use super::admission::Guard;
use super::settings::GuardSettings;
use super::table::Name;

/// What is counted by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum What {
    /// What is sent, and whatever else is done.
    Sent,
    /// That something is being typed: it comes again and again while one message is written.
    Typing,
    /// That what runs shall end: whoever wrote too much must still be able to say so.
    Stop,
    /// What is said to others in our presence.
    Aside,
}

impl What {
    /// How many there are.
    pub(super) const COUNT: usize = 4;

    /// In a word, as other nodes know it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Typing => "typing",
            Self::Stop => "stop",
            Self::Aside => "aside",
        }
    }
}

/// What is charged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Charge<'a> {
    pub(super) tenant: &'a str,
    pub(super) policy: &'a Policy,
    pub(super) settings: &'a GuardSettings,
    /// It is counted apart from everything else.
    pub(super) what: What,
    pub(super) now: Timestamp,
}

/// How long one of the rates has it wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) level: &'static str,
    pub(super) ms: u64,
}

impl Wait {
    fn at(level: &'static str, ms: Option<u64>) -> Option<Self> {
        ms.map(|ms| Self { level, ms })
    }

    /// Of two the longer one, which is what has to be told.
    fn longer(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(one), Some(other)) if other.ms > one.ms => Some(other),
            (one, other) => one.or(other),
        }
    }
}

impl Charge<'_> {
    pub(super) fn rate(&self, rate: Rate) -> Rate {
        if self.settings.rate_limiting { rate } else { Rate::UNLIMITED }
    }
}

impl Guard {
    /// Asks and charges every rate. `look` sees how fast this customer comes before anything is
    /// asked, and may end it there; it is called only where the customer has a rate.
    pub(super) fn charge<E: From<Wait>>(
        &self,
        name: Name,
        charge: &Charge<'_>,
        restricted: bool,
        look: impl FnOnce(&mut Pace) -> Result<(), E>,
    ) -> Result<(), E> {
        let rate = charge.rate(charge.policy.rate);
        if !restricted {
            return self.own_rate(name, charge, rate, None, (look, || ()));
        }
        if charge.what != What::Sent {
            // What is counted by itself takes nothing from the ten messages a minute.
            return self.own_rate(name, charge, tighter(rate), None, (look, || ()));
        }
        self.standings.using(name, |used| {
            let wait = Wait::at("restriction", used.wait_ms(RESTRICTED, charge.now));
            let passed = || used.spend(RESTRICTED, charge.now);
            self.own_rate(name, charge, tighter(rate), wait, (look, passed))
        })
    }

    /// Asks and charges the tenant's rate alone.
    pub(super) fn charge_tenant(&self, charge: &Charge<'_>) -> Result<(), Wait> {
        let Charge { now, what, .. } = *charge;
        let rate = charge.rate(charge.policy.tenant_rate);
        if rate.is_unlimited() {
            return Ok(());
        }
        let name = self.names.at_rate(self.names.of(charge.tenant, None), rate, what);
        let taken = self.tenants.with(name, now, |bucket| bucket.take(rate, now));
        taken.map_err(|ms| Wait { level: "rate_tenant", ms })
    }

    /// Asks and charges the rates, with nothing to look at.
    pub(super) fn charge_rates(
        &self,
        name: Name,
        charge: &Charge<'_>,
        restricted: bool,
    ) -> Result<(), Wait> {
        self.charge(name, charge, restricted, |_| Ok::<_, Wait>(()))
    }

    /// The customer's own rate, together with what the others say already.
    fn own_rate<E: From<Wait>>(
        &self,
        name: Name,
        charge: &Charge<'_>,
        rate: Rate,
        others: Option<Wait>,
        (look, passed): (impl FnOnce(&mut Pace) -> Result<(), E>, impl FnOnce()),
    ) -> Result<(), E> {
        if rate.is_unlimited() {
            return Ok(self.shared_rates(charge, others, passed)?);
        }
        let now = charge.now;
        self.paces.with(self.names.at_rate(name, rate, charge.what), now, |pace| {
            look(pace)?;
            let wait = Wait::at("rate_customer", pace.rate.wait_ms(rate, now));
            Ok(self.shared_rates(charge, Wait::longer(others, wait), || {
                pace.rate.spend(rate, now);
                passed();
            })?)
        })
    }

    /// Asks the tenant's and everybody's rate as well, and charges all of them or none; `passed` is
    /// called where all let it in.
    fn shared_rates(
        &self,
        charge: &Charge<'_>,
        others: Option<Wait>,
        passed: impl FnOnce(),
    ) -> Result<(), Wait> {
        let now = charge.now;
        let rate = charge.rate(charge.policy.tenant_rate);
        if rate.is_unlimited() {
            return self.rate_of_all(charge, others, passed);
        }
        let name = self.names.at_rate(self.names.of(charge.tenant, None), rate, charge.what);
        self.tenants.with(name, now, |bucket| {
            let wait = Wait::at("rate_tenant", bucket.wait_ms(rate, now));
            self.rate_of_all(charge, Wait::longer(others, wait), || {
                bucket.spend(rate, now);
                passed();
            })
        })
    }

    /// Works with what all together used.
    pub(super) fn of_everybody(&self, what: What, work: impl FnOnce(&mut Bucket)) {
        let everybody = &self.everybody[what as usize];
        work(&mut everybody.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn rate_of_all(
        &self,
        charge: &Charge<'_>,
        others: Option<Wait>,
        passed: impl FnOnce(),
    ) -> Result<(), Wait> {
        let now = charge.now;
        let rate = charge.rate(charge.settings.global_rate);
        let limited = !rate.is_unlimited();
        let everybody = &self.everybody[charge.what as usize];
        let mut bucket = limited.then(|| everybody.lock().unwrap_or_else(PoisonError::into_inner));
        let wait = bucket.as_mut().and_then(|bucket| bucket.wait_ms(rate, now));
        if let Some(wait) = Wait::longer(others, Wait::at("rate_global", wait)) {
            return Err(wait);
        }
        if let Some(bucket) = &mut bucket {
            bucket.spend(rate, now);
        }
        passed();
        Ok(())
    }
}
