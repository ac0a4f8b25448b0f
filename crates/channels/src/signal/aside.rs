//! Files that signal-cli stored and that another account may want.
//!
//! All accounts of one signal-cli share its folder of attachments, under the provider's own names: in
//! a group that two of them are in, both get the same file. So where there are several, what one of
//! them dealt with is laid aside for a while instead of being removed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use super::keeping::{blocking, private_folder};
use super::{Inner, SignalSettings, Way};

/// How often it is looked for files that were there for long enough.
const LOOK: Duration = Duration::from_secs(60);

/// Where they are laid; none where there is one account, which nobody shares with.
pub(super) fn folder(inner: &Inner) -> Option<PathBuf> {
    let settings = &inner.settings;
    (settings.accounts.len() > 1).then(|| place(settings))
}

/// Beside the keys: another server that comes to have those has these, too.
fn place(settings: &SignalSettings) -> PathBuf {
    match &settings.way {
        Way::Child { config_dir, .. } => config_dir.join("aside"),
        _ => earlier(settings),
    }
}

/// Where earlier versions laid them.
fn earlier(settings: &SignalSettings) -> PathBuf {
    settings.earlier().join("aside")
}

/// Opens a file of signal-cli's, wherever it is by now.
pub(super) fn open(path: &Path, aside: Option<&Path>) -> io::Result<File> {
    match (File::open(path), aside.zip(path.file_name())) {
        (Err(error), Some((aside, name))) if error.kind() == io::ErrorKind::NotFound => {
            File::open(aside.join(name))
        }
        (opened, _) => opened,
    }
}

/// Removes a file of signal-cli's, or lays it aside.
pub(super) fn put(path: &Path, aside: Option<&Path>) -> io::Result<()> {
    let Some((aside, name)) = aside.zip(path.file_name()) else {
        return std::fs::remove_file(path);
    };
    private_folder(aside)?;
    let laid = aside.join(name);
    match std::fs::rename(path, &laid) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            std::fs::copy(path, &laid)?;
            std::fs::remove_file(path)?;
        }
        moved => moved?,
    }
    // From now on, not from when it came.
    File::options().append(true).open(&laid)?.set_modified(SystemTime::now())
}

/// Removes what was laid aside for long enough, again and again: also where nothing is laid aside any
/// more, because there is one account now, or signal-cli runs by itself.
pub(super) async fn tidy(inner: &Inner) {
    let settings = &inner.settings;
    let (places, keeps) = ([place(settings), earlier(settings)], settings.patience.aside);
    let mut told = None;
    loop {
        let looks = places.clone();
        let error = blocking(move || {
            // Both, whatever is wrong with one.
            let done = looks.map(|look| remove_old(&look, keeps));
            done.into_iter().collect::<io::Result<()>>()
        });
        let why = error.await.err().map(|error| error.to_string());
        if let Some(why) = why.as_ref().filter(|why| told.as_ref() != Some(*why)) {
            tracing::warn!(why, "Signal: some files stay");
        }
        told = why;
        sleep(LOOK.min(keeps)).await;
    }
}

fn remove_old(folder: &Path, keeps: Duration) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    // One that can't be removed keeps none of the others.
    let mut failed = Ok(());
    for entry in entries {
        let removed = entry.and_then(|entry| {
            let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
            let path = entry.path();
            let named = |error| io::Error::other(format!("{}: {error}", path.display()));
            if age < keeps { Ok(()) } else { std::fs::remove_file(&path).map_err(named) }
        });
        failed = failed.and(removed);
    }
    failed
}
