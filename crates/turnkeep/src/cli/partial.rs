//! A file that only its owner may read, and that appears whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

/// A file that is to be written.
pub(super) struct Target {
    pub(super) file: PathBuf,
    replace: bool,
}

impl Target {
    pub(super) fn new(file: PathBuf, replace: bool) -> anyhow::Result<Self> {
        ensure!(file.file_name().is_some(), "{} names no file", file.display());
        ensure!(replace || !file.exists(), already_there(&file));
        Ok(Self { file, replace })
    }

    /// Opens a file beside it, which takes its name when it is whole.
    pub(super) fn begin(&self) -> anyhow::Result<Partial<'_>> {
        let mut name = self.file.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let path = self.file.with_file_name(name);
        let there = || format!("{} can't be written", path.display());
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(there);
            }
            _ => {}
        }
        let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = BufWriter::new(open.with_context(there)?);
        Ok(Partial { target: self, path, file, published: false })
    }
}

fn already_there(file: &Path) -> String {
    format!("{} is there already: choose another name, or say --force", file.display())
}

/// A file on its way.
pub(super) struct Partial<'a> {
    target: &'a Target,
    path: PathBuf,
    pub(super) file: BufWriter<File>,
    published: bool,
}

impl Partial<'_> {
    pub(super) fn trouble(&self) -> String {
        format!("{} can't be written", self.path.display())
    }

    pub(super) fn publish(mut self) -> anyhow::Result<()> {
        self.file
            .flush()
            .and_then(|()| self.file.get_ref().sync_all())
            .with_context(|| self.trouble())?;
        let Target { file, replace } = self.target;
        ensure!(self.is_ours(), "{} is being written by somebody else, too", file.display());
        // A link refuses to replace, a rename doesn't ask.
        let named = if *replace {
            fs::rename(&self.path, file)
        } else {
            fs::hard_link(&self.path, file).and_then(|()| fs::remove_file(&self.path))
        };
        match named {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                bail!(already_there(file))
            }
            named => named.with_context(|| format!("{} can't be written", file.display()))?,
        }
        self.published = true;
        Ok(())
    }
}

impl Partial<'_> {
    /// Whoever writes the same file at the same time takes the place of ours, and half of theirs
    /// would get the name.
    fn is_ours(&self) -> bool {
        let ours = self.file.get_ref().metadata();
        let there = fs::symlink_metadata(&self.path);
        ours.and_then(|ours| Ok((ours, there?)))
            .is_ok_and(|(ours, there)| (ours.dev(), ours.ino()) == (there.dev(), there.ino()))
    }
}

impl Drop for Partial<'_> {
    fn drop(&mut self) {
        if !self.published && self.is_ours() {
            // What is half there helps nobody.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_that_write_one_file_the_later_one_does() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("anna.jsonl");
        let target = Target::new(file.clone(), false).unwrap();
        let mut first = target.begin().unwrap();
        writeln!(first.file, "whole").unwrap();
        let mut second = target.begin().unwrap();
        write!(second.file, "ha").unwrap();
        second.file.flush().unwrap();
        let refused = first.publish().unwrap_err().to_string();
        assert!(refused.ends_with("is being written by somebody else, too"), "{refused}");
        writeln!(second.file, "lf").unwrap();
        second.publish().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "half\n");
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("anna.jsonl");
        let target = Target::new(file.clone(), false).unwrap();
        let mut partial = target.begin().unwrap();
        writeln!(partial.file, "half").unwrap();
        drop(partial);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
        let mut partial = target.begin().unwrap();
        writeln!(partial.file, "whole").unwrap();
        partial.publish().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "whole\n");
        assert!(Target::new(file.clone(), false).is_err());
        assert!(target.begin().unwrap().publish().is_err(), "it is there already");
        let force = Target::new(file.clone(), true).unwrap();
        force.begin().unwrap().publish().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "");
    }
}
