//! See [`perennial_fuzz::UpstreamAnswers`].

#![cfg_attr(fuzzing, no_main)]

perennial_fuzz::fuzz!(perennial_fuzz::UpstreamAnswers);
