//! What one server does of all that there is to do.

/// Servers of several roles share one database; one that has its store to itself does everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Talks to clients and runs turns.
    All,
    /// Talks to clients; turns run elsewhere.
    Gateway,
    /// Runs turns, and talks to nobody.
    Worker,
}

impl Role {
    /// Whether turns run here.
    pub(crate) const fn runs(self) -> bool {
        matches!(self, Self::All | Self::Worker)
    }

    /// What it is called.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Gateway => "gateway",
            Self::Worker => "worker",
        }
    }
}
