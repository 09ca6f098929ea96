//! See [`perennial_fuzz::Compatibility`].

#![cfg_attr(fuzzing, no_main)]

perennial_fuzz::fuzz!(perennial_fuzz::Compatibility);
