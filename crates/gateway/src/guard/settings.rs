//! What the guard lives by, beside the rates, which are policy.

use turnkeep_core::guard::{Rate, Severity};

use super::words::Words;

/// However low a rate is, fewer attempts in a minute are no flood.
const FLOOD_MIN: u32 = 60;

/// What is refused, and what follows from it.
#[derive(Clone, Debug)]
pub struct GuardSettings {
    /// Rates are kept.
    pub rate_limiting: bool,
    /// Abuse is looked for. What is in force already stays in force without it.
    pub abuse_detection: bool,
    /// How fast everybody together may write.
    pub global_rate: Rate,
    /// More attempts in a minute than so many times what the rate lets in are a flood, but never
    /// fewer than one a second; 0 never.
    pub flood_factor: u32,
    /// What follows from a flood.
    pub flood_severity: Severity,
    /// The same text more often than this within ten minutes is a repetition; 0 never.
    pub repeats_max: u32,
    /// What follows from repetition.
    pub repeats_severity: Severity,
    /// More links than this within ten minutes are too many; 0 never.
    pub links_max: u32,
    /// What follows from too many links.
    pub links_severity: Severity,
    /// Terms and patterns that nobody may write.
    pub words: Words,
    /// What follows from a term.
    pub terms_severity: Severity,
    /// What follows from a pattern.
    pub patterns_severity: Severity,
}

impl Default for GuardSettings {
    fn default() -> Self {
        Self {
            rate_limiting: true,
            abuse_detection: true,
            global_rate: Rate::UNLIMITED,
            flood_factor: 5,
            flood_severity: Severity::Restrict,
            repeats_max: 20,
            repeats_severity: Severity::Monitor,
            links_max: 50,
            links_severity: Severity::Monitor,
            words: Words::default(),
            terms_severity: Severity::Restrict,
            patterns_severity: Severity::Restrict,
        }
    }
}

impl GuardSettings {
    /// Attempts in a minute that are a flood, for somebody with this rate; none if none are.
    pub(super) fn flood(&self, rate: Rate) -> Option<u32> {
        let watched = self.abuse_detection && self.rate_limiting && !rate.is_unlimited();
        let passes = rate.per_minute.saturating_add(rate.burst);
        let flood = passes.saturating_mul(self.flood_factor).max(FLOOD_MIN);
        (watched && self.flood_factor > 0).then_some(flood)
    }
}
