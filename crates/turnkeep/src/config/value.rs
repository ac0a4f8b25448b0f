//! The kinds of values a key can take, each with the words that explain it.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};
use turnkeep_core::guard::Severity;
use turnkeep_core::network::Network;
use turnkeep_core::policy::{AmbiguousDelivery, BusyPolicy, WindowMode};

use super::problem::Origin;

/// A value and where it was typed.
#[derive(Clone, Debug)]
pub(super) struct Set<T> {
    pub(super) value: T,
    pub(super) origin: Origin,
}

/// One value as it was typed.
#[derive(Clone, Debug)]
pub(super) enum Scalar {
    Bool(bool),
    Whole(i64),
    Real(f64),
    Text(String),
    /// From a variable or a flag, where everything is text.
    Loose(String),
    /// A list of texts.
    List(Vec<String>),
    /// A table of texts.
    Pairs(Vec<(String, String)>),
    /// Something that no key takes; holds its name.
    Other(&'static str),
}

impl fmt::Display for Scalar {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_MAX: usize = 60;
        match self {
            Self::Bool(value) => write!(formatter, "{value}"),
            Self::Whole(value) => write!(formatter, "{value}"),
            Self::Real(value) => write!(formatter, "{value:?}"),
            Self::Text(text) | Self::Loose(text) => match text.char_indices().nth(SHOWN_MAX) {
                Some((end, _)) => write!(formatter, "{:?}", format!("{}…", &text[..end])),
                None => write!(formatter, "{text:?}"),
            },
            Self::List(texts) if texts.is_empty() => formatter.write_str("an empty list"),
            Self::List(texts) => write!(formatter, "{texts:?}"),
            Self::Pairs(_) => formatter.write_str("a section"),
            Self::Other(name) => formatter.write_str(name),
        }
    }
}

impl Scalar {
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Loose(text) => Some(text),
            _ => None,
        }
    }

    /// A list of texts: written as one, as a lone text, or in a variable with commas between.
    pub(super) fn texts(&self) -> Option<Vec<String>> {
        match self {
            Self::List(texts) => Some(texts.clone()),
            Self::Text(text) => Some(vec![text.clone()]),
            Self::Loose(text) => Some(text.split(',').map(|part| part.trim().to_owned()).collect()),
            _ => None,
        }
    }
}

pub(super) fn text_schema() -> Value {
    json!({"type": "string", "minLength": 1})
}

/// A list of texts, or a lone one.
fn texts_schema() -> Value {
    json!({"anyOf": [text_schema(), {"type": "array", "items": text_schema(), "minItems": 1}]})
}

/// The smallest and the greatest number allowed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    min: u64,
    max: u64,
}

impl Range {
    /// From `[]` (no bounds) or `[min, max]`.
    pub(super) const fn of(bounds: &[u64]) -> Self {
        match bounds {
            [min, max] => Self { min: *min, max: *max },
            _ => Self { min: 0, max: i64::MAX as u64 },
        }
    }

    fn holds(self, number: f64) -> bool {
        number >= self.min as f64 && number <= self.max as f64
    }
}

/// A type that a key can have.
pub(super) trait Setting: Sized {
    /// What a value must be, as the end of "must be …".
    fn expected(range: Range) -> String;
    /// Reads a value; none if it is not as [`Setting::expected`] says.
    fn read(scalar: &Scalar, range: Range) -> Option<Self>;
    /// The value as it would be typed in the file.
    fn shown(&self) -> String;
    /// What an editor may check of it, as JSON schema.
    fn schema(range: Range) -> Value;
    /// What is wrong with one row of a table, as the end of a sentence about it: its place in the
    /// table, its name and its value; none for what is no table.
    fn wrong_row(_: usize, _: &str, _: &Scalar) -> Option<String> {
        None
    }
}

impl Setting for bool {
    fn expected(_: Range) -> String {
        "true or false".into()
    }

    fn schema(_: Range) -> Value {
        json!({"type": "boolean"})
    }

