//! Galleries in Qdrant.

mod concurrency;
mod faults;
mod kills;
mod limits;
mod opening;
mod order;
mod searches;
mod stock;
mod sweeping;
