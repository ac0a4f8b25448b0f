//! Lays flags over the environment over the file, and hands the sum on to be resolved.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::hatchet::HatchetKeys;
use super::paths;
use super::problem::{Origin, Problems, nearest};
use super::raw::{GatewayKeys, GuardKeys, Raw, TelemetryKeys, TopKeys};
use super::read::{Scope, read_file};
use super::resolved::{Resolved, Whereabouts, resolve, resolve_whereabouts};
use super::secret::Told;
use super::section::{Key, Section, find, found};
use super::store::{self, StoreKeys, Stored};
use super::switchboard::SwitchboardKeys;
use super::value::Scalar;

/// What every variable's name begins with.
const PREFIX: &str = "TURNKEEP_";

/// Variables that other parts of the program read, without the prefix.
const OTHER_VARIABLES: [&str; 6] = ["CONFIG", "SERVER", "KEY", "TENANT", "AGENT", "AS"];

/// The environment, as a value so that tests can bring their own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Env(BTreeMap<String, String>);

impl Env {
    /// The environment of this process.
    pub(crate) fn of_process() -> Self {
        let utf8 = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(utf8).collect())
    }

    /// A variable, if it is set and valid text.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Env {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }
}

/// What was given on the command line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    /// The file, `--config`.
    pub(crate) config: Option<PathBuf>,
    /// Keys of the top section and their values as typed.
    pub(crate) keys: Vec<(&'static str, String)>,
}

/// Finds and reads everything and resolves it, or tells every mistake.
pub(crate) fn load(flags: &Flags, env: &Env) -> Result<Resolved, Problems> {
    let mut problems = Problems::default();
    let (raw, source) = read_all(flags, env, Scope::All, &mut problems);
    let mut resolved = resolve(raw, source, env, &mut problems);
    resolved.notes.extend(strange_variables(env));
    if problems.is_empty() { Ok(resolved) } else { Err(problems) }
}

/// The same for whoever does not know the number of the Signal account yet: a `[signal]` without one
/// has no account then.
pub(crate) fn load_without_number(flags: &Flags, env: &Env) -> Result<Resolved, Problems> {
    let mut problems = Problems::default();
    let (mut raw, source) = read_all(flags, env, Scope::All, &mut problems);
    let stands_in = raw.signal.stand_in();
    let mut resolved = resolve(raw, source, env, &mut problems);
    if let Some(signal) = resolved.signal.as_mut().filter(|_| stands_in) {
        signal.accounts.clear();
    }
    if problems.is_empty() { Ok(resolved) } else { Err(problems) }
}

/// What stands for the name of the file in messages about what was typed there.
pub(crate) const COMMAND_LINE: &str = "the command line";

/// What this text would mean as a file in the folder where we are, alone.
pub(crate) fn typed(text: &str, env: &Env) -> Result<Resolved, Problems> {
    let mut problems = Problems::default();
    let raw = read_file(Path::new(COMMAND_LINE), text, Scope::All, &mut problems);
    let resolved = resolve(raw, None, env, &mut problems);
    if problems.is_empty() { Ok(resolved) } else { Err(problems) }
}

/// Only where a server would be found; mistakes in the sections of the file don't matter to a
/// client.
pub(crate) fn locate(flags: &Flags, env: &Env) -> Result<Whereabouts, Problems> {
    let (whereabouts, problems) = meant(flags, env)?;
    if problems.is_empty() { Ok(whereabouts) } else { Err(problems) }
}

/// The same for who asks a server, beside what is wrong, where the data folder is certain. Where it is
/// not, another server than the one that is meant might be asked.
pub(crate) fn meant(flags: &Flags, env: &Env) -> Result<(Whereabouts, Problems), Problems> {
    let mut problems = Problems::default();
    let (raw, _) = read_all(flags, env, Scope::Top, &mut problems);
    if !problems.is_empty() && !is_folder_certain(&raw.top, flags, env) {
        return Err(problems);
    }
    Ok((resolve_whereabouts(&raw.top, env), problems))
}

