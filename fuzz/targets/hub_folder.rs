//! See [`perennial_fuzz::HubFolder`].

#![cfg_attr(fuzzing, no_main)]

perennial_fuzz::fuzz!(perennial_fuzz::HubFolder);
