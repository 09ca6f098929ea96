//! See [`perennial_fuzz::Parquet`].

#![cfg_attr(fuzzing, no_main)]

perennial_fuzz::fuzz!(perennial_fuzz::Parquet);
