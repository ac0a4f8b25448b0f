//! A section of keys: declared once, and everything that is asked of it.
//!
//! `section!` turns a list of keys into a struct of options. A key is written
//! `name: type [min, max] = "default as typed";`, or `=> "sample";` where there is no one default.

use serde_json::Value;

use super::problem::{Origin, did_you_mean, nearest};
use super::secret::is_quiet;
use super::value::Scalar;

/// What is known of a key, for messages, the reference and the example.
#[derive(Clone, Copy)]
pub(super) struct Key {
    pub(super) name: &'static str,
    /// What it means; sentences.
    pub(super) doc: &'static str,
    /// As it would be typed; none where it depends or where absence means something.
    pub(super) default: Option<&'static str>,
    /// A value to show in the example.
    pub(super) sample: &'static str,
    /// The end of "must be …".
    pub(super) expected: fn() -> String,
    /// The same for editors, as JSON schema.
    pub(super) schema: fn() -> serde_json::Value,
    /// What is wrong with one row of a table.
    pub(super) wrong_row: fn(usize, &str, &Scalar) -> Option<String>,
}

/// A value that was typed: key, value as typed, place.
pub(super) type Shown<'a> = (&'static str, String, &'a Origin);

/// The keys of one section, typed or not.
pub(super) trait Section {
    /// Every key, in the order of the reference.
    fn keys(&self) -> &'static [Key];
    /// Whether the key was typed already.
    fn holds(&self, key: &str) -> bool;
    /// Takes a value; false if it is not of the key's kind, or if there is no such key.
    fn put(&mut self, key: &str, scalar: &Scalar, origin: &Origin) -> bool;
    /// What was typed.
    fn shown(&self) -> Vec<Shown<'_>>;
}

/// The key of this name.
pub(super) fn find(keys: &'static [Key], name: &str) -> Option<&'static Key> {
    keys.iter().find(|key| key.name == name)
}

/// The end of a message about a value that the key doesn't take: what was typed, and the word that was
/// probably meant.
pub(super) fn found(key: &Key, scalar: &Scalar) -> String {
    if is_quiet(key.name) {
        return String::new();
    }
    let schema = (key.schema)();
    let words = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let near = scalar.text().filter(|text| !text.is_empty());
    let near = near.and_then(|text| nearest(text, words));
    format!(", not {scalar}{}", did_you_mean(near))
}

macro_rules! section {
    (
        $(#[doc = $about:literal])*
        struct $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $key:ident: $type:ty $([$min:literal, $max:literal])?
                    $(= $default:literal)? $(=> $sample:literal)?;
            )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, Default)]
        pub(super) struct $name {
            $($(#[doc = $doc])+ pub(super) $key: Option<$crate::config::value::Set<$type>>,)*
        }

        impl $name {
            /// Every key, in the order of the reference.
            pub(super) const KEYS: &'static [$crate::config::section::Key] = &[$(
                $crate::config::section::Key {
                    name: stringify!($key),
                    doc: concat!($($doc),+),
                    default: $crate::config::section::first(&[$($default)?]),
                    sample: concat!($($default)? $($sample)?),
                    expected: || {
                        <$type as $crate::config::value::Setting>::expected(
                            $crate::config::value::Range::of(&[$($min, $max)?]),
                        )
                    },
                    schema: || {
                        <$type as $crate::config::value::Setting>::schema(
                            $crate::config::value::Range::of(&[$($min, $max)?]),
                        )
                    },
                    wrong_row: <$type as $crate::config::value::Setting>::wrong_row,
                },
            )*];
        }

        impl $crate::config::section::Section for $name {
            fn keys(&self) -> &'static [$crate::config::section::Key] {
                Self::KEYS
            }

            fn holds(&self, key: &str) -> bool {
                match key {
                    $(stringify!($key) => self.$key.is_some(),)*
                    _ => false,
                }
            }

            fn put(
                &mut self,
                key: &str,
                scalar: &$crate::config::value::Scalar,
                origin: &$crate::config::problem::Origin,
            ) -> bool {
                match key {
                    $(stringify!($key) => {
                        let range = $crate::config::value::Range::of(&[$($min, $max)?]);
                        let value =
                            <$type as $crate::config::value::Setting>::read(scalar, range);
                        let known = value.is_some();
                        if let Some(value) = value {
                            let origin = origin.clone();
                            self.$key = Some($crate::config::value::Set { value, origin });
                        }
                        known
                    })*
                    _ => false,
                }
            }

            fn shown(&self) -> Vec<$crate::config::section::Shown<'_>> {
                let mut shown = Vec::new();
                $(if let Some(set) = &self.$key {
                    let value = $crate::config::value::Setting::shown(&set.value);
                    shown.push((stringify!($key), value, &set.origin));
                })*
                shown
            }
        }
    };
}

/// The only element, or none.
pub(super) const fn first(texts: &[&'static str]) -> Option<&'static str> {
    match texts {
        [text, ..] => Some(text),
        [] => None,
    }
}
