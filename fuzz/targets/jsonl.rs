//! See [`perennial_fuzz::Jsonl`].

#![cfg_attr(fuzzing, no_main)]

perennial_fuzz::fuzz!(perennial_fuzz::Jsonl);
