//! A seeded simulator that drives the types that ship: the core's `step`, the gateway's driver and
//! its ingress, under a virtual clock, with a store, a channel, an agent and people that misbehave.
//!
//! In reading order: [`plan`] is what a seed decides, [`world`] is the clock and what happens next,
//! `shell` drives sessions and loses what a dying process loses, `disk` takes their commits, `cluster`
//! has several processes at once, `rest` arms deadlines, `agent`, `provider`, `people` and
//! `faults` are who takes part, [`store`] is what is durable, and `judge` holds the promises against
//! what happened. [`mutants`] plants mistakes to see that they are found; [`coverage`] names the
//! branches that were reached; [`hunt`] plays many schedules.

pub mod coverage;
pub mod hunt;
mod keep;
pub mod mutants;
pub mod plan;
pub mod rng;
pub mod stock;
pub mod store;
pub mod world;

mod acks;
mod agent;
mod answers;
mod artifacts;
mod aside;
mod bill;
mod cluster;
mod disk;
mod faults;
mod guard;
mod judge;
mod moderator;
mod nodes;
mod operators;
mod owners;
mod people;
mod provider;
mod queue;
mod rest;
mod rivals;
mod shell;
mod stand_in;
mod tools;
mod typing;
mod unasked;

pub use stock::Stock;
pub use world::{Verdict, World};
