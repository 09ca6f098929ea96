//! See [`perennial_fuzz::Npy`].

#![cfg_attr(fuzzing, no_main)]

perennial_fuzz::fuzz!(perennial_fuzz::Npy);
