//! Money: what is used is priced, remembered in sums, and held against budgets.
//!
//! In reading order: [`prices`] says what a request costs; `reports` is how a run tells of one;
//! `ledger` remembers sums within a bound, read from the store when they are first asked for and fed
//! by commits from then on; `budgets` asks it before a message is let in and before a run begins.
//! The arithmetic stands in `turnkeep_core::usage` and `turnkeep_core::budget`.

pub mod prices;

mod budgets;
mod ledger;
mod reports;

pub(crate) use budgets::appoint;
pub(crate) use ledger::{Booked, Ledger};
pub use prices::Prices;
pub(crate) use reports::Reports;
