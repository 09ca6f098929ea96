//! Runs on tiny generated sets.

#![allow(clippy::unwrap_used)]

mod bench;
mod bridged;
mod configurations;
mod embedding;
mod folded;
mod levers;
mod methods;
mod picture_sizes;
mod recipe;
mod run;
mod without_embedding;