/// Whether the data folder comes from the highest place where one was typed. A value that could not be
/// read leaves the one below it standing, and in a file with mistakes absence means nothing.
fn is_folder_certain(top: &TopKeys, flags: &Flags, env: &Env) -> bool {
    let key = "data_dir";
    let by_flag = flags.keys.iter().any(|(name, _)| *name == key);
    let by_variable = env.get(&variable("", key)).is_some_and(|text| !text.is_empty());
    match top.data_dir.as_ref().map(|set| &set.origin) {
        Some(Origin::Flag(_)) => true,
        Some(Origin::Env(_)) => !by_flag,
        Some(Origin::File(..)) => !by_flag && !by_variable,
        None => false,
    }
}

/// Where a server's data are; mistakes in other sections of the file don't matter to who only looks
/// at these.
pub(crate) fn stored(flags: &Flags, env: &Env) -> Result<Stored, Problems> {
    let mut problems = Problems::default();
    let (raw, _) = read_all(flags, env, Scope::Store, &mut problems);
    let mut told = Told { env, problems: &mut problems, notes: &mut Vec::new() };
    let store = store::store(&raw.store, &mut told);
    let Whereabouts { data_dir, .. } = resolve_whereabouts(&raw.top, env);
    if problems.is_empty() { Ok(Stored { data_dir, store }) } else { Err(problems) }
}

/// The tenant that was probably meant by a name that stands nowhere in the file. Any name is a tenant,
/// so one that is unlike all others is none's misspelling, nor is the next of several with numbers.
pub(crate) fn misspelt_tenant(name: &str, flags: &Flags, env: &Env) -> Option<String> {
    // Who runs it is told of mistakes elsewhere.
    let (raw, _) = read_all(flags, env, Scope::All, &mut Problems::default());
    let mut known: Vec<String> = vec!["default".to_owned()];
    known.extend(raw.tenants.keys().cloned());
    let typed = raw.sections().into_iter().flat_map(|(_, section)| {
        let tenants = section.shown().into_iter().filter(|(key, ..)| *key == "tenant");
        tenants.map(|(_, value, _)| value.trim_matches('"').to_owned()).collect::<Vec<_>>()
    });
    known.extend(typed);
    if known.iter().any(|known| known == name) {
        return None;
    }
    let near = nearest(name, known.iter().map(String::as_str))?;
    let bare = |name: &str| name.replace(|one: char| one.is_ascii_digit(), "");
    (strsim::osa_distance(name, near) <= 2 && bare(name) != bare(near)).then(|| near.to_owned())
}

/// Checks the text of a flag against the key it stands for.
pub(crate) fn check_text(key: &str, text: &str) -> Result<String, String> {
    let origin = Origin::Flag(String::new());
    if TopKeys::default().put(key, &Scalar::Loose(text.to_owned()), &origin) {
        return Ok(text.to_owned());
    }
    let expected = find(TopKeys::KEYS, key).map_or_else(String::new, |key| (key.expected)());
    Err(format!("must be {expected}"))
}

/// The variable of a key.
pub(super) fn variable(section: &str, key: &str) -> String {
    let section = if section.is_empty() { String::new() } else { format!("{section}_") };
    format!("{PREFIX}{section}{key}").to_uppercase()
}

fn read_all(
    flags: &Flags,
    env: &Env,
    scope: Scope,
    problems: &mut Problems,
) -> (Raw, Option<PathBuf>) {
    let source = find_file(flags, env);
    let mut raw = match &source {
        Some((path, named_by)) => read_source(path, named_by.as_ref(), scope, problems),
        None => Raw::default(),
    };
    overlay(flags, env, &mut raw, problems);
    (raw, source.map(|(path, _)| path))
}

/// The file to read and, if somebody named it, how.
fn find_file(flags: &Flags, env: &Env) -> Option<(PathBuf, Option<Origin>)> {
    if let Some(path) = &flags.config {
        return Some((path.clone(), Some(Origin::Flag("--config".into()))));
    }
    let name = variable("", "config");
    if let Some(path) = env.get(&name).filter(|path| !path.is_empty()) {
        return Some((path.into(), Some(Origin::Env(name))));
    }
    let exists = |path: &PathBuf| path.exists();
    paths::candidates(env).into_iter().find(exists).map(|path| (path, None))
}

