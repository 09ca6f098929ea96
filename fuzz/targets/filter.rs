//! See [`perennial_fuzz::Filters`].

#![cfg_attr(fuzzing, no_main)]

perennial_fuzz::fuzz!(perennial_fuzz::Filters);
