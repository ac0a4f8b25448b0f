//! What can be set, and where the key comes from. Reading configuration files is the binary's.

use std::fmt;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

/// No key is longer; keeps a wrong path from being read as a whole.
const KEY_BYTES_MAX: u64 = 8 * 1024;
/// What the agent itself puts into a request.
const RESERVED: [&str; 5] = ["model", "messages", "stream", "stream_options", "n"];

/// How to talk to one model.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenAiSettings {
    /// The server up to and including its version, `https://api.openai.com/v1`.
    pub base_url: String,
    /// The model's name there.
    pub model: String,
    /// Where the key is.
    pub key: KeySource,
    /// Stands before every conversation.
    pub system_prompt: Option<String>,
    /// Lines of the conversation before this turn that are looked at, at most.
    pub history_messages: usize,
    /// How much of the conversation before this turn is sent along, in tokens, estimated as one
    /// for every four characters and four a message. The system prompt and the turn's own messages
    /// are not counted.
    pub history_tokens: u32,
    /// Longest reply in bytes; a longer one fails the turn.
    pub reply_bytes_max: usize,
    /// Requests that one turn may make to answer messages that arrived meanwhile, the first one
    /// included.
    pub rounds_max: u32,
    /// How often one request is tried again when the server is busy (429) or broken (5xx), before
    /// the failure is the gateway's.
    pub retries_max: u32,
    /// Pause before the first of these; doubled for each later one.
    pub retry_pause: Duration,
    /// Longest such pause. Where the server asks for more, the gateway waits instead.
    pub retry_pause_max: Duration,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long the server may be silent, before its answer and within it. A model at home may need
    /// a while to read a long conversation.
    pub silence_timeout: Duration,
    /// Requests under way at once, over all sessions; none for no limit.
    pub slots: Option<usize>,
    /// More fields of the request, as the server knows them: `temperature`, `max_tokens`.
    pub extra: Map<String, Value>,
}

impl OpenAiSettings {
    /// The defaults for a model on a server without a key.
    #[must_use]
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            model: model.into(),
            key: KeySource::None,
            system_prompt: None,
            history_messages: 200,
            history_tokens: 4000,
            reply_bytes_max: 1 << 20,
            rounds_max: 4,
            retries_max: 2,
            retry_pause: Duration::from_millis(500),
            retry_pause_max: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            silence_timeout: Duration::from_secs(90),
            slots: None,
            extra: Map::new(),
        }
    }

    pub(super) fn check_extra(&self) -> Result<(), OpenAiError> {
        match RESERVED.into_iter().find(|name| self.extra.contains_key(*name)) {
            Some(name) => Err(OpenAiError::Reserved(name)),
            None => Ok(()),
        }
    }
}

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

    pub(super) fn read(&self) -> Result<Option<Key>, OpenAiError> {
        match self {
            Self::None => Ok(None),
            Self::Given(key) => Key::new(&key.0, "the configuration").map(Some),
            Self::Environment(variable) => {
                let text = std::env::var(variable)
                    .map_err(|_| OpenAiError::KeyVariable { variable: variable.clone() })?;
                Key::new(&text, &format!("the environment variable {variable}")).map(Some)
            }
            Self::File(path) => {
                let text = read_key_file(path)?;
                Key::new(&text, &path.display().to_string()).map(Some)
            }
        }
    }
}

fn read_key_file(path: &Path) -> Result<String, OpenAiError> {
    let unreadable = |error: std::io::Error| OpenAiError::KeyFile { path: path.to_owned(), error };
    // The opened file is the one that is checked, so nobody can swap it in between.
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
    if mode & 0o006 != 0 {
        return Err(OpenAiError::KeyFileExposed { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.take(KEY_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

/// A provider's key; prints as nothing but a placeholder.
#[derive(Clone)]
pub(super) struct Key(String);

impl Key {
    /// What stands where the key would.
    const PLACEHOLDER: &'static str = "[key]";

    fn new(text: &str, place: &str) -> Result<Self, OpenAiError> {
        let key = text.trim();
        // Nothing else fits into a header, and a blank inside is a sign of a wrong file.
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(OpenAiError::KeyUnusable { place: place.to_owned() });
        }
        Ok(Self(key.to_owned()))
    }

    pub(super) fn header(&self) -> Result<reqwest::header::HeaderValue, OpenAiError> {
        let mut value = reqwest::header::HeaderValue::from_str(&format!("Bearer {}", self.0))
            .map_err(|_| OpenAiError::KeyUnusable { place: "its source".to_owned() })?;
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

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum OpenAiError {
    /// The address is none.
    #[error(
        "base_url {url:?} is no usable address: {reason}; it looks like https://api.openai.com/v1"
    )]
    BaseUrl {
        /// As it was written.
        url: String,
        /// Why not.
        reason: String,
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
        assert_eq!(format!("{key:?} {:?}", key.header().unwrap()), "[key] Sensitive");
        assert_eq!(key.redact("no turnkeep-agents here"), "no [key] here");
    }
}
