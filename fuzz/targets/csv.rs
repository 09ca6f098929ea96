//! See [`perennial_fuzz::Csv`].

#![cfg_attr(fuzzing, no_main)]

perennial_fuzz::fuzz!(perennial_fuzz::Csv);
