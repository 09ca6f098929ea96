//! See [`perennial_fuzz::Npz`].

#![cfg_attr(fuzzing, no_main)]

perennial_fuzz::fuzz!(perennial_fuzz::Npz);
