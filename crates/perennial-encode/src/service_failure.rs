//! What can go wrong with a service behind an encoder, by what whoever asked can do about it.

/// Why a service gave no embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServiceFailure {
    /// It cannot be reached, fails, refuses the key, or answers nonsense.
    Failed,
    /// It did not answer in time.
    TimedOut,
    /// It is asked too much at once.
    Busy,
    /// It refuses an input.
    Inputs,
    /// It refuses the key that a client sent with its request.
    ClientKey,
}
