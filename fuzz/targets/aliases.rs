//! See [`perennial_fuzz::Aliases`].

#![cfg_attr(fuzzing, no_main)]

perennial_fuzz::fuzz!(perennial_fuzz::Aliases);
