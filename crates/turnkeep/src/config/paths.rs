//! Where files are: the configuration, the data and what a typed path means.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::layers::Env;
use super::problem::Origin;
use super::value::Set;

/// The file's name in the working directory and in the configuration folder.
pub(super) const FILE_NAME: &str = "turnkeep.toml";

/// A base folder of the XDG rules; a relative one is ignored, as they ask.
fn base_dir(env: &Env, variable: &str, below_home: &str) -> Option<PathBuf> {
    let named = env.get(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    named.or_else(|| home(env).map(|home| home.join(below_home)))
}

fn home(env: &Env) -> Option<PathBuf> {
    env.get("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

/// The data folder where none is named.
pub(super) fn data_dir_default(env: &Env) -> PathBuf {
    base_dir(env, "XDG_DATA_HOME", ".local/share")
        .map_or_else(|| PathBuf::from("./turnkeep-data"), |base| base.join("turnkeep"))
}

/// The files that are taken if they exist, the first one first.
pub(super) fn candidates(env: &Env) -> Vec<PathBuf> {
    let base = base_dir(env, "XDG_CONFIG_HOME", ".config");
    let central = base.map(|base| base.join("turnkeep").join(FILE_NAME));
    std::iter::once(PathBuf::from(FILE_NAME)).chain(central).collect()
}

/// The path that was meant: `~/` is the home folder, and a relative path in a file counts from
/// that file's folder.
pub(super) fn meant(set: &Set<PathBuf>, env: &Env) -> PathBuf {
    if let (Ok(rest), Some(home)) = (set.value.strip_prefix("~"), home(env)) {
        return home.join(rest);
    }
    match &set.origin {
        Origin::File(file, _) => Path::new(&**file)
            .parent()
            .map_or_else(|| set.value.clone(), |dir| dir.join(&set.value)),
        Origin::Env(_) | Origin::Flag(_) => set.value.clone(),
    }
}
/// Whether others on this machine get at a folder: its own mode lets them, and so does every folder
/// that it lies in.
pub(crate) fn is_open_to_others(path: &Path) -> bool {
    const OTHERS: u32 = 0o007;
    const OTHERS_PASS: u32 = 0o001;
    let mode = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.permissions().mode());
    let Ok(path) = path.canonicalize() else { return false };
    mode(&path).is_ok_and(|mode| mode & OTHERS != 0)
        && path
            .ancestors()
            .skip(1)
            .all(|above| mode(above).is_ok_and(|mode| mode & OTHERS_PASS != 0))
}
