//! What has happened since the start, for metrics. All of them only grow.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What has happened since the start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The same, as it is counted.
        #[derive(Debug, Default)]
        pub(crate) struct Counting {
            $(pub(crate) $name: Count,)*
        }

        impl Counting {
            pub(crate) fn read(&self) -> Counts {
                Counts { $($name: self.$name.0.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counts! {
    /// Calls that were answered.
    answered,
    /// Calls that were not answered in time.
    late,
    /// Calls that ended with an error.
    failed,
    /// Calls that were not made, because Redis was known to be away.
    skipped,
    /// Connections that were made.
    connected,
    /// How often the keys were found gone while we were at work.
    flushed,
    /// Keys under our names that held what somebody else wrote, and were left alone.
    foreign,
    /// Pieces of news that arrived.
    heard,
    /// News that could not be read, or were too large.
    unreadable,
    /// How often a listener was told that it may have missed some.
    missed,
}

#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn more(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }
}
