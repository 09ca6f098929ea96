//! Why runs cannot be compared.

/// Why entries cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MethodTableError {
    /// The same seed of one method, twice.
    #[error(
        "{first} and {second} are both seed {seed} of method {method}: they would count as two independent runs; pass each seed once, \
         or name the methods apart with NAME=RUN"
    )]
    SeedTwice {
        /// The method.
        method: String,
        /// The seed.
        seed: u64,
        /// One of the runs.
        first: String,
        /// The other.
        second: String,
    },
    /// A value that is no number.
    #[error("{source_name}: {measure} is not a finite number; measure the run again")]
    NotFinite {
        /// The run.
        source_name: String,
        /// The measure.
        measure: String,
    },
}
