//! The name of this place of watching. Unless one is given, it is the first of t1, t2, … that nobody
//! else has, so that coming back finds the session that was active.
//!
//! The server can't know who is there: somebody who watches may be away for a moment. So a seat is
//! taken by a lock on a file, which the system takes back when the process ends, however it ends. It
//! holds for one user on one machine; who attaches to a server from several machines names seats.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// Seats that are looked at; so many the server keeps of a tenant.
const SEATS_MAX: u32 = 64;

/// The longest name.
const CHARS_MAX: usize = 64;

/// A seat that is ours while this lives.
pub(super) struct Seat {
    pub(super) name: String,
    _lock: Option<File>,
}

impl Seat {
    /// The one that was named, which others may have too, or the first that is free.
    pub(super) fn take(named: Option<String>, place: &str) -> anyhow::Result<Self> {
        if let Some(name) = named {
            return Ok(Self { name, _lock: None });
        }
        let folder = folder(place);
        let taken = make(&folder).and_then(|()| first_free(&folder));
        taken.with_context(|| {
            format!("no seat can be taken in {}; name one with --seat", folder.display())
        })
    }
}

/// Checks a name as the server will.
pub(super) fn name(text: &str) -> Result<String, String> {
    let fits = |one: char| one.is_ascii_alphanumeric() || "._-".contains(one);
    if text.is_empty() || text.len() > CHARS_MAX || !text.chars().all(fits) {
        return Err(format!("must be 1 to {CHARS_MAX} letters, digits, `.`, `_` or `-`"));
    }
    Ok(text.to_owned())
}

fn first_free(folder: &Path) -> anyhow::Result<Seat> {
    for number in 1..=SEATS_MAX {
        let name = format!("t{number}");
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(folder.join(&name))?;
        match file.try_lock() {
            Ok(()) => return Ok(Seat { name, _lock: Some(file) }),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
    }
    bail!("{SEATS_MAX} seats are taken");
}

/// Of this user, for this server.
fn folder(place: &str) -> PathBuf {
    let hash = ring::digest::digest(&ring::digest::SHA256, place.as_bytes());
    let server: String = hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let base = match runtime.filter(|dir| dir.is_absolute() && dir.is_dir()) {
        Some(dir) => dir.join("turnkeep"),
        None => {
            let user = rustix::process::geteuid().as_raw();
            std::env::temp_dir().join(format!("turnkeep-{user}"))
        }
    };
    base.join("seats").join(server)
}

/// Makes it, and sees that nobody else made it for us.
fn make(folder: &Path) -> anyhow::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let us = rustix::process::geteuid().as_raw();
    // The folder itself, what holds the seats of all servers, and what holds that.
    for folder in folder.ancestors().take(3) {
        if std::fs::symlink_metadata(folder)?.uid() != us {
            bail!("{} belongs to somebody else", folder.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_free_seat_is_taken_and_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let take = || first_free(folder.path()).unwrap();
        let (first, second) = (take(), take());
        assert_eq!((first.name.as_str(), second.name.as_str()), ("t1", "t2"));
        drop(first);
        assert_eq!(take().name, "t1");
    }

    #[test]
    fn servers_have_seats_of_their_own() {
        assert_eq!(folder("unix:/a"), folder("unix:/a"));
        assert_ne!(folder("unix:/a"), folder("unix:/b"));
    }

    #[test]
    fn names_are_plain() {
        for (text, expect) in
            [("t1", true), ("my-desk_2.0", true), ("", false), ("a b", false), ("é", false)]
        {
            assert_eq!(name(text).is_ok(), expect, "{text:?}");
        }
        assert!(name(&"x".repeat(64)).is_ok());
        assert!(name(&"x".repeat(65)).is_err());
    }
}
