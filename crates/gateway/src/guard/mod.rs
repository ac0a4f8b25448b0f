//! The guard: refuses what must not be let in, before anything is spent on it.
//!
//! In reading order: [`settings`] is what it lives by; `door` is where a message meets it;
//! `admission` asks the questions, whose arithmetic stands in `turnkeep_core::guard`; `rates` charges
//! customers, tenants and everybody, `shared` asks the other nodes for the same; `steering` asks
//! those who steer; `table` remembers customers and tenants, as many as there is room for; `standings` are the restrictions in force; [`words`] finds terms and
//! patterns; `record` keeps restrictions and is how people see, make and lift them.

pub mod settings;
pub mod words;

mod admission;
mod door;
mod rates;
mod record;
mod shared;
mod standings;
mod steering;
mod table;

pub(crate) use admission::Guard;
pub use admission::GuardParts;
pub use record::NewRestriction;
pub use settings::GuardSettings;
pub(crate) use steering::Steering;
pub use words::{Words, WordsError};

#[cfg(test)]
mod tests;
