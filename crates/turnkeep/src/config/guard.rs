//! What the guard is told: its switches, its limits, and the words nobody may write.

use turnkeep_core::guard::Rate;
use turnkeep_gateway::guard::{GuardSettings, Words, WordsError};

use super::problem::Problems;
use super::raw::{GatewayKeys, GuardKeys, Raw};
use super::value::{Set, Texts};

/// Fills in what was not typed.
pub(super) fn guard(raw: &Raw, problems: &mut Problems) -> GuardSettings {
    let GatewayKeys {
        rate_limiting_enabled,
        abuse_detection_enabled,
        global_rate_per_minute,
        global_rate_burst,
        ..
    } = &raw.gateway;
    let keys = &raw.guard;
    let built_in = GuardSettings::default();
    GuardSettings {
        rate_limiting: or(rate_limiting_enabled.as_ref(), built_in.rate_limiting),
        abuse_detection: or(abuse_detection_enabled.as_ref(), built_in.abuse_detection),
        global_rate: Rate::new(
            or(global_rate_per_minute.as_ref(), 0),
            or(global_rate_burst.as_ref(), 1000),
        ),
        flood_factor: or(keys.flood_factor.as_ref(), built_in.flood_factor),
        flood_severity: or(keys.flood_severity.as_ref(), built_in.flood_severity),
        repeats_max: or(keys.repeats_max.as_ref(), built_in.repeats_max),
        repeats_severity: or(keys.repeats_severity.as_ref(), built_in.repeats_severity),
        links_max: or(keys.links_max.as_ref(), built_in.links_max),
        links_severity: or(keys.links_severity.as_ref(), built_in.links_severity),
        words: words(keys, problems),
        terms_severity: or(keys.terms_severity.as_ref(), built_in.terms_severity),
        patterns_severity: or(keys.patterns_severity.as_ref(), built_in.patterns_severity),
    }
}

fn or<T: Copy>(set: Option<&Set<T>>, default: T) -> T {
    set.map_or(default, |set| set.value)
}

/// The lists, or what is wrong with one of them at the place where it was typed.
fn words(keys: &GuardKeys, problems: &mut Problems) -> Words {
    let list =
        |set: &Option<Set<Texts>>| set.as_ref().map_or_else(Vec::new, |set| set.value.0.clone());
    let error = match Words::new(&list(&keys.terms), &list(&keys.patterns)) {
        Ok(words) => return words,
        Err(error) => error,
    };
    let (terms, patterns) = (keys.terms.as_ref(), keys.patterns.as_ref());
    let (at, key) = match &error {
        WordsError::Term(..) | WordsError::Terms(_) => (terms, "terms"),
        WordsError::Pattern(..) | WordsError::Patterns(_) => (patterns, "patterns"),
        WordsError::Set(_) => (terms.or(patterns), "terms"),
    };
    if let Some(at) = at {
        problems.add(&at.origin, format!("\"{key}\" in [guard]: {error}"));
    }
    Words::default()
}
