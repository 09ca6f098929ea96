//! See [`perennial_fuzz::HeadFile`].

#![cfg_attr(fuzzing, no_main)]

perennial_fuzz::fuzz!(perennial_fuzz::HeadFile);
