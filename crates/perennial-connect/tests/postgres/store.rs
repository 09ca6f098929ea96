//! Galleries in a database.

mod approximate;
mod concurrency;
mod exact_filters;
mod faults;
mod opening;
mod snapshots;
mod stock;
