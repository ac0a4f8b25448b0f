//! The whole app before a screen that is only a buffer: what happens goes in as it does for a
//! person, and what is asked for and what is seen are held against what is right.

mod desk;
mod elsewhere;
mod endure;
mod leaving;
mod operators;
mod reading;
mod sessions;
mod shown;
mod typing;
