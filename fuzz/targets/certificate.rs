//! See [`perennial_fuzz::Certificates`].

#![cfg_attr(fuzzing, no_main)]

perennial_fuzz::fuzz!(perennial_fuzz::Certificates);
