//! See [`perennial_fuzz::Safetensors`].

#![cfg_attr(fuzzing, no_main)]

perennial_fuzz::fuzz!(perennial_fuzz::Safetensors);
