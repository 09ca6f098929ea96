//! See [`perennial_fuzz::ModelToml`].

#![cfg_attr(fuzzing, no_main)]

perennial_fuzz::fuzz!(perennial_fuzz::ModelToml);