fn read_source(
    path: &Path,
    named_by: Option<&Origin>,
    scope: Scope,
    problems: &mut Problems,
) -> Raw {
    let error = match std::fs::read(path) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => return read_file(path, &text, scope, problems),
            Err(error) => {
                let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
                    .iter()
                    .filter(|byte| **byte == b'\n')
                    .count();
                let origin = Origin::File(path.display().to_string().into(), line + 1);
                problems.add(&origin, "this line is not UTF-8");
                return Raw::default();
            }
        },
        Err(error) => error,
    };
    let text = format!("can't read {}: {error}", path.display());
    match named_by {
        Some(origin) => problems.add(origin, text),
        None => problems.add_general(text),
    }
    Raw::default()
}

/// Puts variables over what the file says, and flags over both.
fn overlay(flags: &Flags, env: &Env, raw: &mut Raw, problems: &mut Problems) {
    let sections: [(&str, &'static [Key], &mut dyn Section); 7] = [
        ("", TopKeys::KEYS, &mut raw.top),
        ("store", StoreKeys::KEYS, &mut raw.store),
        ("hatchet", HatchetKeys::KEYS, &mut raw.hatchet),
        ("gateway", GatewayKeys::KEYS, &mut raw.gateway),
        ("guard", GuardKeys::KEYS, &mut raw.guard),
        ("telemetry", TelemetryKeys::KEYS, &mut raw.telemetry),
        ("switchboard", SwitchboardKeys::KEYS, &mut raw.switchboard),
    ];
    for (label, keys, section) in sections {
        for key in keys {
            let name = variable(label, key.name);
            if let Some(text) = env.get(&name).filter(|text| !text.is_empty()) {
                put((label, &mut *section), key, text, &Origin::Env(name), problems);
            }
        }
    }
    for (name, text) in &flags.keys {
        if let Some(key) = find(TopKeys::KEYS, name) {
            let origin = Origin::Flag(format!("--{}", name.replace('_', "-")));
            put(("", &mut raw.top), key, text, &origin, problems);
        }
    }
}

fn put(
    (label, section): (&str, &mut dyn Section),
    key: &Key,
    text: &str,
    origin: &Origin,
    problems: &mut Problems,
) {
    let scalar = Scalar::Loose(text.to_owned());
    if !section.put(key.name, &scalar, origin) {
        let section = if label.is_empty() { String::new() } else { format!("[{label}]") };
        problems.mistyped(&section, key.name);
        problems.add(origin, format!("must be {}{}", (key.expected)(), found(key, &scalar)));
    }
}

/// Variables that look like ours and are not, but nearly.
///
/// Only those close to a known name: a cluster sets `TURNKEEP_PORT` and the like by itself for a
/// service of this name, and nobody wants to read of them.
fn strange_variables(env: &Env) -> Vec<String> {
    let top = TopKeys::KEYS.iter().map(|key| variable("", key.name));
    let store = StoreKeys::KEYS.iter().map(|key| variable("store", key.name));
    let hatchet = HatchetKeys::KEYS.iter().map(|key| variable("hatchet", key.name));
    let gateway = GatewayKeys::KEYS.iter().map(|key| variable("gateway", key.name));
    let guard = GuardKeys::KEYS.iter().map(|key| variable("guard", key.name));
    let telemetry = TelemetryKeys::KEYS.iter().map(|key| variable("telemetry", key.name));
    let switchboard = SwitchboardKeys::KEYS.iter().map(|key| variable("switchboard", key.name));
    let other = OTHER_VARIABLES.iter().map(|name| variable("", name));
    let known: Vec<String> = top
        .chain(store)
        .chain(hatchet)
        .chain(gateway)
        .chain(guard)
        .chain(telemetry)
        .chain(switchboard)
        .chain(other)
        .map(|name| name.to_lowercase())
        .collect();
    let ours = env.0.keys().filter(|name| name.starts_with(PREFIX));
    ours.filter(|name| !known.contains(&name.to_lowercase()))
        .filter_map(|name| {
            let typed = &name.to_lowercase()[PREFIX.len()..];
            let bare = known.iter().map(|name| &name[PREFIX.len()..]);
            let near = nearest(typed, bare)
                .filter(|near| strsim::osa_distance(typed, near) <= 2)?
                .to_uppercase();
            Some(format!("{name}: no such variable; did you mean \"{PREFIX}{near}\"?"))
        })
        .collect()
}