    fn read(scalar: &Scalar, _: Range) -> Option<Self> {
        match scalar {
            Scalar::Bool(value) => Some(*value),
            Scalar::Loose(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => Some(true),
                "false" | "0" | "no" | "off" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    fn shown(&self) -> String {
        self.to_string()
    }
}

fn whole(scalar: &Scalar, range: Range) -> Option<u64> {
    let number = match scalar {
        Scalar::Whole(number) => u64::try_from(*number).ok()?,
        Scalar::Loose(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    (range.min..=range.max).contains(&number).then_some(number)
}

macro_rules! whole_number {
    ($($type:ty),*) => {$(
        impl Setting for $type {
            fn expected(range: Range) -> String {
                format!("a whole number from {} to {}", range.min, range.max)
            }

            fn schema(range: Range) -> Value {
                json!({"type": "integer", "minimum": range.min, "maximum": range.max})
            }

            fn read(scalar: &Scalar, range: Range) -> Option<Self> {
                whole(scalar, range).and_then(|number| number.try_into().ok())
            }

            fn shown(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
whole_number!(u32, u64, usize);

impl Setting for f64 {
    fn expected(range: Range) -> String {
        format!("a number from {} to {}", range.min, range.max)
    }

    fn schema(range: Range) -> Value {
        json!({"type": "number", "minimum": range.min, "maximum": range.max})
    }

    fn read(scalar: &Scalar, range: Range) -> Option<Self> {
        let number = match scalar {
            Scalar::Whole(number) => *number as Self,
            Scalar::Real(number) => *number,
            Scalar::Loose(text) => text.trim().parse().ok()?,
            _ => return None,
        };
        range.holds(number).then_some(number)
    }

    fn shown(&self) -> String {
        format!("{self:?}")
    }
}

impl Setting for String {
    fn expected(_: Range) -> String {
        "a text that is not empty".into()
    }

    fn schema(_: Range) -> Value {
        text_schema()
    }

    fn read(scalar: &Scalar, _: Range) -> Option<Self> {
        scalar.text().filter(|text| !text.trim().is_empty()).map(Self::from)
    }

    fn shown(&self) -> String {
        format!("{self:?}")
    }
}

impl Setting for PathBuf {
    fn expected(_: Range) -> String {
        "a path".into()
    }

    fn schema(_: Range) -> Value {
        text_schema()
    }

    fn read(scalar: &Scalar, range: Range) -> Option<Self> {
        String::read(scalar, range).filter(|text| !text.contains('\0')).map(Self::from)
    }

    fn shown(&self) -> String {
        format!("{:?}", self.display().to_string())
    }
}

/// One path or a list of them.
#[derive(Clone, Debug)]
pub(super) struct Paths(pub(super) Vec<PathBuf>);

impl Setting for Paths {
    fn expected(_: Range) -> String {
        "a path or a list of paths".into()
    }

    fn schema(_: Range) -> Value {
        texts_schema()
    }

    fn read(scalar: &Scalar, range: Range) -> Option<Self> {
        let texts = scalar.texts().filter(|texts| !texts.is_empty())?.into_iter();
        let paths = texts.map(|text| PathBuf::read(&Scalar::Text(text), range)).collect();
        Option::map(paths, Self)
    }

    fn shown(&self) -> String {
        format!("{:?}", self.0)
    }
}

/// An address and a port to listen on; `localhost` is understood.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listen(pub(super) SocketAddr);

impl Setting for Listen {
    fn expected(_: Range) -> String {
        "an address and a port, like \"127.0.0.1:7878\"".into()
    }

    fn schema(_: Range) -> Value {
        json!({"type": "string", "pattern": ":[0-9]+$"})
    }

    fn read(scalar: &Scalar, _: Range) -> Option<Self> {
        let text = scalar.text()?.trim();
        let numeric = match text.strip_prefix("localhost:") {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.to_owned(),
        };
        numeric.parse().ok().map(Self)
    }

    fn shown(&self) -> String {
        format!("{:?}", self.0.to_string())
    }
}

/// An `http` or `https` address without a slash at its end.
#[derive(Clone, Debug)]
pub(super) struct Url(pub(super) String);

impl Setting for Url {
    fn expected(_: Range) -> String {
        "an address that begins with http:// or https://".into()
    }

    fn schema(_: Range) -> Value {
        json!({"type": "string", "pattern": "^\\s*[Hh][Tt][Tt][Pp][Ss]?://"})
    }

    fn read(scalar: &Scalar, _: Range) -> Option<Self> {
        let text = scalar.text()?.trim().trim_end_matches('/');
        let url = reqwest::Url::parse(text).ok()?;
        let usable = matches!(url.scheme(), "http" | "https") && url.has_host();
        usable.then(|| Self(text.to_owned()))
    }

    fn shown(&self) -> String {
        format!("{:?}", self.0)
    }
}

/// An `http` or `https` address that something is posted to, as it is and without a password.
#[derive(Clone, Debug)]
pub(super) struct Endpoint(pub(super) reqwest::Url);

impl Setting for Endpoint {
    fn expected(_: Range) -> String {
        "an address that begins with http:// or https://, without a password in it".into()
    }

    fn schema(_: Range) -> Value {
        json!({"type": "string", "pattern": "^\\s*[Hh][Tt][Tt][Pp][Ss]?://"})
    }

    fn read(scalar: &Scalar, _: Range) -> Option<Self> {
        let url = reqwest::Url::parse(scalar.text()?.trim()).ok()?;
        let usable = matches!(url.scheme(), "http" | "https") && url.has_host();
        let open = url.username().is_empty() && url.password().is_none();
        (usable && open).then_some(Self(url))
    }

    fn shown(&self) -> String {
        format!("{:?}", self.0.as_str())
    }
}

/// One text or a list of them.
#[derive(Clone, Debug)]
pub(super) struct Texts(pub(super) Vec<String>);

impl Setting for Texts {
    fn expected(_: Range) -> String {
        "a text or a list of texts".into()
    }

    fn schema(_: Range) -> Value {
        texts_schema()
    }

    fn read(scalar: &Scalar, _: Range) -> Option<Self> {
        scalar.texts().filter(|texts| !texts.is_empty()).map(Self)
    }

    fn shown(&self) -> String {
        format!("{:?}", self.0)
    }
}

/// Ranges of addresses.
#[derive(Clone, Debug)]
pub(super) struct Networks(pub(super) Vec<Network>);

impl Setting for Networks {
    fn expected(_: Range) -> String {
        "a list of networks, like [\"10.0.0.0/8\", \"fd00::/8\"]".into()
    }

    fn schema(_: Range) -> Value {
        json!({"anyOf": [text_schema(), {"type": "array", "items": text_schema()}]})
    }

    fn read(scalar: &Scalar, _: Range) -> Option<Self> {
        let networks = scalar.texts()?.iter().map(|text| text.parse().ok()).collect();
        Option::map(networks, Self)
    }

    fn shown(&self) -> String {
        let texts: Vec<String> = self.0.iter().map(Network::to_string).collect();
        format!("{texts:?}")
    }
}

macro_rules! words {
    ($($type:ty { $($word:literal => $value:path),* $(,)? })*) => {$(
        impl Setting for $type {
            fn expected(_: Range) -> String {
                ["one of ", [$($word),*].join(", ").as_str()].concat()
            }

            fn schema(_: Range) -> Value {
                json!({"enum": [$($word),*]})
            }

            fn read(scalar: &Scalar, _: Range) -> Option<Self> {
                match scalar.text()? {
                    $($word => Some($value),)*
                    _ => None,
                }
            }

            fn shown(&self) -> String {
                match self {
                    $($value => format!("{:?}", $word),)*
                }
            }
        }
    )*};
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What sort of agent it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AgentKind {
    Echo,
    OpenAi,
    Anthropic,
    Command,
    Http,
}

/// Where everything is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoreKind {
    Sqlite,
    Postgres,
}

/// How a connection to a database is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    /// Encrypted, and the server shows who it is.
    Verify,
    /// Not at all.
    Off,
}

words! {
    StoreKind { "sqlite" => StoreKind::Sqlite, "postgres" => StoreKind::Postgres }
    Tls { "verify" => Tls::Verify, "off" => Tls::Off }
    LogFormat { "text" => LogFormat::Text, "json" => LogFormat::Json }
    AgentKind {
        "echo" => AgentKind::Echo,
        "openai" => AgentKind::OpenAi,
        "anthropic" => AgentKind::Anthropic,
        "command" => AgentKind::Command,
        "http" => AgentKind::Http,
    }
    Severity {
        "monitor" => Severity::Monitor,
        "restrict" => Severity::Restrict,
        "block" => Severity::Block,
        "permanent" => Severity::Permanent,
    }
    BusyPolicy {
        "absorb" => BusyPolicy::Absorb,
        "supersede" => BusyPolicy::Supersede,
        "collect" => BusyPolicy::Collect,
        "queue" => BusyPolicy::Queue,
        "reject" => BusyPolicy::Reject,
        "agent" => BusyPolicy::Agent,
    }
    WindowMode {
        "off" => WindowMode::Off,
        "fixed" => WindowMode::Fixed,
        "adaptive" => WindowMode::Adaptive,
    }
    AmbiguousDelivery {
        "resend" => AmbiguousDelivery::Resend,
        "hold" => AmbiguousDelivery::Hold,
        "dead" => AmbiguousDelivery::Dead,
    }
}
