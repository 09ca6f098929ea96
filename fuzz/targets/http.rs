//! See [`perennial_fuzz::Http`].

#![cfg_attr(fuzzing, no_main)]

perennial_fuzz::fuzz!(perennial_fuzz::Http);
