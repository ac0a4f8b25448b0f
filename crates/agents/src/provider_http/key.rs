//! Where a provider's key comes from, and what keeps a provider from being asked at all.

use std::fmt;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use reqwest::header::HeaderValue;

/// No key is longer; keeps a wrong path from being read as a whole.
const KEY_BYTES_MAX: u64 = 8 * 1024;

/// Where the key is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeySource {
    /// The server wants none.
    #[default]
    None,
    /// In this environment variable.
    Environment(String),
    /// Alone in this file, which nobody but its owner and group may touch.
    File(PathBuf),
    /// Read already, by whoever made the settings.
    Given(GivenKey),
}

/// A key that never shows itself in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct GivenKey(String);

impl std::fmt::Debug for GivenKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("GivenKey(…)")
    }
}

impl KeySource {
    /// A key that was read already.
    #[must_use]
    pub fn given(key: &str) -> Self {
        Self::Given(GivenKey(key.to_owned()))
    }

    pub(super) fn read(&self) -> Result<Option<Key>, ProviderSetupError> {
        match self {
            Self::None => Ok(None),
            Self::Given(key) => Key::new(&key.0, "the configuration").map(Some),
            Self::Environment(variable) => {
                let text = std::env::var(variable)
                    .map_err(|_| ProviderSetupError::KeyVariable { variable: variable.clone() })?;
                Key::new(&text, &format!("the environment variable {variable}")).map(Some)
            }
            Self::File(path) => {
                let text = read_key_file(path)?;
                Key::new(&text, &path.display().to_string()).map(Some)
            }
        }
    }
}

fn read_key_file(path: &Path) -> Result<String, ProviderSetupError> {
    let unreadable =
        |error: std::io::Error| ProviderSetupError::KeyFile { path: path.to_owned(), error };
    // The opened file is the one that is checked, so nobody can swap it in between.
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
    if mode & 0o006 != 0 {
        return Err(ProviderSetupError::KeyFileExposed { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.take(KEY_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

/// A provider's key; prints as nothing but a placeholder.
#[derive(Clone)]
pub(crate) struct Key(String);

impl Key {
    /// What stands where the key would.
    const PLACEHOLDER: &'static str = "[key]";

    fn new(text: &str, place: &str) -> Result<Self, ProviderSetupError> {
        let key = text.trim();
        // Nothing else fits into a header, and a blank inside is a sign of a wrong file.
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ProviderSetupError::KeyUnusable { place: place.to_owned() });
        }
        Ok(Self(key.to_owned()))
    }

    pub(super) fn header(&self, before: &str) -> Result<HeaderValue, ProviderSetupError> {
        let mut value = HeaderValue::from_str(&format!("{before}{}", self.0))
            .map_err(|_| ProviderSetupError::KeyUnusable { place: "its source".to_owned() })?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Takes the key out of what a server says, because some repeat it in their errors.
    pub(super) fn redact(&self, text: &str) -> String {
        text.replace(&self.0, Self::PLACEHOLDER)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(Self::PLACEHOLDER)
    }
}

/// Why a provider can't be asked at all, for the person who wrote the settings.
#[derive(Debug, thiserror::Error)]
pub enum ProviderSetupError {
    /// The address is none.
    #[error("base_url {url:?} is no usable address: {reason}; it looks like {like}")]
    BaseUrl {
        /// As it was written.
        url: String,
        /// Why not.
        reason: String,
        /// What one looks like.
        like: &'static str,
    },
    /// The environment variable isn't set.
    #[error("the environment variable {variable} that should hold the key is not set")]
    KeyVariable {
        /// Its name.
        variable: String,
    },
    /// The file can't be read.
    #[error("can't read the key file {path}: {error}", path = path.display())]
    KeyFile {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// The file is open to everybody.
    #[error(
        "the key file {path} is open to everybody (mode {mode:04o}); run: chmod o-rw {path}",
        path = path.display()
    )]
    KeyFileExposed {
        /// Which.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// There is something, but no key.
    #[error("{place} holds no usable key: it must be one word of printable ASCII characters")]
    KeyUnusable {
        /// Where it was looked for.
        place: String,
    },
    /// A field of the request that the agent itself fills in.
    #[error("the extra field {0:?} is set by the agent itself")]
    Reserved(&'static str),
    /// The program forgot to install a TLS provider.
    #[error("no TLS provider is installed; the program has to do that before it makes agents")]
    NoTlsProvider,
    /// The HTTP client can't be made.
    #[error("can't make an HTTP client: {0}")]
    Client(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_file(mode: u32, text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("provider-key");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (directory, path)
    }

    fn check_file(mode: u32, text: &str, expect: Result<&str, &str>) {
        let (_directory, path) = key_file(mode, text);
        match (KeySource::File(path.clone()).read(), expect) {
            (Ok(Some(key)), Ok(expected)) => assert_eq!(key.0, expected),
            (Err(error), Err(part)) => {
                let error = error.to_string();
                assert!(error.contains(part) && error.contains(path.to_str().unwrap()), "{error}");
                assert!(text.trim().is_empty() || !error.contains(text.trim()), "{error}");
            }
            (read, _) => panic!("{read:?}, expected {expect:?}"),
        }
    }

    #[test]
    fn a_key_file_is_read_if_it_is_private() {
        check_file(0o600, "sk-secret\n", Ok("sk-secret"));
        check_file(0o640, "sk-secret", Ok("sk-secret"));
        check_file(0o644, "sk-secret", Err("mode 0644"));
        check_file(0o602, "sk-secret", Err("chmod o-rw"));
        check_file(0o600, " \n", Err("no usable key"));
        check_file(0o600, "two words", Err("no usable key"));
        check_file(0o600, "päßwort", Err("no usable key"));
    }

    #[test]
    fn a_missing_key_is_named() {
        let missing = KeySource::File("/nowhere/provider-key".into()).read().unwrap_err();
        assert!(missing.to_string().contains("/nowhere/provider-key"), "{missing}");
        let unset = KeySource::Environment("TURNKEEP_TEST_UNSET".into()).read().unwrap_err();
        assert!(unset.to_string().contains("TURNKEEP_TEST_UNSET"), "{unset}");
    }

    #[test]
    fn a_key_comes_from_the_environment_and_never_prints() {
        // Cargo sets this one for every test.
        let key = KeySource::Environment("CARGO_PKG_NAME".into()).read().unwrap().unwrap();
        assert_eq!(key.0, "turnkeep-agents");
        assert_eq!(format!("{key:?} {:?}", key.header("Bearer ").unwrap()), "[key] Sensitive");
        assert_eq!(key.redact("no turnkeep-agents here"), "no [key] here");
    }
}
