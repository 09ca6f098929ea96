//! See [`perennial_fuzz::Idx`].

#![cfg_attr(fuzzing, no_main)]

perennial_fuzz::fuzz!(perennial_fuzz::Idx);
