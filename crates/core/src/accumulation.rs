//! How long to wait for more before answering (the rule of the adaptive window).

use serde::{Deserialize, Serialize};

use crate::ids::{TimerId, Timestamp};
use crate::policy::{Policy, WindowMode};

mod rhythm;
mod words;

pub use rhythm::{GAPS_MAX, Gaps, RHYTHM_SAMPLES_MIN, Rhythm};
pub use words::{Words, built_in_languages, merged};

/// The shortest adaptive window.
pub const WINDOW_MS_MIN: i64 = 200;
/// The longest adaptive window.
pub const WINDOW_MS_MAX: i64 = 3000;

/// A deadline with the duration it was made from, so that a clock that jumped can't leave it
/// hanging: on load the rest is clamped to 0..duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadline {
    /// Names this arming; a timer that fires for another one is stale.
    pub id: TimerId,
    /// When it is over.
    pub at: Timestamp,
    /// How long it was when it was armed.
    pub duration_ms: u64,
}

impl Deadline {
    /// Pulls the deadline back into `now ..= now + duration`.
    pub fn clamp(&mut self, now: Timestamp) {
        let duration = i64::try_from(self.duration_ms).unwrap_or(i64::MAX);
        self.at = self.at.clamp(now, now.saturating_add(duration));
    }
}

/// What the agent said of its last answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hint {
    /// Nothing.
    #[default]
    None,
    /// It asked for a field, so an answer may come in pieces.
    AwaitingField,
    /// It expects a follow-up.
    FollowupExpected,
}

/// The window after the `nth` message of a turn (1 is the first), in milliseconds; 0 = don't wait.
#[must_use]
pub fn window_ms(policy: &Policy, text: &str, nth: u32, hint: Hint, rhythm: Rhythm) -> u64 {
    match adaptive(policy, Some(text), nth, hint, rhythm) {
        Some(sum) => sum.window_ms,
        None if policy.window_mode == WindowMode::Off => 0,
        None => u64::from(policy.window_ms),
    }
}

/// What an adaptive window is made of, in milliseconds; in the order in which it is summed up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adaptive {
    /// The policy's window.
    pub base_ms: f64,
    /// What the shape of the message adds.
    pub shape_ms: f64,
    /// What the customer's rhythm adds; none before that is known.
    pub rhythm_ms: Option<f64>,
    /// What the agent's hint adds.
    pub hint_ms: f64,
    /// What all of it is multiplied with, because of the messages before this one.
    pub factor: f64,
    /// What that comes to.
    pub sum_ms: f64,
    /// The same in whole milliseconds between [`WINDOW_MS_MIN`] and [`WINDOW_MS_MAX`].
    pub window_ms: u64,
}

/// The window after the `nth` message of a turn, and what makes it; none where it is not adaptive.
/// Without a text the message has no shape.
#[must_use]
pub fn adaptive(
    policy: &Policy,
    text: Option<&str>,
    nth: u32,
    hint: Hint,
    rhythm: Rhythm,
) -> Option<Adaptive> {
    if policy.window_ms == 0 || policy.window_mode != WindowMode::Adaptive {
        return None;
    }
    let words = policy.words.as_deref().unwrap_or_else(|| Words::built_in());
    let base_ms = f64::from(policy.window_ms);
    let shape_ms = text.map_or(0.0, |text| shape_ms(text, words));
    let shaped = base_ms + shape_ms;
    let learnt = rhythm.midpoint_ms().map(|midpoint| 0.6 * shaped + 0.4 * f64::from(midpoint));
    let hint_ms = match hint {
        Hint::None => 0.0,
        Hint::AwaitingField => 1000.0,
        Hint::FollowupExpected => 500.0,
    };
    let factor = 0.8_f64.powi(i32::try_from(nth.saturating_sub(1)).unwrap_or(64));
    let sum_ms = (learnt.unwrap_or(shaped) + hint_ms) * factor;
    #[expect(clippy::cast_possible_truncation, reason = "clamped right behind")]
    let whole = sum_ms.round() as i64;
    Some(Adaptive {
        base_ms,
        shape_ms,
        rhythm_ms: learnt.map(|learnt| learnt - shaped),
        hint_ms,
        factor,
        sum_ms,
        window_ms: whole.clamp(WINDOW_MS_MIN, WINDOW_MS_MAX).unsigned_abs(),
    })
}

/// How the last message's shape lengthens or shortens the window.
fn shape_ms(text: &str, words: &Words) -> f64 {
    let is_one_of = |list: &[String], text: &str| list.iter().any(|word| word == text);
    let trimmed = text.trim();
    let lower = trimmed.to_lowercase();
    let count = trimmed.split_whitespace().count();
    let bare = lower.trim_end_matches(['.', '!', '?', ',']);
    let mut sum = 0.0;
    let fragment =
        trimmed.ends_with("...") || trimmed.ends_with('…') || trimmed.ends_with([',', '-', ':']);
    let closed = !fragment && trimmed.ends_with(['.', '?', '!']);
    let thanked = words.closings.iter().any(|word| {
        bare.strip_suffix(&**word).is_some_and(|before| before.is_empty() || before.ends_with(' '))
    });
    if is_one_of(&words.greetings, bare) {
        sum += 500.0;
    }
    if fragment {
        sum += 400.0;
    }
    if unfinished_reference(&lower, &words.references) {
        sum += 600.0;
    }
    if count < 3 && !closed {
        sum += 200.0;
    }
    if closed || thanked {
        sum -= 300.0;
    }
    sum
}

