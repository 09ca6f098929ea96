//! See [`perennial_fuzz::Snapshots`].

#![cfg_attr(fuzzing, no_main)]

perennial_fuzz::fuzz!(perennial_fuzz::Snapshots);
