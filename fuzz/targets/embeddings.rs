//! See [`perennial_fuzz::EmbeddingsFile`].

#![cfg_attr(fuzzing, no_main)]

perennial_fuzz::fuzz!(perennial_fuzz::EmbeddingsFile);
