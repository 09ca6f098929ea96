//! See [`perennial_fuzz::TableFile`].

#![cfg_attr(fuzzing, no_main)]

perennial_fuzz::fuzz!(perennial_fuzz::TableFile);
