//! Secrets: named by a file or by a variable, read here, and never shown.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::layers::Env;
use super::pairs::Pairs;
use super::paths;
use super::problem::{Origin, Problems};
use super::value::Set;

/// A secret that never shows itself in logs.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ApiKey(pub(super) String);

impl ApiKey {
    /// The secret, for the one header it goes into.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ApiKey(…)")
    }
}

/// Whether what is typed for this key is left out of every message: somebody may have typed the
/// secret itself instead of where it is.
pub(super) fn is_quiet(key: &str) -> bool {
    key.ends_with("_file") || key.ends_with("_env")
}

/// Everything that reading needs beside the keys.
pub(super) struct Told<'a> {
    pub(super) env: &'a Env,
    pub(super) problems: &'a mut Problems,
    pub(super) notes: &'a mut Vec<String>,
}

/// The two keys that name one secret, as typed.
pub(super) struct Named<'a> {
    /// The section in messages, like `[agents.default]`.
    pub(super) place: &'a str,
    pub(super) file: (&'static str, Option<&'a Set<PathBuf>>),
    pub(super) env: (&'static str, Option<&'a Set<String>>),
}

impl Named<'_> {
    /// Which of both is set, for who is told that the secret is wrong.
    pub(super) const fn used(&self) -> &'static str {
        if self.file.1.is_some() { self.file.0 } else { self.env.0 }
    }
}

/// The secret and its place; none if none is named, or if something is wrong with it, which is told.
pub(super) fn secret<'a>(named: &Named<'a>, told: &mut Told<'_>) -> Option<(String, &'a Origin)> {
    let Named { place, file, env } = named;
    let (key, origin, found) = match (file.1, env.1) {
        (None, None) => return None,
        (Some(_), Some(set)) => {
            let text = format!("\"{}\" and \"{}\" in {place} exclude each other", file.0, env.0);
            told.problems.add(&set.origin, text);
            return None;
        }
        (Some(set), None) => (
            file.0,
            &set.origin,
            of_file(&paths::meant(set, told.env), &format!("\"{}\" in {place}", file.0), set, told),
        ),
        (None, Some(set)) => (env.0, &set.origin, of_variable(&set.value, told.env)),
    };
    match found {
        Ok(secret) => Some((secret, origin)),
        Err(why) => {
            told.problems.add(origin, format!("\"{key}\" in {place}: {why}"));
            None
        }
    }
}

/// Secrets by name, each in a file of its own; what is wrong with one is told.
pub(super) fn secret_files(
    key: &str,
    place: &str,
    set: &Set<Pairs>,
    told: &mut Told<'_>,
) -> BTreeMap<String, ApiKey> {
    let mut secrets = BTreeMap::new();
    for (name, path) in &set.value.0 {
        let path = Set { value: PathBuf::from(path), origin: set.origin.clone() };
        let what = format!("{name} in \"{key}\" in {place}");
        match of_file(&paths::meant(&path, told.env), &what, set, told) {
            Ok(secret) => drop(secrets.insert(name.clone(), ApiKey(secret))),
            Err(why) => told.problems.add(&set.origin, format!("{what}: {why}")),
        }
    }
    secrets
}

fn of_file<T>(
    path: &Path,
    what: &str,
    set: &Set<T>,
    told: &mut Told<'_>,
) -> Result<String, String> {
    let (secret, group) = read_secret(path)?;
    if group {
        told.notes.push(format!(
            "{}: the file of {what} is open to its group; chmod 600 it unless that is meant",
            set.origin
        ));
    }
    Ok(secret)
}

/// A name that is not set is told only where it looks like a name.
fn of_variable(name: &str, env: &Env) -> Result<String, String> {
    if let Some(secret) = env.get(name).map(str::trim).filter(|secret| !secret.is_empty()) {
        return one_line(secret).ok_or_else(|| format!("{name} does not hold one key on one line"));
    }
    let letter = |one: char| one.is_ascii_uppercase() || one.is_ascii_digit() || one == '_';
    if name.len() <= 64 && name.chars().all(letter) {
        return Err(format!("{name} is not set"));
    }
    Err("no variable of this name is set; it must name one, not be the secret itself".to_owned())
}

/// The secret in this file, and whether the file's group may read it. The name of a file that is not there is not
/// told: somebody may have typed the secret itself.
pub(crate) fn read_secret(path: &Path) -> Result<(String, bool), String> {
    use std::os::unix::fs::PermissionsExt;
    const OTHERS: u32 = 0o007;
    const GROUP: u32 = 0o040;
    let mode = std::fs::metadata(path)
        .map_err(|error| format!("there is no file that can be read: {error}"))?
        .permissions()
        .mode();
    let shown = path.display();
    if mode & OTHERS != 0 {
        return Err(format!("{shown} is open to everybody on this machine; chmod 600 it"));
    }
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("can't read {shown}: {error}"))?;
    let secret =
        one_line(&text).ok_or_else(|| format!("{shown} does not hold one key on one line"))?;
    Ok((secret, mode & GROUP != 0))
}

fn one_line(text: &str) -> Option<String> {
    let secret = text.trim();
    let usable = !secret.is_empty() && !secret.chars().any(char::is_control);
    usable.then(|| secret.to_owned())
}
