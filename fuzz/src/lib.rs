//! Everything of Perennial that reads bytes from outside, as fuzz targets: `fuzz/run.sh` runs them all.
//!
//! A target is a [`Target`] here and three lines in `targets/`. Without `cargo fuzz`, those binaries run their target once
//! for each file that they are given, which is how a finding is looked at; and the tests run every target on its seeds.

#![allow(
    clippy::unwrap_used,
    reason = "what cannot fail unless something is broken must end the run"
)]

mod encoder_files;
mod encoders;
mod gallery;
mod http;
mod images;
mod lists;
mod preparations;
mod registry;
mod scratch;
#[cfg(test)]
mod seeds;
mod upgrades;
mod upstreams;
mod vectors;

pub use encoder_files::{Canaries, HeadFile, TableFile, TokenizerFile};
pub use encoders::{HubFolder, Onnx};
pub use gallery::{Filters, Records, Snapshots};
pub use http::Http;
pub use images::{Idx, Image, LabelledRecords};
pub use lists::ImageLists;
pub use preparations::Preparation;
pub use registry::{Aliases, Compatibility, ModelToml, Slots};
pub use upgrades::{BridgeFolder, Certificates};
pub use upstreams::UpstreamAnswers;
pub use vectors::{
    Columns, Csv, EmbeddingsFile, Jsonl, Npy, Npz, Parquet, RelevanceJudgements, Safetensors,
};

/// One reader, and what must hold for everything that it accepts.
pub trait Target {
    /// Prepares what all executions share.
    fn new() -> Self;

    /// Reads the bytes and says whether they were accepted.
    ///
    /// # Panics
    /// When the reader, or something that must follow from its answer, is wrong.
    fn run(&mut self, bytes: &[u8]) -> bool;
}

/// Runs a target on files, without any fuzzing engine.
///
/// # Panics
/// As the target does, and for a file that cannot be read.
pub fn replay<T: Target>(files: impl IntoIterator<Item = String>) {
    let mut target = T::new();
    for file in files {
        let accepted = target.run(&std::fs::read(&file).unwrap());
        println!("{file}: {}", if accepted { "accepted" } else { "refused" });
    }
}

/// The whole binary of a target.
#[macro_export]
macro_rules! fuzz {
    ($target:ty) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
            use std::sync::{LazyLock, Mutex};
            static TARGET: LazyLock<Mutex<$target>> =
                LazyLock::new(|| Mutex::new($crate::Target::new()));
            if let Ok(mut target) = TARGET.lock() {
                $crate::Target::run(&mut *target, bytes);
            }
        });

        #[cfg(not(fuzzing))]
        fn main() {
            $crate::replay::<$target>(std::env::args().skip(1));
        }
    };
}
