//! Which trace something belongs to, and how that is written in a request: W3C Trace Context
//! (<https://www.w3.org/TR/trace-context/>).

use std::fmt;
use std::sync::Arc;

/// Vendors' entries that are carried on, at most.
const STATE_ENTRIES_MAX: usize = 32;
/// All of them together, in bytes.
pub const STATE_BYTES_MAX: usize = 512;
/// An entry's name or value.
const ENTRY_BYTES_MAX: usize = 256;
/// Everything of a version that is known: `00-`, two ids and the flags.
const PARENT_BYTES: usize = 55;

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident($length:literal)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct $name([u8; $length]);

        impl $name {
            /// The id of these bytes; none if they are all zero, which is no id.
            #[must_use]
            pub fn new(bytes: [u8; $length]) -> Option<Self> {
                (bytes != [0; $length]).then_some(Self(bytes))
            }

            /// Its bytes.
            #[must_use]
            pub const fn bytes(self) -> [u8; $length] {
                self.0
            }

            fn read(text: &str) -> Option<Self> {
                let mut bytes = [0; $length];
                read_hex(text, &mut bytes)?;
                Self::new(bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
            }
        }
    };
}

hex_id!(
    /// Names a trace: everything that came of one request, in all programs it went through.
    TraceId(16)
);
hex_id!(
    /// Names one span of a trace: a piece of work with a beginning and an end.
    SpanId(8)
);

/// A span as others refer to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanContext {
    /// Its trace.
    pub trace: TraceId,
    /// The span.
    pub span: SpanId,
    /// Whether it is recorded. Whoever comes after it does the same.
    pub sampled: bool,
    /// What vendors on the way noted down, as it came.
    pub state: Option<Arc<str>>,
}

impl SpanContext {
    /// Reads `traceparent`, and `tracestate` where that can be read too. None where the first
    /// can't: a new trace begins then.
    #[must_use]
    pub fn read(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let known = traceparent.get(..PARENT_BYTES)?;
        let mut parts = known.split('-');
        let mut part = || parts.next();
        let (version, trace, span, flags) = (part()?, part()?, part()?, part()?);
        if part().is_some() {
            return None;
        }
        let version = byte(version)?;
        let rest = &traceparent[PARENT_BYTES..];
        // A later version may say more behind what is known; this one may not.
        let ends = rest.is_empty() || (version > 0 && rest.starts_with('-'));
        if version == 0xff || !ends {
            return None;
        }
        Some(Self {
            trace: TraceId::read(trace)?,
            span: SpanId::read(span)?,
            sampled: byte(flags)? & 1 == 1,
            state: tracestate.and_then(state),
        })
    }

    /// How the next program is told of it.
    #[must_use]
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

/// Small letters only, as it is written down.
fn read_hex(text: &str, bytes: &mut [u8]) -> Option<()> {
    if text.len() != bytes.len() * 2 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(())
}

const fn digit(letter: u8) -> Option<u8> {
    match letter {
        b'0'..=b'9' => Some(letter - b'0'),
        b'a'..=b'f' => Some(letter - b'a' + 10),
        _ => None,
    }
}

fn byte(text: &str) -> Option<u8> {
    let mut byte = [0];
    read_hex(text, &mut byte)?;
    Some(byte[0])
}

/// What vendors noted, if all of it is of the right form. What is too long loses whole entries at
/// its end: the newest stand at the beginning.
fn state(text: &str) -> Option<Arc<str>> {
    let entries = || text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    if entries().count() > STATE_ENTRIES_MAX || !entries().all(is_entry) {
        return None;
    }
    let mut kept = String::new();
    for entry in entries() {
        if kept.len() + 1 + entry.len() > STATE_BYTES_MAX {
            break;
        }
        if !kept.is_empty() {
            kept.push(',');
        }
        kept.push_str(entry);
    }
    (!kept.is_empty()).then(|| kept.into())
}

fn is_entry(entry: &str) -> bool {
    let Some((name, value)) = entry.split_once('=') else { return false };
    let fits = |text: &str| (1..=ENTRY_BYTES_MAX).contains(&text.len());
    let named =
        |one: u8| matches!(one, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
    let valued = |one: u8| matches!(one, b' '..=b'~') && !matches!(one, b',' | b'=');
    fits(name) && fits(value) && name.bytes().all(named) && value.bytes().all(valued)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn what_was_read_is_written_alike() {
        let check = |version: &str, flags: &str, rest: &str, expect: Option<&str>| {
            let text = format!("{version}-{TRACE}-{SPAN}-{flags}{rest}");
            let read = SpanContext::read(&text, None).map(|context| context.traceparent());
            let expect = expect.map(|flags| format!("00-{TRACE}-{SPAN}-{flags}"));
            assert_eq!(read, expect, "{text}");
        };
        check("00", "01", "", Some("01"));
        check("00", "00", "", Some("00"));
        // Flags that nobody knows yet are not handed on.
        check("00", "ff", "", Some("01"));
        check("00", "02", "", Some("00"));
        check("01", "01", "", Some("01"));
        check("cc", "01", "-what the future brings", Some("01"));
        check("cc", "01", ".what", None);
        check("00", "01", "-more", None);
        check("ff", "01", "", None);
        check("0", "01", "-", None);
        check("00", "0A", "", None);
        check("00", "1", "", None);
    }

    #[test]
    fn what_is_none_begins_anew() {
        let zeros = |length: usize| "0".repeat(length);
        for text in [
            String::new(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{}-{SPAN}-01", zeros(32)),
            format!("00-{TRACE}-{}-01", zeros(16)),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{SPAN}-{TRACE}-01"),
            format!("00 {TRACE} {SPAN} 01"),
            format!(" 00-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{}é-01", &SPAN[2..]),
        ] {
            assert_eq!(SpanContext::read(&text, Some("a=b")), None, "{text}");
        }
    }

    #[test]
    fn the_vendors_notes_are_carried_on() {
        let parent = format!("00-{TRACE}-{SPAN}-01");
        let check = |notes: &str, expect: Option<&str>| {
            let context = SpanContext::read(&parent, Some(notes)).unwrap();
            assert_eq!(context.state.as_deref(), expect, "{notes}");
        };
        check("congo=t61rcWkgMzE", Some("congo=t61rcWkgMzE"));
        check(" a=1 ,, b@c= x ", Some("a=1,b@c= x"));
        check("", None);
        check(",", None);
        check("a", None);
        check("a=", None);
        check("A=1", None);
        check("a=1,b=é", None);
        check("a=b=c", None);
        let many = |count: usize| vec!["a=1"; count].join(",");
        check(&many(32), Some(&many(32)));
        check(&many(33), None);
        let long = format!("a={}", "x".repeat(200));
        let (two, three) = ([&*long; 2].join(","), [&*long; 3].join(","));
        check(&three, Some(&two));
    }
}
