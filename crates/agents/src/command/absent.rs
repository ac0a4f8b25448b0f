//! Why a program can't be started, where the system's word for it misleads: it says "No such file" of
//! a program that is there too, if its folder is missing or the program in its first line is.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

/// How much of a file is read for its first line.
const FIRST_LINE_MAX: u64 = 256;

/// In words for a person: what is not there, or else what the system says. `env` is what the program
/// gets beside what it inherits.
#[must_use]
pub fn why_not_started(
    program: &str,
    dir: Option<&Path>,
    env: &BTreeMap<String, String>,
    error: &io::Error,
) -> String {
    if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) {
        return error.to_string();
    }
    if let Some(dir) = dir {
        let shown = dir.display();
        match fs::metadata(dir) {
            Ok(found) if !found.is_dir() => {
                return format!("{shown}, where it would be started, is no folder");
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return format!("there is no folder {shown}, where it would be started");
            }
            _ => {}
        }
    }
    let here = dir.unwrap_or(Path::new("."));
    let path = env.get("PATH").map(OsString::from).or_else(|| std::env::var_os("PATH"));
    let interpreter = file_of(program, here, path.as_deref()).and_then(|file| first_line(&file));
    match interpreter {
        Some(interpreter) if !here.join(&interpreter).exists() => {
            format!("it is there, but {interpreter:?} in its first line is not")
        }
        _ => error.to_string(),
    }
}

/// The file, looked for as the system does it.
fn file_of(program: &str, dir: &Path, path: Option<&OsStr>) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(dir.join(program));
    }
    let folders = std::env::split_paths(path?);
    folders.map(|folder| dir.join(folder).join(program)).find(|file| file.is_file())
}

/// The program that a script names for itself.
fn first_line(file: &Path) -> Option<String> {
    let mut begun = Vec::new();
    fs::File::open(file).ok()?.take(FIRST_LINE_MAX).read_to_end(&mut begun).ok()?;
    let begun = String::from_utf8_lossy(&begun);
    // A line that ends as on Windows names a program with that end; then nobody sees why.
    let line = begun.strip_prefix("#!")?.split('\n').next()?.trim_matches([' ', '\t']);
    Some(line.split([' ', '\t']).next()?.to_owned()).filter(|name| !name.is_empty())
}
