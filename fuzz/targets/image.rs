//! See [`perennial_fuzz::Image`].

#![cfg_attr(fuzzing, no_main)]

perennial_fuzz::fuzz!(perennial_fuzz::Image);
