//! See [`perennial_fuzz::Columns`].

#![cfg_attr(fuzzing, no_main)]

perennial_fuzz::fuzz!(perennial_fuzz::Columns);
