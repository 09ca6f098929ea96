//! See [`perennial_fuzz::Slots`].

#![cfg_attr(fuzzing, no_main)]

perennial_fuzz::fuzz!(perennial_fuzz::Slots);
