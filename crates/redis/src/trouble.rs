//! Why a hint could not be had. Whoever gets one goes on without.

/// What stood in the way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// It was not asked: Redis is known to be away, or too slow to be asked.
    #[error("Redis is not asked now: {0}")]
    Away(String),
    /// The keys belong to another cluster.
    #[error("the keys in Redis belong to the cluster {found:?}; use another prefix or database")]
    Foreign {
        /// Its name, as it stands there.
        found: String,
    },
    /// Under one of our names there is what somebody else wrote.
    #[error("a key of ours in Redis holds what somebody else wrote")]
    NotOurs,
    /// It was asked and did not answer in time. It may still do what it was asked.
    #[error("Redis did not answer in time")]
    Late,
    /// The connection broke, or Redis answered with an error.
    #[error("Redis failed: {0}")]
    Failed(String),
    /// What was to be sent or asked is larger than what is allowed.
    #[error("too large for Redis: {0}")]
    TooLarge(&'static str),
}
