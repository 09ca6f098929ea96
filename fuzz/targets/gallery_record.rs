//! See [`perennial_fuzz::Records`].

#![cfg_attr(fuzzing, no_main)]

perennial_fuzz::fuzz!(perennial_fuzz::Records);