/// "order #", "ticket no": a reference whose number has not been typed yet.
fn unfinished_reference(lower: &str, references: &[String]) -> bool {
    let is_reference = |word: &str| references.iter().any(|reference| reference == word);
    let Some(before) = lower.trim_end().strip_suffix('#') else {
        // Too short a word ends too many sentences that are complete.
        let last = lower.split_whitespace().next_back();
        return last.is_some_and(|word| word.len() > 2 && is_reference(word));
    };
    before.split_whitespace().next_back().is_none_or(is_reference)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::channel_facts;

    fn web() -> Policy {
        Policy::built_in(*channel_facts("web").unwrap())
    }

    #[test]
    fn shapes_of_messages() {
        let check = |text: &str, expect: u64| {
            assert_eq!(window_ms(&web(), text, 1, Hint::None, Rhythm::default()), expect, "{text}");
        };
        check("tell me about the weather today", 600);
        check("hi", 1300); // greeting 500, fewer than three words 200
        check("Hello!", 800); // greeting 500, explicit ending -300
        check("so what I wanted to ask,", 1000);
        check("well I think that...", 1000);
        check("it is about order #", 1200);
        check("yes", 800);
        check("where is my parcel now?", 300);
        check("send me the invoice copy please", 300);
    }

    #[test]
    fn later_messages_fade_and_the_sum_is_clamped() {
        let window =
            |nth| window_ms(&web(), "one two three four", nth, Hint::None, Rhythm::default());
        assert_eq!([window(1), window(2), window(3), window(20)], [600, 480, 384, 200]);
        let slow = Rhythm { samples: 5, p50_ms: 20_000, p95_ms: 30_000 };
        assert_eq!(window_ms(&web(), "one two three four", 1, Hint::None, slow), 3000);
    }

    #[test]
    fn rhythm_and_hints() {
        let rhythm = Rhythm { samples: 5, p50_ms: 1000, p95_ms: 2000 };
        let few = Rhythm { samples: 4, ..rhythm };
        let window = |hint, rhythm| window_ms(&web(), "one two three four", 1, hint, rhythm);
        assert_eq!(window(Hint::None, rhythm), 960); // 0.6 * 600 + 0.4 * 1500
        assert_eq!(window(Hint::None, few), 600);
        assert_eq!(window(Hint::AwaitingField, few), 1600);
        assert_eq!(window(Hint::FollowupExpected, few), 1100);
    }

    #[test]
    fn the_parts_make_the_window() {
        let rhythm = Rhythm { samples: 9, p50_ms: 1000, p95_ms: 2000 };
        let sum = |policy: &Policy, text| adaptive(policy, text, 2, Hint::AwaitingField, rhythm);
        let whole = Adaptive {
            base_ms: 600.0,
            shape_ms: 700.0,
            rhythm_ms: Some(80.0), // 0.6 * 1300 + 0.4 * 1500 is 1380
            hint_ms: 1000.0,
            factor: 0.8,
            sum_ms: 1904.0,
            window_ms: 1904,
        };
        assert_eq!(sum(&web(), Some("hi")), Some(whole));
        let without = sum(&web(), None).unwrap();
        assert_eq!((without.shape_ms, without.rhythm_ms), (0.0, Some(360.0)));
        for window_mode in [WindowMode::Off, WindowMode::Fixed] {
            assert_eq!(sum(&Policy { window_mode, ..web() }, None), None);
        }
        assert_eq!(sum(&Policy { window_ms: 0, ..web() }, None), None);
    }

    #[test]
    fn words_are_the_policys() {
        let words = Words { greetings: vec!["oi".into()], ..Words::default() };
        let policy = Policy { words: Some(words.into()), ..web() };
        let window =
            |policy: &Policy, text| window_ms(policy, text, 1, Hint::None, Rhythm::default());
        assert_eq!((window(&web(), "oi"), window(&policy, "oi")), (800, 1300));
        assert_eq!((window(&web(), "hallo"), window(&policy, "hallo")), (1300, 800));
        assert_eq!(window(&policy, "send me a copy bitte"), 600);
    }

    #[test]
    fn a_base_of_zero_never_waits() {
        let policy = Policy::built_in(*channel_facts("api").unwrap());
        assert_eq!(window_ms(&policy, "hi", 1, Hint::AwaitingField, Rhythm::default()), 0);
    }

    #[test]
    fn a_jumped_clock_leaves_no_window_hanging() {
        let mut deadline = Deadline { id: TimerId(1), at: 10_000, duration_ms: 600 };
        deadline.clamp(0);
        assert_eq!(deadline.at, 600);
        deadline.clamp(99_000);
        assert_eq!(deadline.at, 99_000);
    }
}
