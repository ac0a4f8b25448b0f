//! The external check of messages: where it is asked, and what holds where it says nothing.

use serde_json::{Value, json};
use turnkeep_core::moderation::{Moderation, Ruling};

use super::raw::GuardKeys;
use super::secret::{ApiKey, Named, Told, secret};
use super::value::{Range, Scalar, Set, Setting};

/// After so long the default holds, if nothing else is typed.
const TIMEOUT_MS: u64 = 3000;

/// Who checks messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModerationSettings {
    /// Where it is asked.
    pub(crate) url: String,
    /// What it wants to see.
    pub(crate) secret: Option<ApiKey>,
    /// How long it may take, and what holds then.
    pub(crate) rule: Moderation,
}

/// The check, if there is one.
pub(super) fn moderation(keys: &GuardKeys, told: &mut Told<'_>) -> Option<ModerationSettings> {
    let named = Named {
        place: "[guard]",
        file: ("moderation_secret_file", keys.moderation_secret_file.as_ref()),
        env: ("moderation_secret_env", keys.moderation_secret_env.as_ref()),
    };
    let Some(url) = &keys.moderation_url else {
        let typed = [
            keys.moderation_timeout_ms.as_ref().map(|set| ("moderation_timeout_ms", &set.origin)),
            keys.moderation_default.as_ref().map(|set| ("moderation_default", &set.origin)),
            keys.moderation_secret_file.as_ref().map(|set| ("moderation_secret_file", &set.origin)),
            keys.moderation_secret_env.as_ref().map(|set| ("moderation_secret_env", &set.origin)),
        ];
        for (key, origin) in typed.into_iter().flatten() {
            let text = format!("\"{key}\" in [guard] is of no use without \"moderation_url\"");
            told.problems.lacks("[guard]", &["moderation_url"], origin, &text);
        }
        return None;
    };
    let secret = secret(&named, told).map(|(secret, _)| ApiKey(secret));
    let timeout_ms = keys.moderation_timeout_ms.as_ref().map_or(TIMEOUT_MS, |set| set.value);
    let default =
        keys.moderation_default.as_ref().map_or(Ruling::Allow, |Set { value, .. }| *value);
    let rule = Moderation { timeout_ms, default };
    Some(ModerationSettings { url: url.value.0.to_string(), secret, rule })
}

/// What may hold where nobody answers; the others are answers only.
const DEFAULTS: [(&str, Ruling); 2] = [("allow", Ruling::Allow), ("refuse", Ruling::Refuse)];

impl Setting for Ruling {
    fn expected(_: Range) -> String {
        format!("one of {}", DEFAULTS.map(|(word, _)| word).join(", "))
    }

    fn schema(_: Range) -> Value {
        json!({"enum": DEFAULTS.map(|(word, _)| word)})
    }

    fn read(scalar: &Scalar, _: Range) -> Option<Self> {
        let typed = scalar.text()?;
        DEFAULTS.into_iter().find_map(|(word, ruling)| (word == typed).then_some(ruling))
    }

    fn shown(&self) -> String {
        let word = DEFAULTS.into_iter().find_map(|(word, one)| (one == *self).then_some(word));
        format!("{:?}", word.unwrap_or_default())
    }
}
