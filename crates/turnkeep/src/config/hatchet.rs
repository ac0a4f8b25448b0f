//! The workflow engine that gives turns to workers, and how it is reached.

use std::path::PathBuf;
use std::time::Duration;

use super::paths;
use super::raw::GatewayKeys;
use super::resolved::{or, text};
use super::secret::{ApiKey, Named, Told, secret};
use super::section::Section as _;
use super::value::{Set, StoreKind, Tls};

section! {
    /// The Hatchet engine, where several servers share a database.
    struct HatchetKeys {
        /// The file that holds a token of the engine's tenant; refused if everybody on the machine can
        /// read it. This or `token_env`.
        token_file: PathBuf => "\"/etc/turnkeep/hatchet.token\"";
        /// The environment variable that holds it.
        token_env: String => "\"HATCHET_CLIENT_TOKEN\"";
        /// Where the engine is, as `host:port`; without it where its token says.
        address: String => "\"hatchet.example.org:7070\"";
        /// What keeps this deployment's workflows apart from others in the same tenant: small
        /// letters, digits and `-`.
        namespace: String => "\"production\"";
        /// `verify` encrypts the connection and asks the engine for a certificate of its name; `off`
        /// does neither. Without it `verify`, but not for an engine on this machine.
        tls: Tls => "\"verify\"";
        /// The authorities that are trusted in place of the machine's, as a PEM file.
        tls_authorities: PathBuf => "\"/etc/turnkeep/hatchet-ca.pem\"";
        /// How long a turn may wait to be taken by a worker. Then it is run by whoever comes first,
        /// and where `fallback_to_sync` is set by the gateway that has it.
        dispatch_timeout_ms: u64 [1000, 600_000] = "10000";
        /// How many steps of turns one worker sees to at once.
        slots: u32 [1, 10_000] = "200";
    }
}

/// How the engine is reached and used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HatchetSettings {
    /// Who we are to it.
    pub(crate) token: ApiKey,
    /// The key that says where that is.
    pub(crate) token_key: &'static str,
    /// Where it is, if not where the token says.
    pub(crate) address: Option<String>,
    /// What keeps deployments apart.
    pub(crate) namespace: Option<String>,
    /// Whether the connection is encrypted, if that was chosen.
    pub(crate) tls: Option<Tls>,
    /// Authorities in place of the machine's.
    pub(crate) tls_authorities: Option<PathBuf>,
    /// How long a turn may wait to be taken.
    pub(crate) dispatch_timeout: Duration,
    /// Steps at once.
    pub(crate) slots: u32,
    /// A gateway runs what no worker took.
    pub(crate) fallback: bool,
}

/// The engine, if it is used; what is wrong with it is told.
pub(super) fn hatchet(
    keys: &HatchetKeys,
    gateway: &GatewayKeys,
    kind: StoreKind,
    told: &mut Told<'_>,
) -> Option<HatchetSettings> {
    let shown = keys.shown();
    let Some((first, _, origin)) = shown.first() else {
        without(gateway, told.notes);
        return None;
    };
    if kind == StoreKind::Sqlite {
        let text = format!(
            "\"{first}\" in [hatchet] is of no use without [store] kind = \"postgres\": a server \
             that has its store to itself runs its turns itself"
        );
        told.problems.add(origin, text);
        return None;
    }
    if keys.token_file.is_none() && keys.token_env.is_none() {
        let text = "[hatchet] needs \"token_file\" or \"token_env\", which name where the engine's \
                    token is";
        told.problems.lacks("[hatchet]", &["token_file", "token_env"], origin, text);
        return None;
    }
    named(keys, told);
    let places = Named {
        place: "[hatchet]",
        file: ("token_file", keys.token_file.as_ref()),
        env: ("token_env", keys.token_env.as_ref()),
    };
    let (token, origin) = secret(&places, told)?;
    if token.split('.').count() != 3 {
        // What stands there may be a secret, so it is not shown.
        let text = "the token in [hatchet] is none of an engine: it has three parts with dots \
                    between them, as `hatchet-admin token create` prints it";
        told.problems.add(origin, text);
    }
    Some(HatchetSettings {
        token: ApiKey(token),
        token_key: places.used(),
        address: text(keys.address.as_ref()),
        namespace: text(keys.namespace.as_ref()),
        tls: keys.tls.as_ref().map(|set| set.value),
        tls_authorities: keys.tls_authorities.as_ref().map(|set| paths::meant(set, told.env)),
        dispatch_timeout: Duration::from_millis(or(keys.dispatch_timeout_ms.as_ref(), 10_000)),
        slots: or(keys.slots.as_ref(), 200),
        fallback: or(gateway.fallback_to_sync.as_ref(), false),
    })
}

/// Somebody may rely on it.
fn without(gateway: &GatewayKeys, notes: &mut Vec<String>) {
    if let Some(Set { value: true, origin }) = &gateway.fallback_to_sync {
        notes.push(format!(
            "{origin}: \"fallback_to_sync\" has no effect without [hatchet]: there is no workflow \
             engine to fall back from"
        ));
    }
}

/// An address and a name that the engine can take.
fn named(keys: &HatchetKeys, told: &mut Told<'_>) {
    let address = |text: &str| {
        let port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
        let parts = text.rsplit_once(':');
        parts.is_some_and(|(host, number)| !host.is_empty() && port(number))
            && !text.contains(['/', '@', ' '])
    };
    let namespace = |text: &str| {
        let known = |one: char| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '-';
        !text.is_empty() && text.len() <= 32 && text.chars().all(known)
    };
    type Rule<'a> = (&'static str, Option<&'a Set<String>>, &'a dyn Fn(&str) -> bool, &'static str);
    let rules: [Rule<'_>; 2] = [
        ("address", keys.address.as_ref(), &address, "host:port"),
        ("namespace", keys.namespace.as_ref(), &namespace, "1 to 32 small letters, digits and -"),
    ];
    for (key, set, is_right, rule) in rules {
        if let Some(set) = set.filter(|set| !is_right(&set.value)) {
            let text = format!("\"{key}\" in [hatchet] must be {rule}, not {:?}", set.value);
            told.problems.add(&set.origin, text);
        }
    }
}
