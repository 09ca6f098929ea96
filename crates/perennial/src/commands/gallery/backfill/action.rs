//! What can be done with a backfill that was begun.

/// Options of a backfill that was begun.
#[derive(Debug, Clone, Copy, clap::Subcommand)]
pub enum Action {
    /// Show how far it is, and what failed
    Status,
    /// Stop it, to be resumed; without a service: keep the next service from going on with it
    Pause,
    /// Go on with it, with the settings that it was started with. Where a command read the originals and sent them to a service, begin it again
    /// instead: it goes on with what is left
    Resume,
    /// End it and forget which items failed; what it embedded stays
    Cancel,
}
