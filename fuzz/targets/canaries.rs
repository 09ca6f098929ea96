//! See [`perennial_fuzz::Canaries`].

#![cfg_attr(fuzzing, no_main)]

perennial_fuzz::fuzz!(perennial_fuzz::Canaries);
