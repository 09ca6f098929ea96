//! See [`perennial_fuzz::TokenizerFile`].

#![cfg_attr(fuzzing, no_main)]

perennial_fuzz::fuzz!(perennial_fuzz::TokenizerFile);
