//! Plays many schedules.
