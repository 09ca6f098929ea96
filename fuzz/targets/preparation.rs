//! See [`perennial_fuzz::Preparation`].

#![cfg_attr(fuzzing, no_main)]

perennial_fuzz::fuzz!(perennial_fuzz::Preparation);
