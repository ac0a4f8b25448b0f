//! An agent that asks a model: what is the same whoever provides it.

pub(crate) mod provider;
