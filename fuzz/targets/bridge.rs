//! See [`perennial_fuzz::BridgeFolder`].

#![cfg_attr(fuzzing, no_main)]

perennial_fuzz::fuzz!(perennial_fuzz::BridgeFolder);
